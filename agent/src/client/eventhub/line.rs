//! What all that is on a connection knows of it: how long an answer may take there, and the end.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::time::Instant;

use super::{Class, Error, end::End};

/// The slowest line that is believed to be alive while it carries data.
const SLOWEST_BYTES_PER_SECOND: u64 = 8 << 10;

/// A connection that has lasted so long was let in: with a new token a new one is, unless what we may do has changed.
const LET_IN: Duration = Duration::from_secs(30);

/// See the module.
pub(super) struct Line {
    pub(super) end: End,
    since: Instant,
    timeout: Duration,
    /// What was sent and is not acknowledged.
    under_way_bytes: AtomicU64,
}

/// A batch that waits for its acknowledgement.
pub(super) struct UnderWay<'a> {
    line: &'a Line,
    size_bytes: u64,
}

impl Line {
    /// One on which an answer takes no longer than `timeout` where nothing else is under way.
    pub(super) fn new(timeout: Duration) -> Self {
        Self { end: End::default(), since: Instant::now(), timeout, under_way_bytes: AtomicU64::new(0) }
    }

    /// How long an answer may take: the question goes through the line behind all that is under way.
    pub(super) fn patience(&self) -> Duration {
        let under_way = self.under_way_bytes.load(Ordering::Relaxed);
        self.timeout + Duration::from_secs(under_way / SLOWEST_BYTES_PER_SECOND)
    }

    /// Ends the connection if this error is worth a new one, and says what it is worth. A token that the service does not
    /// take any more is replaced with the connection: by then its key may be another, and another is signed.
    pub(super) fn judged(&self, mut error: Error) -> Error {
        if error.class == Class::Unauthorized && self.since.elapsed() >= LET_IN {
            error.class = Class::Lost;
        }
        if matches!(error.class, Class::Lost | Class::Unauthorized) {
            self.end.set(error.clone());
        }
        error
    }

    /// A batch of this size is under way until what this returns is dropped.
    pub(super) fn carry(&self, size_bytes: usize) -> UnderWay<'_> {
        let size_bytes = size_bytes as u64;
        self.under_way_bytes.fetch_add(size_bytes, Ordering::Relaxed);
        UnderWay { line: self, size_bytes }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.line.under_way_bytes.fetch_sub(self.size_bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_may_take_as_long_as_what_is_before_it() {
        let line = Line::new(Duration::from_secs(30));
        let batches = [line.carry(1 << 20), line.carry(1 << 20)];
        assert_eq!(line.patience(), Duration::from_secs(30 + 256));
        drop(batches);
        assert_eq!(line.patience(), Duration::from_secs(30));
    }

    /// Where what we may do was taken away, each new connection is refused at once.
    #[tokio::test(start_paused = true)]
    async fn a_connection_that_was_let_in_and_is_refused_later_is_replaced_at_once() {
        let refused = || Error::new(Class::Unauthorized, "the token has expired");
        for (lasted_s, class) in [(0, Class::Unauthorized), (29, Class::Unauthorized), (30, Class::Lost)] {
            let line = Line::new(Duration::from_secs(5));
            tokio::time::advance(Duration::from_secs(lasted_s)).await;
            assert_eq!(line.judged(refused()).class, class, "after {lasted_s} s");
            assert_eq!(line.end.get().map(|end| end.class), Some(class));
        }
    }
}
