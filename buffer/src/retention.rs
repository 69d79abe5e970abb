//! What is kept, and what has to go: quotas, age, and the deletion of what every sink has passed.

use std::sync::Arc;

use crate::{
    Checkpoint, Error, Generation, Numbering, Offset, Tag, TakenBack, WhenFull,
    append::{SegmentRow, stored_bytes},
    catalog::{Catalog, Lane, store_lane},
    clock::Reading,
    identity,
    ledger::{self, Dropped},
    places::{self, Guard, Place, PlaceKey, of_lane},
    places_table::count_after,
    reader, segment,
    timeline::Arrival,
    txn::Txn,
};

/// Segments deleted in one transaction at the most, so that none takes long.
const DELETES_AT_ONCE: usize = 256;

/// In-flight windows that a guard covers: what was delivered and unsaved, what was in flight, and a batch between.
const GUARDED_WINDOWS: u64 = 3;

/// Whether a batch may be written.
pub(crate) enum Verdict {
    Room,
    /// Not now.
    Full,
    /// Not ever: it is larger than the stream's share.
    Never(String),
}

/// Decides whether `bytes` more fit into a stream's share, and these with `besides` into the file, after dropping what the
/// stream's policy lets go.
pub(crate) fn admit(txn: &mut Txn<'_>, stream: i64, bytes: u64, besides: u64) -> Result<Verdict, Error> {
    let limits = txn.catalog.streams[&stream].limits;
    if bytes > limits.max_bytes {
        let name = &txn.catalog.streams[&stream].name;
        return Ok(Verdict::Never(format!(
            "a batch of {bytes} bytes does not fit into the share of stream {name}, max_bytes = {}",
            limits.max_bytes
        )));
    }
    if let Some(why) = txn.space.never(bytes + besides) {
        return Ok(Verdict::Never(why));
    }
    loop {
        let used: u64 = txn.catalog.lanes_of(stream).map(|lane| lane.stored_bytes).sum();
        if used + bytes <= limits.max_bytes && txn.space.refuse(bytes + besides).is_none() {
            txn.space.take(bytes + besides);
            return Ok(Verdict::Room);
        }
        if limits.when_full != WhenFull::DropOldest || !drop_oldest(txn, stream, ledger::DROP_OLDEST)? {
            return Ok(Verdict::Full);
        }
        // Pages that were freed just now count within this transaction already.
        txn.space.measure(txn.db)?;
    }
}

/// The lanes whose oldest segment is older than their stream's `max_age`, as far as a clock can be trusted with that.
pub(crate) fn aged(catalog: &Catalog, now: Reading) -> Vec<i64> {
    let aged = |lane: &&Lane| lane.oldest.is_some_and(|oldest| is_aged(catalog, now, lane.stream, oldest));
    catalog.lanes.values().filter(aged).map(|lane| lane.id).collect()
}

fn is_aged(catalog: &Catalog, now: Reading, stream: i64, arrival: Arrival) -> bool {
    let limit = catalog.streams[&stream].limits.max_age;
    let age = limit.and_then(|_| catalog.timeline.age(arrival, now));
    age.zip(limit).is_some_and(|(age, limit)| age > limit)
}

/// Drops what is older than its stream's `max_age`, as much as one transaction should.
pub(crate) fn drop_aged(txn: &mut Txn<'_>) -> Result<(), Error> {
    for _ in 0..DELETES_AT_ONCE {
        let aged = aged(txn.catalog, txn.now);
        let mut dropped = false;
        for lane in aged {
            dropped |= drop_first(txn, lane, ledger::MAX_AGE, &is_aged)?;
        }
        if !dropped {
            break;
        }
    }
    Ok(())
}

/// Drops the oldest segment of a stream that nobody may have in flight.
fn drop_oldest(txn: &mut Txn<'_>, stream: i64, reason: &'static str) -> Result<bool, Error> {
    let mut lanes: Vec<(Arrival, i64)> =
        txn.catalog.lanes_of(stream).filter_map(|lane| Some((lane.oldest?, lane.id))).collect();
    lanes.sort_by_key(|(arrival, _)| (arrival.era, arrival.since_boot_ms));
    for (_, lane) in lanes {
        if drop_first(txn, lane, reason, &|_, _, _, _| true)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether a policy lets a segment of this stream go that arrived then.
type MayGo = dyn Fn(&Catalog, Reading, i64, Arrival) -> bool;

/// Drops the first segment of a lane that no sink holds, if it may go, and says in the ledger who misses what of it.
fn drop_first(txn: &mut Txn<'_>, lane: i64, reason: &'static str, may_go: &MayGo) -> Result<bool, Error> {
    measure_guards(txn, lane)?;
    let start = *txn.lane(lane).segment_ids().start();
    let mut next = start;
    while let Some(row) = segment_from(txn, lane, next)? {
        if !may_go(txn.catalog, txn.now, txn.lane(lane).stream, row.arrival) {
            return Ok(false);
        }
        let cuts = txn.lane(lane).cuts.clone();
        {
            let places = txn.shared.places();
            if of_lane(&places, lane).any(|(_, place)| place.holds(row.first, row.last)) {
                next = row.id + 1;
                continue;
            }
            cuts.begin();
        }
        txn.cutting(cuts);
        account(txn, lane, &row, reason)?;
        remove(txn, lane, &row, next == start)?;
        settle(txn, lane)?;
        return Ok(true);
    }
    Ok(false)
}

/// Writes down what each sink misses of a segment that goes.
fn account(txn: &mut Txn<'_>, lane: i64, row: &SegmentRow, reason: &'static str) -> Result<(), Error> {
    let confirmed: Vec<(i64, Offset)> =
        of_lane(&txn.shared.places(), lane).map(|(sink, place)| (sink, place.confirmed)).collect();
    if confirmed.is_empty() {
        return ledger::record(txn, None, lane, whole(row), reason);
    }
    for (sink, confirmed) in confirmed {
        if confirmed >= row.last {
            continue;
        }
        let dropped = part_of(txn, lane, row, confirmed, row.last)?;
        ledger::record(txn, Some(sink), lane, dropped, reason)?;
        let row_first = row.first;
        txn.on_commit(move |places| {
            if let Some(place) = places.get_mut(&(lane, sink)) {
                place.lose(row_first, dropped.events);
            }
        });
    }
    Ok(())
}

fn whole(row: &SegmentRow) -> Dropped {
    Dropped { after: row.prev, first: row.first, last: row.last, events: u64::from(row.events), size: row.size }
}

/// What of a segment lies after `after`, and not after `through`.
fn part_of(txn: &Txn<'_>, lane: i64, row: &SegmentRow, after: Offset, through: Offset) -> Result<Dropped, Error> {
    if after < row.first && through >= row.last {
        return Ok(whole(row));
    }
    let (seal, body): (i64, Vec<u8>) =
        txn.db
            .query_row("SELECT seal, body FROM segment WHERE id = ?", [row.id], |row| Ok((row.get(0)?, row.get(1)?)))?;
    row.verify(seal, &body)?;
    let events = segment::decode(&body, row.events, row.first, txn.lane(lane).numbering)
        .map_err(|why| Error::Damaged(format!("segment {:x}: {}", row.id, why.0)))?;
    let part = events.iter().filter(|(offset, _)| *offset > after && *offset <= through);
    let (count, size) = part.fold((0, 0), |(count, size), (_, event)| (count + 1, size + event.size_bytes() as u64));
    let (after, last) = (after.max(row.prev), through.min(row.last));
    Ok(Dropped { after, first: Offset(after.0 + 1), last, events: count, size })
}

/// Deletes what every sink of a lane has confirmed. True if there is more.
pub(crate) fn delete_delivered(txn: &mut Txn<'_>, lane: i64, delivered: Offset) -> Result<bool, Error> {
    if txn.catalog.lanes.get(&lane).is_none_or(|lane| delivered <= lane.floor || lane.events == 0) {
        return Ok(false);
    }
    let mut next = *txn.lane(lane).segment_ids().start();
    let mut deleted = 0;
    while let Some(row) = segment_from(txn, lane, next)?.filter(|row| row.last <= delivered) {
        remove(txn, lane, &row, true)?;
        next = row.id + 1;
        deleted += 1;
        if deleted == DELETES_AT_ONCE {
            settle(txn, lane)?;
            return Ok(true);
        }
    }
    if deleted > 0 {
        settle(txn, lane)?;
    }
    Ok(false)
}

/// What of a lane lies after `confirmed`, counted exactly.
pub(crate) fn undelivered(txn: &Txn<'_>, lane: i64, confirmed: Offset) -> Result<Dropped, Error> {
    let mut rest = Dropped { after: confirmed, first: Offset(confirmed.0 + 1), last: confirmed, events: 0, size: 0 };
    let mut next = *txn.lane(lane).segment_ids().start();
    while let Some(row) = segment_from(txn, lane, next)? {
        next = row.id + 1;
        if row.last <= confirmed {
            continue;
        }
        let part = part_of(txn, lane, &row, confirmed, row.last)?;
        (rest.last, rest.events, rest.size) = (row.last, rest.events + part.events, rest.size + part.size);
    }
    Ok(rest)
}

/// The first segment of a lane with an id of `from` or more.
pub(crate) fn segment_from(txn: &Txn<'_>, lane: i64, from: i64) -> Result<Option<SegmentRow>, Error> {
    let end = *txn.lane(lane).segment_ids().end();
    let sql = format!("SELECT {} FROM segment WHERE id >= ? AND id <= ? ORDER BY id LIMIT 1", SegmentRow::COLUMNS);
    let mut statement = txn.db.prepare_cached(&sql)?;
    let mut rows = statement.query([from, end])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let (read, _) = SegmentRow::read(row)?;
    reader::in_order(read.id, from)?;
    Ok(Some(read))
}

/// Takes one segment out of the file and out of its lane's counts. `oldest`: there is none before it.
fn remove(txn: &mut Txn<'_>, lane: i64, row: &SegmentRow, oldest: bool) -> Result<(), Error> {
    let db = txn.db;
    let body: i64 =
        db.prepare_cached("SELECT length(body) FROM segment WHERE id = ?")?.query_row([row.id], |row| row.get(0))?;
    db.prepare_cached("DELETE FROM segment WHERE id = ?")?.execute([row.id])?;
    txn.made_room = true;
    let lane = txn.lane_mut(lane);
    lane.events = lane.events.saturating_sub(u64::from(row.events));
    let bytes = stored_bytes(body as usize, row.position.as_ref().map_or(0, |position| position.len()));
    lane.stored_bytes = lane.stored_bytes.saturating_sub(bytes);
    if oldest && row.position.is_some() {
        lane.floor_position.clone_from(&row.position);
    }
    Ok(())
}

/// Brings a lane's row, its floor and its oldest arrival up to date after segments were taken out.
fn settle(txn: &mut Txn<'_>, lane: i64) -> Result<(), Error> {
    let start = *txn.lane(lane).segment_ids().start();
    let first = segment_from(txn, lane, start)?;
    let db = txn.db;
    let lane = txn.lane_mut(lane);
    lane.floor = first.as_ref().map_or(lane.high_water, |row| row.prev);
    lane.oldest = first.map(|row| row.arrival);
    if lane.oldest.is_none() {
        (lane.events, lane.stored_bytes, lane.small_segments) = (0, 0, 0);
    }
    store_lane(db, lane)
}

/// Finds out how far the guards of a lane's sinks reach.
fn measure_guards(txn: &mut Txn<'_>, lane: i64) -> Result<(), Error> {
    let unmeasured: Vec<(PlaceKey, Offset)> = of_lane(&txn.shared.places(), lane)
        .filter(|(_, place)| place.guard == Guard::Unmeasured)
        .map(|(sink, place)| ((lane, sink), place.confirmed))
        .collect();
    for (key, confirmed) in unmeasured {
        let window = txn.catalog.sinks.get(&key.1).map_or(0, |sink| sink.in_flight_bytes) * GUARDED_WINDOWS;
        let through = reach(txn, lane, confirmed, window)?;
        if let Some(place) = txn.shared.places().get_mut(&key) {
            place.guard = Guard::Until(through);
        }
    }
    Ok(())
}

/// The last offset of the events after `confirmed` that a window of `bytes` can have held.
fn reach(txn: &Txn<'_>, lane: i64, confirmed: Offset, bytes: u64) -> Result<Offset, Error> {
    let mut statement =
        txn.db.prepare_cached("SELECT last, size FROM segment WHERE id >= ? AND id <= ? AND last > ? ORDER BY id")?;
    let ids = txn.lane(lane).segment_ids();
    let mut rows = statement.query([*ids.start(), *ids.end(), confirmed.0])?;
    let (mut through, mut held) = (confirmed, 0);
    while let Some(row) = rows.next()? {
        if held >= bytes {
            break;
        }
        through = Offset(row.get(0)?);
        held += row.get::<_, i64>(1)? as u64;
    }
    Ok(through)
}

/// Takes every segment of a lane out again, as far as no sink has confirmed it: another owner delivers it. `gone`: what lies
/// before that offset is nowhere else any more, and in the ledger of the sinks that have no checkpoint.
pub(crate) fn take_back(
    txn: &mut Txn<'_>,
    lane: i64,
    gone: Option<(Offset, &'static str)>,
) -> Result<TakenBack, Error> {
    let floor = txn.known_lane(lane)?.floor;
    let delivered = places::delivered(&txn.shared.places(), lane).unwrap_or(floor).max(floor);
    if txn.lane(lane).numbering == Numbering::Assigned {
        return Err(Error::Refused("only a partition with shared offsets can be taken back".to_owned()));
    }
    begin_cut(txn, lane)?;
    let without = |(sink, place): (i64, &Place)| place.checkpoint.is_none().then_some(sink);
    let without: Vec<i64> = of_lane(&txn.shared.places(), lane).filter_map(without).collect();
    let mut back = TakenBack::default();
    let mut position = txn.lane(lane).floor_position.clone();
    let start = *txn.lane(lane).segment_ids().start();
    while let Some(row) = segment_from(txn, lane, start)? {
        if row.last <= delivered {
            position = row.position.clone().or(position);
        } else {
            back.taken += part_of(txn, lane, &row, delivered, row.last)?.events;
            if let Some((oldest, reason)) = gone.filter(|(oldest, _)| row.first < *oldest && !without.is_empty()) {
                let lost = part_of(txn, lane, &row, delivered, Offset(oldest.0 - 1))?;
                for sink in without.iter().filter(|_| lost.events > 0) {
                    ledger::record(txn, Some(*sink), lane, lost, reason)?;
                }
                (back.taken, back.lost) = (back.taken - lost.events, back.lost + lost.events);
            }
        }
        remove(txn, lane, &row, false)?;
    }
    identity::take_back(txn, lane, delivered)?;
    let lane_id = lane;
    let lane = txn.lane_mut(lane_id);
    if delivered >= lane.high_water {
        position = lane.position.clone(); // It may have come without events, after the last segment's.
    }
    lane.floor_position.clone_from(&position);
    (lane.high_water, lane.position) = (delivered, position);
    txn.on_commit(move |places| {
        for (_, place) in places.range_mut((lane_id, i64::MIN)..=(lane_id, i64::MAX)) {
            place.pending_events = 0;
        }
    });
    settle(txn, lane_id)?;
    Ok(back)
}

/// Passes over everything up to `to`, which another owner has delivered: what of it is here is confirmed, and where `to` is
/// further, what comes next stands after it. That what lies below is not here any more is known from then on, as it is of
/// what was delivered from here.
pub(crate) fn pass_over(txn: &mut Txn<'_>, lane: i64, to: Offset, position: Option<Vec<u8>>) -> Result<(), Error> {
    let known = txn.known_lane(lane)?;
    if known.numbering == Numbering::Assigned {
        return Err(Error::Refused("only events with shared offsets can be another owner's".to_owned()));
    }
    let (is_further, pending) = (to > known.high_water, count_after(txn.db, known, to)?);
    begin_cut(txn, lane)?;
    if is_further {
        let start = *txn.lane(lane).segment_ids().start();
        while let Some(row) = segment_from(txn, lane, start)? {
            remove(txn, lane, &row, false)?;
        }
        let position: Option<Arc<[u8]>> = position.map(Arc::from);
        let lane = txn.lane_mut(lane);
        lane.high_water = to;
        lane.position.clone_from(&position);
        lane.floor_position = position;
    }
    let generation = txn.catalog.generation;
    let tag = txn.catalog.tag(txn.lane(lane).numbering, to).unwrap_or(Tag(0));
    txn.on_commit(move |places| {
        let all = places.range_mut((lane, i64::MIN)..=(lane, i64::MAX));
        // One that is further was ahead of the others when the partition was taken back.
        for (_, place) in all.filter(|(_, place)| place.confirmed < to) {
            let has_delivered = place.checkpoint.is_some_and(|before| before.generation == generation);
            // Of no generation where nothing ever was delivered from here.
            let generation = if has_delivered { generation } else { Generation(0) };
            place.jump(to, Some(Checkpoint { generation, tag, offset: to }), pending);
        }
    });
    settle(txn, lane)
}

/// Takes out what no sink has confirmed, and will not get: it is in the ledger, with the reason.
pub(crate) fn give_up(txn: &mut Txn<'_>, lane: i64, reason: &'static str) -> Result<u64, Error> {
    let high_water = txn.known_lane(lane)?.high_water;
    begin_cut(txn, lane)?;
    let start = *txn.lane(lane).segment_ids().start();
    let mut given_up = 0;
    while let Some(row) = segment_from(txn, lane, start)? {
        given_up += u64::from(row.events);
        account(txn, lane, &row, reason)?;
        remove(txn, lane, &row, true)?;
    }
    txn.on_commit(move |places| {
        for (_, place) in places.range_mut((lane, i64::MIN)..=(lane, i64::MAX)) {
            place.jump(high_water, place.checkpoint, 0);
        }
    });
    settle(txn, lane)?;
    Ok(given_up)
}

/// Begins to take unconfirmed events out of a lane that nobody has in flight.
fn begin_cut(txn: &mut Txn<'_>, lane: i64) -> Result<(), Error> {
    let cuts = txn.lane(lane).cuts.clone();
    {
        let places = txn.shared.places();
        if of_lane(&places, lane).any(|(_, place)| place.is_pinned()) {
            return Err(Error::Refused("events of this partition are in flight: fence its delivery first".to_owned()));
        }
        cuts.begin();
    }
    txn.cutting(cuts);
    Ok(())
}
