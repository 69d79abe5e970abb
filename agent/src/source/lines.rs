//! From chunks of bytes to lines, in bounded memory.
//!
//! A line ends at `\n`, and a `\r` before it belongs to the end. Lines that lie whole in one chunk are slices of it;
//! only a line that crosses chunks is copied. Of a line that is too long no more than its beginning is ever held, and
//! the splitter goes on behind it.

use bytes::{Buf, Bytes};
use memchr::memchr;

/// One line, without its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// All of it.
    Whole(Bytes),
    /// More than the limit.
    TooLong {
        /// Its first bytes, as many as the limit allows.
        head: Bytes,
        /// How long it is in all.
        size_bytes: u64,
    },
}

/// Cuts a stream of bytes into lines, wherever the chunks begin and end.
#[derive(Debug)]
pub struct LineSplitter {
    max_line_bytes: usize,
    /// The first bytes of the unfinished line: one more than the limit at most, as that one may be a `\r`.
    head: Vec<u8>,
    unfinished: Unfinished,
}

/// What must be known of an unfinished line beside its first bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unfinished {
    /// Its bytes so far.
    pub size_bytes: u64,
    /// Whether the last of them is a `\r`.
    ends_with_return: bool,
}

impl LineSplitter {
    /// Lines above `max_line_bytes` are [`Line::TooLong`].
    pub fn new(max_line_bytes: usize) -> Self {
        Self { max_line_bytes, head: Vec::new(), unfinished: Unfinished::default() }
    }

    /// Changes the limit, from the next line on that ends.
    pub fn set_max_line_bytes(&mut self, max_line_bytes: usize) {
        self.max_line_bytes = max_line_bytes;
    }

    /// Takes the next line out of `chunk`. `None`: no line ends in what was left of the chunk, which is now empty; the
    /// beginning of a line in it is remembered.
    pub fn next_line(&mut self, chunk: &mut Bytes) -> Option<Line> {
        let Some(end) = memchr(b'\n', chunk) else {
            self.remember(chunk);
            chunk.clear();
            return None;
        };
        let line = chunk.split_to(end);
        chunk.advance(1);
        if self.unfinished.size_bytes == 0 {
            return Some(self.judge(line));
        }
        self.remember(&line);
        self.finish()
    }

    /// Ends the unfinished line, if there is one: nothing more will come.
    pub fn finish(&mut self) -> Option<Line> {
        let Unfinished { size_bytes, ends_with_return } = std::mem::take(&mut self.unfinished);
        let mut head = std::mem::take(&mut self.head);
        if size_bytes == 0 {
            return None;
        }
        if size_bytes == head.len() as u64 {
            return Some(self.judge(head.into()));
        }
        head.truncate(self.max_line_bytes);
        Some(Line::TooLong { head: head.into(), size_bytes: size_bytes - u64::from(ends_with_return) })
    }

    /// What is known of the line that has begun and not ended.
    pub fn unfinished(&self) -> Unfinished {
        self.unfinished
    }

    /// Bytes of it that are held in memory.
    pub fn held_bytes(&self) -> usize {
        self.head.len()
    }

    /// How many bytes of an unfinished line are kept.
    pub fn max_held_bytes(&self) -> usize {
        self.max_line_bytes + 1
    }

    /// Goes on with an unfinished line whose first bytes (as many as [`LineSplitter::max_held_bytes`] allows) were let
    /// go and have been read again.
    pub fn take_up(&mut self, head: Vec<u8>, unfinished: Unfinished) {
        self.head = head;
        self.unfinished = unfinished;
    }

    fn judge(&self, mut line: Bytes) -> Line {
        if line.last() == Some(&b'\r') {
            line.truncate(line.len() - 1);
        }
        if line.len() <= self.max_line_bytes {
            return Line::Whole(line);
        }
        Line::TooLong { head: line.slice(..self.max_line_bytes), size_bytes: line.len() as u64 }
    }

    fn remember(&mut self, more: &[u8]) {
        let Some(last) = more.last() else { return };
        let room = self.max_held_bytes().saturating_sub(self.head.len());
        self.head.extend_from_slice(&more[..more.len().min(room)]);
        self.unfinished.size_bytes += more.len() as u64;
        self.unfinished.ends_with_return = *last == b'\r';
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// All lines of `chunks`, and the last one even if it has no end.
    fn split(chunks: &[&[u8]], max_line_bytes: usize) -> Vec<Line> {
        let mut splitter = LineSplitter::new(max_line_bytes);
        let mut lines = Vec::new();
        for chunk in chunks {
            let mut chunk = Bytes::copy_from_slice(chunk);
            while let Some(line) = splitter.next_line(&mut chunk) {
                lines.push(line);
            }
            assert!(splitter.held_bytes() <= max_line_bytes + 1);
        }
        lines.extend(splitter.finish());
        lines
    }

    fn whole(text: &'static str) -> Line {
        Line::Whole(Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn lines_end_at_a_newline_with_or_without_a_return() {
        assert_eq!(split(&[b"a\r\nb\n\nc\rd\n"], 10), [whole("a"), whole("b"), whole(""), whole("c\rd")]);
        assert_eq!(split(&[b"a\r", b"\nlast"], 10), [whole("a"), whole("last")]);
        assert_eq!(split(&[b""], 10), []);
    }

    #[test]
    fn a_line_at_the_limit_is_whole_and_one_byte_more_is_too_long() {
        let too_long = |size_bytes| Line::TooLong { head: Bytes::from_static(b"1234"), size_bytes };
        assert_eq!(split(&[b"1234\r\n"], 4), [whole("1234")]);
        assert_eq!(split(&[b"12", b"34\r", b"\n"], 4), [whole("1234")]);
        assert_eq!(split(&[b"12345\r\nnext\n"], 4), [too_long(5), whole("next")]);
        assert_eq!(split(&[b"123", b"456", b"78\r", b"\nnext\n"], 4), [too_long(8), whole("next")]);
        assert_eq!(split(&[b"123", b"45678"], 4), [too_long(8)]);
    }

    /// What the splitter should find, the slow and simple way.
    fn expected(text: &[u8], max_line_bytes: usize) -> Vec<Line> {
        let mut pieces: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
        if pieces.last().is_some_and(|last| last.is_empty()) {
            pieces.pop();
        }
        let judge = |piece: &[u8]| {
            let line = piece.strip_suffix(b"\r").unwrap_or(piece);
            if line.len() <= max_line_bytes {
                Line::Whole(Bytes::copy_from_slice(line))
            } else {
                let head = Bytes::copy_from_slice(&line[..max_line_bytes]);
                Line::TooLong { head, size_bytes: line.len() as u64 }
            }
        };
        pieces.into_iter().map(judge).collect()
    }

    proptest! {
        #[test]
        fn any_chunking_gives_the_same_lines(
            text in proptest::collection::vec(prop::sample::select(b"ab\r\n".to_vec()), 0..200),
            cuts in proptest::collection::vec(0_usize..200, 0..20),
            max_line_bytes in 1_usize..12,
        ) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let chunks: Vec<&[u8]> = cuts.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect();
            prop_assert_eq!(split(&chunks, max_line_bytes), expected(&text, max_line_bytes));
        }

        #[test]
        fn a_line_that_was_let_go_is_taken_up_again(
            first in proptest::collection::vec(prop::sample::select(b"ab\r".to_vec()), 1..20),
            second in proptest::collection::vec(prop::sample::select(b"ab\r".to_vec()), 0..20),
        ) {
            let mut before = LineSplitter::new(8);
            before.next_line(&mut Bytes::copy_from_slice(&first));
            let mut after = LineSplitter::new(8);
            let head = first[..first.len().min(after.max_held_bytes())].to_vec();
            after.take_up(head, before.unfinished());
            let mut rest = Bytes::from([second.as_slice(), b"\n"].concat());
            let text = [first.as_slice(), &second, b"\n"].concat();
            let expected = expected(&text, 8);
            prop_assert_eq!(after.next_line(&mut rest), expected.into_iter().next());
        }
    }
}
