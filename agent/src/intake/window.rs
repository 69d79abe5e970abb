//! How many identities the partitions of one source may remember together (Promise 5).

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};

use tokio::sync::watch;

/// Identities that one source remembers at the most, in all its partitions: some 64 MiB. The largest window that can be
/// configured is as many.
const MAX_IDENTITIES: u32 = 1 << 20;

/// The identities that may be remembered, shared equally among the partitions that remember any.
pub(super) struct Windows {
    sharers: Mutex<u32>,
    /// What each of them may remember: a power of two, so that it changes only when they double.
    each: watch::Sender<u32>,
    subject: String,
    is_said: AtomicBool,
}

impl Windows {
    /// With no partition yet. `subject` is what the log calls the source.
    pub(super) fn new(subject: String) -> Arc<Self> {
        let each = watch::Sender::new(MAX_IDENTITIES);
        Arc::new(Self { sharers: Mutex::new(0), each, subject, is_said: AtomicBool::new(false) })
    }

    /// Counts a partition in, for as long as its share is kept.
    pub(super) fn join(self: &Arc<Self>) -> Share {
        self.change(|sharers| sharers + 1);
        Share { each: self.each.subscribe(), windows: Arc::clone(self) }
    }

    fn change(&self, change: impl FnOnce(u32) -> u32) {
        let mut sharers = self.sharers.lock().expect("no holder of this lock panics");
        *sharers = change(*sharers);
        let fair = (MAX_IDENTITIES / (*sharers).max(1)).max(1);
        let fair = 1 << fair.ilog2();
        self.each.send_if_modified(|each| std::mem::replace(each, fair) != fair);
    }
}

/// What one partition may remember.
pub(super) struct Share {
    windows: Arc<Windows>,
    each: watch::Receiver<u32>,
}

impl Share {
    /// What it is now.
    pub(super) fn get(&self) -> u32 {
        *self.each.borrow()
    }

    /// The window of a partition that is to have `wanted`.
    pub(super) fn window(&self, wanted: u32) -> u32 {
        let window = wanted.min(self.get());
        if window < wanted && !self.windows.is_said.swap(true, Ordering::Relaxed) {
            let subject = &self.windows.subject;
            log::warn!(
                "{subject}: so many partitions remember what they took that each knows its last {window} events, and \
                 not {wanted}: an older one that is sent again is taken again"
            );
        }
        window
    }

    /// Ends when the share has changed, and says to what.
    pub(super) async fn changed(&mut self) -> u32 {
        self.each.changed().await.expect("this share keeps the sender");
        self.get()
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.windows.change(|sharers| sharers - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_partitions_together_remember_no_more_than_the_limit() {
        let windows = Windows::new("source line1".to_owned());
        let mut shares = Vec::new();
        for count in 1..=3_000 {
            shares.push(windows.join());
            let each = shares[0].window(u32::MAX);
            assert!(shares.iter().all(|share| share.window(u32::MAX) == each));
            assert!(each * count <= MAX_IDENTITIES, "{count} partitions remember {each} each");
        }
        assert_eq!(shares[0].window(100), 100, "a window that is no larger than the share stays");
        shares.truncate(1);
        assert_eq!(shares[0].window(u32::MAX), MAX_IDENTITIES);
    }
}
