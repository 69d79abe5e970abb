//! Files of older versions.

use std::{path::Path, sync::Arc, time::Duration};

use super::*;
use crate::{
    Batch, Buffer, Event, Numbering, Options, Partition, Recovery, Start, StreamLimits, Timestamp,
    clock::{Clock, Reading},
    salvage,
};

#[derive(Debug)]
struct Still;

impl Clock for Still {
    fn now(&self) -> Reading {
        Reading { wall: Timestamp(1_700_000_000_000_000), since_boot: Duration::from_secs(60), synchronised: true }
    }

    fn boot_id(&self) -> u128 {
        1
    }
}

fn options(path: &Path) -> Options {
    Options { min_free_disk: Some(0), ..Options::new(path.to_owned(), Arc::new(Still)) }
}

fn partition(buffer: &Buffer) -> Partition {
    buffer.declare_stream("s", StreamLimits::default()).expect("a stream");
    buffer.declare_sink("k", &["s"], Start::Oldest, 1 << 20).expect("a sink");
    buffer.partition("s", "0", Numbering::Assigned).expect("a partition")
}

fn put(partition: &Partition, batch: Batch) {
    partition.append(partition.encode(batch).expect("encodes")).wait().expect("appends");
}

fn events(count: usize) -> Vec<Event> {
    (0..count).map(|n| Event::new(Timestamp(1), format!("event {n}"))).collect()
}

/// Makes a file at `path` as version 1 left it, with 300 events in as many segments.
fn make_version_1(path: &Path) {
    let directory = tempfile::tempdir().expect("a directory");
    let newer = directory.path().join("newer.db");
    let buffer = options(&newer).open().expect("opens");
    let filled = partition(&buffer);
    for event in events(300) {
        put(&filled, Batch { events: vec![event], ..Batch::default() });
    }
    buffer.close();

    let db = Connection::open(path).expect("a new file");
    db.pragma_update(None, "page_size", PAGE_BYTES as i64).expect("nothing is in it");
    db.pragma_update(None, "auto_vacuum", "INCREMENTAL").expect("nothing is in it");
    db.execute_batch(MIGRATIONS[0]).expect("the tables of version 1");
    assert!(!db.table_exists(None, "identity").expect("reads"), "version 1 is what was released, and stays as it was");
    db.execute("ATTACH ? AS newer", [newer.to_str().expect("a path of text")]).expect("attaches");
    let tables = "SELECT name FROM main.sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%'";
    let mut tables = db.prepare(tables).expect("reads");
    for table in tables.query_map([], |row| row.get::<_, String>(0)).expect("reads") {
        let table = table.expect("reads");
        db.execute(&format!("INSERT INTO main.{table} SELECT * FROM newer.{table}"), []).expect("copies");
    }
    db.pragma_update(None, "application_id", APPLICATION_ID).expect("writes");
    db.pragma_update(None, "user_version", 1).expect("writes");
}

fn count(buffer: &Buffer) -> u64 {
    buffer.status().expect("the buffer is open").streams[0].events
}

#[test]
fn a_file_of_version_1_is_brought_up_to_date_with_all_that_is_in_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("buffer.db");
    make_version_1(&path);
    let buffer = options(&path).open().expect("an older file is migrated");
    assert_eq!((buffer.recovery(), count(&buffer)), (Recovery::Clean, 300));
    let filled = partition(&buffer);
    put(&filled, Batch { events: events(1), identities: vec![7], window: 10, ..Batch::default() });
    assert_eq!(filled.identities().expect("reads"), [7]);
    assert_eq!(buffer.inspector().expect("an inspector").check().expect("checks"), Vec::<String>::new());
    buffer.close();

    let report = salvage(&options(&path)).expect("a migrated file is read as any other");
    assert_eq!((report.events_kept, report.rows_lost, report.events_lost), (301, 0, 0));
    let buffer = options(&path).open().expect("opens");
    assert_eq!(partition(&buffer).identities().expect("reads"), [7]);
}

#[test]
fn a_file_of_version_1_is_salvaged_without_being_migrated_first() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("buffer.db");
    make_version_1(&path);
    let report = salvage(&options(&path)).expect("salvages");
    assert_eq!((report.events_kept, report.rows_lost, report.events_lost), (300, 0, 0));
    assert_eq!(count(&options(&path).open().expect("opens")), 300);
}
