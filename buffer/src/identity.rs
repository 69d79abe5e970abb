//! What a partition remembers of the events that it took: their identities, by which one that is sent again is known.
//!
//! A row holds the identities of one append and is written in its transaction, so that they are on disk with their events
//! or not at all. What has left the window goes in the same way, whole rows at a time and not with every append: it would
//! be one page more for each. So a partition keeps an eighth more than its window, or one append more.
//!
//! Identities count against the file's `max_bytes`, and not against their stream's share, for no sink could ever make room
//! there. All of them together may take [`PART_OF_FILE`] of the file: beyond that the windows shrink.

use std::ops::RangeInclusive;

use rusqlite::{Connection, params};

use crate::{
    Error, Offset,
    catalog::{Catalog, Lane, damaged, rows, segment_ids},
    schema::SEQUENCE_BITS,
    seal::Seal,
    txn::Txn,
};

/// The part of the file that identities may take.
const PART_OF_FILE: u64 = 8;
/// What an identity takes in the file at the most: one that has a row for itself.
const ROW_BYTES: u64 = 56;
const ID_BYTES: usize = size_of::<u128>();
/// Rows deleted in one transaction at the most, so that none takes long.
const DELETES_AT_ONCE: i64 = 256;

/// What one append adds to the memory of its partition.
#[derive(Debug)]
pub(crate) struct Memory {
    ids: Vec<u8>,
    window: u32,
}

impl Memory {
    /// Of a batch's identities, as many as the window has room for.
    pub(crate) fn new(identities: &[u128], window: u32) -> Self {
        let fitting = identities.len().min(window as usize);
        let last = &identities[identities.len() - fitting..];
        Self { ids: last.iter().flat_map(|id| id.to_le_bytes()).collect(), window }
    }

    pub(crate) fn size_bytes(&self) -> usize {
        self.ids.len()
    }
}

/// Puts the identities of an append into the memory of its partition, and takes out what has left the window.
pub(crate) fn remember(txn: &mut Txn<'_>, lane: i64, memory: &Memory) -> Result<(), Error> {
    if memory.ids.is_empty() && txn.lane(lane).remembered == 0 {
        return Ok(());
    }
    let db = txn.db;
    let added = (memory.ids.len() / ID_BYTES) as u64;
    if added > 0 {
        let lane = txn.lane_mut(lane);
        let (id, last) = ((lane.id << SEQUENCE_BITS) | lane.next_memory, lane.high_water);
        lane.next_memory += 1;
        lane.remembered += added;
        db.prepare_cached("INSERT INTO identity(id, last, ids, seal) VALUES (?, ?, ?, ?)")?.execute(params![
            id,
            last.0,
            memory.ids,
            row_seal(id, last, &memory.ids)
        ])?;
    }
    let sharers = txn.catalog.lanes.values().filter(|lane| lane.remembered > 0).count() as u64;
    let fair = txn.space.max_bytes / PART_OF_FILE / ROW_BYTES / sharers.max(1);
    // A partition keeps an eighth more than its window.
    let fair = fair - fair.div_ceil(9);
    shrink(txn, lane, fair.min(memory.window.into()))
}

/// Takes the oldest rows out without which the window is still full.
fn shrink(txn: &mut Txn<'_>, lane: i64, window: u64) -> Result<(), Error> {
    let db = txn.db;
    if txn.lane(lane).remembered <= window + window / 8 {
        return Ok(());
    }
    let lane = txn.lane_mut(lane);
    let ids = segment_ids(lane.id);
    let mut oldest =
        db.prepare_cached("SELECT id, length(ids) FROM identity WHERE id >= ? AND id <= ? ORDER BY id LIMIT ?")?;
    let mut oldest = oldest.query([*ids.start(), *ids.end(), DELETES_AT_ONCE])?;
    let mut through = None;
    while let Some(row) = oldest.next()? {
        let left = lane.remembered.saturating_sub(row.get::<_, i64>(1)? as u64 / ID_BYTES as u64);
        if left < window {
            break;
        }
        (lane.remembered, through) = (left, Some(row.get(0)?));
    }
    drop(oldest);
    through.map_or(Ok(()), |through| delete(db, *ids.start()..=through))
}

/// Forgets what came after `offset` and is not there: it is to come again.
pub(crate) fn forget_after(db: &Connection, lane: i64, offset: Offset) -> Result<(), Error> {
    let ids = segment_ids(lane);
    db.execute("DELETE FROM identity WHERE id >= ? AND id <= ? AND last > ?", [*ids.start(), *ids.end(), offset.0])?;
    Ok(())
}

/// As [`forget_after`], of events that are taken out of a partition in use.
pub(crate) fn take_back(txn: &mut Txn<'_>, lane: i64, offset: Offset) -> Result<(), Error> {
    if txn.lane(lane).remembered == 0 {
        return Ok(());
    }
    forget_after(txn.db, lane, offset)?;
    let ids = segment_ids(lane);
    let sql = "SELECT coalesce(sum(length(ids)), 0) FROM identity WHERE id >= ? AND id <= ?";
    let left: i64 = txn.db.query_row(sql, [*ids.start(), *ids.end()], |row| row.get(0))?;
    txn.lane_mut(lane).remembered = left as u64 / ID_BYTES as u64;
    Ok(())
}

/// Forgets a partition that is deleted.
pub(crate) fn forget(db: &Connection, lane: i64) -> Result<(), Error> {
    delete(db, segment_ids(lane))
}

fn delete(db: &Connection, ids: RangeInclusive<i64>) -> Result<(), Error> {
    let mut delete = db.prepare_cached("DELETE FROM identity WHERE id >= ? AND id <= ?")?;
    delete.execute([*ids.start(), *ids.end()])?;
    Ok(())
}

/// The identities of a partition, the oldest first.
pub(crate) fn read(db: &Connection, lane: &Lane) -> Result<Vec<u128>, Error> {
    let ids = lane.segment_ids();
    let sql = format!(
        "SELECT id, last, ids, seal FROM identity WHERE id >= {} AND id <= {} ORDER BY id",
        ids.start(),
        ids.end()
    );
    let blobs = rows(db, &sql, |row| {
        let (id, last, ids): (i64, i64, Vec<u8>) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let seal = row_seal(id, Offset(last), &ids);
        Ok((ids, seal, row.get(3)?))
    })?;
    Ok(blobs.iter().flat_map(|ids| ids.as_chunks().0).map(|id| u128::from_le_bytes(*id)).collect())
}

/// Brings every lane's count up to date. Its high water must be known.
pub(crate) fn count(db: &Connection, catalog: &mut Catalog) -> Result<(), Error> {
    let sql = format!("SELECT id >> {SEQUENCE_BITS}, max(id), sum(length(ids)), max(last) FROM identity GROUP BY 1");
    let mut select = db.prepare(&sql)?;
    let mut partitions = select.query([])?;
    while let Some(row) = partitions.next()? {
        let lane = catalog.lanes.get_mut(&row.get(0)?);
        let lane = lane.ok_or_else(|| damaged("a partition is missing that has identities"))?;
        if row.get::<_, i64>(3)? > lane.high_water.0 {
            return Err(damaged(&format!("the last events of {} are missing: it remembers some", lane.name)));
        }
        lane.next_memory = row.get::<_, i64>(1)? - lane.segment_ids().start() + 1;
        lane.remembered = row.get::<_, i64>(2)? as u64 / ID_BYTES as u64;
    }
    Ok(())
}

/// How far a partition reached by what it remembers.
pub(crate) fn high_water(db: &Connection, lane: i64) -> Result<Offset, Error> {
    let ids = segment_ids(lane);
    let sql = "SELECT max(last) FROM identity WHERE id >= ? AND id <= ?";
    let last: Option<i64> = db.query_row(sql, [*ids.start(), *ids.end()], |row| row.get(0))?;
    Ok(last.map_or(Offset::BEFORE_ALL, Offset))
}

/// Forgets what no partition remembers.
pub(crate) fn forget_strangers(db: &Connection) -> Result<(), Error> {
    db.execute(&format!("DELETE FROM identity WHERE id >> {SEQUENCE_BITS} NOT IN (SELECT id FROM partition)"), [])?;
    Ok(())
}

/// Forgets everything.
pub(crate) fn forget_all(db: &Connection) -> Result<(), Error> {
    db.execute("DELETE FROM identity", [])?;
    Ok(())
}

fn row_seal(id: i64, last: Offset, ids: &[u8]) -> i64 {
    Seal::of("identity").int(id).int(last.0).bytes(ids).finish()
}
