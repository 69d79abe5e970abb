//! The vendors' SDKs, which judge the emulator of Event Hubs and what the agent does with it: runs one of their scenarios
//! (`emulator/eventhub/judges`) against a namespace.

use std::{
    path::PathBuf,
    process::{Command, Output},
};

use serde_json::{Value, json};

use crate::servers::{Authority, Certificate, EventHubs, EventHubsBuilder, emulator_directory, emulator_program};

/// The hub that all scenarios work on.
pub const HUB: &str = "judged";

/// A vendor's SDK.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sdk {
    /// `azure-eventhub`.
    Python,
    /// `@azure/event-hubs`.
    JavaScript,
}

/// All of them.
pub const SDKS: [Sdk; 2] = [Sdk::Python, Sdk::JavaScript];

impl Sdk {
    /// Runs a scenario of its judges, with arguments. Panics with all that it said if it fails; else returns what it
    /// printed, as lines of JSON.
    pub fn run(self, space: &Namespace, transport: &str, scenario: &[&str]) -> Vec<Value> {
        let done = self.judge(space, transport, scenario);
        let (out, errors) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
        assert!(done.status.success(), "{self:?} {scenario:?}: {}\n{out}\n{errors}", done.status);
        // What an SDK has logged is of use where the test fails later.
        println!("{errors}");
        out.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line:?}: {error}"))).collect()
    }

    /// The same, and what came of it.
    pub fn judge(self, hubs: &Namespace, transport: &str, scenario: &[&str]) -> Output {
        let judges = emulator_directory().join("judges");
        let (program, script) = match self {
            Self::Python => ("python", judges.join("python/judge.py")),
            Self::JavaScript => ("node", judges.join("javascript/judge.js")),
        };
        let ports = hubs.hubs.ports();
        let mut space = json!({
            "transport": transport,
            "authority": hubs.authority(),
            "ports": {
                "amqp": ports.amqp, "amqps": ports.amqps, "ws": ports.ws, "wss": ports.wss, "control": ports.control,
            },
        });
        if let Some((certificate, key)) = &hubs.client {
            space["certificate"] = json!(certificate);
            space["key"] = json!(key);
        }
        let mut command = Command::new(emulator_program(program));
        command.arg(script).args(scenario).env("EVENT_HUBS", space.to_string()).env("PYTHONDONTWRITEBYTECODE", "1");
        command.env("NODE_EXTRA_CA_CERTS", hubs.authority());
        command.output().unwrap_or_else(|error| panic!("{command:?} does not start: {error}"))
    }
}

/// A namespace with the hub of the scenarios, which speaks TLS too.
#[derive(Debug)]
pub struct Namespace {
    /// The namespace.
    pub hubs: EventHubs,
    directory: tempfile::TempDir,
    /// Certificate and key that clients show.
    client: Option<(PathBuf, PathBuf)>,
}

impl Namespace {
    /// One whose hub is as hubs are.
    pub fn new() -> Self {
        Self::with(&json!({}))
    }

    /// With these options of the hub.
    pub fn with(options: &Value) -> Self {
        Self::start(options, EventHubs::builder(), None)
    }

    /// One that wants certificates of clients, for clients that have one or have none.
    pub fn with_client_certificates(shown: bool) -> Self {
        let clients = Authority::new("of clients");
        let client = shown.then(|| clients.issue("judge"));
        Self::start(&json!({}), EventHubs::builder().client_certificates(&clients), client)
    }

    /// The certificate of the authority that clients have to trust, in a file.
    pub fn authority(&self) -> PathBuf {
        self.directory.path().join("authority.pem")
    }

    fn start(options: &Value, builder: EventHubsBuilder, client: Option<Certificate>) -> Self {
        let authority = Authority::new("of namespaces");
        let directory = tempfile::tempdir().expect("a directory can be made");
        authority.write(&directory.path().join("authority.pem"));
        let client = client.map(|client| client.write(directory.path(), "client"));
        let hubs = builder.tls(authority.issue("localhost")).start();
        hubs.make_hub(HUB, options);
        Self { hubs, directory, client }
    }
}

impl Default for Namespace {
    fn default() -> Self {
        Self::new()
    }
}
