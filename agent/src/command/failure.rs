//! How a command ends when it does not end well: a message on standard error, and an exit code.

use std::{fmt, io, process::ExitCode};

/// What every command returns.
pub(super) type Outcome<T = ()> = Result<T, Failure>;

/// Why a command did not do what was asked.
#[derive(Debug)]
pub(super) struct Failure {
    kind: Kind,
    message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Nobody reads on (`forebay peek x | head`): no failure at all.
    Unread,
    /// 1.
    Failed,
    /// 2: bad usage, or a bad config.
    Usage,
    /// 75, `EX_TEMPFAIL` of sysexits.h: the same again may work later.
    Temporary,
}

impl Failure {
    /// It failed, and would fail again.
    pub(super) fn failed(message: impl fmt::Display) -> Self {
        Self { kind: Kind::Failed, message: message.to_string() }
    }

    /// It was asked for wrongly: bad usage or a bad config.
    pub(super) fn usage(message: impl fmt::Display) -> Self {
        Self { kind: Kind::Usage, message: message.to_string() }
    }

    /// It may work later.
    pub(super) fn temporary(message: impl fmt::Display) -> Self {
        Self { kind: Kind::Temporary, message: message.to_string() }
    }

    /// The exit code that stands for it.
    pub(super) fn code(&self) -> u8 {
        match self.kind {
            Kind::Unread => 0,
            Kind::Failed => 1,
            Kind::Usage => 2,
            Kind::Temporary => 75,
        }
    }

    /// Whether the same again may work later.
    pub(super) fn is_temporary(&self) -> bool {
        self.kind == Kind::Temporary
    }

    /// The failure that an exit code stands for, as another process reported it.
    pub(super) fn with_code(code: u8, message: impl fmt::Display) -> Self {
        let kind = match code {
            2 => Kind::Usage,
            75 => Kind::Temporary,
            _ => Kind::Failed,
        };
        Self { kind, message: message.to_string() }
    }

    /// Says it, and ends the program with it.
    pub(super) fn report(self) -> ExitCode {
        if !self.message.is_empty() {
            eprintln!("{}", self.message.trim_end());
        }
        ExitCode::from(self.code())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Errors of writing to standard output.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self { kind: Kind::Unread, message: String::new() },
            _ => Self::failed(format_args!("cannot write to standard output: {error}")),
        }
    }
}
