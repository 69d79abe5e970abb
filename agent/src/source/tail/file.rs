//! The blocking calls on one file, and nothing that waits for anything but the file system.

use std::{
    fs::{self, File, Metadata, OpenOptions},
    io,
    os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
    path::Path,
};

use memchr::memrchr;
use rustix::fs::OFlags;

use super::position::HEAD_BYTES;

/// Which file it is, for as long as it exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct FileId {
    pub(super) device: u64,
    pub(super) inode: u64,
}

/// What the file system says of a regular file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Look {
    pub(super) id: FileId,
    pub(super) size_bytes: u64,
    /// Names it has. None: it is deleted, and lives on for those who have it open.
    pub(super) links: u64,
    /// When it was last written to: seconds and nanoseconds.
    pub(super) modified: (i64, i64),
}

impl Look {
    fn of(metadata: &Metadata) -> Self {
        Self {
            id: FileId { device: metadata.dev(), inode: metadata.ino() },
            size_bytes: metadata.size(),
            links: metadata.nlink(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

/// Looks at what is at `path`. `None`: no regular file.
pub(super) fn look(path: &Path) -> io::Result<Option<Look>> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => Ok(Some(Look::of(&metadata))),
        Ok(_) => Ok(None),
        Err(error) if is_absence(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Looks at an open file.
pub(super) fn look_at(file: &File) -> io::Result<Look> {
    file.metadata().map(|metadata| Look::of(&metadata))
}

/// Opens the regular file at `path`. `None`: there is none. Never waits for the other end of a named pipe.
pub(super) fn open(path: &Path) -> io::Result<Option<(File, Look)>> {
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) if is_absence(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    let metadata = file.metadata()?;
    Ok(metadata.is_file().then(|| (file, Look::of(&metadata))))
}

/// Reads from `offset` on: `max_bytes`, or up to the end of the file.
pub(super) fn read_at(file: &File, offset: u64, max_bytes: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; max_bytes];
    let mut filled = 0;
    while filled < max_bytes {
        match file.read_at(&mut bytes[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(size) => filled += size,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

/// The first bytes of a file, by which it is recognised.
pub(super) fn head(file: &File) -> io::Result<Vec<u8>> {
    read_at(file, 0, HEAD_BYTES)
}

/// Where the last line begins that has no end yet, within the last `reach_bytes`; else the end of the file.
pub(super) fn last_line_start(file: &File, size_bytes: u64, reach_bytes: usize) -> io::Result<u64> {
    let from = size_bytes.saturating_sub(reach_bytes as u64);
    let length = usize::try_from(size_bytes - from).expect("the reach fits");
    let end = read_at(file, from, length)?;
    Ok(match memrchr(b'\n', &end) {
        Some(newline) => from + newline as u64 + 1,
        None if from == 0 => 0,
        None => size_bytes,
    })
}

fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_regular_file_is_opened() {
        let folder = tempfile::tempdir().expect("a folder");
        let pipe = folder.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0)
            .expect("a named pipe");
        for path in [folder.path(), &pipe, &folder.path().join("none"), &pipe.join("below")] {
            assert!(open(path).expect("no error").is_none(), "{path:?}");
            assert_eq!(look(path).expect("no error"), None);
        }
    }

    #[test]
    fn the_last_line_without_an_end_is_found() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        for (text, reach_bytes, expected) in
            [("one\ntwo", 100, 4), ("one\n", 100, 4), ("one", 100, 0), ("", 100, 0), ("one\ntwo", 2, 7)]
        {
            fs::write(&path, text).expect("a write");
            let (file, look) = open(&path).expect("no error").expect("a file");
            assert_eq!(last_line_start(&file, look.size_bytes, reach_bytes).expect("no error"), expected, "{text:?}");
        }
    }

    #[test]
    fn a_read_ends_at_the_end_of_the_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        fs::write(&path, "0123456789").expect("a write");
        let (file, _) = open(&path).expect("no error").expect("a file");
        assert_eq!(read_at(&file, 8, 100).expect("no error"), b"89");
        assert_eq!(read_at(&file, 80, 100).expect("no error"), b"");
        assert_eq!(head(&file).expect("no error"), b"0123456789");
    }
}
