//! What a lane has delivered and the destination has not confirmed: which events are in flight, and what may be said of
//! them. What is in them stays in the buffer, so that much may be in flight in little memory.

use std::{collections::VecDeque, mem::size_of};

use forebay_buffer::{Lease, Offset};
use tokio::sync::OwnedSemaphorePermit;

use super::feed::shrink;
use crate::contract::Batch;

/// Batches in flight at most: those of a trickle are small, and would not fill a window of bytes.
const MAX_FLIGHTS: usize = 128;
/// What is kept of the batches in flight, at most: many lanes may wait for a destination, and leave room for the others.
const MAX_OUTLINE_BYTES: usize = 256 << 10;

/// Batches in flight, oldest first. A lease is kept until the outcome of its batch is known.
#[derive(Default)]
pub(super) struct Window {
    flights: VecDeque<Flight>,
}

/// A batch in flight.
struct Flight {
    /// The offsets of its events that are not confirmed.
    runs: Vec<Run>,
    /// Those of them that are recorded as refused, ascending.
    refused: Vec<Offset>,
    /// Bytes of the others.
    size_bytes: u64,
    /// Where the last of them stands upstream, if anybody is to be told.
    upstream: Option<String>,
    /// Both are kept for what dropping them does.
    _lease: Lease,
    _room: Option<OwnedSemaphorePermit>,
}

/// Offsets without a gap, which most batches have.
struct Run {
    first: Offset,
    last: Offset,
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
        let size_bytes: u64 = self.flights.iter().map(|flight| flight.size_bytes).sum();
        let outline_bytes: usize = self.flights.iter().map(Flight::outline_bytes).sum();
        let is_full = size_bytes >= window_bytes || outline_bytes >= MAX_OUTLINE_BYTES;
        !self.is_empty() && (is_full || self.flights.len() >= MAX_FLIGHTS)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.flights.is_empty()
    }

    /// Whether there is more than the last batch.
    pub(super) fn has_earlier(&self) -> bool {
        self.flights.len() > 1
    }

    /// A batch is on its way.
    pub(super) fn push(&mut self, batch: &Batch, lease: Lease, upstream: Option<String>) {
        let mut runs: Vec<Run> = Vec::new();
        for (offset, _) in &batch.events {
            match runs.last_mut() {
                Some(run) if run.last.0 + 1 == offset.0 => run.last = *offset,
                _ => runs.push(Run { first: *offset, last: *offset }),
            }
        }
        let size_bytes = batch.wanted().map(|(_, event)| event.size_bytes() as u64).sum();
        // A refusal is kept longer than an event that was dropped from the buffer.
        let refused = batch.skipped.iter().copied().filter(|offset| batch.holds(*offset)).collect();
        self.flights.push_back(Flight { runs, refused, size_bytes, upstream, _lease: lease, _room: None });
    }

    /// The sink has taken the last batch, for which there was `room` in memory, and keeps it there or not: what is kept
    /// here of it needs little.
    pub(super) fn taken(&mut self, mut room: OwnedSemaphorePermit, keeps: bool) {
        if let Some(flight) = self.flights.back_mut() {
            if !keeps {
                shrink(&mut room, flight.outline_bytes());
            }
            flight._room = Some(room);
        }
    }

    /// Something failed: the lane may stand still for long, and takes no room from others meanwhile. What became of the
    /// batches is unknown, and the leases are kept.
    pub(super) fn give_room(&mut self) {
        self.flights.iter_mut().for_each(|flight| flight._room = None);
    }

    /// The outcome of everything is known: the destination has what lies at or below `found`. Lets go of all of it.
    pub(super) fn resolve(&mut self, found: Option<Offset>) -> Settled {
        let settled = found.map(|found| self.confirm(found)).unwrap_or_default();
        self.flights.clear();
        settled
    }

    /// Whether the event at `offset` is in flight.
    pub(super) fn holds(&self, offset: Offset) -> bool {
        self.find(offset).is_some()
    }

    /// Where the event at `offset` stands upstream, if it is the last one of its batch and that is known.
    pub(super) fn upstream_offset(&self, offset: Offset) -> Option<&str> {
        let flight = &self.flights[self.find(offset)?];
        flight.upstream.as_deref().filter(|_| flight.last() == Some(offset))
    }

    /// Whether the event at `offset` may be refused now: it is in flight, and was not refused before.
    pub(super) fn is_refusable(&self, offset: Offset) -> bool {
        self.find(offset).is_some_and(|flight| self.flights[flight].refused.binary_search(&offset).is_err())
    }

    /// The event at `offset`, of so many bytes, is recorded as refused now.
    pub(super) fn refuse(&mut self, offset: Offset, size_bytes: usize) {
        let Some(flight) = self.find(offset) else { return };
        let flight = &mut self.flights[flight];
        if let Err(at) = flight.refused.binary_search(&offset) {
            flight.refused.insert(at, offset);
            flight.size_bytes = flight.size_bytes.saturating_sub(size_bytes as u64);
        }
    }

    /// Everything up to `confirmed` is at the destination: lets go of it.
    pub(super) fn confirm(&mut self, confirmed: Offset) -> Settled {
        let mut settled = Settled::default();
        while let Some(flight) = self.flights.front_mut() {
            let Settled { events, bytes } = flight.confirm(confirmed);
            settled.events += events;
            settled.bytes += bytes;
            if !flight.runs.is_empty() {
                break;
            }
            self.flights.pop_front();
        }
        settled
    }

    /// The batch that has the event at `offset`.
    fn find(&self, offset: Offset) -> Option<usize> {
        let flight = self.flights.partition_point(|flight| flight.last().is_some_and(|last| last < offset));
        let runs = &self.flights.get(flight)?.runs;
        let run = runs.get(runs.partition_point(|run| run.last < offset))?;
        (run.first <= offset).then_some(flight)
    }
}

impl Flight {
    fn last(&self) -> Option<Offset> {
        self.runs.last().map(|run| run.last)
    }

    /// How many of its events are neither confirmed nor refused.
    fn wanted(&self) -> u64 {
        let all: u64 = self.runs.iter().map(|run| run.last.0.abs_diff(run.first.0) + 1).sum();
        all - self.refused.len() as u64
    }

    /// Lets go of what lies at or below `confirmed`. Of a part the bytes are estimated, and what is left makes up for it.
    fn confirm(&mut self, confirmed: Offset) -> Settled {
        let before = self.wanted();
        self.runs.drain(..self.runs.partition_point(|run| run.last <= confirmed));
        if let Some(run) = self.runs.first_mut() {
            run.first = run.first.max(Offset(confirmed.0 + 1));
        }
        self.refused.drain(..self.refused.partition_point(|offset| *offset <= confirmed));
        let events = before - self.wanted();
        let bytes = if events == before { self.size_bytes } else { self.size_bytes * events / before };
        self.size_bytes -= bytes;
        Settled { events, bytes }
    }

    /// What is kept of it besides a flight's own size, which the number of flights bounds.
    fn outline_bytes(&self) -> usize {
        self.runs.len().saturating_sub(1) * size_of::<Run>() + self.refused.len() * size_of::<Offset>()
    }
}
