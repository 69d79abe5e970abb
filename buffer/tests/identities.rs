//! What a partition remembers of the events that it took.

mod common;

use std::path::Path;

use common::*;
use forebay_buffer::{
    AppendError, Appended, Batch, Buffer, Event, Numbering, Offset, Options, Partition, Recovery, Refused, Start,
    StreamLimits, Timestamp, WhenFull,
};

const SHARED: Numbering = Numbering::Shared { created: 5 };

/// A batch of events that are known by these identities.
fn known(ids: std::ops::Range<u128>, window: u32) -> Batch {
    let events = ids.clone().map(|id| event(format!("event {id}"))).collect();
    Batch { events, identities: ids.collect(), window, ..Batch::default() }
}

fn put(partition: &Partition, batch: Batch) -> Appended {
    partition.append(partition.encode(batch).expect("encodes")).wait().expect("appends")
}

fn remembered(partition: &Partition) -> Vec<u128> {
    partition.identities().expect("reads")
}

/// What kill -9 leaves of the buffer in `from`.
fn copy_live(from: &Path, to: &Path) {
    for name in ["buffer.db", "buffer.db-wal"] {
        std::fs::copy(from.join(name), to.join(name)).expect("copies");
    }
}

#[test]
fn identities_survive_a_close_and_a_kill_with_their_events() {
    let directory = tempfile::tempdir().expect("a directory");
    let buffer = open(directory.path());
    let (partition, _) = with_sink(&buffer);
    put(&partition, known(0..3, 100));
    put(&partition, known(3..4, 100));
    buffer.close();

    let buffer = open(directory.path());
    let (partition, subscription) = with_sink(&buffer);
    assert_eq!(remembered(&partition), [0, 1, 2, 3]);
    put(&partition, known(4..6, 100));
    let killed = tempfile::tempdir().expect("a directory");
    copy_live(directory.path(), killed.path());
    let read_before = bodies(&buffer, &subscription, Offset::BEFORE_ALL);

    let survivor = open(killed.path());
    assert_eq!(survivor.recovery(), Recovery::Unclean);
    let (partition, subscription) = with_sink(&survivor);
    assert_eq!(remembered(&partition), [0, 1, 2, 3, 4, 5]);
    assert_eq!(bodies(&survivor, &subscription, Offset::BEFORE_ALL), read_before);
}

/// Promise 5.
#[test]
fn the_memory_is_bounded_by_its_window_whatever_the_batches_are() {
    let directory = tempfile::tempdir().expect("a directory");
    let buffer = open(directory.path());
    let (partition, _) = with_sink(&buffer);
    let mut next = 0;
    for size in [1, 1, 1, 7, 30, 99, 100, 101, 500, 3, 1, 64].into_iter().cycle().take(100) {
        put(&partition, known(next..next + size, 100));
        next += size;
        let found = remembered(&partition);
        assert!(found.iter().copied().eq(next - found.len() as u128..next), "{found:?} before {next}");
        assert!((100.min(next as usize)..200).contains(&found.len()), "{} are remembered", found.len());
    }
    put(&partition, known(next..next + 1, 5));
    assert_eq!(remembered(&partition).len(), 8, "a smaller window holds at once, in whole appends: of 7 and of 1");
}

#[test]
fn a_window_larger_than_an_eighth_of_the_file_is_cut_to_that() {
    let directory = tempfile::tempdir().expect("a directory");
    let options = Options { max_bytes: Options::MIN_MAX_BYTES, ..options(directory.path()) };
    let buffer = options.open().expect("opens");
    let (partition, subscription) = with_sink(&buffer);
    for n in 0..100 {
        let appended = put(&partition, known(n * 500..(n + 1) * 500, u32::MAX));
        confirm(&subscription, appended.high_water);
    }
    let bytes = remembered(&partition).len() as u64 * 16;
    assert!(bytes < Options::MIN_MAX_BYTES / 8, "{bytes} bytes are remembered");
}

/// As little as SQLite may store in a row: one identity in each.
#[test]
fn identities_take_no_more_than_an_eighth_of_the_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let options = Options { max_bytes: Options::MIN_MAX_BYTES, ..options(directory.path()) };
    let buffer = options.open().expect("opens");
    let (partition, subscription) = with_sink(&buffer);
    for round in 0..40 {
        let batches = (round * 100..(round + 1) * 100).map(|id| known(id..id + 1, u32::MAX));
        let receipts: Vec<_> =
            batches.map(|batch| partition.append(partition.encode(batch).expect("encodes"))).collect();
        let last = receipts.into_iter().map(|receipt| receipt.wait().expect("there is room")).last();
        confirm(&subscription, last.expect("there were some").high_water);
    }
    let kept = remembered(&partition).len();
    assert!(kept < 4_000, "the limit is reached");
    buffer.close();
    let db = rusqlite::Connection::open(directory.path().join("buffer.db")).expect("SQLite opens it");
    let sum = "SELECT sum(pgsize) FROM dbstat WHERE name = 'identity'";
    let bytes: i64 = db.query_row(sum, [], |row| row.get(0)).expect("counts");
    assert!(bytes as u64 <= Options::MIN_MAX_BYTES / 8, "{kept} identities take {bytes} bytes");
}

#[test]
fn what_is_refused_at_once_is_remembered_without_an_event() {
    let directory = tempfile::tempdir().expect("a directory");
    let buffer = open(directory.path());
    let (partition, _) = with_sink(&buffer);
    let refused = Refused { event: event("{"), code: "malformed".to_owned(), reason: "not JSON".to_owned() };
    put(&partition, Batch { refused: vec![refused], identities: vec![7], window: 10, ..Batch::default() });
    assert_eq!(remembered(&partition), [7]);
    buffer.close();
    assert_eq!(remembered(&with_sink(&open(directory.path())).0), [7]);
}

#[test]
fn a_batch_without_events_leaves_the_memory_and_one_without_a_window_clears_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let buffer = open(directory.path());
    let (partition, _) = with_sink(&buffer);
    put(&partition, known(0..3, 100));
    put(&partition, Batch { position: Some(vec![1]), ..Batch::default() });
    assert_eq!(remembered(&partition), [0, 1, 2]);
    assert_eq!(partition.position(), Some(vec![1]));
    append(&partition, numbered(0..1));
    assert_eq!(remembered(&partition), []);
}

#[test]
fn what_drop_newest_drops_is_not_remembered() {
    let directory = tempfile::tempdir().expect("a directory");
    let buffer = open(directory.path());
    let limits = StreamLimits { max_bytes: 4096, max_age: None, when_full: WhenFull::DropNewest };
    buffer.declare_stream("s", limits).expect("a stream");
    let partition = buffer.partition("s", "0", Numbering::Assigned).expect("a partition");
    let mut kept = Vec::new();
    for id in 0..100 {
        if put(&partition, known(id..id + 1, 1000)).dropped == 0 {
            kept.push(id);
        }
    }
    assert!((1..100).contains(&kept.len()), "some are dropped, and some not");
    assert_eq!(remembered(&partition), kept);
}

#[test]
fn what_finds_no_room_is_not_remembered_until_it_does() {
    let directory = tempfile::tempdir().expect("a directory");
    let buffer = open(directory.path());
    let limits = StreamLimits { max_bytes: 4096, max_age: None, when_full: WhenFull::Backpressure };
    buffer.declare_stream("s", limits).expect("a stream");
    buffer.declare_sink("k", &["s"], Start::Oldest, 1024).expect("a sink");
    let partition = buffer.partition("s", "0", Numbering::Assigned).expect("a partition");
    let subscription = buffer.subscription("k", &partition).expect("a place");
    let mut id = 0;
    let mut waiting = loop {
        let encoded = partition.encode(known(id..id + 1, 1000)).expect("encodes");
        match partition.append(encoded).wait() {
            Ok(_) => id += 1,
            Err(AppendError::Full(encoded)) => break Some(*encoded),
            Err(AppendError::Failed(error)) => panic!("{error}"),
        }
    };
    assert!(remembered(&partition).into_iter().eq(0..id));
    confirm(&subscription, partition.high_water());
    until("there is room", || match partition.append(waiting.take().expect("it was not taken")).wait() {
        Ok(_) => true,
        Err(AppendError::Full(encoded)) => {
            waiting = Some(*encoded);
            false
        }
        Err(AppendError::Failed(error)) => panic!("{error}"),
    });
    assert!(remembered(&partition).into_iter().eq(0..id + 1));
}

#[test]
fn what_is_taken_back_is_forgotten_for_it_comes_again() {
    let directory = tempfile::tempdir().expect("a directory");
    let buffer = open(directory.path());
    with_sink(&buffer);
    let hub = buffer.partition("s", "hub", SHARED).expect("a partition");
    let subscription = buffer.subscription("k", &hub).expect("a place");
    subscription.resume_here().expect("nothing was delivered");
    for n in 0..3 {
        let offsets = (n * 2..n * 2 + 2).map(Offset).collect();
        put(&hub, Batch { offsets, ..known(n as u128 * 2..n as u128 * 2 + 2, 100) });
    }
    confirm(&subscription, Offset(1));
    assert_eq!(hub.take_back(), Ok(4));
    assert_eq!(remembered(&hub), [0, 1]);
    buffer.close();
    let buffer = open(directory.path());
    assert_eq!(remembered(&buffer.partition("s", "hub", SHARED).expect("a partition")), [0, 1]);
}

#[test]
fn a_renamed_stream_remembers_and_a_discarded_one_leaves_nothing_behind() {
    let directory = tempfile::tempdir().expect("a directory");
    let buffer = open(directory.path());
    let (partition, _) = with_sink(&buffer);
    put(&partition, known(0..3, 100));
    buffer.rename_stream("s", "t").expect("renames");
    assert_eq!(remembered(&partition), [0, 1, 2]);
    buffer.discard_stream("t").expect("discards");
    assert_eq!(buffer.inspector().expect("an inspector").check().expect("checks"), Vec::<String>::new());
    buffer.close();
    let buffer = open(directory.path());
    assert_eq!(buffer.recovery(), Recovery::Clean);
    assert_eq!(remembered(&with_sink(&buffer).0), []);
}

#[test]
fn an_event_that_becomes_a_dead_letter_is_remembered_too() {
    let directory = tempfile::tempdir().expect("a directory");
    let buffer = Options { max_event_bytes: 100, ..options(directory.path()) }.open().expect("opens");
    let (partition, _) = with_sink(&buffer);
    let events = vec![Event::new(Timestamp(1), vec![0; 200])];
    put(&partition, Batch { events, identities: vec![7], window: 10, ..Batch::default() });
    assert_eq!(remembered(&partition), [7]);
}

/// Salvages the buffer after `change` has been made to the bytes of its file.
fn salvaged(directory: &Path, change: impl FnOnce(&mut Vec<u8>)) -> Buffer {
    let path = directory.join("buffer.db");
    let mut bytes = std::fs::read(&path).expect("the file is there");
    change(&mut bytes);
    std::fs::write(&path, bytes).expect("the directory is ours");
    forebay_buffer::salvage(&options(directory)).expect("salvages");
    open(directory)
}

#[test]
fn a_salvage_carries_the_memory_over_unless_something_is_lost() {
    let directory = tempfile::tempdir().expect("a directory");
    let buffer = open(directory.path());
    put(&with_sink(&buffer).0, known(0..3, 100));
    buffer.close();
    let buffer = salvaged(directory.path(), |_| {});
    assert_eq!(remembered(&with_sink(&buffer).0), [0, 1, 2]);
    buffer.close();

    let buffer = salvaged(directory.path(), |bytes| {
        let at = bytes.windows(7).position(|seven| seven == b"event 1").expect("a small segment is not compressed");
        bytes[at] ^= 1;
    });
    assert!(matches!(buffer.recovery(), Recovery::Salvaged(report) if report.rows_lost > 0));
    assert_eq!(remembered(&with_sink(&buffer).0), [], "what is lost may come again");
}

/// Promise 6. A partition's row says only at times how far it reaches.
#[test]
fn a_salvage_accounts_for_lost_events_that_are_remembered() {
    let directory = tempfile::tempdir().expect("a directory");
    let buffer = open(directory.path());
    put(&with_sink(&buffer).0, known(0..3, 100));
    let killed = tempfile::tempdir().expect("a directory");
    copy_live(directory.path(), killed.path());
    let db = rusqlite::Connection::open(killed.path().join("buffer.db")).expect("SQLite opens it");
    assert_eq!(db.execute("DELETE FROM segment", []), Ok(1));
    drop(db);
    let buffer = open(killed.path());
    assert!(matches!(buffer.recovery(), Recovery::Salvaged(report) if report.events_lost == 3));
    let losses = buffer.inspector().expect("an inspector").losses().expect("lists");
    assert_eq!(losses.iter().map(|loss| (loss.sink.as_deref(), loss.events)).collect::<Vec<_>>(), [(Some("k"), 3)]);
    assert_eq!(remembered(&with_sink(&buffer).0), []);
}
