//! Runs a scenario of a vendor's SDK against a namespace.

use std::{
    path::PathBuf,
    process::{Command, Output},
};

use forebay_tests::servers::{
    Authority, Certificate, EventHubs, EventHubsBuilder, emulator_directory, emulator_program,
};
use serde_json::{Value, json};

/// The hub that all scenarios work on.
pub(crate) const HUB: &str = "judged";

/// A vendor's SDK.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sdk {
    /// `azure-eventhub`.
    Python,
    /// `@azure/event-hubs`.
    JavaScript,
}

pub(crate) const SDKS: [Sdk; 2] = [Sdk::Python, Sdk::JavaScript];

impl Sdk {
    /// Runs a scenario of its judges, with arguments. Panics with all that it said if it fails; else returns what it
    /// printed, as lines of JSON.
    pub(crate) fn run(self, space: &Namespace, transport: &str, scenario: &[&str]) -> Vec<Value> {
        let done = self.judge(space, transport, scenario);
        let (out, errors) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
        assert!(done.status.success(), "{self:?} {scenario:?}: {}\n{out}\n{errors}", done.status);
        // What an SDK has logged is of use where the test fails later.
        println!("{errors}");
        out.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line:?}: {error}"))).collect()
    }

    /// The same, and what came of it.
    pub(crate) fn judge(self, hubs: &Namespace, transport: &str, scenario: &[&str]) -> Output {
        let judges = emulator_directory().join("judges");
        let (program, script) = match self {
            Self::Python => ("python", judges.join("python/judge.py")),
            Self::JavaScript => ("node", judges.join("javascript/judge.js")),
        };
        let ports = hubs.hubs.ports();
        let mut space = json!({
            "transport": transport,
            "authority": hubs.directory.path().join("authority.pem"),
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
        command.env("NODE_EXTRA_CA_CERTS", hubs.directory.path().join("authority.pem"));
        command.output().unwrap_or_else(|error| panic!("{command:?} does not start: {error}"))
    }
}

/// A namespace with the hub of the scenarios, which speaks TLS too.
pub(crate) struct Namespace {
    pub(crate) hubs: EventHubs,
    directory: tempfile::TempDir,
    /// Certificate and key that clients show.
    client: Option<(PathBuf, PathBuf)>,
}

impl Namespace {
    pub(crate) fn new() -> Self {
        Self::with(&json!({}))
    }

    /// With these options of the hub.
    pub(crate) fn with(options: &Value) -> Self {
        Self::start(options, EventHubs::builder(), None)
    }

    /// One that wants certificates of clients, for clients that have one or have none.
    pub(crate) fn with_client_certificates(shown: bool) -> Self {
        let clients = Authority::new("of clients");
        let client = shown.then(|| clients.issue("judge"));
        Self::start(&json!({}), EventHubs::builder().client_certificates(&clients), client)
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
