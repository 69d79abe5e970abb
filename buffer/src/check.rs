//! Looking a file over: the quick way at each opening, and everything when asked or when damage was seen.

use rusqlite::{Connection, OptionalExtension};

use crate::{
    Error, Offset,
    append::{SegmentRow, stored_bytes},
    catalog::{Catalog, Lane, damaged, read_meta, write_meta},
    dead_letter::{self, DeadLetterFilter},
    identity, ledger, merge, places_table, reader,
    timeline::Arrival,
};

/// Where [`store_counts`] leaves what it counted.
const COUNTS: &str = "counts";

/// Brings every lane's counts up to date: from what a clean close left, or by walking over the segments.
pub(crate) fn count_segments(db: &Connection, catalog: &mut Catalog, clean: bool) -> Result<(), Error> {
    if clean && let Some(counts) = read_meta(db, COUNTS)? {
        return restore_counts(&counts, catalog);
    }
    let mut next = 0;
    for lane in catalog.lanes.values_mut() {
        no_segments_between(db, next, *lane.segment_ids().start())?;
        next = *lane.segment_ids().end();
        walk(db, lane)?;
    }
    no_segments_between(db, next, i64::MAX)
}

/// Segments outside of every partition belong to one whose row is missing.
fn no_segments_between(db: &Connection, after: i64, before: i64) -> Result<(), Error> {
    let found: bool = db
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM segment WHERE id > ? AND id < ?)")?
        .query_row([after, before], |row| row.get(0))?;
    if found { Err(damaged("a partition is missing that has segments")) } else { Ok(()) }
}

/// Finds where a lane ends, for somebody who only wants to read it.
pub(crate) fn find_end(db: &Connection, lane: &mut Lane) -> Result<(), Error> {
    let ids = lane.segment_ids();
    let last = db
        .prepare_cached("SELECT id, last FROM segment WHERE id >= ? AND id <= ? ORDER BY id DESC LIMIT 1")?
        .query_row([*ids.start(), *ids.end()], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)))
        .optional()?;
    if let Some((id, last)) = last {
        lane.next_sequence = id - ids.start() + 1;
        lane.high_water = lane.high_water.max(Offset(last));
    }
    Ok(())
}

/// Counts a lane's segments without reading their bodies, and checks that each follows the one before.
fn walk(db: &Connection, lane: &mut Lane) -> Result<(), Error> {
    let sql =
        format!("SELECT {}, length(body) FROM segment WHERE id >= ? AND id <= ? ORDER BY id", SegmentRow::COLUMNS);
    let ids = lane.segment_ids();
    let mut statement = db.prepare_cached(&sql)?;
    let mut rows = statement.query([*ids.start(), *ids.end()])?;
    let mut at = lane.floor;
    while let Some(row) = rows.next()? {
        let (segment, _) = SegmentRow::read(row)?;
        follows(db, lane.id, at, &segment)?;
        at = segment.last;
        let position = segment.position.as_ref().map_or(0, |position| position.len());
        lane.events += u64::from(segment.events);
        lane.stored_bytes += stored_bytes(row.get::<_, i64>(10)? as usize, position);
        lane.small_segments = if segment.size < merge::SMALL_BYTES { lane.small_segments + 1 } else { 0 };
        lane.next_sequence = segment.id - ids.start() + 1;
        lane.oldest.get_or_insert(segment.arrival);
        if segment.last > lane.high_water {
            lane.high_water = segment.last;
            lane.position = segment.position.or(lane.position.take());
        }
    }
    if lane.oldest.is_some() && at < lane.high_water && !ledger::explains(db, lane.id, lane.high_water)? {
        return Err(damaged(&format!("the last segments of {} are missing", lane.name)));
    }
    Ok(())
}

/// Whether a segment follows the offset before it, or the ledger explains the hole.
fn follows(db: &Connection, lane: i64, at: Offset, segment: &SegmentRow) -> Result<(), Error> {
    if segment.first > segment.last || segment.first <= segment.prev || segment.prev < at {
        return Err(damaged(&format!("segment {:x} has impossible offsets", segment.id)));
    }
    if segment.prev > at && !ledger::explains(db, lane, segment.prev)? {
        return Err(damaged(&format!("segments before {:x} are missing", segment.id)));
    }
    Ok(())
}

/// Writes down every lane's counts and row, so that the next opening need not walk.
pub(crate) fn store_counts(db: &Connection, catalog: &Catalog) -> Result<(), Error> {
    let mut counts = Vec::new();
    for lane in catalog.lanes.values() {
        let oldest = lane.oldest.unwrap_or(Arrival { era: 0, since_boot_ms: 0 });
        for number in [
            lane.id,
            lane.next_sequence,
            lane.events as i64,
            lane.stored_bytes as i64,
            i64::from(lane.small_segments),
            oldest.era,
            oldest.since_boot_ms,
        ] {
            counts.extend_from_slice(&number.to_le_bytes());
        }
        crate::catalog::store_lane(db, lane)?;
    }
    write_meta(db, COUNTS, &counts)
}

fn restore_counts(counts: &[u8], catalog: &mut Catalog) -> Result<(), Error> {
    let malformed = || damaged("the counts of the last close are malformed");
    let (rows, rest) = counts.as_chunks::<{ 7 * 8 }>();
    if !rest.is_empty() || rows.len() != catalog.lanes.len() {
        return Err(malformed());
    }
    for row in rows {
        let (numbers, _) = row.as_chunks::<8>();
        let number = |index: usize| i64::from_le_bytes(numbers[index]);
        let lane = catalog.lanes.get_mut(&number(0)).ok_or_else(malformed)?;
        lane.next_sequence = number(1);
        lane.events = number(2) as u64;
        lane.stored_bytes = number(3) as u64;
        lane.small_segments = number(4) as u32;
        lane.oldest = (number(5) != 0).then(|| Arrival { era: number(5), since_boot_ms: number(6) });
    }
    Ok(())
}

/// Everything that can be wrong with a file, in words: SQLite's own check, every row's seal, every segment decoded, and
/// the chain of offsets.
pub(crate) fn everything(db: &Connection) -> Result<Vec<String>, Error> {
    let mut problems = Vec::new();
    let own: rusqlite::Result<Vec<String>> = db
        .prepare("PRAGMA integrity_check(20)")
        .and_then(|mut check| check.query_map([], |row| row.get(0)).and_then(Iterator::collect));
    match own {
        Ok(lines) => problems.extend(lines.into_iter().filter(|line| line != "ok")),
        Err(error) => problems.push(error.to_string()),
    }
    if let Err(error) = ours(db, &mut problems) {
        problems.push(error.to_string());
    }
    Ok(problems)
}

fn ours(db: &Connection, problems: &mut Vec<String>) -> Result<(), Error> {
    let mut catalog = Catalog::load(db, 0)?;
    for lane in catalog.lanes.values_mut() {
        if let Err(error) = walk(db, lane) {
            problems.push(error.to_string());
        }
    }
    identity::count(db, &mut catalog)?;
    for lane in catalog.lanes.values() {
        identity::read(db, lane)?;
    }
    places_table::load(db, &catalog)?;
    ledger::all(db)?;
    dead_letter::list(db, &catalog, &DeadLetterFilter { limit: usize::MAX, ..DeadLetterFilter::default() })?;
    let sql = format!("SELECT {}, body FROM segment ORDER BY id", SegmentRow::COLUMNS);
    let mut statement = db.prepare(&sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (segment, seal) = SegmentRow::read(row)?;
        let body: Vec<u8> = row.get(10)?;
        let lane = catalog.lanes.get(&(segment.id >> crate::schema::SEQUENCE_BITS));
        let sound = segment.verify(seal, &body).and_then(|()| match lane {
            Some(lane) => reader::decode(&segment, &body, lane).map(drop),
            None => Err(damaged(&format!("segment {:x} belongs to no partition", segment.id))),
        });
        if let Err(error) = sound {
            problems.push(error.to_string());
        }
    }
    Ok(())
}
