//! What goes wrong between two agents, their hub and their server, at random.

use std::{collections::BTreeMap, fmt, thread::sleep, time::Duration};

use forebay_tests::{
    harness::Jump,
    judge::HUB,
    random::Random,
    servers::{Cut, Direction, Proxy},
};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::{rig::Rig, site::Site};

/// What a way can suffer.
#[derive(Debug, Clone, Copy)]
enum Way {
    Hub,
    Postgres,
}

/// Something that goes wrong.
#[derive(Debug, Clone, Copy)]
enum Fault {
    /// SIGKILL.
    Kill,
    /// SIGTERM.
    Terminate,
    /// SIGSTOP, and SIGCONT later: an owner sleeps through its own replacement.
    Sleep,
    /// The reply to a COMMIT is lost.
    CommitReply,
    /// The clock is an hour off, or right again.
    Clock,
    /// All connections are cut.
    Cut(Way, Cut),
    /// And within the next few bytes.
    Truncate(Way),
    /// Nothing gets through, and nobody is told.
    Silent(Way),
    /// All connections are cut, and nobody gets a new one.
    Refuse(Way),
    /// The emulator does something else than it should at this phase.
    Emulator(&'static str, &'static str),
    /// Links are detached with this condition.
    Detach(&'static str, &'static str),
    /// All tokens expire.
    Tokens,
    /// All connections end.
    Disconnect(&'static str),
}

/// What the emulator can be told to do at each phase.
const PHASES: [(&str, &[&str]); 8] = [
    ("connect", &["drop", "silence"]),
    ("token", &["drop", "cut", "silence", "swallow", "close", "refuse"]),
    ("management", &["drop", "cut", "silence", "swallow", "close", "refuse"]),
    ("attach", &["drop", "silence", "close", "end", "refuse"]),
    ("store", &["drop", "silence", "detach", "end", "close", "swallow", "refuse"]),
    ("acknowledge", &["drop", "cut", "silence", "detach", "end", "close", "swallow"]),
    ("acknowledged", &["drop", "silence", "detach", "end", "close"]),
    ("deliver", &["drop", "cut", "silence", "detach", "end", "close"]),
];
const CONDITIONS: [&str; 8] = [
    "amqp:link:detach-forced",
    "amqp:link:stolen",
    "amqp:internal-error",
    "amqp:connection:forced",
    "amqp:link:transfer-limit-exceeded",
    "com.microsoft:server-busy",
    "com.microsoft:timeout",
    "com.microsoft:operation-cancelled",
];

fn deck() -> Vec<Fault> {
    let mut deck = vec![Fault::Kill; 6];
    deck.extend([Fault::Terminate; 3]);
    deck.extend([Fault::Sleep; 3]);
    deck.extend([Fault::CommitReply; 4]);
    deck.extend([Fault::Clock; 3]);
    for way in [Way::Hub, Way::Postgres] {
        deck.extend([Fault::Cut(way, Cut::Reset), Fault::Cut(way, Cut::Finish), Fault::Truncate(way)]);
        deck.extend([Fault::Silent(way); 2]);
        deck.extend([Fault::Refuse(way); 2]);
    }
    for (phase, actions) in PHASES {
        deck.extend(actions.iter().map(|action| Fault::Emulator(phase, action)));
    }
    for role in ["consumer", "producer"] {
        deck.extend(CONDITIONS.map(|condition| Fault::Detach(role, condition)));
    }
    deck.extend([Fault::Tokens, Fault::Disconnect("reset"), Fault::Disconnect("close")]);
    deck
}

/// Lets things go wrong, one after the other.
pub(crate) struct Chaos<'a> {
    rig: &'a Rig,
    sites: &'a mut [Site],
    random: Random,
    deck: Vec<Fault>,
    struck: BTreeMap<String, u64>,
}

impl<'a> Chaos<'a> {
    pub(crate) fn new(rig: &'a Rig, sites: &'a mut [Site], random: Random) -> Self {
        Self { rig, sites, random, deck: Vec::new(), struck: BTreeMap::new() }
    }

    /// Waits a little, and lets the next thing go wrong, and right again. Everything has its turn before anything has its
    /// next.
    pub(crate) fn strike(&mut self) {
        self.pass(200);
        if self.deck.is_empty() {
            self.deck = deck();
        }
        let next = self.random.below(self.deck.len() as u64) as usize;
        let fault = self.deck.swap_remove(next);
        *self.struck.entry(kind(fault)).or_default() += 1;
        let at = self.random.below(self.sites.len() as u64) as usize;
        self.inflict(fault, at);
    }

    fn inflict(&mut self, fault: Fault, at: usize) {
        let hubs = self.rig.hubs();
        match fault {
            Fault::Kill | Fault::Terminate => {
                match fault {
                    Fault::Kill => self.sites[at].kill_9(),
                    _ => self.sites[at].terminate(),
                }
                // Sometimes long enough for the other one to take over, and sometimes not.
                self.pass(6_000);
                self.sites[at].start();
            }
            Fault::Sleep => {
                self.sites[at].signal(Signal::STOP);
                self.pass(8_000);
                self.sites[at].signal(Signal::CONT);
            }
            Fault::CommitReply => self.sites[at].commit_reply.arm(),
            Fault::Clock => {
                let hour = Duration::from_secs(3_600);
                let jump = self.random.below(3);
                let clock = &mut self.sites[at].clock;
                clock.set_right();
                match jump {
                    0 => clock.jump(Jump::Forward(hour)),
                    1 => clock.jump(Jump::Back(hour)),
                    _ => {}
                }
            }
            Fault::Cut(way, how) => self.way(at, way).cut(how),
            Fault::Truncate(way) => {
                let bytes = self.random.below(4_000);
                let direction = if self.random.one_in(2) { Direction::ToServer } else { Direction::ToClient };
                self.way(at, way).truncate(direction, bytes, Cut::Reset);
            }
            Fault::Silent(way) => {
                self.way(at, way).freeze();
                self.pass(8_000);
                self.way(at, way).thaw();
            }
            Fault::Refuse(way) => {
                self.way(at, way).refuse();
                self.way(at, way).cut(Cut::Reset);
                self.pass(6_000);
                self.way(at, way).accept();
            }
            Fault::Emulator(phase, action) => {
                let mut armed = json!({ "phase": phase, "action": action, "skip": self.random.below(10) });
                if action == "refuse" {
                    armed["wait_seconds"] = json!(1);
                }
                hubs.arm(&armed);
                self.pass(1_000);
                hubs.network("up");
            }
            Fault::Detach(role, condition) => {
                hubs.ask("POST", "/detach", &json!({ "hub": HUB, "role": role, "condition": condition }));
            }
            Fault::Tokens => {
                hubs.ask("POST", "/expire-tokens", &json!({}));
            }
            Fault::Disconnect(how) => {
                hubs.ask("POST", "/disconnect", &json!({ "how": how }));
            }
        }
    }

    /// Nothing goes wrong any more, and every agent runs.
    pub(crate) fn end(self) {
        println!("{self}");
        self.rig.hubs().ask("DELETE", "/faults", &Value::Null);
        self.rig.hubs().network("up");
        self.sites.iter_mut().for_each(|site| {
            site.clock.set_right();
            site.start();
        });
    }

    fn way(&self, at: usize, way: Way) -> &Proxy {
        match way {
            Way::Hub => &self.sites[at].to_hub,
            Way::Postgres => &self.sites[at].to_postgres,
        }
    }

    fn pass(&mut self, at_most_ms: u64) {
        sleep(Duration::from_millis(self.random.below(at_most_ms)));
    }
}

/// What a fault is counted as.
fn kind(fault: Fault) -> String {
    match fault {
        Fault::Emulator(phase, _) => format!("at {phase}"),
        Fault::Detach(role, _) => format!("detached {role}"),
        fault => format!("{fault:?}"),
    }
}

impl fmt::Display for Chaos<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let replies: u64 = self.sites.iter().map(|site| site.commit_reply.sprung()).sum();
        write!(f, "{replies} replies to COMMIT lost; faults:")?;
        self.struck.iter().try_for_each(|(fault, times)| write!(f, " {fault} {times},"))
    }
}
