//! Those who are measured, each a process.

use std::{
    fs::create_dir,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    thread::sleep,
    time::Duration,
};

use forebay::clock::SystemClock;
use forebay_buffer::{Inspector, Offset};
use forebay_tests::{
    harness::{Agent, Gateway},
    servers::{emulator_directory, emulator_program},
};
use serde_json::json;

use super::{HUB, PARTITIONS, server::Server};
use crate::{
    child,
    options::Options,
    store::{self, Store},
    telemetry::{BODY_BYTES, Telemetry},
};

/// Machines that events come from: their key.
const MACHINES: u64 = 5_000;
/// Events of an append to the buffer.
const APPENDED_TOGETHER: usize = 100;

const SENDING: &str = r#"
[sources.line1]
type = "http"
listen = "{http}"

[sinks.warehouse]
type = "eventhub"
inputs = ["line1"]
hub = "{hub}"
connection_string = "{connection_string}"
"#;

/// No file can be written: what comes in stays in the buffer.
const RECEIVING: &str = r#"
[sources.line1]
type = "eventhub"
hub = "{hub}"
connection_string = "{connection_string}"

[sinks.files]
type = "file"
inputs = ["line1"]
path = "{dir}/out/files"
"#;

/// One at work.
pub(super) enum Client {
    /// `forebay run`, and for one that receives how many events each partition has.
    Agent { agent: Agent, gateway: Gateway, events: u64 },
    /// Another, which says when it is done, and ends when its input does.
    Other(Child),
}

impl Client {
    /// An agent with a backlog.
    pub(super) fn sending_agent(options: &Options, server: &Server, events: u64) -> Self {
        let gateway = configured(options, SENDING, server);
        create_dir(gateway.path("data")).expect("a directory can be made");
        let store = Store::open(&gateway.path("data"));
        let (mut telemetry, mut machine) = (Telemetry::new(1), 0);
        let batches = (0..events / APPENDED_TOGETHER as u64).map(|_| {
            let mut batch = telemetry.batch(APPENDED_TOGETHER);
            for event in &mut batch.events {
                machine = (machine + 1_237) % MACHINES;
                event.key = Some(format!("machine {machine}").into());
            }
            batch
        });
        store.append(vec![batches]);
        store.close();
        Self::Agent { agent: gateway.spawn(), gateway, events: 0 }
    }

    /// An agent whose buffer is empty.
    pub(super) fn receiving_agent(options: &Options, server: &Server, events: u64) -> Self {
        let gateway = configured(options, RECEIVING, server);
        gateway.cut("out");
        Self::Agent { agent: gateway.spawn(), gateway, events: events / PARTITIONS as u64 }
    }

    /// `azure-eventhub` for Python: `task` is one of `pace.py`.
    pub(super) fn sdk(task: &str, server: &Server, events: u64) -> Self {
        let mut command = Command::new(emulator_program("python"));
        command.arg(emulator_directory().join("judges/python/pace.py"));
        command.args([task, HUB, &events.to_string(), &BODY_BYTES.to_string()]);
        command.env("EVENT_HUBS", json!({ "ports": { "amqp": server.port() } }).to_string());
        Self::other(command)
    }

    /// Bare fe2o3-amqp.
    pub(super) fn bare(task: &str, server: &Server, numbers: &[u64]) -> Self {
        let numbers = [&[u64::from(server.port())], numbers].concat();
        Self::other(child::command(task, Path::new("."), &numbers))
    }

    fn other(mut command: Command) -> Self {
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        Self::Other(child.expect("a client can be started"))
    }

    pub(super) fn pid(&self) -> u32 {
        match self {
            Self::Agent { agent, .. } => agent.pid(),
            Self::Other(child) => child.id(),
        }
    }

    /// Whether all is on disk. Another client is waited for until it says so.
    pub(super) fn is_done(&mut self) -> bool {
        match self {
            Self::Agent { gateway, events, .. } => has_all(gateway, *events),
            Self::Other(child) => {
                let said = BufReader::new(child.stdout.as_mut().expect("standard output is piped")).lines().next();
                assert_eq!(said.and_then(Result::ok).as_deref(), Some("done"), "a client failed");
                true
            }
        }
    }

    pub(super) fn end(self) {
        match self {
            Self::Agent { agent, .. } => {
                agent.terminate();
            }
            Self::Other(mut child) => {
                drop(child.stdin.take());
                let status = child.wait().expect("a child can be waited for");
                assert!(status.success(), "a client failed");
            }
        }
    }
}

/// Resident memory of an agent that has nothing to send, or nothing to receive.
pub(super) fn idle(options: &Options, sends: bool) -> u64 {
    let server = Server::start(false, Duration::ZERO, 0);
    let gateway = configured(options, if sends { SENDING } else { RECEIVING }, &server);
    let agent = gateway.start();
    sleep(Duration::from_secs(2)); // What a start leaves to be done is no idleness.
    let resident = agent.memory().resident;
    agent.terminate();
    resident
}

fn configured(options: &Options, config: &str, server: &Server) -> Gateway {
    let gateway = Gateway::within(&options.dir);
    let config = config.replace("{hub}", HUB).replace("{connection_string}", &server.connection_string());
    gateway.configure(&config);
    gateway
}

/// Whether the last of `events` events of each partition is on disk.
fn has_all(gateway: &Gateway, events: u64) -> bool {
    let path = store::path(&gateway.path("data"));
    let mut inspector = Inspector::open(&path, Arc::new(SystemClock::new())).expect("the buffer can be read");
    let before = Offset(i64::try_from(events).expect("a count of events") - 2);
    (0..PARTITIONS).all(|partition| {
        let found = inspector.peek("line1", Some(&partition.to_string()), Some(before), 1);
        found.is_ok_and(|found| !found.is_empty())
    })
}
