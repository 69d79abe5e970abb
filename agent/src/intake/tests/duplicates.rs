//! What was sent again is left out, and nothing else is.

use std::sync::atomic::Ordering::Relaxed;

use forebay_buffer::Refused;

use super::*;
use crate::contract::Identity;

const WINDOW: u32 = 100;

/// A batch of events that are known by these identities.
fn known(ids: impl IntoIterator<Item = Identity>) -> SourceBatch {
    let identities: Vec<Option<Identity>> = ids.into_iter().map(Some).collect();
    let texts: Vec<String> = identities.iter().flatten().map(|id| format!("event {id}")).collect();
    SourceBatch { identities, window: WINDOW, ..batch(texts) }
}

/// A batch of one event of `bytes` that do not compress.
fn large(id: Identity, bytes: usize) -> SourceBatch {
    SourceBatch { identities: vec![Some(id)], window: WINDOW, ..noise(bytes) }
}

async fn take(rig: &Rig, batch: SourceBatch) -> u64 {
    within(rig.submit("0", batch).await).await.expect("there is room").events
}

fn stored(rig: &Rig) -> Vec<String> {
    rig.stored("0").iter().map(text).collect()
}

fn events(ids: impl IntoIterator<Item = Identity>) -> Vec<String> {
    ids.into_iter().map(|id| format!("event {id}")).collect()
}

fn duplicates(rig: &Rig) -> u64 {
    rig.progress.duplicates.load(Relaxed)
}

#[tokio::test]
async fn an_event_that_is_sent_again_is_left_out_and_counted() {
    let rig = Rig::roomy();
    assert_eq!(take(&rig, known([1, 2, 3])).await, 3);
    assert_eq!(take(&rig, known([2, 4, 3])).await, 1, "the receipt counts what is new");
    assert_eq!(stored(&rig), events([1, 2, 3, 4]));
    assert_eq!((duplicates(&rig), rig.progress.events.load(Relaxed)), (2, 4));
    let bytes: usize = rig.stored("0").iter().map(|peeked| peeked.event.size_bytes()).sum();
    assert_eq!(rig.progress.bytes.load(Relaxed), bytes as u64);
}

#[tokio::test]
async fn an_event_that_is_twice_in_a_batch_or_in_a_group_is_taken_once() {
    let rig = Rig::roomy();
    assert_eq!(take(&rig, known([1, 1, 2])).await, 2);
    let mut receipts = Vec::new();
    for round in 0..50 {
        // What is handed over while the disk is busy goes into one append.
        receipts.push(rig.submit("0", known([round + 10, round + 10, round + 11])).await);
    }
    let mut counts = Vec::new();
    for receipt in receipts {
        counts.push(within(receipt).await.expect("there is room").events);
    }
    assert_eq!((counts[0], counts[1..].iter().all(|count| *count == 1)), (2, true), "{counts:?}");
    assert_eq!(stored(&rig), events([1, 2].into_iter().chain(10..61)));
    assert_eq!(duplicates(&rig), 1 + 50 + 49);
}

#[tokio::test]
async fn a_batch_of_nothing_but_duplicates_still_moves_the_position() {
    let rig = Rig::roomy();
    take(&rig, known([1])).await;
    assert_eq!(take(&rig, SourceBatch { position: Some(b"after".to_vec()), ..known([1]) }).await, 0);
    let partitions = within(rig.intake().partitions()).await.expect("the loop runs");
    assert_eq!(partitions, [("0".to_owned(), Some(b"after".to_vec()))]);
}

/// Promise 1: the receipt of a duplicate says that the event is on disk, so it must not come before that of the first.
#[tokio::test]
async fn a_duplicate_of_what_waits_for_room_waits_with_it() {
    let rig = Rig::new(128 << 10);
    let full = rig.fill().await;
    let mut first = rig.submit("0", large(1, 8 << 10)).await;
    let mut again = rig.submit("0", known([1])).await;
    assert!(is_pending(&mut first).await && is_pending(&mut again).await);
    rig.confirm("0", full[full.len() / 2]);
    assert_eq!(within(first).await.expect("there is room now").events, 1);
    assert_eq!(within(again).await.expect("there is room now").events, 0);
}

/// What had found no room was no longer known when it was on disk, if it was compressed on another thread.
#[tokio::test]
async fn a_large_batch_that_waited_for_room_is_known_when_it_comes_again() {
    let rig = Rig::new(256 << 10);
    let full = rig.fill().await;
    let mut waiting = rig.submit("0", large(1, 100 << 10)).await;
    assert!(is_pending(&mut waiting).await);
    rig.confirm("0", *full.last().expect("it was full of something"));
    assert_eq!(within(waiting).await.expect("there is room now").events, 1);
    assert_eq!(take(&rig, known([1])).await, 0);
}

/// Promise 1: a redelivery after a crash between the write and the acknowledgement.
#[tokio::test]
async fn what_was_on_disk_before_a_crash_is_known_after_it() {
    let rig = Rig::roomy();
    take(&rig, SourceBatch { position: Some(b"one".to_vec()), ..known([1, 2, 3]) }).await;
    take(&rig, SourceBatch { position: Some(b"two".to_vec()), ..SourceBatch::default() }).await;
    // What kill -9 leaves.
    let killed = tempfile::tempdir().expect("a temporary directory");
    for name in ["buffer.db", "buffer.db-wal"] {
        std::fs::copy(rig.directory.path().join(name), killed.path().join(name)).expect("copies");
    }
    let limits = StreamLimits { max_bytes: 64 << 20, max_age: None, when_full: WhenFull::Backpressure };
    let rig = Rig::on(killed, limits);
    let resumed = within(rig.intake().resume("0", Numbering::Assigned)).await.expect("the partition is there");
    assert_eq!(resumed.position, Some(b"two".to_vec()), "a position alone was durable with its receipt");
    assert_eq!(take(&rig, known([2, 3, 4])).await, 1);
    assert_eq!(stored(&rig), events([1, 2, 3, 4]));
}

#[tokio::test]
async fn a_batch_that_was_not_kept_is_no_duplicate_when_it_comes_again() {
    let rig = Rig::new(128 << 10);
    let full = rig.fill().await;
    let offered = rig.intake().offer("0", large(1, 8 << 10)).await.expect("the loop runs");
    assert_eq!(within(offered).await, Err(IntakeError::Full));
    let never = within(rig.submit("0", large(2, 200 << 10)).await).await;
    assert!(matches!(never, Err(IntakeError::TooLarge(_))), "{never:?}");
    within(rig.intake().resume("0", Numbering::Assigned)).await.expect("the buffer is well");
    rig.confirm("0", *full.last().expect("it was full of something"));
    assert_eq!(take(&rig, known([1, 2])).await, 2);
    assert_eq!(duplicates(&rig), 0);
}

#[tokio::test]
async fn what_drop_newest_dropped_is_taken_when_it_comes_again() {
    let rig = Rig::with(StreamLimits { max_bytes: 128 << 10, max_age: None, when_full: WhenFull::DropNewest });
    assert_eq!(take(&rig, large(1, 100 << 10)).await, 1);
    assert_eq!(take(&rig, large(2, 100 << 10)).await, 0, "there is no room for it");
    assert_eq!(take(&rig, known([2])).await, 1);
    assert_eq!(duplicates(&rig), 0);
}

#[tokio::test]
async fn what_has_left_the_window_is_taken_again() {
    let rig = Rig::roomy();
    take(&rig, known(0..=Identity::from(WINDOW))).await;
    assert_eq!(take(&rig, known([1])).await, 0, "the oldest within the window");
    assert_eq!(take(&rig, known([0])).await, 1, "just beyond it");
}

#[tokio::test]
async fn without_identities_or_without_a_window_everything_is_taken() {
    let rig = Rig::roomy();
    for _ in 0..2 {
        assert_eq!(take(&rig, SourceBatch { window: 0, ..known([1, 1]) }).await, 2);
        assert_eq!(take(&rig, SourceBatch { identities: Vec::new(), ..known([1, 1]) }).await, 2);
    }
    take(&rig, known([7])).await;
    let some = SourceBatch { identities: vec![None, Some(7), None], ..known([8, 7, 8]) };
    assert_eq!(take(&rig, some).await, 2);
    assert_eq!(duplicates(&rig), 1);
}

#[tokio::test]
async fn what_was_taken_back_from_a_lost_partition_comes_again() {
    let rig = Rig::roomy();
    let sent = |range: std::ops::Range<i64>| {
        let identities = range.clone().map(|offset| Some(offset as Identity)).collect();
        SourceBatch { identities, window: WINDOW, ..shared(range) }
    };
    within(rig.intake().resume("3", SHARED)).await.expect("a new partition");
    within(rig.submit("3", sent(0..5)).await).await.expect("there is room");
    within(rig.submit("3", sent(5..10)).await).await.expect("there is room");
    rig.confirm("3", Offset(4));
    within(rig.intake().lost("3", None, None)).await.expect("nothing is in flight");
    within(rig.intake().resume("3", SHARED)).await.expect("it is ours again");
    let again = within(rig.submit("3", sent(3..8)).await).await.expect("there is room");
    assert_eq!((again.high_water, again.events), (Offset(7), 3));
    assert_eq!(duplicates(&rig), 2);
}

/// What comes within one read is no other than what comes in several.
#[tokio::test]
async fn the_window_slides_within_a_batch_too() {
    let (rig, split) = (Rig::roomy(), Rig::roomy());
    let ids = [1, 2, 1, 2, 1, 1];
    assert_eq!(take(&rig, SourceBatch { window: 1, ..known(ids) }).await, 5);
    for id in ids {
        take(&split, SourceBatch { window: 1, ..known([id]) }).await;
    }
    assert_eq!(stored(&rig), events([1, 2, 1, 2, 1]));
    assert_eq!(stored(&rig), stored(&split));
}

#[tokio::test]
async fn what_a_batch_that_was_not_kept_pushed_out_is_still_known() {
    let rig = Rig::new(128 << 10);
    take(&rig, SourceBatch { window: 1, ..known([1]) }).await;
    let full = loop {
        let offered = rig.intake().offer("0", SourceBatch { window: 1, ..large(2, 8 << 10) }).await;
        match within(offered.expect("the loop runs")).await {
            Ok(_) => {
                let last = take(&rig, SourceBatch { window: 1, ..known([1]) }).await;
                assert_eq!(last, 1, "the window is one");
            }
            Err(error) => break error,
        }
    };
    assert_eq!(full, IntakeError::Full);
    assert_eq!(take(&rig, SourceBatch { window: 1, ..known([1]) }).await, 0);
}

#[tokio::test]
async fn what_is_refused_and_sent_again_is_one_dead_letter() {
    let rig = Rig::roomy();
    let malformed = |ids: &[Identity]| {
        let refused = |_| Refused {
            event: Event::new(Timestamp(1), "{"),
            code: "malformed".to_owned(),
            reason: "not JSON".to_owned(),
        };
        let refused_identities = ids.iter().copied().map(Some).collect();
        SourceBatch {
            refused: ids.iter().map(refused).collect(),
            refused_identities,
            window: WINDOW,
            ..SourceBatch::default()
        }
    };
    take(&rig, malformed(&[1, 1])).await;
    take(&rig, malformed(&[1, 2])).await;
    assert_eq!(rig.buffer.status().expect("the buffer is open").dead_letters, 2);
    assert_eq!((duplicates(&rig), rig.progress.refused.load(Relaxed)), (2, 2));
}

/// Promise 5.
#[tokio::test]
async fn a_window_shrinks_where_many_partitions_remember() {
    let rig = Rig::roomy();
    let wide = |ids: std::ops::Range<Identity>| SourceBatch { window: 1 << 20, ..known(ids) };
    assert_eq!(take(&rig, wide(0..3_000)).await, 3_000);
    assert_eq!(take(&rig, wide(0..1)).await, 0);
    let mut receipts = Vec::new();
    for partition in 1..1_000 {
        receipts.push(rig.submit(&partition.to_string(), wide(0..1)).await);
    }
    for receipt in receipts {
        assert_eq!(within(receipt).await.expect("there is room").events, 1);
    }
    assert_eq!(take(&rig, wide(2_000..2_001)).await, 0, "it is among the last 1,024");
    assert_eq!(take(&rig, wide(1_000..1_001)).await, 1, "it is not");
}
