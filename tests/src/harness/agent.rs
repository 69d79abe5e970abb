//! One running agent.

use std::{
    collections::VecDeque,
    io::{BufRead, BufReader, Read},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
};

use rustix::process::{Pid, Signal, kill_process};

use super::{Client, Memory, Response, memory, wait_for, wait_until};

/// Lines of the log that are kept.
const LOG_LINES: usize = 2_000;

/// An agent's process. Killed when dropped; its log is printed if the test is failing.
#[derive(Debug)]
pub struct Agent {
    child: Child,
    log: Arc<Mutex<VecDeque<String>>>,
    reader: Option<JoinHandle<()>>,
    observe_port: u16,
}

impl Agent {
    pub(super) fn spawn(command: &mut Command, observe_port: u16) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary can be started");
        let stderr = child.stderr.take().expect("standard error is piped");
        let log = Arc::new(Mutex::new(VecDeque::new()));
        let reader = thread::spawn({
            let log = Arc::clone(&log);
            move || keep_log(stderr, &log)
        });
        Self { child, log, reader: Some(reader), observe_port }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it says that it is ready; panics with its log if it exits instead.
    pub fn wait_ready(&mut self) {
        let mut observer = Client::new(self.observe_port);
        wait_until("the agent to be ready", || {
            if let Some(status) = self.exited() {
                panic!("the agent exited with {status} instead of getting ready");
            }
            observer.get("/health/ready").is_ok_and(|answer| answer.status == 200)
        });
    }

    /// Kills it with SIGKILL and waits until it is gone.
    pub fn kill_9(mut self) {
        self.child.kill().expect("a process that was not waited for can be killed");
        self.reap();
    }

    /// Sends `signal`.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("a process that was not waited for can be signalled");
    }

    /// Sends SIGTERM and waits until it has exited.
    pub fn terminate(mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait_exit()
    }

    /// Waits until it has exited by itself.
    pub fn wait_exit(&mut self) -> ExitStatus {
        let status = wait_for("the agent to exit", || self.exited());
        self.reap();
        status
    }

    /// Its exit status, if it has exited.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child's status can be asked for")
    }

    /// Sends `GET path` to the observer's port.
    pub fn get(&self, path: &str) -> Response {
        wait_for(path, || Client::new(self.observe_port).get(path).ok())
    }

    /// Its memory.
    pub fn memory(&self) -> Memory {
        memory(self.pid()).expect("the agent is running")
    }

    /// The last lines of its log.
    pub fn log(&self) -> Vec<String> {
        self.log.lock().expect("no holder of this lock panics").iter().cloned().collect()
    }

    fn reap(&mut self) {
        self.child.wait().expect("a child can be waited for");
        if let Some(reader) = self.reader.take() {
            reader.join().expect("the log's reader does not panic");
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Fails only if it is gone, which is what is wanted.
        let _ = self.child.kill();
        self.reap();
        if thread::panicking() {
            eprintln!("--- log of agent {}\n{}\n---", self.pid(), self.log().join("\n"));
        }
    }
}

fn keep_log(stderr: impl Read, log: &Mutex<VecDeque<String>>) {
    for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
        let mut log = log.lock().expect("no holder of this lock panics");
        if log.len() == LOG_LINES {
            log.pop_front();
        }
        log.push_back(String::from_utf8_lossy(&line).into_owned());
    }
}
