//! A database: rows and checkpoints in one transaction, whose first statement is a compare-and-set.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use forebay::contract::{
    Batch, BatchLimits, BoxFuture, Destination, Lane, Local, PartitionId, Progress, Refusal, Resumed, Sink, SinkError,
};
use forebay_buffer::{Checkpoint, Offset};

use super::{Key, Row, Watched, may_replace, rows_of};

/// What goes wrong with a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The connection breaks before anything has happened.
    Broken,
    /// The transaction commits, and the reply to COMMIT is lost.
    ReplyLost,
    /// The reply to COMMIT is lost, and the transaction is still running: it commits at [`Database::land`], if its
    /// compare-and-set holds then, or right before the next one.
    LandsLater,
    /// The transaction never ends. Its future must be dropped.
    Hangs,
    /// The server asks to be left alone.
    Busy(Duration),
    /// The server says that another owner has the partition.
    Fenced,
}

/// The database. Clones are the same one.
#[derive(Debug, Clone)]
pub struct Database(Arc<Watched<Tables>>);

#[derive(Debug, Clone, Default)]
struct Tables {
    rows: Vec<Row>,
    checkpoints: BTreeMap<Key, Checkpoint>,
    /// Bodies that no row may have.
    forbidden: BTreeSet<String>,
    faults: VecDeque<Fault>,
    running: Vec<Transaction>,
    resumes: u64,
    deliveries: u64,
    offline: bool,
    /// Whether what stands before a refusal is committed, or rolled back with it.
    keeps_prefix: bool,
}

#[derive(Debug, Clone)]
struct Transaction {
    key: Key,
    expected: Option<Checkpoint>,
    next: Checkpoint,
    rows: Vec<Row>,
}

/// What a database held at one time: what a failover or a restore goes back to.
#[derive(Debug, Clone)]
pub struct Snapshot {
    rows: Vec<Row>,
    checkpoints: BTreeMap<Key, Checkpoint>,
}

impl Default for Database {
    fn default() -> Self {
        Self(Arc::new(Watched::new(Tables { keeps_prefix: true, ..Tables::default() })))
    }
}

impl Database {
    /// A sink into it.
    pub fn sink(&self, max_events: usize) -> Arc<dyn Sink> {
        Arc::new(TransactionalSink { database: self.clone(), max_events })
    }

    /// All rows, in the order in which they were committed.
    pub fn rows(&self) -> Vec<Row> {
        self.0.look(|tables| tables.rows.clone())
    }

    /// A partition's checkpoint.
    pub fn checkpoint(&self, stream: &str, partition: &str) -> Option<Checkpoint> {
        self.0.look(|tables| tables.checkpoints.get(&(stream.to_owned(), partition.to_owned())).copied())
    }

    /// Changes a partition's checkpoint by hand, or deletes it.
    pub fn set_checkpoint(&self, stream: &str, partition: &str, checkpoint: Option<Checkpoint>) {
        let key = (stream.to_owned(), partition.to_owned());
        self.0.change(|tables| match checkpoint {
            Some(checkpoint) => drop(tables.checkpoints.insert(key, checkpoint)),
            None => drop(tables.checkpoints.remove(&key)),
        });
    }

    /// The next transactions fail like this, in turn.
    pub fn fail_with(&self, faults: impl IntoIterator<Item = Fault>) {
        self.0.change(|tables| tables.faults.extend(faults));
    }

    /// Nothing goes wrong any more.
    pub fn heal(&self) {
        self.0.change(|tables| {
            tables.faults.clear();
            tables.offline = false;
        });
    }

    /// Refuses every event with one of these bodies.
    pub fn forbid(&self, bodies: &[&str]) {
        self.0.change(|tables| tables.forbidden.extend(bodies.iter().map(|body| (*body).to_owned())));
    }

    /// Takes every event again.
    pub fn allow_all(&self) {
        self.0.change(|tables| tables.forbidden.clear());
    }

    /// Whether what stands before a refusal is committed at once (it is, unless told otherwise).
    pub fn keep_prefix(&self, keeps: bool) {
        self.0.change(|tables| tables.keeps_prefix = keeps);
    }

    /// Cuts every connection, or lets them come back.
    pub fn set_offline(&self, offline: bool) {
        self.0.change(|tables| tables.offline = offline);
    }

    /// Lets the transactions end whose replies were lost.
    pub fn land(&self) {
        self.0.change(Tables::land);
    }

    /// What it holds now.
    pub fn snapshot(&self) -> Snapshot {
        self.0.look(|tables| Snapshot { rows: tables.rows.clone(), checkpoints: tables.checkpoints.clone() })
    }

    /// Goes back to an earlier time: commits since then are lost.
    pub fn restore(&self, snapshot: Snapshot) {
        self.0.change(|tables| (tables.rows, tables.checkpoints) = (snapshot.rows, snapshot.checkpoints));
    }

    /// Times that a lane has asked what is here.
    pub fn resumes(&self) -> u64 {
        self.0.look(|tables| tables.resumes)
    }

    /// Times that a lane has begun to deliver.
    pub fn deliveries(&self) -> u64 {
        self.0.look(|tables| tables.deliveries)
    }

    /// Waits until it holds `count` rows.
    pub async fn until_rows(&self, count: usize) {
        self.0.expect(&format!("row {count}"), |tables| tables.rows.len() >= count).await;
    }

    /// Waits until it holds the event at `offset`.
    pub async fn until_offset(&self, offset: Offset) {
        self.0.expect(&format!("{offset:?}"), |tables| tables.rows.iter().any(|row| row.offset == offset)).await;
    }

    /// Waits until lanes have begun to deliver `count` times.
    pub async fn until_deliveries(&self, count: u64) {
        self.0.expect(&format!("delivery {count}"), |tables| tables.deliveries >= count).await;
    }

    /// Waits until lanes have asked `count` times.
    pub async fn until_resumes(&self, count: u64) {
        self.0.expect(&format!("resume {count}"), |tables| tables.resumes >= count).await;
    }
}

impl Tables {
    /// A COMMIT: nothing, if the compare-and-set changes no row.
    fn commit(&mut self, transaction: Transaction) -> bool {
        let held = self.checkpoints.get(&transaction.key).copied();
        if !may_replace(held, transaction.expected, transaction.next) {
            return false;
        }
        self.rows.extend(transaction.rows);
        self.checkpoints.insert(transaction.key, transaction.next);
        true
    }

    fn land(&mut self) {
        for transaction in std::mem::take(&mut self.running) {
            self.commit(transaction);
        }
    }
}

struct TransactionalSink {
    database: Database,
    max_events: usize,
}

impl Sink for TransactionalSink {
    fn lane(&self, partition: Arc<PartitionId>) -> Box<dyn Lane> {
        Box::new(TransactionalLane { database: self.database.clone(), partition })
    }

    fn window_bytes(&self) -> u64 {
        self.batch_limits().max_bytes as u64
    }

    fn batch_limits(&self) -> BatchLimits {
        BatchLimits { max_events: self.max_events, max_bytes: 64 * 1024 }
    }
}

struct TransactionalLane {
    database: Database,
    partition: Arc<PartitionId>,
}

impl TransactionalLane {
    fn key(&self) -> Key {
        (self.partition.stream.clone(), self.partition.name.clone())
    }

    fn checkpoint(&self, tables: &mut Tables) -> Option<Checkpoint> {
        if let Some(former) = &self.partition.renamed_from
            && !tables.checkpoints.contains_key(&self.key())
            && let Some(held) = tables.checkpoints.remove(&(former.clone(), self.partition.name.clone()))
        {
            tables.checkpoints.insert(self.key(), held);
        }
        tables.checkpoints.get(&self.key()).copied()
    }

    /// What a transaction with this batch would commit, and what it would refuse.
    fn transaction(&self, tables: &Tables, batch: &Batch) -> (Option<Transaction>, Vec<Refusal>) {
        let is_forbidden = |body: &[u8]| tables.forbidden.contains(&*String::from_utf8_lossy(body));
        let refusals: Vec<_> = batch
            .wanted()
            .filter(|(_, event)| event.body.as_ref().is_some_and(|body| is_forbidden(body)))
            .map(|(offset, _)| Refusal { offset: *offset, code: "23514".into(), reason: "it is forbidden".into() })
            .collect();
        let through = match refusals.first() {
            None => Some(batch.through),
            Some(_) if !tables.keeps_prefix => None,
            Some(first) => {
                let before = batch.events.iter().rev().find(|(offset, _)| *offset < first.offset);
                before.map(|(offset, _)| batch.checkpoint_at(*offset))
            }
        };
        let transaction = through.map(|next| Transaction {
            key: self.key(),
            expected: batch.expected,
            next,
            rows: rows_of(&self.key(), batch, next.offset),
        });
        (transaction, refusals)
    }
}

impl Lane for TransactionalLane {
    fn resume(&mut self, _local: Local) -> BoxFuture<'_, Result<Resumed, SinkError>> {
        Box::pin(async {
            self.database.0.change(|tables| {
                tables.resumes += 1;
                if tables.offline {
                    return Err(SinkError::Reconnect("connecting to the database: connection refused".to_owned()));
                }
                Ok(self.checkpoint(tables).map_or(Destination::Nothing, Destination::At).into())
            })
        })
    }

    fn deliver(&mut self, batch: Arc<Batch>) -> BoxFuture<'_, Result<Progress, SinkError>> {
        Box::pin(async move {
            let gone = || SinkError::Reconnect("writing to the database: connection reset".to_owned());
            let outcome = self.database.0.change(|tables| {
                tables.deliveries += 1;
                if tables.offline {
                    return Some(Err(gone()));
                }
                let fault = tables.faults.pop_front();
                match fault {
                    Some(Fault::Broken) => return Some(Err(gone())),
                    Some(Fault::Busy(after)) => {
                        let message = "the database is shutting down".to_owned();
                        return Some(Err(SinkError::Retry { message, after: Some(after) }));
                    }
                    Some(Fault::Fenced) => {
                        return Some(Err(SinkError::Fenced("another owner has the partition".to_owned())));
                    }
                    Some(Fault::Hangs) => return None,
                    _ => {}
                }
                let (transaction, refusals) = self.transaction(tables, &batch);
                if fault == Some(Fault::LandsLater) {
                    tables.running.extend(transaction);
                    return Some(Err(gone()));
                }
                // A transaction waits for the row that another one holds.
                tables.land();
                let confirmed = transaction.as_ref().map(|transaction| transaction.next);
                if transaction.is_some_and(|transaction| !tables.commit(transaction)) {
                    return Some(Err(SinkError::Reconnect("the checkpoint is not what it was".to_owned())));
                }
                if fault == Some(Fault::ReplyLost) {
                    return Some(Err(gone()));
                }
                Some(Ok(Progress { confirmed, refusals, note: None }))
            });
            match outcome {
                Some(outcome) => outcome,
                None => std::future::pending().await,
            }
        })
    }

    fn settle(&mut self) -> BoxFuture<'_, Result<Progress, SinkError>> {
        Box::pin(async { panic!("everything is confirmed as it is delivered, and yet it is asked to settle") })
    }
}
