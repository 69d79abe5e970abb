use std::{future::Future, pin::pin, task::Poll, time::Duration};

use bytes::Bytes;
use forebay_buffer::{Event, Inspector, Numbering, Offset, Options, Peeked, Start, StreamLimits, Timestamp, WhenFull};
use tokio::task::JoinHandle;

mod duplicates;
mod owners;

use super::*;
use crate::{
    clock::ManualClock,
    contract::{Creation, INTAKE_QUEUE, Intake, Receipt, Resume, SourceBatch},
};

const STREAM: &str = "line1";
const SINK: &str = "files";
const SHARED: Numbering = Numbering::Shared { created: 7 };
/// A test that has not seen by then what it waits for has failed.
const DEADLINE: Duration = Duration::from_secs(60);

/// A buffer with one stream and one sink, and an intake loop on it.
struct Rig {
    directory: tempfile::TempDir,
    buffer: Buffer,
    intake: Option<Intake>,
    progress: Arc<Progress>,
    fences: Fences,
    switch: watch::Sender<bool>,
    running: JoinHandle<Result<(), Error>>,
}

impl Rig {
    fn new(max_bytes: u64) -> Self {
        Self::with(StreamLimits { max_bytes, max_age: None, when_full: WhenFull::Backpressure })
    }

    fn with(limits: StreamLimits) -> Self {
        Self::on(tempfile::tempdir().expect("a temporary directory"), limits)
    }

    /// On the buffer that is in `directory`, if one is.
    fn on(directory: tempfile::TempDir, limits: StreamLimits) -> Self {
        let clock = Arc::new(ManualClock::new(Timestamp(1_800_000_000_000_000)));
        let buffer = Options::new(directory.path().join("buffer.db"), clock).open().expect("the directory is writable");
        buffer.declare_stream(STREAM, limits).expect("a new buffer takes a stream");
        buffer.declare_sink(SINK, &[STREAM], Start::Oldest, 1 << 20).expect("the stream is there");
        let (full, is_full) = watch::channel(false);
        let (intake, requests) = Intake::new(is_full);
        let progress = Progress::new("source line1");
        let fences = Fences::default();
        let (switch, shutdown) = Shutdown::new();
        let intake_loop = IntakeLoop {
            stream: STREAM.to_owned(),
            max_bytes: limits.max_bytes,
            buffer: buffer.clone(),
            requests,
            full,
            progress: Arc::clone(&progress),
            fences: fences.clone(),
        };
        let running = tokio::spawn(intake_loop.run(shutdown));
        Self { directory, buffer, intake: Some(intake), progress, fences, switch, running }
    }

    fn roomy() -> Self {
        Self::new(64 << 20)
    }

    fn intake(&self) -> &Intake {
        self.intake.as_ref().expect("the source has not ended")
    }

    async fn submit(&self, partition: &str, batch: SourceBatch) -> Receipt {
        self.intake().submit(partition, batch).await.expect("the loop runs")
    }

    /// What another process would find in the file.
    fn stored(&self, partition: &str) -> Vec<Peeked> {
        let clock = Arc::new(ManualClock::new(Timestamp(0)));
        let path = self.directory.path().join("buffer.db");
        let mut inspector = Inspector::open(&path, clock).expect("the file is a buffer");
        inspector.peek(STREAM, Some(partition), None, 1_000_000).expect("the stream is there")
    }

    /// Confirms everything of a partition up to `offset`, as delivery would.
    fn confirm(&self, partition: &str, offset: Offset) {
        let partitions = self.buffer.partitions(STREAM).expect("the stream is there");
        let partition = partitions.iter().find(|p| p.name() == partition).expect("the partition is there");
        let subscription = self.buffer.subscription(SINK, partition).expect("the sink takes it");
        subscription.resume_after(subscription.beginning()).expect("a beginning is known");
        let checkpoint = subscription.checkpoint_at(offset).expect("the offset is of this file");
        subscription.confirm(checkpoint, None).expect("it is not behind");
    }

    /// Fills the stream, and returns what is in it.
    async fn fill(&self) -> Vec<Offset> {
        let mut offsets = Vec::new();
        loop {
            let receipt = self.intake().offer("0", noise(8 << 10)).await.expect("the loop runs");
            match within(receipt).await {
                Ok(appended) => offsets.push(appended.high_water),
                Err(error) => {
                    assert_eq!(error, IntakeError::Full);
                    return offsets;
                }
            }
        }
    }

    /// The source ends; so does the loop.
    async fn end(mut self) -> Result<(), Error> {
        self.intake = None;
        within(self.running).await.expect("the loop does not panic")
    }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.expect("it happens before the deadline")
}

fn batch(texts: impl IntoIterator<Item = String>) -> SourceBatch {
    let events = texts.into_iter().map(|text| Event::new(Timestamp(1), text)).collect();
    SourceBatch { events, ..SourceBatch::default() }
}

fn shared(offsets: std::ops::Range<i64>) -> SourceBatch {
    let position = Some(format!("before {}", offsets.end).into_bytes());
    let offsets: Vec<Offset> = offsets.map(Offset).collect();
    let events = offsets.iter().map(|offset| Event::new(Timestamp(1), offset.0.to_string())).collect();
    SourceBatch { events, offsets, position, ..SourceBatch::default() }
}

/// One event that no compression makes smaller.
fn noise(bytes: usize) -> SourceBatch {
    let mut body = vec![0; bytes];
    getrandom::fill(&mut body).expect("the system has random bytes");
    SourceBatch { events: vec![Event::new(Timestamp(1), body)], ..SourceBatch::default() }
}

fn text(peeked: &Peeked) -> String {
    String::from_utf8(peeked.event.body.as_deref().map(<[u8]>::to_vec).unwrap_or_default()).expect("tests write text")
}

async fn is_pending(future: &mut (impl Future + Unpin)) -> bool {
    std::future::poll_fn(|context| Poll::Ready(std::pin::Pin::new(&mut *future).poll(context).is_pending())).await
}

/// Promise 1.
#[tokio::test]
async fn an_acknowledged_batch_is_in_the_file() {
    let rig = Rig::roomy();
    let sent = SourceBatch { position: Some(b"p1".to_vec()), ..batch(["a".to_owned(), "b".to_owned()]) };
    let appended = within(rig.submit("0", sent).await).await.expect("there is room");
    assert_eq!((appended.events, appended.dropped), (2, 0));
    let stored = rig.stored("0");
    assert_eq!(stored.iter().map(text).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(stored[1].offset, appended.high_water);
    let resume = within(rig.intake().resume("0", Numbering::Assigned)).await.expect("the partition is there");
    assert_eq!(
        resume,
        Resume { high_water: appended.high_water, position: Some(b"p1".to_vec()), creation: Creation::Same }
    );
    assert_eq!(rig.progress.events.load(std::sync::atomic::Ordering::Relaxed), 2);
    assert_eq!(rig.end().await, Ok(()));
}

/// Promise 4.
#[tokio::test]
async fn batches_handed_over_without_waiting_are_stored_in_their_order() {
    let rig = Rig::roomy();
    let mut receipts = Vec::new();
    for number in 0..500 {
        let sent =
            SourceBatch { position: Some(vec![number as u8]), ..batch([format!("{number}"), format!("{number}b")]) };
        receipts.push(rig.submit(if number % 2 == 0 { "even" } else { "odd" }, sent).await);
    }
    let mut last = std::collections::HashMap::new();
    for (number, receipt) in receipts.into_iter().enumerate() {
        let appended = within(receipt).await.expect("there is room");
        assert_eq!(appended.events, 2, "each receipt is about its own batch");
        let before = last.insert(number % 2, appended.high_water);
        assert!(before.is_none_or(|before| before <= appended.high_water));
    }
    for (name, rest) in [("even", 0), ("odd", 1)] {
        let expected: Vec<_> =
            (0..500).filter(|n| n % 2 == rest).flat_map(|n| [format!("{n}"), format!("{n}b")]).collect();
        assert_eq!(rig.stored(name).iter().map(text).collect::<Vec<_>>(), expected);
        let resume = within(rig.intake().resume(name, Numbering::Assigned)).await.expect("the partition is there");
        assert_eq!(resume.position, Some(vec![(498 + rest) as u8]), "the position is that of the last batch");
    }
}

#[tokio::test]
async fn an_offer_to_a_full_buffer_is_refused_at_once_and_nothing_of_it_is_kept() {
    let rig = Rig::new(128 << 10);
    let stored = rig.fill().await;
    assert!(!stored.is_empty());
    assert!(rig.intake().is_full(), "a source can see it before it reads a body");
    assert!(
        rig.progress.lanes().values().any(|lane| matches!(lane.condition, crate::progress::Condition::HeldBack(_)))
    );
    let receipt = rig.intake().offer("1", noise(8 << 10)).await.expect("the loop runs");
    assert_eq!(within(receipt).await, Err(IntakeError::Full));
    assert_eq!(rig.stored("0").len(), stored.len());
}

#[tokio::test]
async fn a_submission_waits_until_a_sink_has_made_room() {
    let rig = Rig::new(128 << 10);
    let stored = rig.fill().await;
    let mut waiting = rig.submit("0", noise(8 << 10)).await;
    let mut behind = rig.submit("0", batch(["behind".to_owned()])).await;
    assert!(is_pending(&mut waiting).await && is_pending(&mut behind).await);

    rig.confirm("0", stored[stored.len() / 2]);
    for receipt in [waiting, behind] {
        within(receipt).await.expect("there is room now");
    }
    let last = rig.stored("0").last().map(text);
    assert_eq!(last.as_deref(), Some("behind"), "what waited comes before what came later");
    within(async {
        while rig.intake().is_full() || !rig.progress.lanes().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_batch_too_large_for_the_room_left_does_not_hold_up_other_partitions() {
    let rig = Rig::new(128 << 10);
    within(rig.submit("large", noise(80 << 10)).await).await.expect("there is room");
    let mut waiting = rig.submit("large", noise(80 << 10)).await;
    let small = within(rig.submit("small", batch(["small".to_owned()])).await).await;
    assert!(small.is_ok());
    assert!(is_pending(&mut waiting).await);
}

#[tokio::test]
async fn what_waits_for_room_is_given_back_when_the_agent_stops() {
    let rig = Rig::new(128 << 10);
    let stored = rig.fill().await;
    let waiting = rig.submit("0", noise(8 << 10)).await;
    let behind = rig.submit("0", batch(["behind".to_owned()])).await;
    rig.switch.send_replace(true);
    for receipt in [waiting, behind] {
        let outcome = within(receipt).await;
        assert!(matches!(outcome, Err(IntakeError::Closed(_))), "{outcome:?}");
    }
    assert_eq!(rig.stored("0").len(), stored.len(), "a later batch would skip the one before it");
    assert_eq!(rig.end().await, Ok(()));
}

#[tokio::test]
async fn numbered_events_that_wait_together_are_stored_once_and_in_order_and_all_receipts_come() {
    let rig = Rig::roomy();
    within(rig.intake().resume("3", SHARED)).await.expect("a new partition");
    let mut receipts = Vec::new();
    for range in [0..5, 5..6, 3..8, 8..20, 20..300, 300..301] {
        receipts.push(rig.submit("3", shared(range)).await);
    }
    for receipt in receipts {
        within(receipt).await.expect("there is room");
    }
    let stored: Vec<_> = rig.stored("3").iter().map(|peeked| peeked.offset.0).collect();
    assert_eq!(stored, (0..301).collect::<Vec<_>>());
    let again = within(rig.intake().resume("3", SHARED)).await.expect("it is there");
    assert_eq!((again.high_water, again.position), (Offset(300), Some(b"before 301".to_vec())));
}

/// Promise 6.
#[tokio::test]
async fn events_that_could_not_be_kept_are_in_the_loss_ledger() {
    let rig = Rig::roomy();
    within(rig.intake().lose("0", 3, 300, "qos 0 while full")).await.expect("there is room");
    let mut inspector = rig.buffer.inspector().expect("the buffer is open");
    let losses = inspector.losses().expect("the ledger can be read");
    assert_eq!(losses.iter().map(|loss| (loss.events, loss.bytes)).collect::<Vec<_>>(), [(3, 300)]);
}

#[tokio::test]
async fn a_loss_of_a_partition_whose_numbers_are_shared_is_recorded_there() {
    let rig = Rig::roomy();
    within(rig.intake().resume("3", SHARED)).await.expect("a new partition");
    within(rig.intake().lose("3", 2, 0, "expired")).await.expect("there is room");
    within(rig.submit("3", shared(0..5)).await).await.expect("it is the same partition still");
    within(rig.intake().resume("3", SHARED)).await.expect("it is the same partition still");
}

/// Promise 6.
#[tokio::test]
async fn a_loss_and_where_reading_goes_on_after_it_are_recorded_together() {
    let rig = Rig::roomy();
    within(rig.intake().resume("3", SHARED)).await.expect("a new partition");
    within(rig.intake().lose_before(b"after".to_vec(), "3", 2, "expired")).await.expect("there is room");
    let again = within(rig.intake().resume("3", SHARED)).await.expect("it is there");
    assert_eq!((again.high_water, again.position), (Offset::BEFORE_ALL, Some(b"after".to_vec())));
    let losses = rig.buffer.inspector().expect("the buffer is open").losses().expect("the ledger can be read");
    assert_eq!(losses.iter().map(|loss| loss.events).collect::<Vec<_>>(), [2]);
}

#[tokio::test]
async fn a_loss_whose_reader_has_gone_is_left_for_the_next_one_to_count() {
    let rig = Rig::roomy();
    within(rig.intake().resume("3", SHARED)).await.expect("a new partition");
    {
        let mut recording = pin!(rig.intake().lose_before(b"after".to_vec(), "3", 2, "expired"));
        assert!(is_pending(&mut recording).await);
    }
    within(rig.intake().lose("3", 1, 0, "it comes after that")).await.expect("there is room");
    let again = within(rig.intake().resume("3", SHARED)).await.expect("it is there");
    assert_eq!(again.position, None);
    let losses = rig.buffer.inspector().expect("the buffer is open").losses().expect("the ledger can be read");
    assert_eq!(losses.iter().map(|loss| loss.events).collect::<Vec<_>>(), [1]);
}

/// Promise 6. This is when events are lost, and whatever was handed over waits.
#[tokio::test]
async fn losses_are_in_the_ledger_while_everything_else_waits_for_room() {
    let rig = Rig::new(128 << 10);
    rig.fill().await;
    let mut waiting = Vec::new();
    for _ in 0..INTAKE_QUEUE + 10 {
        waiting.push(rig.submit("0", noise(8 << 10)).await);
    }
    within(rig.intake().lose("0", 3, 300, "qos 0 while full")).await.expect("the ledger has room");
    within(rig.intake().lose("new", 2, 20, "qos 0 while full")).await.expect("the ledger has room");
    assert!(is_pending(&mut waiting[0]).await);
    let losses = rig.buffer.inspector().expect("the buffer is open").losses().expect("the ledger can be read");
    let losses: Vec<_> = losses.iter().map(|loss| (loss.partition.as_str(), loss.events, loss.bytes)).collect();
    assert_eq!(losses, [("0", 3, 300), ("new", 2, 20)]);
    assert_eq!(rig.progress.dropped.load(std::sync::atomic::Ordering::Relaxed), 5);
}

#[tokio::test]
async fn a_source_can_follow_what_was_delivered() {
    let rig = Rig::roomy();
    within(rig.intake().resume("3", SHARED)).await.expect("a new partition");
    let mut watched = within(rig.intake().delivered("3")).await.expect("the loop runs");
    within(rig.submit("3", shared(0..5)).await).await.expect("there is room");
    rig.confirm("3", Offset(4));
    let delivered = within(watched.wait_for(|delivered| delivered.offset == Offset(4))).await;
    assert_eq!(delivered.expect("the loop runs").position, Some(b"before 5".to_vec()));
}

/// Promise 2.
#[tokio::test]
async fn a_buffer_that_fails_ends_the_loop_and_acknowledges_nothing() {
    let mut rig = Rig::roomy();
    within(rig.submit("0", batch(["kept".to_owned()])).await).await.expect("there is room");
    let buffer = rig.buffer.clone();
    tokio::task::spawn_blocking(move || buffer.close()).await.expect("closing does not panic");
    let mut refused = Vec::new();
    for _ in 0..3 {
        if let Ok(receipt) = rig.intake().submit("0", batch(["lost".to_owned()])).await {
            refused.push(receipt);
        }
    }
    for receipt in refused {
        assert!(matches!(within(receipt).await, Err(IntakeError::Closed(_))));
    }
    let running = std::mem::replace(&mut rig.running, tokio::spawn(async { Ok(()) }));
    assert_eq!(within(running).await.expect("the loop does not panic"), Err(Error::Closed));
    assert_eq!(rig.stored("0").iter().map(text).collect::<Vec<_>>(), ["kept"]);
}

#[tokio::test]
async fn an_event_that_is_too_large_becomes_a_dead_letter_and_is_acknowledged() {
    let rig = Rig::roomy();
    let mut sent = noise((1 << 20) + 1);
    sent.events.push(Event::new(Timestamp(1), Bytes::from_static(b"small")));
    within(rig.submit("0", sent).await).await.expect("it is taken, so that it does not come again");
    assert_eq!(rig.stored("0").iter().map(text).collect::<Vec<_>>(), ["small"]);
    assert_eq!(rig.buffer.status().expect("the buffer is open").dead_letters, 1);
}

#[tokio::test]
async fn what_drop_newest_drops_is_acknowledged_as_dropped() {
    let rig = Rig::with(StreamLimits { max_bytes: 128 << 10, max_age: None, when_full: WhenFull::DropNewest });
    let receipts = [rig.submit("0", noise(100 << 10)).await, rig.submit("0", noise(100 << 10)).await];
    let mut outcomes = Vec::new();
    for receipt in receipts {
        let appended = within(receipt).await.expect("nothing is held back");
        outcomes.push((appended.events, appended.dropped));
    }
    assert_eq!(outcomes, [(1, 0), (0, 1)]);
    assert!(!rig.intake().is_full());
}

/// Promise 2.
#[tokio::test]
async fn nothing_is_written_behind_a_batch_that_will_never_fit() {
    let rig = Rig::new(128 << 10);
    let never = within(rig.submit("0", noise(200 << 10)).await).await;
    assert!(matches!(&never, Err(IntakeError::TooLarge(why)) if why.contains("max_bytes")), "{never:?}");
    let behind = within(rig.submit("0", batch(["behind".to_owned()])).await).await;
    assert!(matches!(behind, Err(IntakeError::Closed(_))), "its position would skip the one before it");
    within(rig.intake().resume("0", Numbering::Assigned)).await.expect("the buffer is well");
    within(rig.submit("0", batch(["again".to_owned()])).await).await.expect("the source has looked again");
}

#[tokio::test]
async fn a_source_that_ends_has_all_it_handed_over_written() {
    let rig = Rig::roomy();
    let mut receipts = Vec::new();
    for number in 0..20 {
        receipts.push(rig.submit("0", batch([number.to_string()])).await);
    }
    let (directory, buffer) = (rig.directory.path().to_owned(), rig.buffer.clone());
    let Rig { intake, running, directory: _kept, .. } = rig;
    drop(intake);
    let mut running = pin!(running);
    within(&mut running).await.expect("the loop does not panic").expect("the buffer is well");
    for receipt in receipts {
        within(receipt).await.expect("it was written");
    }
    assert_eq!(buffer.status().expect("the buffer is open").streams[0].events, 20);
    assert!(directory.exists());
}
