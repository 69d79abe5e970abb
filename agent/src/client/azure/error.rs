//! Why there is no token.

use std::{fmt, time::Duration};

/// Every source that was asked, and why none of them gave a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// Never empty.
    failures: Vec<(&'static str, Failure)>,
}

/// Why one source gave none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) why: String,
    /// Whether it is not set up at all: the next source is asked then, and only then.
    pub(super) is_absent: bool,
    /// Whether it may be another answer the next time though nobody does anything.
    pub(super) is_passing: bool,
    /// How long it is to be left alone.
    pub(super) after: Option<Duration>,
}

impl Failure {
    /// It is not set up here.
    pub(super) fn absent(why: impl Into<String>) -> Self {
        Self { why: why.into(), is_absent: true, is_passing: false, after: None }
    }

    /// It does not answer, or is busy.
    pub(super) fn passing(why: impl Into<String>) -> Self {
        Self { why: why.into(), is_absent: false, is_passing: true, after: None }
    }

    /// It says no, until somebody changes something.
    pub(super) fn lasting(why: impl Into<String>) -> Self {
        Self { why: why.into(), is_absent: false, is_passing: false, after: None }
    }
}

impl Error {
    pub(super) fn new(failures: Vec<(&'static str, Failure)>) -> Self {
        Self { failures }
    }

    /// Whether it is a matter of time only: a network that is down, a service that is busy. If not, somebody must set
    /// something right first; trying again each minute finds out when.
    pub fn is_passing(&self) -> bool {
        self.failures.iter().any(|(_, failure)| failure.is_passing)
    }

    /// How long whoever was asked is to be left alone, if that was said.
    pub fn after(&self) -> Option<Duration> {
        self.failures.iter().filter_map(|(_, failure)| failure.after).max()
    }
}

/// One line for each source; with `{:#}`, all on one.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no token of Microsoft Entra:")?;
        self.failures.iter().enumerate().try_for_each(|(nth, (source, failure))| {
            let separator = match (f.alternate(), nth) {
                (false, _) => "\n  ",
                (true, 0) => " ",
                (true, _) => "; ",
            };
            write!(f, "{separator}{source}: {}", failure.why)
        })
    }
}

impl std::error::Error for Error {}

impl From<tokio::task::JoinError> for Error {
    fn from(_: tokio::task::JoinError) -> Self {
        Self::new(vec![("request", Failure::passing("the agent is shutting down"))])
    }
}
