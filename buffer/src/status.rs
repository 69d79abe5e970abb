//! What an operator sees at a glance.

use std::{collections::BTreeMap, path::Path, time::Duration};

use rusqlite::Connection;

use crate::{
    Checkpoint, Error, Generation, Numbering, Offset, Reader, Recovery, StreamLimits,
    catalog::{Catalog, Lane},
    clock::Reading,
    ledger, open,
    places::{Places, of_lane},
    salvage,
    schema::PAGE_BYTES,
    shared::Shared,
    space::{self, SpaceView},
    timeline::Arrival,
};

/// What a new append is taken to need when somebody asks whether there is room.
const TYPICAL_APPEND_BYTES: u64 = 16 * 1024;

/// The state of a buffer.
#[derive(Debug, Clone)]
pub struct Status {
    /// The file's generation.
    pub generation: Generation,
    /// The number of the last writable opening.
    pub epoch: u32,
    /// How it was opened, and what a salvage found that no operator has cleared. `None` if nobody has it open and there
    /// is nothing to clear.
    pub recovery: Option<Recovery>,
    /// Bytes on disk: database, WAL and reserve.
    pub file_bytes: u64,
    /// Bytes in use within the database.
    pub used_bytes: u64,
    /// The most the file may take; 0 if nobody has it open.
    pub max_bytes: u64,
    /// Bytes free on the filesystem.
    pub free_disk_bytes: Option<u64>,
    /// Why producers of at least one stream are held back, if they are.
    pub full: Option<String>,
    /// Every stream.
    pub streams: Vec<StreamStatus>,
    /// Every sink.
    pub sinks: Vec<SinkStatus>,
    /// Dead letters, those of intake included.
    pub dead_letters: u64,
    /// Events in the loss ledger, by reason. An event that two sinks miss counts twice.
    pub lost_events: BTreeMap<String, u64>,
}

/// The state of a stream.
#[derive(Debug, Clone)]
pub struct StreamStatus {
    /// Its name.
    pub name: String,
    /// Its limits.
    pub limits: StreamLimits,
    /// Events in the file.
    pub events: u64,
    /// Bytes that they take in the file.
    pub bytes: u64,
    /// Whether its producers are held back.
    pub full: bool,
    /// Its partitions.
    pub partitions: Vec<PartitionStatus>,
}

/// The state of a partition.
#[derive(Debug, Clone)]
pub struct PartitionStatus {
    /// Its name.
    pub name: String,
    /// How its offsets come about.
    pub numbering: Numbering,
    /// For a partition of retried dead letters: the sink they are for.
    pub for_sink: Option<String>,
    /// The last offset.
    pub high_water: Offset,
    /// Events in the file.
    pub events: u64,
    /// Bytes that they take in the file.
    pub bytes: u64,
    /// How old the oldest is, if a clock can be trusted with that.
    pub oldest_age: Option<Duration>,
}

/// The state of a sink.
#[derive(Debug, Clone)]
pub struct SinkStatus {
    /// Its name.
    pub name: String,
    /// The streams it takes.
    pub streams: Vec<String>,
    /// Events that it has not confirmed.
    pub pending_events: u64,
    /// Events that it misses, as the loss ledger says.
    pub lost_events: u64,
    /// Dead letters of its own.
    pub dead_letters: u64,
    /// Its places.
    pub partitions: Vec<SinkPartitionStatus>,
}

/// A sink's place in a partition.
#[derive(Debug, Clone)]
pub struct SinkPartitionStatus {
    /// The stream.
    pub stream: String,
    /// The partition.
    pub partition: String,
    /// How its offsets come about.
    pub numbering: Numbering,
    /// How far the sink has confirmed it.
    pub checkpoint: Option<Checkpoint>,
    /// Events that it has not confirmed.
    pub pending_events: u64,
    /// How old the oldest of them is, if a clock can be trusted with that.
    pub oldest_age: Option<Duration>,
}

/// Of an open buffer.
pub(crate) fn of_buffer(shared: &Shared) -> Result<Status, Error> {
    let mut reader = shared.status_reader.lock().expect("no holder of this lock panics");
    let reader = match &mut *reader {
        Some(reader) => reader,
        none => none.insert(Reader::open(shared)?),
    };
    let catalog = shared.catalog().clone();
    let places = shared.places().clone();
    let now = shared.options.clock.now();
    let mut status = collect(&reader.db, &catalog, &places, now, shared.space())?;
    status.recovery = Some(shared.recovery.lock().expect("no holder of this lock panics").clone());
    status.max_bytes = shared.options.max_bytes;
    for stream in &mut status.streams {
        let reason = full_reason(shared, &catalog, &stream.name);
        stream.full = reason.is_some();
        status.full = status.full.or(reason);
    }
    Ok(status)
}

/// Of a file that somebody else may have open.
pub(crate) fn of_file(
    reader: &Reader,
    path: &Path,
    catalog: &Catalog,
    places: &Places,
    now: Reading,
) -> Result<Status, Error> {
    let count = |pragma| reader.db.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0)).map(|n| n as u64);
    let (pages, free) = (count("page_count")?, count("freelist_count")?);
    let size = |suffix| std::fs::metadata(open::beside(path, suffix)).map_or(0, |metadata| metadata.len());
    let directory = path.parent().unwrap_or(Path::new("."));
    let view = SpaceView {
        file_bytes: size("") + size("-wal") + size(".reserve"),
        used_bytes: (pages - free) * PAGE_BYTES,
        free_disk_bytes: space::disk(directory).map(|(free, _)| free),
        held_back: None,
    };
    let mut status = collect(&reader.db, catalog, places, now, view)?;
    status.recovery = salvage::recall(&reader.db)?.map(Recovery::Salvaged);
    Ok(status)
}

/// Whether an append to `stream` would be held back just now.
pub(crate) fn is_full(shared: &Shared, stream: &str) -> bool {
    full_reason(shared, &shared.catalog(), stream).is_some()
}

fn full_reason(shared: &Shared, catalog: &Catalog, stream: &str) -> Option<String> {
    let (id, stream) = catalog.stream_named(stream)?;
    if stream.limits.when_full != crate::WhenFull::Backpressure {
        return None;
    }
    let used: u64 = catalog.lanes_of(id).map(|lane| lane.stored_bytes).sum();
    let typical = TYPICAL_APPEND_BYTES.min(stream.limits.max_bytes / 4);
    if used + typical > stream.limits.max_bytes {
        return Some(format!("stream {} has reached its max_bytes ({} bytes)", stream.name, stream.limits.max_bytes));
    }
    shared.space().held_back
}

fn collect(
    db: &Connection,
    catalog: &Catalog,
    places: &Places,
    now: Reading,
    space: SpaceView,
) -> Result<Status, Error> {
    let losses = ledger::all(db)?;
    let mut lost_events = BTreeMap::new();
    for loss in &losses {
        *lost_events.entry(loss.reason.clone()).or_default() += loss.events;
    }
    let letters = letters(db)?;
    let age = |arrival: Option<Arrival>| arrival.and_then(|arrival| catalog.timeline.age(arrival, now));
    let streams = catalog.streams.iter().map(|(id, stream)| {
        let partitions: Vec<PartitionStatus> = catalog
            .lanes_of(*id)
            .map(|lane| PartitionStatus {
                name: lane.name.to_string(),
                numbering: lane.numbering,
                for_sink: lane.for_sink.and_then(|sink| catalog.sinks.get(&sink)).map(|sink| sink.name.to_string()),
                high_water: lane.high_water,
                events: lane.events,
                bytes: lane.stored_bytes,
                oldest_age: age(lane.oldest),
            })
            .collect();
        StreamStatus {
            name: stream.name.to_string(),
            limits: stream.limits,
            events: partitions.iter().map(|partition| partition.events).sum(),
            bytes: partitions.iter().map(|partition| partition.bytes).sum(),
            full: false,
            partitions,
        }
    });
    let sinks = catalog.sinks.iter().map(|(id, sink)| {
        let lanes = catalog.lanes.values().filter(|lane| sink.inputs.contains(&lane.stream));
        let partitions = lanes.filter_map(|lane| {
            let (_, place) = of_lane(places, lane.id).find(|(sink, _)| sink == id)?;
            let oldest =
                if place.pending_events == 0 { None } else { arrival_after(db, lane, place.confirmed).transpose() };
            Some(oldest.transpose().map(|oldest| SinkPartitionStatus {
                stream: catalog.streams[&lane.stream].name.to_string(),
                partition: lane.name.to_string(),
                numbering: lane.numbering,
                checkpoint: place.checkpoint,
                pending_events: place.pending_events,
                oldest_age: age(oldest),
            }))
        });
        let partitions = partitions.collect::<Result<Vec<_>, Error>>()?;
        let streams: Vec<String> = sink.inputs.iter().map(|id| catalog.streams[id].name.to_string()).collect();
        let lost = losses.iter().filter(|loss| match &loss.sink {
            Some(name) => **name == *sink.name,
            None => streams.contains(&loss.stream),
        });
        Ok(SinkStatus {
            name: sink.name.to_string(),
            pending_events: partitions.iter().map(|place| place.pending_events).sum(),
            lost_events: lost.map(|loss| loss.events).sum(),
            dead_letters: letters.get(&Some(*id)).copied().unwrap_or(0),
            streams,
            partitions,
        })
    });
    Ok(Status {
        generation: catalog.generation,
        epoch: catalog.epoch(),
        recovery: None,
        file_bytes: space.file_bytes,
        used_bytes: space.used_bytes,
        max_bytes: 0,
        free_disk_bytes: space.free_disk_bytes,
        full: None,
        streams: streams.collect(),
        sinks: sinks.collect::<Result<_, Error>>()?,
        dead_letters: letters.values().sum(),
        lost_events,
    })
}

/// When the first event of a lane after an offset was taken in.
fn arrival_after(db: &Connection, lane: &Lane, after: Offset) -> Result<Option<Arrival>, Error> {
    if after <= lane.floor {
        return Ok(lane.oldest);
    }
    let id = crate::reader::bisect(db, lane, after)?;
    let found = db
        .prepare_cached("SELECT era, since_boot_ms FROM segment WHERE id >= ? AND id <= ? ORDER BY id LIMIT 1")?
        .query_map([id, *lane.segment_ids().end()], |row| Ok(Arrival { era: row.get(0)?, since_boot_ms: row.get(1)? }))?
        .next()
        .transpose()?;
    Ok(found)
}

fn letters(db: &Connection) -> Result<BTreeMap<Option<i64>, u64>, Error> {
    let mut statement = db.prepare_cached("SELECT sink, count(*) FROM dead_letter GROUP BY sink")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)? as u64)))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}
