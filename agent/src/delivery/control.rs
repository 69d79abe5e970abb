//! The control table's rows of a sink that does not keep them with its data: written after the confirmations.
//!
//! Each lane says here how far its destination shows that it has confirmed; once in an interval what has changed is written, all
//! partitions together, and once more when the agent stops. Delivery never waits for it, and is never stopped by it: these
//! rows are for operators and for whoever takes over, and the truth is at the destination, or in the buffer. So an outage
//! of the control table is one line in the log when it begins and one when it ends (Promise 7), and costs the memory of one
//! checkpoint for each partition.
//!
//! A sink's own rows are not among them, also where the control table turns out to be the sink's under another name: each
//! row says who keeps it. What may be written over what is settled in [`row`].

mod row;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use forebay_buffer::Checkpoint;
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep, sleep_until, timeout},
};

pub(super) use self::row::Lineage;
use self::row::Row;
use crate::{
    contract::{
        CheckpointKey, CheckpointMove, Control, ControlError, ControlRow, KeptBy, PartitionId, Shutdown, Target,
    },
    progress::{Condition, Progress},
};

/// What [`Progress`] calls it.
const LANE: &str = "control table";
/// How long the last write may take when the agent stops, or a partition is given away.
const LAST_WRITE: Duration = Duration::from_secs(2);
/// How often to look whether an operator has mended what stopped it.
const RECHECK: Duration = Duration::from_secs(60);
/// How often one turn tries, where other writers move rows under it.
const ATTEMPTS: usize = 2;

/// Where the rows of one sink are, and how they are called.
#[derive(Clone)]
pub struct ControlTable {
    /// The table.
    pub control: Arc<dyn Control>,
    /// The agent's id: the namespace of its rows.
    pub agent_id: String,
    /// The sink's target.
    pub target: Target,
    /// It is written at most once in this time.
    pub interval: Duration,
}

/// Where lanes say how far they have come. Clones share it.
#[derive(Clone)]
pub(super) struct Board(Arc<Shared>);

struct Shared {
    table: ControlTable,
    /// By the label of the lane.
    rows: Mutex<BTreeMap<String, Row>>,
    news: Notify,
    /// Somebody cannot wait for the interval to pass.
    urgent: Notify,
    /// Changes with every turn that is over.
    turns: watch::Sender<()>,
}

/// Writes what stands on a [`Board`].
pub(super) struct Keeper {
    board: Board,
    progress: Arc<Progress>,
    /// Not before this is the table tried again: an operator must mend it first.
    stopped_until: Option<Instant>,
}

/// Why a turn ended early.
enum Trouble {
    /// It cannot be reached.
    Away(String),
    /// An operator must mend it.
    Broken(String),
}

impl Board {
    pub(super) fn new(table: ControlTable) -> Self {
        let (news, urgent) = (Notify::new(), Notify::new());
        Self(Arc::new(Shared { table, rows: Mutex::default(), news, urgent, turns: watch::Sender::default() }))
    }

    /// A lane has asked its destination: that is where it stands. What `lineage` says counts the first time only, for
    /// what this file had delivered by then.
    pub(super) fn stands(&self, label: &str, id: &PartitionId, lineage: Lineage, at: Option<Checkpoint>) {
        let mut rows = self.rows();
        if rows.get(label).is_none_or(|row| row.is_of_an_earlier_hub(&lineage)) {
            let table = &self.0.table;
            let key = CheckpointKey::new(&table.agent_id, id, &table.target);
            let former = key.former(id);
            rows.insert(label.to_owned(), Row::new(key, former, lineage));
        }
        rows.get_mut(label).expect("it is there by now").stands(at, None);
        drop(rows);
        self.0.news.notify_one();
    }

    /// A destination shows that it has everything up to `checkpoint`, which is at `upstream` where it comes from.
    pub(super) fn confirmed(&self, label: &str, checkpoint: Checkpoint, upstream: Option<String>) {
        if let Some(row) = self.rows().get_mut(label) {
            row.stands(Some(checkpoint), upstream);
        }
        self.0.news.notify_one();
    }

    /// A destination contradicts what it had confirmed (it was restored to an earlier time, say), so that what is still
    /// to be written may be ahead of the truth: it is not written any more. A lane that stops for anything else leaves
    /// its last confirmation on the board, for that is still true.
    pub(super) fn withdraw(&self, label: &str) {
        if let Some(row) = self.rows().get_mut(label) {
            row.withdraw();
        }
    }

    /// The partition is given away: whoever has it next goes on where its row says. Waits until that is written, but not
    /// for a table that is away: then some events are delivered again.
    pub(super) async fn flush(&self, label: &str) {
        let mut turns = self.0.turns.subscribe();
        let written = async {
            // A turn that had begun before may have looked too early.
            for _ in 0..2 {
                if !self.rows().get(label).is_some_and(Row::is_pending) {
                    return;
                }
                self.0.urgent.notify_one();
                let _ = turns.changed().await;
            }
        };
        let _ = timeout(LAST_WRITE, written).await;
    }

    fn rows(&self) -> MutexGuard<'_, BTreeMap<String, Row>> {
        self.0.rows.lock().expect("no holder of this lock panics")
    }

    /// When there will be something to do, as things stand. `None`: not before a lane has news.
    fn next_turn(&self) -> Option<Instant> {
        self.rows().values().filter_map(Row::next_turn).min()
    }
}

impl Keeper {
    pub(super) fn new(board: Board, progress: Arc<Progress>) -> Self {
        Self { board, progress, stopped_until: None }
    }

    /// Writes until `shutdown`, which comes when no lane has any more to say, and then what is left.
    pub(super) async fn run(mut self, mut shutdown: Shutdown) {
        while !shutdown.is_requested() {
            tokio::select! {
                () = self.round() => {}
                () = shutdown.requested() => {}
            }
        }
        // What the last turn was at is unknown now, and is looked at again.
        self.stopped_until = None;
        if timeout(LAST_WRITE, self.turn()).await.is_err() {
            let place = self.place();
            log::warn!("{}: {LANE} {place}: what was confirmed last is not in it", self.progress.subject());
        }
    }

    /// Waits for something to do, does it, and lets the interval pass.
    async fn round(&mut self) {
        loop {
            let news = self.board.0.news.notified();
            let turn = match (self.board.next_turn(), self.stopped_until) {
                (Some(turn), Some(until)) => Some(turn.max(until)),
                (turn, _) => turn,
            };
            match turn {
                Some(turn) if turn <= Instant::now() => break,
                Some(turn) => tokio::select! {
                    () = sleep_until(turn) => {}
                    () = news => {}
                },
                None => news.await,
            }
        }
        self.turn().await;
        tokio::select! {
            () = sleep(self.board.0.table.interval) => {}
            () = self.board.0.urgent.notified() => {}
        }
    }

    /// Writes what has changed, and says how that went.
    async fn turn(&mut self) {
        self.attempt().await;
        self.board.0.turns.send_replace(());
    }

    async fn attempt(&mut self) {
        if self.stopped_until.is_some_and(|until| Instant::now() < until) {
            return;
        }
        self.stopped_until = None;
        match self.write().await {
            Ok(true) => self.progress.enter(LANE, Condition::Running),
            Ok(false) => {}
            Err(Trouble::Away(message)) => self.progress.enter(LANE, Condition::Waiting(message)),
            Err(Trouble::Broken(message)) => {
                self.stopped_until = Some(Instant::now() + RECHECK);
                self.progress.enter(LANE, Condition::Stopped(message));
            }
        }
    }

    /// Whether anything was asked of the table, and answered.
    async fn write(&self) -> Result<bool, Trouble> {
        let mut answered = false;
        for _ in 0..ATTEMPTS {
            answered |= self.look().await?;
            let moves = self.moves();
            if moves.is_empty() {
                return Ok(answered);
            }
            // Known again when the answer is there: this future may be dropped before that.
            self.forget(&moves);
            match self.board.0.table.control.save(&moves).await {
                Ok(()) => {
                    self.written(&moves);
                    return Ok(true);
                }
                Err(ControlError::Moved(_)) => answered = true,
                Err(error) => return Err(self.trouble(error)),
            }
        }
        Ok(answered)
    }

    /// Loads the rows that have something to be written and are not known, all at once: at the end there is no time for
    /// one after the other. Whether there were any.
    async fn look(&self) -> Result<bool, Trouble> {
        let unknown: Vec<_> = {
            let rows = self.board.rows();
            let unknown = rows.iter().filter(|(_, row)| row.is_to_be_loaded());
            unknown.map(|(label, row)| (label.clone(), row.key.clone(), row.former.clone())).collect()
        };
        if unknown.is_empty() {
            return Ok(false);
        }
        let keys: Vec<_> = unknown.iter().flat_map(|(_, key, former)| [Some(key), former.as_ref()]).flatten().collect();
        let keys: Vec<_> = keys.into_iter().cloned().collect();
        let loaded = self.board.0.table.control.load(&keys).await.map_err(|error| self.trouble(error))?;
        for (label, key, former) in &unknown {
            let named = |key: &CheckpointKey| loaded.iter().find(|row| row.key == *key);
            // What is in the row; if there is none, what is in the one under the stream's former name.
            let (found, is_former) = match (named(key), former) {
                (None, Some(former)) => (named(former), true),
                (found, _) => (found, false),
            };
            self.judge(label, found, is_former);
        }
        Ok(true)
    }

    /// Settles what may be done with a row, and says so if it is left alone.
    fn judge(&self, label: &str, found: Option<&ControlRow>, is_former: bool) {
        if let Some(found) = found.filter(|found| found.kept_by == Some(KeptBy::Sink)) {
            return self.leave_to_the_sink(label, &found.key);
        }
        let judged = match found.map(|found| found.checkpoint.clone()).transpose() {
            Ok(found) => self.with(label, |row| row.judge(found, is_former, self.place())),
            Err(message) => self.with(label, |row| row.stop(message)),
        };
        let lane = format!("{LANE}: {label}");
        match judged {
            Ok(()) if self.progress.lanes().contains_key(&lane) => {
                log::info!("{} ({lane}): goes on", self.progress.subject());
                self.progress.leave(&lane);
            }
            Ok(()) => {}
            Err(message) => self.progress.enter(&lane, Condition::Stopped(message)),
        }
    }

    /// The row is the truth of a sink, and so nothing to be written here, ever. One row of them is enough to be told of.
    fn leave_to_the_sink(&self, label: &str, key: &CheckpointKey) {
        let is_news = !self.board.rows().values().any(Row::is_the_sinks);
        self.with(label, Row::leave_to_the_sink);
        self.progress.leave(&format!("{LANE}: {label}"));
        if is_news {
            let (subject, place) = (self.progress.subject(), self.place());
            log::warn!(
                "{subject}: the control table {place} is one that a sink keeps for itself, under another name: it has the \
                 row of {key} already, kept by the sink. Such rows are left to it, which writes them with its data; name \
                 the database in [control] as in the sink's url to make that plain. If it is only a copy of that table, \
                 delete the rows of this sink there, and reload or restart the agent"
            );
        }
    }

    fn moves(&self) -> Vec<CheckpointMove> {
        self.board.rows().values().filter_map(Row::due).collect()
    }

    fn forget(&self, moves: &[CheckpointMove]) {
        let mut rows = self.board.rows();
        rows.values_mut().filter(|row| moves.iter().any(|one| one.key == row.key)).for_each(Row::forget);
    }

    fn written(&self, moves: &[CheckpointMove]) {
        let mut rows = self.board.rows();
        for row in rows.values_mut() {
            if let Some(one) = moves.iter().find(|one| one.key == row.key) {
                row.written(one.to);
            }
        }
    }

    fn with<T>(&self, label: &str, change: impl FnOnce(&mut Row) -> T) -> T {
        let mut rows = self.board.rows();
        change(rows.get_mut(label).expect("rows are never taken off the board"))
    }

    fn trouble(&self, error: ControlError) -> Trouble {
        let message = format!("{}: {error}", self.place());
        match error {
            ControlError::Stop(_) => Trouble::Broken(message),
            _ => Trouble::Away(message),
        }
    }

    fn place(&self) -> &str {
        self.board.0.table.control.place()
    }
}

#[cfg(test)]
mod tests;
