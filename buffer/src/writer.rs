//! The one thread that writes.
//!
//! It takes up everything that waits, puts it into one transaction, commits, and answers all of it (Promise 1). While it
//! waits for the disk the next lot gathers: the slower the disk, the larger the commits. A transaction that fails is
//! rolled back whole, and its jobs are tried again one by one, so that one cannot fail another.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use rusqlite::{Connection, wal::CheckpointMode};

use crate::{
    AppendError, Appended, Encoded, Error,
    append::{self, Outcome},
    catalog::Catalog,
    lock::Lock,
    merge, open, places_table, retention,
    shared::{Job, Shared},
    space::Space,
    txn::Txn,
};

/// Encoded bytes in one transaction, if the WAL's budget has room for them.
const MAX_ROUND_BYTES: usize = 1024 * 1024;

/// How long a commit may be held up by somebody who reads while the WAL is at its limit.
const READER_PATIENCE: Duration = Duration::from_millis(50);

/// How long the writer sleeps where nothing happens.
const IDLE: Duration = Duration::from_secs(1);

/// Free pages that are kept for reuse rather than given back.
const KEPT_FREE_PAGES: u64 = 1024;

/// Pages given back to the filesystem in one step.
const PAGES_GIVEN_BACK: u64 = 256;

pub(crate) struct Writer {
    db: Connection,
    catalog: Catalog,
    shared: Arc<Shared>,
    space: Space,
    /// Held as long as the file may be written.
    _lock: Lock,
}

/// An append and what became of it.
struct Taken {
    lane: i64,
    encoded: Box<Encoded>,
    reply: oneshot::Sender<Result<Appended, AppendError>>,
    outcome: Outcome,
}

impl Writer {
    pub(crate) fn new(db: Connection, catalog: Catalog, shared: Arc<Shared>, space: Space, lock: Lock) -> Self {
        Self { db, catalog, shared, space, _lock: lock }
    }

    /// Runs until the buffer is closed.
    pub(crate) fn run(mut self) {
        loop {
            let delay = self.shared.options.max_ack_delay;
            let most = MAX_ROUND_BYTES.min(self.space.wal_budget_bytes as usize / 2);
            let round = self.shared.next_round(IDLE, delay, most);
            self.space.look_at_disk();
            let idle = round.jobs.is_empty() && !round.save;
            self.work_off(round.jobs, round.save);
            self.limit_wal();
            self.keep_house(idle);
            self.shared.set_space(self.space.view());
            self.shared.beat();
            if round.closing {
                break;
            }
        }
        self.close();
    }

    /// Does what was asked for, in its order: runs of appends together, anything else by itself.
    fn work_off(&mut self, jobs: Vec<Job>, mut save: bool) {
        let mut appends = Vec::new();
        for job in jobs {
            match job {
                Job::Append { lane, encoded, reply } => {
                    appends.push(Taken { lane, encoded, reply, outcome: Outcome::HeldBack });
                }
                Job::Task(mut task) => {
                    self.commit(std::mem::take(&mut appends), std::mem::take(&mut save));
                    let outcome = self.attempt(|writer| writer.transact(|txn| task.apply(txn)));
                    task.finish(outcome);
                }
            }
        }
        self.commit(appends, save);
    }

    /// Commits appends together; if that fails, one by one.
    fn commit(&mut self, mut appends: Vec<Taken>, save: bool) {
        if appends.is_empty() && !save {
            return;
        }
        match self.attempt(|writer| writer.write(&mut appends, save)) {
            Ok(()) => appends.into_iter().for_each(|append| append.answer(Ok(()))),
            Err(error) if appends.len() == 1 && !save || matches!(error, Error::Damaged(_)) => {
                appends.into_iter().for_each(|append| append.answer(Err(error.clone())));
            }
            Err(_) => {
                // What makes room goes first.
                if save && let Err(error) = self.attempt(|writer| writer.write(&mut [], true)) {
                    log::debug!("confirmations were not written, and will be later: {error}");
                    self.shared.save(false);
                }
                for mut append in appends {
                    let outcome = self.attempt(|writer| writer.write(std::slice::from_mut(&mut append), false));
                    append.answer(outcome);
                }
            }
        }
    }

    /// Tries something, and once more with the reserve given up if the disk is full.
    fn attempt(&mut self, mut work: impl FnMut(&mut Self) -> Result<(), Error>) -> Result<(), Error> {
        self.shared.undamaged()?;
        let outcome = match work(self) {
            Err(Error::Full(_)) if !self.space.is_at_its_limit() && self.space.disk_is_full() => {
                self.checkpoint(CheckpointMode::PASSIVE);
                work(self)
            }
            outcome => outcome,
        };
        self.shared.note_damage(outcome)
    }

    fn write(&mut self, appends: &mut [Taken], save: bool) -> Result<(), Error> {
        let more = self.transact(|txn| {
            let more = save && places_table::save(txn)?;
            let mut held_back = BTreeSet::new();
            for append in appends.iter_mut() {
                if held_back.contains(&append.lane) {
                    append.outcome = Outcome::HeldBack; // Not before one that came before it.
                    continue;
                }
                append.outcome = match append::apply(txn, append.lane, &append.encoded) {
                    Err(error @ (Error::Refused(_) | Error::TooLarge(_) | Error::Unknown(_))) => {
                        Outcome::Refused(error)
                    }
                    outcome => outcome?,
                };
                if matches!(append.outcome, Outcome::HeldBack) {
                    held_back.insert(append.lane);
                }
            }
            Ok(more)
        })?;
        if more {
            self.shared.save(true);
        }
        Ok(())
    }

    /// Runs `work` in a transaction, and publishes what it changed.
    fn transact<T>(&mut self, work: impl FnOnce(&mut Txn<'_>) -> Result<T, Error>) -> Result<T, Error> {
        let Self { db, catalog, shared, space, .. } = self;
        let now = shared.options.clock.now();
        space.measure(db)?;
        db.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        let mut txn = Txn::new(db, catalog, shared, space, now);
        let done = work(&mut txn).and_then(|value| {
            db.prepare_cached("COMMIT")?.execute([])?;
            Ok(value)
        });
        match done {
            Ok(value) => {
                txn.publish();
                // It is committed, whatever becomes of this.
                let _ = space.measure(db);
                Ok(value)
            }
            Err(error) => {
                txn.undo();
                if !db.is_autocommit() {
                    // SQLite has rolled back by itself after some errors. Where it has not, this needs no room.
                    db.execute_batch("ROLLBACK")?;
                }
                Err(error)
            }
        }
    }

    /// Copies the WAL back into the database when it has reached half of its budget: the rest is left for the next
    /// transaction.
    fn limit_wal(&mut self) {
        let Ok((frames, copied)) = self.db.wal_checkpoint_v2(None::<&str>, CheckpointMode::NOOP) else { return };
        self.space.wal_frames(u64::try_from(frames).unwrap_or(0));
        if copied < frames && self.space.wal_bytes() > self.space.wal_budget_bytes / 2 {
            // A reader in the middle of a batch may hold the WAL for some milliseconds; at the budget, wait for it.
            let over = self.space.wal_bytes() > self.space.wal_budget_bytes;
            if over {
                let _ = self.db.busy_timeout(READER_PATIENCE);
                self.checkpoint(CheckpointMode::RESTART);
                let _ = self.db.busy_timeout(open::BUSY);
            } else {
                self.checkpoint(CheckpointMode::PASSIVE);
            }
        }
    }

    fn checkpoint(&mut self, mode: CheckpointMode) {
        let outcome = self.db.wal_checkpoint_v2(None::<&str>, mode).map_err(Error::from);
        if let Err(error) = self.shared.note_damage(outcome) {
            log::debug!("the WAL was not copied back into the database, and will be later: {error}");
        }
    }

    /// What is not urgent: ageing, merging small segments, giving free pages back.
    fn keep_house(&mut self, idle: bool) {
        if self.shared.undamaged().is_err() {
            return;
        }
        let outcome = self.drop_aged().and_then(|()| self.merge(idle));
        let outcome = outcome.and_then(|()| self.give_back(idle));
        if let Err(error) = self.shared.note_damage(outcome) {
            log::debug!("the buffer's housekeeping waits: {error}");
        }
    }

    fn drop_aged(&mut self) -> Result<(), Error> {
        let now = self.shared.options.clock.now();
        if retention::aged(&self.catalog, now).is_empty() {
            return Ok(());
        }
        self.transact(retention::drop_aged)
    }

    fn merge(&mut self, idle: bool) -> Result<(), Error> {
        let enough = if idle { merge::GROUP } else { 4 * merge::GROUP };
        while let Some(lane) = self.catalog.lanes.values().find(|lane| lane.small_segments >= enough) {
            let lane = lane.id;
            self.transact(|txn| merge::merge(txn, lane))?;
            if self.shared.has_work() {
                break;
            }
        }
        Ok(())
    }

    /// Gives free pages back in small steps: when idle, or when more than half of the file is free.
    fn give_back(&mut self, idle: bool) -> Result<(), Error> {
        let (pages, free) = (self.space.pages(), self.space.free_pages());
        let enough = if idle { pages / 8 } else { pages / 2 };
        if free <= KEPT_FREE_PAGES.max(enough) {
            return Ok(());
        }
        let step = PAGES_GIVEN_BACK.min(free - KEPT_FREE_PAGES);
        let mut vacuum = self.db.prepare(&format!("PRAGMA incremental_vacuum({step})"))?;
        let mut pages = vacuum.query([])?;
        // Each step of the statement gives back one page.
        while pages.next()?.is_some() {}
        drop(pages);
        drop(vacuum);
        self.space.measure(&self.db)?;
        if idle {
            self.checkpoint(CheckpointMode::PASSIVE);
        }
        Ok(())
    }

    /// Writes the last of it, and marks the file as closed cleanly.
    fn close(mut self) {
        let outcome = self.shared.undamaged().and_then(|()| self.transact(open::mark_clean));
        if let Err(error) = outcome {
            log::warn!("the buffer {} was not closed cleanly: {error}", self.shared.path.display());
        }
        drop(self.shared.status_reader.lock().expect("no holder of this lock panics").take());
        let shared = self.shared.clone();
        drop(self); // The connection first, then the lock.
        shared.set_closed();
    }
}

impl Taken {
    /// Tells whoever waits. That nobody waits any more is no error.
    fn answer(self, committed: Result<(), Error>) {
        let answer = match (committed, self.outcome) {
            (Ok(()), Outcome::Done(appended)) => Ok(appended),
            (Ok(()), Outcome::Refused(error)) => Err(AppendError::Failed(error)),
            (Ok(()), Outcome::HeldBack) | (Err(Error::Full(_)), _) => Err(AppendError::Full(self.encoded)),
            (Err(error), _) => Err(AppendError::Failed(error)),
        };
        let _ = self.reply.send(answer);
    }
}
