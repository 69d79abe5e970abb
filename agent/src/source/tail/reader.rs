//! One open file, and how far it was read: bytes in, lines out.

use std::{fs::File, io, sync::Arc};

use bytes::Bytes;

use super::{
    file::{self, FileId, Look},
    locate::Located,
    position::{HEAD_BYTES, Identity, Position},
};
use crate::source::lines::{Line, LineSplitter};

/// Bytes of one read.
pub(super) const CHUNK_BYTES: usize = 256 * 1024;
/// An unfinished line that is longer than this is let go while nothing comes, and read again when something does, so
/// that hundreds of files with one each stay within bounds (Promise 5).
const MAX_IDLE_BYTES: usize = 16 * 1024;

/// A file that is being read.
#[derive(Debug)]
pub(super) struct Reader {
    file: Arc<File>,
    id: FileId,
    /// Its first bytes, up to [`HEAD_BYTES`] of those that were read.
    head: Vec<u8>,
    /// The byte after the last one read.
    read_to: u64,
    /// The byte after the last line taken.
    line_start: u64,
    splitter: LineSplitter,
    /// Whether the unfinished line's bytes were let go.
    parked: bool,
    seen: Option<Look>,
}

impl Reader {
    /// Reads `located` from its offset on. Longer lines than `max_line_bytes` are cut.
    pub(super) fn new(located: Located, max_line_bytes: usize) -> Self {
        let Located { file, id, mut head, offset, .. } = located;
        head.truncate(usize::try_from(offset).unwrap_or(usize::MAX));
        let splitter = LineSplitter::new(max_line_bytes);
        Self { file, id, head, read_to: offset, line_start: offset, splitter, parked: false, seen: None }
    }

    /// Which file it is.
    pub(super) fn id(&self) -> FileId {
        self.id
    }

    /// The open file.
    pub(super) fn file(&self) -> Arc<File> {
        self.file.clone()
    }

    /// What the file is recognised by: of its first bytes those that were taken as lines.
    pub(super) fn identity(&self) -> Identity {
        let taken = usize::try_from(self.line_start).unwrap_or(usize::MAX).min(self.head.len());
        Identity::new(self.id, &self.head[..taken])
    }

    /// Where to go on after the last line taken.
    pub(super) fn position(&self, finished: &[Identity]) -> Position {
        Position::new(self.identity(), self.line_start, finished)
    }

    /// The blocking look at the file: whether it still is what was read.
    pub(super) fn look(&self) -> impl FnOnce() -> io::Result<OwnLook> + Send + use<> {
        let (file, head, read_to, seen) = (self.file.clone(), self.head.clone(), self.read_to, self.seen);
        move || {
            let look = file::look_at(&file)?;
            let unchanged = seen == Some(look);
            let is_rewritten =
                !unchanged && (look.size_bytes < read_to || file::read_at(&file, 0, head.len())? != head);
            Ok(OwnLook { look, is_rewritten })
        }
    }

    /// Remembers what a look has shown.
    pub(super) fn note(&mut self, look: Look) {
        self.seen = Some(look);
    }

    /// Bytes that the last look has shown and that were not read.
    pub(super) fn unread_bytes(&self) -> u64 {
        self.seen.map_or(0, |look| look.size_bytes.saturating_sub(self.read_to))
    }

    /// The blocking read of the next chunk.
    pub(super) fn read(&self) -> impl FnOnce() -> io::Result<Read> + Send + use<> {
        let length = usize::try_from(self.unread_bytes()).unwrap_or(usize::MAX).min(CHUNK_BYTES);
        let (file, from, line_start) = (self.file.clone(), self.read_to, self.line_start);
        let let_go = self.parked.then(|| {
            usize::try_from(self.splitter.unfinished().size_bytes)
                .unwrap_or(usize::MAX)
                .min(self.splitter.max_held_bytes())
        });
        move || {
            let line_head = let_go.map(|length| file::read_at(&file, line_start, length)).transpose()?;
            Ok(Read { line_head, chunk: file::read_at(&file, from, length)?.into() })
        }
    }

    /// Takes what was read, and gives back the chunk for [`Reader::next_line`].
    pub(super) fn take(&mut self, read: Read) -> Bytes {
        if let Some(line_head) = read.line_head {
            self.splitter.take_up(line_head, self.splitter.unfinished());
            self.parked = false;
        }
        if self.head.len() < HEAD_BYTES {
            let wanted = HEAD_BYTES - self.head.len();
            self.head.extend_from_slice(&read.chunk[..read.chunk.len().min(wanted)]);
        }
        self.read_to += read.chunk.len() as u64;
        read.chunk
    }

    /// The next line that ends in the chunk.
    pub(super) fn next_line(&mut self, chunk: &mut Bytes) -> Option<Line> {
        let line = self.splitter.next_line(chunk)?;
        self.line_start = self.read_to - chunk.len() as u64;
        Some(line)
    }

    /// The last line, if it has no end: nobody will write it.
    pub(super) fn finish(&mut self) -> Option<Line> {
        self.line_start = self.read_to;
        self.splitter.finish()
    }

    /// Whether [`Reader::finish`] needs the bytes that were let go.
    pub(super) fn is_parked(&self) -> bool {
        self.parked
    }

    /// Lets a long unfinished line go until more of it comes.
    pub(super) fn park(&mut self) {
        if self.splitter.held_bytes() > MAX_IDLE_BYTES {
            self.splitter.take_up(Vec::new(), self.splitter.unfinished());
            self.parked = true;
        }
    }

    /// Begins again at the first byte: the file was cut short, and holds something else now. Returns how many bytes of
    /// an unfinished line are gone.
    pub(super) fn restart(&mut self) -> u64 {
        let lost = self.splitter.unfinished().size_bytes;
        let splitter = LineSplitter::new(self.splitter.max_held_bytes() - 1);
        let (file, id) = (self.file.clone(), self.id);
        let head = Vec::new();
        *self = Self { file, id, head, read_to: 0, line_start: 0, splitter, parked: false, seen: self.seen };
        lost
    }
}

/// What a look at the open file has shown.
#[derive(Debug)]
pub(super) struct OwnLook {
    pub(super) look: Look,
    /// It is shorter than what was read, or begins with other bytes.
    pub(super) is_rewritten: bool,
}

/// What a read has brought.
#[derive(Debug)]
pub(super) struct Read {
    line_head: Option<Vec<u8>>,
    chunk: Bytes,
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write};

    use super::*;
    use crate::source::tail::locate::{Origin, locate};

    const MAX_LINE_BYTES: usize = 100_000;

    struct Subject {
        _folder: tempfile::TempDir,
        writer: File,
        reader: Reader,
    }

    impl Subject {
        fn new() -> Self {
            let folder = tempfile::tempdir().expect("a folder");
            let path = folder.path().join("a.log");
            let writer = File::create(&path).expect("a file");
            let located = locate(&path, &Origin::Beginning).expect("no error").expect("a file");
            Self { _folder: folder, writer, reader: Reader::new(located, MAX_LINE_BYTES) }
        }

        fn write(&mut self, text: &str) {
            self.writer.write_all(text.as_bytes()).expect("a write");
        }

        fn lines(&mut self) -> Vec<Line> {
            let look = self.reader.look()().expect("no error");
            assert!(!look.is_rewritten);
            self.reader.note(look.look);
            let mut lines = Vec::new();
            while self.reader.unread_bytes() > 0 {
                let read = self.reader.read()().expect("no error");
                let mut chunk = self.reader.take(read);
                lines.extend(std::iter::from_fn(|| self.reader.next_line(&mut chunk)));
            }
            lines
        }
    }

    #[test]
    fn the_position_stands_after_the_last_whole_line() {
        let mut subject = Subject::new();
        subject.write("one\ntw");
        assert_eq!(subject.lines(), [Line::Whole("one".into())]);
        assert_eq!(subject.reader.position(&[]).offset, 4);
        assert_eq!(subject.reader.identity(), Identity::new(subject.reader.id(), b"one\n"));
        subject.write("o\n");
        assert_eq!(subject.lines(), [Line::Whole("two".into())]);
        assert_eq!(subject.reader.position(&[]).offset, 8);
    }

    #[test]
    fn a_long_unfinished_line_is_let_go_and_comes_back_whole() {
        let mut subject = Subject::new();
        let line = "x".repeat(MAX_LINE_BYTES - 3);
        subject.write("short\n");
        subject.write(&line);
        assert_eq!(subject.lines().len(), 1);
        subject.reader.park();
        assert_eq!((subject.reader.splitter.held_bytes(), subject.reader.is_parked()), (0, true));
        subject.write("end\n");
        assert_eq!(subject.lines(), [Line::Whole((line.clone() + "end").into())]);
        subject.write(&(line + "end!!"));
        subject.lines();
        subject.reader.park();
        subject.write("!\n");
        let [Line::TooLong { head, size_bytes }] = &subject.lines()[..] else { panic!("it is too long") };
        assert_eq!((head.len(), *size_bytes), (MAX_LINE_BYTES, MAX_LINE_BYTES as u64 + 3));
    }

    #[test]
    fn a_rewritten_file_is_noticed_by_its_size_or_its_first_bytes() {
        for text in ["1\n", "1\n2\n3\n4\n5\n"] {
            let mut subject = Subject::new();
            subject.write("one\ntwo\n");
            subject.lines();
            subject.writer.set_len(0).expect("a truncation");
            fs::write(subject._folder.path().join("a.log"), text).expect("a write");
            assert!(subject.reader.look()().expect("no error").is_rewritten, "{text:?}");
            subject.reader.restart();
            assert_eq!(subject.lines()[0], Line::Whole("1".into()));
        }
    }
}
