//! What goes wrong between agents and Snowflake, at random.

use std::{collections::BTreeMap, thread::sleep, time::Duration};

use forebay_tests::{random::Random, servers::Snowflake};
use serde_json::{Value, json};

use crate::site::Site;

/// Something that goes wrong.
#[derive(Debug, Clone)]
enum Fault {
    /// SIGKILL.
    Kill,
    /// The emulator does something else than it should.
    Arm(Value),
    /// All channels have to be opened again, with this status.
    Invalidate(&'static str),
    /// All tokens expire.
    Tokens,
    /// Nothing is committed for a while.
    Hold,
    /// Commits take longer, or less long.
    Delay,
}

/// What agents ask for.
const OPERATIONS: [&str; 6] = ["append", "status", "open", "hostname", "token", "statement"];
/// Each way to lose a request or its answer.
const BREAKS: [(&str, &str); 6] = [
    ("request", "drop"),
    ("request", "finish"),
    ("answer", "drop"),
    ("answer", "finish"),
    ("answer", "cut"),
    ("answer", "slow"),
];
/// What any request may be answered with.
const REFUSALS: [(u16, &str, Option<u32>); 8] = [
    (429, "", None),
    (429, r#"{"code":"ERR_TOO_MANY_REQUESTS"}"#, Some(1)),
    (408, "", None),
    (500, "", None),
    (503, r#""ERR_GENERAL_EXCEPTION_RETRY_REQUEST""#, None),
    (503, "<html>busy</html>", Some(1)),
    (401, r#"{"code":"390303","message":"Invalid OAuth access token."}"#, None),
    (403, r#"{"code":"390189"}"#, None),
];
/// What the channel's own requests may be answered with. Not 413: an event that came alone would be a dead letter.
const CODES: [(&str, &str); 10] = [
    ("append", "STALE_CONTINUATION_TOKEN_SEQUENCER"),
    ("append", "STALE_PIPE_CACHE"),
    ("append", "ERR_CHANNEL_MUST_BE_REOPENED"),
    ("append", "ERR_CHANNEL_HAS_INVALID_ROW_SEQUENCER"),
    ("append", "ERR_CHANNEL_DOES_NOT_EXIST_OR_IS_NOT_AUTHORIZED"),
    ("append", "ERR_INVALID_REQUEST"),
    ("open", "ERR_CHANNEL_HAS_UNCOMMITTED_DATA"),
    ("open", "ERR_OPEN_CHANNEL_IN_PROGRESS"),
    ("status", "ERR_GET_CHANNEL_STATUS_BATCH_TOO_MANY_CHANNELS"),
    ("status", "ERR_PIPE_DOES_NOT_EXIST_OR_NOT_AUTHORIZED"),
];
/// What a channel may come to while its rows are committed, or at any time.
const INVALID: [&str; 3] = [
    "ERR_CHANNEL_MUST_BE_REOPENED",
    "ERR_CHANNEL_MUST_BE_REOPENED_DUE_TO_ROW_SEQ_GAP",
    "ERR_CHANNEL_HAS_INVALID_CLIENT_SEQUENCER",
];

fn deck() -> Vec<Fault> {
    let mut deck = vec![Fault::Kill; 8];
    deck.extend([Fault::Hold, Fault::Hold, Fault::Tokens, Fault::Delay, Fault::Delay]);
    deck.extend(INVALID.map(Fault::Invalidate));
    let mut arm = |fault| deck.push(Fault::Arm(fault));
    for operation in OPERATIONS {
        for (phase, action) in BREAKS {
            arm(json!({ "operation": operation, "phase": phase, "action": action, "delay_ms": 700 }));
        }
    }
    for operation in ["append", "status", "statement"] {
        for (status, body, after) in REFUSALS {
            let refusal = json!({ "operation": operation, "phase": "request", "action": "refuse", "status": status,
                                  "body": body, "retry_after": after });
            arm(refusal);
        }
    }
    for (operation, code) in CODES {
        arm(json!({ "operation": operation, "phase": "request", "action": "refuse", "code": code }));
    }
    // Done, and said not to be.
    arm(json!({ "operation": "append", "phase": "answer", "action": "refuse", "status": 500, "body": "" }));
    for code in INVALID {
        arm(json!({ "phase": "commit", "action": "invalidate", "code": code }));
    }
    arm(json!({ "phase": "commit", "action": "slow", "delay_ms": 500 }));
    arm(json!({ "phase": "execute", "action": "detach" }));
    deck
}

/// Lets things go wrong, one after the other, and keeps one agent running all the while.
pub(crate) struct Faults<'a, 'g> {
    account: &'a Snowflake,
    site: &'a mut Site<'g>,
    random: Random,
    /// Those that are still to come before all begin again.
    deck: Vec<Fault>,
    struck: BTreeMap<&'static str, u64>,
}

impl<'a, 'g> Faults<'a, 'g> {
    pub(crate) fn new(account: &'a Snowflake, site: &'a mut Site<'g>, mut random: Random) -> Self {
        account.set(&json!({ "swallow_when_invalid": random.one_in(2) }));
        Self { account, site, random, deck: Vec::new(), struck: BTreeMap::new() }
    }

    /// Waits a little, and lets the next thing go wrong, and right again. Everything has its turn before anything has its
    /// next.
    pub(crate) fn strike(&mut self) {
        self.pass(400);
        if self.deck.is_empty() {
            self.deck = deck();
        }
        let next = self.random.below(self.deck.len() as u64) as usize;
        let fault = self.deck.swap_remove(next);
        self.inflict(fault);
    }

    fn inflict(&mut self, fault: Fault) {
        let account = self.account;
        let kind = match fault {
            Fault::Kill => {
                self.kill();
                return;
            }
            Fault::Arm(mut fault) => {
                fault["skip"] = json!(self.random.below(6));
                account.arm(&fault);
                "armed"
            }
            Fault::Invalidate(code) => {
                account.ask("POST", "/channels/invalidate", &json!({ "code": code }));
                "channels invalidated"
            }
            Fault::Tokens => {
                account.ask("POST", "/expire-tokens", &json!({}));
                "tokens expired"
            }
            Fault::Hold => {
                account.set(&json!({ "hold_commits": true }));
                self.pass(1_500);
                if self.random.one_in(2) {
                    // What was appended is committed while nobody looks, or when it is opened again.
                    self.kill();
                }
                account.set(&json!({ "hold_commits": false }));
                "commits withheld"
            }
            Fault::Delay => {
                account.set(&json!({ "commit_delay_ms": self.random.between(0, 1_000) }));
                "delays"
            }
        };
        *self.struck.entry(kind).or_default() += 1;
    }

    fn kill(&mut self) {
        self.site.kill_9();
        *self.struck.entry("kills").or_default() += 1;
        self.pass(500);
        self.site.start();
    }

    /// Nothing goes wrong any more.
    pub(crate) fn end(self) {
        let faults = self.account.ask("GET", "/faults", &Value::Null);
        let happened = |fault: &Value| fault["happened"].as_u64().expect("a count");
        let happened: u64 = faults.as_array().expect("a list").iter().map(happened).sum();
        println!("{:?}, of which {happened} happened", self.struck);
        assert!(happened > 0 && self.struck.contains_key("kills"), "nothing went wrong, so nothing was tested");
        self.account.ask("DELETE", "/faults", &Value::Null);
        self.account.set(&json!({ "commit_delay_ms": 100, "swallow_when_invalid": false }));
    }

    fn pass(&mut self, at_most_ms: u64) {
        sleep(Duration::from_millis(self.random.below(at_most_ms)));
    }
}
