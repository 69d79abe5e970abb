//! What is in the files, and what of it has reached the platter.
//!
//! Modelled on a Linux filesystem, and where Linux filesystems differ, on the least that POSIX lets one rely on: fsync
//! of a file makes its bytes and its size durable, but its name only once the directory is synced; and until a sync, any
//! sector may have been written back or not.

use std::collections::BTreeMap;

use super::image::{Fate, Image};

/// A file, whatever its name is now.
pub(super) type Inode = u64;

/// One thing that was done and is not durable yet.
#[derive(Debug)]
pub(super) enum Change {
    /// A directory entry made.
    Link { name: String, inode: Inode },
    /// A directory entry removed.
    Unlink { name: String },
    /// A new size, larger or smaller.
    Resize { inode: Inode, size: usize },
    /// Bytes within one sector.
    Write { inode: Inode, at: usize, bytes: Vec<u8> },
}

/// A change, and whether the kernel has given it up: after a failed fsync Linux calls the pages clean, and no later
/// fsync writes them.
#[derive(Debug)]
struct Pending {
    change: Change,
    given_up: bool,
}

/// A file's bytes as processes see them, and as they are on the platter.
#[derive(Debug, Default)]
struct Content {
    now: Vec<u8>,
    durable: Vec<u8>,
}

/// Every file of one VFS.
#[derive(Debug)]
pub(super) struct Disk {
    sector_bytes: usize,
    files: BTreeMap<Inode, Content>,
    names: BTreeMap<String, Inode>,
    durable_names: BTreeMap<String, Inode>,
    /// In the order in which they were made.
    pending: Vec<Pending>,
    next: Inode,
}

impl Disk {
    pub(super) fn new(sector_bytes: usize) -> Self {
        Self {
            sector_bytes,
            files: BTreeMap::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            pending: Vec::new(),
            next: 1,
        }
    }

    pub(super) fn sector_bytes(&self) -> usize {
        self.sector_bytes
    }

    pub(super) fn find(&self, name: &str) -> Option<Inode> {
        self.names.get(name).copied()
    }

    /// A new, empty file under `name`.
    pub(super) fn create(&mut self, name: &str) -> Inode {
        let inode = self.create_unnamed();
        self.names.insert(name.to_owned(), inode);
        self.note(Change::Link { name: name.to_owned(), inode });
        inode
    }

    /// A new, empty file that no directory holds: a temporary one.
    pub(super) fn create_unnamed(&mut self) -> Inode {
        let inode = self.next;
        self.next += 1;
        self.files.insert(inode, Content::default());
        inode
    }

    /// Removes a name. Whoever has the file open keeps it.
    pub(super) fn unlink(&mut self, name: &str) {
        self.names.remove(name);
        self.note(Change::Unlink { name: name.to_owned() });
    }

    pub(super) fn bytes(&self, inode: Inode) -> &[u8] {
        &self.files.get(&inode).expect("an open file exists until a restart").now
    }

    pub(super) fn write(&mut self, inode: Inode, at: usize, bytes: &[u8]) {
        let content = self.files.get_mut(&inode).expect("an open file exists until a restart");
        let end = at + bytes.len();
        if end > content.now.len() {
            content.now.resize(end, 0);
            self.note(Change::Resize { inode, size: end });
        }
        put(&mut self.files.get_mut(&inode).expect("found above").now, at, bytes);
        let mut at = at;
        let mut rest = bytes;
        while !rest.is_empty() {
            let (here, later) = rest.split_at(rest.len().min(self.sector_bytes - at % self.sector_bytes));
            self.note(Change::Write { inode, at, bytes: here.to_vec() });
            at += here.len();
            rest = later;
        }
    }

    pub(super) fn resize(&mut self, inode: Inode, size: usize) {
        self.files.get_mut(&inode).expect("an open file exists until a restart").now.resize(size, 0);
        self.note(Change::Resize { inode, size });
    }

    /// Makes a file's bytes and size durable, and with them the name that it has: whatever stood in the directory under
    /// that name before is gone for good.
    pub(super) fn sync(&mut self, inode: Inode) {
        let name = self.names.iter().find(|(_, named)| **named == inode).map(|(name, _)| name.clone());
        self.settle(|change| {
            change.inode() == Some(inode) || change.name().is_some_and(|changed| Some(changed) == name.as_deref())
        });
    }

    /// A sync of the file that failed: what was to be written is never tried again.
    pub(super) fn fail_sync(&mut self, inode: Inode) {
        for pending in self.pending.iter_mut().filter(|pending| pending.change.inode() == Some(inode)) {
            pending.given_up = true;
        }
    }

    /// Makes the names in the directory of `name` durable.
    pub(super) fn sync_directory_of(&mut self, name: &str) {
        let directory = parent(name).to_owned();
        self.settle(|change| change.name().is_some_and(|name| parent(name) == directory));
    }

    /// Bytes of all files that have a name.
    pub(super) fn used_bytes(&self) -> usize {
        self.names.values().map(|inode| self.bytes(*inode).len()).sum()
    }

    /// What a power cut leaves: of the changes that are not durable, those that `image` lets through.
    pub(super) fn cut(&mut self, image: Image) {
        let pending = std::mem::take(&mut self.pending);
        let changes: Vec<&Change> = pending.iter().map(|pending| &pending.change).collect();
        let fates = image.fates(&changes, self.sector_bytes);
        for (pending, fate) in pending.into_iter().zip(fates) {
            match fate {
                Fate::Lost => {}
                Fate::Kept => self.make_durable(pending.change),
                Fate::Torn(mut random) => self.make_durable(self.torn(pending.change, || random.one_in(2))),
            }
        }
        self.names = self.durable_names.clone();
        self.files.retain(|inode, _| self.durable_names.values().any(|named| named == inode));
        for content in self.files.values_mut() {
            content.now = content.durable.clone();
        }
    }

    fn note(&mut self, change: Change) {
        self.pending.push(Pending { change, given_up: false });
    }

    fn settle(&mut self, reached: impl Fn(&Change) -> bool) {
        let (settled, rest) = std::mem::take(&mut self.pending).into_iter().partition(|p| reached(&p.change));
        self.pending = rest;
        let settled: Vec<Pending> = settled;
        for pending in settled.into_iter().filter(|pending| !pending.given_up) {
            self.make_durable(pending.change);
        }
    }

    fn make_durable(&mut self, change: Change) {
        match change {
            Change::Link { name, inode } => {
                self.durable_names.insert(name, inode);
            }
            Change::Unlink { name } => {
                self.durable_names.remove(&name);
            }
            Change::Resize { inode, size } => self.durable(inode).resize(size, 0),
            Change::Write { inode, at, bytes } => put(self.durable(inode), at, &bytes),
        }
    }

    /// The same write, with each byte as it is on the platter or as it was to be.
    fn torn(&self, change: Change, mut is_new: impl FnMut() -> bool) -> Change {
        let Change::Write { inode, at, mut bytes } = change else { return change };
        let durable = &self.files.get(&inode).expect("a pending write has its file").durable;
        for (i, byte) in bytes.iter_mut().enumerate() {
            if !is_new() {
                *byte = durable.get(at + i).copied().unwrap_or(0);
            }
        }
        Change::Write { inode, at, bytes }
    }

    fn durable(&mut self, inode: Inode) -> &mut Vec<u8> {
        &mut self.files.get_mut(&inode).expect("a file with pending changes exists").durable
    }
}

impl Change {
    fn inode(&self) -> Option<Inode> {
        match self {
            Self::Resize { inode, .. } | Self::Write { inode, .. } => Some(*inode),
            Self::Link { .. } | Self::Unlink { .. } => None,
        }
    }

    fn name(&self) -> Option<&str> {
        match self {
            Self::Link { name, .. } | Self::Unlink { name } => Some(name),
            Self::Resize { .. } | Self::Write { .. } => None,
        }
    }
}

fn put(content: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    let end = at + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[at..end].copy_from_slice(bytes);
}

fn parent(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(directory, _)| directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk_with(name: &str, bytes: &[u8]) -> Disk {
        let mut disk = Disk::new(4);
        let inode = disk.create(name);
        disk.write(inode, 0, bytes);
        disk.sync(inode);
        disk
    }

    fn content<'a>(disk: &'a Disk, name: &str) -> Option<&'a [u8]> {
        disk.find(name).map(|inode| disk.bytes(inode))
    }

    #[test]
    fn what_was_synced_survives_and_what_was_not_is_lost() {
        let mut disk = disk_with("/d/a", b"12345678");
        let inode = disk.find("/d/a").expect("it was created");
        disk.write(inode, 2, b"xxxx");
        disk.cut(Image::Nothing);
        assert_eq!(content(&disk, "/d/a"), Some(&b"12345678"[..]));
    }

    #[test]
    fn a_deleted_file_comes_back_unless_its_directory_was_synced() {
        let mut disk = disk_with("/d/a", b"1234");
        disk.unlink("/d/a");
        assert_eq!(content(&disk, "/d/a"), None);
        disk.cut(Image::Nothing);
        assert_eq!(content(&disk, "/d/a"), Some(&b"1234"[..]));
        disk.unlink("/d/a");
        disk.sync_directory_of("/d/other");
        disk.cut(Image::Nothing);
        assert_eq!(content(&disk, "/d/a"), None);
    }

    #[test]
    fn a_file_that_was_never_synced_is_gone_with_its_name() {
        let mut disk = Disk::new(4);
        let inode = disk.create("/d/a");
        disk.write(inode, 0, b"1234");
        disk.cut(Image::Nothing);
        assert_eq!(content(&disk, "/d/a"), None);
    }

    #[test]
    fn a_failed_sync_is_never_made_good_by_a_later_one() {
        let mut disk = disk_with("/d/a", b"1234");
        let inode = disk.find("/d/a").expect("it was created");
        disk.write(inode, 0, b"x");
        disk.fail_sync(inode);
        disk.sync(inode);
        assert_eq!(content(&disk, "/d/a"), Some(&b"x234"[..]), "the kernel's cache still has it");
        disk.cut(Image::Nothing);
        assert_eq!(content(&disk, "/d/a"), Some(&b"1234"[..]));
    }

    #[test]
    fn a_sector_is_old_or_new_or_torn_and_never_goes_back_in_time() {
        let mut torn = false;
        for seed in 0..500 {
            let mut disk = disk_with("/d/a", b"11111111");
            let inode = disk.find("/d/a").expect("it was created");
            disk.write(inode, 0, b"2222");
            disk.write(inode, 0, b"3333");
            disk.write(inode, 4, b"5555");
            disk.cut(Image::seeded(seed));
            let found = content(&disk, "/d/a").expect("its name was synced");
            let (first, second) = found.split_at(4);
            let mixed = |bytes: &[u8], of: &[u8]| bytes.iter().all(|byte| of.contains(byte));
            assert!(mixed(first, b"12") || mixed(first, b"23"), "seed {seed}: {found:?}");
            assert!(mixed(second, b"15"), "seed {seed}: {found:?}");
            torn |= first.windows(2).any(|two| two[0] != two[1]);
        }
        assert!(torn, "some sector is torn");
    }
}
