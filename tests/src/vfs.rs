//! A SQLite VFS whose power can be cut: an in-memory disk that knows what was synced and what was not.
//!
//! SQLite opens files of it under the name it was registered with; WAL works, with any number of connections within
//! this process. Writes, syncs, truncations and deletions are counted, and at a chosen one the power goes: from then on
//! every call of every connection fails, until [`PowerCut::restart`] brings the disk back with what an [`Image`] says
//! survived. Connections of before the restart stay dead.
//!
//! It is strict where Linux filesystems differ: a name is durable only after its directory was synced (which SQLite does
//! with the first sync of a journal or a WAL it has created, and when a deletion matters), and any sector, size or name
//! that was not synced may or may not have been written back. Like SQLite's own unix VFS it promises
//! `SQLITE_IOCAP_POWERSAFE_OVERWRITE`: a torn sector spoils only bytes that were being written.
//!
//! Not for anything but tests: files live in memory, and what one VFS holds is gone with the process.

mod disk;
mod ffi;
mod file;
mod image;
mod locks;
mod shm;
mod state;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

pub use image::Image;
use state::Shared;
pub use state::{Failure, Operation};

/// A registered VFS, and the switch to its power. Dropping it unregisters the name.
#[derive(Debug)]
pub struct PowerCut {
    name: String,
    shared: Arc<Shared>,
    registration: ffi::Registration,
}

impl PowerCut {
    /// Registers an empty disk with sectors of 512 bytes as a VFS called `name`.
    pub fn register(name: &str) -> Self {
        Self::register_with_sectors(name, 512)
    }

    /// Registers an empty disk with sectors of `sector_bytes` (a power of two) as a VFS called `name`.
    pub fn register_with_sectors(name: &str, sector_bytes: usize) -> Self {
        let shared = Arc::new(Shared::new(sector_bytes));
        Self { name: name.to_owned(), registration: ffi::register(name, shared.clone()), shared }
    }

    /// What to open it by: the `vfs` of a connection.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Operations so far: writes, syncs, truncations, deletions. They are the cut points.
    pub fn operations(&self) -> u64 {
        self.shared.state().operations()
    }

    /// Cuts the power during the `n`-th operation from now; 0 is the next one.
    pub fn cut_after(&self, n: u64) {
        self.shared.state().cut_after(n);
    }

    /// Cuts the power now.
    pub fn cut(&self) {
        self.shared.state().cut();
    }

    /// Whether the power is off.
    pub fn is_cut(&self) -> bool {
        self.shared.state().is_cut()
    }

    /// Brings the power back (having cut it now if it was on), with what `image` says is on the disk. Pending cuts and
    /// failures are forgotten; capacity and lying stay as they are.
    pub fn restart(&self, image: Image) {
        self.shared.state().restart(image);
    }

    /// Ends every connection as `kill -9` ends a process: the disk goes on, with what was written and not synced still in
    /// its cache. Pending cuts and failures are forgotten.
    pub fn kill(&self) {
        self.shared.state().kill();
    }

    /// Empties the disk, as if registered anew.
    pub fn wipe(&self) {
        self.shared.state().wipe();
    }

    /// Whether syncs only say that they are done, as a disk does that lies about its cache.
    pub fn lie_about_syncs(&self, lies: bool) {
        self.shared.state().lies = lies;
    }

    /// Lets operations fail with `SQLITE_IOERR` while the power stays on.
    pub fn fail(&self, failure: Failure) {
        self.shared.state().fail(failure);
    }

    /// Whether an operation has failed as [`PowerCut::fail`] asked, since the last restart or kill.
    pub fn has_failed(&self) -> bool {
        self.shared.state().has_failed()
    }

    /// Bytes that all files may take together; `None` is without limit. Growth beyond it is `SQLITE_FULL`.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.shared.state().capacity_bytes = bytes;
    }

    /// Counts a file of the real filesystem as one on this disk, so that removing it makes room here.
    pub fn share_capacity_with(&self, path: impl Into<PathBuf>) {
        self.shared.state().outside.push(path.into());
    }

    /// Bytes that all files take together, those shared with the real filesystem included.
    pub fn used_bytes(&self) -> u64 {
        self.shared.state().used_bytes()
    }

    /// Syncs a directory, as a program does that does not leave it to SQLite.
    pub fn sync_directory(&self, directory: &Path) {
        self.shared.state().disk.sync_directory_of(&format!("{}/", directory.display()));
    }

    /// What a file holds now, if there is one.
    pub fn read(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.shared.state();
        state.disk.find(path.to_str()?).map(|inode| state.disk.bytes(inode).to_vec())
    }
}

impl Drop for PowerCut {
    fn drop(&mut self) {
        self.registration.unregister();
    }
}
