//! Dead letters: events that were refused for good, by a sink or at intake, until an operator retries or discards them.
//!
//! Beside a sink's dead letter stands a `refusal`, which only goes when the sink's checkpoint has passed the event: so a
//! refusal is recorded once, and stays final after a restart, whatever became of the dead letter meanwhile.

use rusqlite::{Connection, OptionalExtension, params};

use crate::{
    Error, Event, Numbering, Offset, Refused, TimeQuality, Timestamp,
    append::{self, Batch},
    catalog::{Catalog, damaged},
    clock::Clock,
    codec::Encoder,
    manage,
    seal::Seal,
    segment,
    timeline::Arrival,
    txn::Txn,
};

/// The partition, of the same stream, that retried dead letters go to.
pub(crate) const RETRY: &str = "retry";

/// A dead letter, as an operator sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct DeadLetter {
    /// Its number.
    pub id: i64,
    /// The sink that refused it. `None`: it was refused at intake.
    pub sink: Option<String>,
    /// The stream.
    pub stream: String,
    /// The partition.
    pub partition: String,
    /// How the partition's offsets come about.
    pub numbering: Numbering,
    /// Its offset; [`Offset::BEFORE_ALL`] if it was refused before it got one.
    pub offset: Offset,
    /// The kind of refusal.
    pub code: String,
    /// The destination's words, or the intake's.
    pub reason: String,
    /// When it was refused, by the gateway's clock.
    pub when: Timestamp,
    /// What came.
    pub event: Event,
}

/// Which dead letters to look at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeadLetterFilter {
    /// Only those of this sink.
    pub sink: Option<String>,
    /// Only those of this stream.
    pub stream: Option<String>,
    /// Only those with a higher number.
    pub after_id: i64,
    /// So many at the most.
    pub limit: usize,
}

/// Records refusals of a sink: each once, however often it is told.
pub(crate) fn refuse(txn: &mut Txn<'_>, sink: i64, lane: i64, refused: &[(Offset, Refused)]) -> Result<(), Error> {
    txn.known_lane(lane)?;
    let (arrival, era) = txn.catalog.timeline.arrival(txn.now);
    if let Some(era) = era {
        txn.add_era(era)?;
    }
    for (offset, refused) in refused {
        let seal = refusal_seal(sink, lane, *offset);
        let new = txn
            .db
            .prepare_cached("INSERT OR IGNORE INTO refusal(sink, partition, offset, seal) VALUES (?, ?, ?, ?)")?
            .execute([sink, lane, offset.0, seal])?;
        if new > 0 {
            insert(txn, Some(sink), lane, *offset, refused, arrival)?;
        }
    }
    Ok(())
}

/// The recorded refusals of a sink in a range of offsets.
pub(crate) fn refusals(
    db: &Connection,
    sink: i64,
    lane: i64,
    after: Offset,
    through: Offset,
) -> Result<Vec<Offset>, Error> {
    let mut statement = db.prepare_cached(
        "SELECT offset, seal FROM refusal WHERE sink = ? AND partition = ? AND offset > ? AND offset <= ?",
    )?;
    let mut rows = statement.query([sink, lane, after.0, through.0])?;
    let mut offsets = Vec::new();
    while let Some(row) = rows.next()? {
        let offset = Offset(row.get(0)?);
        if refusal_seal(sink, lane, offset) != row.get::<_, i64>(1)? {
            return Err(damaged("a recorded refusal does not match its seal"));
        }
        offsets.push(offset);
    }
    Ok(offsets)
}

/// Forgets the refusals that a durable checkpoint has passed.
pub(crate) fn forget_refusals(db: &Connection, sink: i64, lane: i64, through: Offset) -> Result<(), Error> {
    db.prepare_cached("DELETE FROM refusal WHERE sink = ? AND partition = ? AND offset <= ?")?
        .execute([sink, lane, through.0])?;
    Ok(())
}

fn refusal_seal(sink: i64, lane: i64, offset: Offset) -> i64 {
    Seal::of("refusal").int(sink).int(lane).int(offset.0).finish()
}

/// Writes one dead letter; `sink` is `None` for one of intake.
pub(crate) fn insert(
    txn: &mut Txn<'_>,
    sink: Option<i64>,
    lane: i64,
    offset: Offset,
    refused: &Refused,
    arrival: Arrival,
) -> Result<(), Error> {
    let mut encoder = Encoder::default();
    encoder.push(&refused.event, None);
    let body = segment::encode(&encoder);
    let row = Row {
        sink,
        lane,
        offset,
        code: refused.code.clone(),
        reason: refused.reason.clone(),
        at: txn.now.wall,
        arrival,
        body,
    };
    txn.db
        .prepare_cached(
            "INSERT INTO dead_letter(sink, partition, offset, code, reason, at_us, era, since_boot_ms, body, seal)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )?
        .execute(params![
            sink,
            lane,
            offset.0,
            row.code,
            row.reason,
            row.at.0,
            arrival.era,
            arrival.since_boot_ms,
            row.body,
            row.seal()
        ])?;
    Ok(())
}

struct Row {
    sink: Option<i64>,
    lane: i64,
    offset: Offset,
    code: String,
    reason: String,
    at: Timestamp,
    arrival: Arrival,
    body: Vec<u8>,
}

const COLUMNS: &str = "id, sink, partition, offset, code, reason, at_us, era, since_boot_ms, body, seal";

impl Row {
    fn read(row: &rusqlite::Row<'_>) -> Result<(i64, Self), Error> {
        let read = Self {
            sink: row.get(1)?,
            lane: row.get(2)?,
            offset: Offset(row.get(3)?),
            code: row.get(4)?,
            reason: row.get(5)?,
            at: Timestamp(row.get(6)?),
            arrival: Arrival { era: row.get(7)?, since_boot_ms: row.get(8)? },
            body: row.get(9)?,
        };
        if read.seal() != row.get::<_, i64>(10)? {
            return Err(damaged("a dead letter does not match its seal"));
        }
        Ok((row.get(0)?, read))
    }

    fn seal(&self) -> i64 {
        Seal::of("dead_letter")
            .optional_int(self.sink)
            .int(self.lane)
            .int(self.offset.0)
            .bytes(self.code.as_bytes())
            .bytes(self.reason.as_bytes())
            .int(self.at.0)
            .int(self.arrival.era)
            .int(self.arrival.since_boot_ms)
            .bytes(&self.body)
            .finish()
    }

    fn event(&self, catalog: &Catalog) -> Result<Event, Error> {
        let events = segment::decode(&self.body, 1, Offset(0), Numbering::Assigned);
        let (_, mut event) = events
            .ok()
            .and_then(|mut events| events.pop())
            .ok_or_else(|| damaged("a dead letter cannot be decoded"))?;
        catalog.timeline.repair(self.arrival.era, &mut event);
        Ok(event)
    }
}

/// The dead letters that a filter lets through, in order of their numbers.
pub(crate) fn list(db: &Connection, catalog: &Catalog, filter: &DeadLetterFilter) -> Result<Vec<DeadLetter>, Error> {
    let mut statement = db.prepare_cached(&format!("SELECT {COLUMNS} FROM dead_letter WHERE id > ? ORDER BY id"))?;
    let mut rows = statement.query([filter.after_id])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        if found.len() >= filter.limit {
            break;
        }
        let (id, row) = Row::read(row)?;
        let Some(lane) = catalog.lanes.get(&row.lane) else { continue };
        let stream = catalog.streams[&lane.stream].name.to_string();
        let sink = row.sink.and_then(|sink| catalog.sinks.get(&sink)).map(|sink| sink.name.to_string());
        let wanted = filter.stream.as_ref().is_none_or(|wanted| *wanted == stream)
            && filter.sink.as_ref().is_none_or(|wanted| sink.as_ref() == Some(wanted));
        if wanted {
            let event = row.event(catalog)?;
            found.push(DeadLetter {
                id,
                sink,
                stream,
                partition: lane.name.to_string(),
                numbering: lane.numbering,
                offset: row.offset,
                code: row.code,
                reason: row.reason,
                when: row.at,
                event,
            });
        }
    }
    Ok(found)
}

/// Moves dead letters into their stream's retry partition, for the sink that refused them (all sinks, if intake did).
pub(crate) fn retry(txn: &mut Txn<'_>, ids: &[i64], max_event_bytes: usize, clock: &dyn Clock) -> Result<u64, Error> {
    for id in ids {
        let row = find(txn.db, *id)?;
        let stream = txn.known_lane(row.lane)?.stream;
        if row.sink.is_some_and(|sink| !txn.catalog.sinks.contains_key(&sink)) {
            return Err(Error::Refused(format!("dead letter {id} was refused by a sink that is gone: discard it")));
        }
        // Its time is that of its first intake, as far as that could be put right by now.
        let event = Event { time_quality: TimeQuality::Given, ..row.event(txn.catalog)? };
        let lane = manage::open_lane(txn, stream, RETRY, Numbering::Assigned, row.sink)?;
        let batch = Batch { events: vec![event], ..Batch::default() };
        let encoded = append::encode(batch, Numbering::Assigned, Offset::BEFORE_ALL, max_event_bytes, clock)?;
        if !encoded.refused.is_empty() {
            return Err(Error::Refused(format!(
                "dead letter {id} is larger than max_event_bytes: it cannot be retried"
            )));
        }
        match append::apply(txn, lane, &encoded)? {
            append::Outcome::Done(appended) if appended.dropped == 0 => {}
            _ => return Err(Error::Refused("there is no room to retry dead letters just now".to_owned())),
        }
        txn.db.prepare_cached("DELETE FROM dead_letter WHERE id = ?")?.execute([id])?;
    }
    Ok(ids.len() as u64)
}

/// Deletes dead letters for good; the ledger says so.
pub(crate) fn discard(txn: &mut Txn<'_>, ids: &[i64]) -> Result<u64, Error> {
    for id in ids {
        let row = find(txn.db, *id)?;
        let event = row.event(txn.catalog)?;
        let dropped = crate::ledger::Dropped {
            after: row.offset,
            first: row.offset,
            last: row.offset,
            events: 1,
            size: event.size_bytes() as u64,
        };
        // What makes room comes first: the file may be full.
        txn.db.prepare_cached("DELETE FROM dead_letter WHERE id = ?")?.execute([id])?;
        txn.known_lane(row.lane)?;
        crate::ledger::record(txn, row.sink, row.lane, dropped, "dead letter discarded")?;
        txn.made_room = true;
    }
    Ok(ids.len() as u64)
}

fn find(db: &Connection, id: i64) -> Result<Row, Error> {
    let found = db
        .prepare_cached(&format!("SELECT {COLUMNS} FROM dead_letter WHERE id = ?"))?
        .query_row([id], |row| Ok(Row::read(row)))
        .optional()?;
    Ok(found.ok_or_else(|| Error::Unknown(format!("dead letter {id}")))??.1)
}
