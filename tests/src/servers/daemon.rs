//! One running server process.

use std::{
    fs::{self, OpenOptions},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
};

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::wait_until;

/// Lines of a log that a failing test shows.
const SHOWN_LINES: usize = 200;

/// A server's process. Ended when dropped; the end of its log is printed if the test is failing.
#[derive(Debug)]
pub(super) struct Daemon {
    name: &'static str,
    child: Child,
    log: PathBuf,
    /// What ends it at once, with all its children.
    last: Signal,
}

impl Daemon {
    /// Starts `command`, which logs to its standard error, or its standard output, from there into the file `log`.
    /// `last` ends it where nothing else is asked for.
    pub(super) fn spawn(name: &'static str, command: &mut Command, log: &Path, last: Signal) -> Self {
        let file = OpenOptions::new().create(true).append(true).open(log).expect("a log can be written");
        let errors = file.try_clone().expect("an open file can be shared");
        command.stdin(Stdio::null()).stdout(file).stderr(errors);
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
        Self { name, child, log: log.to_owned(), last }
    }

    /// Its process id.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until `ready`; panics if it exits instead.
    pub(super) fn wait_ready(&mut self, mut ready: impl FnMut() -> bool) {
        let name = self.name;
        wait_until(&format!("{name} to be ready"), || {
            if let Some(status) = self.child.try_wait().expect("a child's status can be asked for") {
                panic!("{name} exited with {status} instead of getting ready");
            }
            ready()
        });
    }

    /// Sends `signal` and waits until it has exited.
    pub(super) fn stop(mut self, signal: Signal) -> ExitStatus {
        self.signal(signal);
        let mut status = None;
        wait_until(&format!("{} to stop", self.name), || {
            status = self.child.try_wait().expect("a child's status can be asked for");
            status.is_some()
        });
        status.expect("it has exited")
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("a process that was not waited for can be signalled");
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if thread::panicking() {
            let log = fs::read(&self.log).unwrap_or_default();
            let log = String::from_utf8_lossy(&log);
            let lines: Vec<&str> = log.lines().collect();
            let shown = &lines[lines.len().saturating_sub(SHOWN_LINES)..];
            eprintln!("--- log of {} {}\n{}\n---", self.name, self.child.id(), shown.join("\n"));
        }
        // `stop` may have waited for it; then there is nothing to end.
        if let Ok(None) = self.child.try_wait() {
            self.signal(self.last);
            // Fails only if it is gone, which is what is wanted.
            let _ = self.child.wait();
        }
    }
}
