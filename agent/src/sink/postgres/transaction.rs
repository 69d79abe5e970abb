//! One batch, one transaction: the checkpoint's move, the rows, and COMMIT.
//!
//! A line of 60 ms costs 180 ms for a batch, whatever its size: (1) BEGIN with all that must hold before rows are sent,
//! and the preparing of the COPY behind it; (2) the COPY's beginning; (3) the rows, their end, and COMMIT behind it.
//!
//! The compare-and-set of the checkpoint is the first statement that does anything: it holds the row's lock until the
//! end, so that of two transactions with the same batch one waits, and then finds the row moved (Promise 3). Next the
//! table is locked against ALTER, and its columns are compared with those that the rows were encoded for: without that,
//! eight bytes of a `bigint` would be taken for a `double precision` without anyone noticing.
//!
//! The driver names every statement that it prepares, and a name must not outlive its transaction: behind a pooler the
//! next transaction is on another connection. It is closed when the last handle to it is dropped, so that is done before
//! COMMIT or ROLLBACK is sent; the order on the line is that of the calls.

use std::{future::Future, ops::Range, pin::pin};

use bytes::Bytes;
use futures_util::{SinkExt, future::join};
use tokio_postgres::{CopyInSink, Statement};

use super::{
    encode::Rows,
    target::{Target, fingerprint, read_fingerprint},
    upsert::{Meeting, STAGING, apply, create_staging, staged_columns},
};
use crate::client::postgres::{Class, Connection, Error, Identifier, ServerError, SimpleQueryMessage};

/// What the server takes in at once: it reads a message to its end before it looks at its rows.
const PIECE_BYTES: usize = 64 << 10;

/// How a transaction begins. `READ COMMITTED`, whatever the server's default is: under a stricter level the look at the
/// columns would show them as they were before we got the lock. The timeouts keep a transaction whose gateway is gone
/// from holding its locks: while it waits for a statement, while it waits for rows, and while it waits for another. All
/// end with the transaction, as nothing may be left behind in a connection that a pooler gives to someone else.
const BEGIN: [&str; 7] = [
    "BEGIN ISOLATION LEVEL READ COMMITTED",
    "SET LOCAL lock_timeout = '10s'",
    "SET LOCAL idle_in_transaction_session_timeout = '60s'",
    "SET LOCAL tcp_keepalives_idle = 10",
    "SET LOCAL tcp_keepalives_interval = 5",
    "SET LOCAL tcp_keepalives_count = 3",
    "SET LOCAL tcp_user_timeout = 15000",
];

/// Why nothing was committed, or nobody knows whether it was.
#[derive(Debug)]
pub(super) enum Failure {
    /// The checkpoint is not what it must be.
    Moved,
    /// The table's columns are not those that the rows were encoded for.
    Altered,
    /// The server refuses rows.
    Refused(ServerError),
    /// Anything else.
    Failed(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// A batch on its way.
pub(super) struct Transaction<'a> {
    pub(super) connection: &'a Connection,
    pub(super) target: &'a Target,
    /// `None`: rows are appended.
    pub(super) meeting: Option<Meeting>,
    /// The checkpoint's move: statements that must each change one row.
    pub(super) moves: &'a [String],
    pub(super) rows: &'a Rows,
}

impl Transaction<'_> {
    /// Commits all rows.
    pub(super) async fn commit(&self) -> Result<(), Failure> {
        if self.rows.len() == 0 {
            return self.commit_checkpoint().await;
        }
        let statement = self.begin("").await?;
        let copy = match self.connection.copy_in(statement).await {
            Ok(copy) => copy,
            Err(error) => return Err(self.failed(error).await),
        };
        // In a transaction that failed, COMMIT would be answered as if all were well: the statement before it is not, and
        // keeps COMMIT from being looked at.
        let end = match self.meeting {
            None => "SELECT 1; COMMIT".to_owned(),
            Some(meeting) => format!("{}; COMMIT", apply(self.target, meeting)),
        };
        let (copied, ended) = join(self.send(copy, 0..self.rows.len()), self.behind_rows(&end)).await;
        match copied.and(ended) {
            Ok(()) => Ok(()),
            Err(error) => Err(self.failed(error).await),
        }
    }

    /// Whether the columns are still those that the rows were encoded for.
    pub(super) async fn verify(&self) -> Result<(), Failure> {
        let answer = self.connection.simple(&fingerprint(&self.target.name)).await?;
        match read_fingerprint(&answer) {
            found if found == Some(&self.target.fingerprint) => Ok(()),
            _ => Err(Failure::Altered),
        }
    }

    /// Commits the checkpoint's move alone: all events of the batch were refused before.
    async fn commit_checkpoint(&self) -> Result<(), Failure> {
        let sql = [&BEGIN.map(str::to_owned), self.moves].concat().join(";");
        let answer = self.connection.simple(&sql).await;
        match answer {
            Ok(answer) if self.has_won(&answer) => Ok(self.keep().await?),
            Ok(_) => {
                self.roll_back().await?;
                Err(Failure::Moved)
            }
            // It is about the checkpoint's table, and so no refusal.
            Err(error) => {
                let _ = self.roll_back_after(&error).await;
                Err(Failure::Failed(error))
            }
        }
    }

    /// Begins, and prepares the COPY behind it. What is there when it returns is a transaction that has won the
    /// checkpoint, and holds a table whose columns are as they must be; and if it fails, none.
    pub(super) async fn begin(&self, more: &str) -> Result<Statement, Failure> {
        let table = &self.target.name;
        let lock = match self.meeting {
            Some(Meeting::Merge) => "SHARE ROW EXCLUSIVE",
            _ => "ROW EXCLUSIVE",
        };
        let mut sql = [&BEGIN.map(str::to_owned), self.moves].concat();
        sql.push(format!("LOCK TABLE ONLY {table} IN {lock} MODE"));
        sql.push(fingerprint(table));
        let copy = match self.meeting {
            None => format!("COPY {table} ({}) FROM STDIN (FORMAT binary)", self.target.column_list()),
            Some(_) => {
                sql.push(create_staging(self.target));
                format!("COPY {STAGING} ({}) FROM STDIN (FORMAT binary)", staged_columns(self.target))
            }
        };
        if !more.is_empty() {
            sql.push(more.to_owned());
        }
        let sql = sql.join(";");
        let prepared = self.connection.within(0, self.connection.client().prepare(&copy));
        let (begun, prepared) = join(self.connection.simple(&sql), prepared).await;
        let answer = match begun {
            Ok(answer) => answer,
            Err(error) => {
                drop(prepared);
                // What is wrong is what was said first.
                let _ = self.roll_back_after(&error).await;
                return Err(Failure::Failed(error));
            }
        };
        let failure = match (self.has_won(&answer), read_fingerprint(&answer)) {
            (false, _) => Failure::Moved,
            (true, found) if found != Some(&self.target.fingerprint) => Failure::Altered,
            (true, _) => match prepared {
                Ok(statement) => return Ok(statement),
                Err(error) => return Err(self.failed(error).await),
            },
        };
        drop(prepared);
        self.roll_back().await?;
        Err(failure)
    }

    /// Whether every statement of the checkpoint's move has changed one row.
    fn has_won(&self, answer: &[SimpleQueryMessage]) -> bool {
        let counts = answer.iter().filter_map(|message| match message {
            SimpleQueryMessage::CommandComplete(rows) => Some(*rows),
            _ => None,
        });
        let moved: Vec<_> = counts.skip(BEGIN.len()).take(self.moves.len()).collect();
        moved.len() == self.moves.len() && moved.iter().all(|rows| *rows == 1)
    }

    /// Sends some of the rows, and the end of the COPY.
    pub(super) fn send(
        &self,
        copy: CopyInSink<Bytes>,
        range: Range<usize>,
    ) -> impl Future<Output = Result<(), Error>> + Send + use<'_> {
        let pieces = self.rows.pieces(range);
        let size: usize = pieces.iter().map(Bytes::len).sum();
        self.connection.within(size as u64, async move {
            let mut copy = pin!(copy);
            for mut piece in pieces {
                while !piece.is_empty() {
                    copy.feed(piece.split_to(PIECE_BYTES.min(piece.len()))).await?;
                }
            }
            copy.finish().await.map(drop)
        })
    }

    /// Runs `sql` behind rows that are being sent.
    pub(super) async fn behind_rows(&self, sql: &str) -> Result<(), Error> {
        let size = self.rows.size_bytes() as u64;
        self.connection.within(size, self.connection.client().simple_query(sql)).await.map(drop)
    }

    /// What an error among rows means. The transaction is over when this returns.
    pub(super) async fn failed(&self, error: Error) -> Failure {
        let over = self.roll_back_after(&error).await;
        match (error, over) {
            (Error::Server(server), Ok(())) if self.may_be_rows(&server) => Failure::Refused(*server),
            // Nothing can be found out about rows any more.
            (Error::Server(server), Err(lost)) if self.may_be_rows(&server) => Failure::Failed(lost),
            // The index is gone.
            (Error::Server(server), _) if server.code == "42P10" && self.meeting == Some(Meeting::OnConflict) => {
                Failure::Altered
            }
            (error, _) => Failure::Failed(error),
        }
    }

    /// Whether the rows are to be tried in smaller runs.
    fn may_be_rows(&self, error: &ServerError) -> bool {
        error.class() == Class::Refusal || self.meet_twice(error)
    }

    /// Whether two rows of one statement met the same row of the target, which only one may, though their keys differ:
    /// by a trigger that changes them, or an index that sees no difference. One after the other, both may.
    pub(super) fn meet_twice(&self, error: &ServerError) -> bool {
        self.meeting.is_some() && error.code == "21000"
    }

    /// Ends the transaction after an error; if it cannot be asked for, by giving the connection up.
    async fn roll_back_after(&self, error: &Error) -> Result<(), Error> {
        let over = match error.keeps_connection() && !self.connection.is_closed() {
            true => self.roll_back().await,
            false => Err(error.clone()),
        };
        if over.is_err() {
            self.connection.give_up();
        }
        over
    }

    /// Makes all that was done count. Nothing may hold a statement of the transaction any more.
    pub(super) async fn keep(&self) -> Result<(), Error> {
        self.connection.simple("COMMIT").await.map(drop)
    }

    /// Ends the transaction with nothing done. Nothing may hold a statement of it any more.
    pub(super) async fn roll_back(&self) -> Result<(), Error> {
        self.connection.simple("ROLLBACK").await.map(drop)
    }

    /// The row that raised an error, where it is one that only a trigger raises: that is called for one row at a time.
    pub(super) fn raised_by(&self, error: &Error) -> Option<usize> {
        let server = error.server().filter(|server| server.code == "P0001")?;
        Some(server.copy_line(&self.copied_table())? - 1).filter(|row| *row < self.rows.len())
    }

    /// What the errors of a COPY call the table.
    pub(super) fn copied_table(&self) -> Identifier {
        match self.meeting {
            None => self.target.name.table.clone(),
            Some(_) => Identifier::new("forebay_staging").expect("it is a name"),
        }
    }
}
