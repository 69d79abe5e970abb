//! A plant in miniature: sensors publish to Mosquitto, an agent takes their readings from there to Postgres, and a proxy
//! lies on each of the ways between them.
//!
//! The judgement rests on what the test process itself has seen: what the broker acknowledged to the sensors, and what
//! it then delivered to the agent, counted on the wire.

mod deliveries;
mod faults;
mod judge;
mod readings;
mod sensor;

use std::sync::Arc;

use forebay_buffer::{DeadLetter, DeadLetterFilter, Inspector};

pub use deliveries::Deliveries;
pub use faults::Faults;
pub use judge::{Judge, Row};
pub use readings::{Bad, Lane};
pub use sensor::{Pace, Sensor};

use crate::{
    clock::StillClock,
    harness::Gateway,
    mqtt::{Manners, Version},
    servers::{Cut, Direction, Mosquitto, MosquittoBuilder, Postgres, Proxy, Trap},
};

/// How Postgres says that a COMMIT is done: CommandComplete with its length and tag (PostgreSQL documentation, "Message
/// Formats").
const COMMIT_DONE: &[u8] = b"C\0\0\0\x0bCOMMIT\0";

/// The servers, the ways between them, and the gateway.
#[derive(Debug)]
pub struct Plant {
    /// Where the agent runs.
    pub gateway: Gateway,
    /// The way from the sensors to the broker.
    pub from_sensors: Proxy,
    /// The way between agent and broker.
    pub to_broker: Proxy,
    /// The way between agent and Postgres.
    pub to_postgres: Proxy,
    /// The broker.
    pub mosquitto: Mosquitto,
    /// The destination.
    pub postgres: Postgres,
    /// What the broker has delivered to the agent.
    pub deliveries: Deliveries,
    /// How the agent answers the broker.
    pub manners: Manners,
    /// Cuts the way to Postgres between a COMMIT and its reply.
    pub commit_reply: Trap,
    version: Version,
}

impl Plant {
    /// One whose agent speaks `version` with its broker, and whose table `readings` is there. There is no config yet.
    pub fn new(version: Version, mosquitto: MosquittoBuilder) -> Self {
        let (mosquitto, postgres) = (mosquitto.start(), Postgres::start());
        postgres.psql(readings::TABLE);
        let to_broker = Proxy::new(mosquitto.port());
        let deliveries = Deliveries::new(version);
        let watched = deliveries.clone();
        to_broker.tap(Direction::ToClient, move |_| watched.tap());
        let manners = Manners::watch(&to_broker, version);
        let (to_postgres, commit_reply) = (Proxy::new(postgres.port()), Trap::new(COMMIT_DONE, Cut::Reset));
        let trap = commit_reply.clone();
        to_postgres.tap(Direction::ToClient, move |_| trap.tap());
        Self {
            gateway: Gateway::new(),
            from_sensors: Proxy::new(mosquitto.port()),
            to_broker,
            to_postgres,
            mosquitto,
            postgres,
            deliveries,
            manners,
            commit_reply,
            version,
        }
    }

    /// Writes the config: an MQTT source `line` that takes every topic `plant/LANE/telemetry`, with `source` added to its
    /// settings, and a Postgres sink `warehouse` into `readings`, with `sink` added to its; each through its proxy. Sets up
    /// what it needs.
    pub fn configure(&self, source: &str, sink: &str) {
        let version = match self.version {
            Version::V3 => "3.1.1",
            Version::V5 => "5",
        };
        self.gateway.configure(&format!(
            r#"
[sources.line]
type = "mqtt"
url = "mqtt://127.0.0.1:{broker}"
version = "{version}"
topics = ["plant/+/telemetry"]
decode = "json"
{source}

[sinks.warehouse]
type = "postgres"
inputs = ["line"]
url = "postgresql://{user}@127.0.0.1:{postgres}/postgres?sslmode=disable"
table = "readings"
columns = {{ {columns} }}
{sink}
"#,
            columns = readings::COLUMNS,
            broker = self.to_broker.port(),
            postgres = self.to_postgres.port(),
            user = Postgres::USER,
        ));
        let done = self.gateway.run(&["setup"]);
        assert!(done.status.success(), "setup: {}", String::from_utf8_lossy(&done.stderr));
    }

    /// Readings that are in the table now, each counted once however often it is there.
    pub fn arrived(&self) -> u64 {
        self.postgres.psql("select count(distinct id) from readings").parse().expect("a count is a number")
    }

    /// The table, in the order in which its rows were inserted.
    pub fn rows(&self) -> Vec<Row> {
        let rows = self.postgres.psql(readings::ROWS);
        rows.lines().map(|line| Row::parse(line).unwrap_or_else(|| panic!("a row {line:?}"))).collect()
    }

    /// Every dead letter in the buffer.
    pub fn dead_letters(&self) -> Vec<DeadLetter> {
        let path = self.gateway.path("data").join("buffer.db");
        let mut inspector = Inspector::open(&path, Arc::new(StillClock::default())).expect("the buffer can be read");
        let filter = DeadLetterFilter { limit: 1_000_000, ..DeadLetterFilter::default() };
        inspector.dead_letters(&filter).expect("the dead letters can be read")
    }
}
