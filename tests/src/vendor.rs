//! The vendor's SDK for Snowpipe Streaming, which judges the emulator of Snowflake and what the agent does with it: runs one
//! of its scenarios (`emulator/snowflake/judges`) against an account.

use std::{ops::Deref, path::PathBuf, process::Command};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::servers::{Authority, Snowflake, emulator_program, snowflake_directory};

/// An account that speaks TLS too, without which the SDK speaks to none.
#[derive(Debug)]
pub struct Judged {
    account: Snowflake,
    directory: TempDir,
}

impl Deref for Judged {
    type Target = Snowflake;

    fn deref(&self) -> &Snowflake {
        &self.account
    }
}

impl Judged {
    /// One with nothing in it.
    pub fn start() -> Self {
        let authority = Authority::new("of accounts");
        let directory = tempfile::tempdir().expect("a directory can be made");
        let account = Snowflake::with_tls(&authority.issue_for(&["127.0.0.1", "localhost"]));
        let judged = Self { account, directory };
        authority.write(&judged.authority());
        judged
    }

    fn authority(&self) -> PathBuf {
        self.directory.path().join("authority.pem")
    }

    /// Runs a scenario of the judges, with arguments. Panics with all that it said if it fails; else returns what it printed,
    /// as lines of JSON.
    pub fn judge(&self, scenario: &[&str]) -> Vec<Value> {
        let ports = self.ports();
        let described = json!({
            "authority": self.authority(),
            "ports": { "http": ports.http, "https": ports.https, "control": ports.control },
        });
        let mut command = Command::new(emulator_program("python"));
        command.arg(snowflake_directory().join("judges/judge.py")).args(scenario);
        command.env("SNOWFLAKE", described.to_string()).env("PYTHONDONTWRITEBYTECODE", "1");
        let done = command.output().unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
        let (out, errors) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
        assert!(done.status.success(), "{scenario:?}: {}\n{out}\n{errors}", done.status);
        out.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line:?}: {error}"))).collect()
    }
}
