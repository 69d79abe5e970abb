//! How to open a buffer, and what its streams may take.

use std::{path::PathBuf, sync::Arc, time::Duration};

use crate::{Buffer, OpenError, clock::Clock};

/// When an append counts as durable, and is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(clippy::manual_non_exhaustive, reason = "the hidden variant is used, by tests")]
pub enum Durability {
    /// After an fsync: it survives a power cut (SQLite's `synchronous = FULL`).
    #[default]
    PowerLoss,
    /// After the write: it survives `kill -9`, and may not survive a power cut (`synchronous = NORMAL`).
    ProcessCrash,
    /// Never synced at all. Only for tests, which must see what breaks.
    #[doc(hidden)]
    None,
}

/// Settings of one buffer file.
#[derive(Debug, Clone)]
pub struct Options {
    /// The database file. Its directory must exist. Files beside it begin with the same name.
    pub path: PathBuf,
    /// When an append is answered.
    pub durability: Durability,
    /// The most that database, WAL and reserve take together on disk, in bytes. At least 1 MiB.
    pub max_bytes: u64,
    /// Bytes of free disk below which producers are held back. `None`: 5 % of the filesystem, 100 MiB at most.
    pub min_free_disk: Option<u64>,
    /// The largest event, as [`crate::Event::size_bytes`] counts. A larger one becomes a dead letter.
    pub max_event_bytes: usize,
    /// How long the first append of a commit may wait for company.
    pub max_ack_delay: Duration,
    /// The only source of time.
    pub clock: Arc<dyn Clock>,
    /// The name of a registered SQLite VFS. For tests.
    #[doc(hidden)]
    pub vfs: Option<String>,
}

impl Options {
    /// The smallest file that still has room for a WAL, a reserve and a few segments.
    pub const MIN_MAX_BYTES: u64 = 1024 * 1024;

    /// The defaults for the file at `path`: power-loss durability, 2 GiB, events of up to 1 MiB.
    pub fn new(path: impl Into<PathBuf>, clock: Arc<dyn Clock>) -> Self {
        Self {
            path: path.into(),
            durability: Durability::default(),
            max_bytes: 2 * 1024 * 1024 * 1024,
            min_free_disk: None,
            max_event_bytes: 1024 * 1024,
            max_ack_delay: Duration::ZERO,
            clock,
            vfs: None,
        }
    }

    /// Opens the file, or creates it. Takes its lock; checks it if it was not closed cleanly; where it is damaged, sets
    /// it aside and goes on with what could be salvaged (see [`Buffer::recovery`]).
    pub fn open(self) -> Result<Buffer, OpenError> {
        crate::open::open(self)
    }
}

/// What a full stream does with the next event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WhenFull {
    /// It is not taken: the producer is held back.
    #[default]
    Backpressure,
    /// The oldest events make room; the loss ledger says which.
    DropOldest,
    /// It is dropped; the loss ledger says how many.
    DropNewest,
}

/// What one stream may keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamLimits {
    /// Bytes of its segments on disk.
    pub max_bytes: u64,
    /// How long an event that no sink has taken is kept, where the clock can be trusted with that.
    pub max_age: Option<Duration>,
    /// What happens at the limit.
    pub when_full: WhenFull,
}

impl Default for StreamLimits {
    fn default() -> Self {
        Self { max_bytes: u64::MAX, max_age: None, when_full: WhenFull::default() }
    }
}

/// Where a sink begins in a stream that already has events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Start {
    /// With the oldest that is here.
    #[default]
    Oldest,
    /// With what comes from now on.
    Now,
}
