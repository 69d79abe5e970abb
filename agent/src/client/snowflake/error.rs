//! What goes wrong, and what follows from it.

use std::{fmt, time::Duration};

/// Why there is no answer, or not the one that was wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// The service is away or busy, and nothing has come of the request: the same again, after `after` if it says so.
    Retry {
        /// What it is about.
        message: String,
        /// How long the service asks to be left alone.
        after: Option<Duration>,
    },
    /// It was sent, and whether it was carried out is not known.
    Unknown(String),
    /// The channel is no longer ours as it was: open it again, and go on after the token that is committed there.
    Reopen(String),
    /// Somebody else has opened the channel since: it is theirs.
    Superseded(String),
    /// The channel has rows that are not committed yet, and would lose them.
    Uncommitted(String),
    /// We are not let in. The same again will do once an operator has set it right.
    Unauthorized(String),
    /// The database, the schema, the pipe or the table is not there, or not for us.
    Missing(String),
    /// The request is larger than the service takes.
    TooLarge(String),
    /// The statement fails, and has changed nothing.
    Statement(Box<StatementError>),
    /// The request is none that the service understands, or its answer none that we do.
    Confused(String),
}

/// What the service says of a statement (`QueryFailureStatus` in the reference of the SQL API).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StatementError {
    /// The service's own code, such as [`INVALID_IDENTIFIER`].
    pub code: String,
    /// The SQLSTATE.
    pub state: String,
    /// What is wrong, on one line.
    pub message: String,
    /// Line and column in the text of the statement, both counted as the service does.
    pub position: Option<(u32, u32)>,
    /// What the service's history calls the statement.
    pub handle: String,
}

/// A column that is not there.
pub const INVALID_IDENTIFIER: &str = "000904";
/// An object that is not there, or not for us.
pub const DOES_NOT_EXIST: &str = "002003";
/// A primary key that is there already, in a hybrid table.
pub const DUPLICATE_KEY: &str = "200001";

impl Error {
    /// What the service says of the statement, if that is what fails.
    pub fn statement(&self) -> Option<&StatementError> {
        match self {
            Self::Statement(error) => Some(error),
            _ => None,
        }
    }

    /// Whether the statement fails with `code`.
    pub fn is(&self, code: &str) -> bool {
        self.statement().is_some_and(|error| error.code == code)
    }

    pub(super) fn retry(message: impl Into<String>) -> Self {
        Self::Retry { message: message.into(), after: None }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Statement(error) => error.fmt(f),
            Self::Retry { message, .. }
            | Self::Unknown(message)
            | Self::Reopen(message)
            | Self::Superseded(message)
            | Self::Uncommitted(message)
            | Self::Unauthorized(message)
            | Self::Missing(message)
            | Self::TooLarge(message)
            | Self::Confused(message) => f.write_str(message),
        }
    }
}

impl fmt::Display for StatementError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (code {}, SQLSTATE {}", self.message, self.code, self.state)?;
        match self.handle.as_str() {
            "" => f.write_str(")"),
            handle => write!(f, ", query {handle})"),
        }
    }
}

impl std::error::Error for Error {}

impl From<tokio::task::JoinError> for Error {
    fn from(_: tokio::task::JoinError) -> Self {
        Self::retry("the agent is shutting down")
    }
}
