//! From events to rows: encoding on the caller's thread, and the one way in which segments are written.

use std::sync::Arc;

use rusqlite::params;

use crate::{
    Error, Event, Numbering, Offset, TimeQuality, WhenFull,
    catalog::{Lane, damaged, store_lane},
    clock::{Clock, Reading},
    codec::Encoder,
    dead_letter,
    identity::{self, Memory},
    ledger::{self, Dropped},
    merge,
    retention::{self, Verdict},
    schema::SEQUENCE_BITS,
    seal::Seal,
    segment::{self, MAX_PAYLOAD_BYTES, TARGET_PAYLOAD_BYTES},
    timeline::Arrival,
    txn::Txn,
};

/// What a source hands over at once, for one partition. It is written whole or not at all.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Batch {
    /// The events in order. The time of those that are [`TimeQuality::Stamped`] is set when the batch is encoded.
    pub events: Vec<Event>,
    /// Their offsets where the numbering is shared, one for each event, increasing. Empty where the buffer assigns them.
    pub offsets: Vec<Offset>,
    /// What came and cannot be an event: dead letters of intake, in the same transaction.
    pub refused: Vec<Refused>,
    /// Where the source resumes reading after this batch; `None` leaves what is stored.
    pub position: Option<Vec<u8>>,
    /// The identities of the events and of what is refused, in order, as far as they have any: what
    /// [`crate::Partition::identities`] gives back. They are kept if the events are, or become dead letters.
    pub identities: Vec<u128>,
    /// How many identities the partition remembers from now on, these included. Zero forgets them all. A batch without
    /// events and identities leaves the memory as it is.
    pub window: u32,
}

/// Something that will never be delivered as it is, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct Refused {
    /// What came, as far as it was kept.
    pub event: Event,
    /// A word for the kind of refusal: `too_large`, `malformed`, a SQLSTATE.
    pub code: String,
    /// What a person needs to know to mend it.
    pub reason: String,
}

/// What an append did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// The partition's last offset.
    pub high_water: Offset,
    /// Events that are on disk.
    pub events: u64,
    /// Events that [`WhenFull::DropNewest`] dropped; they are in the loss ledger.
    pub dropped: u64,
}

/// A batch that is ready to be written.
#[derive(Debug)]
pub struct Encoded {
    segments: Vec<NewSegment>,
    pub(crate) refused: Vec<Refused>,
    position: Option<Arc<[u8]>>,
    memory: Option<Memory>,
    reading: Reading,
}

/// A segment without its place.
#[derive(Debug)]
struct NewSegment {
    /// Offsets where they are shared.
    range: Option<(Offset, Offset)>,
    events: u32,
    size: u64,
    body: Vec<u8>,
    body_checksum: u32,
}

impl Encoded {
    /// Events in it, refused ones not counted.
    pub fn events(&self) -> u64 {
        self.segments.iter().map(|segment| u64::from(segment.events)).sum()
    }

    /// Bytes of these events, as [`Event::size_bytes`] counts.
    pub fn size_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.size).sum()
    }

    /// Bytes it keeps in memory while it waits.
    pub(crate) fn held_bytes(&self) -> usize {
        let refused: usize = self.refused.iter().map(|refused| refused.event.size_bytes()).sum();
        refused + self.identity_bytes() + self.segments.iter().map(|segment| segment.body.len()).sum::<usize>()
    }

    /// Bytes that its segments take in the file: what counts against the stream's share.
    fn stored_bytes(&self) -> u64 {
        let position = self.position.as_ref().map_or(0, |position| position.len());
        self.segments.iter().map(|segment| stored_bytes(segment.body.len(), position)).sum()
    }

    /// Bytes that its dead letters and its identities take in the file besides.
    fn other_bytes(&self) -> u64 {
        let letter = |refused: &Refused| stored_bytes(refused.event.size_bytes(), refused.reason.len());
        self.refused.iter().map(letter).sum::<u64>() + self.identity_bytes() as u64
    }

    fn identity_bytes(&self) -> usize {
        self.memory.as_ref().map_or(0, Memory::size_bytes)
    }
}

/// Bytes that a segment takes in the file: what its row needs, in whole pages where it overflows its leaf.
pub(crate) fn stored_bytes(body: usize, position: usize) -> u64 {
    const ROW: usize = 64;
    const LARGEST_LOCAL: usize = 989;
    const OVERFLOW_PAGE: usize = 1020;
    let row = ROW + body + position;
    (if row <= LARGEST_LOCAL { row } else { row.div_ceil(OVERFLOW_PAGE) * 1024 + 512 }) as u64
}

/// Encodes and compresses a batch. Events that are too large join the refused.
pub(crate) fn encode(
    mut batch: Batch,
    numbering: Numbering,
    after: Offset,
    max_event_bytes: usize,
    clock: &dyn Clock,
) -> Result<Encoded, Error> {
    let shared = numbering != Numbering::Assigned;
    if shared && batch.offsets.len() != batch.events.len() || !shared && !batch.offsets.is_empty() {
        return Err(Error::Refused("a batch needs one offset for each event if they are shared, else none".to_owned()));
    }
    if batch.offsets.first().is_some_and(|first| first.0 < 0) || batch.offsets.windows(2).any(|two| two[0] >= two[1]) {
        return Err(Error::Refused("the offsets of a batch must increase, from 0 or more".to_owned()));
    }
    let reading = clock.now();
    let remembers = !(batch.events.is_empty() && batch.identities.is_empty());
    let memory = remembers.then(|| Memory::new(&batch.identities, batch.window));
    let mut encoder = Encoder::default();
    let mut segments = Vec::new();
    let (mut size, mut range) = (0, None);
    for (index, mut event) in batch.events.drain(..).enumerate() {
        let offset = batch.offsets.get(index).copied();
        if offset.is_some_and(|offset| offset <= after) {
            continue; // Read again after a restart: it is here, or was delivered.
        }
        if event.time_quality != TimeQuality::Given {
            event.time = reading.wall;
        }
        let event_size = event.size_bytes();
        if event_size > max_event_bytes.min(MAX_PAYLOAD_BYTES / 2) {
            batch.refused.push(Refused {
                event,
                code: "too_large".to_owned(),
                reason: format!("the event has {event_size} bytes, and max_event_bytes is {max_event_bytes}"),
            });
            continue;
        }
        encoder.push(&event, offset);
        size += event_size as u64;
        range = offset.map(|offset| (range.map_or(offset, |(first, _)| first), offset)).or(range);
        if encoder.payload().len() >= TARGET_PAYLOAD_BYTES {
            segments.push(NewSegment::close(&mut encoder, &mut size, &mut range));
        }
    }
    if encoder.events() > 0 {
        segments.push(NewSegment::close(&mut encoder, &mut size, &mut range));
    }
    for refused in &mut batch.refused {
        if refused.event.time_quality != TimeQuality::Given {
            refused.event.time = reading.wall;
        }
    }
    Ok(Encoded { segments, refused: batch.refused, position: batch.position.map(Arc::from), memory, reading })
}

impl NewSegment {
    /// The part above `after` of a segment that was encoded before another batch with the same offsets was written.
    fn after(&self, after: Offset, numbering: Numbering) -> Result<Self, Error> {
        let (first, _) = self.range.expect("only shared offsets come twice");
        let events = segment::decode(&self.body, self.events, first, numbering)
            .map_err(|why| Error::Failed(format!("a batch changed in memory: {}", why.0)))?;
        let (mut encoder, mut size, mut range) = (Encoder::default(), 0, None);
        for (offset, event) in events.iter().filter(|(offset, _)| *offset > after) {
            encoder.push(event, Some(*offset));
            size += event.size_bytes() as u64;
            range = Some((range.map_or(*offset, |(first, _)| first), *offset));
        }
        Ok(Self::close(&mut encoder, &mut size, &mut range))
    }

    fn close(encoder: &mut Encoder, size: &mut u64, range: &mut Option<(Offset, Offset)>) -> Self {
        let body = segment::encode(encoder);
        let body_checksum = crc32fast::hash(&body);
        let segment =
            Self { range: range.take(), events: encoder.events(), size: std::mem::take(size), body, body_checksum };
        encoder.clear();
        segment
    }
}

/// What became of a batch that the writer took up.
pub(crate) enum Outcome {
    Done(Appended),
    /// Nothing was written: the caller may come again.
    HeldBack,
    /// Nothing was written, and never will be.
    Refused(Error),
}

/// Writes a batch, or does what the stream's policy says where there is no room.
pub(crate) fn apply(txn: &mut Txn<'_>, lane: i64, encoded: &Encoded) -> Result<Outcome, Error> {
    let lane = txn.catalog.lanes.get(&lane).ok_or_else(|| Error::Unknown("such partition any more".to_owned()))?;
    let (lane, stream) = (lane.id, lane.stream);
    let (arrival, era) = txn.catalog.timeline.arrival(encoded.reading);
    if let Some(era) = era {
        txn.add_era(era)?;
    }
    match retention::admit(txn, stream, encoded.stored_bytes(), encoded.other_bytes())? {
        Verdict::Room => {}
        Verdict::Never(why) => return Err(Error::TooLarge(why)),
        Verdict::Full => {
            return match txn.catalog.streams[&stream].limits.when_full {
                WhenFull::DropNewest => drop_newest(txn, lane, encoded, arrival).map(Outcome::Done),
                WhenFull::Backpressure | WhenFull::DropOldest => Ok(Outcome::HeldBack),
            };
        }
    }
    let last_segment = encoded.segments.len().checked_sub(1);
    for (index, segment) in encoded.segments.iter().enumerate() {
        let position = encoded.position.as_ref().filter(|_| Some(index) == last_segment);
        insert(txn, lane, segment, arrival, position)?;
    }
    let events = encoded.events();
    if let Some(position) = encoded.position.as_ref().filter(|_| encoded.segments.is_empty()) {
        move_position(txn, lane, position)?;
    }
    for refused in &encoded.refused {
        dead_letter::insert(txn, None, lane, Offset::BEFORE_ALL, refused, arrival)?;
    }
    if let Some(memory) = &encoded.memory {
        identity::remember(txn, lane, memory)?;
    }
    let lane = txn.lane(lane);
    Ok(Outcome::Done(Appended { high_water: lane.high_water, events, dropped: 0 }))
}

/// Stores a position that no segment carries.
pub(crate) fn move_position(txn: &mut Txn<'_>, lane: i64, position: &Arc<[u8]>) -> Result<(), Error> {
    let db = txn.db;
    let lane = txn.lane_mut(lane);
    lane.position = Some(Arc::clone(position));
    if lane.high_water == lane.floor {
        lane.floor_position = Some(Arc::clone(position));
    }
    store_lane(db, lane)
}

fn drop_newest(txn: &mut Txn<'_>, lane: i64, encoded: &Encoded, arrival: Arrival) -> Result<Appended, Error> {
    let high_water = txn.lane(lane).high_water;
    let range = encoded.segments.iter().filter_map(|segment| segment.range).reduce(|a, b| (a.0, b.1));
    let dropped = Dropped {
        after: high_water,
        first: range.map_or(high_water, |(first, _)| first),
        last: range.map_or(high_water, |(_, last)| last),
        events: encoded.events(),
        size: encoded.size_bytes(),
    };
    if dropped.events > 0 {
        ledger::record(txn, None, lane, dropped, ledger::DROP_NEWEST)?;
    }
    for refused in &encoded.refused {
        dead_letter::insert(txn, None, lane, Offset::BEFORE_ALL, refused, arrival)?;
    }
    if let Some(position) = &encoded.position {
        move_position(txn, lane, position)?;
    }
    Ok(Appended { high_water, events: 0, dropped: dropped.events })
}

fn insert(
    txn: &mut Txn<'_>,
    lane_id: i64,
    segment: &NewSegment,
    arrival: Arrival,
    position: Option<&Arc<[u8]>>,
) -> Result<(), Error> {
    let (start, db) = (Offset::assigned(txn.catalog.epoch(), txn.catalog.used_counters), txn.db);
    let lane = txn.lane_mut(lane_id);
    let (first, last) = match segment.range {
        Some((_, last)) if last <= lane.high_water => return Ok(()),
        Some((first, _)) if first <= lane.high_water => {
            let rest = segment.after(lane.high_water, lane.numbering)?;
            return insert(txn, lane_id, &rest, arrival, position);
        }
        Some(range) => range,
        None => assign(lane, start, segment.events)?,
    };
    let row = SegmentRow {
        id: (lane.id << SEQUENCE_BITS) | lane.next_sequence,
        first,
        last,
        prev: lane.high_water,
        events: segment.events,
        size: segment.size,
        arrival,
        position: position.cloned(),
    };
    lane.next_sequence += 1;
    lane.high_water = last;
    if position.is_some() {
        lane.position = position.cloned();
    }
    lane.events += u64::from(segment.events);
    lane.stored_bytes += stored_bytes(segment.body.len(), position.map_or(0, |position| position.len()));
    lane.oldest.get_or_insert(arrival);
    lane.small_segments = if segment.size < merge::SMALL_BYTES { lane.small_segments + 1 } else { 0 };
    txn.pending(lane_id, (first, last), u64::from(segment.events));
    row.insert(db, segment.body_checksum, &segment.body)
}

/// The next offsets of this epoch: the counter goes on, or begins at `start` after the epochs before.
fn assign(lane: &Lane, start: Offset, events: u32) -> Result<(Offset, Offset), Error> {
    let first = if lane.high_water >= start { Offset(lane.high_water.0 + 1) } else { start };
    let last = Offset(first.0 + i64::from(events) - 1);
    if last.epoch() != start.epoch() {
        return Err(Error::Failed("this epoch's offsets are used up: restart to begin another".to_owned()));
    }
    assert!(first > lane.high_water && last >= first, "assigned offsets only grow");
    Ok((first, last))
}

/// The columns of a segment before its body.
#[derive(Debug, Clone)]
pub(crate) struct SegmentRow {
    pub(crate) id: i64,
    pub(crate) first: Offset,
    pub(crate) last: Offset,
    pub(crate) prev: Offset,
    pub(crate) events: u32,
    pub(crate) size: u64,
    pub(crate) arrival: Arrival,
    pub(crate) position: Option<Arc<[u8]>>,
}

impl SegmentRow {
    /// The columns that [`Self::read`] expects, in its order.
    pub(crate) const COLUMNS: &str = "id, first, last, prev, events, size, era, since_boot_ms, seal, position";

    pub(crate) fn read(row: &rusqlite::Row<'_>) -> Result<(Self, i64), Error> {
        let position: Option<Vec<u8>> = row.get(9)?;
        let read = Self {
            id: row.get(0)?,
            first: Offset(row.get(1)?),
            last: Offset(row.get(2)?),
            prev: Offset(row.get(3)?),
            events: row.get(4)?,
            size: row.get::<_, i64>(5)? as u64,
            arrival: Arrival { era: row.get(6)?, since_boot_ms: row.get(7)? },
            position: position.map(Arc::from),
        };
        Ok((read, row.get(8)?))
    }

    pub(crate) fn seal(&self, body_checksum: u32) -> i64 {
        Seal::of("segment")
            .int(self.id)
            .int(self.first.0)
            .int(self.last.0)
            .int(self.prev.0)
            .int(i64::from(self.events))
            .int(self.size as i64)
            .int(self.arrival.era)
            .int(self.arrival.since_boot_ms)
            .optional_bytes(self.position.as_deref())
            .int(i64::from(body_checksum))
            .finish()
    }

    /// Whether the row is what was written, given the body that stands in it.
    pub(crate) fn verify(&self, seal: i64, body: &[u8]) -> Result<(), Error> {
        if self.seal(crc32fast::hash(body)) == seal {
            Ok(())
        } else {
            Err(damaged(&format!("segment {:x} does not match its seal", self.id)))
        }
    }

    pub(crate) fn insert(&self, db: &rusqlite::Connection, body_checksum: u32, body: &[u8]) -> Result<(), Error> {
        db.prepare_cached(
            "INSERT INTO segment(id, first, last, prev, events, size, era, since_boot_ms, seal, position, body)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )?
        .execute(params![
            self.id,
            self.first.0,
            self.last.0,
            self.prev.0,
            self.events,
            self.size as i64,
            self.arrival.era,
            self.arrival.since_boot_ms,
            self.seal(body_checksum),
            self.position.as_deref(),
            body
        ])?;
        Ok(())
    }
}
