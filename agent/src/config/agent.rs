//! `[agent]` and `[observe]`: who this gateway is, and where it is looked at.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use super::{
    key::{Key, Schema},
    kind::{Choice, FilePath, Loopback, Name, OrOff, Time},
    reading::Section,
    report::Reported,
};

/// Where the control socket is if neither the file nor systemd says so.
const RUNTIME_DIR: &str = "/run/forebay";

/// `[agent]`, ready to use.
#[derive(Debug, Clone, PartialEq)]
pub struct AgentSettings {
    /// What the far side knows this gateway as.
    pub id: String,
    /// Where the buffer is.
    pub data_dir: PathBuf,
    /// Where the control socket is. It need not exist or be writable: the agent then falls back to `data_dir`.
    pub runtime_dir: PathBuf,
    /// How long shutting down may take.
    pub shutdown_timeout: Duration,
    /// What is logged, as `RUST_LOG` has it.
    pub log: String,
}

pub(super) static AGENT: Schema = Schema {
    name: "agent",
    variant: "",
    doc: "The agent itself.",
    keys: &[&ID, &DATA_DIR, &RUNTIME_DIRECTORY, &SHUTDOWN_TIMEOUT, &LOG],
    tables: &[],
};

static ID: Key<Name> = Key::optional(
    "id",
    Name { dots: true },
    "the host's name and a short hash of the machine's id",
    "What the far side knows this gateway as. Checkpoints bear it: two gateways must never share one.",
);

static DATA_DIR: Key<FilePath> = Key::with_default(
    "data_dir",
    FilePath,
    r#""/var/lib/forebay""#,
    "Where the buffer is kept. It must be on a local disk.",
);

static RUNTIME_DIRECTORY: Key<FilePath> = Key::optional(
    "runtime_dir",
    FilePath,
    "RUNTIME_DIRECTORY as systemd sets it, else /run/forebay",
    "Where the socket is through which commands reach the running agent.",
);

static SHUTDOWN_TIMEOUT: Key<Time> = Key::with_default(
    "shutdown_timeout",
    Time { min: Duration::from_secs(1), max: Duration::from_secs(600) },
    r#""10s""#,
    "How long stopping may take. What is not delivered by then stays in the buffer.",
);

static LOG: Key<Choice<&str>> = Key::with_default(
    "log",
    Choice {
        what: "level of logging",
        of: &[("error", "error"), ("warn", "warn"), ("info", "info"), ("debug", "debug"), ("trace", "trace")],
    },
    r#""info""#,
    "What is logged. The environment variable RUST_LOG overrides it.",
);

pub(super) fn read(mut section: Section<'_, '_, '_>) -> Result<AgentSettings, Reported> {
    let id = section.given(&ID);
    let data_dir = section.value(&DATA_DIR);
    let runtime_dir = section.given(&RUNTIME_DIRECTORY);
    let shutdown_timeout = section.value(&SHUTDOWN_TIMEOUT);
    let log = section.value(&LOG);
    let environment = section.reader.environment;
    Ok(AgentSettings {
        id: id?.unwrap_or_else(|| environment.agent_id()),
        data_dir: data_dir?,
        runtime_dir: runtime_dir?.or_else(|| environment.runtime_directory()).unwrap_or_else(|| RUNTIME_DIR.into()),
        shutdown_timeout: shutdown_timeout?,
        log: environment.log_filter().unwrap_or(log?).to_owned(),
    })
}

pub(super) static OBSERVE: Schema =
    Schema { name: "observe", variant: "", doc: "Metrics, health and the status page.", keys: &[&LISTEN], tables: &[] };

static LISTEN: Key<OrOff<Loopback>> = Key::with_default(
    "listen",
    OrOff(Loopback),
    r#""127.0.0.1:9600""#,
    "Where /metrics, /health and the status page are. Only this machine can reach it.",
);

pub(super) fn read_observe(mut section: Section<'_, '_, '_>) -> Result<Option<SocketAddr>, Reported> {
    section.value(&LISTEN)
}
