//! From lines to batches, and how many of them may be on their way to disk.

use std::{collections::VecDeque, future::Future};

use bytes::Bytes;
use forebay_buffer::{Event, Refused, TimeQuality, Timestamp, Value};
use serde::de::IgnoredAny;

use super::{LineFormat, lines::Line};
use crate::contract::{Intake, IntakeError, Receipt, SourceBatch};

/// Lines in one batch, at most.
pub(super) const MAX_LINES: usize = 1_000;
/// Bytes in one batch; the line that reaches them is its last.
pub(super) const MAX_BYTES: usize = 256 * 1024;

/// A batch that is being filled with lines.
#[derive(Debug)]
pub(super) struct LineBatch {
    format: LineFormat,
    headers: Vec<(String, Value)>,
    batch: SourceBatch,
    size_bytes: usize,
}

impl LineBatch {
    /// Events with `headers`, from lines in `format`.
    pub(super) fn new(format: LineFormat, headers: Vec<(String, Value)>) -> Self {
        Self { format, headers, batch: SourceBatch::default(), size_bytes: 0 }
    }

    /// Adds a line that was read at `now`: as an event, or as something that can never be one (Promise 6).
    pub(super) fn push(&mut self, line: Line, now: Timestamp) {
        match line {
            Line::TooLong { head, size_bytes } => {
                let reason = format!("the line is {size_bytes} bytes long: only its first {} are kept", head.len());
                self.refuse(head, now, "too_large", reason);
            }
            Line::Whole(body) if self.format == LineFormat::Lines => self.add(body, now),
            Line::Whole(body) if body.iter().all(u8::is_ascii_whitespace) => {}
            Line::Whole(body) => match check_json(&body) {
                Ok(()) => self.add(body, now),
                Err(reason) => self.refuse(body, now, "malformed", format!("not a JSON value: {reason}")),
            },
        }
    }

    /// Whether it must be handed over before another line is added.
    pub(super) fn is_full(&self) -> bool {
        self.batch.events.len() + self.batch.refused.len() >= MAX_LINES || self.size_bytes >= MAX_BYTES
    }

    /// Whether there is nothing in it.
    pub(super) fn is_empty(&self) -> bool {
        self.batch.events.is_empty() && self.batch.refused.is_empty()
    }

    /// What was gathered, with the position behind its last line. Begins a new batch.
    pub(super) fn take(&mut self, position: Option<Vec<u8>>) -> SourceBatch {
        self.size_bytes = 0;
        SourceBatch { position, ..std::mem::take(&mut self.batch) }
    }

    fn add(&mut self, body: Bytes, now: Timestamp) {
        let event = self.event(body, now);
        self.batch.events.push(event);
    }

    fn refuse(&mut self, body: Bytes, now: Timestamp, code: &str, reason: String) {
        let event = self.event(body, now);
        self.batch.refused.push(Refused { event, code: code.to_owned(), reason });
    }

    fn event(&mut self, body: Bytes, time: Timestamp) -> Event {
        self.size_bytes += body.len();
        let headers = self.headers.clone();
        Event { time, time_quality: TimeQuality::Stamped, headers, body: Some(body), ..Event::default() }
    }
}

/// JSON is UTF-8 (RFC 8259, section 8.1), which skipping a value alone does not look at.
pub(super) fn check_json(line: &[u8]) -> Result<(), String> {
    let text = std::str::from_utf8(line).map_err(|error| error.to_string())?;
    serde_json::from_str::<IgnoredAny>(text).map(drop).map_err(|error| error.to_string())
}

/// The batches of one partition that are handed over and not yet on disk.
#[derive(Default)]
pub(super) struct Window {
    receipts: VecDeque<Receipt>,
    acknowledged: usize,
}

impl Window {
    /// Batches that one partition may have on their way.
    pub(super) const LIMIT: usize = 3;

    /// Hands a batch over; waits until the partition has fewer than the limit on their way.
    pub(super) async fn submit(
        &mut self,
        intake: &Intake,
        partition: &str,
        batch: SourceBatch,
    ) -> Result<(), IntakeError> {
        while self.receipts.len() >= Self::LIMIT {
            self.oldest().await?;
        }
        let receipt = intake.submit(partition, batch).await?;
        self.receipts.push_back(receipt);
        Ok(())
    }

    /// Waits until everything that was handed over is on disk.
    pub(super) async fn settle(&mut self) -> Result<(), IntakeError> {
        while !self.receipts.is_empty() {
            self.oldest().await?;
        }
        Ok(())
    }

    /// How many were handed over and are on disk by now, always the earlier before the later.
    pub(super) fn acknowledged(&self) -> usize {
        self.acknowledged
    }

    fn oldest(&mut self) -> impl Future<Output = Result<(), IntakeError>> + '_ {
        std::future::poll_fn(|context| {
            let Some(receipt) = self.receipts.front_mut() else { return std::task::Poll::Ready(Ok(())) };
            std::pin::Pin::new(receipt).poll(context).map(|outcome| {
                self.receipts.pop_front();
                self.acknowledged += usize::from(outcome.is_ok());
                outcome.map(drop)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(body: &'static [u8]) -> Line {
        Line::Whole(Bytes::from_static(body))
    }

    #[test]
    fn a_line_that_is_not_json_is_refused_with_the_parsers_words() {
        let mut lines = LineBatch::new(LineFormat::Ndjson, Vec::new());
        for line in [whole(b"{\"a\": 1}"), whole(b"{\"a\": "), whole(b""), whole(b" \t"), whole(b"\"\xff\"")] {
            lines.push(line, Timestamp(1));
        }
        let batch = lines.take(None);
        assert_eq!(batch.events.len(), 1);
        let reasons: Vec<_> = batch.refused.iter().map(|r| (r.code.as_str(), r.reason.as_str())).collect();
        assert_eq!(reasons.len(), 2);
        assert_eq!(reasons[0], ("malformed", "not a JSON value: EOF while parsing a value at line 1 column 6"));
        assert!(reasons[1].1.contains("invalid utf-8"), "{}", reasons[1].1);
        assert_eq!(batch.refused[1].event.body.as_deref(), Some(b"\"\xff\"".as_slice()));
    }

    #[test]
    fn ten_megabytes_of_brackets_are_refused_and_nothing_overflows() {
        let mut lines = LineBatch::new(LineFormat::Ndjson, Vec::new());
        lines.push(Line::Whole(vec![b'['; 10_000_000].into()), Timestamp(1));
        assert_eq!(lines.take(None).refused.len(), 1);
    }

    #[test]
    fn a_plain_line_is_kept_whatever_is_in_it() {
        let mut lines = LineBatch::new(LineFormat::Lines, vec![("path".to_owned(), "/a".into())]);
        lines.push(whole(b"\xff\x00"), Timestamp(7));
        lines.push(whole(b""), Timestamp(7));
        let batch = lines.take(Some(vec![1]));
        assert_eq!(batch.events[0].body.as_deref(), Some(b"\xff\x00".as_slice()));
        assert_eq!(batch.events[1].body.as_deref(), Some(b"".as_slice()));
        assert_eq!(batch.events[0].headers, [("path".to_owned(), Value::from("/a"))]);
        assert_eq!((batch.events[0].time, batch.events[0].time_quality), (Timestamp(7), TimeQuality::Stamped));
        assert_eq!(batch.position, Some(vec![1]));
        assert!(lines.is_empty());
    }

    #[test]
    fn a_batch_is_full_at_its_lines_or_its_bytes() {
        let mut lines = LineBatch::new(LineFormat::Lines, Vec::new());
        for _ in 0..MAX_LINES {
            assert!(!lines.is_full());
            lines.push(whole(b"x"), Timestamp(1));
        }
        assert!(lines.is_full());
        lines.take(None);
        lines.push(Line::TooLong { head: vec![b'x'; MAX_BYTES].into(), size_bytes: 1 << 40 }, Timestamp(1));
        assert!(lines.is_full());
    }
}
