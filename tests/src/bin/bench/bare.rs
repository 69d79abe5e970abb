//! The limit: a bare rusqlite loop that writes the same compressed bytes as blobs, with as many commits.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use rusqlite::{Connection, OpenFlags};

/// Bytes before the compressed payload in a segment's body.
const HEADER_BYTES: usize = 6;

/// The level that the buffer compresses with.
const LEVEL: i32 = 1;

/// Reads the segments' bodies out of a closed buffer.
pub(crate) fn bodies(buffer: &Path) -> Vec<Vec<u8>> {
    let db = Connection::open_with_flags(buffer, OpenFlags::SQLITE_OPEN_READ_ONLY).expect("the buffer is a database");
    let mut query = db.prepare("SELECT body FROM segment ORDER BY id").expect("the buffer has segments");
    let rows = query.query_map([], |row| row.get(0)).expect("segments can be read");
    rows.map(|body| body.expect("a segment has a body")).collect()
}

/// The bodies of single events, each compressed alone: what they are before the buffer joins small segments.
pub(crate) fn bodies_of_singles<'a>(events: impl Iterator<Item = &'a [u8]>) -> Vec<Vec<u8>> {
    let mut compressor = zstd::bulk::Compressor::new(LEVEL).expect("zstd knows its own levels");
    let mut pack = |event: &[u8]| {
        let packed = compressor.compress(event).expect("telemetry can be compressed");
        let (codec, payload) = if packed.len() < event.len() { (1, &packed[..]) } else { (0, event) };
        [&[1, codec], &(event.len() as u32).to_le_bytes()[..], payload].concat()
    };
    events.map(&mut pack).collect()
}

/// What `bodies` are before compression.
pub(crate) fn payloads(bodies: &[Vec<u8>]) -> Vec<Vec<u8>> {
    bodies.iter().map(|body| unpack(body)).collect()
}

fn unpack(body: &[u8]) -> Vec<u8> {
    let length = u32::from_le_bytes([body[2], body[3], body[4], body[5]]) as usize;
    match body[1] {
        0 => body[HEADER_BYTES..].to_vec(),
        _ => zstd::bulk::decompress(&body[HEADER_BYTES..], length).expect("a segment's body is zstd"),
    }
}

/// A new database in `dir`: WAL, synchronous=FULL, and SQLite's defaults for the rest.
fn create(dir: &Path) -> Connection {
    let db = Connection::open(dir.join("bare.db")).expect("a database can be made");
    db.pragma_update(None, "journal_mode", "WAL").expect("WAL can be had");
    db.pragma_update(None, "synchronous", "FULL").expect("FULL can be had");
    db.execute_batch("CREATE TABLE blob(id INTEGER PRIMARY KEY, body BLOB NOT NULL)").expect("a table can be made");
    db
}

/// Inserts `blobs` in `commits` transactions.
pub(crate) fn insert(dir: &Path, blobs: &[Vec<u8>], commits: u64) -> Duration {
    timed(dir, blobs, commits, |body, insert| insert(body))
}

/// As [`insert`], but compresses each first.
pub(crate) fn compress_and_insert(dir: &Path, payloads: &[Vec<u8>], commits: u64) -> Duration {
    let mut compressor = zstd::bulk::Compressor::new(LEVEL).expect("zstd knows its own levels");
    timed(dir, payloads, commits, |payload, insert| {
        insert(&compressor.compress(payload).expect("telemetry can be compressed"));
    })
}

fn timed(dir: &Path, blobs: &[Vec<u8>], commits: u64, mut each: impl FnMut(&[u8], &mut dyn FnMut(&[u8]))) -> Duration {
    let mut db = create(dir);
    let begun = Instant::now();
    for commit in 0..commits {
        let part = |index: u64| (blobs.len() as u64 * index / commits) as usize;
        let transaction = db.transaction().expect("a transaction can be begun");
        {
            let mut insert = transaction.prepare_cached("INSERT INTO blob(body) VALUES (?1)").expect("SQL");
            for blob in &blobs[part(commit)..part(commit + 1)] {
                each(blob, &mut |body| {
                    insert.execute([body]).expect("a blob can be inserted");
                });
            }
        }
        transaction.commit().expect("a transaction can be committed");
    }
    begun.elapsed()
}

/// Reads, decompresses and deletes all blobs that [`insert`] wrote in `dir`, a hundred in a transaction.
pub(crate) fn drain(dir: &Path) -> Duration {
    const IN_A_TRANSACTION: i64 = 100;
    let mut db = Connection::open(dir.join("bare.db")).expect("the database opens");
    db.pragma_update(None, "synchronous", "FULL").expect("FULL can be had");
    let begun = Instant::now();
    let mut after = 0;
    loop {
        let transaction = db.transaction().expect("a transaction can be begun");
        let mut rows = 0;
        {
            let mut select = transaction
                .prepare_cached("SELECT id, body FROM blob WHERE id > ?1 ORDER BY id LIMIT ?2")
                .expect("SQL");
            let found = select
                .query_map([after, IN_A_TRANSACTION], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?)))
                .expect("blobs can be read");
            for row in found {
                let (id, body) = row.expect("a blob can be read");
                std::hint::black_box(unpack(&body));
                (after, rows) = (id, rows + 1);
            }
        }
        transaction.execute("DELETE FROM blob WHERE id <= ?1", [after]).expect("blobs can be deleted");
        transaction.commit().expect("a transaction can be committed");
        if rows < IN_A_TRANSACTION {
            return begun.elapsed();
        }
    }
}
