//! The configuration: one TOML file and its `conf.d`, as types that can be trusted.
//!
//! It is read in two layers. The low one ([`document`](self)) is what the files say, every part with its place. The
//! high one, [`Config`], holds the settings of each part of the agent, each checked by itself and against the others:
//! whatever is behind it needs to check nothing again. Nothing here needs a network.
//!
//! The only reader of environment variables is [`Environment`].

mod agent;
mod assemble;
#[cfg(any(feature = "eventhub", feature = "postgres"))]
mod azure;
mod buffer;
mod check;
mod control;
mod document;
mod environment;
mod files;
#[cfg(feature = "eventhub")]
mod hub;
mod key;
mod kind;
#[cfg(feature = "postgres")]
mod login;
mod mask;
mod reading;
mod reference;
mod report;
mod secrets;
mod sinks;
#[cfg(feature = "snowpipe")]
mod snowflake;
mod sources;
mod substitute;
mod target;
#[cfg(any(feature = "eventhub", feature = "mqtt", feature = "snowpipe"))]
mod tls;
mod units;

use std::{collections::BTreeMap, fmt, net::SocketAddr, path::Path};

use forebay_buffer::{Start, StreamLimits};

#[cfg(feature = "snowpipe")]
pub use self::control::InSnowflake;
#[cfg(feature = "postgres")]
pub(crate) use self::control::is_same_database;
use self::files::{Files, SourceFile, Unreadable};
pub(crate) use self::key::nearest;
pub use self::{
    agent::AgentSettings,
    buffer::BufferSettings,
    control::{ControlBackend, ControlConfig, RowKeeper},
    environment::Environment,
    key::Fallback,
    reference::{KeyReference, TableReference, reference},
    report::Diagnostic,
};
use crate::{sink, source};

/// The configuration of `forebay demo`, as it could stand in a file.
pub const DEMO: &str = include_str!("config/demo.toml");

/// Everything that the agent is built from. Parts that are equal in two of them need no restart.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Who this gateway is.
    pub agent: AgentSettings,
    /// The events on disk.
    pub buffer: BufferSettings,
    /// The control table.
    pub control: ControlConfig,
    /// Where metrics, health and status are. `None`: nowhere.
    pub observe: Option<SocketAddr>,
    /// Where events come from, by name. At least one.
    pub sources: BTreeMap<String, SourceConfig>,
    /// Where they go, by name. At least one, and each source is an input of one.
    pub sinks: BTreeMap<String, SinkConfig>,
}

/// One source.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceConfig {
    /// What it is.
    pub kind: SourceKind,
    /// How much of the buffer it may take.
    pub limits: StreamLimits,
    /// What it was called before.
    pub renamed_from: Option<String>,
}

/// A source's type, with its settings.
#[derive(Debug, Clone, PartialEq)]
pub enum SourceKind {
    /// Lines from standard input.
    Stdin(source::stdin::Settings),
    /// Lines from files.
    Tail(source::tail::Settings),
    /// Events by POST.
    Http(source::http::Settings),
    /// Events of an event hub.
    #[cfg(feature = "eventhub")]
    EventHub(Box<source::eventhub::Settings>),
    /// Messages from an MQTT broker.
    #[cfg(feature = "mqtt")]
    Mqtt(Box<source::mqtt::Settings>),
    /// This machine's own load.
    Host(source::host::Settings),
}

/// One sink.
#[derive(Debug, Clone, PartialEq)]
pub struct SinkConfig {
    /// What it is.
    pub kind: SinkKind,
    /// The sources that it takes. At least one, and all of them exist.
    pub inputs: Vec<String>,
    /// Where it begins if it is new.
    pub start: Start,
    /// The most that it sends.
    pub max_bytes_per_second: Option<u64>,
    /// What it was called before.
    pub renamed_from: Option<String>,
}

/// A sink's type, with its settings.
#[derive(Debug, Clone, PartialEq)]
pub enum SinkKind {
    /// Events of an event hub.
    #[cfg(feature = "eventhub")]
    EventHub(Box<sink::eventhub::Settings>),
    /// Files of lines.
    File(sink::file::Settings),
    /// Rows in a table of Postgres.
    #[cfg(feature = "postgres")]
    Postgres(Box<sink::postgres::Settings>),
    /// Rows in a table of Snowflake.
    #[cfg(feature = "snowpipe")]
    Snowpipe(Box<sink::snowpipe::Settings>),
    /// Lines on standard output.
    Stdout(sink::stdout::Settings),
}

/// A configuration that can be used, and what deserves a look in it.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// What to build.
    pub config: Config,
    /// What `check` says beside it.
    pub warnings: Vec<Diagnostic>,
}

/// A configuration that cannot be used: all that is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    /// What is wrong. At least one.
    pub errors: Vec<Diagnostic>,
    /// What deserves a look besides.
    pub warnings: Vec<Diagnostic>,
    /// How many errors there are that are not in `errors`.
    pub left_out: usize,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for diagnostic in self.errors.iter().chain(&self.warnings) {
            writeln!(f, "{diagnostic}")?;
        }
        match self.errors.len() + self.left_out {
            1 => write!(f, "the configuration has 1 error"),
            all => write!(f, "the configuration has {all} errors"),
        }?;
        if self.left_out > 0 { write!(f, "; the first {} are shown", self.errors.len()) } else { Ok(()) }
    }
}

impl std::error::Error for Invalid {}

impl Config {
    /// Reads the file at `path` and the `conf.d/*.toml` beside it.
    pub fn load(path: &Path, environment: &Environment) -> Result<Loaded, Invalid> {
        let (files, unreadable) = Files::read(path);
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let base = absolute.parent().map(Path::to_owned).unwrap_or_default();
        assemble::assemble(files, unreadable, base, environment, secrets::check)
    }

    /// Reads `bytes` as if they stood in a file of `directory`. Looks at no file.
    pub fn parse(bytes: &[u8], directory: &Path, environment: &Environment) -> Result<Loaded, Invalid> {
        let path = directory.join("forebay.toml");
        let (mut files, mut unreadable) = (Files::default(), Vec::new());
        match files::decode(bytes.to_owned()) {
            Ok(text) => files.0.push(SourceFile { path, text }),
            Err((problem, help)) => unreadable.push(Unreadable { path, problem, help: help.to_owned() }),
        }
        assemble::assemble(files, unreadable, directory.to_owned(), environment, |_, _, _| ())
    }

    /// What `forebay demo` runs in `directory`: [`DEMO`].
    pub fn demo(directory: &Path) -> Self {
        let loaded = Self::parse(DEMO.as_bytes(), directory, &Environment::of_process());
        loaded.expect("the embedded configuration is valid, and takes nothing from the environment").config
    }
}
