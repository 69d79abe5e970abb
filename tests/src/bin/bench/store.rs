//! Forebay's side of the comparison: a buffer with one stream and one sink, through its public API.

use std::{
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use event_listener::Listener;
use forebay::clock::SystemClock;
use forebay_buffer::{
    Batch, Buffer, Numbering, Offset, Options, Partition, ReadLimits, Start, StreamLimits, Subscription, WhenFull,
};

/// The stream.
pub(crate) const STREAM: &str = "line1";
const SINK: &str = "warehouse";
const MAX_BYTES: u64 = 64 << 30;

/// What one batch of a sink holds at the most.
const READ: ReadLimits = ReadLimits { max_events: 1_000, max_bytes: 1 << 20 };

/// An open buffer.
pub(crate) struct Store {
    /// The buffer.
    pub buffer: Buffer,
    partition: Partition,
    subscription: Subscription,
}

impl Store {
    /// Opens or creates the buffer in `dir`, with the default durability.
    pub(crate) fn open(dir: &Path) -> Self {
        let mut options = Options::new(path(dir), Arc::new(SystemClock::new()));
        options.max_bytes = MAX_BYTES;
        let buffer = options.open().expect("the buffer opens");
        let limits = StreamLimits { max_bytes: MAX_BYTES, max_age: None, when_full: WhenFull::Backpressure };
        buffer.declare_stream(STREAM, limits).expect("a stream can be declared");
        buffer.declare_sink(SINK, &[STREAM], Start::Oldest, 4 << 20).expect("a sink can be declared");
        let partition = buffer.partition(STREAM, "0", Numbering::Assigned).expect("a partition can be opened");
        let subscription = buffer.subscription(SINK, &partition).expect("a sink can subscribe");
        Self { buffer, partition, subscription }
    }

    /// Lets one thread for each element of `producers` append its batches, each awaiting the receipt of one before it
    /// encodes the next. Returns the time from the first to the last receipt, and the number of commits in it.
    pub(crate) fn append<P>(&self, producers: Vec<P>) -> (Duration, u64)
    where
        P: IntoIterator<Item = Batch> + Send,
    {
        let before = self.buffer.heartbeat().beats;
        let begun = Instant::now();
        thread::scope(|scope| {
            for batches in producers {
                scope.spawn(|| {
                    for batch in batches {
                        let encoded = self.partition.encode(batch).expect("telemetry can be encoded");
                        self.partition.append(encoded).wait().expect("there is room for telemetry");
                    }
                });
            }
        });
        (begun.elapsed(), self.buffer.heartbeat().beats - before)
    }

    /// Reads and confirms from the sink's checkpoint on until `events` are through, as delivery does.
    pub(crate) fn drain(&self, events: u64) -> Duration {
        let mut reader = self.buffer.reader().expect("a reader can be opened");
        let begun = Instant::now();
        let mut after = self.subscription.checkpoint().map_or(Offset::BEFORE_ALL, |checkpoint| checkpoint.offset);
        let mut left = events;
        while left > 0 {
            let listener = self.partition.listen();
            let delivery = self.subscription.read(&mut reader, after, READ).expect("the buffer can be read");
            let Some((last, _)) = delivery.events.last() else {
                listener.wait();
                continue;
            };
            after = *last;
            left = left.saturating_sub(delivery.events.len() as u64);
            let checkpoint = self.subscription.checkpoint_at(after).expect("the epoch is of this file");
            self.subscription.confirm(checkpoint, None).expect("what was read can be confirmed");
        }
        begun.elapsed()
    }

    /// Closes the file.
    pub(crate) fn close(self) {
        self.buffer.close();
    }
}

/// The buffer's file in `dir`.
pub(crate) fn path(dir: &Path) -> std::path::PathBuf {
    dir.join("buffer.db")
}
