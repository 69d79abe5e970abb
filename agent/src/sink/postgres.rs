//! Rows in a table of Postgres, each event exactly once whatever happens to the process, the server or the line.
//!
//! Each batch is one transaction that also moves the checkpoint, which is a row in the same database, by compare-and-set
//! ([`transaction`]). So whether a COMMIT whose answer was lost has landed is what that row says, and that is what
//! [`Lane::resume`] reads. Events that the server refuses are found one by one ([`mod@probe`]); those that cannot be written
//! in the types of their columns are refused before they are sent ([`encode`]).
//!
//! There is one connection, and the lanes take turns at it: a gateway has no work for more, and a server with ten
//! thousand gateways has no room for them. What goes wrong on it closes it, for it may be in the middle of anything; the
//! next turn makes another.
//!
//! The server's `synchronous_commit` may be off: if it crashes then, rows are lost together with the checkpoint that
//! names them, and delivery resumes at the checkpoint that is left.

mod cell;
mod check;
mod decimal;
mod encode;
mod probe;
mod setup;
mod source;
mod target;
mod temporal;
mod transaction;
mod types;
mod upsert;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use forebay_buffer::{Checkpoint, clock::Clock};
use tokio::{sync::MutexGuard, task::spawn_blocking};

use self::{
    encode::Rows,
    probe::probe,
    target::{Target, Wanted},
    transaction::{Failure, Transaction},
    upsert::Meeting,
};
pub use self::{
    setup::{CHECKPOINT_PRIVILEGES, create_table, grant_temporary, table_privileges},
    source::{Mapping, default_mapping},
};
use crate::{
    client::postgres::{
        self as client, Class, Connection, Error, Identifier, Server, SimpleQueryMessage, StatusTable, TableName,
    },
    contract::{
        self, Batch, BatchLimits, BoxFuture, CheckpointKey, CheckpointMove, Destination, Finding, Lane, Local,
        PartitionId, Refusal, Resumed, Sink, SinkError, Upstream, upstream_offset,
    },
    progress::Progress,
};

/// How long to wait where the server does not let us in: whoever changes a password needs a moment.
const LOGIN_PAUSE: Duration = Duration::from_secs(5);
/// `MERGE` came with version 15.
const MERGE_SINCE: u32 = 150_000;
/// A table is looked at again so often for one batch, if it is altered again and again, before the batch waits.
const MAX_ALTERED: u32 = 3;

/// What the config says of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Where the server is.
    pub connection: client::Settings,
    /// The table that events go into.
    pub table: TableName,
    /// Its columns that are filled, and with what.
    pub mapping: Mapping,
    /// The columns whose values tell rows apart: a row with the same ones is replaced. Empty: rows are appended.
    pub key: Vec<Identifier>,
    /// Limits of one batch.
    pub batch: BatchLimits,
}

/// The sink. Its lanes share one connection, and take turns.
pub struct Postgres {
    shared: Arc<Shared>,
}

struct Shared {
    settings: Settings,
    agent_id: String,
    checkpoints: StatusTable,
    server: Server,
    progress: Arc<Progress>,
    /// `None` before the first turn, and after a failure.
    connection: tokio::sync::Mutex<Option<Connection>>,
    /// The table as it was when it was last looked at.
    target: Mutex<Option<Arc<Opened>>>,
}

/// A table that events can go into.
#[derive(Debug, PartialEq)]
struct Opened {
    target: Target,
    meeting: Option<Meeting>,
}

impl Postgres {
    /// Nothing is connected before the first lane resumes. Checkpoints are rows of the table `checkpoints` in the same
    /// database, under the name `agent_id`.
    pub fn new(
        settings: Settings,
        agent_id: &str,
        checkpoints: TableName,
        clock: Arc<dyn Clock>,
        progress: Arc<Progress>,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                server: Server::new(settings.connection.clone(), clock),
                settings,
                agent_id: agent_id.to_owned(),
                checkpoints: StatusTable { name: checkpoints, kept_by: contract::KeptBy::Sink },
                progress,
                connection: tokio::sync::Mutex::default(),
                target: Mutex::default(),
            }),
        }
    }
}

impl Settings {
    /// Where its events go, as checkpoints name it.
    pub fn target(&self) -> contract::Target {
        contract::Target {
            database: self.connection.database.clone(),
            schema: self.table.schema.as_str().to_owned(),
            table: self.table.table.as_str().to_owned(),
        }
    }
}

impl Sink for Postgres {
    fn lane(&self, partition: Arc<PartitionId>) -> Box<dyn Lane> {
        Box::new(PostgresLane { partition, shared: Arc::clone(&self.shared), former: None })
    }

    fn window_bytes(&self) -> u64 {
        self.shared.settings.batch.max_bytes as u64
    }

    fn batch_limits(&self) -> BatchLimits {
        self.shared.settings.batch
    }

    fn check(&self) -> BoxFuture<'_, Vec<Finding>> {
        Box::pin(check::check(&self.shared))
    }
}

/// The connection, for one lane and as long as it takes. Left without [`Turn::end`], also because a future was dropped
/// halfway, the connection is closed.
struct Turn<'a> {
    place: MutexGuard<'a, Option<Connection>>,
    connection: Connection,
}

impl Turn<'_> {
    /// Leaves the connection for the next.
    fn end(mut self) {
        *self.place = Some(self.connection);
    }
}

impl Shared {
    async fn turn(&self) -> Result<Turn<'_>, SinkError> {
        let mut place = self.connection.lock().await;
        let connection = match place.take().filter(|connection| !connection.is_closed()) {
            Some(connection) => connection,
            None => {
                // What the table looks like is another server's knowledge by now.
                self.set_target(None);
                self.server.connect().await.map_err(|error| self.failed("connecting", &error))?
            }
        };
        Ok(Turn { place, connection })
    }

    fn known_target(&self) -> Option<Arc<Opened>> {
        self.target.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_target(&self, target: Option<Arc<Opened>>) {
        *self.target.lock().unwrap_or_else(PoisonError::into_inner) = target;
    }

    fn wanted(&self) -> Wanted<'_> {
        let Settings { table, mapping, key, .. } = &self.settings;
        Wanted { table, mapping, key }
    }

    /// The table as it is, or as it was last seen.
    async fn opened(&self, connection: &Connection) -> Result<Arc<Opened>, SinkError> {
        match self.known_target() {
            Some(opened) => Ok(opened),
            None => self.open(connection).await,
        }
    }

    /// Looks at the table.
    async fn open(&self, connection: &Connection) -> Result<Arc<Opened>, SinkError> {
        let before = self.known_target();
        self.set_target(None);
        let wanted = self.wanted();
        let answer = connection.simple(&target::query(&wanted)).await;
        let answer = answer.map_err(|error| self.failed("looking at the table", &error))?;
        let target = Target::read(&wanted, &answer).map_err(SinkError::Stop)?;
        let meeting = self.meeting(&target, connection.server_version()).map_err(SinkError::Stop)?;
        let opened = Opened { target, meeting };
        // Rows that another lane has encoded meanwhile stay good if nothing has changed.
        let opened = before.filter(|before| **before == opened).unwrap_or_else(|| Arc::new(opened));
        self.set_target(Some(Arc::clone(&opened)));
        Ok(opened)
    }

    fn meeting(&self, target: &Target, server_version: u32) -> Result<Option<Meeting>, String> {
        match () {
            () if self.settings.key.is_empty() => Ok(None),
            () if target.has_unique_key => Ok(Some(Meeting::OnConflict)),
            () if server_version >= MERGE_SINCE => Ok(Some(Meeting::Merge)),
            () => Err(format!(
                "{} has no unique index on exactly the key, and this server has no MERGE (that came with version 15): run \
                 CREATE UNIQUE INDEX ON {} ({})",
                target.name,
                target.name,
                setup::list(&self.settings.key),
            )),
        }
    }

    /// What an error means that is not about rows.
    fn failed(&self, doing: &str, error: &Error) -> SinkError {
        let (class, table) = (error.class(), &self.settings.table);
        let mut message = match doing {
            "connecting" => error.to_string(),
            _ => format!("{doing} ({table}): {error}"),
        };
        if let Some(advice) = advice(error, class) {
            // What the server says may be a sentence, or none.
            message.truncate(message.trim_end_matches('.').len());
            message = format!("{message}. {advice}");
        }
        match class {
            Class::Reconnect => SinkError::Reconnect(message),
            Class::Retry => SinkError::Retry { message, after: None },
            Class::Login => SinkError::Retry { message, after: Some(LOGIN_PAUSE) },
            Class::Stop | Class::Refusal => SinkError::Stop(message),
        }
    }
}

/// What an operator can do about an error.
fn advice(error: &Error, class: Class) -> Option<&'static str> {
    let server = error.server();
    match (server.map(|error| error.code.as_str()).unwrap_or_default(), class) {
        _ if server.is_some_and(client::ServerError::lacks_partition) => {
            Some("Create the partition, or a default one: the stream waits for it")
        }
        ("P0001", _) => Some("A trigger or a function raised it, and may not the next time: the stream waits for that"),
        ("42501", _) => Some("Run `forebay check --connect`: it says what to GRANT; then reload or restart the agent"),
        ("42P01" | "3F000", _) => {
            Some("Run `forebay setup`, which creates what is not there; then reload or restart the agent")
        }
        ("3D000", _) => Some("Create the database, or name another; then reload or restart the agent"),
        ("0A000", _) => Some(
            "If the table has row-level security, give the agent's role BYPASSRLS; then reload or restart the agent",
        ),
        (_, Class::Stop | Class::Refusal) => {
            Some("Run `forebay check --connect` to see what does not fit; mend it, and reload or restart the agent")
        }
        _ => None,
    }
}

struct PostgresLane {
    partition: Arc<PartitionId>,
    shared: Arc<Shared>,
    /// The checkpoint in the row under the stream's former name, while there is none under its present one.
    former: Option<Checkpoint>,
}

impl Lane for PostgresLane {
    fn resume(&mut self, _local: Local) -> BoxFuture<'_, Result<Resumed, SinkError>> {
        Box::pin(async {
            let shared = Arc::clone(&self.shared);
            let turn = shared.turn().await?;
            let found = self.look(&turn.connection).await?;
            shared.open(&turn.connection).await?;
            turn.end();
            Ok(found.map_or(Destination::Nothing, Destination::At).into())
        })
    }

    fn deliver(&mut self, batch: Arc<Batch>) -> BoxFuture<'_, Result<contract::Progress, SinkError>> {
        Box::pin(async move {
            let refusals = self.commit(&batch).await?;
            let confirmed = if refusals.is_empty() {
                self.former = None;
                Some(batch.through)
            } else {
                None
            };
            Ok(contract::Progress { confirmed, refusals, note: None })
        })
    }

    fn settle(&mut self) -> BoxFuture<'_, Result<contract::Progress, SinkError>> {
        // All is confirmed as it is delivered, so there is never anything to wait for.
        Box::pin(std::future::pending())
    }
}

impl PostgresLane {
    fn key(&self) -> CheckpointKey {
        CheckpointKey::new(&self.shared.agent_id, &self.partition, &self.shared.settings.target())
    }

    fn former_key(&self) -> Option<CheckpointKey> {
        self.key().former(&self.partition)
    }

    /// The checkpoint: of the present name, else of the former one.
    async fn look(&mut self, connection: &Connection) -> Result<Option<Checkpoint>, SinkError> {
        self.former = None;
        let found = self.look_under(connection, &self.key()).await?;
        match (found, self.former_key()) {
            (None, Some(former)) => {
                self.former = self.look_under(connection, &former).await?;
                Ok(self.former)
            }
            (found, _) => Ok(found),
        }
    }

    async fn look_under(&self, connection: &Connection, key: &CheckpointKey) -> Result<Option<Checkpoint>, SinkError> {
        let table = &self.shared.checkpoints;
        let sql = format!("SELECT pg_catalog.pg_is_in_recovery();{}", table.select(key));
        let answer = connection.simple(&sql).await;
        let answer = answer.map_err(|error| self.shared.failed("reading the checkpoint", &error))?;
        let is_end = |message: &SimpleQueryMessage| matches!(message, SimpleQueryMessage::CommandComplete(_));
        let first = answer.iter().position(is_end).map_or(0, |at| at + 1);
        let (recovery, answer) = answer.split_at(first);
        let is_true =
            |message: &SimpleQueryMessage| matches!(message, SimpleQueryMessage::Row(row) if row.get(0) == Some("t"));
        if recovery.iter().any(is_true) {
            // What it has may be old, and would look as if the destination had gone back.
            return Err(SinkError::Retry {
                message: format!("{} is a standby: waiting for the primary", self.shared.settings.connection.place()),
                after: None,
            });
        }
        let Some(stored) = table.read(key, answer).map_err(SinkError::Stop)? else { return Ok(None) };
        stored.checkpoint().map(Some).ok_or_else(|| {
            SinkError::Stop(format!(
                "the checkpoint of {key} in {} is at {}, and has no generation: another program wrote it, and it cannot be \
                 told which events here it stands for. If that program is gone and this one should begin with what is \
                 in its buffer, delete the row, and reload or restart the agent",
                table.name, stored.waterlevel,
            ))
        })
    }

    /// The statements that move the checkpoint. Each must change one row.
    fn moves(&self, batch: &Batch) -> Vec<String> {
        let table = &self.shared.checkpoints;
        let upstream = self.partition.hub.as_ref().map(|hub| Upstream {
            consumer_group: hub.consumer_group.clone(),
            offset: batch.events.last().and_then(|(_, last)| upstream_offset(last)).map(str::to_owned),
        });
        let moved = |from| {
            let (key, to, upstream) = (self.key(), batch.through, upstream.clone());
            table.compare_and_set(&CheckpointMove { key, from, to, upstream })
        };
        match (self.former, self.former_key()) {
            (Some(former), Some(key)) if batch.expected == Some(former) => {
                vec![moved(None), table.delete(&key, former)]
            }
            _ => vec![moved(batch.expected)],
        }
    }

    /// Commits `batch`, or says which of its events are refused: then nothing is committed.
    async fn commit(&self, batch: &Arc<Batch>) -> Result<Vec<Refusal>, SinkError> {
        let moves = self.moves(batch);
        // Where the table is known, this needs no turn.
        let mut encoded = match self.shared.known_target() {
            Some(opened) => Some((self.encode(&opened, batch).await?, opened)),
            None => None,
        };
        let turn = self.shared.turn().await?;
        for _ in 0..MAX_ALTERED {
            let opened = self.shared.opened(&turn.connection).await?;
            let rows = match encoded.take() {
                Some((rows, with)) if Arc::ptr_eq(&with, &opened) => rows,
                _ => self.encode(&opened, batch).await?,
            };
            let transaction = Transaction {
                connection: &turn.connection,
                target: &opened.target,
                meeting: opened.meeting,
                moves: &moves,
                rows: &rows,
            };
            match deliver(&transaction).await {
                Ok(refusals) => {
                    turn.end();
                    return Ok(refusals);
                }
                Err(Failure::Altered) => drop(self.shared.open(&turn.connection).await?),
                Err(Failure::Moved) => {
                    turn.end();
                    return Err(SinkError::Reconnect(format!(
                        "the checkpoint of {} is not what it was: another writer has moved it, or our own last COMMIT \
                         has landed after all; asking it again",
                        self.key()
                    )));
                }
                Err(Failure::Refused(error)) => {
                    let message = format!(
                        "writing to {}: all events are taken, and COMMIT is refused ({error})",
                        self.shared.settings.table
                    );
                    turn.end();
                    return Err(SinkError::Retry { message, after: None });
                }
                Err(Failure::Failed(error)) => {
                    let doing = match transaction.raised_by(&error).map(|row| rows.offset(row)) {
                        Some(offset) => format!("writing the event at offset {}", offset.0),
                        None => "writing".to_owned(),
                    };
                    // The other lanes need not suffer for it where the transaction has come to a good end.
                    if error.keeps_connection() {
                        turn.end();
                    }
                    return Err(self.shared.failed(&doing, &error));
                }
            }
        }
        let message = format!("{} is being altered again and again; waiting", self.shared.settings.table);
        Err(SinkError::Retry { message, after: None })
    }

    /// The rows of a batch, made on a thread where that holds up nobody.
    async fn encode(&self, opened: &Arc<Opened>, batch: &Arc<Batch>) -> Result<Rows, SinkError> {
        let (opened, batch, partition) = (Arc::clone(opened), Arc::clone(batch), Arc::clone(&self.partition));
        let progress = Arc::clone(&self.shared.progress);
        let encoding = spawn_blocking(move || {
            let _working = progress.working();
            opened.target.encoder.encode(&partition, &batch)
        });
        match encoding.await {
            Ok(rows) => Ok(rows),
            Err(failed) if failed.is_panic() => std::panic::resume_unwind(failed.into_panic()),
            Err(_) => Err(SinkError::Reconnect("the agent is shutting down".to_owned())),
        }
    }
}

/// Commits, or finds out which events are refused: if there are any, nothing is committed.
async fn deliver(transaction: &Transaction<'_>) -> Result<Vec<Refusal>, Failure> {
    let rows = transaction.rows;
    if !rows.refusals.is_empty() {
        // They were refused for the types that the columns had when they were last looked at.
        transaction.verify().await?;
        return Ok(rows.refusals.clone());
    }
    let error = match transaction.commit().await {
        Ok(()) => return Ok(Vec::new()),
        Err(Failure::Refused(error)) => error,
        Err(failure) => return Err(failure),
    };
    let refused = probe(transaction, &error).await?;
    let refusal = |(row, error): (usize, client::ServerError)| {
        let offset = rows.offset(row);
        let column = error.column().map(|column| format!(" (column \"{column}\")")).unwrap_or_default();
        let detail = error.detail.as_ref().map(|detail| format!(": {detail}")).unwrap_or_default();
        Refusal { offset, reason: format!("{}{column}{detail}", error.message), code: error.code }
    };
    Ok(refused.into_iter().map(refusal).collect())
}
