//! The power switch, and the other ways to make a disk misbehave.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{
    disk::{Disk, Inode},
    image::Image,
    locks::{FileLocks, Holder},
    shm::SharedMemory,
};

/// What is counted as a cut point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Bytes written to a file.
    Write,
    /// A file synced.
    Sync,
    /// A file's size set.
    Truncate,
    /// A name removed.
    Delete,
}

/// Operations that are to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failure {
    /// Which; `None` is any.
    pub operation: Option<Operation>,
    /// How many of them succeed before.
    pub after: u64,
    /// How many of them fail.
    pub times: u64,
}

/// What an operation meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Done,
    /// It fails; the power stays on.
    Fails,
    /// The power went while it was under way.
    PowerGone,
}

/// One VFS, as all its files see it.
#[derive(Debug)]
pub(super) struct Shared(Mutex<State>);

/// Everything that one VFS knows.
#[derive(Debug)]
pub(super) struct State {
    pub(super) disk: Disk,
    pub(super) locks: BTreeMap<Inode, FileLocks>,
    pub(super) memories: BTreeMap<Inode, Arc<SharedMemory>>,
    pub(super) lies: bool,
    pub(super) capacity_bytes: Option<u64>,
    pub(super) outside: Vec<PathBuf>,
    /// Grows with each restart: what was opened in an earlier one is dead.
    boot: u64,
    is_cut: bool,
    operations: u64,
    cut_at: Option<u64>,
    failures: Vec<Failure>,
    has_failed: bool,
    holders: Holder,
}

impl Shared {
    pub(super) fn new(sector_bytes: usize) -> Self {
        Self(Mutex::new(State {
            disk: Disk::new(sector_bytes),
            locks: BTreeMap::new(),
            memories: BTreeMap::new(),
            lies: false,
            capacity_bytes: None,
            outside: Vec::new(),
            boot: 0,
            is_cut: false,
            operations: 0,
            cut_at: None,
            failures: Vec::new(),
            has_failed: false,
            holders: 0,
        }))
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    pub(super) fn operations(&self) -> u64 {
        self.operations
    }

    pub(super) fn is_cut(&self) -> bool {
        self.is_cut
    }

    pub(super) fn has_failed(&self) -> bool {
        self.has_failed
    }

    pub(super) fn boot(&self) -> u64 {
        self.boot
    }

    pub(super) fn new_holder(&mut self) -> Holder {
        self.holders += 1;
        self.holders
    }

    pub(super) fn cut(&mut self) {
        self.is_cut = true;
    }

    pub(super) fn cut_after(&mut self, n: u64) {
        self.cut_at = Some(self.operations + n);
    }

    pub(super) fn fail(&mut self, failure: Failure) {
        self.failures.push(failure);
    }

    pub(super) fn restart(&mut self, image: Image) {
        self.disk.cut(image);
        self.is_cut = false;
        self.kill();
    }

    pub(super) fn kill(&mut self) {
        self.boot += 1;
        self.cut_at = None;
        self.failures.clear();
        self.has_failed = false;
        self.locks.clear();
        self.memories.clear();
    }

    pub(super) fn wipe(&mut self) {
        self.restart(Image::Nothing);
        self.disk = Disk::new(self.disk.sector_bytes());
        self.operations = 0;
    }

    /// Counts an operation, and says what is to become of it.
    pub(super) fn count(&mut self, operation: Operation) -> Outcome {
        let number = self.operations;
        self.operations += 1;
        if self.cut_at == Some(number) {
            self.is_cut = true;
            return Outcome::PowerGone;
        }
        let concerned = |failure: &&mut Failure| failure.operation.is_none_or(|which| which == operation);
        let mut outcome = Outcome::Done;
        for failure in self.failures.iter_mut().filter(concerned) {
            if failure.after > 0 {
                failure.after -= 1;
            } else if failure.times > 0 {
                failure.times -= 1;
                outcome = Outcome::Fails;
            }
        }
        self.has_failed |= outcome == Outcome::Fails;
        outcome
    }

    pub(super) fn used_bytes(&self) -> u64 {
        let sizes = self.outside.iter().filter_map(|path| path.metadata().ok()).map(|metadata| metadata.len());
        self.disk.used_bytes() as u64 + sizes.sum::<u64>()
    }

    /// How far a file may grow at most, if its size is `size_bytes` now.
    pub(super) fn largest_size(&self, size_bytes: usize) -> usize {
        let room = |capacity: u64| capacity.saturating_sub(self.used_bytes()) as usize;
        self.capacity_bytes.map_or(usize::MAX, |capacity| size_bytes.saturating_add(room(capacity)))
    }
}
