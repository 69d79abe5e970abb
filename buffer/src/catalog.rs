//! What the file holds beside events: streams, sinks, partitions, epochs and eras, as rows and in memory.
//!
//! The writer thread owns the only copy that changes. After each commit it publishes what changed, so that handles read a
//! state that is durable.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use event_listener::Event as Notifier;
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::{
    Error, Generation, Numbering, Offset, StreamLimits, Tag, WhenFull,
    schema::SEQUENCE_BITS,
    seal::Seal,
    timeline::{Arrival, Timeline},
};

#[derive(Debug, Clone)]
pub(crate) struct Stream {
    pub(crate) name: Arc<str>,
    pub(crate) limits: StreamLimits,
}

#[derive(Debug, Clone)]
pub(crate) struct Sink {
    pub(crate) name: Arc<str>,
    /// What it may have delivered without our knowing, in bytes of events: see [`crate::places::Guard`].
    pub(crate) in_flight_bytes: u64,
    pub(crate) inputs: BTreeSet<i64>,
}

/// One ordered lane. The first group of fields is its row; the second is counted from its segments.
#[derive(Debug, Clone)]
pub(crate) struct Lane {
    pub(crate) id: i64,
    pub(crate) stream: i64,
    pub(crate) name: Arc<str>,
    pub(crate) numbering: Numbering,
    pub(crate) for_sink: Option<i64>,
    /// Everything up to here is gone: delivered, or in the ledger.
    pub(crate) floor: Offset,
    pub(crate) floor_position: Option<Arc<[u8]>>,
    pub(crate) high_water: Offset,
    pub(crate) position: Option<Arc<[u8]>>,

    pub(crate) next_sequence: i64,
    pub(crate) events: u64,
    pub(crate) stored_bytes: u64,
    /// Small segments at its end, one after the other: what merging looks at.
    pub(crate) small_segments: u32,
    pub(crate) oldest: Option<Arrival>,
    /// Identities in the file, and the sequence number of the next row of them.
    pub(crate) remembered: u64,
    pub(crate) next_memory: i64,
    /// Counts how often events that no sink confirmed are taken out: what was read before may not be delivered after.
    pub(crate) cuts: Arc<Cuts>,
    /// Notified when something was appended, confirmed or taken out.
    pub(crate) changed: Arc<Notifier>,
}

/// A sequence lock over a lane's unconfirmed events: a reader that pins what it read without a cut in between knows that
/// the writer saw the pin.
#[derive(Debug, Default)]
pub(crate) struct Cuts {
    begun: AtomicU64,
    /// As many as were begun, when none is under way.
    ended: AtomicU64,
}

impl Cuts {
    /// The writer is about to take something out. Called under the lock of the places, once nothing there holds it.
    pub(crate) fn begin(&self) {
        self.begun.fetch_add(1, Ordering::SeqCst);
    }

    /// What was begun is in the file and published, or was rolled back.
    pub(crate) fn end(&self) {
        self.ended.store(self.begun.load(Ordering::SeqCst), Ordering::SeqCst);
    }

    /// How many there were; `None` while one is under way.
    pub(crate) fn settled(&self) -> Option<u64> {
        let ended = self.ended.load(Ordering::SeqCst);
        (self.begun.load(Ordering::SeqCst) == ended).then_some(ended)
    }
}

impl Lane {
    /// A lane in which nothing ever was.
    pub(crate) fn new(id: i64, stream: i64, name: &str, numbering: Numbering, for_sink: Option<i64>) -> Self {
        Self {
            id,
            stream,
            name: name.into(),
            numbering,
            for_sink,
            floor: Offset::BEFORE_ALL,
            floor_position: None,
            high_water: Offset::BEFORE_ALL,
            position: None,
            next_sequence: 0,
            events: 0,
            stored_bytes: 0,
            small_segments: 0,
            oldest: None,
            remembered: 0,
            next_memory: 0,
            cuts: Arc::default(),
            changed: Arc::default(),
        }
    }

    /// The ids of its segments lie in this range.
    pub(crate) fn segment_ids(&self) -> std::ops::RangeInclusive<i64> {
        segment_ids(self.id)
    }
}

pub(crate) fn segment_ids(partition: i64) -> std::ops::RangeInclusive<i64> {
    let first = partition << SEQUENCE_BITS;
    first..=first | ((1 << SEQUENCE_BITS) - 1)
}

/// Everything but the events and the sinks' places.
#[derive(Debug, Clone)]
pub(crate) struct Catalog {
    pub(crate) generation: Generation,
    pub(crate) epochs: BTreeMap<u32, Tag>,
    pub(crate) timeline: Timeline,
    pub(crate) streams: BTreeMap<i64, Stream>,
    pub(crate) sinks: BTreeMap<i64, Sink>,
    pub(crate) lanes: BTreeMap<i64, Lane>,
    /// Counters of this epoch that partitions had that are gone: one of the same name must not assign them again.
    pub(crate) used_counters: u64,
}

impl Catalog {
    /// The epoch that appends get now: the last one, which this opening added.
    pub(crate) fn epoch(&self) -> u32 {
        self.epochs.last_key_value().map_or(0, |(number, _)| *number)
    }

    pub(crate) fn stream_named(&self, name: &str) -> Option<(i64, &Stream)> {
        self.streams.iter().find(|(_, stream)| &*stream.name == name).map(|(id, stream)| (*id, stream))
    }

    pub(crate) fn sink_named(&self, name: &str) -> Option<(i64, &Sink)> {
        self.sinks.iter().find(|(_, sink)| &*sink.name == name).map(|(id, sink)| (*id, sink))
    }

    /// The sinks that get what is in a lane.
    pub(crate) fn sinks_of(&self, lane: &Lane) -> impl Iterator<Item = (i64, &Sink)> {
        let (stream, only) = (lane.stream, lane.for_sink);
        self.sinks
            .iter()
            .filter(move |(id, sink)| sink.inputs.contains(&stream) && only.is_none_or(|only| only == **id))
            .map(|(id, sink)| (*id, sink))
    }

    pub(crate) fn lanes_of(&self, stream: i64) -> impl Iterator<Item = &Lane> {
        self.lanes.values().filter(move |lane| lane.stream == stream)
    }

    /// The tag under which an offset of this numbering may be compared with others.
    pub(crate) fn tag(&self, numbering: Numbering, offset: Offset) -> Option<Tag> {
        match numbering {
            Numbering::Assigned => self.epochs.get(&offset.epoch()).copied(),
            Numbering::Shared { created } => Some(Tag(created as u64)),
        }
    }

    /// Reads every row, and checks every seal. Segments are not looked at.
    pub(crate) fn load(db: &Connection, boot: u128) -> Result<Self, Error> {
        let generation = read_meta(db, "generation")?.ok_or_else(|| damaged("the generation is missing"))?;
        let generation = <[u8; 16]>::try_from(generation).map_err(|_| damaged("the generation is malformed"))?;
        let catalog = Self {
            generation: Generation(u128::from_le_bytes(generation)),
            epochs: rows(db, "SELECT number, tag, seal FROM epoch", |row| {
                let (number, tag): (u32, i64) = (row.get(0)?, row.get(1)?);
                Ok(((number, Tag(tag as u64)), epoch_seal(number, Tag(tag as u64)), row.get(2)?))
            })?
            .into_iter()
            .collect(),
            timeline: Timeline::load(db, boot)?,
            streams: load_streams(db)?,
            sinks: load_sinks(db)?,
            lanes: rows(db, "SELECT * FROM partition", |row| {
                let lane = lane_from(row)?;
                let seal = lane_seal(&lane);
                Ok(((lane.id, lane), seal, row.get("seal")?))
            })?
            .into_iter()
            .collect(),
            used_counters: 0,
        };
        catalog.check_references()?;
        Ok(catalog)
    }

    fn check_references(&self) -> Result<(), Error> {
        let known = |stream: &i64| self.streams.contains_key(stream);
        let lanes = self.lanes.values().all(|lane| known(&lane.stream));
        let inputs = self.sinks.values().all(|sink| sink.inputs.iter().all(known));
        if lanes && inputs { Ok(()) } else { Err(damaged("a stream is missing that others name")) }
    }
}

/// Every row of a query, each checked against its seal.
pub(crate) fn rows<T>(
    db: &Connection,
    sql: &str,
    mut read: impl FnMut(&Row<'_>) -> rusqlite::Result<(T, i64, i64)>,
) -> Result<Vec<T>, Error> {
    let mut statement = db.prepare(sql)?;
    let mut found = Vec::new();
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (value, expected, seal) = read(row)?;
        if expected != seal {
            return Err(damaged(&format!("a row of `{sql}` does not match its seal")));
        }
        found.push(value);
    }
    Ok(found)
}

pub(crate) fn damaged(what: &str) -> Error {
    Error::Damaged(what.to_owned())
}

pub(crate) fn read_meta(db: &Connection, key: &str) -> Result<Option<Vec<u8>>, Error> {
    let found: Option<(Vec<u8>, i64)> = db
        .query_row("SELECT value, seal FROM meta WHERE key = ?", [key], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    match found {
        Some((value, seal)) if meta_seal(key, &value) != seal => Err(damaged("a row of meta does not match its seal")),
        found => Ok(found.map(|(value, _)| value)),
    }
}

pub(crate) fn write_meta(db: &Connection, key: &str, value: &[u8]) -> Result<(), Error> {
    db.prepare_cached("INSERT OR REPLACE INTO meta(key, value, seal) VALUES (?, ?, ?)")?.execute(params![
        key,
        value,
        meta_seal(key, value)
    ])?;
    Ok(())
}

fn meta_seal(key: &str, value: &[u8]) -> i64 {
    Seal::of("meta").bytes(key.as_bytes()).bytes(value).finish()
}

fn epoch_seal(number: u32, tag: Tag) -> i64 {
    Seal::of("epoch").int(i64::from(number)).int(tag.0 as i64).finish()
}

pub(crate) fn insert_epoch(db: &Connection, number: u32, tag: Tag) -> Result<(), Error> {
    db.execute(
        "INSERT INTO epoch(number, tag, seal) VALUES (?, ?, ?)",
        params![number, tag.0 as i64, epoch_seal(number, tag)],
    )?;
    Ok(())
}

fn load_streams(db: &Connection) -> Result<BTreeMap<i64, Stream>, Error> {
    let found = rows(db, "SELECT id, name, max_bytes, max_age_us, when_full, seal FROM stream", |row| {
        let (id, name): (i64, String) = (row.get(0)?, row.get(1)?);
        let max_age: Option<i64> = row.get(3)?;
        let when_full = match row.get::<_, i64>(4)? {
            0 => WhenFull::Backpressure,
            1 => WhenFull::DropOldest,
            _ => WhenFull::DropNewest,
        };
        let limits = StreamLimits {
            max_bytes: row.get::<_, i64>(2)? as u64,
            max_age: max_age.map(|us| Duration::from_micros(us as u64)),
            when_full,
        };
        let stream = Stream { name: name.into(), limits };
        let seal = stream_seal(id, &stream);
        Ok(((id, stream), seal, row.get(5)?))
    })?;
    Ok(found.into_iter().collect())
}

fn load_sinks(db: &Connection) -> Result<BTreeMap<i64, Sink>, Error> {
    let found = rows(db, "SELECT id, name, in_flight_bytes, seal FROM sink", |row| {
        let (id, name): (i64, String) = (row.get(0)?, row.get(1)?);
        let sink = Sink { name: name.into(), in_flight_bytes: row.get::<_, i64>(2)? as u64, inputs: BTreeSet::new() };
        let seal = sink_seal(id, &sink);
        Ok(((id, sink), seal, row.get(3)?))
    })?;
    let mut sinks: BTreeMap<i64, Sink> = found.into_iter().collect();
    let inputs = rows(db, "SELECT sink, stream, seal FROM input", |row| {
        let (sink, stream) = (row.get(0)?, row.get(1)?);
        Ok(((sink, stream), input_seal(sink, stream), row.get(2)?))
    })?;
    for (sink, stream) in inputs {
        sinks.get_mut(&sink).ok_or_else(|| damaged("an input names no sink"))?.inputs.insert(stream);
    }
    Ok(sinks)
}

fn stream_seal(id: i64, stream: &Stream) -> i64 {
    let (max_bytes, max_age, when_full) = limits_columns(&stream.limits);
    Seal::of("stream")
        .int(id)
        .bytes(stream.name.as_bytes())
        .int(max_bytes)
        .optional_int(max_age)
        .int(when_full)
        .finish()
}

fn limits_columns(limits: &StreamLimits) -> (i64, Option<i64>, i64) {
    let when_full = match limits.when_full {
        WhenFull::Backpressure => 0,
        WhenFull::DropOldest => 1,
        WhenFull::DropNewest => 2,
    };
    (limits.max_bytes as i64, limits.max_age.map(|age| age.as_micros() as i64), when_full)
}

pub(crate) fn store_stream(db: &Connection, id: i64, stream: &Stream) -> Result<(), Error> {
    let (max_bytes, max_age, when_full) = limits_columns(&stream.limits);
    db.execute(
        "INSERT OR REPLACE INTO stream(id, name, max_bytes, max_age_us, when_full, seal) VALUES (?, ?, ?, ?, ?, ?)",
        params![id, &*stream.name, max_bytes, max_age, when_full, stream_seal(id, stream)],
    )?;
    Ok(())
}

fn sink_seal(id: i64, sink: &Sink) -> i64 {
    Seal::of("sink").int(id).bytes(sink.name.as_bytes()).int(sink.in_flight_bytes as i64).finish()
}

fn input_seal(sink: i64, stream: i64) -> i64 {
    Seal::of("input").int(sink).int(stream).finish()
}

pub(crate) fn store_sink(db: &Connection, id: i64, sink: &Sink) -> Result<(), Error> {
    db.execute(
        "INSERT OR REPLACE INTO sink(id, name, in_flight_bytes, seal) VALUES (?, ?, ?, ?)",
        params![id, &*sink.name, sink.in_flight_bytes as i64, sink_seal(id, sink)],
    )?;
    db.execute("DELETE FROM input WHERE sink = ?", [id])?;
    for stream in &sink.inputs {
        db.execute("INSERT INTO input(sink, stream, seal) VALUES (?, ?, ?)", [id, *stream, input_seal(id, *stream)])?;
    }
    Ok(())
}

/// A partition's row, as a lane without segments.
pub(crate) fn lane_from(row: &Row<'_>) -> rusqlite::Result<Lane> {
    let created: Option<i64> = row.get("created")?;
    let name: String = row.get("name")?;
    let bytes = |column| row.get::<_, Option<Vec<u8>>>(column).map(|bytes| bytes.map(Arc::from));
    let numbering = created.map_or(Numbering::Assigned, |created| Numbering::Shared { created });
    Ok(Lane {
        floor: Offset(row.get("floor")?),
        floor_position: bytes("floor_position")?,
        high_water: Offset(row.get("high_water")?),
        position: bytes("position")?,
        ..Lane::new(row.get("id")?, row.get("stream")?, &name, numbering, row.get("for_sink")?)
    })
}

pub(crate) fn lane_seal(lane: &Lane) -> i64 {
    Seal::of("partition")
        .int(lane.id)
        .int(lane.stream)
        .bytes(lane.name.as_bytes())
        .optional_int(created(lane.numbering))
        .optional_int(lane.for_sink)
        .int(lane.floor.0)
        .optional_bytes(lane.floor_position.as_deref())
        .int(lane.high_water.0)
        .optional_bytes(lane.position.as_deref())
        .finish()
}

/// The `created` column: the hub's creation time of a shared numbering.
pub(crate) fn created(numbering: Numbering) -> Option<i64> {
    match numbering {
        Numbering::Assigned => None,
        Numbering::Shared { created } => Some(created),
    }
}

pub(crate) fn store_lane(db: &Connection, lane: &Lane) -> Result<(), Error> {
    db.prepare_cached(
        "INSERT OR REPLACE INTO partition(id, stream, name, created, for_sink, floor, floor_position, high_water,
            position, seal) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )?
    .execute(params![
        lane.id,
        lane.stream,
        &*lane.name,
        created(lane.numbering),
        lane.for_sink,
        lane.floor.0,
        lane.floor_position.as_deref(),
        lane.high_water.0,
        lane.position.as_deref(),
        lane_seal(lane)
    ])?;
    Ok(())
}
