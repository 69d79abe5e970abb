//! Room: in the file, and on the disk under it.
//!
//! `max_bytes` holds for database, WAL and reserve together. The WAL gets a share of it, the *budget*, at which it is
//! checkpointed; the *reserve* is a file of the same size that does nothing but take up room, so that on a full disk it can
//! be given up: then the deletes that sinks make possible can be written, and the WAL can be copied back.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rusqlite::Connection;

use crate::schema::PAGE_BYTES;

/// How often the filesystem is asked how much is free.
const DISK_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Pages kept free for rows that are not segments, so that a full file can still take checkpoints, ledger entries, and the
/// dead letters of a batch that a sink refuses: a sixteenth of the file, within these bounds.
const HEADROOM_PAGES: std::ops::RangeInclusive<u64> = 64..=4096;

/// Pages of a file without events.
const EMPTY_PAGES: u64 = 32;

/// A file with fewer pages left has met its own limit when SQLite says that it is full.
const AT_THE_LIMIT_PAGES: u64 = 16;

/// What an append is taken to need when somebody asks whether there is room.
const TYPICAL_APPEND_BYTES: u64 = 16 * 1024;

/// A WAL frame's header.
const FRAME_HEADER_BYTES: u64 = 24;

/// What the file may take, and what it takes.
#[derive(Debug)]
pub(crate) struct Space {
    pub(crate) max_bytes: u64,
    pub(crate) wal_budget_bytes: u64,
    max_pages: u64,
    pages: u64,
    free_pages: u64,
    wal_frames: u64,
    reserve: Reserve,
    directory: PathBuf,
    min_free_disk: Option<u64>,
    free_disk: Option<u64>,
    checked: Option<Instant>,
    /// A write failed for want of room and nothing has shown since that there is some.
    disk_full: bool,
}

/// Sizes as [`crate::Status`] reports them.
#[derive(Debug, Clone, Default)]
pub(crate) struct SpaceView {
    pub(crate) file_bytes: u64,
    pub(crate) used_bytes: u64,
    pub(crate) free_disk_bytes: Option<u64>,
    /// Why file or disk would refuse an append of a typical size, if they would.
    pub(crate) held_back: Option<String>,
}

impl Space {
    pub(crate) fn new(path: &Path, max_bytes: u64, min_free_disk: Option<u64>) -> Self {
        let directory = path.parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf);
        let total = disk(&directory).map(|(_, total)| total);
        let wal_budget_bytes = (max_bytes.min(total.unwrap_or(u64::MAX)) / 16).clamp(64 * 1024, 4 * 1024 * 1024);
        let min_free_disk = min_free_disk.or(total.map(|total| (total / 20).min(100 * 1024 * 1024)));
        Self {
            max_bytes,
            wal_budget_bytes,
            max_pages: max_bytes.saturating_sub(2 * wal_budget_bytes) / PAGE_BYTES,
            pages: 0,
            free_pages: 0,
            wal_frames: 0,
            reserve: Reserve { path: crate::open::beside(path, ".reserve"), bytes: wal_budget_bytes, held: false },
            directory,
            min_free_disk,
            free_disk: None,
            checked: None,
            disk_full: false,
        }
    }

    /// Reads the file's size again; after each transaction.
    pub(crate) fn measure(&mut self, db: &Connection) -> rusqlite::Result<()> {
        self.pages = db.pragma_query_value(None, "page_count", |row| row.get::<_, i64>(0))? as u64;
        self.free_pages = db.pragma_query_value(None, "freelist_count", |row| row.get::<_, i64>(0))? as u64;
        Ok(())
    }

    pub(crate) fn max_pages(&self) -> u64 {
        self.max_pages
    }

    pub(crate) fn free_pages(&self) -> u64 {
        self.free_pages
    }

    pub(crate) fn pages(&self) -> u64 {
        self.pages
    }

    /// Counts what a segment takes before the file is measured again.
    pub(crate) fn take(&mut self, bytes: u64) {
        let pages = bytes.div_ceil(PAGE_BYTES);
        let reused = pages.min(self.free_pages);
        self.free_pages -= reused;
        self.pages += pages - reused;
    }

    /// Why `bytes` more do not fit into the file or on the disk, if they do not.
    pub(crate) fn refuse(&self, bytes: u64) -> Option<String> {
        let pages = bytes.div_ceil(PAGE_BYTES) + 2;
        // A batch larger than the WAL's budget makes it grow beyond that, for as long as it is not copied back.
        let over = (self.wal_bytes() + bytes + bytes / 16).saturating_sub(self.wal_budget_bytes) / PAGE_BYTES;
        if self.pages - self.free_pages + pages + over + self.headroom_pages() > self.max_pages {
            return Some(format!("the file has reached max_bytes ({} bytes)", self.max_bytes));
        }
        if pages <= self.free_pages {
            return None; // Nothing grows: the disk does not come into it.
        }
        if self.disk_full {
            return Some("the disk is full".to_owned());
        }
        let (free, min) = (self.free_disk?, self.min_free_disk?);
        (free < min + bytes).then(|| format!("the disk has {free} bytes free, and min_free_disk is {min}"))
    }

    /// Why `bytes` would not even fit into an empty file, if they would not.
    pub(crate) fn never(&self, bytes: u64) -> Option<String> {
        let over = (bytes + bytes / 16).saturating_sub(self.wal_budget_bytes) / PAGE_BYTES;
        let pages = bytes.div_ceil(PAGE_BYTES) + over + self.headroom_pages() + EMPTY_PAGES;
        (pages > self.max_pages)
            .then(|| format!("a batch of {bytes} bytes does not fit into the buffer, max_bytes = {}", self.max_bytes))
    }

    fn headroom_pages(&self) -> u64 {
        (self.max_pages / 16).clamp(*HEADROOM_PAGES.start(), *HEADROOM_PAGES.end())
    }

    /// Whether the file has come to its own limit, whatever the disk has left.
    pub(crate) fn is_at_its_limit(&self) -> bool {
        self.pages + AT_THE_LIMIT_PAGES >= self.max_pages && self.free_pages < AT_THE_LIMIT_PAGES
    }

    /// Asks the filesystem, if the last answer is old.
    pub(crate) fn look_at_disk(&mut self) {
        if self.checked.is_some_and(|checked| checked.elapsed() < DISK_CHECK_INTERVAL) {
            return;
        }
        self.checked = Some(Instant::now());
        self.free_disk = disk(&self.directory).map(|(free, _)| free);
        let spare = self.free_disk.unwrap_or(u64::MAX).saturating_sub(self.min_free_disk.unwrap_or(0));
        if spare > 2 * self.reserve.bytes {
            self.disk_full = false;
        }
        if spare > self.reserve.bytes || (!self.reserve.held && self.free_disk.is_none()) {
            self.reserve.hold();
        }
    }

    /// A write failed because the disk is full: gives up the reserve. False if there was nothing to give up.
    pub(crate) fn disk_is_full(&mut self) -> bool {
        if !self.disk_full {
            log::warn!("the disk under {} is full: producers are held back", self.directory.display());
        }
        self.disk_full = true;
        self.checked = Some(Instant::now());
        self.reserve.give_up()
    }

    pub(crate) fn wal_frames(&mut self, frames: u64) {
        self.wal_frames = frames;
    }

    pub(crate) fn wal_bytes(&self) -> u64 {
        self.wal_frames * (PAGE_BYTES + FRAME_HEADER_BYTES)
    }

    pub(crate) fn view(&self) -> SpaceView {
        SpaceView {
            file_bytes: self.pages * PAGE_BYTES + self.wal_bytes() + self.reserve.held_bytes(),
            used_bytes: (self.pages - self.free_pages) * PAGE_BYTES,
            free_disk_bytes: self.free_disk,
            held_back: self.refuse(TYPICAL_APPEND_BYTES),
        }
    }
}

/// Bytes free to us, and in all, of the filesystem under `directory`.
pub(crate) fn disk(directory: &Path) -> Option<(u64, u64)> {
    let stat = rustix::fs::statvfs(directory).ok()?;
    Some((stat.f_bavail * stat.f_frsize, stat.f_blocks * stat.f_frsize))
}

/// Removes the reserve of the buffer at `path`. False if there was none.
pub(crate) fn give_up_reserve(path: &Path) -> bool {
    fs::remove_file(crate::open::beside(path, ".reserve")).is_ok()
}

/// The file that is given up when the disk is full.
#[derive(Debug)]
struct Reserve {
    path: PathBuf,
    bytes: u64,
    held: bool,
}

impl Reserve {
    fn hold(&mut self) {
        if self.held {
            return;
        }
        match self.fill() {
            Ok(()) => self.held = true,
            Err(error) => {
                log::debug!("no reserve beside the buffer for now: {}: {error}", self.path.display());
                self.give_up();
            }
        }
    }

    /// Written out, for a sparse file would reserve nothing.
    fn fill(&self) -> io::Result<()> {
        if fs::metadata(&self.path).is_ok_and(|metadata| metadata.len() == self.bytes) {
            return Ok(());
        }
        let mut file: File = OpenOptions::new().create(true).write(true).truncate(true).open(&self.path)?;
        let chunk = vec![0xFB; 64 * 1024];
        let mut left = self.bytes;
        while left > 0 {
            let length = left.min(chunk.len() as u64);
            file.write_all(&chunk[..length as usize])?;
            left -= length;
        }
        file.sync_all()
    }

    fn give_up(&mut self) -> bool {
        self.held = false;
        fs::remove_file(&self.path).is_ok()
    }

    fn held_bytes(&self) -> u64 {
        if self.held { self.bytes } else { 0 }
    }
}
