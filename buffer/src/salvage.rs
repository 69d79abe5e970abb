//! What becomes of a damaged file: it is set aside, never deleted, and a new one is made of what can be read of it.
//!
//! Every row carries a seal, so what is copied is what was written. Rows that are lost are accounted for: an event range
//! goes into the loss ledger, a checkpoint falls back to what the destination says, a position to that of the last segment
//! that could be read, so that the source reads the rest again.

mod replacement;
mod transplant;

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, params_from_iter, types::Value as Sql};

use crate::{
    Error, Loss, Numbering, Offset, OpenError, Options, StreamLimits, Timestamp,
    append::SegmentRow,
    catalog::{Catalog, Lane, Stream, insert_epoch, lane_from, read_meta, store_lane, store_stream, write_meta},
    identity, ledger,
    lock::Lock,
    open::{self, random_tag},
    places::of_lane,
    places_table,
    schema::{self, Found, SEQUENCE_BITS},
    seal::Seal,
};
use replacement::Replacement;
pub(crate) use replacement::is_under_way;

/// How an opening found the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recovery {
    /// There was none: it is new.
    Created,
    /// It was closed properly.
    Clean,
    /// The process or the machine had died: it was checked, and is sound.
    Unclean,
    /// It was damaged, now or at an earlier opening, and no operator has cleared that yet.
    Salvaged(SalvageReport),
}

/// What a salvage kept and lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SalvageReport {
    /// What was wrong.
    pub reason: String,
    /// Where the damaged file is now.
    pub set_aside: PathBuf,
    /// Events that were carried over.
    pub events_kept: u64,
    /// Rows of any kind that could not be read.
    pub rows_lost: u64,
    /// Events that are missing by the count of their offsets; the loss ledger has the ranges.
    pub events_lost: u64,
}

const META: &str = "salvage";

/// The floor of a partition whose row was lost: it is that of the first segment that is left.
const FORGOTTEN: Offset = Offset(i64::MIN);

/// Tables that are copied row by row. Segments, partitions and meta need more care.
const PLAIN: [&str; 10] =
    ["epoch", "era", "stream", "sink", "input", "checkpoint", "refusal", "dead_letter", "loss", "identity"];

/// Sets the file aside and makes a new one in its place, or finishes that if it was cut short. The caller holds the lock.
pub(crate) fn set_aside(options: &Options, reason: &str) -> Result<SalvageReport, OpenError> {
    let path = &options.path;
    if options.vfs.is_some() {
        return Err(OpenError::Damaged { path: path.clone(), found: reason.to_owned() });
    }
    open::refuse_newer(path)?;
    log::error!("the buffer {} is damaged ({reason}): salvaging what can be read", path.display());
    let io = |doing| move |error| OpenError::Io { path: path.clone(), doing, error };
    let replacement = Replacement::begin(path, reason).map_err(io("beginning to salvage"))?;
    open::refuse_newer(&replacement.aside)?;
    if !replacement.is_done() {
        replacement.set_aside().map_err(io("setting the damaged file aside, which is"))?;
        build(options, &replacement)?;
    }
    replacement.finish().map_err(io("putting the salvaged file in place of"))?;
    let failed = |error: Error| OpenError::Damaged { path: path.clone(), found: error.to_string() };
    let db = open::connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE, None).map_err(|error| failed(error.into()))?;
    let report = recall(&db).map_err(failed)?.ok_or_else(|| failed(Error::Failed("its report is missing".into())))?;
    log::error!(
        "salvaged {} events from {}; {} rows could not be read, {} events are missing and in the loss ledger",
        report.events_kept,
        report.set_aside.display(),
        report.rows_lost,
        report.events_lost
    );
    Ok(report)
}

/// Makes a new file of what can be read of the one that was set aside.
fn build(options: &Options, replacement: &Replacement) -> Result<(), OpenError> {
    let Replacement { aside, building, reason, .. } = replacement;
    let failed = |error: Error| OpenError::Io {
        path: building.clone(),
        doing: "salvaging into",
        error: std::io::Error::other(error.to_string()),
    };
    let options = Options { path: building.clone(), ..options.clone() };
    let mut new = open::create_at(&options)?;
    let old = readable_database(aside, &new).or_else(|| {
        let transplanted = transplant::transplant_schema(aside, building, &new);
        transplanted.inspect_err(|error| log::error!("cannot mend the schema of {}: {error}", aside.display())).ok()?;
        readable_database(aside, &new)
    });
    let (reason, set_aside) = (reason.clone(), aside.clone());
    let mut report = SalvageReport { reason, set_aside, events_kept: 0, rows_lost: 0, events_lost: 0 };
    if old.is_none() {
        report.rows_lost += 1; // At the least: nothing could be read.
    }
    carry_over(old.as_ref(), &mut new, &options, &mut report).map_err(failed)?;
    // Closed, it is one file, and can be renamed.
    new.close().map_err(|(_, error)| failed(error.into()))
}

/// A file whose schema can be read, and is that of a new one: of a damaged name SQLite says nothing. The tables of a
/// migrated file stand where those of a new one do, for the roots of all tables come first in a file with auto-vacuum.
/// What a later version added is missing at the end of an older file's.
fn readable_database(path: &Path, new: &Connection) -> Option<Connection> {
    let schema = |db: &Connection| -> rusqlite::Result<Vec<(i64, Option<Vec<u8>>)>> {
        let mut select = db.prepare("SELECT rootpage, CAST(sql AS BLOB) FROM sqlite_schema ORDER BY rowid")?;
        select.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
    };
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = open::connect(path, flags, None).ok()?;
    let (old, new) = (schema(&db).ok()?, schema(new).ok()?);
    let is_older = matches!(schema::identify(&db), Ok(Found::Buffer(version)) if version < schema::VERSION);
    (old == new || is_older && !old.is_empty() && new.starts_with(&old)).then_some(db)
}

fn carry_over(
    old: Option<&Connection>,
    new: &mut Connection,
    options: &Options,
    report: &mut SalvageReport,
) -> Result<(), Error> {
    let copy = new.transaction()?;
    if let Some(old) = old {
        if let Ok(Some(generation)) = read_meta(old, "generation") {
            write_meta(&copy, "generation", &generation)?;
        }
        for table in PLAIN {
            if !old.table_exists(None, table)? {
                continue; // The file is older than the table.
            }
            for row in readable(old, table, report) {
                if row.sealed {
                    insert(&copy, table, &row.values)?;
                } else {
                    report.rows_lost += 1;
                }
            }
        }
        copy_lanes(old, &copy, report)?;
        copy_segments(old, &copy, report)?;
    }
    attach_segments(&copy)?;
    complete_epochs(&copy)?;
    recover_generation(&copy)?;
    let mut catalog = Catalog::load(&copy, options.clock.boot_id())?;
    let places = places_table::load(&copy, &catalog)?;
    for lane in catalog.lanes.values_mut() {
        let confirmed: Vec<(String, Offset)> = of_lane(&places, lane.id)
            .filter_map(|(sink, place)| Some((catalog.sinks.get(&sink)?.name.to_string(), place.confirmed)))
            .collect();
        let mut mender = Mender {
            db: &copy,
            stream: catalog.streams[&lane.stream].name.to_string(),
            sinks: confirmed,
            when: options.clock.now().wall,
            report,
        };
        mender.mend(lane)?;
    }
    if report.rows_lost > 0 || report.events_lost > 0 {
        // What is lost may come again, and must not be taken for what is here.
        identity::forget_all(&copy)?;
    }
    remember(&copy, &Recovery::Salvaged(report.clone()))?;
    copy.commit()?;
    Ok(())
}

/// A generation that could not be read stands in the checkpoints too; where there are none, or only those that bear none,
/// nothing was delivered.
fn recover_generation(db: &Connection) -> Result<(), Error> {
    if read_meta(db, "generation")?.is_some() {
        return Ok(());
    }
    let sql = "SELECT generation FROM checkpoint WHERE generation <> zeroblob(16)
               GROUP BY generation ORDER BY count(*) DESC LIMIT 1";
    let found: Option<Vec<u8>> = db.query_row(sql, [], |row| row.get(0)).optional()?;
    let generation = found.unwrap_or_else(|| {
        let mut random = vec![0; 16];
        open::fill_random(&mut random);
        random
    });
    write_meta(db, "generation", &generation)
}

/// A row as it was read, and whether its seal holds.
struct RawRow {
    values: Vec<Sql>,
    sealed: bool,
}

/// The rows of a table up to where it cannot be read on.
fn readable(old: &Connection, table: &str, report: &mut SalvageReport) -> Vec<RawRow> {
    let mut found = Vec::new();
    let read: rusqlite::Result<()> = (|| {
        let mut select = old.prepare(&format!("SELECT * FROM {table}"))?;
        let names: Vec<String> = select.column_names().map(str::to_owned).collect();
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            let values: Vec<Sql> = (0..names.len()).map(|column| row.get(column)).collect::<rusqlite::Result<_>>()?;
            let sealed = is_sealed(table, &names, &values);
            found.push(RawRow { values, sealed });
        }
        Ok(())
    })();
    if read.is_err() {
        report.rows_lost += 1;
    }
    found
}

/// Every seal is over the row's other columns in the order of the schema, without numbers that SQLite gives.
fn is_sealed(table: &str, names: &[String], values: &[Sql]) -> bool {
    let mut seal = Seal::of(table);
    let mut found = None;
    for (name, value) in names.iter().zip(values) {
        seal = match (name.as_str(), value) {
            ("seal", value) => {
                found = Some(value);
                seal
            }
            ("id", _) if matches!(table, "dead_letter" | "loss") => seal,
            (_, Sql::Null) => seal.optional_int(None),
            (_, Sql::Integer(number)) => seal.int(*number),
            (_, Sql::Text(text)) => seal.bytes(text.as_bytes()),
            (_, Sql::Blob(bytes)) => seal.bytes(bytes),
            (_, Sql::Real(_)) => return false,
        };
    }
    found == Some(&Sql::Integer(seal.finish()))
}

fn insert(new: &Connection, table: &str, row: &[Sql]) -> Result<(), Error> {
    let marks = vec!["?"; row.len()].join(",");
    new.execute(&format!("INSERT OR IGNORE INTO {table} VALUES ({marks})"), params_from_iter(row.iter()))?;
    Ok(())
}

/// Partitions are too dear to lose for one flipped bit: of a row whose seal does not hold, who it is is kept, and where it
/// stands is forgotten.
fn copy_lanes(old: &Connection, new: &Connection, report: &mut SalvageReport) -> Result<(), Error> {
    for row in readable(old, "partition", report) {
        insert(new, "partition", &row.values)?;
        if row.sealed {
            continue;
        }
        report.rows_lost += 1;
        let id = &row.values[0];
        let lane = new.query_row("SELECT * FROM partition WHERE id IS ?", [id], lane_from);
        new.execute("DELETE FROM partition WHERE id IS ?", [id])?;
        if let Ok(lane) = lane {
            let high_water = Offset::BEFORE_ALL;
            store_lane(new, &Lane { floor: FORGOTTEN, floor_position: None, high_water, position: None, ..lane })?;
        }
    }
    Ok(())
}

/// Copies every segment whose seal holds, jumping over what cannot be read.
fn copy_segments(old: &Connection, new: &Connection, report: &mut SalvageReport) -> Result<(), Error> {
    let sql = format!("SELECT {}, body FROM segment WHERE id >= ? ORDER BY id LIMIT 1", SegmentRow::COLUMNS);
    let (mut at, mut step, mut suspect) = (0_i64, 1_i64, None);
    loop {
        let found = old.prepare_cached(&sql).and_then(|mut select| {
            let mut rows = select.query([at])?;
            rows.next()?.map(|row| Ok((row.get::<_, i64>(0)?, read_segment(row)))).transpose()
        });
        match found {
            Ok(None) => return Ok(()),
            Ok(Some((id, segment))) if id >= at => {
                let last = match segment {
                    Ok((segment, body)) => {
                        segment.insert(new, crc32fast::hash(&body), &body)?;
                        report.events_kept += u64::from(segment.events);
                        id
                    }
                    Err(_) if suspect == Some(id) => id,
                    Err(_) => {
                        // Its id may be what is wrong: what follows may have lower ones.
                        report.rows_lost += 1;
                        suspect = Some(id);
                        at
                    }
                };
                let Some(next) = last.checked_add(1) else { return Ok(()) };
                (at, step) = (next, 1);
            }
            Ok(Some(_)) | Err(_) => {
                // A page is gone, or stands where another should. Look further on, twice as far each time.
                let Some(next) = at.checked_add(step) else { return Ok(()) };
                if step == 1 {
                    report.rows_lost += 1;
                }
                (at, step) = (next, step.saturating_mul(2));
            }
        }
    }
}

fn read_segment(row: &Row<'_>) -> Result<(SegmentRow, Vec<u8>), Error> {
    let (segment, seal) = SegmentRow::read(row)?;
    let body: Vec<u8> = row.get(10)?;
    segment.verify(seal, &body)?;
    Ok((segment, body))
}

/// Gives every segment a partition, and every partition a stream. What else belongs to no partition goes.
fn attach_segments(db: &Connection) -> Result<(), Error> {
    let ids = |sql: &str| -> rusqlite::Result<Vec<i64>> { db.prepare(sql)?.query_map([], |row| row.get(0))?.collect() };
    let homeless = format!(
        "SELECT DISTINCT id >> {SEQUENCE_BITS} FROM segment WHERE id >> {SEQUENCE_BITS} NOT IN (SELECT id FROM partition)"
    );
    // Nobody takes a stream that is made up: it waits for an operator, and the report of the salvage says so.
    db.execute(
        "DELETE FROM input WHERE sink NOT IN (SELECT id FROM sink) OR stream NOT IN (SELECT id FROM stream)",
        [],
    )?;
    for id in ids(&homeless)? {
        let stream: i64 = db.query_row("SELECT coalesce(max(id), 0) + 1 FROM stream", [], |row| row.get(0))?;
        let name = format!("salvaged-{id}");
        store_stream(db, stream, &Stream { name: name.as_str().into(), limits: StreamLimits::default() })?;
        let named = Lane::new(id, stream, &name, Numbering::Assigned, None);
        store_lane(db, &Lane { floor: FORGOTTEN, ..named })?;
    }
    identity::forget_strangers(db)?;
    for id in ids("SELECT DISTINCT stream FROM partition WHERE stream NOT IN (SELECT id FROM stream)")? {
        let stream = Stream { name: format!("salvaged-{id}").into(), limits: StreamLimits::default() };
        store_stream(db, id, &stream)?;
    }
    Ok(())
}

/// Gives every epoch that an offset names a row, so that the next one is higher than all of them.
fn complete_epochs(db: &Connection) -> Result<(), Error> {
    let sql =
        "SELECT DISTINCT last >> 40 FROM segment UNION SELECT high_water >> 40 FROM partition WHERE created IS NULL
               UNION SELECT offset >> 40 FROM checkpoint";
    let named: Vec<i64> = db.prepare(sql)?.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    for number in named.into_iter().filter_map(|number| u32::try_from(number).ok()).filter(|number| *number > 0) {
        let known: i64 = db.query_row("SELECT count(*) FROM epoch WHERE number = ?", [number], |row| row.get(0))?;
        if known == 0 && number <= Offset::MAX_EPOCH {
            insert_epoch(db, number, random_tag())?;
        }
    }
    Ok(())
}

/// Makes one lane whole again: its chain, its row, and an account of what is missing.
struct Mender<'a> {
    db: &'a Connection,
    stream: String,
    /// Who takes it, and how far each has confirmed it.
    sinks: Vec<(String, Offset)>,
    when: Timestamp,
    report: &'a mut SalvageReport,
}

impl Mender<'_> {
    fn mend(&mut self, lane: &mut Lane) -> Result<(), Error> {
        let segments = self.segments(lane)?;
        lane.high_water = lane.high_water.max(identity::high_water(self.db, lane.id)?);
        if lane.floor == FORGOTTEN {
            lane.floor = segments.first().map_or(Offset::BEFORE_ALL, |first| first.prev);
        }
        let mut at = lane.floor;
        let mut position = lane.floor_position.clone();
        for segment in &segments {
            if segment.first <= at || segment.prev < at {
                // An older version of a row that stands there too.
                self.db.execute("DELETE FROM segment WHERE id = ?", [segment.id])?;
                self.report.rows_lost += 1;
                continue;
            }
            self.hole(lane, at, segment.prev)?;
            at = segment.last;
            position = segment.position.clone().or(position);
        }
        if at < lane.high_water {
            // The source reads again what it can. What it cannot is lost.
            if position.is_none() {
                self.hole(lane, at, lane.high_water)?;
            }
            if lane.numbering != Numbering::Assigned || !segments.is_empty() {
                lane.high_water = at;
            } else {
                lane.floor = lane.high_water;
            }
            lane.position = position;
        }
        identity::forget_after(self.db, lane.id, at.max(lane.high_water))?;
        store_lane(self.db, lane)
    }

    fn segments(&self, lane: &Lane) -> Result<Vec<SegmentRow>, Error> {
        let sql = format!("SELECT {} FROM segment WHERE id >= ? AND id <= ? ORDER BY id", SegmentRow::COLUMNS);
        let ids = lane.segment_ids();
        let mut select = self.db.prepare_cached(&sql)?;
        let mut rows = select.query([*ids.start(), *ids.end()])?;
        let mut segments = Vec::new();
        while let Some(row) = rows.next()? {
            segments.push(SegmentRow::read(row)?.0);
        }
        Ok(segments)
    }

    /// Accounts for the offsets after `after` up to `through`, for everyone who misses them.
    fn hole(&mut self, lane: &Lane, after: Offset, through: Offset) -> Result<(), Error> {
        if through <= after || ledger::explains(self.db, lane.id, through)? {
            return Ok(());
        }
        let missing: Vec<(Option<String>, Offset)> = if self.sinks.is_empty() {
            vec![(None, after)]
        } else {
            self.sinks.iter().map(|(sink, confirmed)| (Some(sink.clone()), after.max(*confirmed))).collect()
        };
        for (sink, after) in missing {
            let events = offsets_between(lane.numbering, after, through);
            self.report.events_lost += events;
            // A sink that had all of it gets an empty entry: it still explains the hole.
            let loss = Loss {
                sink,
                stream: self.stream.clone(),
                partition: lane.name.to_string(),
                numbering: lane.numbering,
                first: Offset(after.0 + 1).min(through),
                last: through,
                events,
                bytes: 0,
                reason: ledger::DAMAGED.to_owned(),
                when: self.when,
            };
            ledger::append(self.db, lane.id, loss)?;
        }
        Ok(())
    }
}

/// How many events a range of offsets stands for, as far as that can be known: within an epoch assigned offsets have no
/// gaps, shared ones may.
fn offsets_between(numbering: Numbering, after: Offset, through: Offset) -> u64 {
    if through <= after {
        return 0;
    }
    match numbering {
        Numbering::Assigned if after.epoch() != through.epoch() => through.counter() + 1,
        _ => (through.0 - after.0) as u64,
    }
}

/// Writes the report of a salvage down, or finds that of an earlier one which nobody has cleared.
pub(crate) fn remember(db: &Connection, recovery: &Recovery) -> Result<Recovery, Error> {
    if let Recovery::Salvaged(report) = recovery {
        let SalvageReport { reason, set_aside, events_kept, rows_lost, events_lost } = report;
        let text = format!("{events_kept}\n{rows_lost}\n{events_lost}\n{}\n{reason}", set_aside.display());
        write_meta(db, META, text.as_bytes())?;
        return Ok(recovery.clone());
    }
    Ok(recall(db)?.map_or_else(|| recovery.clone(), Recovery::Salvaged))
}

/// The report of a salvage that nobody has cleared.
pub(crate) fn recall(db: &Connection) -> Result<Option<SalvageReport>, Error> {
    let Some(text) = read_meta(db, META)? else { return Ok(None) };
    let text = String::from_utf8_lossy(&text).into_owned();
    let mut lines = text.splitn(5, '\n');
    let mut number = || lines.next().and_then(|line| line.parse().ok()).unwrap_or(0);
    let (events_kept, rows_lost, events_lost) = (number(), number(), number());
    let set_aside = PathBuf::from(lines.next().unwrap_or_default());
    let reason = lines.next().unwrap_or_default().to_owned();
    Ok(Some(SalvageReport { reason, set_aside, events_kept, rows_lost, events_lost }))
}

/// An operator has seen the report.
pub(crate) fn forget(db: &Connection) -> Result<(), Error> {
    db.execute("DELETE FROM meta WHERE key = ?", [META])?;
    Ok(())
}

/// Salvages the file at `path` now, as an opening would if it found damage. Nobody may have it open.
pub fn salvage(options: &Options) -> Result<SalvageReport, OpenError> {
    let _lock = Lock::take(&options.path)?;
    set_aside(options, "salvaged by hand")
}
