//! One of several agents that share a hub out among themselves: a gateway with ways of its own, and a clock of its own.

use std::sync::Arc;

use forebay_tests::{
    harness::{Agent, Gateway, WrongClock},
    servers::{Cut, Direction, EventHubs, Proxy, Trap},
};

use rustix::process::Signal;

use crate::rig::{Rig, config};

/// How Postgres says that a COMMIT is done: CommandComplete with its length and tag (PostgreSQL documentation, "Message
/// Formats").
const COMMIT_DONE: &[u8] = b"C\0\0\0\x0bCOMMIT\0";
/// Claims are looked at every second, and are anyone's after three.
const SOURCE: &str = "partitions = \"balanced\"\nload_balancing_interval = \"1s\"\n\
                      partition_ownership_expiration_interval = \"3s\"\ntimeout = \"3s\"\nidle_timeout = \"4s\"";

/// See the module.
pub(crate) struct Site {
    pub(crate) gateway: Gateway,
    pub(crate) clock: WrongClock,
    /// The way between the agent and the hub.
    pub(crate) to_hub: Proxy,
    /// The way between the agent and Postgres.
    pub(crate) to_postgres: Proxy,
    /// Cuts the way to Postgres between a COMMIT and its reply.
    pub(crate) commit_reply: Trap,
    agent: Option<Agent>,
}

impl Site {
    /// One whose agent goes by `id`. It does not run yet.
    pub(crate) fn new(rig: &Rig, id: &str) -> Self {
        let mut gateway = Gateway::new().of_agent(id);
        let clock = WrongClock::new(&mut gateway);
        let (to_hub, to_postgres) = (Proxy::new(rig.hubs().ports().amqp), Proxy::new(rig.postgres.port()));
        let place = format!("connection_string = \"{}\"", through(rig.hubs(), &to_hub));
        gateway.configure(&config(&place, SOURCE, to_postgres.port(), ""));
        let commit_reply = Trap::new(COMMIT_DONE, Cut::Reset);
        let trap = Arc::new(commit_reply.clone());
        to_postgres.tap(Direction::ToClient, move |_| trap.tap());
        Self { gateway, clock, to_hub, to_postgres, commit_reply, agent: None }
    }

    /// Starts the agent, if it does not run.
    pub(crate) fn start(&mut self) {
        if self.agent.is_none() {
            self.agent = Some(self.gateway.spawn());
        }
    }

    /// Kills the agent with SIGKILL, if it runs.
    pub(crate) fn kill_9(&mut self) {
        if let Some(agent) = self.running() {
            agent.kill_9();
        }
    }

    /// Ends the agent in good order, if it runs.
    pub(crate) fn terminate(&mut self) {
        if let Some(agent) = self.running() {
            assert!(agent.terminate().success(), "{} does not end well", self.gateway.id());
        }
    }

    /// Sends the agent a signal, if it runs.
    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(agent) = &self.agent {
            agent.signal(signal);
        }
    }

    fn running(&mut self) -> Option<Agent> {
        let mut agent = self.agent.take()?;
        assert_eq!(agent.exited(), None, "{} ended by itself", self.gateway.id());
        Some(agent)
    }
}

fn through(hubs: &EventHubs, way: &Proxy) -> String {
    hubs.connection_string().replace(&format!(":{};", hubs.ports().amqp), &format!(":{};", way.port()))
}
