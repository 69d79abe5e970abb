//! The files of a salvage, and the order in which they change places, so that one cut short at any moment is done again
//! from what was set aside, and never taken for a new, empty buffer.
//!
//! `.salvage` says that one is under way, where the damaged file goes and why; `.salvaging` is the new file until all is
//! in it.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use crate::open::beside;

/// What SQLite keeps of a database, the database last: without the others it would be read as another state of itself.
const SUFFIXES: [&str; 3] = ["-wal", "-shm", ""];

/// One salvage under way.
#[derive(Debug)]
pub(super) struct Replacement {
    path: PathBuf,
    /// Where the damaged file goes.
    pub(super) aside: PathBuf,
    /// Where the new one is made.
    pub(super) building: PathBuf,
    /// What was wrong.
    pub(super) reason: String,
}

/// Whether a salvage of the buffer at `path` was cut short.
pub(crate) fn is_under_way(path: &Path) -> bool {
    marker(path).exists()
}

fn marker(path: &Path) -> PathBuf {
    beside(path, ".salvage")
}

impl Replacement {
    /// Begins, or takes up what was cut short: the reason is the first one then.
    pub(super) fn begin(path: &Path, reason: &str) -> io::Result<Self> {
        let (number, reason) = match fs::read_to_string(marker(path)).ok().as_deref().and_then(|it| it.split_once('\n'))
        {
            Some((number, reason)) => (number.to_owned(), reason.to_owned()),
            None => {
                let is_free = |number: &u32| !beside(path, &format!(".damaged-{number}")).exists();
                let number = (1..).find(is_free).expect("a number is free").to_string();
                let mut file = File::create(marker(path))?;
                file.write_all(format!("{number}\n{reason}").as_bytes())?;
                file.sync_all()?;
                sync_directory(path)?;
                (number, reason.to_owned())
            }
        };
        let aside = beside(path, &format!(".damaged-{number}"));
        Ok(Self { path: path.to_owned(), aside, building: beside(path, ".salvaging"), reason })
    }

    /// Whether the new file is in its place already.
    pub(super) fn is_done(&self) -> bool {
        self.aside.exists() && self.path.exists()
    }

    /// Moves the damaged file away, and clears the place for the new one.
    pub(super) fn set_aside(&self) -> io::Result<()> {
        for suffix in SUFFIXES {
            let from = beside(&self.path, suffix);
            if from.exists() {
                fs::rename(from, beside(&self.aside, suffix))?;
            }
        }
        for suffix in SUFFIXES {
            let left = beside(&self.building, suffix);
            if left.exists() {
                fs::remove_file(left)?;
            }
        }
        sync_directory(&self.path)
    }

    /// Puts the new file, closed by now, in its place.
    pub(super) fn finish(&self) -> io::Result<()> {
        if !self.is_done() {
            fs::rename(&self.building, &self.path)?;
            sync_directory(&self.path)?;
        }
        for note in [".damaged", ".salvage"] {
            let note = beside(&self.path, note);
            if note.exists() {
                fs::remove_file(note)?;
            }
        }
        Ok(())
    }
}

fn sync_directory(path: &Path) -> io::Result<()> {
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}
