//! A Snowflake account of a test's own: the emulator in `tests/emulator/snowflake`, whose README says what it does and what
//! can be asked of its control port.

use std::{
    fs,
    ops::Deref,
    path::{Path, PathBuf},
    process::Command,
};

use rustix::process::Signal;
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    authority::Certificate,
    control_port::{ControlPort, parse},
    daemon::Daemon,
    event_hubs::emulator_program,
};

/// An account on ports of 127.0.0.1, called `TESTACCT`, with nothing in it at first. What is in it ends with it.
#[derive(Debug)]
pub struct Snowflake {
    ports: SnowflakePorts,
    control: ControlPort,
    // Before the directory, so that it ends first.
    daemon: Daemon,
    _directory: TempDir,
}

/// Where an account listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct SnowflakePorts {
    /// Both APIs, without TLS.
    pub http: u16,
    /// The same over TLS, where there is a certificate.
    pub https: Option<u16>,
    /// Control, over HTTP.
    pub control: u16,
}

/// A row that was committed.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct CommittedRow {
    /// The number of the request that brought it, in the order in which a table's requests were committed.
    pub commit: usize,
    /// The channel that it came through.
    pub channel: String,
    /// The first offset token of its request; none in an elastic channel.
    pub start: Option<String>,
    /// The last one, which the channel had committed with this row.
    pub end: Option<String>,
    /// Its number in the request, from 0.
    pub row: usize,
    /// What was sent.
    pub values: Value,
}

/// What a channel is like.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct ChannelState {
    /// Its name.
    pub channel_name: String,
    /// `SUCCESS`, or why it has to be opened again.
    pub channel_status_code: String,
    /// How far it is committed.
    pub last_committed_offset_token: Option<String>,
    /// How many of its rows are committed, ever.
    pub rows_inserted: u64,
    /// How many of its rows were refused, ever.
    pub rows_error_count: u64,
    /// How many requests wait to be committed.
    pub pending: usize,
    /// How often it was opened, less one.
    pub client_sequencer: i64,
}

impl Snowflake {
    /// The account's name.
    pub const ACCOUNT: &str = "TESTACCT";

    /// One that speaks no TLS.
    pub fn start() -> Self {
        Self::with(None)
    }

    /// One that speaks TLS too, with this certificate.
    pub fn with_tls(certificate: &Certificate) -> Self {
        Self::with(Some(certificate))
    }

    fn with(certificate: Option<&Certificate>) -> Self {
        let directory =
            tempfile::Builder::new().prefix("forebay-snowflake-").tempdir().expect("a directory can be made");
        let place = directory.path();
        let ready = place.join("ready");
        let mut command = Command::new(emulator_program("python"));
        command.arg(snowflake_directory().join("src/main.py")).arg("--ready").arg(&ready).current_dir(place);
        if let Some(certificate) = certificate {
            let (certificate, key) = certificate.write(place, "account");
            command.arg("--certificate").arg(certificate).arg("--key").arg(key);
        }
        let mut daemon = Daemon::spawn("snowflake", &mut command, &place.join("log"), Signal::KILL);
        daemon.wait_ready(|| ready.exists());
        let ports: SnowflakePorts = parse(&fs::read_to_string(&ready).expect("a file that is there can be read"));
        Self { ports, control: ControlPort(ports.control), daemon, _directory: directory }
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.daemon.pid()
    }

    /// Where it listens.
    pub fn ports(&self) -> SnowflakePorts {
        self.ports
    }

    /// Its URL without TLS.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.http)
    }

    /// Carries out statements, separated by semicolons, with every right. Returns the rows of the last one.
    pub fn sql(&self, statements: &str) -> Vec<Vec<Option<String>>> {
        let results = self.ask("POST", "/sql", &json!({ "statement": statements }));
        let last = results.as_array().and_then(|all| all.last()).expect("each statement has a result");
        serde_json::from_value(last["rows"].clone()).expect("values are strings")
    }

    /// Makes or changes a user: `user` is the body of `PUT /users/NAME`.
    pub fn make_user(&self, name: &str, user: &Value) {
        self.ask("PUT", &format!("/users/{name}"), user);
    }

    /// What was committed to the table `DB.SCHEMA.TABLE`, in order, from the commit with this number on.
    pub fn rows(&self, table: &str, from: usize) -> Vec<CommittedRow> {
        self.request("GET", &format!("/tables/{table}/rows?from={from}"), "").lines().map(parse).collect()
    }

    /// All channels there are.
    pub fn channels(&self) -> Vec<ChannelState> {
        serde_json::from_value(self.ask("GET", "/channels", &Value::Null)).expect("channels have a state")
    }
}

impl Deref for Snowflake {
    type Target = ControlPort;

    fn deref(&self) -> &ControlPort {
        &self.control
    }
}

/// Where the emulator lies, and its judges.
pub fn snowflake_directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("emulator/snowflake")
}
