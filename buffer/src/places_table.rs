//! Checkpoints as rows: loading them, and writing those that changed.

use std::{collections::BTreeMap, sync::Arc};

use rusqlite::{Connection, params};

use crate::{
    Checkpoint, Error, Generation, Offset, Tag,
    catalog::{Catalog, Lane, rows},
    dead_letter,
    places::{Place, PlaceKey, Places},
    retention,
    seal::Seal,
    txn::Txn,
};

/// A stored checkpoint.
struct CheckpointRow {
    sink: i64,
    lane: i64,
    checkpoint: Checkpoint,
    note: Option<Vec<u8>>,
}

impl CheckpointRow {
    fn seal(&self) -> i64 {
        Seal::of("checkpoint")
            .int(self.sink)
            .int(self.lane)
            .bytes(&self.checkpoint.generation.0.to_le_bytes())
            .int(self.checkpoint.tag.0 as i64)
            .int(self.checkpoint.offset.0)
            .optional_bytes(self.note.as_deref())
            .finish()
    }
}

/// The place of every sink in every partition it takes.
pub(crate) fn load(db: &Connection, catalog: &Catalog) -> Result<Places, Error> {
    let stored = rows(db, "SELECT sink, partition, generation, tag, offset, note, seal FROM checkpoint", |row| {
        let generation: Vec<u8> = row.get(2)?;
        let generation = generation.try_into().map_or(0, u128::from_le_bytes);
        let read = CheckpointRow {
            sink: row.get(0)?,
            lane: row.get(1)?,
            checkpoint: Checkpoint {
                generation: Generation(generation),
                tag: Tag(row.get::<_, i64>(3)? as u64),
                offset: Offset(row.get(4)?),
            },
            note: row.get(5)?,
        };
        let seal = read.seal();
        Ok((read, seal, row.get(6)?))
    })?;
    let mut places = Places::new();
    for row in stored {
        let takes = |lane| catalog.sinks_of(lane).any(|(sink, _)| sink == row.sink);
        if !catalog.lanes.get(&row.lane).is_some_and(takes) {
            continue; // Of a sink that is gone.
        }
        let place = Place::new(row.checkpoint.offset, Some(row.checkpoint), row.note.map(Arc::from));
        places.insert((row.lane, row.sink), place);
    }
    for lane in catalog.lanes.values() {
        for (sink, _) in catalog.sinks_of(lane) {
            let place = places.entry((lane.id, sink)).or_insert_with(|| Place::new(lane.floor, None, None));
            place.pending_events = count_after(db, lane, place.confirmed)?;
        }
    }
    Ok(places)
}

/// Events of a lane after an offset.
pub(crate) fn count_after(db: &Connection, lane: &Lane, after: Offset) -> Result<u64, Error> {
    if after <= lane.floor {
        return Ok(lane.events);
    }
    if after >= lane.high_water {
        return Ok(0);
    }
    let ids = lane.segment_ids();
    let mut statement =
        db.prepare_cached("SELECT first, last, events FROM segment WHERE id >= ? AND id <= ? AND last > ?")?;
    let mut rows = statement.query([*ids.start(), *ids.end(), after.0])?;
    let mut count = 0;
    while let Some(row) = rows.next()? {
        let (first, last, events): (i64, i64, u32) = (row.get(0)?, row.get(1)?, row.get(2)?);
        // Exact where the offsets of the straddling segment have no gaps, and near enough for a gauge where they have.
        let events = u64::from(events);
        count += if after.0 < first { events } else { events.min(last.abs_diff(after.0)) };
    }
    Ok(count)
}

/// Writes the places that changed, and deletes what every sink has passed. True if there is more to delete.
pub(crate) fn save(txn: &mut Txn<'_>) -> Result<bool, Error> {
    let (dirty, delivered) = snapshot(&txn.shared.places());
    for row in &dirty {
        store(txn.db, row)?;
        dead_letter::forget_refusals(txn.db, row.sink, row.lane, row.checkpoint.offset)?;
        let (key, saved) = ((row.lane, row.sink), row.checkpoint);
        txn.on_commit(move |places| {
            if let Some(place) = places.get_mut(&key).filter(|place| place.checkpoint == Some(saved)) {
                (place.dirty, place.unsaved_bytes) = (false, 0);
            }
        });
    }
    let mut more = false;
    for (lane, delivered) in delivered {
        more |= retention::delete_delivered(txn, lane, delivered)?;
    }
    Ok(more)
}

/// What is to be written, and how far each partition may be deleted once it is: both of the same moment, for nothing may
/// be deleted that the file's own checkpoints have not passed.
fn snapshot(places: &Places) -> (Vec<CheckpointRow>, BTreeMap<i64, Offset>) {
    let (mut dirty, mut delivered) = (Vec::new(), BTreeMap::new());
    for ((lane, sink), place) in places {
        let least = delivered.entry(*lane).or_insert(place.confirmed);
        *least = place.confirmed.min(*least);
        if let Some(checkpoint) = place.checkpoint.filter(|_| place.dirty) {
            let note = place.note.as_deref().map(<[u8]>::to_vec);
            dirty.push(CheckpointRow { sink: *sink, lane: *lane, checkpoint, note });
        }
    }
    (dirty, delivered)
}

fn store(db: &Connection, row: &CheckpointRow) -> Result<(), Error> {
    db.prepare_cached(
        "INSERT OR REPLACE INTO checkpoint(sink, partition, generation, tag, offset, note, seal)
         VALUES (?, ?, ?, ?, ?, ?, ?)",
    )?
    .execute(params![
        row.sink,
        row.lane,
        row.checkpoint.generation.0.to_le_bytes(),
        row.checkpoint.tag.0 as i64,
        row.checkpoint.offset.0,
        row.note,
        row.seal()
    ])?;
    Ok(())
}

/// Writes a place's checkpoint within a transaction of its own: for a sink that begins, or resumes, somewhere else.
pub(crate) fn store_place(
    db: &Connection,
    (lane, sink): PlaceKey,
    checkpoint: Checkpoint,
    note: Option<Vec<u8>>,
) -> Result<(), Error> {
    store(db, &CheckpointRow { sink, lane, checkpoint, note })
}
