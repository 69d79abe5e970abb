//! Where each sink stands in each partition, and what it has in flight.
//!
//! Handles change places at once, in memory; the writer thread makes them durable with its next transaction. A local
//! checkpoint that lags is harmless: the destination is right when they differ (Promise 2).

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use crate::{Checkpoint, Offset};

/// A partition and a sink.
pub(crate) type PlaceKey = (i64, i64);

/// What a sink may have delivered before the last crash without its local checkpoint showing it.
///
/// Until the destination has said what it has, the events that may be there are not dropped by a policy: the ledger could
/// not say truthfully whether they are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Guard {
    /// Not looked at yet: how far it reaches is found when something is to be dropped.
    Unmeasured,
    /// Events up to here may be at the destination.
    Until(Offset),
    /// The destination has answered.
    Lifted,
}

/// Events that were read for delivery and whose outcome is not known.
#[derive(Debug, Clone, Copy)]
struct Pin {
    id: u64,
    after: Offset,
    through: Offset,
}

/// A batch that was read and is not confirmed: what counting down needs to know of it.
#[derive(Debug, Clone, Copy)]
struct Handed {
    first: Offset,
    last: Offset,
    events: u64,
    size: u64,
}

/// One sink's place in one partition.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// All up to here is confirmed, or was never meant for this sink.
    pub(crate) confirmed: Offset,
    pub(crate) checkpoint: Option<Checkpoint>,
    pub(crate) note: Option<Arc<[u8]>>,
    /// Whether the file still says something else.
    pub(crate) dirty: bool,
    /// Bytes of events confirmed since the file was told.
    pub(crate) unsaved_bytes: u64,
    pub(crate) guard: Guard,
    /// Events after `confirmed`.
    pub(crate) pending_events: u64,
    pins: Vec<Pin>,
    handed: VecDeque<Handed>,
}

impl Place {
    pub(crate) fn new(confirmed: Offset, checkpoint: Option<Checkpoint>, note: Option<Arc<[u8]>>) -> Self {
        Self {
            confirmed,
            checkpoint,
            note,
            dirty: false,
            unsaved_bytes: 0,
            guard: Guard::Unmeasured,
            pending_events: 0,
            pins: Vec::new(),
            handed: VecDeque::new(),
        }
    }

    /// A place to which nothing can have been delivered yet.
    pub(crate) fn fresh(confirmed: Offset, checkpoint: Option<Checkpoint>) -> Self {
        Self { guard: Guard::Lifted, ..Self::new(confirmed, checkpoint, None) }
    }

    /// Whether events from `first` to `last` may be on their way, or there.
    pub(crate) fn holds(&self, first: Offset, last: Offset) -> bool {
        let guarded = match self.guard {
            Guard::Lifted => false,
            Guard::Until(through) => first <= through,
            Guard::Unmeasured => true,
        };
        (guarded && last > self.confirmed) || self.pins.iter().any(|pin| first <= pin.through && last > pin.after)
    }

    pub(crate) fn pin(&mut self, id: u64, after: Offset, through: Offset) {
        self.pins.push(Pin { id, after, through });
    }

    pub(crate) fn unpin(&mut self, id: u64) {
        self.pins.retain(|pin| pin.id != id);
    }

    pub(crate) fn is_pinned(&self) -> bool {
        !self.pins.is_empty()
    }

    /// Notes that a batch was read for delivery. Reading it again replaces what was noted of it before.
    pub(crate) fn hand(&mut self, first: Offset, last: Offset, events: u64, size: u64) {
        while self.handed.back().is_some_and(|batch| batch.last >= first) {
            self.handed.pop_back();
        }
        self.handed.push_back(Handed { first, last, events, size });
    }

    /// Moves forward. What is confirmed no longer counts as pending.
    pub(crate) fn confirm(&mut self, checkpoint: Checkpoint, note: Option<Arc<[u8]>>) {
        self.confirmed = checkpoint.offset;
        self.checkpoint = Some(checkpoint);
        if note.is_some() {
            self.note = note;
        }
        self.dirty = true;
        while let Some(batch) = self.handed.front_mut() {
            if batch.first > checkpoint.offset {
                break;
            }
            let whole = batch.last <= checkpoint.offset;
            let part = ((checkpoint.offset.0 - batch.first.0 + 1) as u64).min(batch.events);
            let passed = if whole { batch.events } else { part };
            let size = if whole { batch.size } else { batch.size * passed / batch.events.max(1) };
            self.pending_events = self.pending_events.saturating_sub(passed);
            self.unsaved_bytes += size;
            if whole {
                self.handed.pop_front();
            } else {
                batch.events -= passed;
                batch.size -= size;
                batch.first = Offset(checkpoint.offset.0 + 1);
                break;
            }
        }
    }

    /// Events from `first` on were taken out by a policy: what was handed out of them is not coming.
    pub(crate) fn lose(&mut self, first: Offset, events: u64) {
        self.pending_events = self.pending_events.saturating_sub(events);
        self.handed.retain(|batch| batch.last < first);
    }

    /// Stands somewhere else from now on: the outcome of a resume, or of a take-back.
    pub(crate) fn jump(&mut self, confirmed: Offset, checkpoint: Option<Checkpoint>, pending_events: u64) {
        self.confirmed = confirmed;
        self.checkpoint = checkpoint;
        self.pending_events = pending_events;
        self.handed.clear();
        self.dirty = true;
    }
}

/// Every place of the file.
pub(crate) type Places = BTreeMap<PlaceKey, Place>;

/// The places of one partition, for the sinks that get what is in it.
pub(crate) fn of_lane(places: &Places, lane: i64) -> impl Iterator<Item = (i64, &Place)> {
    places.range((lane, i64::MIN)..=(lane, i64::MAX)).map(|((_, sink), place)| (*sink, place))
}

/// How far every sink of a partition has confirmed it: what lies at or below may be deleted. `None` where it has no sink.
pub(crate) fn delivered(places: &Places, lane: i64) -> Option<Offset> {
    of_lane(places, lane).map(|(_, place)| place.confirmed).min()
}
