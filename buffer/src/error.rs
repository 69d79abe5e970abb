//! What can go wrong, by operation: opening, appending, and everything else.

use std::{fmt, io, path::PathBuf};

use rusqlite::ErrorCode;

use crate::append::Encoded;

/// Why a file could not be opened. Nothing of it was changed.
#[derive(Debug)]
pub enum OpenError {
    /// Another process has the file open for writing.
    InUse {
        /// The buffer file.
        path: PathBuf,
        /// Who holds it, if the lock file says.
        pid: Option<u32>,
    },
    /// There is a file, and it is not a buffer.
    NotABuffer {
        /// The file.
        path: PathBuf,
        /// What it looks like.
        found: String,
    },
    /// A later version of this crate wrote the file.
    Newer {
        /// The buffer file.
        path: PathBuf,
        /// The version of its schema.
        found: u32,
        /// The latest version known here.
        known: u32,
    },
    /// The options contradict each other or the machine.
    Unfit(String),
    /// The file is damaged. A writable opening salvages it; a read-only one says this.
    Damaged {
        /// The buffer file.
        path: PathBuf,
        /// What was found.
        found: String,
    },
    /// The operating system said no.
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What was being done.
        doing: &'static str,
        /// What it said.
        error: io::Error,
    },
    /// SQLite said no.
    Sqlite {
        /// The buffer file.
        path: PathBuf,
        /// What was being done.
        doing: &'static str,
        /// What it said.
        error: rusqlite::Error,
    },
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse { path, pid } => {
                write!(f, "the buffer {} is in use by another process", path.display())?;
                pid.map_or(Ok(()), |pid| write!(f, " (pid {pid})"))?;
                f.write_str(": stop that one first, or give this one a data_dir of its own")
            }
            Self::NotABuffer { path, found } => write!(
                f,
                "{} is not a Forebay buffer ({found}): it was left as it is. Move it away, or name another path",
                path.display()
            ),
            Self::Newer { path, found, known } => write!(
                f,
                "the buffer {} was written by a later version (schema {found}, known here up to {known}): \
                 install that version or a newer one",
                path.display()
            ),
            Self::Unfit(why) => f.write_str(why),
            Self::Damaged { path, found } => write!(
                f,
                "the buffer {} is damaged ({found}): `forebay buffer salvage` keeps what can be read",
                path.display()
            ),
            Self::Io { path, doing, error } => write!(f, "{doing} {}: {error}", path.display()),
            Self::Sqlite { path, doing, error } => write!(f, "{doing} {}: {error}", path.display()),
        }
    }
}

impl std::error::Error for OpenError {}

/// Why a command or a read failed. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// There is no stream, sink, partition or dead letter of that name.
    Unknown(String),
    /// What was asked for contradicts what is there.
    Refused(String),
    /// A batch is larger than what its stream, or the file, may ever hold.
    TooLarge(String),
    /// The file is damaged: close it and open it again, which salvages it.
    Damaged(String),
    /// The disk, or the file's quota, is full.
    Full(String),
    /// The operating system or SQLite said no.
    Failed(String),
    /// The buffer was closed.
    Closed,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(what) => write!(f, "there is no {what}"),
            Self::Refused(why) | Self::TooLarge(why) => f.write_str(why),
            Self::Damaged(found) => write!(f, "the buffer is damaged: {found}"),
            Self::Full(why) => write!(f, "the buffer is full: {why}"),
            Self::Failed(why) => write!(f, "the buffer could not be read or written: {why}"),
            Self::Closed => f.write_str("the buffer is closed"),
        }
    }
}

impl std::error::Error for Error {}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Damaged(error.to_string()),
            Some(ErrorCode::DiskFull) => Self::Full("the disk is full".to_owned()),
            // A column of another type than was written there can only be damage.
            None if !matches!(error, rusqlite::Error::QueryReturnedNoRows) => Self::Damaged(error.to_string()),
            _ => Self::Failed(error.to_string()),
        }
    }
}

/// Why a batch was not appended. Nothing of it was kept.
#[derive(Debug)]
pub enum AppendError {
    /// The buffer holds producers back. The same batch may be appended again later, without encoding it again.
    Full(Box<Encoded>),
    /// It could not be written.
    Failed(Error),
}

impl fmt::Display for AppendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(_) => f.write_str("the buffer is full and holds producers back"),
            Self::Failed(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for AppendError {}
