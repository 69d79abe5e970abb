//! Why the agent ended, or did not start.

use std::{fmt, io};

use forebay_buffer::{Error, OpenError};

/// Why the agent cannot go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentError {
    /// What kind of error it is.
    pub kind: Kind,
    /// What was being done, to what, and what to do about it.
    pub message: String,
}

/// What can be done about an [`AgentError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Something must be mended first.
    Failed,
    /// The config must be changed.
    Config,
    /// It may work later.
    Temporary,
}

impl Kind {
    /// The exit code that stands for it: sysexits.h, where it has one.
    pub fn code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Config => 2,
            Self::Temporary => 75,
        }
    }
}

impl AgentError {
    /// The config must be changed.
    pub fn config(message: impl Into<String>) -> Self {
        Self { kind: Kind::Config, message: message.into() }
    }

    /// Something must be mended first.
    pub fn failed(message: impl Into<String>) -> Self {
        Self { kind: Kind::Failed, message: message.into() }
    }

    /// It may work later.
    pub fn temporary(message: impl Into<String>) -> Self {
        Self { kind: Kind::Temporary, message: message.into() }
    }
}

impl fmt::Display for AgentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for AgentError {}

impl From<OpenError> for AgentError {
    fn from(error: OpenError) -> Self {
        let text = error.to_string();
        match error {
            OpenError::InUse { .. } => Self::temporary(text),
            OpenError::Unfit(_) => Self::config(text),
            OpenError::NotABuffer { .. } | OpenError::Newer { .. } | OpenError::Damaged { .. } => Self::failed(text),
            OpenError::Io { error, .. } => from_io(&error, text),
            // "database or disk is full" (SQLITE_FULL).
            OpenError::Sqlite { .. } if text.contains("disk is full") => Self::temporary(format!("{text}: {ROOM}")),
            // "attempt to write a readonly database", "unable to open database file".
            OpenError::Sqlite { .. } if text.contains("readonly") || text.contains("unable to open") => {
                Self::failed(format!("{text}: {PERMISSION}"))
            }
            OpenError::Sqlite { .. } => Self::failed(text),
        }
    }
}

/// What to do where the file system says no.
const PERMISSION: &str =
    "the directory and its files must be writable for the user that forebay runs as, and their file system too";

/// What to do where it is full.
const ROOM: &str = "make room on that disk";

fn from_io(error: &io::Error, text: String) -> AgentError {
    match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            AgentError::failed(format!("{text}: {PERMISSION}"))
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => AgentError::temporary(format!("{text}: {ROOM}")),
        _ => AgentError::failed(text),
    }
}

impl AgentError {
    /// An error of the file system while `doing` something.
    pub fn io(doing: impl fmt::Display, error: &io::Error) -> Self {
        from_io(error, format!("{doing}: {error}"))
    }

    /// An error of the open buffer while `doing` something.
    pub fn buffer(doing: impl fmt::Display, error: &Error) -> Self {
        let text = format!("{doing}: {error}");
        match error {
            Error::Refused(_) | Error::TooLarge(_) | Error::Unknown(_) => Self::config(text),
            Error::Full(_) => Self::temporary(text),
            Error::Damaged(_) | Error::Failed(_) | Error::Closed => Self::failed(text),
        }
    }
}
