//! What the agent takes from its surroundings: environment variables, the host's name, the machine's id.
//!
//! This is the only place that reads them. Everything else is given an [`Environment`], so that a test can give it
//! another one. Its variables may hold secrets: `Debug` shows names only.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fmt,
    path::PathBuf,
};

use super::reference::overrides;

/// Where systemd and D-Bus keep the machine's id.
const MACHINE_ID_FILES: [&str; 2] = ["/etc/machine-id", "/var/lib/dbus/machine-id"];

/// Where systemd keeps the credentials of the packages' unit (systemd.exec(5)).
const UNIT_CREDENTIALS: &str = "/run/credentials/forebay.service";

/// The surroundings of one run.
#[derive(Clone, PartialEq, Eq)]
pub struct Environment {
    variables: BTreeMap<OsString, OsString>,
    host_name: String,
    machine_id: String,
}

/// Why a variable has no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoVariable {
    /// It is not set.
    Undefined,
    /// It is set to something that is not UTF-8.
    NotText,
}

impl Environment {
    /// The surroundings of this process.
    #[allow(clippy::disallowed_methods, reason = "this is the place that may")]
    pub fn of_process() -> Self {
        let machine_id = MACHINE_ID_FILES.iter().find_map(|path| std::fs::read_to_string(path).ok());
        Self {
            variables: with_unit_credentials(std::env::vars_os().collect()),
            host_name: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            machine_id: machine_id.unwrap_or_default().trim().to_owned(),
        }
    }

    /// Surroundings made up for a test: these variables and no others.
    pub fn made_up<const N: usize>(variables: [(&str, &str); N]) -> Self {
        Self {
            variables: variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect(),
            host_name: "gateway".to_owned(),
            machine_id: "0123456789abcdef0123456789abcdef".to_owned(),
        }
    }

    /// The same, with one variable more, or another value for it.
    pub fn with(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.variables.insert(name.into(), value.into());
        self
    }

    /// The same, without the variables that override what a file says.
    pub fn without_overrides(mut self) -> Self {
        let is_override = |name: &OsString| overrides().any(|known| name == known);
        self.variables.retain(|name, _| !is_override(name));
        self
    }

    /// The value of `name`.
    pub(super) fn variable(&self, name: &str) -> Result<&str, NoVariable> {
        let value = self.variables.get(OsStr::new(name)).ok_or(NoVariable::Undefined)?;
        value.to_str().ok_or(NoVariable::NotText)
    }

    /// The names of all variables that are text.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.variables.keys().filter_map(|name| name.to_str())
    }

    /// `RUST_LOG`: overrides `agent.log`.
    pub(super) fn log_filter(&self) -> Option<&str> {
        self.variable("RUST_LOG").ok().filter(|filter| !filter.is_empty())
    }

    /// `RUNTIME_DIRECTORY`, as systemd sets it: the first of its directories.
    pub(super) fn runtime_directory(&self) -> Option<PathBuf> {
        let directories = self.variable("RUNTIME_DIRECTORY").ok()?;
        directories.split(':').find(|path| path.starts_with('/')).map(PathBuf::from)
    }

    /// `JOURNAL_STREAM`, as systemd sets it where standard error is the journal (systemd.exec(5)).
    pub fn logs_to_journal(&self) -> bool {
        self.variables.contains_key(OsStr::new("JOURNAL_STREAM"))
    }

    /// `TMPDIR`, or what the system has in its place.
    pub fn temporary_directory(&self) -> PathBuf {
        self.variables.get(OsStr::new("TMPDIR")).map_or_else(|| "/tmp".into(), PathBuf::from)
    }

    /// `FOREBAY_TEST_CLOCK`: a file that the clock is read from, in end-to-end tests only.
    pub fn test_clock(&self) -> Option<PathBuf> {
        self.variables.get(OsStr::new("FOREBAY_TEST_CLOCK")).map(PathBuf::from)
    }

    /// The agent's id where none is configured: the host's name, and a hash of the machine's id that tells two images
    /// of the same name apart. The machine's id itself is confidential (machine-id(5)) and cannot be read from it.
    pub(super) fn agent_id(&self) -> String {
        let in_names = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let host: String = self.host_name.chars().map(|c| if in_names(c) { c } else { '-' }).take(48).collect();
        let host = if host.is_empty() { "gateway" } else { &host };
        if self.machine_id.is_empty() {
            return host.to_owned();
        }
        format!("{host}-{:08x}", crc32fast::hash(format!("forebay {}", self.machine_id).as_bytes()))
    }
}

/// A command that is typed on the machine reads the same config as the unit, and finds the credentials where they are while
/// the unit runs. Within a unit, which has an INVOCATION_ID, none are there that the unit does not name.
fn with_unit_credentials(mut variables: BTreeMap<OsString, OsString>) -> BTreeMap<OsString, OsString> {
    if !variables.contains_key(OsStr::new("INVOCATION_ID")) {
        variables.entry("CREDENTIALS_DIRECTORY".into()).or_insert_with(|| UNIT_CREDENTIALS.into());
    }
    variables
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment").field("variables", &self.variables.keys()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_id_tells_two_machines_of_one_name_apart_and_stays_the_same() {
        let one = Environment::made_up([]);
        let other = Environment { machine_id: "fedcba9876543210fedcba9876543210".to_owned(), ..one.clone() };
        assert_ne!(one.agent_id(), other.agent_id());
        assert_eq!(one.agent_id(), one.clone().agent_id());
        assert!(one.agent_id().starts_with("gateway-"));
        assert!(!one.agent_id().contains("0123456789"), "the machine's id is confidential");
    }

    #[test]
    fn a_host_name_that_cannot_be_an_id_is_made_one() {
        let odd = Environment { host_name: "my gateway/1".to_owned(), ..Environment::made_up([]) };
        assert!(odd.agent_id().starts_with("my-gateway-1-"));
        let none = Environment { host_name: String::new(), machine_id: String::new(), ..odd };
        assert_eq!(none.agent_id(), "gateway");
    }

    #[test]
    fn the_values_of_variables_are_not_printed() {
        let environment = Environment::made_up([("TOKEN", "hunter2")]);
        let shown = format!("{environment:?}");
        assert!(shown.contains("TOKEN") && !shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn a_command_outside_the_unit_finds_the_units_credentials() {
        let credentials = |variables: &[(&str, &str)]| {
            let variables = variables.iter().map(|(name, value)| (name.into(), value.into())).collect();
            with_unit_credentials(variables).get(OsStr::new("CREDENTIALS_DIRECTORY")).cloned()
        };
        assert_eq!(credentials(&[]), Some(UNIT_CREDENTIALS.into()));
        assert_eq!(credentials(&[("CREDENTIALS_DIRECTORY", "/elsewhere")]), Some("/elsewhere".into()));
        assert_eq!(credentials(&[("INVOCATION_ID", "0123")]), None, "the unit has none: that is an error of its own");
    }

    #[test]
    fn systemd_may_give_several_runtime_directories() {
        let environment = Environment::made_up([("RUNTIME_DIRECTORY", "/run/forebay:/run/other")]);
        assert_eq!(environment.runtime_directory(), Some("/run/forebay".into()));
    }
}
