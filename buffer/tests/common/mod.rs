//! What the tests of the buffer share.
#![allow(dead_code, unreachable_pub, reason = "each test uses a part of it")]

use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use forebay_buffer::{
    Appended, Batch, Buffer, Checkpoint, Event, Numbering, Offset, Options, Partition, ReadLimits, Start, StreamLimits,
    Subscription, Timestamp,
    clock::{Clock, Reading},
};

/// A clock that stands still until it is moved.
#[derive(Debug)]
pub struct TestClock(pub Mutex<(Reading, u128)>);

impl TestClock {
    pub fn new() -> Arc<Self> {
        let reading = Reading {
            wall: Timestamp(1_790_000_000_000_000),
            since_boot: Duration::from_secs(100),
            synchronised: true,
        };
        Arc::new(Self(Mutex::new((reading, 1))))
    }

    pub fn set(&self, change: impl FnOnce(&mut Reading, &mut u128)) {
        let mut inner = self.0.lock().expect("not poisoned");
        let (reading, boot) = &mut *inner;
        change(reading, boot);
    }

    pub fn pass(&self, time: Duration) {
        self.set(|reading, _| {
            reading.since_boot += time;
            reading.wall.0 += time.as_micros() as i64;
        });
    }
}

impl Clock for TestClock {
    fn now(&self) -> Reading {
        self.0.lock().expect("not poisoned").0
    }

    fn boot_id(&self) -> u128 {
        self.0.lock().expect("not poisoned").1
    }
}

pub const ALL: ReadLimits = ReadLimits { max_events: usize::MAX, max_bytes: usize::MAX };

pub fn options(directory: &Path) -> Options {
    Options { min_free_disk: Some(0), ..Options::new(directory.join("buffer.db"), TestClock::new()) }
}

pub fn open(directory: &Path) -> Buffer {
    options(directory).open().expect("the buffer opens")
}

/// A buffer with the stream `s`, the sink `k` on it, and its partition `0`.
pub fn with_sink(buffer: &Buffer) -> (Partition, Subscription) {
    buffer.declare_stream("s", StreamLimits::default()).expect("a stream");
    buffer.declare_sink("k", &["s"], Start::Oldest, 1 << 20).expect("a sink");
    let partition = buffer.partition("s", "0", Numbering::Assigned).expect("a partition");
    let subscription = buffer.subscription("k", &partition).expect("a place");
    (partition, subscription)
}

pub fn event(body: impl Into<String>) -> Event {
    Event::new(Timestamp(1), body.into())
}

pub fn append(partition: &Partition, bodies: impl IntoIterator<Item = String>) -> Appended {
    let batch = Batch { events: bodies.into_iter().map(event).collect(), ..Batch::default() };
    partition.append(partition.encode(batch).expect("encodes")).wait().expect("appends")
}

/// The bodies after `after`, with their offsets.
pub fn read(buffer: &Buffer, subscription: &Subscription, after: Offset) -> Vec<(Offset, String)> {
    let mut reader = buffer.reader().expect("a reader");
    let delivery = subscription.read(&mut reader, after, ALL).expect("reads");
    delivery.events.into_iter().map(|(offset, event)| (offset, body(&event))).collect()
}

pub fn body(event: &Event) -> String {
    String::from_utf8_lossy(event.body.as_ref().expect("a body")).into_owned()
}

pub fn bodies(buffer: &Buffer, subscription: &Subscription, after: Offset) -> Vec<String> {
    read(buffer, subscription, after).into_iter().map(|(_, body)| body).collect()
}

pub fn confirm(subscription: &Subscription, offset: Offset) -> Checkpoint {
    let checkpoint = subscription.checkpoint_at(offset).expect("an epoch of this file");
    subscription.confirm(checkpoint, None).expect("confirms");
    checkpoint
}

pub fn numbered(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|n| format!("event {n}")).collect()
}

/// Waits for a condition, for as long as it takes within reason.
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(std::time::Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
