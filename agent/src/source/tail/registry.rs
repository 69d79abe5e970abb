//! Which file is whose: a file is read by one follower only, under however many names it is found.
//!
//! With a pattern such as `app.log*` a rotated file turns up as a new path. It is not new: the follower of the path
//! that it had before reads it to its end, and nobody reads it again.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard},
};

use super::{file::FileId, position::Identity};

/// Files remembered that nobody has open.
const MAX_REMEMBERED: usize = 4_096;

/// Shared by all followers of one source.
#[derive(Debug, Default)]
pub(super) struct Registry(Mutex<Files>);

#[derive(Debug, Default)]
struct Files {
    /// Files that a follower has open, and the path it follows. They exist, so that their numbers are theirs.
    open: HashMap<FileId, String>,
    /// Files that belong to a path and are not open: read to their end, or waiting for their follower to start.
    remembered: VecDeque<(Identity, String, Remembered)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Remembered {
    /// The stored position of a path is in it.
    Waiting,
    /// It was read to its end.
    Finished,
}

impl Registry {
    /// Remembers that the stored position of `path` is in a file.
    pub(super) fn expect(&self, file: Identity, path: &str) {
        self.files().remember(file, path, Remembered::Waiting);
    }

    /// Remembers that a file was read to its end as `path`.
    pub(super) fn finish(&self, file: Identity, path: &str) {
        self.files().open.remove(&FileId { device: file.device, inode: file.inode });
        self.remember_finished(file, path);
    }

    /// Remembers what a stored position says: that a file was read to its end as `path`.
    pub(super) fn remember_finished(&self, file: Identity, path: &str) {
        // Of an empty file nothing tells it from the next one with its number.
        if file.head_bytes > 0 {
            self.files().remember(file, path, Remembered::Finished);
        }
    }

    /// Whether the follower of `path` may read the file `id`, which begins with `head`. If so, it is open from now on.
    pub(super) fn claim(&self, id: FileId, head: &[u8], path: &str) -> bool {
        let mut files = self.files();
        if let Some(owner) = files.open.get(&id) {
            return owner == path;
        }
        let taken = files
            .remembered
            .iter()
            .any(|(file, owner, state)| file.is(id, head) && (owner != path || *state == Remembered::Finished));
        if !taken {
            files.open.insert(id, path.to_owned());
        }
        !taken
    }

    /// Lets go of a file that is not finished.
    pub(super) fn release(&self, id: FileId) {
        self.files().open.remove(&id);
    }

    /// Whether a file was read to its end as `path`.
    pub(super) fn is_finished(&self, file: &Identity, path: &str) -> bool {
        let entry = (*file, path, Remembered::Finished);
        self.files().remembered.iter().any(|(file, path, state)| (*file, path.as_str(), *state) == entry)
    }

    fn files(&self) -> MutexGuard<'_, Files> {
        self.0.lock().expect("no holder of this lock panics")
    }
}

impl Files {
    fn remember(&mut self, file: Identity, path: &str, state: Remembered) {
        self.remembered
            .retain(|(other, owner, _)| owner != path || (other.device, other.inode) != (file.device, file.inode));
        if self.remembered.len() == MAX_REMEMBERED {
            self.remembered.pop_front();
        }
        self.remembered.push_back((file, path.to_owned(), state));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: FileId = FileId { device: 1, inode: 2 };

    #[test]
    fn a_file_under_two_names_is_read_once() {
        let registry = Registry::default();
        assert!(registry.claim(ID, b"head", "a.log"));
        assert!(!registry.claim(ID, b"head", "a.log.1"));
        registry.finish(Identity::new(ID, b"head"), "a.log");
        assert!(!registry.claim(ID, b"head", "a.log.1"), "it has been read");
        assert!(registry.claim(ID, b"another", "a.log.1"), "its number was given to another file");
    }

    #[test]
    fn a_stored_position_keeps_its_file_for_its_path() {
        let registry = Registry::default();
        registry.expect(Identity::new(ID, b"head"), "a.log");
        assert!(!registry.claim(ID, b"head", "a.log.1"));
        assert!(registry.claim(ID, b"head", "a.log"));
        registry.release(ID);
        assert!(!registry.claim(ID, b"head", "a.log.1"));
    }

    #[test]
    fn what_is_remembered_is_limited() {
        let registry = Registry::default();
        for inode in 0..MAX_REMEMBERED as u64 + 10 {
            registry.finish(Identity::new(FileId { device: 1, inode }, b"head"), "a.log");
        }
        assert_eq!(registry.files().remembered.len(), MAX_REMEMBERED);
        registry.finish(Identity::new(ID, b""), "a.log");
        assert!(registry.claim(ID, b"", "a.log"), "an empty file is like any other");
    }
}
