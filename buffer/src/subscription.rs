//! One sink's way through one partition: reading, confirming, refusing.

use std::{sync::Arc, time::Duration};

use crate::{
    Checkpoint, Error, Event, Generation, Offset, Partition, ReadLimits, Reader, Receipt, Refused, Tag, buffer,
    dead_letter,
    places::{Guard, Place},
    places_table::{count_after, store_place},
    shared::Shared,
};

/// One sink's place in one partition. Cheap to clone.
#[derive(Clone)]
pub struct Subscription {
    shared: Arc<Shared>,
    partition: Partition,
    sink: i64,
    name: Arc<str>,
}

/// Events that were read, pinned until they are dropped.
pub struct Delivery {
    /// The events with their offsets, in order. Empty: there is nothing there yet.
    pub events: Vec<(Offset, Event)>,
    /// Their bytes, as [`Event::size_bytes`] counts.
    pub size_bytes: usize,
    /// Keeps a policy from dropping them while nobody knows whether they were delivered.
    pub lease: Lease,
}

/// Pins events against drop-oldest and `max_age`. Drop it when their outcome is known: after they were confirmed, or
/// when they are known not to have been delivered.
pub struct Lease {
    shared: Arc<Shared>,
    key: (i64, i64),
    id: u64,
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(place) = self.shared.places().get_mut(&self.key) {
            place.unpin(self.id);
        }
        self.shared.room_made.notify(usize::MAX);
    }
}

impl Subscription {
    pub(crate) fn new(shared: Arc<Shared>, partition: Partition, sink: i64, name: &str) -> Result<Self, Error> {
        if !shared.places().contains_key(&(partition.id(), sink)) {
            return Err(Error::Unknown(format!(
                "sink {name:?} in partition {} of stream {:?}",
                partition.name(),
                partition.stream()
            )));
        }
        Ok(Self { shared, partition, sink, name: name.into() })
    }

    /// The sink's name.
    pub fn sink(&self) -> &str {
        &self.name
    }

    /// The partition.
    pub fn partition(&self) -> &Partition {
        &self.partition
    }

    /// How far this sink has confirmed the partition, as far as this file knows; `None` if it never has. Its generation
    /// is another than the file's where that was adopted since, where the sink was told to start at `now`, or where only a
    /// note was kept: then nothing of this generation was delivered, and delivery begins after its offset.
    pub fn checkpoint(&self) -> Option<Checkpoint> {
        self.place(|place| place.checkpoint).ok().flatten()
    }

    /// What the sink wanted kept with its checkpoint.
    pub fn note(&self) -> Option<Vec<u8>> {
        self.place(|place| place.note.as_deref().map(<[u8]>::to_vec)).ok().flatten()
    }

    /// The checkpoint that stands for an offset of this partition. `None` if no epoch of this file assigned it.
    pub fn checkpoint_at(&self, offset: Offset) -> Option<Checkpoint> {
        let catalog = self.shared.catalog();
        let tag = catalog.tag(self.partition.numbering(), offset)?;
        Some(Checkpoint { generation: catalog.generation, tag, offset })
    }

    /// Where delivery begins if nothing was ever delivered: right before the first event that is kept for this sink.
    pub fn beginning(&self) -> Offset {
        let floor = self.partition.lane().map_or(Offset::BEFORE_ALL, |lane| lane.floor);
        self.place(|place| place.confirmed).map_or(floor, |confirmed| confirmed.max(floor))
    }

    /// The range, as (after, through), of offsets that this sink would miss if it went on after `after`: they were
    /// deleted once it had confirmed them. `None` if all of it is here, or in the loss ledger. Blocking.
    pub fn missing_after(&self, after: Offset) -> Result<Option<(Offset, Offset)>, Error> {
        let floor = self.partition.lane()?.floor;
        Ok((after < floor && self.place(|place| place.confirmed)? > after).then_some((after, floor)))
    }

    /// Tells that the destination has nothing that the local checkpoint does not know of: delivery goes on after that,
    /// or at [`Subscription::beginning`].
    pub fn resume_here(&self) -> Result<(), Error> {
        self.place_mut(|place| place.guard = Guard::Lifted)
    }

    /// Tells where delivery goes on, once the destination has said that it has everything up to `after`. May be behind
    /// the local checkpoint, if all that follows is still here. Blocking.
    pub fn resume_after(&self, after: Offset) -> Result<(), Error> {
        // What a policy dropped after it does not count as confirmed: the destination would seem to have gone back.
        self.stand_at(after, self.checkpoint_at(after))
    }

    /// As [`Subscription::resume_after`], where the destination's checkpoint is still of the generation that this file
    /// had before it was adopted: it is kept as it is, until the first batch has replaced it there. Blocking.
    pub fn resume_at(&self, found: Checkpoint) -> Result<(), Error> {
        self.stand_at(found.offset, Some(found))
    }

    fn stand_at(&self, after: Offset, checkpoint: Option<Checkpoint>) -> Result<(), Error> {
        if let Some((after, through)) = self.missing_after(after)? {
            return Err(Error::Refused(format!("events after {} through {} are no longer here", after.0, through.0)));
        }
        if after == self.place(|place| place.confirmed)? {
            return self.resume_here();
        }
        let (key, lane) = (self.key(), self.partition.id());
        buffer::submit(&self.shared, move |txn| {
            let pending = count_after(txn.db, txn.known_lane(lane)?, after)?;
            let place = txn.shared.places().get(&key).map(|place| (place.confirmed, place.note.clone()));
            let (confirmed, note) = place.ok_or_else(|| Error::Unknown("such place of a sink any more".to_owned()))?;
            if after < txn.lane(lane).floor && confirmed > after {
                return Err(Error::Refused("the events after it were deleted meanwhile".to_owned()));
            }
            if let Some(checkpoint) = checkpoint {
                store_place(txn.db, key, checkpoint, note.as_deref().map(<[u8]>::to_vec))?;
            }
            txn.on_commit(move |places| {
                if let Some(place) = places.get_mut(&key) {
                    place.jump(after, checkpoint, pending);
                    place.guard = Guard::Lifted;
                }
            });
            Ok(())
        })
        .wait()?;
        self.shared.save(false);
        Ok(())
    }

    /// Reads the events after `after`, and pins them. Blocking.
    pub fn read(&self, reader: &mut Reader, after: Offset, limits: ReadLimits) -> Result<Delivery, Error> {
        let (events, lease) = self.read_and_pin(reader, after, limits)?;
        let size_bytes = events.iter().map(|(_, event)| event.size_bytes()).sum();
        if let (Some((first, _)), Some((last, _))) = (events.first(), events.last()) {
            let count = events.len() as u64;
            self.place_mut(|place| place.hand(*first, *last, count, size_bytes as u64))?;
        }
        Ok(Delivery { events, size_bytes, lease })
    }

    /// Looks once more at events that were read for delivery, or will be: nothing is noted of it. Blocking.
    pub fn read_again(
        &self,
        reader: &mut Reader,
        after: Offset,
        limits: ReadLimits,
    ) -> Result<Vec<(Offset, Event)>, Error> {
        self.read_and_pin(reader, after, limits).map(|(events, _)| events)
    }

    fn read_and_pin(
        &self,
        reader: &mut Reader,
        after: Offset,
        limits: ReadLimits,
    ) -> Result<(Vec<(Offset, Event)>, Lease), Error> {
        self.shared.undamaged()?;
        loop {
            let (lane, timeline) = {
                let catalog = self.shared.catalog();
                let lane = catalog.lanes.get(&self.partition.id()).cloned();
                (lane.ok_or_else(|| Error::Unknown("such partition any more".to_owned()))?, catalog.timeline.clone())
            };
            let Some(cuts) = lane.cuts.settled() else {
                // A transaction that takes events out is being committed.
                std::thread::sleep(Duration::from_millis(1));
                continue;
            };
            let read = reader.read(&lane, &timeline, after, limits);
            let through = read.as_ref().ok().and_then(|events| events.last()).map_or(after, |(offset, _)| *offset);
            // The writer looks at pins and begins a cut under one lock: either it sees this pin, or the cut is seen here.
            let id = self.shared.next_pin();
            let undisturbed = self.place_mut(|place| {
                place.pin(id, after, through);
                lane.cuts.settled() == Some(cuts)
            })?;
            let lease = Lease { shared: self.shared.clone(), key: self.key(), id };
            if !undisturbed {
                continue;
            }
            return Ok((self.shared.note_damage(read)?, lease));
        }
    }

    /// Confirms everything up to a checkpoint. In effect at once; written with the next transaction, within a second.
    /// A checkpoint that lags behind the destination's is harmless: after a crash the destination is asked.
    pub fn confirm(&self, checkpoint: Checkpoint, note: Option<Vec<u8>>) -> Result<(), Error> {
        self.shared.undamaged()?;
        let window = {
            let catalog = self.shared.catalog();
            catalog.sinks.get(&self.sink).map_or(0, |sink| sink.in_flight_bytes)
        };
        let unsaved = self.place_mut(|place| {
            assert!(checkpoint.offset >= place.confirmed, "Promise 2: a confirmation never goes back");
            place.confirm(checkpoint, note.map(Arc::from));
            place.unsaved_bytes
        })?;
        self.shared.save(unsaved > window);
        self.notify();
        Ok(())
    }

    /// Keeps a note of a sink that may have confirmed nothing yet. Written with the next transaction, within a second.
    pub fn keep(&self, note: Vec<u8>) -> Result<(), Error> {
        // Of no generation: nothing was delivered from here, and delivery begins where it would have begun.
        let nothing = || Checkpoint { generation: Generation(0), tag: Tag(0), offset: self.beginning() };
        self.confirm(self.checkpoint().unwrap_or_else(nothing), Some(note))
    }

    /// Records events as refused by this sink: durable dead letters, each once, however often it is told. Must come
    /// before any checkpoint passes them (Promise 2).
    pub fn refuse(&self, refused: Vec<(Offset, Refused)>) -> Receipt<()> {
        let (sink, lane) = (self.sink, self.partition.id());
        buffer::submit(&self.shared, move |txn| dead_letter::refuse(txn, sink, lane, &refused))
    }

    /// The recorded refusals with offsets after `after` up to `through`. Blocking.
    pub fn refused(&self, reader: &mut Reader, after: Offset, through: Offset) -> Result<Vec<Offset>, Error> {
        let found = dead_letter::refusals(&reader.db, self.sink, self.partition.id(), after, through);
        self.shared.note_damage(found)
    }

    /// The tag of each epoch that offsets after `after` up to `through` can come from, with the first offset it stands
    /// for.
    pub fn tags(&self, after: Offset, through: Offset) -> Vec<(Offset, Tag)> {
        let catalog = self.shared.catalog();
        match self.partition.numbering() {
            crate::Numbering::Assigned => catalog
                .epochs
                .range(after.epoch()..=through.epoch())
                .map(|(epoch, tag)| (Offset::assigned(*epoch, 0), *tag))
                .collect(),
            crate::Numbering::Shared { created } => vec![(Offset(0), Tag(created as u64))],
        }
    }

    fn key(&self) -> (i64, i64) {
        (self.partition.id(), self.sink)
    }

    fn notify(&self) {
        if let Ok(lane) = self.partition.lane() {
            lane.changed.notify(usize::MAX);
        }
    }

    fn place<T>(&self, look: impl FnOnce(&Place) -> T) -> Result<T, Error> {
        self.shared.places().get(&self.key()).map(look).ok_or_else(|| self.gone())
    }

    fn place_mut<T>(&self, change: impl FnOnce(&mut Place) -> T) -> Result<T, Error> {
        self.shared.places().get_mut(&self.key()).map(change).ok_or_else(|| self.gone())
    }

    fn gone(&self) -> Error {
        Error::Unknown(format!("such place of sink {:?} any more", &*self.name))
    }
}
