//! Joining the small segments that a trickle of events leaves behind.
//!
//! Each event of a trickle is a segment of its own, so that it is durable at once. Uncompressed and with a row each, a day
//! of them takes several times the room they need. In quiet moments a group of them becomes one segment: each event is
//! written twice in all, not more.

use crate::{
    Error, Numbering,
    append::{SegmentRow, stored_bytes},
    catalog::damaged,
    codec::Encoder,
    segment,
    txn::Txn,
};

/// Segments with fewer bytes of events are small.
pub(crate) const SMALL_BYTES: u64 = 2048;

/// Small segments in a row that are worth joining.
pub(crate) const GROUP: u32 = 64;

/// Joins the first group of the small segments at the end of a lane.
pub(crate) fn merge(txn: &mut Txn<'_>, lane: i64) -> Result<(), Error> {
    let small = txn.lane(lane).small_segments;
    txn.lane_mut(lane).small_segments = small.saturating_sub(GROUP);
    let numbering = txn.lane(lane).numbering;
    let mut run: Vec<(SegmentRow, Vec<u8>)> = Vec::new();
    for (row, body) in group(txn, lane, small)? {
        if run.last().is_some_and(|(before, _)| !may_follow(before, &row, numbering)) {
            join(txn, lane, &std::mem::take(&mut run))?;
        }
        run.push((row, body));
    }
    join(txn, lane, &run)
}

/// Whether two segments may become one: of one era, whose clock dates them both, and where offsets are assigned, without a
/// gap, for a segment says only its first: not across epochs, nor across what was dropped.
fn may_follow(before: &SegmentRow, next: &SegmentRow, numbering: Numbering) -> bool {
    before.arrival.era == next.arrival.era
        && before.last == next.prev
        && (numbering != Numbering::Assigned || next.first.0 == before.last.0 + 1)
}

/// The first [`GROUP`] of the last `small` segments of a lane.
fn group(txn: &Txn<'_>, lane: i64, small: u32) -> Result<Vec<(SegmentRow, Vec<u8>)>, Error> {
    let lane = txn.lane(lane);
    let from = lane.segment_ids().start() + (lane.next_sequence - i64::from(small)).max(0);
    let to = from + i64::from(GROUP) - 1;
    let sql = format!("SELECT {}, body FROM segment WHERE id >= ? AND id <= ? ORDER BY id", SegmentRow::COLUMNS);
    let mut statement = txn.db.prepare_cached(&sql)?;
    let mut rows = statement.query([from, to])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let (read, seal) = SegmentRow::read(row)?;
        let body: Vec<u8> = row.get(10)?;
        read.verify(seal, &body)?;
        found.push((read, body));
    }
    Ok(found)
}

fn join(txn: &mut Txn<'_>, lane: i64, run: &[(SegmentRow, Vec<u8>)]) -> Result<(), Error> {
    let [(first, _), .., (last, _)] = run else { return Ok(()) };
    let numbering = txn.lane(lane).numbering;
    let mut encoder = Encoder::default();
    let mut before = 0;
    for (row, body) in run {
        let events = segment::decode(body, row.events, row.first, numbering).map_err(|why| damaged(why.0))?;
        for (offset, event) in &events {
            encoder.push(event, (numbering != Numbering::Assigned).then_some(*offset));
        }
        before += stored_bytes(body.len(), row.position.as_ref().map_or(0, |position| position.len()));
        txn.db.prepare_cached("DELETE FROM segment WHERE id = ?")?.execute([row.id])?;
    }
    let joined = SegmentRow {
        last: last.last,
        events: run.iter().map(|(row, _)| row.events).sum(),
        size: run.iter().map(|(row, _)| row.size).sum(),
        position: run.iter().rev().find_map(|(row, _)| row.position.clone()),
        ..first.clone()
    };
    let body = segment::encode(&encoder);
    joined.insert(txn.db, crc32fast::hash(&body), &body)?;
    let after = stored_bytes(body.len(), joined.position.as_ref().map_or(0, |position| position.len()));
    let lane = txn.lane_mut(lane);
    lane.stored_bytes = lane.stored_bytes.saturating_sub(before) + after;
    txn.made_room = true;
    Ok(())
}
