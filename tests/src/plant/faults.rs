//! What goes wrong in a plant, at random.

use std::{collections::BTreeMap, fmt, thread::sleep, time::Duration};

use super::Plant;
use crate::{
    harness::Agent,
    random::Random,
    servers::{Cut, Direction, Proxy},
};

/// One of the ways that a proxy lies on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    /// From the sensors to the broker.
    Sensors,
    /// Between the agent and the broker.
    Broker,
    /// Between the agent and Postgres.
    Postgres,
}

/// Something that goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// The agent is killed with SIGKILL, and started again.
    KillAgent,
    /// Mosquitto is stopped in good order, and started again.
    RestartBroker,
    /// Postgres crashes, and recovers.
    CrashPostgres,
    /// The connection is cut when a COMMIT was done and its reply has not been forwarded.
    LoseCommitReply,
    /// All connections are cut.
    Cut(Way, Cut),
    /// All connections end within the next few bytes of one direction.
    Truncate(Way, Direction),
    /// Everything takes its time.
    Delay(Way),
    /// Nothing gets through, and nobody is told.
    Freeze(Way),
    /// All connections are cut, and nobody gets a new one.
    Refuse(Way),
}

impl Fault {
    /// Every fault, each as often as it deserves.
    fn all() -> Vec<Self> {
        let mut all = vec![Self::KillAgent; 3];
        all.extend([Self::LoseCommitReply; 3]);
        all.extend([Self::RestartBroker, Self::CrashPostgres]);
        for way in [Way::Broker, Way::Postgres] {
            all.extend([Self::Cut(way, Cut::Reset), Self::Cut(way, Cut::Finish)]);
            all.extend([Direction::ToServer, Direction::ToClient].map(|direction| Self::Truncate(way, direction)));
            all.extend([Self::Delay(way), Self::Freeze(way), Self::Refuse(way)]);
        }
        all.extend([Self::Cut(Way::Sensors, Cut::Reset), Self::Truncate(Way::Sensors, Direction::ToClient)]);
        all
    }
}

/// Lets things go wrong, one after the other, and keeps the agent running all the while.
#[derive(Debug)]
pub struct Faults<'a> {
    plant: &'a Plant,
    random: Random,
    /// Those that are still to come before all begin again.
    deck: Vec<Fault>,
    agent: Option<Agent>,
    struck: BTreeMap<String, u64>,
    kills: u64,
}

impl<'a> Faults<'a> {
    /// Takes over `agent`, which runs in `plant`.
    pub fn new(plant: &'a Plant, agent: Agent, random: Random) -> Self {
        Self { plant, random, deck: Vec::new(), agent: Some(agent), struck: BTreeMap::new(), kills: 0 }
    }

    /// Waits a little, and lets the next thing go wrong, and right again. Everything has its turn before anything has its
    /// next.
    pub fn strike(&mut self) {
        self.pass(300);
        if self.deck.is_empty() {
            self.deck = Fault::all();
        }
        let next = self.random.below(self.deck.len() as u64) as usize;
        let fault = self.deck.swap_remove(next);
        *self.struck.entry(format!("{fault:?}")).or_default() += 1;
        self.inflict(fault);
    }

    fn inflict(&mut self, fault: Fault) {
        let plant = self.plant;
        match fault {
            Fault::KillAgent => self.kill_agent(),
            Fault::RestartBroker => {
                plant.mosquitto.stop();
                self.meanwhile();
                plant.mosquitto.start_again();
            }
            Fault::CrashPostgres => {
                plant.postgres.stop_immediate();
                self.meanwhile();
                plant.postgres.start_again();
            }
            Fault::LoseCommitReply => plant.commit_reply.arm(),
            Fault::Cut(way, how) => self.proxy(way).cut(how),
            Fault::Truncate(way, direction) => {
                let bytes = self.random.below(4_000);
                self.proxy(way).truncate(direction, bytes, Cut::Reset);
            }
            Fault::Delay(way) => {
                let by = Duration::from_millis(self.random.between(5, 50));
                for by in [by, Duration::ZERO] {
                    self.proxy(way).delay(Direction::ToServer, by);
                    self.proxy(way).delay(Direction::ToClient, by);
                    self.meanwhile();
                }
            }
            Fault::Freeze(way) => {
                self.proxy(way).freeze();
                self.meanwhile();
                self.proxy(way).thaw();
            }
            Fault::Refuse(way) => {
                self.proxy(way).refuse();
                self.proxy(way).cut(Cut::Reset);
                self.meanwhile();
                self.proxy(way).accept();
            }
        }
    }

    /// Nothing goes wrong any more: the agent, which goes on.
    pub fn end(mut self) -> Agent {
        println!("{self}");
        self.agent.take().expect("an agent is running")
    }

    fn proxy(&self, way: Way) -> &'a Proxy {
        match way {
            Way::Sensors => &self.plant.from_sensors,
            Way::Broker => &self.plant.to_broker,
            Way::Postgres => &self.plant.to_postgres,
        }
    }

    /// Time passes while something is wrong, and now and then the agent is killed in it.
    fn meanwhile(&mut self) {
        self.pass(400);
        if self.random.one_in(4) {
            self.kill_agent();
            self.pass(200);
        }
    }

    fn kill_agent(&mut self) {
        let mut agent = self.agent.take().expect("an agent is running");
        assert_eq!(agent.exited(), None, "the agent ended by itself");
        agent.kill_9();
        self.kills += 1;
        self.agent = Some(self.plant.gateway.spawn());
    }

    fn pass(&mut self, at_most_ms: u64) {
        sleep(Duration::from_millis(self.random.below(at_most_ms)));
    }
}

impl fmt::Display for Faults<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let replies = self.plant.commit_reply.sprung();
        write!(f, "{} kills in all, {replies} replies to COMMIT lost; faults:", self.kills)?;
        self.struck.iter().try_for_each(|(fault, times)| write!(f, " {fault} {times},"))
    }
}
