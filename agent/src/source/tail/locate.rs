//! Which file to read for a path, and from where: the one decision that a start depends on.

use std::{fs::File, io, path::Path, sync::Arc};

use super::{
    file::{self, FileId, Look},
    position::Position,
    rotation,
};

/// Where to begin with a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    /// At the first byte of what is there.
    Beginning,
    /// At the last line of what is there, if it has no end yet, else behind it. Looks back no further than this.
    End {
        /// How long that line may be, in bytes.
        reach_bytes: usize,
    },
    /// Where the last run stopped.
    Stored(Position),
}

/// A file, open, and the place in it to begin at.
#[derive(Debug)]
pub(super) struct Located {
    pub(super) file: Arc<File>,
    pub(super) id: FileId,
    /// Its first bytes, read or not.
    pub(super) head: Vec<u8>,
    pub(super) offset: u64,
    /// What an operator should know: lines may be missing before this place.
    pub(super) warning: Option<String>,
}

/// Finds the file for `path` and the place in it. `None`: there is none. Blocks.
pub(super) fn locate(path: &Path, origin: &Origin) -> io::Result<Option<Located>> {
    let position = match origin {
        Origin::Stored(position) => position,
        Origin::Beginning => return open(path, |_, _| Ok(0)),
        Origin::End { reach_bytes } => {
            return open(path, |file, look| file::last_line_start(file, look.size_bytes, *reach_bytes));
        }
    };
    let mut looks = 0;
    let rotated = loop {
        if let Some(found) = go_on(path, position)? {
            return Ok(Some(found));
        }
        let rotated = rotation::find(path, &position.file)?;
        if let Some(rotated) = &rotated
            && let Some(found) = go_on(rotated, position)?
        {
            return Ok(Some(found));
        }
        looks += 1;
        if looks == rotation::LOOKS {
            break rotated;
        }
    };
    let Some(mut found) = open(rotated.as_deref().unwrap_or(path), |_, _| Ok(0))? else { return Ok(None) };
    if position.offset > 0 {
        found.warning = Some(format!(
            "{}: the file that was read up to byte {} is gone or was cut short while nobody was looking; reading what \
             is there now from its beginning (lines written in between were never seen: look for them in rotated or \
             compressed files)",
            path.display(),
            position.offset
        ));
    }
    Ok(Some(found))
}

fn open(path: &Path, offset: impl FnOnce(&File, &Look) -> io::Result<u64>) -> io::Result<Option<Located>> {
    let Some((file, look)) = file::open(path)? else { return Ok(None) };
    let offset = offset(&file, &look)?;
    let head = file::head(&file)?;
    Ok(Some(Located { file: Arc::new(file), id: look.id, head, offset, warning: None }))
}

/// Opens `path` at the stored offset, if it is the file of the position and has that many bytes.
fn go_on(path: &Path, position: &Position) -> io::Result<Option<Located>> {
    let Some((file, look)) = file::open(path)? else { return Ok(None) };
    let head = file::head(&file)?;
    if !position.file.is(look.id, &head) || look.size_bytes < position.offset {
        return Ok(None);
    }
    Ok(Some(Located { file: Arc::new(file), id: look.id, head, offset: position.offset, warning: None }))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::source::tail::position::Identity;

    struct Folder(tempfile::TempDir);

    impl Folder {
        fn new() -> Self {
            Self(tempfile::tempdir().expect("a folder"))
        }

        fn path(&self, name: &str) -> std::path::PathBuf {
            self.0.path().join(name)
        }

        fn write(&self, name: &str, text: &str) {
            fs::write(self.path(name), text).expect("a write");
        }

        fn stored(&self, name: &str, offset: u64) -> Origin {
            let found = open(&self.path(name), |_, _| Ok(offset)).expect("no error").expect("a file");
            let taken = &found.head[..usize::try_from(offset).expect("the files are short")];
            Origin::Stored(Position::new(Identity::new(found.id, taken), offset, &[]))
        }

        fn found(&self, origin: &Origin) -> (u64, FileId, bool) {
            let found = locate(&self.path("a.log"), origin).expect("no error").expect("a file");
            (found.offset, found.id, found.warning.is_some())
        }

        fn id(&self, name: &str) -> FileId {
            file::look(&self.path(name)).expect("no error").expect("a file").id
        }
    }

    #[test]
    fn a_file_that_only_grew_goes_on_where_it_was_left() {
        let folder = Folder::new();
        folder.write("a.log", "one\n");
        let origin = folder.stored("a.log", 4);
        folder.write("a.log", "one\ntwo\n");
        assert_eq!(folder.found(&origin), (4, folder.id("a.log"), false));
    }

    #[test]
    fn a_renamed_file_is_found_and_goes_on_where_it_was_left() {
        let folder = Folder::new();
        folder.write("a.log", "one\ntwo\n");
        let origin = folder.stored("a.log", 4);
        fs::rename(folder.path("a.log"), folder.path("a.log.1")).expect("a rename");
        assert_eq!(folder.found(&origin), (4, folder.id("a.log.1"), false), "no file is at the path just now");
        folder.write("a.log", "three\n");
        assert_eq!(folder.found(&origin), (4, folder.id("a.log.1"), false));
    }

    #[test]
    fn a_file_that_is_renamed_meanwhile_goes_on_where_it_was_left() {
        let folder = Folder::new();
        folder.write("a.log.1", "one\ntwo\n");
        let (origin, id) = (folder.stored("a.log.1", 4), folder.id("a.log.1"));
        folder.write("a.log", "three\n");
        rotation::renamed_meanwhile(&folder.path("a.log.1"), &folder.path("a.log.2"), || {
            assert_eq!(folder.found(&origin), (4, id, false));
        });
    }

    #[test]
    fn a_truncated_file_is_read_from_its_beginning_with_a_warning() {
        let folder = Folder::new();
        folder.write("a.log", "one\ntwo\n");
        let origin = folder.stored("a.log", 8);
        folder.write("a.log", "1\n");
        assert_eq!(folder.found(&origin), (0, folder.id("a.log"), true), "it is shorter than what was read");
        folder.write("a.log", "three\nfour\n");
        assert_eq!(folder.found(&origin), (0, folder.id("a.log"), true), "it begins with other bytes");
    }

    #[test]
    fn a_file_truncated_and_then_renamed_is_read_from_its_beginning_first() {
        let folder = Folder::new();
        folder.write("a.log", "one\ntwo\n");
        let origin = folder.stored("a.log", 8);
        folder.write("a.log", "three\nfour\n");
        fs::rename(folder.path("a.log"), folder.path("a.log.1")).expect("a rename");
        folder.write("a.log", "five\n");
        assert_eq!(folder.found(&origin), (0, folder.id("a.log.1"), true));
    }

    #[test]
    fn a_file_that_is_gone_leaves_a_warning_with_the_last_offset() {
        let folder = Folder::new();
        folder.write("a.log", "one\ntwo\n");
        let origin = folder.stored("a.log", 8);
        folder.write("next", "three\n");
        fs::rename(folder.path("next"), folder.path("a.log")).expect("a rename");
        let found = locate(&folder.path("a.log"), &origin).expect("no error").expect("a file");
        let warning = found.warning.expect("a warning");
        assert!(warning.contains("a.log") && warning.contains("byte 8"), "{warning}");
        assert_eq!((found.offset, found.id), (0, folder.id("a.log")));
        fs::remove_file(folder.path("a.log")).expect("a removal");
        assert!(locate(&folder.path("a.log"), &origin).expect("no error").is_none());
    }

    #[test]
    fn the_end_is_where_the_line_begins_that_is_being_written() {
        let folder = Folder::new();
        folder.write("a.log", "one\ntw");
        assert_eq!(folder.found(&Origin::End { reach_bytes: 100 }).0, 4);
        assert_eq!(folder.found(&Origin::Beginning).0, 0);
    }
}
