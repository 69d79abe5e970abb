//! A directory with a config in it, and the agents that run there.

use std::{
    ffi::OsStr,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// What has not happened by then does not happen.
const DEADLINE: Duration = Duration::from_secs(60);

/// Where an agent's config, buffer, inputs and outputs are.
pub(crate) struct Site(TempDir);

impl Site {
    /// With `config` behind the settings that every test needs.
    pub(crate) fn new(config: &str) -> Self {
        let site = Self(tempfile::Builder::new().prefix("forebay-").tempdir().expect("a temporary directory"));
        site.configure(config);
        site
    }

    pub(crate) fn configure(&self, config: &str) {
        let common = "[agent]\nid = \"gw-test\"\ndata_dir = \"data\"\nruntime_dir = \"run\"\n\
                      [observe]\nlisten = \"off\"\n[buffer]\nmin_free_disk = \"1MiB\"\n";
        // The lines of `config` keep their numbers.
        let text = if config.is_empty() { common.to_owned() } else { format!("{config}\n{common}") };
        fs::write(self.path("forebay.toml"), text).expect("the directory is writable");
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, words: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
        command.arg("--config").arg(self.path("forebay.toml")).args(words).current_dir(self.0.path());
        command.env_remove("RUST_LOG").env_remove("NOTIFY_SOCKET").env_remove("JOURNAL_STREAM").stdin(Stdio::null());
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, words: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Output {
        self.command(words).output().expect("the binary can be run")
    }

    /// Runs a command whose output nobody reads.
    pub(crate) fn run_unread(&self, words: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Output {
        let (reader, writer) = std::io::pipe().expect("the system has pipes");
        drop(reader);
        let child = self.command(words).stdout(writer).stderr(Stdio::piped()).spawn().expect("the binary can be run");
        child.wait_with_output().expect("a child can be waited for")
    }

    /// Starts an agent, and waits until it answers.
    pub(crate) fn start(&self) -> Agent {
        self.start_with(&[])
    }

    /// Starts an agent with these environment variables.
    pub(crate) fn start_with(&self, variables: &[(&str, &str)]) -> Agent {
        let mut command = self.command(["run"]);
        command.envs(variables.iter().copied());
        self.start_command(command)
    }

    /// Starts an agent whose standard input stays open.
    pub(crate) fn start_piped(&self) -> Agent {
        let mut command = self.command(["run"]);
        command.stdin(Stdio::piped());
        self.start_command(command)
    }

    fn start_command(&self, command: Command) -> Agent {
        let mut agent = Agent::spawn(command);
        wait("the agent answers", || {
            if let Some(status) = agent.child.try_wait().expect("a child's status can be asked for") {
                panic!("the agent exited with {status}:\n{}", agent.log());
            }
            let output = self.run(["status", "--json"]);
            output.status.success() && !stdout(&output).contains("\"agent\":null")
        });
        agent
    }

    pub(crate) fn status(&self) -> serde_json::Value {
        let output = self.run(["status", "--json"]);
        assert!(output.status.success(), "{}", stderr(&output));
        serde_json::from_slice(&output.stdout).expect("the status is JSON")
    }

    /// Waits until the status is as `right` wants it.
    pub(crate) fn wait_status(&self, what: &str, right: impl Fn(&serde_json::Value) -> bool) {
        wait(what, || {
            let output = self.run(["status", "--json"]);
            // An agent that is opening its buffer again does not answer.
            output.status.success() && serde_json::from_slice(&output.stdout).is_ok_and(|status| right(&status))
        });
    }

    /// Waits until so many lines are in the files of the sink.
    pub(crate) fn wait_delivered(&self, lines: usize) {
        self.wait_lines("out", lines);
    }

    /// Waits until so many lines are in the files of a directory.
    pub(crate) fn wait_lines(&self, directory: &str, lines: usize) {
        wait(&format!("{lines} lines are in {directory}"), || {
            let delivered = lines_below(&self.path(directory));
            assert!(delivered <= lines, "{delivered} lines are more than there were");
            delivered == lines
        });
    }
}

/// A running agent. Killed when dropped.
pub(crate) struct Agent {
    child: Child,
    log: Arc<Mutex<String>>,
}

impl Agent {
    fn spawn(mut command: Command) -> Self {
        let mut child =
            command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the binary can be started");
        let stderr = child.stderr.take().expect("standard error is piped");
        let log = Arc::new(Mutex::new(String::new()));
        let kept = Arc::clone(&log);
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let mut log = kept.lock().expect("no holder of this lock panics");
                log.push_str(&line);
                log.push('\n');
            }
        });
        Self { child, log }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn log(&self) -> String {
        self.log.lock().expect("no holder of this lock panics").clone()
    }

    pub(crate) fn wait_log(&self, part: &str) {
        wait(&format!("the log says {part:?}"), || self.log().contains(part));
    }

    /// Writes to its standard input, which must be piped.
    pub(crate) fn type_line(&mut self, line: &str) {
        let stdin = self.child.stdin.as_mut().expect("standard input is piped");
        writeln!(stdin, "{line}").expect("the agent reads");
    }

    pub(crate) fn hang_up(&self) {
        self.signal(Signal::HUP);
    }

    /// Tells it to stop, and waits until it has.
    pub(crate) fn terminate(self) -> ExitStatus {
        self.send_terminate();
        self.wait_exit()
    }

    pub(crate) fn send_terminate(&self) {
        self.signal(Signal::TERM);
    }

    pub(crate) fn wait_exit(mut self) -> ExitStatus {
        let mut status = None;
        wait("the agent exits", || {
            status = self.child.try_wait().expect("a child's status can be asked for");
            status.is_some()
        });
        status.expect("it was waited for")
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("a child that was not waited for can be signalled");
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{}", self.log());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The service manager's end of sd_notify(3).
pub(crate) struct Manager(UnixDatagram);

impl Manager {
    pub(crate) fn new(path: PathBuf) -> Self {
        let socket = UnixDatagram::bind(path).expect("the path is short");
        socket.set_read_timeout(Some(DEADLINE)).expect("the time is not zero");
        Self(socket)
    }

    /// Waits for a message that has `line` in it.
    pub(crate) fn wait(&self, line: &str) {
        let mut message = [0; 4096];
        loop {
            let length = self.0.recv(&mut message).unwrap_or_else(|error| panic!("no {line}: {error}"));
            if String::from_utf8_lossy(&message[..length]).lines().any(|found| found == line) {
                return;
            }
        }
    }
}

/// A port of 127.0.0.1 that nothing listens on.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("some port is free");
    listener.local_addr().expect("a listener has an address").port()
}

/// Bytes that no compression makes fewer.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    getrandom::fill(&mut bytes).expect("the system has random bytes");
    bytes
}

/// Posts raw bytes until they are accepted.
pub(crate) fn post(port: u16, path: &str, body: &[u8]) {
    wait("the event is accepted", || {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return false };
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/octet-stream\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        let mut answer = String::new();
        let sent = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
        sent.and_then(|()| stream.read_to_string(&mut answer)).is_ok() && answer.starts_with("HTTP/1.1 202")
    });
}

/// Begins a request, and leaves it at that.
pub(crate) fn post_in_part(port: u16, path: &str) -> TcpStream {
    let mut stream = None;
    wait("the source listens", || {
        stream = TcpStream::connect(("127.0.0.1", port)).ok();
        stream.is_some()
    });
    let mut stream = stream.expect("it was waited for");
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000\r\nExpect: 100-continue\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).expect("the source reads");
    // The answer shows that the request has begun.
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).expect("the source asks for the body");
    assert_eq!(&answer, b"HTTP/1.1 100");
    stream
}

/// Waits until `condition` holds.
fn wait(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < deadline, "it never happened: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Lines in all the NDJSON files of a directory.
pub(crate) fn lines_below(directory: &Path) -> usize {
    text_below(directory).lines().count()
}

/// The bodies in all the NDJSON files of a directory, in the order of the files.
pub(crate) fn bodies_below(directory: &Path) -> Vec<String> {
    let body = |line: &str| {
        let event: serde_json::Value = serde_json::from_str(line).expect("NDJSON");
        event["body"].as_str().expect("the body is text").to_owned()
    };
    text_below(directory).lines().map(body).collect()
}

fn text_below(directory: &Path) -> String {
    let Ok(entries) = fs::read_dir(directory) else { return String::new() };
    let paths = entries.flatten().map(|entry| entry.path());
    let mut paths: Vec<PathBuf> = paths.filter(|path| path.extension().is_some_and(|ext| ext == "ndjson")).collect();
    paths.sort();
    paths.iter().map(|path| fs::read_to_string(path).unwrap_or_default()).collect()
}

/// Random text of this length: compression halves it.
pub(crate) fn hexadecimal(length: usize) -> String {
    noise(length.div_ceil(2)).iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn append(path: &Path, text: &str) {
    let mut file = fs::OpenOptions::new().append(true).open(path).expect("the file is there");
    file.write_all(text.as_bytes()).expect("the file can be written");
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
