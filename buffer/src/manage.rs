//! Declaring, renaming and discarding streams and sinks; opening partitions; adopting a file.

use std::collections::BTreeSet;

use crate::{
    Checkpoint, Error, Generation, Numbering, Offset, Start, StreamLimits,
    catalog::{Lane, Sink, Stream, damaged, read_meta, segment_ids, store_lane, store_sink, store_stream, write_meta},
    identity, ledger,
    open::fill_random,
    places::Place,
    places_table::{count_after, store_place},
    retention::undelivered,
    schema::MAX_PARTITIONS,
    txn::Txn,
};

fn unknown(kind: &str, name: &str) -> Error {
    Error::Unknown(format!("{kind} {name:?}"))
}

/// An id that no row of a table ever had, so that nothing that still names a row that is gone can be taken to mean it.
fn new_id(txn: &Txn<'_>, table: &str) -> Result<i64, Error> {
    let key = format!("last_{table}");
    let last: i64 = match read_meta(txn.db, &key)?.map(<[u8; 8]>::try_from) {
        Some(bytes) => i64::from_le_bytes(bytes.map_err(|_| damaged("an id in meta is malformed"))?),
        None => 0,
    };
    let highest: i64 = txn.db.query_row(&format!("SELECT coalesce(max(id), 0) FROM {table}"), [], |row| row.get(0))?;
    let id = last.max(highest) + 1;
    write_meta(txn.db, &key, &id.to_le_bytes())?;
    Ok(id)
}

pub(crate) fn declare_stream(txn: &mut Txn<'_>, name: &str, limits: StreamLimits) -> Result<(), Error> {
    let known = txn.catalog.stream_named(name).map(|(id, stream)| (id, stream.limits));
    if known.is_some_and(|(_, known)| known == limits) {
        return Ok(());
    }
    let id = known.map_or_else(|| new_id(txn, "stream"), |(id, _)| Ok(id))?;
    let stream = Stream { name: name.into(), limits };
    store_stream(txn.db, id, &stream)?;
    txn.change_catalog().streams.insert(id, stream);
    Ok(())
}

pub(crate) fn declare_sink(
    txn: &mut Txn<'_>,
    name: &str,
    streams: &[String],
    start: Start,
    in_flight_bytes: u64,
) -> Result<(), Error> {
    let inputs = streams
        .iter()
        .map(|stream| Ok(txn.catalog.stream_named(stream).ok_or_else(|| unknown("stream", stream))?.0))
        .collect::<Result<BTreeSet<i64>, Error>>()?;
    let known = txn.catalog.sink_named(name).map(|(id, sink)| (id, sink.clone()));
    let id = known.as_ref().map_or_else(|| new_id(txn, "sink"), |(id, _)| Ok(*id))?;
    let before = known.map(|(_, sink)| sink);
    let new_inputs: Vec<i64> = inputs
        .iter()
        .filter(|input| before.as_ref().is_none_or(|sink| !sink.inputs.contains(input)))
        .copied()
        .collect();
    if new_inputs.is_empty()
        && before.as_ref().is_some_and(|sink| sink.inputs == inputs && sink.in_flight_bytes == in_flight_bytes)
    {
        return Ok(());
    }
    let dropped: Vec<i64> = before.iter().flat_map(|sink| sink.inputs.difference(&inputs)).copied().collect();
    for stream in &dropped {
        let pending: u64 = pending_of(txn, id, *stream);
        if pending > 0 {
            let stream = &txn.catalog.streams[stream].name;
            return Err(Error::Refused(format!(
                "sink {name:?} has {pending} events of stream {stream:?} to deliver, and no longer takes it: leave the \
                 stream among its inputs until they are delivered, or discard the sink"
            )));
        }
    }
    let sink = Sink { name: name.into(), in_flight_bytes, inputs };
    store_sink(txn.db, id, &sink)?;
    txn.change_catalog().sinks.insert(id, sink);
    for stream in dropped {
        forget_places(txn, id, stream)?;
    }
    for stream in new_inputs {
        let lanes: Vec<Lane> = txn.catalog.lanes_of(stream).cloned().collect();
        for lane in lanes.iter().filter(|lane| lane.for_sink.is_none_or(|only| only == id)) {
            add_place(txn, lane, id, start)?;
        }
    }
    Ok(())
}

/// Gives a sink its place in a lane that exists already.
fn add_place(txn: &mut Txn<'_>, lane: &Lane, sink: i64, start: Start) -> Result<(), Error> {
    let mut place = match start {
        Start::Oldest => Place::fresh(lane.floor, None),
        Start::Now => {
            // Of no generation: nothing was delivered, and yet it does not begin at the oldest.
            let checkpoint = Checkpoint { generation: Generation(0), tag: crate::Tag(0), offset: lane.high_water };
            store_place(txn.db, (lane.id, sink), checkpoint, None)?;
            Place::fresh(lane.high_water, Some(checkpoint))
        }
    };
    place.pending_events = count_after(txn.db, lane, place.confirmed)?;
    let key = (lane.id, sink);
    txn.on_commit(move |places| {
        places.insert(key, place);
    });
    Ok(())
}

/// Events of a stream that a sink has not confirmed.
fn pending_of(txn: &Txn<'_>, sink: i64, stream: i64) -> u64 {
    let places = txn.shared.places();
    let pending = |lane: &Lane| places.get(&(lane.id, sink)).map_or(0, |place| place.pending_events);
    txn.catalog.lanes_of(stream).map(pending).sum()
}

fn forget_places(txn: &mut Txn<'_>, sink: i64, stream: i64) -> Result<(), Error> {
    let lanes: Vec<i64> = txn.catalog.lanes_of(stream).map(|lane| lane.id).collect();
    for lane in lanes {
        txn.db.execute("DELETE FROM checkpoint WHERE sink = ? AND partition = ?", [sink, lane])?;
        txn.db.execute("DELETE FROM refusal WHERE sink = ? AND partition = ?", [sink, lane])?;
        txn.on_commit(move |places| {
            places.remove(&(lane, sink));
        });
    }
    Ok(())
}

pub(crate) fn rename_stream(txn: &mut Txn<'_>, from: &str, to: &str) -> Result<(), Error> {
    if txn.catalog.stream_named(to).is_some() {
        return Err(Error::Refused(format!("there already is a stream {to:?}")));
    }
    let (id, stream) = txn.catalog.stream_named(from).ok_or_else(|| unknown("stream", from))?;
    let stream = Stream { name: to.into(), ..stream.clone() };
    store_stream(txn.db, id, &stream)?;
    txn.change_catalog().streams.insert(id, stream);
    Ok(())
}

pub(crate) fn rename_sink(txn: &mut Txn<'_>, from: &str, to: &str) -> Result<(), Error> {
    if txn.catalog.sink_named(to).is_some() {
        return Err(Error::Refused(format!("there already is a sink {to:?}")));
    }
    let (id, sink) = txn.catalog.sink_named(from).ok_or_else(|| unknown("sink", from))?;
    let sink = Sink { name: to.into(), ..sink.clone() };
    store_sink(txn.db, id, &sink)?;
    txn.change_catalog().sinks.insert(id, sink);
    Ok(())
}

/// Deletes a stream. What a sink has not confirmed of it goes into the ledger.
pub(crate) fn discard_stream(txn: &mut Txn<'_>, name: &str) -> Result<(), Error> {
    let (stream, _) = txn.catalog.stream_named(name).ok_or_else(|| unknown("stream", name))?;
    let lanes: Vec<Lane> = txn.catalog.lanes_of(stream).cloned().collect();
    let ids: Vec<String> = lanes.iter().map(|lane| lane.id.to_string()).collect();
    let sql = format!("SELECT count(*) FROM dead_letter WHERE partition IN ({})", ids.join(","));
    let letters: i64 = txn.db.query_row(&sql, [], |row| row.get(0))?;
    if letters > 0 {
        return Err(Error::Refused(format!("stream {name:?} has {letters} dead letters: retry or discard them first")));
    }
    for lane in &lanes {
        let sinks: Vec<i64> = txn.catalog.sinks_of(lane).map(|(id, _)| id).collect();
        for sink in &sinks {
            account_pending(txn, lane, *sink)?;
        }
        if sinks.is_empty() && lane.events > 0 {
            let all = undelivered(txn, lane.id, lane.floor)?;
            ledger::record(txn, None, lane.id, all, ledger::DISCARDED)?;
        }
        remove_lane(txn, lane)?;
    }
    txn.db.execute("DELETE FROM stream WHERE id = ?", [stream])?;
    txn.db.execute("DELETE FROM input WHERE stream = ?", [stream])?;
    let catalog = txn.change_catalog();
    catalog.streams.remove(&stream);
    for sink in catalog.sinks.values_mut() {
        sink.inputs.remove(&stream);
    }
    txn.made_room = true;
    Ok(())
}

/// Forgets a sink. What it has not confirmed goes into the ledger; its dead letters stay.
pub(crate) fn discard_sink(txn: &mut Txn<'_>, name: &str) -> Result<(), Error> {
    let (id, sink) = txn.catalog.sink_named(name).ok_or_else(|| unknown("sink", name))?;
    let inputs = sink.inputs.clone();
    for stream in &inputs {
        let lanes: Vec<Lane> = txn.catalog.lanes_of(*stream).cloned().collect();
        for lane in lanes.iter().filter(|lane| lane.for_sink.is_none_or(|only| only == id)) {
            account_pending(txn, lane, id)?;
            if lane.for_sink == Some(id) {
                remove_lane(txn, lane)?;
            }
        }
        forget_places(txn, id, *stream)?;
    }
    txn.db.execute("DELETE FROM sink WHERE id = ?", [id])?;
    txn.db.execute("DELETE FROM input WHERE sink = ?", [id])?;
    txn.change_catalog().sinks.remove(&id);
    Ok(())
}

/// Writes down what a sink has not confirmed of a lane that it will not get any more.
fn account_pending(txn: &mut Txn<'_>, lane: &Lane, sink: i64) -> Result<(), Error> {
    let confirmed = txn.shared.places().get(&(lane.id, sink)).map(|place| place.confirmed);
    let Some(confirmed) = confirmed else { return Ok(()) };
    let rest = undelivered(txn, lane.id, confirmed)?;
    if rest.events == 0 {
        return Ok(());
    }
    ledger::record(txn, Some(sink), lane.id, rest, ledger::DISCARDED)
}

/// Deletes a partition with all that is in it, accounted for by now.
fn remove_lane(txn: &mut Txn<'_>, lane: &Lane) -> Result<(), Error> {
    let ids = segment_ids(lane.id);
    txn.db.execute("DELETE FROM segment WHERE id >= ? AND id <= ?", [*ids.start(), *ids.end()])?;
    for table in ["checkpoint", "refusal"] {
        txn.db.execute(&format!("DELETE FROM {table} WHERE partition = ?"), [lane.id])?;
    }
    identity::forget(txn.db, lane.id)?;
    txn.db.execute("DELETE FROM partition WHERE id = ?", [lane.id])?;
    let id = lane.id;
    txn.on_commit(move |places| places.retain(|(lane, _), _| *lane != id));
    let used = if lane.high_water.epoch() == txn.catalog.epoch() { lane.high_water.counter() + 1 } else { 0 };
    let catalog = txn.change_catalog();
    catalog.lanes.remove(&id);
    if lane.numbering == Numbering::Assigned {
        catalog.used_counters = catalog.used_counters.max(used);
    }
    txn.made_room = true;
    Ok(())
}

/// Opens a partition, or creates it.
pub(crate) fn open_lane(
    txn: &mut Txn<'_>,
    stream: i64,
    name: &str,
    numbering: Numbering,
    for_sink: Option<i64>,
) -> Result<i64, Error> {
    let same = |lane: &&Lane| &*lane.name == name && lane.numbering == numbering && lane.for_sink == for_sink;
    if let Some(lane) = txn.catalog.lanes_of(stream).find(same) {
        return Ok(lane.id);
    }
    let mixed = txn.catalog.lanes_of(stream).any(|lane| {
        &*lane.name == name
            && lane.for_sink == for_sink
            && (lane.numbering == Numbering::Assigned) != (numbering == Numbering::Assigned)
    });
    if mixed {
        return Err(Error::Refused(format!("partition {name:?} numbers its events in another way")));
    }
    let id = new_id(txn, "partition")?;
    if id > MAX_PARTITIONS {
        return Err(Error::Refused(format!("the file has {MAX_PARTITIONS} partitions, and takes no more")));
    }
    let lane = Lane::new(id, stream, name, numbering, for_sink);
    store_lane(txn.db, &lane)?;
    let sinks: Vec<i64> = txn.catalog.sinks_of(&lane).map(|(id, _)| id).collect();
    txn.change_catalog().lanes.insert(id, lane);
    txn.on_commit(move |places| {
        for sink in sinks {
            places.insert((id, sink), Place::fresh(Offset::BEFORE_ALL, None));
        }
    });
    Ok(id)
}

/// Gives the file another generation: what is here goes out as if it never had.
pub(crate) fn adopt(txn: &mut Txn<'_>) -> Result<Generation, Error> {
    let mut bytes = [0; 16];
    fill_random(&mut bytes);
    write_meta(txn.db, "generation", &bytes)?;
    let generation = Generation(u128::from_le_bytes(bytes));
    txn.change_catalog().generation = generation;
    Ok(generation)
}
