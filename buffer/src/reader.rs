//! Reading events: on a connection of one's own, one short read transaction at a time.

use rusqlite::{Connection, OpenFlags};

use crate::{
    Error, Event, Offset,
    append::SegmentRow,
    catalog::{Lane, damaged},
    ledger, open, segment,
    shared::Shared,
    timeline::Timeline,
};

/// A read-only connection to the file. Blocking; use one for each thread that reads.
pub struct Reader {
    pub(crate) db: Connection,
    /// Events that were decoded and did not fit into the last batch.
    rest: Option<Rest>,
    /// The segment read last: the next one is looked for right after it.
    hint: i64,
}

struct Rest {
    lane: i64,
    cuts: Option<u64>,
    after: Offset,
    events: std::collections::VecDeque<(Offset, Event)>,
}

/// How much to read at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadLimits {
    /// Events at the most.
    pub max_events: usize,
    /// Bytes at the most, as [`Event::size_bytes`] counts; a single larger event comes alone.
    pub max_bytes: usize,
}

impl Reader {
    pub(crate) fn open(shared: &Shared) -> Result<Self, Error> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        Self::on(open::connect(&shared.path, flags, shared.options.vfs.as_deref())?)
    }

    pub(crate) fn on(db: Connection) -> Result<Self, Error> {
        // Blobs are read once and in order: a cache of them would only cost memory.
        db.pragma_update(None, "cache_size", -256)?;
        Ok(Self { db, rest: None, hint: 0 })
    }

    /// The events after `after`, as far as the limits allow.
    pub(crate) fn read(
        &mut self,
        lane: &Lane,
        timeline: &Timeline,
        after: Offset,
        limits: ReadLimits,
    ) -> Result<Vec<(Offset, Event)>, Error> {
        let cuts = lane.cuts.settled();
        let mut at = after.max(lane.floor);
        let mut batch = Vec::new();
        let mut bytes = 0;
        let rest = self.rest.take();
        let mut rest = rest.filter(|rest| cuts.is_some() && (rest.lane, rest.cuts, rest.after) == (lane.id, cuts, at));
        loop {
            let Some(mut current) = rest.take() else {
                if at >= lane.high_water {
                    break;
                }
                let Some(events) = self.segment_after(lane, timeline, at)? else { break };
                rest = Some(Rest { lane: lane.id, cuts, after: at, events: events.into() });
                continue;
            };
            while let Some((offset, event)) = current.events.pop_front() {
                let size = event.size_bytes();
                if !batch.is_empty() && (batch.len() >= limits.max_events || bytes + size > limits.max_bytes) {
                    current.events.push_front((offset, event));
                    current.after = at;
                    self.rest = Some(current);
                    return Ok(batch);
                }
                bytes += size;
                at = offset;
                batch.push((offset, event));
            }
        }
        Ok(batch)
    }

    /// The events after `at` of the segment in which the next one stands. `None`: the ledger says that they are gone.
    fn segment_after(
        &mut self,
        lane: &Lane,
        timeline: &Timeline,
        at: Offset,
    ) -> Result<Option<Vec<(Offset, Event)>>, Error> {
        let next = self.load(lane, self.hint + 1)?.filter(|(row, _)| row.prev <= at && row.last > at);
        let found = match next {
            Some(found) => Some(found),
            None => {
                let id = bisect(&self.db, lane, at)?;
                self.load(lane, id)?
            }
        };
        let Some((row, body)) = found else {
            if ledger::explains(&self.db, lane.id, lane.high_water)? {
                return Ok(None);
            }
            return Err(damaged(&format!("the segments of {} after {} are missing", lane.name, at.0)));
        };
        if row.prev > at && !ledger::explains(&self.db, lane.id, row.prev)? {
            return Err(damaged(&format!("segments of {} between {} and {} are missing", lane.name, at.0, row.prev.0)));
        }
        self.hint = row.id;
        let mut events = decode(&row, &body, lane)?;
        events.retain(|(offset, _)| *offset > at);
        events.iter_mut().for_each(|(_, event)| timeline.repair(row.arrival.era, event));
        if events.is_empty() {
            return Err(damaged(&format!("segment {:x} does not reach as far as it says", row.id)));
        }
        Ok(Some(events))
    }

    /// The first segment of a lane with an id of `from` or more, verified.
    fn load(&self, lane: &Lane, from: i64) -> Result<Option<(SegmentRow, Vec<u8>)>, Error> {
        let ids = lane.segment_ids();
        let sql = with_body();
        let mut statement = self.db.prepare_cached(&sql)?;
        let mut rows = statement.query([from.max(*ids.start()), *ids.end()])?;
        let Some(row) = rows.next()? else { return Ok(None) };
        let (read, seal) = SegmentRow::read(row)?;
        let body: Vec<u8> = row.get(10)?;
        read.verify(seal, &body)?;
        in_order(read.id, from)?;
        Ok(Some((read, body)))
    }
}

/// The id at which to look for the first segment that ends after `at`, by bisection: ids and offsets grow together.
pub(crate) fn bisect(db: &Connection, lane: &Lane, at: Offset) -> Result<i64, Error> {
    let ids = lane.segment_ids();
    let (mut low, mut high) = (*ids.start(), ids.start() + lane.next_sequence);
    let mut statement =
        db.prepare_cached("SELECT id, last FROM segment WHERE id >= ? AND id <= ? ORDER BY id LIMIT 1")?;
    while low < high {
        let middle = low + (high - low) / 2;
        let mut rows = statement.query([middle, high])?;
        match rows.next()? {
            Some(row) if row.get::<_, i64>(1)? <= at.0 => low = in_order(row.get(0)?, middle)? + 1,
            _ => high = middle,
        }
    }
    Ok(low)
}

/// A segment's id, if SQLite has found it where it may be: in a damaged tree it also finds what lies before `from`, and
/// whoever goes on from there goes round for ever.
pub(crate) fn in_order(id: i64, from: i64) -> Result<i64, Error> {
    if id < from { Err(damaged(&format!("segment {id:x} is not in its place"))) } else { Ok(id) }
}

/// The query for a row with its body.
fn with_body() -> String {
    format!("SELECT {}, body FROM segment WHERE id >= ? AND id <= ? ORDER BY id LIMIT 1", SegmentRow::COLUMNS)
}

/// The events of a verified row.
pub(crate) fn decode(row: &SegmentRow, body: &[u8], lane: &Lane) -> Result<Vec<(Offset, Event)>, Error> {
    let events = segment::decode(body, row.events, row.first, lane.numbering)
        .map_err(|why| damaged(&format!("segment {:x}: {}", row.id, why.0)))?;
    if events.last().map(|(offset, _)| *offset) != Some(row.last) {
        return Err(damaged(&format!("segment {:x} ends at another offset than it says", row.id)));
    }
    Ok(events)
}
