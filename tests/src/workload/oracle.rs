//! The ledger of obligations, kept outside of the buffer: what was acknowledged to whom, what each destination holds, and
//! what the buffer may or may not have done when the power went.

use std::collections::{BTreeMap, BTreeSet};

use forebay_buffer::{self as buffer, Event, Generation, Numbering, Offset, Refused, Timestamp, Value};

use super::plan::Append;
use crate::random::Random;

/// The stream with assigned offsets that holds producers back.
pub(super) const LINE: &str = "line";
/// The stream with shared offsets and a position with each batch.
pub(super) const HUB: &str = "hub";
/// The stream that drops its oldest events.
pub(super) const RING: &str = "ring";

/// Events that a partition of [`LINE`] knows again; each is known by its serial.
pub(super) const WINDOW: usize = 20;

/// The sinks; each takes every stream.
pub(super) const SINKS: [&str; 2] = ["lake", "panel"];

/// A partition that every run has.
pub(super) struct Given {
    pub(super) stream: &'static str,
    pub(super) partition: &'static str,
    pub(super) numbering: Numbering,
}

/// These partitions; the ring comes last. Retry partitions come with the first dead letter that is retried.
pub(super) const LANES: [Given; 4] = [
    Given { stream: LINE, partition: "0", numbering: Numbering::Assigned },
    Given { stream: LINE, partition: "1", numbering: Numbering::Assigned },
    Given { stream: HUB, partition: "0", numbering: Numbering::Shared { created: 1_700_000_000_000_000 } },
    Given { stream: RING, partition: "0", numbering: Numbering::Assigned },
];

/// An event's number in the whole run; it stands at the beginning of its body.
pub(super) type Serial = u64;

/// A partition, as the outside knows it.
#[derive(Debug, Clone)]
pub(super) struct Lane {
    pub(super) stream: String,
    pub(super) partition: String,
    pub(super) numbering: Numbering,
    /// For a retry partition: the only sink that gets it.
    pub(super) only: Option<usize>,
    /// In the order of the appends.
    pub(super) batches: Vec<Batch>,
    /// Where each event stands, once that is known.
    pub(super) offsets: BTreeMap<Serial, Offset>,
    pub(super) next_shared: i64,
    /// Whether the last [`WINDOW`] of its events are known again.
    pub(super) remembers: bool,
}

/// What was appended at once.
#[derive(Debug, Clone)]
pub(super) struct Batch {
    pub(super) serials: Vec<Serial>,
    pub(super) refused: Vec<Serial>,
    pub(super) position: Option<Vec<u8>>,
    /// Whether the receipt came. Without it, the batch is there whole or not at all.
    pub(super) acknowledged: bool,
}

/// What one destination knows of one partition.
#[derive(Debug, Clone, Default)]
pub(super) struct Place {
    /// What it has committed, in order.
    pub(super) delivered: Vec<Serial>,
    /// How far: its own checkpoint, in the same transaction as the events.
    pub(super) through: Option<Offset>,
    /// What it has refused, and whether the refusal is known to be on disk.
    pub(super) refused: BTreeMap<Serial, bool>,
}

/// A dead letter that should be in the file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct DeadLetter {
    pub(super) sink: Option<usize>,
    pub(super) lane: usize,
    pub(super) serial: Serial,
}

/// Dead letters that were being retried or discarded when the power went.
#[derive(Debug, Clone)]
pub(super) struct Leaving {
    pub(super) letters: Vec<(i64, DeadLetter)>,
    pub(super) retried: bool,
}

/// Everything that the outside knows.
#[derive(Debug, Clone, Default)]
pub(super) struct Oracle {
    pub(super) generation: Option<Generation>,
    pub(super) lanes: Vec<Lane>,
    pub(super) places: BTreeMap<(usize, usize), Place>,
    pub(super) events: BTreeMap<Serial, Event>,
    pub(super) dead_letters: BTreeSet<DeadLetter>,
    pub(super) leaving: Option<Leaving>,
    /// The epoch of the last acknowledged append of any opening before this one.
    pub(super) earlier_epoch: Option<u32>,
    pub(super) latest_epoch: Option<u32>,
    /// Whether the last opening ended with a clean close.
    pub(super) closed_cleanly: bool,
    /// Whether an append may have failed for itself, so that one queued behind it was written all the same.
    pub(super) expects_gaps: bool,
}

impl Oracle {
    pub(super) fn new() -> Self {
        let lanes = LANES.iter().map(|given| Lane::new(given.stream, given.partition, given.numbering, None));
        Self { lanes: lanes.collect(), ..Self::default() }
    }

    /// The sinks that get a lane.
    pub(super) fn sinks_of(&self, lane: usize) -> impl Iterator<Item = usize> + use<> {
        let only = self.lanes[lane].only;
        (0..SINKS.len()).filter(move |sink| only.is_none_or(|only| only == *sink))
    }

    pub(super) fn place(&mut self, sink: usize, lane: usize) -> &mut Place {
        self.places.entry((sink, lane)).or_default()
    }

    /// The lane that a sink's retried dead letters of a stream go to; it is noted here when first asked for.
    pub(super) fn retry_lane(&mut self, stream: &str, sink: usize) -> usize {
        let found = self.lanes.iter().position(|lane| lane.stream == stream && lane.only == Some(sink));
        found.unwrap_or_else(|| {
            self.lanes.push(Lane::new(stream, "retry", Numbering::Assigned, Some(sink)));
            self.lanes.len() - 1
        })
    }

    /// Makes the batch of an append, and notes it as not acknowledged yet. The number is its own.
    pub(super) fn attempt(&mut self, append: &Append) -> (Serial, buffer::Batch) {
        let serials: Vec<Serial> = append.events.iter().map(|seed| self.make(*seed)).collect();
        let refused: Vec<Serial> = if append.refuses_one { vec![self.make(append.events[0] ^ 1)] } else { Vec::new() };
        let position = append.has_position.then(|| format!("after {:?}", serials.last()).into_bytes());
        let lane = &mut self.lanes[append.lane];
        let mut offsets = Vec::new();
        if lane.numbering != Numbering::Assigned {
            for (serial, seed) in serials.iter().zip(&append.events) {
                lane.next_shared += 1 + (seed % 3) as i64;
                offsets.push(Offset(lane.next_shared));
                lane.offsets.insert(*serial, Offset(lane.next_shared));
            }
        }
        let events = |serials: &[Serial]| serials.iter().map(|serial| self.events[serial].clone()).collect::<Vec<_>>();
        let made = buffer::Batch {
            events: events(&serials),
            offsets,
            refused: events(&refused).into_iter().map(|event| refusal(event, "intake")).collect(),
            position: position.clone(),
            identities: if lane.remembers {
                serials.iter().map(|serial| u128::from(*serial)).collect()
            } else {
                Vec::new()
            },
            window: if lane.remembers { WINDOW as u32 } else { 0 },
        };
        let number = serials[0];
        self.lanes[append.lane].batches.push(Batch { serials, refused, position, acknowledged: false });
        (number, made)
    }

    /// Notes that a batch was acknowledged, up to `high_water`.
    pub(super) fn acknowledge(&mut self, lane: usize, batch: Serial, high_water: Offset) -> Result<(), String> {
        let (earlier_epoch, latest) = (self.earlier_epoch, &mut self.latest_epoch);
        let known = &mut self.lanes[lane];
        let highest = known.offsets.values().max().copied();
        let batch = known.batches.iter_mut().find(|known| known.serials[0] == batch).expect("it was attempted");
        batch.acknowledged = true;
        let letters = batch.refused.iter().map(|serial| DeadLetter { sink: None, lane, serial: *serial });
        self.dead_letters.extend(letters);
        if known.numbering != Numbering::Assigned {
            let last = batch.serials.last().map(|serial| known.offsets[serial]);
            return if last == Some(high_water) { Ok(()) } else { Err(format!("{high_water:?} after {last:?}")) };
        }
        let first = Offset(high_water.0 + 1 - batch.serials.len() as i64);
        if highest.is_some_and(|highest| first <= highest) {
            return Err(format!("offset {first:?} was assigned although {highest:?} was seen before"));
        }
        if earlier_epoch.is_some_and(|earlier| first.epoch() <= earlier) {
            return Err(format!("{first:?} is not in a later epoch than {earlier_epoch:?}"));
        }
        *latest = Some(first.epoch());
        known.offsets.extend(batch.serials.iter().copied().zip((first.0..).map(Offset)));
        Ok(())
    }

    /// Notes that a batch was turned away.
    pub(super) fn turn_away(&mut self, lane: usize, batch: Serial) {
        self.lanes[lane].batches.retain(|known| known.serials[0] != batch);
    }

    /// What an event's serial is, if it is one of this run and byte for byte as it was appended.
    pub(super) fn recognise(&self, event: &Event) -> Result<Serial, String> {
        let serial = event.body.as_ref().and_then(|body| body.first_chunk()).map(|first| u64::from_le_bytes(*first));
        let serial = serial.ok_or("an event without a serial")?;
        match self.events.get(&serial) {
            Some(written) if written == event => Ok(serial),
            Some(_) => Err(format!("event {serial} is not as it was written")),
            None => Err(format!("event {serial} was never written")),
        }
    }

    /// An event of a size and with contents that `seed` gives.
    fn make(&mut self, seed: u64) -> Serial {
        let serial = self.events.len() as Serial + 1;
        let mut random = Random::new(seed);
        let length = if is_large(seed) { random.between(1_000, 5_000) } else { random.between(0, 300) };
        let mut body = serial.to_le_bytes().to_vec();
        body.extend(random.bytes(length as usize));
        let mut event = Event::new(Timestamp(random.below(1 << 50) as i64), body);
        event.key = random.one_in(3).then(|| random.bytes(5).into());
        if random.one_in(4) {
            event.headers.push(("unit".to_owned(), Value::Integer(random.bits() as i64)));
        }
        self.events.insert(serial, event);
        serial
    }
}

impl Lane {
    fn new(stream: &str, partition: &str, numbering: Numbering, only: Option<usize>) -> Self {
        Self {
            stream: stream.to_owned(),
            partition: partition.to_owned(),
            numbering,
            only,
            batches: Vec::new(),
            offsets: BTreeMap::new(),
            next_shared: 0,
            remembers: stream == LINE && only.is_none(),
        }
    }

    /// Every event that was appended or may have been, in order.
    pub(super) fn serials(&self) -> impl Iterator<Item = Serial> + '_ {
        self.batches.iter().flat_map(|batch| batch.serials.iter().copied())
    }
}

/// Whether the event of a seed is one of the few that a segment of its own is not small with.
pub(super) fn is_large(seed: u64) -> bool {
    Random::new(seed ^ u64::MAX).one_in(20)
}

/// What the run itself refuses.
pub(super) fn refusal(event: Event, code: &str) -> Refused {
    Refused { event, code: code.to_owned(), reason: "this run wants one refused".to_owned() }
}
