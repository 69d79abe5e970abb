//! Quotas, age, and the ledger of what they cost.

mod common;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use common::*;
use forebay_buffer::{
    AppendError, Batch, Buffer, Loss, Numbering, Offset, Options, Partition, ReadLimits, Refused, Start, StreamLimits,
    Timestamp, WhenFull,
};

const KIB: u64 = 1024;

fn limited(buffer: &Buffer, when_full: WhenFull, max_bytes: u64) -> Partition {
    let limits = StreamLimits { max_bytes, max_age: None, when_full };
    buffer.declare_stream("s", limits).expect("a stream");
    buffer.partition("s", "0", Numbering::Assigned).expect("a partition")
}

/// A batch that does not compress: its number, and noise.
fn noise(n: usize) -> Batch {
    let mut state = n as u64 + 1;
    let noise: Vec<u8> = (0..4000)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
        .collect();
    let mut body = format!("{n} ").into_bytes();
    body.extend(noise);
    let event = forebay_buffer::Event::new(Timestamp(0), body);
    Batch { events: vec![event], ..Batch::default() }
}

fn try_append(partition: &Partition, n: usize) -> bool {
    match partition.append(partition.encode(noise(n)).expect("encodes")).wait() {
        Ok(appended) => appended.dropped == 0,
        Err(AppendError::Full(_)) => false,
        Err(AppendError::Failed(error)) => panic!("{error}"),
    }
}

fn losses(buffer: &Buffer) -> Vec<Loss> {
    buffer.inspector().expect("an inspector").losses().expect("lists")
}

#[test]
fn backpressure_holds_producers_back_until_a_sink_made_room() {
    let directory = tempfile::tempdir().expect("a directory");
    let buffer = open(directory.path());
    let partition = limited(&buffer, WhenFull::Backpressure, 64 * KIB);
    buffer.declare_sink("k", &["s"], Start::Oldest, KIB).expect("a sink");
    let subscription = buffer.subscription("k", &partition).expect("a place");
    let taken = (0..100).take_while(|n| try_append(&partition, *n)).count();
    assert!((8..20).contains(&taken), "{taken} batches of 4 KB fit into 64 KiB");
    assert!(buffer.is_full("s"));
    let events = read(&buffer, &subscription, Offset::BEFORE_ALL);
    assert_eq!(events.len(), taken);
    let room = buffer.room_made();
    confirm(&subscription, events[taken / 2].0);
    event_listener::Listener::wait(room);
    until("there is room", || try_append(&partition, taken));
    assert_eq!(losses(&buffer), []);
}

#[test]
fn a_batch_larger_than_its_streams_share_is_refused_for_good() {
    let directory = tempfile::tempdir().expect("a directory");
    let buffer = open(directory.path());
    let partition = limited(&buffer, WhenFull::DropOldest, KIB);
    let outcome = partition.append(partition.encode(noise(0)).expect("encodes")).wait();
    assert!(matches!(outcome, Err(AppendError::Failed(forebay_buffer::Error::TooLarge(_)))));
}

#[test]
fn drop_newest_counts_what_it_drops_and_moves_the_position() {
    let directory = tempfile::tempdir().expect("a directory");
    let buffer = open(directory.path());
    let partition = limited(&buffer, WhenFull::DropNewest, 16 * KIB);
    let mut dropped = 0;
    for n in 0..20_u8 {
        let batch = Batch { position: Some(vec![n]), ..noise(n.into()) };
        dropped += partition.append(partition.encode(batch).expect("encodes")).wait().expect("appends").dropped;
    }
    assert!(dropped > 10);
    assert_eq!(partition.position(), Some(vec![19]));
    let losses = losses(&buffer);
    assert_eq!(losses.len(), 1, "one entry for one range: {losses:?}");
    assert_eq!((losses[0].events, losses[0].sink.clone(), losses[0].reason.as_str()), (dropped, None, "drop-newest"));
}

#[test]
fn two_sinks_at_different_speeds_miss_exactly_what_the_ledger_says() {
    let directory = tempfile::tempdir().expect("a directory");
    let buffer = open(directory.path());
    let partition = limited(&buffer, WhenFull::DropOldest, 64 * KIB);
    for sink in ["fast", "slow"] {
        buffer.declare_sink(sink, &["s"], Start::Oldest, KIB).expect("a sink");
    }
    let places: Vec<_> = ["fast", "slow"].map(|sink| buffer.subscription(sink, &partition).expect("a place")).into();
    let mut reader = buffer.reader().expect("a reader");
    let mut delivered = [BTreeSet::new(), BTreeSet::new()];
    let mut at = [Offset::BEFORE_ALL; 2];
    let total = 400;
    let mut deliver = |sink: usize, max_events: usize| {
        let limits = ReadLimits { max_events, max_bytes: usize::MAX };
        let delivery = places[sink].read(&mut reader, at[sink], limits).expect("reads");
        for (offset, event) in &delivery.events {
            let body = event.body.clone().expect("a body");
            let number = body.split(|byte| *byte == b' ').next().expect("a number").to_vec();
            assert!(delivered[sink].insert(String::from_utf8(number).expect("digits")), "delivered twice");
            at[sink] = *offset;
        }
        if !delivery.events.is_empty() {
            confirm(&places[sink], at[sink]);
        }
        delivery.events.len()
    };
    for n in 0..total {
        assert!(try_append(&partition, n), "drop-oldest always takes the next");
        deliver(0, 3);
        if n % 20 == 0 {
            deliver(1, 7);
        }
    }
    while deliver(0, 100) + deliver(1, 100) > 0 {}
    let losses = losses(&buffer);
    for (sink, delivered) in ["fast", "slow"].iter().zip(&delivered) {
        let lost: u64 = losses.iter().filter(|loss| loss.sink.as_deref() == Some(sink)).map(|loss| loss.events).sum();
        assert_eq!(delivered.len() as u64 + lost, total as u64, "{sink}: {losses:?}");
    }
    assert_eq!(delivered[0].len(), total, "the fast one missed nothing");
    assert!(delivered[1].len() < total, "the slow one did");
    assert!(losses.len() <= 2 + total / 20, "ranges are joined: {}", losses.len());
}

#[test]
fn a_full_file_drops_no_more_than_the_next_batch_needs() {
    let directory = tempfile::tempdir().expect("a directory");
    let buffer = Options { max_bytes: 2 * 1024 * KIB, ..options(directory.path()) }.open().expect("opens");
    let partition = limited(&buffer, WhenFull::DropOldest, u64::MAX);
    (0..1000).for_each(|n| assert!(try_append(&partition, n)));
    let kept = buffer.status().expect("status").streams[0].events;
    let lost: u64 = losses(&buffer).iter().map(|loss| loss.events).sum();
    assert_eq!(kept + lost, 1000);
    assert!(kept > 250, "2 MiB hold more than {kept} events of 4 KB");
}

#[test]
fn what_is_in_flight_is_not_dropped_and_the_next_is() {
    let directory = tempfile::tempdir().expect("a directory");
    let buffer = open(directory.path());
    let partition = limited(&buffer, WhenFull::DropOldest, 32 * KIB);
    buffer.declare_sink("k", &["s"], Start::Oldest, KIB).expect("a sink");
    let subscription = buffer.subscription("k", &partition).expect("a place");
    assert!(try_append(&partition, 0));
    let mut reader = buffer.reader().expect("a reader");
    let limits = ReadLimits { max_events: 1, max_bytes: usize::MAX };
    let in_flight = subscription.read(&mut reader, Offset::BEFORE_ALL, limits).expect("reads");
    for n in 1..20 {
        assert!(try_append(&partition, n));
    }
    let losses = losses(&buffer);
    assert_eq!((losses.len(), losses[0].first.0 - in_flight.events[0].0.0), (1, 1));
    confirm(&subscription, in_flight.events[0].0);
    drop(in_flight);
    let rest = read(&buffer, &subscription, Offset::assigned(1, 0));
    assert_eq!(rest.len() as u64 + losses[0].events + 1, 20);
}

#[test]
fn after_a_crash_what_the_destination_may_have_is_not_dropped_until_it_has_answered() {
    let directory = tempfile::tempdir().expect("a directory");
    let buffer = open(directory.path());
    let partition = limited(&buffer, WhenFull::DropOldest, 40 * KIB);
    buffer.declare_sink("k", &["s"], Start::Oldest, 4 * KIB).expect("a sink");
    (0..5).for_each(|n| assert!(try_append(&partition, n)));
    buffer.close();

    let buffer = open(directory.path());
    let partition = limited(&buffer, WhenFull::DropOldest, 40 * KIB);
    let subscription = buffer.subscription("k", &partition).expect("a place");
    (5..30).for_each(|n| assert!(try_append(&partition, n)));
    let first = losses(&buffer)[0].first;
    assert!(first >= Offset::assigned(1, 3), "three windows of 4 KiB are guarded, and {first:?} was dropped");
    subscription.resume_after(Offset::BEFORE_ALL).expect("resumes");
    (30..60).for_each(|n| assert!(try_append(&partition, n)));
    let events = read(&buffer, &subscription, Offset::BEFORE_ALL);
    let lost: u64 = losses(&buffer).iter().map(|loss| loss.events).sum();
    assert_eq!(events.len() as u64 + lost, 60);
    assert!(events[0].0 > Offset::assigned(2, 0), "the guarded ones went once the destination had answered");
}

#[test]
fn max_age_drops_only_what_a_trusted_clock_calls_old() {
    let directory = tempfile::tempdir().expect("a directory");
    let clock = TestClock::new();
    let mut options = options(directory.path());
    options.clock = clock.clone();
    let reopen = || Options { clock: clock.clone(), ..options.clone() }.open().expect("opens");
    let buffer = reopen();
    let limits = StreamLimits { max_age: Some(Duration::from_secs(3600)), ..StreamLimits::default() };
    buffer.declare_stream("s", limits).expect("a stream");
    let partition = buffer.partition("s", "0", Numbering::Assigned).expect("a partition");
    clock.set(|reading, _| reading.synchronised = false);
    assert!(try_append(&partition, 0));
    // A jump of ten years is no age.
    clock.set(|reading, _| reading.wall.0 += 10 * 365 * 86_400_000_000);
    clock.pass(Duration::from_secs(1800));
    assert!(try_append(&partition, 1));
    assert_eq!(losses(&buffer), []);
    // Another boot whose clock is not synchronised cannot say how old they are.
    buffer.close();
    clock.set(|reading, boot| {
        reading.since_boot = Duration::from_secs(1);
        *boot = 2;
    });
    let buffer = reopen();
    let partition = buffer.partition("s", "0", Numbering::Assigned).expect("a partition");
    clock.pass(Duration::from_secs(1000));
    assert!(try_append(&partition, 2));
    clock.pass(Duration::from_secs(3000));
    assert!(try_append(&partition, 3));
    assert_eq!(losses(&buffer), []);
    // Its own events are an hour old by its own time since boot; those of the other boot come first and are kept, so
    // nothing goes before them.
    buffer.close();
    let buffer = reopen();
    assert_eq!(buffer.status().expect("status").streams[0].events, 4);
}

#[test]
fn an_event_older_than_max_age_is_dropped_and_in_the_ledger() {
    let directory = tempfile::tempdir().expect("a directory");
    let clock = TestClock::new();
    let mut options = options(directory.path());
    options.clock = clock.clone();
    let buffer = options.open().expect("opens");
    let limits = StreamLimits { max_age: Some(Duration::from_secs(60)), ..StreamLimits::default() };
    buffer.declare_stream("s", limits).expect("a stream");
    let partition = buffer.partition("s", "0", Numbering::Assigned).expect("a partition");
    assert!(try_append(&partition, 0));
    clock.pass(Duration::from_secs(61));
    until("the old one is gone", || buffer.status().expect("status").streams[0].events == 0);
    let losses = losses(&buffer);
    assert_eq!((losses[0].events, losses[0].reason.as_str(), losses[0].sink.clone()), (1, "max-age", None));
}

#[test]
fn the_file_and_its_wal_stay_within_max_bytes_and_shrink_again() {
    let directory = tempfile::tempdir().expect("a directory");
    let max_bytes = 4 * 1024 * KIB;
    let buffer = Options { max_bytes, ..options(directory.path()) }.open().expect("opens");
    let partition = limited(&buffer, WhenFull::Backpressure, u64::MAX);
    buffer.declare_sink("k", &["s"], Start::Oldest, KIB).expect("a sink");
    let subscription = buffer.subscription("k", &partition).expect("a place");
    let on_disk = || -> u64 {
        ["buffer.db", "buffer.db-wal", "buffer.db.reserve"]
            .iter()
            .map(|name| std::fs::metadata(directory.path().join(name)).map_or(0, |metadata| metadata.len()))
            .sum()
    };
    let mut taken = 0;
    while try_append(&partition, taken) {
        taken += 1;
        assert!(on_disk() <= max_bytes, "{} bytes after {taken} batches", on_disk());
    }
    assert!(taken > 600, "{taken} batches of 4 KB fit into 4 MiB");
    let full = on_disk();
    let events = read(&buffer, &subscription, Offset::BEFORE_ALL);
    assert_eq!(events.len(), taken);
    confirm(&subscription, events[taken - 1].0);
    until("the file has shrunk", || on_disk() < full / 2 && !buffer.is_full("s"));
}

#[test]
fn a_trickle_is_merged_and_stays_readable_from_anywhere() {
    let directory = tempfile::tempdir().expect("a directory");
    let buffer = open(directory.path());
    let (partition, subscription) = with_sink(&buffer);
    let mut receipts = Vec::new();
    for n in 0..200 {
        let batch = Batch { events: vec![event(format!("event {n}"))], ..Batch::default() };
        receipts.push(partition.append(partition.encode(batch).expect("encodes")));
    }
    for receipt in receipts {
        receipt.wait().expect("appends");
    }
    let before = buffer.status().expect("status").streams[0].bytes;
    until("they are merged", || buffer.status().expect("status").streams[0].bytes < before / 3);
    for after in [-1, 0, 57, 63, 64, 65, 130, 198] {
        let after_offset = if after < 0 { Offset::BEFORE_ALL } else { Offset::assigned(1, after as u64) };
        assert_eq!(bodies(&buffer, &subscription, after_offset), numbered((after + 1) as usize..200));
    }
    append(&partition, numbered(200..201));
    buffer.close();
    let buffer = open(directory.path());
    assert_eq!(bodies(&buffer, &with_sink(&buffer).1, Offset::BEFORE_ALL), numbered(0..201));
    assert_eq!(buffer.inspector().expect("an inspector").check().expect("checks"), Vec::<String>::new());
}

#[test]
fn producers_of_one_stream_do_not_fill_anothers_share() {
    let directory = tempfile::tempdir().expect("a directory");
    let buffer = open(directory.path());
    let first = limited(&buffer, WhenFull::Backpressure, 32 * KIB);
    buffer.declare_stream("t", StreamLimits { max_bytes: 32 * KIB, ..StreamLimits::default() }).expect("a stream");
    let second = buffer.partition("t", "0", Numbering::Assigned).expect("a partition");
    while try_append(&first, 0) {}
    assert!(try_append(&second, 0));
}

#[test]
fn many_producers_share_commits_and_each_keeps_its_order() {
    let directory = tempfile::tempdir().expect("a directory");
    let buffer = open(directory.path());
    let (_, _) = with_sink(&buffer);
    let buffer = Arc::new(buffer);
    let before = buffer.heartbeat().beats;
    let threads: Vec<_> = (0..8)
        .map(|producer| {
            let buffer = buffer.clone();
            std::thread::spawn(move || {
                let partition = buffer.partition("s", &producer.to_string(), Numbering::Assigned).expect("a partition");
                let receipts: Vec<_> = (0..50)
                    .map(|n| {
                        let batch = Batch { events: vec![event(format!("event {n}"))], ..Batch::default() };
                        partition.append(partition.encode(batch).expect("encodes"))
                    })
                    .collect();
                for receipt in receipts {
                    receipt.wait().expect("appends");
                }
                let place = buffer.subscription("k", &partition).expect("a place");
                assert_eq!(bodies(&buffer, &place, Offset::BEFORE_ALL), numbered(0..50));
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().expect("no producer panics"));
    let rounds = buffer.heartbeat().beats - before;
    assert!(rounds < 400, "400 appends took {rounds} commits");
}

#[test]
fn a_trickle_over_restarts_is_merged_without_mixing_epochs() {
    let directory = tempfile::tempdir().expect("a directory");
    for run in 0..4 {
        let buffer = open(directory.path());
        let (partition, subscription) = with_sink(&buffer);
        for n in run * 40..run * 40 + 40 {
            append(&partition, numbered(n..n + 1));
        }
        std::thread::sleep(Duration::from_millis(1200)); // The writer merges once it has been idle for a second.
        assert_eq!(bodies(&buffer, &subscription, Offset::BEFORE_ALL), numbered(0..run * 40 + 40));
        assert_eq!(buffer.inspector().expect("an inspector").check().expect("checks"), Vec::<String>::new());
        buffer.close();
    }
}

#[test]
fn age_takes_nothing_young_while_the_oldest_is_in_flight() {
    let directory = tempfile::tempdir().expect("a directory");
    let clock = TestClock::new();
    let buffer = Options { clock: clock.clone(), ..options(directory.path()) }.open().expect("opens");
    let limits = StreamLimits { max_age: Some(Duration::from_secs(60)), ..StreamLimits::default() };
    buffer.declare_stream("s", limits).expect("a stream");
    buffer.declare_sink("k", &["s"], Start::Oldest, KIB).expect("a sink");
    let partition = buffer.partition("s", "0", Numbering::Assigned).expect("a partition");
    let subscription = buffer.subscription("k", &partition).expect("a place");
    assert!(try_append(&partition, 0));
    let mut reader = buffer.reader().expect("a reader");
    let in_flight = subscription.read(&mut reader, Offset::BEFORE_ALL, ALL).expect("reads");
    clock.pass(Duration::from_secs(61));
    (1..10).for_each(|n| assert!(try_append(&partition, n)));
    assert_eq!(losses(&buffer), []);
    // Now the nine are old as well, and go; what is in flight stays, and the partition still reads to its end.
    clock.pass(Duration::from_secs(61));
    until("the nine are gone", || buffer.status().expect("status").streams[0].events == 1);
    let again = subscription.read(&mut reader, Offset::BEFORE_ALL, ALL).expect("reads");
    assert_eq!(again.events, in_flight.events);
    confirm(&subscription, in_flight.events[0].0);
    assert!(try_append(&partition, 10));
    assert_eq!(subscription.read(&mut reader, in_flight.events[0].0, ALL).expect("reads").events.len(), 1);
    assert_eq!(losses(&buffer).iter().map(|loss| loss.events).sum::<u64>(), 9);
    assert_eq!(buffer.inspector().expect("an inspector").check().expect("checks"), Vec::<String>::new());
}

#[test]
fn a_full_file_still_takes_the_dead_letters_of_a_whole_batch() {
    let directory = tempfile::tempdir().expect("a directory");
    let buffer = Options { max_bytes: 4 * 1024 * KIB, ..options(directory.path()) }.open().expect("opens");
    let partition = limited(&buffer, WhenFull::Backpressure, u64::MAX);
    buffer.declare_sink("k", &["s"], Start::Oldest, KIB).expect("a sink");
    let subscription = buffer.subscription("k", &partition).expect("a place");
    let mut taken = 0;
    while try_append(&partition, taken) {
        taken += 1;
    }
    let mut reader = buffer.reader().expect("a reader");
    let limits = ReadLimits { max_events: 30, max_bytes: usize::MAX };
    let delivery = subscription.read(&mut reader, Offset::BEFORE_ALL, limits).expect("reads");
    let refuse = |(offset, event): &(Offset, forebay_buffer::Event)| {
        let refused = Refused { event: event.clone(), code: "22P02".into(), reason: "no".into() };
        (*offset, refused)
    };
    subscription.refuse(delivery.events.iter().map(refuse).collect()).wait().expect("there is room for dead letters");
    confirm(&subscription, delivery.events.last().expect("events").0);
    assert_eq!(buffer.status().expect("status").dead_letters, 30);
}

#[test]
fn a_stream_that_was_discarded_and_comes_back_does_not_reuse_offsets() {
    let directory = tempfile::tempdir().expect("a directory");
    let buffer = open(directory.path());
    let (partition, _) = with_sink(&buffer);
    let before = append(&partition, numbered(0..5)).high_water;
    buffer.discard_stream("s").expect("discards");
    let (partition, subscription) = with_sink(&buffer);
    append(&partition, numbered(5..7));
    let events = read(&buffer, &subscription, Offset::BEFORE_ALL);
    assert!(events[0].0 > before && events.len() == 2, "{events:?}");
}

#[test]
fn a_sink_keeps_its_input_as_long_as_it_has_something_to_deliver_of_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let buffer = open(directory.path());
    let (partition, subscription) = with_sink(&buffer);
    buffer.declare_stream("t", StreamLimits::default()).expect("a stream");
    let last = append(&partition, numbered(0..5)).high_water;
    let outcome = buffer.declare_sink("k", &["t"], Start::Oldest, 1 << 20);
    assert!(matches!(outcome, Err(forebay_buffer::Error::Refused(_))), "{outcome:?}");
    assert_eq!(bodies(&buffer, &subscription, Offset::BEFORE_ALL), numbered(0..5));
    confirm(&subscription, last);
    buffer.declare_sink("k", &["t"], Start::Oldest, 1 << 20).expect("nothing is left to deliver");
}
