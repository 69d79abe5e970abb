//! Appending, reading, confirming and reopening.

mod common;

use std::{collections::BTreeMap, ffi::OsString, path::Path};

use common::*;
use forebay_buffer::{
    Batch, Error, Event, Inspector, Numbering, Offset, OpenError, ReadLimits, Recovery, Refused, Start, StreamLimits,
    Tag, TakenBack, TimeQuality, Timestamp, salvage,
};

#[test]
fn what_is_appended_is_read_in_order_also_after_reopening() {
    let directory = tempfile::tempdir().expect("a directory");
    let buffer = open(directory.path());
    assert_eq!(buffer.recovery(), Recovery::Created);
    let (partition, subscription) = with_sink(&buffer);
    for n in 0..50 {
        append(&partition, numbered(n * 10..n * 10 + 10));
    }
    assert_eq!(bodies(&buffer, &subscription, Offset::BEFORE_ALL), numbered(0..500));
    buffer.close();

    let buffer = open(directory.path());
    assert_eq!(buffer.recovery(), Recovery::Clean);
    let (partition, subscription) = with_sink(&buffer);
    append(&partition, numbered(500..501));
    let events = read(&buffer, &subscription, Offset::BEFORE_ALL);
    assert_eq!(events.iter().map(|(_, body)| body.clone()).collect::<Vec<_>>(), numbered(0..501));
    assert_eq!((events[499].0, events[500].0), (Offset::assigned(1, 499), Offset::assigned(2, 0)));
}

#[test]
fn reading_in_small_batches_gives_every_event_once() {
    let directory = tempfile::tempdir().expect("a directory");
    let buffer = open(directory.path());
    let (partition, subscription) = with_sink(&buffer);
    append(&partition, numbered(0..1000));
    append(&partition, numbered(1000..1003));
    let mut reader = buffer.reader().expect("a reader");
    let (mut at, mut seen) = (Offset::BEFORE_ALL, Vec::new());
    loop {
        let limits = ReadLimits { max_events: 7, max_bytes: 60 };
        let delivery = subscription.read(&mut reader, at, limits).expect("reads");
        let Some((last, _)) = delivery.events.last() else { break };
        assert!(delivery.events.len() <= 7 && delivery.size_bytes <= 60);
        at = *last;
        seen.extend(delivery.events.iter().map(|(_, event)| common::body(event)));
    }
    assert_eq!(seen, numbered(0..1003));
}

#[test]
fn confirmed_events_are_deleted_and_their_checkpoint_survives() {
    let directory = tempfile::tempdir().expect("a directory");
    let buffer = open(directory.path());
    let (partition, subscription) = with_sink(&buffer);
    append(&partition, numbered(0..100));
    let last = append(&partition, numbered(100..200)).high_water;
    let events = read(&buffer, &subscription, Offset::BEFORE_ALL);
    let checkpoint = confirm(&subscription, events[99].0);
    until("the first segment is gone", || buffer.status().expect("status").streams[0].events == 100);
    assert_eq!(buffer.status().expect("status").sinks[0].pending_events, 100);
    buffer.close();

    let buffer = open(directory.path());
    let (_, subscription) = with_sink(&buffer);
    assert_eq!(subscription.checkpoint(), Some(checkpoint));
    assert_eq!(bodies(&buffer, &subscription, checkpoint.offset), numbered(100..200));
    confirm(&subscription, last);
    until("all is gone", || buffer.status().expect("status").streams[0].events == 0);
    buffer.close();
    assert_eq!(open(directory.path()).partitions("s").expect("partitions")[0].high_water(), last);
}

#[test]
fn a_position_comes_back_with_the_events_it_came_with() {
    let directory = tempfile::tempdir().expect("a directory");
    let buffer = open(directory.path());
    let (partition, subscription) = with_sink(&buffer);
    for n in 0..3_u8 {
        let batch = Batch { events: vec![event("x")], position: Some(vec![n]), ..Batch::default() };
        partition.append(partition.encode(batch).expect("encodes")).wait().expect("appends");
    }
    assert_eq!(partition.position(), Some(vec![2]));
    let events = read(&buffer, &subscription, Offset::BEFORE_ALL);
    confirm(&subscription, events[1].0);
    until("two are gone", || buffer.status().expect("status").streams[0].events == 1);
    assert_eq!(partition.delivered(), (events[1].0, Some(vec![1])));
    let only_position = Batch { position: Some(vec![9]), ..Batch::default() };
    partition.append(partition.encode(only_position).expect("encodes")).wait().expect("appends");
    buffer.close();
    let partition = open(directory.path()).partitions("s").expect("partitions").remove(0);
    assert_eq!(partition.position(), Some(vec![9]));
}

#[test]
fn shared_offsets_that_come_again_are_ignored() {
    let directory = tempfile::tempdir().expect("a directory");
    let buffer = open(directory.path());
    with_sink(&buffer);
    let hub = Numbering::Shared { created: 77 };
    let partition = buffer.partition("s", "hub", hub).expect("a partition");
    let subscription = buffer.subscription("k", &partition).expect("a place");
    let batch = |offsets: std::ops::Range<i64>| Batch {
        events: offsets.clone().map(|n| event(format!("event {n}"))).collect(),
        offsets: offsets.map(|n| Offset(n * 3)).collect(),
        ..Batch::default()
    };
    // Both encoded before either is written: the second overlaps the first.
    let (first, second) = (partition.encode(batch(0..10)), partition.encode(batch(5..15)));
    partition.append(first.expect("encodes")).wait().expect("appends");
    partition.append(second.expect("encodes")).wait().expect("appends");
    partition.append(partition.encode(batch(0..16)).expect("encodes")).wait().expect("appends");
    let read = read(&buffer, &subscription, Offset::BEFORE_ALL);
    assert_eq!(read.iter().map(|(offset, _)| offset.0 / 3).collect::<Vec<_>>(), (0..16).collect::<Vec<_>>());
    assert_eq!(read.into_iter().map(|(_, body)| body).collect::<Vec<_>>(), numbered(0..16));
    assert_eq!(subscription.checkpoint_at(Offset(3)).map(|checkpoint| checkpoint.tag), Some(Tag(77)));
    assert!(buffer.knows_tag(hub, Tag(77)) && !buffer.knows_tag(hub, Tag(78)));
}

#[test]
fn a_partition_that_was_lost_is_taken_back_to_what_was_confirmed() {
    let directory = tempfile::tempdir().expect("a directory");
    let buffer = open(directory.path());
    with_sink(&buffer);
    let partition = buffer.partition("s", "hub", Numbering::Shared { created: 1 }).expect("a partition");
    let subscription = buffer.subscription("k", &partition).expect("a place");
    for n in 0..4_i64 {
        let batch = Batch {
            events: vec![event(format!("a{n}")), event(format!("b{n}"))],
            offsets: vec![Offset(10 * n), Offset(10 * n + 5)],
            position: Some(vec![n as u8]),
            ..Batch::default()
        };
        partition.append(partition.encode(batch).expect("encodes")).wait().expect("appends");
    }
    let mut reader = buffer.reader().expect("a reader");
    let delivery = subscription.read(&mut reader, Offset::BEFORE_ALL, ALL).expect("reads");
    assert!(matches!(partition.take_back(), Err(Error::Refused(_))), "in flight");
    confirm(&subscription, Offset(20));
    drop(delivery);
    assert_eq!(partition.take_back(), Ok(3));
    assert_eq!((partition.high_water(), partition.position()), (Offset(20), Some(vec![1])));
    assert_eq!(bodies(&buffer, &subscription, Offset(20)), Vec::<String>::new());
}

/// Promise 6.
#[test]
fn what_is_gone_upstream_when_a_partition_is_lost_is_in_the_ledger_of_who_would_not_miss_it_elsewhere() {
    let directory = tempfile::tempdir().expect("a directory");
    let buffer = open(directory.path());
    with_sink(&buffer);
    for (name, has_checkpoint) in [("new", false), ("old", true)] {
        let partition = buffer.partition("s", name, Numbering::Shared { created: 1 }).expect("a partition");
        for n in 0..2_i64 {
            let events = vec![event("a"), event("b"), event("c")];
            let offsets = vec![Offset(10 * n), Offset(10 * n + 1), Offset(10 * n + 2)];
            let batch = Batch { events, offsets, ..Batch::default() };
            partition.append(partition.encode(batch).expect("encodes")).wait().expect("appends");
        }
        if has_checkpoint {
            confirm(&buffer.subscription("k", &partition).expect("a place"), Offset(0));
        }
        let back = partition.take_back_from(Offset(11), "gone").expect("nothing is in flight");
        let expected = if has_checkpoint { TakenBack { taken: 5, lost: 0 } } else { TakenBack { taken: 2, lost: 4 } };
        assert_eq!(back, expected, "{name}");
    }
    let losses = buffer.inspector().expect("an inspector").losses().expect("lists");
    let losses: Vec<_> = losses.iter().map(|loss| (&*loss.partition, loss.first, loss.last, loss.events)).collect();
    assert_eq!(losses, [("new", Offset(0), Offset(10), 4)]);
}

#[test]
fn events_that_are_too_large_become_dead_letters_in_the_same_transaction() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut options = options(directory.path());
    options.max_event_bytes = 10;
    let buffer = options.open().expect("opens");
    let (partition, subscription) = with_sink(&buffer);
    let malformed = Refused { event: event("?"), code: "malformed".into(), reason: "line 3".into() };
    let batch = Batch {
        events: vec![event("small"), event("far too large"), event("also")],
        refused: vec![malformed],
        ..Batch::default()
    };
    let appended = partition.append(partition.encode(batch).expect("encodes")).wait().expect("appends");
    assert_eq!(appended.events, 2);
    assert_eq!(bodies(&buffer, &subscription, Offset::BEFORE_ALL), ["small", "also"]);
    let letters = buffer.inspector().expect("an inspector").dead_letters(&all_letters()).expect("lists");
    let seen: Vec<_> = letters.iter().map(|letter| (letter.code.as_str(), common::body(&letter.event))).collect();
    assert_eq!(seen, [("malformed", "?".to_owned()), ("too_large", "far too large".to_owned())]);
}

fn all_letters() -> forebay_buffer::DeadLetterFilter {
    forebay_buffer::DeadLetterFilter { limit: 100, ..Default::default() }
}

#[test]
fn a_refusal_is_recorded_once_and_retried_for_that_sink_only() {
    let directory = tempfile::tempdir().expect("a directory");
    let buffer = open(directory.path());
    let (partition, subscription) = with_sink(&buffer);
    buffer.declare_sink("other", &["s"], Start::Oldest, 0).expect("a sink");
    append(&partition, numbered(0..3));
    let events = read(&buffer, &subscription, Offset::BEFORE_ALL);
    let refused = Refused { event: event("event 1"), code: "22003".into(), reason: "out of range".into() };
    for _ in 0..2 {
        subscription.refuse(vec![(events[1].0, refused.clone())]).wait().expect("records");
    }
    let mut reader = buffer.reader().expect("a reader");
    let recorded = subscription.refused(&mut reader, Offset::BEFORE_ALL, events[2].0).expect("lists");
    assert_eq!(recorded, [events[1].0]);
    let letters = buffer.inspector().expect("an inspector").dead_letters(&all_letters()).expect("lists");
    assert_eq!(letters.len(), 1);
    assert_eq!((letters[0].sink.as_deref(), letters[0].offset), (Some("k"), events[1].0));

    assert_eq!(buffer.retry_dead_letters(&[letters[0].id]), Ok(1));
    assert_eq!(buffer.status().expect("status").dead_letters, 0);
    let retry = buffer.partitions("s").expect("partitions").remove(1);
    assert_eq!((retry.name(), retry.for_sink()), ("retry", Some("k")));
    let place = buffer.subscription("k", &retry).expect("a place");
    assert_eq!(bodies(&buffer, &place, Offset::BEFORE_ALL), ["event 1"]);
    assert!(buffer.subscription("other", &retry).is_err());
    let recorded = subscription.refused(&mut reader, Offset::BEFORE_ALL, events[2].0).expect("lists");
    assert_eq!(recorded, [events[1].0], "the refusal stays until the checkpoint has passed it");
    confirm(&subscription, events[2].0);
    until("the refusal is passed", || {
        subscription.refused(&mut reader, Offset::BEFORE_ALL, events[2].0).expect("lists").is_empty()
    });
}

#[test]
fn a_second_process_is_told_who_has_the_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let buffer = open(directory.path());
    let Err(OpenError::InUse { pid, .. }) = options(directory.path()).open() else { panic!("opened twice") };
    assert_eq!(pid, Some(std::process::id()));
    buffer.close();
    open(directory.path());
}

#[test]
fn another_programs_file_is_refused_and_left_as_it_is() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("buffer.db");
    std::fs::write(&path, "not a database, but dear to somebody").expect("writes");
    assert!(matches!(options(directory.path()).open(), Err(OpenError::NotABuffer { .. })));
    assert_eq!(std::fs::read(&path).expect("reads"), b"not a database, but dear to somebody");

    std::fs::remove_file(&path).expect("removes");
    let other = rusqlite::Connection::open(&path).expect("opens");
    other.execute_batch("CREATE TABLE t(x); INSERT INTO t VALUES (1)").expect("writes");
    drop(other);
    let before = std::fs::read(&path).expect("reads");
    assert!(matches!(options(directory.path()).open(), Err(OpenError::NotABuffer { .. })));
    assert_eq!(std::fs::read(&path).expect("reads"), before);
}

/// What every file in a directory says, but for the lock and the index of the WAL, which are made anew by whoever comes.
fn files_in(directory: &Path) -> BTreeMap<OsString, Vec<u8>> {
    let files = std::fs::read_dir(directory).expect("reads").map(|entry| entry.expect("an entry"));
    let read = files.map(|file| (file.file_name(), std::fs::read(file.path()).expect("reads")));
    let passing = |name: &OsString| [".lock", "-shm"].iter().any(|end| name.to_string_lossy().ends_with(end));
    read.filter(|(name, bytes)| !passing(name) && !bytes.is_empty()).collect()
}

#[test]
fn a_newer_schema_is_refused_and_left_as_it_is() {
    let made = tempfile::tempdir().expect("a directory");
    open(made.path()).close();
    let newer = rusqlite::Connection::open(made.path().join("buffer.db")).expect("opens");
    newer.pragma_update(None, "user_version", 3).expect("writes");
    let copy = || {
        let copy = tempfile::tempdir().expect("a directory");
        for (name, bytes) in files_in(made.path()) {
            std::fs::write(copy.path().join(name), bytes).expect("writes");
        }
        copy
    };
    let only_in_the_wal = copy();
    newer.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).expect("checkpoints");
    let (in_the_header, salvage_cut_short, set_aside) = (copy(), copy(), copy());
    std::fs::write(salvage_cut_short.path().join("buffer.db.salvage"), "1\nit was damaged").expect("writes");
    std::fs::write(set_aside.path().join("buffer.db.salvage"), "1\nit was damaged").expect("writes");
    let (path, aside) = ("buffer.db", "buffer.db.damaged-1");
    std::fs::rename(set_aside.path().join(path), set_aside.path().join(aside)).expect("renames");
    for directory in [only_in_the_wal, in_the_header, salvage_cut_short, set_aside] {
        let before = files_in(directory.path());
        let refused = [options(directory.path()).open().map(drop), salvage(&options(directory.path())).map(drop)];
        for refused in refused.map(|opened| opened.expect_err("it is not known what stands there")) {
            assert!(matches!(refused, OpenError::Newer { found: 3, known: 2, .. }), "{refused}");
            let text = refused.to_string();
            assert!(text.contains("later version (schema 3, known here up to 2): install that version"), "{text}");
        }
        assert!(files_in(directory.path()) == before, "in {}", directory.path().display());
    }
}

#[test]
fn an_inspector_reads_beside_the_writer_and_without_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let buffer = open(directory.path());
    let (partition, _) = with_sink(&buffer);
    append(&partition, numbered(0..5));
    let path = directory.path().join("buffer.db");
    for closed in [false, true] {
        if closed {
            buffer.close();
        }
        let mut inspector = Inspector::open(&path, TestClock::new()).expect("opens");
        let peeked = inspector.peek("s", None, None, 3).expect("peeks");
        assert_eq!(peeked.iter().map(|peeked| common::body(&peeked.event)).collect::<Vec<_>>(), numbered(0..3));
        assert_eq!(inspector.status().expect("status").sinks[0].pending_events, 5);
        assert_eq!(inspector.check().expect("checks"), Vec::<String>::new());
    }
}

#[test]
fn a_sink_added_later_starts_at_the_oldest_or_now() {
    let directory = tempfile::tempdir().expect("a directory");
    let buffer = open(directory.path());
    let (partition, _) = with_sink(&buffer);
    append(&partition, numbered(0..5));
    buffer.declare_sink("all", &["s"], Start::Oldest, 0).expect("a sink");
    buffer.declare_sink("new", &["s"], Start::Now, 0).expect("a sink");
    append(&partition, numbered(5..6));
    let place = |sink| buffer.subscription(sink, &partition).expect("a place");
    assert_eq!(bodies(&buffer, &place("all"), place("all").beginning()), numbered(0..6));
    assert_eq!(bodies(&buffer, &place("new"), place("new").beginning()), numbered(5..6));
}

#[test]
fn renaming_and_discarding_account_for_what_was_not_delivered() {
    let directory = tempfile::tempdir().expect("a directory");
    let buffer = open(directory.path());
    let (partition, _) = with_sink(&buffer);
    append(&partition, numbered(0..5));
    buffer.rename_stream("s", "t").expect("renames");
    buffer.rename_sink("k", "l").expect("renames");
    let partition = buffer.partitions("t").expect("partitions").remove(0);
    assert_eq!(bodies(&buffer, &buffer.subscription("l", &partition).expect("a place"), Offset::BEFORE_ALL).len(), 5);
    buffer.discard_stream("t").expect("discards");
    let losses = buffer.inspector().expect("an inspector").losses().expect("lists");
    assert_eq!(losses.len(), 1);
    assert_eq!((losses[0].sink.as_deref(), losses[0].events, losses[0].reason.as_str()), (Some("l"), 5, "discarded"));
}

#[test]
fn times_are_stamped_at_intake_and_put_right_at_delivery() {
    let directory = tempfile::tempdir().expect("a directory");
    let clock = TestClock::new();
    clock.set(|reading, _| {
        reading.wall = Timestamp(5_000_000);
        reading.synchronised = false;
    });
    let mut options = options(directory.path());
    options.clock = clock.clone();
    let buffer = options.open().expect("opens");
    let (partition, subscription) = with_sink(&buffer);
    let stamped = Event { time_quality: TimeQuality::Stamped, ..event("x") };
    let batch = Batch { events: vec![stamped], ..Batch::default() };
    partition.append(partition.encode(batch.clone()).expect("encodes")).wait().expect("appends");
    clock.pass(std::time::Duration::from_secs(60));
    clock.set(|reading, _| {
        reading.wall.0 += 1_700_000_000_000_000;
        reading.synchronised = true;
    });
    partition.append(partition.encode(batch).expect("encodes")).wait().expect("appends");
    let mut reader = buffer.reader().expect("a reader");
    let events = subscription.read(&mut reader, Offset::BEFORE_ALL, ALL).expect("reads").events;
    let times: Vec<_> = events.iter().map(|(_, event)| (event.time.0, event.time_quality)).collect();
    let (repaired, trusted) = (1_700_000_005_000_000, 1_700_000_065_000_000);
    assert_eq!(times, [(repaired, TimeQuality::Repaired), (trusted, TimeQuality::Stamped)]);
}

#[test]
fn a_stream_must_be_known_before_a_sink_can_take_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let buffer = open(directory.path());
    let unknown = buffer.declare_sink("k", &["nowhere"], Start::Oldest, 0);
    assert_eq!(unknown, Err(Error::Unknown("stream \"nowhere\"".into())));
    buffer.declare_stream("s", StreamLimits::default()).expect("a stream");
    buffer.close();
    assert_eq!(buffer.declare_stream("t", StreamLimits::default()), Err(Error::Closed));
}
