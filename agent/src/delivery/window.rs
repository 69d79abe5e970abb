//! What a lane has delivered and the destination has not confirmed: which events are in flight, and what may be said of
//! them. What is in them stays in the buffer, so that much may be in flight in little memory.

use std::{collections::VecDeque, mem::size_of};

use forebay_buffer::{Event, Lease, Offset};
use tokio::sync::OwnedSemaphorePermit;

use super::feed::shrink;
use crate::contract::Batch;

/// Batches in flight at most: those of a trickle are small, and would not fill a window of bytes.
const MAX_FLIGHTS: usize = 1024;

/// Batches in flight, oldest first. A lease is kept until the outcome of its batch is known.
#[derive(Default)]
pub(super) struct Window {
    flights: VecDeque<Flight>,
}

/// A batch in flight.
struct Flight {
    /// Those of its events that are not confirmed.
    events: Vec<Outline>,
    size_bytes: u64,
    /// Where the last of them stands upstream, if anybody is to be told.
    upstream: Option<String>,
    /// Both are kept for what dropping them does.
    _lease: Lease,
    _room: Option<OwnedSemaphorePermit>,
}

/// What has to be known of an event in flight.
struct Outline {
    offset: Offset,
    size_bytes: u32,
    is_refused: bool,
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
        let size_bytes: u64 =
            self.flights.iter().map(|flight| flight.size_bytes.max(flight.outline_bytes() as u64)).sum();
        !self.is_empty() && (size_bytes >= window_bytes || self.flights.len() >= MAX_FLIGHTS)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.flights.is_empty()
    }

    /// A batch is on its way.
    pub(super) fn push(&mut self, batch: &Batch, lease: Lease, upstream: Option<String>) {
        let outline = |(offset, event): &(Offset, Event)| Outline {
            offset: *offset,
            size_bytes: u32::try_from(event.size_bytes()).unwrap_or(u32::MAX),
            is_refused: batch.skipped.binary_search(offset).is_ok(),
        };
        let events: Vec<_> = batch.events.iter().map(outline).collect();
        let size_bytes = events.iter().map(|event| u64::from(event.size_bytes)).sum();
        self.flights.push_back(Flight { events, size_bytes, upstream, _lease: lease, _room: None });
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
        let (flight, at) = self.find(offset)?;
        let flight = &self.flights[flight];
        flight.upstream.as_deref().filter(|_| at + 1 == flight.events.len())
    }

    /// Whether the event at `offset` may be refused now: it is in flight, and was not refused before.
    pub(super) fn is_refusable(&self, offset: Offset) -> bool {
        self.find(offset).is_some_and(|(flight, at)| !self.flights[flight].events[at].is_refused)
    }

    /// The event at `offset` is recorded as refused now.
    pub(super) fn refuse(&mut self, offset: Offset) {
        if let Some((flight, at)) = self.find(offset) {
            self.flights[flight].events[at].is_refused = true;
        }
    }

    /// Everything up to `confirmed` is at the destination: lets go of it.
    pub(super) fn confirm(&mut self, confirmed: Offset) -> Settled {
        let mut settled = Settled::default();
        while let Some(flight) = self.flights.front_mut() {
            let passed = flight.events.partition_point(|event| event.offset <= confirmed);
            for event in flight.events.drain(..passed) {
                let size_bytes = u64::from(event.size_bytes);
                flight.size_bytes -= size_bytes;
                if !event.is_refused {
                    settled.events += 1;
                    settled.bytes += size_bytes;
                }
            }
            if !flight.events.is_empty() {
                break;
            }
            self.flights.pop_front();
        }
        settled
    }

    /// The batch that has the event at `offset`, and its place there.
    fn find(&self, offset: Offset) -> Option<(usize, usize)> {
        let flight =
            self.flights.partition_point(|flight| flight.events.last().is_some_and(|last| last.offset < offset));
        let at = self.flights.get(flight)?.events.binary_search_by_key(&offset, |event| event.offset).ok()?;
        Some((flight, at))
    }
}

impl Flight {
    fn outline_bytes(&self) -> usize {
        self.events.len() * size_of::<Outline>()
    }
}
