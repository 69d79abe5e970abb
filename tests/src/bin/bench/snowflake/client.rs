//! Those who are measured, each a process.

use std::{
    fs::{create_dir, write},
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use forebay_buffer::Numbering;
use forebay_tests::{
    harness::{Agent, Gateway, free_port},
    servers::{Snowflake, emulator_program, snowflake_directory},
};
use serde_json::json;

use super::{
    PARTITIONS, STEADY_BATCH, STEADY_TICKS,
    server::{Server, TOKEN, USER},
};
use crate::{
    child,
    options::Options,
    store::{self, Store},
    telemetry::Telemetry,
};

/// Events of an append to the buffer.
const APPENDED_TOGETHER: u64 = 100;
/// Different bodies that the SDK sends; then they come again.
const BODIES: usize = 10_000;

const SOURCE: &str = r#"
[sources.line{number}]
type = "http"
listen = "127.0.0.1:{port}"
"#;

const SINK: &str = r#"
[sinks.warehouse]
type = "snowpipe"
inputs = {inputs}
account = "{account}"
url = "https://127.0.0.1:{port}"
user = "{user}"
token_file = "{token}"
database = "plant"
table = "events"

[sinks.warehouse.tls]
ca_file = "{authority}"
"#;

/// One at work.
pub(super) enum Client {
    /// `forebay run`.
    Agent { agent: Agent, _gateway: Gateway },
    /// Another, which says when it is done, and ends when its input does.
    Other(Child),
}

impl Client {
    /// An agent with a backlog.
    pub(super) fn agent(options: &Options, server: &Server, events: u64) -> Self {
        let gateway = configured(options, server, &[free_port()]);
        create_dir(gateway.path("data")).expect("a directory can be made");
        let store = Store::open(&gateway.path("data"));
        let mut telemetry = Telemetry::new(1);
        for partition in 0..PARTITIONS {
            let partition = store.buffer.partition(store::STREAM, &partition.to_string(), Numbering::Assigned);
            let partition = partition.expect("a partition can be opened");
            for _ in 0..events / PARTITIONS / APPENDED_TOGETHER {
                let encoded = partition.encode(telemetry.batch(APPENDED_TOGETHER as usize));
                let receipt = partition.append(encoded.expect("telemetry can be encoded"));
                receipt.wait().expect("there is room for telemetry");
            }
        }
        store.close();
        Self::Agent { agent: gateway.spawn(), _gateway: gateway }
    }

    /// An agent with a source for each partition, and the ports of these.
    pub(super) fn listening_agent(options: &Options, server: &Server) -> (Agent, Gateway, Vec<u16>) {
        let ports: Vec<u16> = (0..PARTITIONS).map(|_| free_port()).collect();
        let gateway = configured(options, server, &ports);
        (gateway.start(), gateway, ports)
    }

    /// `snowpipe-streaming` for Python, which sends `events` in one of the forms of `pace.py`.
    pub(super) fn sdk(form: &str, server: &Server, events: u64) -> Self {
        Self::pace(form, server, &[events / PARTITIONS])
    }

    /// The same, with a batch at each tick.
    pub(super) fn steady_sdk(form: &str, server: &Server) -> Self {
        Self::pace(form, server, &[STEADY_BATCH as u64, STEADY_TICKS as u64])
    }

    fn pace(form: &str, server: &Server, numbers: &[u64]) -> Self {
        let bodies = server.file("bodies");
        let mut telemetry = Telemetry::new(1);
        let lines = (0..BODIES).flat_map(|_| [telemetry.body(), "\n".into()].concat()).collect::<Vec<u8>>();
        write(&bodies, lines).expect("a file can be written");
        let account = json!({
            "account": Snowflake::ACCOUNT,
            "user": USER,
            "token": TOKEN,
            "port": server.port(),
            "authority": server.authority(),
        });
        let mut command = Command::new(emulator_program("python"));
        command.arg(snowflake_directory().join("judges/pace.py")).args([form, &PARTITIONS.to_string()]).arg(bodies);
        command.args(numbers.iter().map(u64::to_string)).env("SNOWFLAKE", account.to_string());
        Self::other(command.env("PYTHONDONTWRITEBYTECODE", "1"))
    }

    /// Requests that were made before, one after the other.
    pub(super) fn bare(server: &Server, events: u64) -> Self {
        let port = u64::from(server.snowflake.ports().http);
        Self::other(&mut child::command("append", Path::new("."), &[port, events]))
    }

    fn other(command: &mut Command) -> Self {
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        Self::Other(child.expect("a client can be started"))
    }

    pub(super) fn pid(&self) -> u32 {
        match self {
            Self::Agent { agent, .. } => agent.pid(),
            Self::Other(child) => child.id(),
        }
    }

    /// What another client says when all is committed: how long its steady batches took, in milliseconds.
    pub(super) fn said(&mut self) -> Vec<f64> {
        let Self::Other(child) = self else { panic!("an agent says nothing") };
        let said = BufReader::new(child.stdout.as_mut().expect("standard output is piped")).lines().next();
        let said = said.and_then(Result::ok).expect("a client says when it is done");
        serde_json::from_str(&said).expect("a list of times")
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

fn configured(options: &Options, server: &Server, ports: &[u16]) -> Gateway {
    let gateway = Gateway::within(&options.dir);
    let sources = (1..).zip(ports).map(|(number, port): (usize, _)| {
        SOURCE.replace("{number}", &number.to_string()).replace("{port}", &port.to_string())
    });
    let inputs: Vec<_> = (1..=ports.len()).map(|number| format!("line{number}")).collect();
    let sink = [
        ("{inputs}", json!(inputs).to_string()),
        ("{account}", Snowflake::ACCOUNT.to_owned()),
        ("{port}", server.port().to_string()),
        ("{user}", USER.to_owned()),
        ("{token}", server.token().display().to_string()),
        ("{authority}", server.authority().display().to_string()),
    ];
    let sink = sink.iter().fold(SINK.to_owned(), |sink, (name, value)| sink.replace(name, value));
    gateway.configure(&(sources.collect::<String>() + &sink));
    gateway
}
