//! A gateway on disk: config, buffer, inputs and outputs in a directory of its own.

use std::{
    collections::BTreeMap,
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Output as CommandOutput, Stdio},
    sync::atomic::{AtomicU16, Ordering},
};

use tempfile::TempDir;

use super::{Agent, Client, binary};

/// What survives the agent: a directory, two ports and an environment.
#[derive(Debug)]
pub struct Gateway {
    directory: TempDir,
    id: String,
    /// Where the config should put an HTTP source.
    pub http_port: u16,
    /// Where the agent serves health, metrics and status.
    pub observe_port: u16,
    environment: BTreeMap<String, String>,
}

impl Gateway {
    /// An empty one, in the directory for temporary files.
    pub fn new() -> Self {
        Self::within(&std::env::temp_dir())
    }

    /// An empty one, below `parent`.
    pub fn within(parent: &Path) -> Self {
        let directory =
            tempfile::Builder::new().prefix("forebay-").tempdir_in(parent).expect("a directory can be made");
        let (id, environment) = ("gw-test".to_owned(), BTreeMap::new());
        Self { directory, id, http_port: free_port(), observe_port: free_port(), environment }
    }

    /// The same, for an agent that goes by another id than `gw-test`.
    pub fn of_agent(self, id: &str) -> Self {
        Self { id: id.to_owned(), ..self }
    }

    /// What its agent goes by.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// A path in its directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes the config: where everything lies, then `rest`. In `rest`, `{dir}` stands for the directory and
    /// `{http}` for the address of the HTTP source.
    pub fn configure(&self, rest: &str) {
        let directory = self.directory.path().display().to_string();
        let rest = rest.replace("{dir}", &directory).replace("{http}", &format!("127.0.0.1:{}", self.http_port));
        let config = format!(
            "[agent]\nid = \"{}\"\ndata_dir = \"{directory}/data\"\nruntime_dir = \"{directory}/run\"\n\
             shutdown_timeout = \"20s\"\n\n[observe]\nlisten = \"127.0.0.1:{}\"\n\n{rest}",
            self.id, self.observe_port
        );
        fs::write(self.config_path(), config).expect("the config can be written");
    }

    /// Where the config lies.
    pub fn config_path(&self) -> PathBuf {
        self.path("forebay.toml")
    }

    /// Sets an environment variable for every agent and command from now on.
    pub fn set(&mut self, name: &str, value: impl Into<String>) {
        self.environment.insert(name.to_owned(), value.into());
    }

    /// Starts an agent and waits until it says that it is ready.
    pub fn start(&self) -> Agent {
        let mut agent = self.spawn();
        agent.wait_ready();
        agent
    }

    /// Starts an agent, and leaves it at that.
    pub fn spawn(&self) -> Agent {
        Agent::spawn(&mut self.command(&["run"]), self.observe_port)
    }

    /// Runs `forebay` with these arguments to its end.
    pub fn run(&self, arguments: &[&str]) -> CommandOutput {
        self.command(arguments).stdin(Stdio::null()).output().expect("the binary can be run")
    }

    /// `forebay` with these arguments, this gateway's config and its environment.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.arg("--config").arg(self.config_path()).args(arguments);
        command.envs(&self.environment).current_dir(self.directory.path());
        command.env_remove("RUST_LOG").env_remove("NOTIFY_SOCKET");
        command
    }

    /// Cuts the way to everything below `name`: a file stands where the directory should be. (A directory without
    /// permissions would not stop root.)
    pub fn cut(&self, name: &str) {
        fs::write(self.path(name), "the way is cut").expect("a file can be written");
    }

    /// Opens the way that [`Gateway::cut`] closed.
    pub fn mend(&self, name: &str) {
        fs::remove_file(self.path(name)).expect("the file is there");
        fs::create_dir(self.path(name)).expect("a directory can be made");
    }

    /// A producer's connection to the HTTP source.
    pub fn producer(&self) -> Client {
        Client::new(self.http_port)
    }

    /// A connection to health, metrics and status.
    pub fn observer(&self) -> Client {
        Client::new(self.observe_port)
    }
}

impl Default for Gateway {
    fn default() -> Self {
        Self::new()
    }
}

/// A port of 127.0.0.1 that nothing listens on. From below the ephemeral range, so that no outgoing connection takes
/// it between two lives of the agent.
pub fn free_port() -> u16 {
    const FIRST: u16 = 12_000;
    const COUNT: u16 = 16_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Test processes that run side by side begin at different places.
    let base = (std::process::id().wrapping_mul(97) % u32::from(COUNT)) as u16;
    (0..COUNT)
        .map(|_| FIRST + base.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("one of 16,000 ports is free")
}
