//! Which file is whose: a file is read by one follower only, under however many names it is found.
//!
//! With a pattern such as `app.log*` a rotated file turns up as a new path. It is not new: the follower of the path
//! that it had before reads it to its end, and nobody reads it again.

use std::{
    collections::{HashMap, VecDeque},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard},
};

use super::{
    file::FileId,
    position::{Identity, Position},
    rotation,
};

/// Files remembered that nobody has open.
const MAX_REMEMBERED: usize = 16_384;

/// Shared by all followers of one source.
#[derive(Debug, Default)]
pub(super) struct Registry(Mutex<Files>);

#[derive(Debug, Default)]
struct Files {
    /// Files that a follower has open, and the path it follows. They exist, so that their numbers are theirs.
    open: HashMap<FileId, PathBuf>,
    /// Files that belong to a path and are not open: read to their end, or waiting for their follower to start.
    remembered: VecDeque<(Identity, PathBuf, Remembered)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Remembered {
    /// The stored position of a path is in it.
    Waiting,
    /// It was read to its end.
    Finished,
}

impl Registry {
    /// Remembers what the stored position of `path` says: which file it is in, and which were read to their end.
    pub(super) fn expect(&self, position: &Position, path: &Path) {
        let mut files = self.files();
        position.finished.iter().for_each(|file| files.remember_finished(*file, path));
        // The last word on an inode number that was used again.
        files.remember(position.file, path, Remembered::Waiting);
    }

    /// Remembers that a file was read to its end as `path`.
    pub(super) fn finish(&self, file: Identity, path: &Path) {
        let mut files = self.files();
        files.open.remove(&FileId { device: file.device, inode: file.inode });
        files.forget(&file, path);
        files.remember_finished(file, path);
    }

    /// Whether the follower of `path` may read the file `id`, which begins with `head`. If so, it is open from now on.
    pub(super) fn claim(&self, id: FileId, head: &[u8], path: &Path) -> bool {
        let mut files = self.files();
        if let Some(owner) = files.open.get(&id) {
            return owner == path;
        }
        let taken = files.remembered.iter().any(|(file, owner, state)| {
            let is_kept = *state == Remembered::Finished || owner != path;
            is_kept && file.is(id, head) && (file.head_bytes > 0 || rotation::is_rotated(owner, path))
        });
        if !taken {
            // What was expected and of which nothing was read yet is this file, or gone.
            files.remembered.retain(|(file, owner, _)| owner != path || file.head_bytes > 0 || file.inode == id.inode);
            files.open.insert(id, path.to_owned());
        }
        !taken
    }

    /// Lets go of a file that is not finished.
    pub(super) fn release(&self, id: FileId) {
        self.files().open.remove(&id);
    }

    /// Whether a file was read to its end as `path`.
    pub(super) fn is_finished(&self, file: &Identity, path: &Path) -> bool {
        let entry = (*file, path, Remembered::Finished);
        self.files().remembered.iter().any(|(file, path, state)| (*file, path.as_path(), *state) == entry)
    }

    fn files(&self) -> MutexGuard<'_, Files> {
        self.0.lock().expect("no holder of this lock panics")
    }
}

impl Files {
    fn forget(&mut self, file: &Identity, path: &Path) {
        self.remembered
            .retain(|(other, owner, _)| owner != path || (other.device, other.inode) != (file.device, file.inode));
    }

    fn remember_finished(&mut self, file: Identity, path: &Path) {
        // Of an empty file nothing tells it from the next one with its number.
        if file.head_bytes > 0 {
            self.remember(file, path, Remembered::Finished);
        }
    }

    fn remember(&mut self, file: Identity, path: &Path, state: Remembered) {
        self.forget(&file, path);
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
        assert!(registry.claim(ID, b"head", Path::new("a.log")));
        assert!(!registry.claim(ID, b"head", Path::new("a.log.1")));
        registry.finish(Identity::new(ID, b"head"), Path::new("a.log"));
        assert!(!registry.claim(ID, b"head", Path::new("a.log.1")), "it has been read");
        assert!(registry.claim(ID, b"another", Path::new("a.log.1")), "its number was given to another file");
    }

    #[test]
    fn a_stored_position_keeps_its_file_for_its_path() {
        let registry = Registry::default();
        registry.expect(&Position::new(Identity::new(ID, b"head"), 4, &[]), Path::new("a.log"));
        assert!(!registry.claim(ID, b"head", Path::new("a.log.1")));
        assert!(registry.claim(ID, b"head", Path::new("a.log")));
        registry.release(ID);
        assert!(!registry.claim(ID, b"head", Path::new("a.log.1")));
    }

    #[test]
    fn a_finished_file_whose_number_was_used_again_does_not_free_its_successor() {
        let registry = Registry::default();
        let finished = [Identity::new(ID, b"old")];
        registry.expect(&Position::new(Identity::new(ID, b"head"), 4, &finished), Path::new("a.log"));
        assert!(!registry.claim(ID, b"head", Path::new("a.log.1")));
        assert!(registry.claim(ID, b"head", Path::new("a.log")));
    }

    #[test]
    fn a_file_of_which_nothing_was_read_is_kept_for_its_path_and_not_from_other_logs() {
        let (a, rotated, other) = (Path::new("/v/a.log"), Path::new("/v/a.log.1"), Path::new("/v/b.log"));
        let registry = Registry::default();
        registry.expect(&Position::new(Identity::new(ID, b""), 0, &[]), a);
        assert!(!registry.claim(ID, b"head", rotated));
        assert!(registry.claim(ID, b"head", other), "it was given the inode number of a deleted file");
        registry.release(ID);
        assert!(registry.claim(ID, b"", a));
        registry.finish(Identity::new(ID, b""), a);
        assert!(registry.claim(ID, b"head", rotated), "nothing is expected any more");
    }

    #[test]
    fn what_is_remembered_is_limited() {
        let registry = Registry::default();
        for inode in 0..MAX_REMEMBERED as u64 + 10 {
            registry.finish(Identity::new(FileId { device: 1, inode }, b"head"), Path::new("a.log"));
        }
        assert_eq!(registry.files().remembered.len(), MAX_REMEMBERED);
        registry.finish(Identity::new(ID, b""), Path::new("a.log"));
        assert!(registry.claim(ID, b"", Path::new("a.log")), "an empty file is like any other");
    }
}
