//! A disk that remembers every change, can be cut off at any of them, and then tells what a device might have kept.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs::{self, File},
    io,
    path::Path,
    sync::{Arc, Mutex},
};

use crate::sink::file::disk::{Disk, RealDisk};

const SECTOR: usize = 512;

/// What ended the process.
#[derive(Debug, Clone, Copy)]
pub(super) enum Aftermath {
    /// `kill -9`: all that was written is there, and half of what was being written.
    Kill,
    /// A power cut: of what was not synced, each sector may be there or not. Without `synced`, syncing did nothing.
    PowerCut { seed: u64, synced: bool },
}

#[derive(Clone)]
pub(super) struct TestDisk(Arc<Mutex<Log>>);

struct Log {
    changes: Vec<(OsString, Change)>,
    cut_at: usize,
}

#[derive(Clone)]
enum Change {
    Create,
    Write(Vec<u8>, u64),
    Truncate(u64),
    Sync,
    SyncDirectory,
    Remove,
}

impl TestDisk {
    /// A disk whose power fails at its change number `cut`.
    pub(super) fn cut_at(cut: usize) -> Self {
        Self(Arc::new(Mutex::new(Log { changes: Vec::new(), cut_at: cut })))
    }

    /// A disk whose power never fails. It does not sync, which takes long.
    pub(super) fn whole() -> Self {
        Self::cut_at(usize::MAX)
    }

    /// The process starts again, on the same disk: what was written is there, and what was not synced still is not.
    pub(super) fn killed_and_cut_after(&self, more: usize) {
        let mut log = self.0.lock().expect("no holder of this lock panics");
        // What was happening when it was killed has not happened.
        let cut = log.cut_at;
        log.changes.truncate(cut);
        log.cut_at = cut + more;
    }

    fn change(&self, path: &Path, change: Change) -> io::Result<()> {
        let mut log = self.0.lock().expect("no holder of this lock panics");
        let name = path.file_name().unwrap_or_default().to_owned();
        match log.changes.len().cmp(&log.cut_at) {
            std::cmp::Ordering::Less => {
                log.changes.push((name, change));
                Ok(())
            }
            // A write may have been half done when it happened.
            std::cmp::Ordering::Equal if matches!(change, Change::Write(..)) => {
                log.changes.push((name, change));
                Err(io::Error::other("the power is out"))
            }
            _ => Err(io::Error::other("the power is out")),
        }
    }

    /// Makes `directory` what is left.
    pub(super) fn restore(&self, directory: &Path, aftermath: Aftermath) {
        let log = self.0.lock().expect("no holder of this lock panics");
        let mut changes = log.changes.clone();
        let (mut random, mut synced) = (Random(1), true);
        if let Aftermath::PowerCut { seed, synced: keeps } = aftermath {
            (random, synced) = (Random(seed | 1), keeps);
        } else if let Some((_, Change::Write(bytes, _))) = changes.get_mut(log.cut_at) {
            bytes.truncate(bytes.len() / 2);
        }
        let mut left = Left::default();
        for (name, change) in changes {
            left.apply(name, change, synced);
        }
        for (name, contents) in left.contents(matches!(aftermath, Aftermath::Kill), &mut random) {
            fs::write(directory.join(name), contents).expect("there is room");
        }
    }
}

#[derive(Default)]
struct Left(BTreeMap<OsString, Leftover>);

#[derive(Default)]
struct Leftover {
    durable: Vec<u8>,
    named: bool,
    removed: bool,
    pending: Vec<Change>,
}

impl Left {
    fn apply(&mut self, name: OsString, change: Change, synced: bool) {
        match change {
            Change::SyncDirectory => {
                for file in self.0.values_mut().filter(|_| synced) {
                    file.named = true;
                }
                if synced {
                    self.0.retain(|_, file| !file.removed);
                }
            }
            Change::Sync => {
                let file = self.0.entry(name).or_default();
                for change in file.pending.drain(..).filter(|_| synced) {
                    keep(&mut file.durable, &change, |_| true);
                }
            }
            Change::Create => drop(self.0.insert(name, Leftover::default())),
            Change::Remove => self.0.entry(name).or_default().removed = true,
            change => self.0.entry(name).or_default().pending.push(change),
        }
    }

    fn contents(self, all: bool, random: &mut Random) -> Vec<(OsString, Vec<u8>)> {
        let mut contents = Vec::new();
        for (name, file) in self.0 {
            if !(file.named || all || random.coin()) || (file.removed && (all || random.coin())) {
                continue;
            }
            let mut bytes = file.durable;
            for change in &file.pending {
                keep(&mut bytes, change, |_| all || random.coin());
            }
            contents.push((name, bytes));
        }
        contents
    }
}

/// Applies those sectors of a change for which `kept` says so.
fn keep(bytes: &mut Vec<u8>, change: &Change, mut kept: impl FnMut(usize) -> bool) {
    match change {
        Change::Truncate(length) if kept(0) => bytes.truncate(*length as usize),
        Change::Write(written, position) => {
            let mut at = *position as usize;
            let mut rest = &written[..];
            while !rest.is_empty() {
                let (now, later) = rest.split_at(rest.len().min(SECTOR - at % SECTOR));
                if kept(at) {
                    bytes.resize(bytes.len().max(at + now.len()), 0);
                    bytes[at..at + now.len()].copy_from_slice(now);
                }
                (at, rest) = (at + now.len(), later);
            }
        }
        _ => {}
    }
}

/// Splitmix64: enough for coins.
struct Random(u64);

impl Random {
    fn coin(&mut self) -> bool {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) & 1 == 1
    }
}

impl Disk for TestDisk {
    fn create(&self, path: &Path) -> io::Result<File> {
        if !path.exists() {
            self.change(path, Change::Create)?;
        }
        RealDisk.create(path)
    }

    fn open(&self, path: &Path) -> io::Result<File> {
        RealDisk.open(path)
    }

    fn write_at(&self, path: &Path, file: &File, bytes: &[u8], position: u64) -> io::Result<()> {
        self.change(path, Change::Write(bytes.to_vec(), position))?;
        RealDisk.write_at(path, file, bytes, position)
    }

    fn truncate(&self, path: &Path, file: &File, length: u64) -> io::Result<()> {
        self.change(path, Change::Truncate(length))?;
        RealDisk.truncate(path, file, length)
    }

    fn sync(&self, path: &Path, _file: &File) -> io::Result<()> {
        self.change(path, Change::Sync)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        self.change(path, Change::SyncDirectory)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.change(path, Change::Remove)?;
        RealDisk.remove(path)
    }
}
