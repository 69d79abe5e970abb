//! What goes wrong, and what follows from it: one table of the server's codes.

use std::{error::Error as _, fmt, io};

use super::Identifier;
use crate::tls::client::explain;

/// An error of the server's, or on the way to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// The server has answered with an error.
    Server(Box<ServerError>),
    /// The connection is gone, or was never there.
    Lost(String),
    /// The server has no TLS, or both sides could not agree on it.
    Handshake(String),
    /// Both sides could not agree on who they are.
    Login(String),
    /// The request could not be made, or the server is none that is supported.
    Confused(String),
}

/// What the server says (the fields of an ErrorResponse: PostgreSQL documentation, section "Error and Notice Message
/// Fields").
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServerError {
    /// The SQLSTATE: five letters and digits.
    pub code: String,
    /// What is wrong.
    pub message: String,
    /// More of it. May quote the values of a row.
    pub detail: Option<String>,
    /// What the server advises.
    pub hint: Option<String>,
    /// The column, where it is about one.
    pub column: Option<String>,
    /// The constraint, where it is about one.
    pub constraint: Option<String>,
    /// The table, where it is about one.
    pub table: Option<String>,
    /// Where it happened: for COPY, `COPY t, line 3, column x`.
    pub context: Option<String>,
    /// The function of the server's source that raised it: unlike the message, it is the same in every language.
    pub routine: Option<String>,
    /// Whether the server closes the connection after it.
    pub is_fatal: bool,
}

/// What to do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// The server will never take this row: it is a refusal if it came of rows.
    Refusal,
    /// Try again: the server is busy, or short of something, or it is not known to be final.
    Retry,
    /// Try again on another connection.
    Reconnect,
    /// Try again after some seconds: the server does not let us in, and passwords and certificates are changed.
    Login,
    /// Only an operator can mend it.
    Stop,
}

/// Codes and classes of codes (PostgreSQL documentation, appendix "PostgreSQL Error Codes"), the first that fits. What
/// is not here is tried again: an error that is not known to be final is not.
const CLASSES: [(&str, Class); 21] = [
    // A statement that is not there, or there already: some pooler gave us another session's connection.
    ("26000", Class::Reconnect),
    ("42P05", Class::Reconnect),
    // The server ended the session: it was idle in a transaction, or the transaction took too long.
    ("25P03", Class::Reconnect),
    ("25P04", Class::Reconnect),
    // The server takes no writes: another one may be the primary by now.
    ("25006", Class::Reconnect),
    // Cancelled by an operator, or a timeout.
    ("57014", Class::Retry),
    // A row that is too large for an index.
    ("54000", Class::Refusal),
    ("08", Class::Reconnect),
    ("0A", Class::Stop),
    ("22", Class::Refusal),
    ("23", Class::Refusal),
    ("25", Class::Retry),
    ("28", Class::Login),
    ("3D", Class::Stop),
    ("3F", Class::Stop),
    ("40", Class::Retry),
    ("42", Class::Stop),
    // A row that a view's CHECK OPTION does not let in.
    ("44", Class::Refusal),
    ("53", Class::Retry),
    ("55", Class::Retry),
    ("57", Class::Reconnect),
];

impl Class {
    /// Of a SQLSTATE.
    pub fn of(code: &str) -> Self {
        CLASSES.iter().find(|(prefix, _)| code.starts_with(prefix)).map_or(Self::Retry, |(_, class)| *class)
    }
}

impl Error {
    /// What to do about it.
    pub fn class(&self) -> Class {
        match self {
            Self::Server(error) => error.class(),
            Self::Lost(_) => Class::Reconnect,
            Self::Handshake(_) | Self::Login(_) => Class::Login,
            Self::Confused(_) => Class::Stop,
        }
    }

    /// What the server says, if it is the server that says something.
    pub fn server(&self) -> Option<&ServerError> {
        match self {
            Self::Server(error) => Some(error),
            _ => None,
        }
    }

    /// Whether the connection may be used on: the server has answered, and will answer again.
    pub fn keeps_connection(&self) -> bool {
        self.server().is_some_and(|error| !error.is_fatal && self.class() != Class::Reconnect)
    }
}

impl ServerError {
    /// What to do about it. The code alone does not tell a row that breaks a rule from one whose partition is not there
    /// yet (`ExecFindPartition` in `src/backend/executor/execPartition.c`): the same row is taken once it is.
    pub fn class(&self) -> Class {
        if self.lacks_partition() { Class::Retry } else { Class::of(&self.code) }
    }

    /// Whether it is that no partition of the table is for such rows.
    pub fn lacks_partition(&self) -> bool {
        self.code == "23514" && self.routine.as_deref() == Some("ExecFindPartition")
    }

    /// The line of a binary COPY into `table`, counted from 1, that the error is about. `None` too where the server's
    /// `lc_messages` has it in another language.
    pub fn copy_line(&self, table: &Identifier) -> Option<usize> {
        let rest = self.context.as_deref()?.lines().last()?.strip_prefix("COPY ")?.strip_prefix(table.as_str())?;
        let line = rest.strip_prefix(", line ")?;
        // Nothing else may follow, so that no value that is quoted in a context can pass for one.
        let digits = line.split_once(", column ").map_or(line, |(digits, _)| digits);
        digits.parse().ok().filter(|line| *line > 0)
    }

    /// The column that it is about, named by the error itself or by the COPY.
    pub fn column(&self) -> Option<&str> {
        self.column.as_deref().or_else(|| {
            let context = self.context.as_deref()?.lines().last()?;
            Some(context.strip_prefix("COPY ")?.rsplit_once(", column ")?.1)
        })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server(error) => error.fmt(f),
            Self::Lost(message) | Self::Handshake(message) | Self::Login(message) | Self::Confused(message) => {
                f.write_str(message)
            }
        }
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (SQLSTATE {})", self.message, self.code)?;
        for more in [&self.detail, &self.hint].into_iter().flatten() {
            write!(f, "; {more}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

impl From<&tokio_postgres::error::DbError> for ServerError {
    fn from(error: &tokio_postgres::error::DbError) -> Self {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        Self {
            code: error.code().code().to_owned(),
            message: error.message().to_owned(),
            detail: owned(error.detail()),
            hint: owned(error.hint()),
            column: owned(error.column()),
            constraint: owned(error.constraint()),
            table: owned(error.table()),
            context: owned(error.where_()),
            routine: owned(error.routine()),
            is_fatal: matches!(
                error.parsed_severity(),
                Some(tokio_postgres::error::Severity::Fatal | tokio_postgres::error::Severity::Panic)
            ),
        }
    }
}

impl From<tokio_postgres::Error> for Error {
    fn from(error: tokio_postgres::Error) -> Self {
        if let Some(server) = error.as_db_error() {
            return Self::Server(Box::new(server.into()));
        }
        let message = chain(&error);
        let io = error.source().and_then(|source| source.downcast_ref::<io::Error>());
        // The library says its kind in words only.
        let is_handshake = message.starts_with("error performing TLS handshake");
        match io {
            Some(io) if is_tls(io) && is_handshake => Self::Handshake(explain(io)),
            Some(io) if is_tls(io) => Self::Login(explain(io)),
            // It was never sent.
            _ if message.starts_with("error encoding") => Self::Confused(message),
            None if is_handshake => Self::Handshake(message),
            None if ["authenti", "invalid configuration"].iter().any(|word| message.contains(word)) => {
                Self::Login(message)
            }
            // An answer that makes no sense is a line that is out of step: a new one is not.
            _ => Self::Lost(message),
        }
    }
}

/// Whether it was TLS, and not the line below it.
fn is_tls(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<tokio_rustls::rustls::Error>())
}

/// An error with all that it came of.
fn chain(error: &tokio_postgres::Error) -> String {
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        if !message.contains(&text) {
            message = format!("{message}: {text}");
        }
        source = cause.source();
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_classes_of_codes_are_those_of_the_design() {
        let table: [(&[&str], Class); 5] = [
            (
                &["22P02", "22003", "22P03", "23502", "23505", "23514", "23503", "23P01", "44000", "54000"],
                Class::Refusal,
            ),
            (&["40001", "40P01", "53100", "53300", "55P03", "57014", "25001", "XX000", "P0001", "54001"], Class::Retry),
            (&["08006", "08P01", "57P01", "57P02", "57P03", "25006", "25P03", "26000", "42P05"], Class::Reconnect),
            (&["28P01", "28000"], Class::Login),
            (&["42501", "42P01", "42703", "3D000", "3F000", "0A000"], Class::Stop),
        ];
        for (codes, class) in table {
            for code in codes {
                assert_eq!(Class::of(code), class, "{code}");
            }
        }
    }

    #[test]
    fn no_entry_of_the_table_is_hidden_by_one_before_it() {
        for (at, (prefix, _)) in CLASSES.iter().enumerate() {
            let hides = CLASSES[..at].iter().find(|(earlier, _)| prefix.starts_with(earlier));
            assert_eq!(hides, None, "{prefix}");
        }
    }

    #[test]
    fn a_partition_that_is_missing_is_waited_for_and_a_rule_that_is_broken_is_not() {
        let of = |routine: Option<&str>, constraint: Option<&str>| {
            let owned = |text: Option<&str>| text.map(str::to_owned);
            let (routine, constraint) = (owned(routine), owned(constraint));
            ServerError { code: "23514".into(), routine, constraint, ..ServerError::default() }.class()
        };
        assert_eq!(of(Some("ExecFindPartition"), None), Class::Retry);
        assert_eq!(of(Some("ExecConstraints"), Some("t_v_check")), Class::Refusal);
        assert_eq!(of(Some("exec_stmt_raise"), None), Class::Refusal, "a trigger says what it likes");
        assert_eq!(of(None, None), Class::Refusal);
    }

    fn with_context(context: &str) -> ServerError {
        ServerError { context: Some(context.to_owned()), ..ServerError::default() }
    }

    #[test]
    fn the_line_and_the_column_are_read_from_the_context_of_a_copy() {
        let shown = |context: &str| {
            let error = with_context(context);
            let table = Identifier::new("t, line 5").expect("a name");
            (error.copy_line(&table), error.column().map(str::to_owned))
        };
        assert_eq!(shown("COPY t, line 5, line 12, column a b"), (Some(12), Some("a b".to_owned())));
        assert_eq!(shown("COPY t, line 5, line 7"), (Some(7), None));
        assert_eq!(shown("PL/pgSQL function f() line 9 at RAISE\nCOPY t, line 5, line 2"), (Some(2), None));
        for other in
            ["SQL statement \"SELECT 1\"", "COPY t, line 5, line 0", "COPY t, line 5", "COPY u, line 5, line 1"]
        {
            assert_eq!(shown(other).0, None, "{other}");
        }
        assert_eq!(shown("SQL statement \"x\nCOPY t, line 5, line 7\"").0, None, "a value passes for a line");
    }
}
