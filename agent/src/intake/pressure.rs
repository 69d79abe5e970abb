//! Whether the buffer holds one source back, and who hears of it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use event_listener::EventListener;
use forebay_buffer::Buffer;
use tokio::sync::{Notify, watch};

use crate::progress::{Condition, Progress};

/// The lane of [`Progress`] that tells of a full buffer. It is there only while the buffer is full.
const LANE: &str = "intake";
/// Room that is made without the buffer's doing (another program frees the disk) is looked for this often.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// It is said to be over when nothing was held back for this long.
const CALM: Duration = Duration::from_secs(3);

/// The back-pressure on one source.
pub(super) struct Pressure {
    stream: String,
    buffer: Buffer,
    full: watch::Sender<bool>,
    progress: Arc<Progress>,
    /// Lanes that wait for room: as long as there are any, the buffer is full, whatever it says of smaller batches.
    waiting: AtomicUsize,
    settled: Notify,
}

impl Pressure {
    pub(super) fn new(stream: String, buffer: Buffer, full: watch::Sender<bool>, progress: Arc<Progress>) -> Self {
        Self { stream, buffer, full, progress, waiting: AtomicUsize::new(0), settled: Notify::new() }
    }

    /// Whether the buffer holds this source back.
    pub(super) fn is_full(&self) -> bool {
        *self.full.borrow()
    }

    /// Notes that an append found no room.
    pub(super) fn met(&self) {
        self.full.send_if_modified(|full| {
            let changed = !*full;
            *full = true;
            changed
        });
        let why = "the buffer is full; it takes more as soon as its sinks have made room".to_owned();
        self.progress.enter(LANE, Condition::HeldBack(why));
    }

    /// Marks a lane that waits for room, until the guard is dropped.
    pub(super) fn waiting(&self) -> Waiting<'_> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        Waiting(self)
    }

    /// Takes the pressure off when the buffer has room again. Never returns.
    pub(super) async fn watch(&self) {
        let mut full = self.full.subscribe();
        loop {
            full.wait_for(|full| *full).await.expect("the sender is ours");
            loop {
                let room = self.buffer.room_made();
                if self.waiting.load(Ordering::SeqCst) == 0 && !self.buffer.is_full(&self.stream) {
                    break;
                }
                tokio::select! {
                    () = news(room) => {}
                    () = self.settled.notified() => {}
                }
            }
            self.full.send_replace(false);
            // Where small batches fit and large ones do not, it comes and goes: one line in the log is enough.
            if tokio::time::timeout(CALM, full.wait_for(|full| *full)).await.is_err() {
                self.progress.enter(LANE, Condition::Running);
                self.progress.leave(LANE);
            }
        }
    }
}

/// Waits for news of room, after an append that found none. `room` must have been asked for before that append.
pub(super) async fn news(room: EventListener) {
    let _ = tokio::time::timeout(LOOK_AGAIN, room).await;
}

/// See [`Pressure::waiting`].
pub(super) struct Waiting<'a>(&'a Pressure);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
        self.0.settled.notify_one();
    }
}
