//! The tables of the file, and the way from one version of them to the next.
//!
//! | table | one row for each | written |
//! | --- | --- | --- |
//! | `meta` | fact about the file: generation, whether it was closed cleanly, what a salvage found | rarely |
//! | `epoch` | writable opening that appended something | once |
//! | `era` | stretch of time in which the wall clock kept its distance from the time since boot | when the clock jumps |
//! | `stream`, `sink`, `input` | stream, sink, and what a sink takes | when declared |
//! | `partition` | ordered lane, with what must outlive its segments | with each delete |
//! | `segment` | run of events; its id is the partition's id in the high 15 bits and a sequence number below | with each append |
//! | `identity` | append with identities, while its partition remembers them (see `identity.rs`); its id is like a segment's | with each append that has some |
//! | `checkpoint` | sink and partition | with each confirmation |
//! | `refusal` | refused event that no checkpoint has passed yet: what makes a refusal final | with each refusal |
//! | `dead_letter` | refused event, until an operator retries or discards it | with each refusal |
//! | `loss` | contiguous range that a policy dropped for one sink, or for every one (`sink` NULL) | with each drop |
//!
//! A segment's `prev` is the last offset of the one before it (or the partition's floor): a reader that finds the chain
//! broken, with no loss to explain it, knows that rows are missing. The segment table has no index beside its key, so an
//! append writes to one leaf of one tree; a partition's segments are found by bisection over the key. The `last` of an
//! identity row is the high water after its append: one above that of the partition has outlived its events.
//!
//! Every row ends in a checksum, `seal` (see [`crate::seal`]).

use rusqlite::Connection;

/// `FRBY`, at byte 68 of the file: what tells a buffer from any other SQLite database.
pub(crate) const APPLICATION_ID: i32 = 0x4652_4259;

/// The version of the schema that this code writes. An older one is migrated when it is opened, a newer one refused.
pub const VERSION: u32 = 2;

/// Small, because a trickle of events rewrites four or five whole pages with each commit.
pub(crate) const PAGE_BYTES: u64 = 1024;

/// Bits of a segment's id below the partition's.
pub(crate) const SEQUENCE_BITS: u32 = 48;

/// Partitions in one file at the most: what fits above [`SEQUENCE_BITS`].
pub(crate) const MAX_PARTITIONS: i64 = (1 << (63 - SEQUENCE_BITS)) - 1;

/// What each version adds to the one before it: `MIGRATIONS[0]` makes version 1 out of an empty file.
const MIGRATIONS: [&str; VERSION as usize] = [
    "
    CREATE TABLE meta(key TEXT PRIMARY KEY, value BLOB NOT NULL, seal INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE epoch(number INTEGER PRIMARY KEY, tag INTEGER NOT NULL, seal INTEGER NOT NULL);
    CREATE TABLE era(id INTEGER PRIMARY KEY, boot BLOB NOT NULL, wall_minus_boot_us INTEGER NOT NULL,
        synchronised INTEGER NOT NULL, seal INTEGER NOT NULL);
    CREATE TABLE stream(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, max_bytes INTEGER NOT NULL,
        max_age_us INTEGER, when_full INTEGER NOT NULL, seal INTEGER NOT NULL);
    CREATE TABLE sink(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, in_flight_bytes INTEGER NOT NULL,
        seal INTEGER NOT NULL);
    CREATE TABLE input(sink INTEGER NOT NULL, stream INTEGER NOT NULL, seal INTEGER NOT NULL,
        PRIMARY KEY(sink, stream)) WITHOUT ROWID;
    CREATE TABLE partition(id INTEGER PRIMARY KEY, stream INTEGER NOT NULL, name TEXT NOT NULL, created INTEGER,
        for_sink INTEGER, floor INTEGER NOT NULL, floor_position BLOB, high_water INTEGER NOT NULL, position BLOB,
        seal INTEGER NOT NULL);
    CREATE TABLE segment(id INTEGER PRIMARY KEY, first INTEGER NOT NULL, last INTEGER NOT NULL, prev INTEGER NOT NULL,
        events INTEGER NOT NULL, size INTEGER NOT NULL, era INTEGER NOT NULL, since_boot_ms INTEGER NOT NULL,
        seal INTEGER NOT NULL, position BLOB, body BLOB NOT NULL);
    CREATE TABLE checkpoint(sink INTEGER NOT NULL, partition INTEGER NOT NULL, generation BLOB NOT NULL,
        tag INTEGER NOT NULL, offset INTEGER NOT NULL, note BLOB, seal INTEGER NOT NULL,
        PRIMARY KEY(sink, partition)) WITHOUT ROWID;
    CREATE TABLE refusal(sink INTEGER NOT NULL, partition INTEGER NOT NULL, offset INTEGER NOT NULL,
        seal INTEGER NOT NULL, PRIMARY KEY(sink, partition, offset)) WITHOUT ROWID;
    CREATE TABLE dead_letter(id INTEGER PRIMARY KEY AUTOINCREMENT, sink INTEGER, partition INTEGER NOT NULL,
        offset INTEGER NOT NULL, code TEXT NOT NULL, reason TEXT NOT NULL, at_us INTEGER NOT NULL, era INTEGER NOT NULL,
        since_boot_ms INTEGER NOT NULL, body BLOB NOT NULL, seal INTEGER NOT NULL);
    CREATE TABLE loss(id INTEGER PRIMARY KEY AUTOINCREMENT, sink TEXT, stream TEXT NOT NULL, partition_name TEXT NOT NULL,
        created INTEGER, partition INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
        events INTEGER NOT NULL, size INTEGER NOT NULL, reason TEXT NOT NULL, at_us INTEGER NOT NULL,
        seal INTEGER NOT NULL);
    CREATE INDEX loss_by_partition ON loss(partition);
    ",
    "CREATE TABLE identity(id INTEGER PRIMARY KEY, last INTEGER NOT NULL, ids BLOB NOT NULL, seal INTEGER NOT NULL);",
];

/// What a file is, before anything in it is read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// A database with nothing in it yet.
    Empty,
    /// A buffer of this version of the schema, or an older one.
    Buffer(u32),
    /// A buffer of a version not known here.
    Newer(u32),
    /// Another program's database.
    Foreign(i32),
}

/// Tells a buffer from other databases, and new ones from old.
pub(crate) fn identify(db: &Connection) -> rusqlite::Result<Found> {
    let tables: i64 = db.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let application: i32 = db.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let version: u32 = db.pragma_query_value(None, "user_version", |row| row.get(0))?;
    Ok(match (application, version) {
        (APPLICATION_ID, 0) | (0, 0) if tables == 0 => Found::Empty,
        (APPLICATION_ID, version) if version > VERSION => Found::Newer(version),
        (APPLICATION_ID, version) if version > 0 => Found::Buffer(version),
        (other, _) => Found::Foreign(other),
    })
}

/// Brings an empty file, or one of an older version, to [`VERSION`]. Each step is one transaction.
pub(crate) fn migrate(db: &mut Connection, from: u32) -> rusqlite::Result<()> {
    for version in from..VERSION {
        let step = db.transaction()?;
        step.execute_batch(MIGRATIONS[version as usize])?;
        step.pragma_update(None, "application_id", APPLICATION_ID)?;
        step.pragma_update(None, "user_version", version + 1)?;
        step.commit()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
