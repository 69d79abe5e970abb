//! How each source and sink is getting on: what health, metrics and the watchdog look at.
//!
//! A change of state is logged here, once, so that being offline for three days is two lines (Promise 7).

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// What a source, or a sink's lane, is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// Not heard from yet.
    Starting,
    /// Doing its work, or ready for it.
    Running,
    /// Waiting for something outside to come back, and trying again by itself.
    Waiting(String),
    /// Held back because the buffer is full.
    HeldBack(String),
    /// Stopped until an operator acts. The text says what to do.
    Stopped(String),
    /// Done: there will be no more (end of standard input).
    Finished,
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starting => f.write_str("starting"),
            Self::Running => f.write_str("running"),
            Self::Waiting(why) => write!(f, "waiting: {why}"),
            Self::HeldBack(why) => write!(f, "held back: {why}"),
            Self::Stopped(why) => write!(f, "stopped: {why}"),
            Self::Finished => f.write_str("finished"),
        }
    }
}

/// A condition, and since when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Since {
    /// What it is.
    pub condition: Condition,
    /// Since when, in monotonic time.
    pub since: Instant,
}

/// What one source or sink has done since the agent started.
#[derive(Debug)]
pub struct Progress {
    /// `source line1` or `sink warehouse`: how log lines begin.
    subject: String,
    lanes: Mutex<BTreeMap<String, Since>>,
    /// Events that are upstream and not here yet, by partition, where the upstream says so.
    lags: Mutex<BTreeMap<String, u64>>,
    /// Events taken in durably, or confirmed by the destination.
    pub events: AtomicU64,
    /// Their bytes, as [`forebay_buffer::Event::size_bytes`] counts.
    pub bytes: AtomicU64,
    /// Errors that were met and waited out.
    pub errors: AtomicU64,
    /// Events refused: by the destination, or at intake.
    pub refused: AtomicU64,
    /// Events dropped by a policy before they were stored.
    pub dropped: AtomicU64,
    /// Events left out at intake, for they had come before.
    pub duplicates: AtomicU64,
    work: Work,
}

impl Progress {
    /// For `subject`: `source line1`, `sink warehouse`.
    pub fn new(subject: impl Into<String>) -> Arc<Self> {
        Arc::new(Self {
            subject: subject.into(),
            lanes: Mutex::default(),
            lags: Mutex::default(),
            events: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            duplicates: AtomicU64::new(0),
            work: Work::default(),
        })
    }

    /// What log lines call it.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// Enters a condition in one lane (a partition; `""` for a source as a whole). Logged if it is a change of kind.
    pub fn enter(&self, lane: &str, condition: Condition) {
        let mut lanes = self.lanes.lock().expect("no holder of this lock panics");
        let before = lanes.get(lane).map(|since| &since.condition);
        if before == Some(&condition) {
            return;
        }
        let same_kind = before.is_some_and(|b| std::mem::discriminant(b) == std::mem::discriminant(&condition));
        if !same_kind {
            let place = if lane.is_empty() { self.subject.clone() } else { format!("{} ({lane})", self.subject) };
            match (&condition, before) {
                (Condition::Running, Some(Condition::Waiting(_) | Condition::HeldBack(_))) => {
                    let waited = lanes.get(lane).map_or(Duration::ZERO, |since| since.since.elapsed());
                    log::info!("{place}: running again after {} s", waited.as_secs());
                }
                (Condition::Stopped(_), _) => log::error!("{place}: {condition}"),
                (Condition::Waiting(_) | Condition::HeldBack(_), _) => log::warn!("{place}: {condition}"),
                _ => log::info!("{place}: {condition}"),
            }
        }
        let since = match lanes.get(lane) {
            Some(held) if same_kind => held.since,
            _ => Instant::now(),
        };
        lanes.insert(lane.to_owned(), Since { condition, since });
    }

    /// Forgets a lane that is gone.
    pub fn leave(&self, lane: &str) {
        self.lanes.lock().expect("no holder of this lock panics").remove(lane);
        self.lags.lock().expect("no holder of this lock panics").remove(lane);
    }

    /// So many events of a partition are upstream and not here yet.
    pub fn lags(&self, partition: &str, events: u64) {
        self.lags.lock().expect("no holder of this lock panics").insert(partition.to_owned(), events);
    }

    /// How many events are upstream and not here yet, by partition.
    pub fn all_lags(&self) -> BTreeMap<String, u64> {
        self.lags.lock().expect("no holder of this lock panics").clone()
    }

    /// Every lane's condition.
    pub fn lanes(&self) -> BTreeMap<String, Since> {
        self.lanes.lock().expect("no holder of this lock panics").clone()
    }

    /// Counts events that are through.
    pub fn count(&self, events: u64, bytes: u64) {
        self.events.fetch_add(events, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Marks the start of work that is ours alone (no waiting for a network or a full disk): the guard ends it. The
    /// watchdog is fed as long as no such work takes too long.
    pub fn working(&self) -> Working<'_> {
        let mut running = self.work.running.lock().expect("no holder of this lock panics");
        let id = self.work.next.fetch_add(1, Ordering::Relaxed);
        running.insert(id, Instant::now());
        Working { work: &self.work, id }
    }

    /// How long the oldest unfinished piece of own work has taken.
    pub fn longest_work(&self) -> Duration {
        let running = self.work.running.lock().expect("no holder of this lock panics");
        running.values().map(Instant::elapsed).max().unwrap_or_default()
    }
}

#[derive(Debug, Default)]
struct Work {
    next: AtomicU64,
    running: Mutex<BTreeMap<u64, Instant>>,
}

/// See [`Progress::working`].
pub struct Working<'a> {
    work: &'a Work,
    id: u64,
}

impl Drop for Working<'_> {
    fn drop(&mut self) {
        self.work.running.lock().expect("no holder of this lock panics").remove(&self.id);
    }
}
