//! What SQLite does with files: the methods of a VFS and of an open file, without their pointers.

use std::{
    ffi::c_int,
    sync::{Arc, MutexGuard, PoisonError},
};

use rusqlite::ffi;

use super::{
    disk::Inode,
    locks::{Holder, Level},
    shm::SharedMemory,
    state::{Operation, Outcome, Shared, State},
};

/// Success, or an SQLite result code.
pub(super) type Answer<T = ()> = Result<T, c_int>;

/// One file that SQLite has open.
#[derive(Debug)]
pub(super) struct OpenFile {
    shared: Arc<Shared>,
    inode: Inode,
    holder: Holder,
    boot: u64,
    /// Temporary files have none; nothing of them is durable, and nothing done to them is a cut point.
    name: Option<String>,
    /// The next sync covers the directory too: this opening created a journal or a WAL.
    syncs_directory: bool,
    deletes_on_close: bool,
    read_only: bool,
    keeps_wal: bool,
    memory: Option<Arc<SharedMemory>>,
}

/// Opens a file, or creates it if `flags` say so.
pub(super) fn open(shared: &Arc<Shared>, name: Option<&str>, flags: c_int) -> Answer<OpenFile> {
    let mut state = powered(shared)?;
    let found = name.and_then(|name| state.disk.find(name));
    let creates = flags & ffi::SQLITE_OPEN_CREATE != 0;
    let is_journal = flags & (ffi::SQLITE_OPEN_MAIN_JOURNAL | ffi::SQLITE_OPEN_SUPER_JOURNAL | ffi::SQLITE_OPEN_WAL);
    let inode = match (name, found) {
        (None, _) => state.disk.create_unnamed(),
        (Some(_), Some(_)) if flags & ffi::SQLITE_OPEN_EXCLUSIVE != 0 => return Err(ffi::SQLITE_CANTOPEN),
        (Some(_), Some(inode)) => inode,
        (Some(name), None) if creates => state.disk.create(name),
        (Some(_), None) => return Err(ffi::SQLITE_CANTOPEN),
    };
    Ok(OpenFile {
        shared: shared.clone(),
        inode,
        holder: state.new_holder(),
        boot: state.boot(),
        name: name.map(str::to_owned),
        syncs_directory: found.is_none() && is_journal != 0,
        deletes_on_close: flags & ffi::SQLITE_OPEN_DELETEONCLOSE != 0,
        read_only: flags & ffi::SQLITE_OPEN_READONLY != 0,
        keeps_wal: false,
        memory: None,
    })
}

/// Removes a name; the directory is synced if `is_durable`.
pub(super) fn delete(shared: &Shared, name: &str, is_durable: bool) -> Answer {
    let mut state = powered(shared)?;
    if state.disk.find(name).is_none() {
        return Err(ffi::SQLITE_IOERR_DELETE_NOENT);
    }
    match state.count(Operation::Delete) {
        Outcome::Fails => return Err(ffi::SQLITE_IOERR_DELETE),
        Outcome::PowerGone => {
            state.disk.unlink(name);
            return Err(ffi::SQLITE_IOERR);
        }
        Outcome::Done => state.disk.unlink(name),
    }
    if is_durable && !state.lies {
        state.disk.sync_directory_of(name);
    }
    Ok(())
}

/// Whether there is such a file. As in SQLite's unix VFS an empty one counts as none where only existence is asked.
pub(super) fn exists(shared: &Shared, name: &str, flags: c_int) -> Answer<bool> {
    let state = powered(shared)?;
    let is_empty = |inode| state.disk.bytes(inode).is_empty();
    Ok(state.disk.find(name).is_some_and(|inode| flags != ffi::SQLITE_ACCESS_EXISTS || !is_empty(inode)))
}

fn powered(shared: &Shared) -> Answer<MutexGuard<'_, State>> {
    let state = shared.state();
    if state.is_cut() { Err(ffi::SQLITE_IOERR) } else { Ok(state) }
}

impl OpenFile {
    pub(super) fn read(&self, into: &mut [u8], at: usize) -> Answer {
        let state = self.powered()?;
        let content = state.disk.bytes(self.inode);
        let there = content.get(at..).unwrap_or_default();
        let n = there.len().min(into.len());
        into[..n].copy_from_slice(&there[..n]);
        into[n..].fill(0);
        if n < into.len() { Err(ffi::SQLITE_IOERR_SHORT_READ) } else { Ok(()) }
    }

    /// Writes. What does not fit any more is left out, as write(2) does on a full disk.
    pub(super) fn write(&self, bytes: &[u8], at: usize) -> Answer {
        if self.read_only {
            return Err(ffi::SQLITE_IOERR_WRITE);
        }
        let mut state = self.powered()?;
        let outcome = self.count(&mut state, Operation::Write);
        if outcome == Outcome::Fails {
            return Err(ffi::SQLITE_IOERR_WRITE);
        }
        let size = state.disk.bytes(self.inode).len();
        let fits = state.largest_size(size).max(size).saturating_sub(at).min(bytes.len());
        if fits > 0 {
            state.disk.write(self.inode, at, &bytes[..fits]);
        }
        match outcome {
            Outcome::PowerGone => Err(ffi::SQLITE_IOERR),
            _ if fits < bytes.len() => Err(ffi::SQLITE_FULL),
            _ => Ok(()),
        }
    }

    pub(super) fn truncate(&self, size: usize) -> Answer {
        if self.read_only {
            return Err(ffi::SQLITE_IOERR_TRUNCATE);
        }
        let mut state = self.powered()?;
        let outcome = self.count(&mut state, Operation::Truncate);
        let present = state.disk.bytes(self.inode).len();
        if outcome == Outcome::Fails {
            return Err(ffi::SQLITE_IOERR_TRUNCATE);
        }
        if size > state.largest_size(present).max(present) {
            return Err(ffi::SQLITE_FULL);
        }
        state.disk.resize(self.inode, size);
        if outcome == Outcome::PowerGone { Err(ffi::SQLITE_IOERR) } else { Ok(()) }
    }

    pub(super) fn sync(&mut self) -> Answer {
        let mut state = powered(&self.shared)?;
        self.check_alive(&state)?;
        match self.count(&mut state, Operation::Sync) {
            Outcome::PowerGone => return Err(ffi::SQLITE_IOERR),
            Outcome::Fails => {
                state.disk.fail_sync(self.inode);
                return Err(ffi::SQLITE_IOERR_FSYNC);
            }
            Outcome::Done if state.lies => return Ok(()),
            Outcome::Done => state.disk.sync(self.inode),
        }
        if let (true, Some(name)) = (self.syncs_directory, &self.name) {
            state.disk.sync_directory_of(name);
            self.syncs_directory = false;
        }
        Ok(())
    }

    pub(super) fn size(&self) -> Answer<usize> {
        Ok(self.powered()?.disk.bytes(self.inode).len())
    }

    pub(super) fn sector_bytes(&self) -> usize {
        self.shared.state().disk.sector_bytes()
    }

    pub(super) fn keeps_wal(&mut self) -> &mut bool {
        &mut self.keeps_wal
    }

    /// As of fcntl(2), a file that is not open for writing cannot be locked for it.
    pub(super) fn lock(&self, level: Level) -> Answer {
        if self.read_only && level > Level::Shared {
            return Err(ffi::SQLITE_IOERR_LOCK);
        }
        let mut state = self.powered()?;
        state.locks.entry(self.inode).or_default().raise(self.holder, level).map_err(|_| ffi::SQLITE_BUSY)
    }

    pub(super) fn unlock(&self, level: Level) -> Answer {
        let mut state = self.powered()?;
        state.locks.entry(self.inode).or_default().lower(self.holder, level);
        Ok(())
    }

    pub(super) fn is_reserved(&self) -> Answer<bool> {
        Ok(self.powered()?.locks.entry(self.inode).or_default().is_reserved())
    }

    /// The address of a region of shared memory; `None` if it is not there and not to be made.
    pub(super) fn map(&mut self, index: usize, size_bytes: usize, extend: bool) -> Answer<Option<*mut u8>> {
        let mut state = powered(&self.shared)?;
        self.check_alive(&state)?;
        let memory = self.memory.get_or_insert_with(|| state.memories.entry(self.inode).or_default().clone());
        Ok(memory.region(index, size_bytes, extend))
    }

    pub(super) fn lock_slots(&self, mask: u32, flags: c_int) -> Answer {
        let _state = self.powered()?;
        let memory = self.memory.as_ref().ok_or(ffi::SQLITE_IOERR_SHMLOCK)?;
        let mut locks = memory.locks.lock().unwrap_or_else(PoisonError::into_inner);
        if flags & ffi::SQLITE_SHM_UNLOCK != 0 {
            locks.unlock(self.holder, mask);
            return Ok(());
        }
        locks.lock(self.holder, mask, flags & ffi::SQLITE_SHM_EXCLUSIVE != 0).map_err(|_| ffi::SQLITE_BUSY)
    }

    /// Lets the shared memory go; with `delete` the next to map it finds it empty.
    pub(super) fn unmap(&mut self, delete: bool) {
        let Some(memory) = self.memory.take() else { return };
        memory.locks.lock().unwrap_or_else(PoisonError::into_inner).forget(self.holder);
        let mut state = self.shared.state();
        if delete && state.boot() == self.boot {
            state.memories.remove(&self.inode);
        }
    }

    /// Closes. It works without power too: the process is as gone as the machine.
    pub(super) fn close(mut self) {
        self.unmap(false);
        let mut state = self.shared.state();
        if state.boot() != self.boot {
            return;
        }
        if let Some(locks) = state.locks.get_mut(&self.inode) {
            locks.lower(self.holder, Level::None);
        }
        if let (true, false, Some(name)) = (self.deletes_on_close, state.is_cut(), &self.name) {
            state.disk.unlink(name);
        }
    }

    fn powered(&self) -> Answer<MutexGuard<'_, State>> {
        let state = powered(&self.shared)?;
        self.check_alive(&state)?;
        Ok(state)
    }

    fn check_alive(&self, state: &State) -> Answer {
        if state.boot() == self.boot { Ok(()) } else { Err(ffi::SQLITE_IOERR) }
    }

    fn count(&self, state: &mut State, operation: Operation) -> Outcome {
        if self.name.is_some() { state.count(operation) } else { Outcome::Done }
    }
}
