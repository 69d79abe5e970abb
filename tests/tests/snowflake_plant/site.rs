//! An account, and gateways that stream into it and keep their checkpoints there.

use std::{
    fs,
    sync::atomic::{AtomicBool, Ordering},
};

use forebay_tests::{
    harness::{Agent, Client, Gateway, NoAnswer, wait_for},
    servers::Snowflake,
};
use rustix::process::Signal;
use serde_json::json;

/// Where rows go.
pub(crate) const TABLE: &str = "PLANT.PUBLIC.EVENTS";
/// The sink's name.
pub(crate) const SINK: &str = "lake";
const TOKEN: &str = "let-me-in";

/// One with a database, a warehouse, and a user who may do everything.
pub(crate) fn account() -> Snowflake {
    let account = Snowflake::start();
    prepare(&account);
    account
}

/// Makes all that of an account.
pub(crate) fn prepare(account: &Snowflake) {
    let user = json!({ "pats": [TOKEN], "roles": ["ACCOUNTADMIN"], "default_role": "ACCOUNTADMIN" });
    account.make_user("FOREBAY", &user);
    account.sql("CREATE DATABASE PLANT; CREATE WAREHOUSE SMALL");
}

/// A gateway of an agent that goes by `id`, with these sources (a name, and the settings of each), and everything set up.
pub(crate) fn gateway(account: &Snowflake, id: &str, sources: &[(String, String)]) -> Gateway {
    let gateway = Gateway::new().of_agent(id);
    fs::write(gateway.path("token"), TOKEN).expect("a file can be written");
    let names: Vec<&str> = sources.iter().map(|(name, _)| name.as_str()).collect();
    let sources: String = sources.iter().map(|(name, source)| format!("[sources.{name}]\n{source}\n\n")).collect();
    gateway.configure(&format!(
        r#"
{sources}
[sinks.{SINK}]
type = "snowpipe"
inputs = {names:?}
account = "{account}"
url = "{url}"
user = "forebay"
token_file = "{{dir}}/token"
database = "plant"
table = "events"
poll_interval = "100ms"

[control]
backend = "snowflake"
warehouse = "small"
interval = "1s"
"#,
        account = Snowflake::ACCOUNT,
        url = account.url(),
    ));
    let done = gateway.run(&["setup"]);
    assert!(done.status.success(), "setup: {}", String::from_utf8_lossy(&done.stderr));
    gateway
}

/// The settings of an HTTP source.
pub(crate) fn http(address: &str) -> String {
    format!("type = \"http\"\nlisten = \"{address}\"")
}

/// Posts so many events of a lane to an HTTP source, each in a request of its own, and returns their ids.
pub(crate) fn post(port: u16, lane: &str, count: u64) -> Vec<String> {
    let mut producer = Client::new(port);
    let ids: Vec<String> = (0..count).map(|number| format!("{lane}:{number}")).collect();
    for id in &ids {
        let body = json!({ "id": id }).to_string();
        let answer = wait_for("the agent to take events", || {
            match producer.post("/events", &[("content-type", "application/json")], body.as_bytes()) {
                Err(NoAnswer::NotSent(_)) => None,
                answer => Some(answer.expect("it answers")),
            }
        });
        assert_eq!(answer.status, 202, "{}", answer.body);
    }
    ids
}

/// A gateway and its agent, which does not run at first.
pub(crate) struct Site<'a> {
    gateway: &'a Gateway,
    agent: Option<Agent>,
}

impl<'a> Site<'a> {
    pub(crate) fn new(gateway: &'a Gateway) -> Self {
        Self { gateway, agent: None }
    }

    /// Starts the agent, if it does not run.
    pub(crate) fn start(&mut self) -> &Agent {
        self.agent.get_or_insert_with(|| self.gateway.spawn())
    }

    /// Kills the agent with SIGKILL.
    pub(crate) fn kill_9(&mut self) {
        self.running().kill_9();
    }

    /// Ends the agent in good order.
    pub(crate) fn terminate(&mut self) {
        assert!(self.running().terminate().success(), "{} does not end well", self.gateway.id());
    }

    /// Has the agent sleep (SIGSTOP), or go on (SIGCONT).
    pub(crate) fn signal(&mut self, signal: Signal) {
        self.start().signal(signal);
    }

    fn running(&mut self) -> Agent {
        let mut agent = self.agent.take().expect("an agent runs");
        assert_eq!(agent.exited(), None, "{} ended by itself", self.gateway.id());
        agent
    }
}

/// Sets a switch in the end, also when something fails, so that the failure is seen.
pub(crate) struct SetOnDrop<'a>(pub(crate) &'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
