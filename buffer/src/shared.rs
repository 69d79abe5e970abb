//! What handles and the writer thread share.

use std::{
    path::PathBuf,
    sync::{
        Condvar, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use event_listener::Event as Notifier;

use crate::{
    AppendError, Appended, Encoded, Error, Options, Recovery, catalog::Catalog, places::Places, reader::Reader,
    space::SpaceView, txn::Txn,
};

/// Encoded bytes that may wait for the writer; an append beyond that blocks its caller.
const MAX_QUEUED_BYTES: usize = 8 * 1024 * 1024;

/// How long a confirmation may wait to be written, for company.
pub(crate) const MAX_UNSAVED: Duration = Duration::from_secs(1);

const UNPOISONED: &str = "no holder of the buffer's locks panics";

/// A command that is not an append: run in the writer's transaction, answered after the commit.
pub(crate) trait Task: Send {
    /// May be called again if its transaction was rolled back for another's sake.
    fn apply(&mut self, txn: &mut Txn<'_>) -> Result<(), Error>;
    /// The transaction was committed, or failed with this.
    fn finish(self: Box<Self>, outcome: Result<(), Error>);
}

/// What waits for the writer.
pub(crate) enum Job {
    Append { lane: i64, encoded: Box<Encoded>, reply: oneshot::Sender<Result<Appended, AppendError>> },
    Task(Box<dyn Task>),
}

impl Job {
    pub(crate) fn held_bytes(&self) -> usize {
        match self {
            Self::Append { encoded, .. } => encoded.held_bytes(),
            Self::Task(_) => 0,
        }
    }
}

#[derive(Default)]
struct Queue {
    jobs: std::collections::VecDeque<Job>,
    bytes: usize,
    /// When the oldest unsaved confirmation must be written.
    save_by: Option<Instant>,
    closing: bool,
    closed: bool,
}

pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) path: PathBuf,
    catalog: Mutex<Catalog>,
    places: Mutex<Places>,
    space: Mutex<SpaceView>,
    pub(crate) recovery: Mutex<Recovery>,
    damage: Mutex<Option<String>>,
    queue: Mutex<Queue>,
    work: Condvar,
    drained: Condvar,
    pub(crate) partitions_changed: Notifier,
    pub(crate) room_made: Notifier,
    pub(crate) status_reader: Mutex<Option<Reader>>,
    next_pin: AtomicU64,
    beats: AtomicU64,
    busy: AtomicBool,
}

/// What the writer takes up next.
pub(crate) struct Round {
    pub(crate) jobs: Vec<Job>,
    /// Whether confirmations are due.
    pub(crate) save: bool,
    /// Whether this is the last round.
    pub(crate) closing: bool,
}

impl Shared {
    pub(crate) fn new(options: Options, catalog: Catalog, places: Places, recovery: Recovery) -> Self {
        Self {
            path: options.path.clone(),
            options,
            catalog: Mutex::new(catalog),
            places: Mutex::new(places),
            space: Mutex::default(),
            recovery: Mutex::new(recovery),
            damage: Mutex::default(),
            queue: Mutex::default(),
            work: Condvar::new(),
            drained: Condvar::new(),
            partitions_changed: Notifier::new(),
            room_made: Notifier::new(),
            status_reader: Mutex::default(),
            next_pin: AtomicU64::new(0),
            beats: AtomicU64::new(0),
            busy: AtomicBool::new(false),
        }
    }

    /// The catalog as of the last commit. Lock order: catalog before places.
    pub(crate) fn catalog(&self) -> MutexGuard<'_, Catalog> {
        self.catalog.lock().expect(UNPOISONED)
    }

    pub(crate) fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().expect(UNPOISONED)
    }

    pub(crate) fn space(&self) -> SpaceView {
        self.space.lock().expect(UNPOISONED).clone()
    }

    pub(crate) fn set_space(&self, view: SpaceView) {
        *self.space.lock().expect(UNPOISONED) = view;
    }

    pub(crate) fn next_pin(&self) -> u64 {
        self.next_pin.fetch_add(1, Ordering::Relaxed)
    }

    /// Fails once damage was found: nothing is read or written after that.
    pub(crate) fn undamaged(&self) -> Result<(), Error> {
        self.damage.lock().expect(UNPOISONED).clone().map_or(Ok(()), |found| Err(Error::Damaged(found)))
    }

    /// Passes an outcome on; damage is remembered, here and beside the file, so that the next opening looks closely.
    pub(crate) fn note_damage<T>(&self, outcome: Result<T, Error>) -> Result<T, Error> {
        if let Err(Error::Damaged(found)) = &outcome {
            let mut damage = self.damage.lock().expect(UNPOISONED);
            if damage.is_none() {
                log::error!("the buffer {} is damaged: {found}", self.path.display());
                if let Err(error) = std::fs::write(crate::open::beside(&self.path, ".damaged"), found) {
                    log::warn!("cannot leave a note of the damage beside {}: {error}", self.path.display());
                }
                *damage = Some(found.clone());
            }
        }
        outcome
    }

    /// Queues a job. Blocks while too much waits.
    pub(crate) fn push(&self, job: Job) -> Result<(), Error> {
        let bytes = job.held_bytes();
        let mut queue = self.queue.lock().expect(UNPOISONED);
        while queue.bytes > 0 && queue.bytes + bytes > MAX_QUEUED_BYTES && !queue.closing {
            queue = self.drained.wait(queue).expect(UNPOISONED);
        }
        if queue.closing {
            return Err(Error::Closed);
        }
        queue.bytes += bytes;
        queue.jobs.push_back(job);
        drop(queue);
        self.work.notify_one();
        Ok(())
    }

    /// Asks for confirmations to be written: at once, or within [`MAX_UNSAVED`].
    pub(crate) fn save(&self, at_once: bool) {
        let by = Instant::now() + if at_once { Duration::ZERO } else { MAX_UNSAVED };
        let mut queue = self.queue.lock().expect(UNPOISONED);
        if queue.save_by.is_none_or(|before| by < before) {
            queue.save_by = Some(by);
            drop(queue);
            self.work.notify_one();
        }
    }

    /// Waits until there is something to do, or until `idle` is over. Takes up jobs of at most `max_bytes` together.
    pub(crate) fn next_round(&self, idle: Duration, max_ack_delay: Duration, max_bytes: usize) -> Round {
        self.busy.store(false, Ordering::Release);
        let start = Instant::now();
        let mut queue = self.queue.lock().expect(UNPOISONED);
        let mut company_until = None;
        loop {
            let now = Instant::now();
            let wake = if queue.closing || queue.bytes >= max_bytes {
                now
            } else if queue.jobs.is_empty() {
                (start + idle).min(queue.save_by.unwrap_or(start + idle))
            } else {
                *company_until.get_or_insert(now + max_ack_delay)
            };
            if wake <= now {
                break;
            }
            queue = self.work.wait_timeout(queue, wake - now).expect(UNPOISONED).0;
        }
        self.busy.store(true, Ordering::Release);
        let mut round = Round { jobs: Vec::new(), save: false, closing: queue.closing && queue.jobs.is_empty() };
        let mut bytes = 0;
        while let Some(job) = queue.jobs.pop_front() {
            bytes += job.held_bytes();
            round.jobs.push(job);
            if bytes >= max_bytes {
                break;
            }
        }
        queue.bytes -= bytes;
        // A commit that happens anyway takes waiting confirmations along.
        round.save = round.closing || queue.save_by.is_some_and(|by| !round.jobs.is_empty() || by <= Instant::now());
        if round.save {
            queue.save_by = None;
        }
        drop(queue);
        self.drained.notify_all();
        round
    }

    /// Whether something waits for the writer.
    pub(crate) fn has_work(&self) -> bool {
        let queue = self.queue.lock().expect(UNPOISONED);
        queue.closing || !queue.jobs.is_empty()
    }

    /// Called by the writer when a round is over.
    pub(crate) fn beat(&self) {
        self.beats.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn heartbeat(&self) -> (u64, bool) {
        (self.beats.load(Ordering::Relaxed), self.busy.load(Ordering::Acquire))
    }

    /// Lets the writer finish what waits, and nothing new in. True for the first who asks.
    pub(crate) fn begin_closing(&self) -> bool {
        let mut queue = self.queue.lock().expect(UNPOISONED);
        let first = !queue.closing;
        queue.closing = true;
        drop(queue);
        self.work.notify_all();
        self.drained.notify_all();
        first
    }

    /// The writer has stopped.
    pub(crate) fn set_closed(&self) {
        self.queue.lock().expect(UNPOISONED).closed = true;
        self.drained.notify_all();
    }

    pub(crate) fn wait_closed(&self) {
        let mut queue = self.queue.lock().expect(UNPOISONED);
        while !queue.closed {
            queue = self.drained.wait(queue).expect(UNPOISONED);
        }
    }
}
