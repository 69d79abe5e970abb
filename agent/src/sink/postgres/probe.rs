//! Finding the events that the server refuses, in a transaction that is rolled back at its end. Where it finds none, for
//! all that was wrong is that they came in one statement, they are all there, and it is committed.
//!
//! The rows are tried in runs behind savepoints, in order, each on top of those before it that were taken: of two rows
//! that cannot both be there, the later is refused. Where the server names the line at which a COPY failed, it is
//! believed only if all rows before it are taken without it (an error when a full buffer is written, such as a row
//! that is too large for its page, names the last line that was read); where it names none, as for a foreign key, which
//! is looked at when the statement ends, the run is halved.
//!
//! Constraints that are put off to COMMIT are looked at at once here, so each row must be right with those before it.

use std::time::{Duration, Instant};

use futures_util::future::join;
use tokio_postgres::Statement;

use super::{
    transaction::{Failure, Transaction},
    upsert::{STAGING, apply},
};
use crate::client::postgres::{Class, Error, ServerError};

/// After so long what was found is reported, and the rest is looked for when the batch comes again without it: a probe
/// holds the checkpoint's row.
const PATIENCE: Duration = Duration::from_secs(20);

const SAVEPOINT: &str = "SAVEPOINT forebay";
const KEEP: &str = "RELEASE SAVEPOINT forebay;SAVEPOINT forebay";
const UNDO: &str = "ROLLBACK TO SAVEPOINT forebay";

/// The rows that are refused, by their number, each with the reason; if there are none, the batch is committed. `first`
/// is how the batch as a whole failed.
pub(super) async fn probe(
    transaction: &Transaction<'_>,
    first: &ServerError,
) -> Result<Vec<(usize, ServerError)>, Failure> {
    let statement = transaction.begin(&format!("SET CONSTRAINTS ALL IMMEDIATE;{SAVEPOINT}")).await?;
    let outcome = search(transaction, &statement, first).await;
    drop(statement);
    let ended = match outcome {
        Ok(refused) if refused.is_empty() => transaction.keep().await.map(|()| refused),
        Ok(refused) => {
            transaction.roll_back().await?;
            return Ok(refused);
        }
        Err(error) => match transaction.failed(error).await {
            // A single row has met two others by itself.
            Failure::Refused(error) => return Err(Failure::Failed(Error::Server(Box::new(error)))),
            Failure::Failed(Error::Server(mut error)) => {
                // Its lines are those of a run.
                error.context = None;
                return Err(Failure::Failed(Error::Server(error)));
            }
            failure => return Err(failure),
        },
    };
    match ended {
        Ok(refused) => Ok(refused),
        Err(error) => Err(transaction.failed(error).await),
    }
}

async fn search(
    transaction: &Transaction<'_>,
    statement: &Statement,
    first: &ServerError,
) -> Result<Vec<(usize, ServerError)>, Error> {
    let (table, count, began) = (transaction.copied_table(), transaction.rows.len(), Instant::now());
    let mut refused = Vec::new();
    let mut run = first.copy_line(&table).unwrap_or(count).min(count);
    let mut suspect: Option<(usize, ServerError)> = None;
    let mut before = "";
    let mut at = 0;
    while at < count {
        if suspect.as_ref().is_some_and(|(row, _)| *row == at) {
            refused.extend(suspect.take());
            at += 1;
            continue;
        }
        if !refused.is_empty() && began.elapsed() > PATIENCE {
            break;
        }
        let end = suspect.as_ref().map_or(count.min(at + run), |(row, _)| *row);
        match attempt(transaction, statement, before, at..end).await {
            Ok(()) => {
                (at, before) = (end, KEEP);
                run = run.saturating_mul(2);
            }
            Err(Error::Server(error)) if transaction.meet_twice(&error) && end - at > 1 => {
                (before, run, suspect) = (UNDO, (end - at) / 2, None);
            }
            Err(Error::Server(error)) if error.class() == Class::Refusal => {
                before = UNDO;
                let line = error.copy_line(&table).filter(|line| at + line <= end);
                suspect = match line {
                    Some(line) => Some((at + line - 1, *error)),
                    None if end - at == 1 => Some((at, *error)),
                    None => None,
                };
                run = match line {
                    Some(line) => line.div_ceil(2),
                    None => ((end - at) / 2).max(1),
                };
            }
            Err(error) => return Err(error),
        }
    }
    Ok(refused)
}

/// Tries a run of rows, after `before` has dealt with what was tried last.
async fn attempt(
    transaction: &Transaction<'_>,
    statement: &Statement,
    before: &str,
    range: std::ops::Range<usize>,
) -> Result<(), Error> {
    let connection = transaction.connection;
    let started = connection.copy_in(statement.clone());
    let copy = if before.is_empty() {
        started.await?
    } else {
        let (dealt, started) = join(connection.simple(before), started).await;
        dealt?;
        started?
    };
    match transaction.meeting {
        None => transaction.send(copy, range).await,
        Some(meeting) => {
            let apply = format!("{};TRUNCATE {STAGING}", apply(transaction.target, meeting));
            let (copied, applied) = join(transaction.send(copy, range), transaction.behind_rows(&apply)).await;
            copied.and(applied)
        }
    }
}
