//! Real servers for tests: Postgres, Mosquitto and PgBouncer, each with a directory and a port of its own, emulators
//! of Event Hubs and Snowflake, and a proxy that breaks the network between them and the agent.
//!
//! Nothing here needs a server that is running already, and nothing outlives its test: every server ends when its value
//! is dropped, also when the test panics, and then its log is printed. `tests/run` installs what is missing.

mod account;
mod authority;
mod control_port;
mod daemon;
mod event_hubs;
mod mosquitto;
mod pgbouncer;
mod postgres;
mod program;
mod proxy;
mod snowflake;
mod template;

pub use authority::{Authority, Certificate};
pub use control_port::ControlPort;
pub use event_hubs::{EventHubs, EventHubsBuilder, Ports, StoredEvent, emulator_directory, emulator_program};
pub use mosquitto::{Mosquitto, MosquittoBuilder};
pub use pgbouncer::PgBouncer;
pub use postgres::{Postgres, PostgresBuilder};
pub use proxy::{Cut, Direction, Proxy, Tap, Trap, Verdict};
pub use snowflake::{ChannelState, CommittedRow, Snowflake, SnowflakePorts, snowflake_directory};
