//! The few things that the writer does to a filesystem, so that a test can cut the power between any two of them.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt, MetadataExt},
    path::Path,
};

/// Changes to files. What is only read is read directly.
pub(super) trait Disk: Send + 'static {
    /// Creates a file that must not be there yet.
    fn create(&self, path: &Path) -> io::Result<File>;
    /// Opens a file for reading and writing.
    fn open(&self, path: &Path) -> io::Result<File>;
    /// Writes all of `bytes` at `position`.
    fn write_at(&self, path: &Path, file: &File, bytes: &[u8], position: u64) -> io::Result<()>;
    /// Cuts a file off at `length`.
    fn truncate(&self, path: &Path, file: &File, length: u64) -> io::Result<()>;
    /// Makes what was written durable, its length included.
    fn sync(&self, path: &Path, file: &File) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync_directory(&self, path: &Path) -> io::Result<()>;
    /// Whether an open file is still the one of that name: bytes in a file that was deleted are in nobody's hands.
    fn is_named(&self, path: &Path, file: &File) -> io::Result<bool> {
        let open = file.metadata()?;
        match std::fs::metadata(path) {
            Ok(named) => Ok((named.dev(), named.ino()) == (open.dev(), open.ino())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
    /// Deletes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
}

/// The filesystem as it is.
pub(super) struct RealDisk;

impl Disk for RealDisk {
    fn create(&self, path: &Path) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).create_new(true).open(path)
    }

    fn open(&self, path: &Path) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).open(path)
    }

    fn write_at(&self, _path: &Path, file: &File, bytes: &[u8], position: u64) -> io::Result<()> {
        file.write_all_at(bytes, position)
    }

    fn truncate(&self, _path: &Path, file: &File, length: u64) -> io::Result<()> {
        file.set_len(length)
    }

    fn sync(&self, _path: &Path, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }
}
