//! The memory that connections to one file share: the index of its WAL.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use super::locks::SlotLocks;

/// One file's shared memory. It lives until the last connection that mapped it has closed, restarted or not.
#[derive(Debug, Default)]
pub(super) struct SharedMemory {
    /// Never moved or freed once made: SQLite holds pointers into them.
    regions: Mutex<Vec<Box<[AtomicU64]>>>,
    pub(super) locks: Mutex<SlotLocks>,
}

impl SharedMemory {
    /// The address of a region of `size_bytes`, made (with those before it) if it is not there and `extend` is set.
    pub(super) fn region(&self, index: usize, size_bytes: usize, extend: bool) -> Option<*mut u8> {
        let mut regions = self.regions.lock().unwrap_or_else(PoisonError::into_inner);
        while extend && regions.len() <= index {
            regions.push((0..size_bytes.div_ceil(8)).map(|_| AtomicU64::new(0)).collect());
        }
        regions.get(index).map(|region| region.as_ptr().cast_mut().cast())
    }

    pub(super) fn barrier() {
        std::sync::atomic::fence(Ordering::SeqCst);
    }
}
