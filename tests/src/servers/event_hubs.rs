//! An Event Hubs namespace of a test's own: the emulator in `tests/emulator/eventhub`, whose README says what it does and
//! what can be asked of its control port.

use std::{
    collections::BTreeMap,
    fs,
    ops::Deref,
    path::{Path, PathBuf},
    process::Command,
};

use rustix::process::Signal;
use serde::{Deserialize, Deserializer, de::Error};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    authority::{Authority, Certificate},
    control_port::{ControlPort, parse},
    daemon::Daemon,
};

/// A namespace on ports of 127.0.0.1, without hubs at first. What is in it ends with it.
#[derive(Debug)]
pub struct EventHubs {
    ports: Ports,
    control: ControlPort,
    // Before the directory, so that it ends first.
    _daemon: Daemon,
    _directory: TempDir,
}

/// Where a namespace listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Ports {
    /// AMQP over TCP.
    pub amqp: u16,
    /// AMQP over TLS, where there is a certificate.
    pub amqps: Option<u16>,
    /// AMQP over WebSocket.
    pub ws: u16,
    /// AMQP over WebSocket over TLS, where there is a certificate.
    pub wss: Option<u16>,
    /// Control, over HTTP.
    pub control: u16,
}

/// An event as a hub has it. Values have the types of AMQP: `{"int": 5}`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct StoredEvent {
    /// The partition it is in.
    pub partition: String,
    /// Its number there.
    pub sequence_number: i64,
    /// Its offset, which need not be a number.
    pub offset: String,
    /// When it came, in milliseconds since 1970.
    pub enqueued: i64,
    /// The key that its batch was sent with.
    pub partition_key: Option<String>,
    /// Message annotations.
    #[serde(default)]
    pub annotations: BTreeMap<String, Value>,
    /// Properties, those that are not null.
    #[serde(default)]
    pub properties: BTreeMap<String, Value>,
    /// Application properties.
    #[serde(default)]
    pub application_properties: BTreeMap<String, Value>,
    /// The bytes of the data sections; none if the body is a value or a sequence.
    #[serde(default, deserialize_with = "from_hex")]
    pub body: Option<Vec<u8>>,
    /// The body, where it is a value.
    pub value: Option<Value>,
    /// The body, where it is a sequence.
    pub sequence: Option<Vec<Value>>,
}

/// What a namespace is to be like, before it starts.
#[derive(Debug, Default)]
pub struct EventHubsBuilder {
    tls: Option<Certificate>,
    client_authority: Option<String>,
}

impl EventHubsBuilder {
    /// It speaks TLS too, with this certificate.
    pub fn tls(mut self, certificate: Certificate) -> Self {
        self.tls = Some(certificate);
        self
    }

    /// Over TLS it wants a certificate that `authority` has signed.
    pub fn client_certificates(mut self, authority: &Authority) -> Self {
        self.client_authority = Some(authority.pem().to_owned());
        self
    }

    /// Starts it and waits until it listens.
    pub fn start(self) -> EventHubs {
        let directory =
            tempfile::Builder::new().prefix("forebay-event-hubs-").tempdir().expect("a directory can be made");
        let place = directory.path();
        let ready = place.join("ready");
        let mut command = Command::new(emulator_program("node"));
        command.arg(emulator_directory().join("src/main.js")).arg("--ready").arg(&ready).current_dir(place);
        if let Some(certificate) = &self.tls {
            let (certificate, key) = certificate.write(place, "namespace");
            command.arg("--certificate").arg(certificate).arg("--key").arg(key);
        }
        if let Some(authority) = &self.client_authority {
            let path = place.join("clients.pem");
            fs::write(&path, authority).expect("a certificate can be written");
            command.arg("--client-authority").arg(path);
        }
        let mut daemon = Daemon::spawn("event hubs", &mut command, &place.join("log"), Signal::KILL);
        daemon.wait_ready(|| ready.exists());
        let ports: Ports = parse(&fs::read_to_string(&ready).expect("a file that is there can be read"));
        EventHubs { ports, control: ControlPort(ports.control), _daemon: daemon, _directory: directory }
    }
}

impl EventHubs {
    /// The name of the rule that may do everything.
    pub const RULE: &str = "RootManageSharedAccessKey";
    /// Its key.
    pub const KEY: &str = "SAS_KEY_VALUE";

    /// One that speaks no TLS.
    pub fn start() -> Self {
        Self::builder().start()
    }

    /// One that is configured first.
    pub fn builder() -> EventHubsBuilder {
        EventHubsBuilder::default()
    }

    /// Where it listens.
    pub fn ports(&self) -> Ports {
        self.ports
    }

    /// The connection string of its AMQP port without TLS.
    pub fn connection_string(&self) -> String {
        format!(
            "Endpoint=sb://localhost:{};SharedAccessKeyName={};SharedAccessKey={};UseDevelopmentEmulator=true",
            self.ports.amqp,
            Self::RULE,
            Self::KEY
        )
    }

    /// Makes the hub `name`, or makes it again: `options` are those of `PUT /hubs/NAME`.
    pub fn make_hub(&self, name: &str, options: &Value) {
        self.ask("PUT", &format!("/hubs/{name}"), options);
    }

    /// What is in one partition, in order.
    pub fn stored(&self, hub: &str, partition: &str) -> Vec<StoredEvent> {
        let path = format!("/hubs/{hub}/partitions/{partition}/events");
        self.request("GET", &path, "").lines().map(parse).collect()
    }

    /// What is in all partitions of a hub, one after the other.
    pub fn all_stored(&self, hub: &str) -> Vec<StoredEvent> {
        let found = self.ask("GET", &format!("/hubs/{hub}"), &Value::Null);
        let partitions = found["partitions"].as_array().expect("a hub has partitions");
        let ids = partitions.iter().map(|partition| partition["id"].as_str().expect("a partition has an id"));
        ids.flat_map(|id| self.stored(hub, id)).collect()
    }

    /// `up`, `silent` or `down`.
    pub fn network(&self, state: &str) {
        self.ask("POST", "/network", &json!({ "state": state }));
    }
}

impl Deref for EventHubs {
    type Target = ControlPort;

    fn deref(&self) -> &ControlPort {
        &self.control
    }
}

/// Where the emulator lies, and its judges.
pub fn emulator_directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("emulator/eventhub")
}

/// A program of those that `need_event_hubs` and `need_snowflake` install: `node` or `python`.
pub fn emulator_program(name: &str) -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace");
    let program = workspace.join(".venv/bin").join(name);
    assert!(
        program.exists(),
        "{} is missing: run need_event_hubs and need_snowflake of tests/need.sh, as tests/run does",
        program.display()
    );
    program
}

fn from_hex<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<u8>>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let bytes = (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16));
    bytes.collect::<Result<_, _>>().map(Some).map_err(D::Error::custom)
}
