//! What a lane has delivered and the destination has not confirmed: the events in flight, and what may be said of them.

use std::{collections::VecDeque, sync::Arc};

use forebay_buffer::{Checkpoint, Event, Lease, Offset};
use tokio::sync::OwnedSemaphorePermit;

use crate::contract::{Batch, Refusal};

/// Batches in flight at most: those of a trickle are small, and would not fill a window of bytes.
const MAX_FLIGHTS: usize = 1024;

/// Batches in flight, oldest first. A lease is kept until the outcome of its batch is known.
#[derive(Default)]
pub(super) struct Window {
    flights: VecDeque<Flight>,
}

struct Flight {
    /// `None` once a failure made the outcome unknown: the events will be read again, but the lease must stay.
    batch: Option<Arc<Batch>>,
    /// Offsets and sizes of the events of which sight was lost.
    lost_sight_of: Vec<(Offset, u64)>,
    size_bytes: usize,
    /// Both are kept for what dropping them does.
    _lease: Lease,
    _room: Option<OwnedSemaphorePermit>,
}

/// A batch as it was read, before it is anywhere.
pub(super) struct Loaded {
    pub(super) batch: Arc<Batch>,
    pub(super) size_bytes: usize,
    pub(super) lease: Lease,
    pub(super) room: OwnedSemaphorePermit,
}

/// What a confirmation has settled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Settled {
    pub(super) events: u64,
    pub(super) bytes: u64,
}

impl Window {
    /// Whether nothing more may be delivered before something is confirmed.
    pub(super) fn is_full(&self, window_bytes: u64) -> bool {
        let size_bytes: usize = self.flights.iter().map(|flight| flight.size_bytes).sum();
        !self.is_empty() && (size_bytes as u64 >= window_bytes || self.flights.len() >= MAX_FLIGHTS)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.flights.is_empty()
    }

    /// A batch is on its way.
    pub(super) fn push(&mut self, loaded: Loaded) {
        let Loaded { batch, size_bytes, lease, room } = loaded;
        self.flights.push_back(Flight {
            batch: Some(batch),
            lost_sight_of: Vec::new(),
            size_bytes,
            _lease: lease,
            _room: Some(room),
        });
    }

    /// Something failed, and what became of the batches is unknown: lets go of the events, and keeps the leases.
    pub(super) fn lose_sight(&mut self) {
        for flight in &mut self.flights {
            if let Some(batch) = flight.batch.take() {
                flight.lost_sight_of =
                    batch.wanted().map(|(offset, event)| (*offset, event.size_bytes() as u64)).collect();
            }
            flight._room = None;
        }
    }

    /// The outcome of everything is known: the destination has what lies at or below `found`. Lets go of all of it.
    pub(super) fn resolve(&mut self, found: Option<Offset>) -> Settled {
        let mut settled = Settled::default();
        for (offset, size_bytes) in self.flights.drain(..).flat_map(|flight| flight.lost_sight_of) {
            if found.is_some_and(|found| offset <= found) {
                settled.events += 1;
                settled.bytes += size_bytes;
            }
        }
        settled
    }

    /// The event of a refusal that may be made now: in flight, and not refused before.
    pub(super) fn refusable(&self, refusal: &Refusal) -> Option<&Event> {
        let batch = self.batch_of(refusal.offset)?;
        let at = batch.events.binary_search_by_key(&refusal.offset, |(offset, _)| *offset).ok()?;
        batch.skipped.binary_search(&refusal.offset).is_err().then(|| &batch.events[at].1)
    }

    /// These are recorded as refused now.
    pub(super) fn skip(&mut self, refused: impl Iterator<Item = Offset>) {
        for offset in refused {
            let mut batches = self.flights.iter_mut().filter_map(|flight| flight.batch.as_mut());
            if let Some(batch) = batches.find(|batch| batch.holds(offset))
                && let Err(at) = batch.skipped.binary_search(&offset)
            {
                Arc::make_mut(batch).skipped.insert(at, offset);
            }
        }
    }

    /// Whether the destination may say that it has come to `checkpoint`: one of the events in flight, under its own tag.
    pub(super) fn admits(&self, checkpoint: Checkpoint) -> bool {
        self.batch_of(checkpoint.offset)
            .is_some_and(|batch| batch.holds(checkpoint.offset) && batch.checkpoint_at(checkpoint.offset) == checkpoint)
    }

    /// Everything up to `confirmed` is at the destination: lets go of it.
    pub(super) fn confirm(&mut self, confirmed: Offset) -> Settled {
        let mut settled = Settled::default();
        while let Some(flight) = self.flights.front_mut() {
            let Some(batch) = &mut flight.batch else { break };
            let passed = batch.events.partition_point(|(offset, _)| *offset <= confirmed);
            for (_, event) in batch.wanted().take_while(|(offset, _)| *offset <= confirmed) {
                settled.events += 1;
                settled.bytes += event.size_bytes() as u64;
            }
            if passed < batch.events.len() {
                if passed > 0 {
                    flight.size_bytes = batch.events[passed..].iter().map(|(_, event)| event.size_bytes()).sum();
                    *batch = Arc::new(batch.after(confirmed));
                }
                break;
            }
            self.flights.pop_front();
        }
        settled
    }

    /// The last batch, if it is still in flight.
    pub(super) fn last(&self) -> Option<&Arc<Batch>> {
        self.flights.back().and_then(|flight| flight.batch.as_ref())
    }

    fn batch_of(&self, offset: Offset) -> Option<&Arc<Batch>> {
        self.flights.iter().filter_map(|flight| flight.batch.as_ref()).find(|batch| batch.through.offset >= offset)
    }
}

impl Batch {
    fn holds(&self, offset: Offset) -> bool {
        self.events.binary_search_by_key(&offset, |(held, _)| *held).is_ok()
    }

    /// What comes after `confirmed`, one of its own events, with that as what the destination has.
    fn after(&self, confirmed: Offset) -> Self {
        let passed = self.events.partition_point(|(offset, _)| *offset <= confirmed);
        Self {
            events: self.events[passed..].to_vec(),
            skipped: self.skipped.iter().filter(|offset| **offset > confirmed).copied().collect(),
            expected: Some(self.checkpoint_at(confirmed)),
            through: self.through,
            tags: self.tags.clone(),
        }
    }
}
