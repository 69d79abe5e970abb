//! A buffer on a disk whose power can be cut, and the steps of a run done to it.

use std::{fmt::Display, path::PathBuf, sync::Arc};

use forebay_buffer::{
    AppendError, Appended, Buffer, DeadLetterFilter, Durability, Error, Offset, OpenError, Options, Partition,
    ReadLimits, Reader, Receipt, Start, StreamLimits, Subscription, WhenFull,
};
use tempfile::TempDir;

use super::{
    oracle::{DeadLetter, HUB, LINE, Lane, Leaving, Oracle, RING, SINKS, Serial, is_large, refusal},
    plan::{Append, Reach, Step},
};
use crate::{clock::StillClock, vfs::PowerCut};

/// The file's quota: small, so that the WAL is checkpointed every dozen commits.
const MAX_BYTES: u64 = 1024 * 1024;
/// The ring's share: a dozen appends.
const RING_BYTES: u64 = 6 * 1024;
/// What a sink may have in flight.
const IN_FLIGHT_BYTES: u64 = 1024;

/// Why a step did not come to its end.
#[derive(Debug)]
pub(super) enum Stop {
    /// The power is off, or the disk failed, as was asked for.
    Asked,
    /// The buffer broke a promise.
    Violation(String),
}

/// A buffer whose writer thread ends, and gives the lock up, when this is dropped. A run that means to lose what is not
/// written cuts the power before.
pub(super) struct Held(Buffer);

impl std::ops::Deref for Held {
    type Target = Buffer;
    fn deref(&self) -> &Buffer {
        &self.0
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// An append that is not answered yet.
struct Pending {
    batch: Serial,
    receipt: Receipt<Appended, AppendError>,
}

/// How a step leaves the buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum After {
    StillOpen,
    Closed,
}

impl Stop {
    /// What was asked for is no fault of the buffer.
    pub(super) fn forgive(self) -> Result<(), String> {
        match self {
            Self::Asked => Ok(()),
            Self::Violation(what) => Err(what),
        }
    }

    /// Says where it happened.
    pub(super) fn at(self, place: &str) -> Self {
        match self {
            Self::Violation(what) => Self::Violation(format!("{place}: {what}")),
            Self::Asked => Self::Asked,
        }
    }
}

impl From<String> for Stop {
    fn from(violation: String) -> Self {
        Self::Violation(violation)
    }
}

/// A disk, a directory for what does not go through SQLite, and a clock.
pub(super) struct Rig {
    pub(super) disk: PowerCut,
    directory: TempDir,
    pub(super) clock: Arc<StillClock>,
    durability: Durability,
}

/// An open buffer, with every handle that a run needs.
pub(super) struct Opened {
    pub(super) buffer: Held,
    reader: Option<Reader>,
    /// By lane.
    pub(super) partitions: Vec<Partition>,
}

impl Opened {
    pub(super) fn reader(&mut self) -> &mut Reader {
        self.reader.as_mut().expect("only a close takes the reader")
    }
}

impl Rig {
    pub(super) fn new(name: &str, durability: Durability) -> Self {
        // In memory where that can be had: the lock and the reserve are written anew with each run.
        let memory = PathBuf::from("/dev/shm");
        let parent = if memory.is_dir() { memory } else { std::env::temp_dir() };
        let directory = TempDir::with_prefix_in("forebay-", parent).expect("a directory for temporary files");
        let rig = Self { disk: PowerCut::register(name), directory, clock: Arc::default(), durability };
        rig.disk.share_capacity_with(rig.reserve());
        rig
    }

    /// The file that the buffer gives up when the disk is full.
    pub(super) fn reserve(&self) -> PathBuf {
        self.directory.path().join("buffer.db.reserve")
    }

    /// An empty disk, and an empty directory but for the reserve, which takes long to write.
    pub(super) fn clear(&self) {
        self.disk.wipe();
        let left = std::fs::read_dir(self.directory.path()).expect("the directory is ours").flatten();
        for file in left.filter(|file| file.path().extension().is_none_or(|extension| extension != "reserve")) {
            std::fs::remove_file(file.path()).expect("the directory is ours");
        }
    }

    /// Opens the buffer, and declares and looks up all that a run needs.
    pub(super) fn open(&self, oracle: &mut Oracle) -> Result<Opened, Stop> {
        let mut options = Options::new(self.directory.path().join("buffer.db"), self.clock.clone());
        options.durability = self.durability;
        options.max_bytes = MAX_BYTES;
        options.min_free_disk = Some(0);
        options.vfs = Some(self.disk.name().to_owned());
        let buffer = Held(options.open().map_err(|error: OpenError| self.stop("open the buffer", error))?);
        let generation = buffer.generation();
        if oracle.generation.is_some_and(|known| known != generation) {
            return Err(Stop::Violation(format!("generation {:?} became {generation}", oracle.generation)));
        }
        oracle.generation = Some(generation);
        for stream in [LINE, HUB, RING] {
            let when_full = if stream == RING { WhenFull::DropOldest } else { WhenFull::Backpressure };
            let max_bytes = if stream == RING { RING_BYTES } else { MAX_BYTES };
            let limits = StreamLimits { max_bytes, max_age: None, when_full };
            buffer.declare_stream(stream, limits).map_err(|error| self.stop("declare a stream", error))?;
        }
        for sink in SINKS {
            buffer
                .declare_sink(sink, &[LINE, HUB, RING], Start::Oldest, IN_FLIGHT_BYTES)
                .map_err(|error| self.stop("declare a sink", error))?;
        }
        let reader = buffer.reader().map_err(|error| self.stop("open a reader", error))?;
        let mut opened = Opened { buffer, reader: Some(reader), partitions: Vec::new() };
        self.look_up_partitions(&mut opened, oracle)?;
        Ok(opened)
    }

    /// Looks up the partitions of lanes that came since.
    pub(super) fn look_up_partitions(&self, opened: &mut Opened, oracle: &Oracle) -> Result<(), Stop> {
        for lane in &oracle.lanes[opened.partitions.len()..] {
            let partition = self.partition(&opened.buffer, lane)?;
            opened.partitions.push(partition);
        }
        Ok(())
    }

    fn partition(&self, buffer: &Buffer, lane: &Lane) -> Result<Partition, Stop> {
        let Some(sink) = lane.only else {
            let found = buffer.partition(&lane.stream, &lane.partition, lane.numbering);
            return found.map_err(|error| self.stop("open a partition", error));
        };
        let all = buffer.partitions(&lane.stream).map_err(|error| self.stop("list partitions", error))?;
        let found = all.into_iter().find(|partition| partition.for_sink() == Some(SINKS[sink]));
        found.ok_or_else(|| Stop::Violation(format!("no retry partition of {} for {}", lane.stream, SINKS[sink])))
    }

    /// Why something failed: as was asked for, or for no such reason.
    pub(super) fn stop(&self, doing: &str, error: impl Display) -> Stop {
        match self.disk.is_cut() || self.disk.has_failed() {
            true => Stop::Asked,
            false => Stop::Violation(format!("could not {doing} on a disk that works: {error}")),
        }
    }

    /// Does one step.
    pub(super) fn step(&self, opened: &mut Opened, oracle: &mut Oracle, step: &Step) -> Result<After, Stop> {
        match step {
            Step::Append(append) => {
                let receipt = self.append(opened, oracle, append)?;
                self.receive(oracle, append, receipt)?;
            }
            Step::Group(appends) => self.append_together(opened, oracle, appends)?,
            Step::Trickle { lane, count } => {
                let single = |seed| Append { lane: *lane, events: vec![seed], refuses_one: false, has_position: false };
                let small = (0..).filter(|seed| !is_large(*seed)).take(*count as usize);
                self.append_together(opened, oracle, &small.map(single).collect::<Vec<_>>())?;
            }
            Step::Deliver { sink, lane, max_events, reach, refuses_one } => {
                let lane = lane % oracle.lanes.len();
                let limits = ReadLimits { max_events: *max_events, max_bytes: 64 * 1024 };
                if oracle.sinks_of(lane).any(|taker| taker == *sink) {
                    self.deliver(opened, oracle, (*sink, lane), limits, *reach, *refuses_one)?;
                }
            }
            Step::Retry(count) => self.retry(opened, oracle, *count)?,
            Step::Discard(count) => self.discard(opened, oracle, *count)?,
            Step::Wait(step) => self.clock.advance(*step),
            Step::Reopen => {
                self.close(opened, oracle)?;
                return Ok(After::Closed);
            }
        }
        Ok(After::StillOpen)
    }

    fn append_together(&self, opened: &Opened, oracle: &mut Oracle, appends: &[Append]) -> Result<(), Stop> {
        let mut receipts = Vec::new();
        for append in appends {
            receipts.push((append, self.append(opened, oracle, append)?));
        }
        let mut outcome = Ok(());
        for (append, receipt) in receipts {
            outcome = outcome.and(self.receive(oracle, append, receipt));
        }
        outcome
    }

    /// Closes as an operator does; every other time before the readers, so that the WAL stays behind.
    pub(super) fn close(&self, opened: &mut Opened, oracle: &mut Oracle) -> Result<(), Stop> {
        if oracle.events.len().is_multiple_of(2) {
            opened.reader = None;
        }
        opened.buffer.close();
        if self.disk.is_cut() || self.disk.has_failed() {
            return Err(Stop::Asked);
        }
        oracle.closed_cleanly = true;
        Ok(())
    }

    fn append(&self, opened: &Opened, oracle: &mut Oracle, append: &Append) -> Result<Pending, Stop> {
        let (batch, made) = oracle.attempt(append);
        let partition = &opened.partitions[append.lane];
        let encoded = partition.encode(made).map_err(|error| self.stop("encode a batch", error))?;
        Ok(Pending { batch, receipt: partition.append(encoded) })
    }

    fn receive(&self, oracle: &mut Oracle, append: &Append, pending: Pending) -> Result<(), Stop> {
        match pending.receipt.wait() {
            Ok(appended) if appended.events == append.events.len() as u64 && appended.dropped == 0 => {
                Ok(oracle.acknowledge(append.lane, pending.batch, appended.high_water)?)
            }
            Ok(appended) => Err(Stop::Violation(format!("{append:?} came to {appended:?}"))),
            Err(AppendError::Full(_) | AppendError::Failed(Error::TooLarge(_))) => {
                oracle.turn_away(append.lane, pending.batch);
                Ok(())
            }
            Err(AppendError::Failed(error)) => Err(self.stop("append", error)),
        }
    }

    pub(super) fn subscription(&self, opened: &Opened, sink: usize, lane: usize) -> Result<Subscription, Stop> {
        let subscription = opened.buffer.subscription(SINKS[sink], &opened.partitions[lane]);
        subscription.map_err(|error| self.stop("subscribe", error))
    }

    fn deliver(
        &self,
        opened: &mut Opened,
        oracle: &mut Oracle,
        (sink, lane): (usize, usize),
        limits: ReadLimits,
        reach: Reach,
        refuses_one: bool,
    ) -> Result<(), Stop> {
        let subscription = self.subscription(opened, sink, lane)?;
        let after = oracle.place(sink, lane).through.unwrap_or(subscription.beginning());
        let read = subscription.read(opened.reader(), after, limits);
        let read = read.map_err(|error| self.stop("read", error))?;
        let kept = match reach {
            Reach::Nothing => 0,
            Reach::Half => read.events.len().div_ceil(2),
            Reach::All => read.events.len(),
        };
        let Some((through, _)) = kept.checked_sub(1).map(|last| &read.events[last]) else { return Ok(()) };
        let recorded = subscription.refused(opened.reader(), after, *through);
        let recorded = recorded.map_err(|error| self.stop("read refusals", error))?;
        for (n, (offset, event)) in read.events[..kept].iter().enumerate() {
            let serial = oracle.recognise(event)?;
            let known = oracle.place(sink, lane).refused.get(&serial).copied();
            let is_recorded = recorded.contains(offset);
            if known == Some(true) && !is_recorded || known.is_none() && is_recorded {
                return Err(Stop::Violation(format!("event {serial}: refused {known:?}, recorded {is_recorded}")));
            }
            if !is_recorded && refuses_one && n == 0 && oracle.lanes[lane].only.is_none() {
                oracle.place(sink, lane).refused.insert(serial, false);
                match subscription.refuse(vec![(*offset, refusal(event.clone(), "sink"))]).wait() {
                    Ok(()) => {}
                    Err(Error::Full(_)) => {
                        oracle.place(sink, lane).refused.remove(&serial);
                        return Ok(());
                    }
                    Err(error) => return Err(self.stop("record a refusal", error)),
                }
                oracle.place(sink, lane).refused.insert(serial, true);
                oracle.dead_letters.insert(DeadLetter { sink: Some(sink), lane, serial });
            } else if !is_recorded {
                let place = oracle.place(sink, lane);
                place.refused.remove(&serial);
                if place.delivered.contains(&serial) {
                    return Err(Stop::Violation(format!("event {serial} came to sink {sink} twice")));
                }
                place.delivered.push(serial);
            }
            oracle.lanes[lane].offsets.insert(serial, *offset);
            oracle.place(sink, lane).through = Some(*offset);
        }
        let checkpoint = subscription.checkpoint_at(*through);
        let checkpoint = checkpoint.ok_or_else(|| format!("no checkpoint for {through:?}, which was just read"))?;
        subscription.confirm(checkpoint, None).map_err(|error| self.stop("confirm", error))
    }

    fn retry(&self, opened: &mut Opened, oracle: &mut Oracle, count: usize) -> Result<(), Stop> {
        let of_sinks = self.dead_letters(opened, oracle)?.into_iter().filter(|(_, letter)| letter.sink.is_some());
        let letters: Vec<_> = of_sinks.take(count).collect();
        let ids: Vec<i64> = letters.iter().map(|(id, _)| *id).collect();
        oracle.leaving = Some(Leaving { letters, retried: true });
        match opened.buffer.retry_dead_letters(&ids) {
            Ok(_) => oracle.leave(),
            Err(Error::Full(_) | Error::Refused(_)) => oracle.leaving = None,
            Err(error) => return Err(self.stop("retry dead letters", error)),
        }
        self.look_up_partitions(opened, oracle)
    }

    fn discard(&self, opened: &mut Opened, oracle: &mut Oracle, count: usize) -> Result<(), Stop> {
        let letters: Vec<_> = self.dead_letters(opened, oracle)?.into_iter().take(count).collect();
        let ids: Vec<i64> = letters.iter().map(|(id, _)| *id).collect();
        oracle.leaving = Some(Leaving { letters, retried: false });
        match opened.buffer.discard_dead_letters(&ids) {
            Ok(_) => oracle.leave(),
            Err(Error::Full(_) | Error::Refused(_)) => oracle.leaving = None,
            Err(error) => return Err(self.stop("discard dead letters", error)),
        }
        Ok(())
    }

    /// The dead letters in the file, with their numbers.
    pub(super) fn dead_letters(&self, opened: &Opened, oracle: &Oracle) -> Result<Vec<(i64, DeadLetter)>, Stop> {
        let mut inspector = opened.buffer.inspector().map_err(|error| self.stop("open an inspector", error))?;
        let all = DeadLetterFilter { limit: usize::MAX, ..DeadLetterFilter::default() };
        let found = inspector.dead_letters(&all).map_err(|error| self.stop("list dead letters", error))?;
        let letter = |found: forebay_buffer::DeadLetter| {
            let is_its_lane = |lane: &Lane| {
                lane.stream == found.stream && lane.partition == found.partition && lane.numbering == found.numbering
            };
            let lane = oracle.lanes.iter().position(is_its_lane);
            let lane = lane.ok_or_else(|| format!("a dead letter of an unknown partition: {found:?}"))?;
            let sink = found.sink.as_ref().and_then(|name| SINKS.iter().position(|sink| sink == name));
            Ok((found.id, DeadLetter { sink, lane, serial: oracle.recognise(&found.event)? }))
        };
        found.into_iter().map(letter).collect::<Result<_, String>>().map_err(Stop::Violation)
    }
}

impl Oracle {
    /// Notes that the dead letters that were leaving have left.
    pub(super) fn leave(&mut self) {
        let Some(leaving) = self.leaving.take() else { return };
        for (_, letter) in leaving.letters {
            self.dead_letters.remove(&letter);
            if let (true, Some(sink)) = (leaving.retried, letter.sink) {
                let stream = self.lanes[letter.lane].stream.clone();
                let retry = self.retry_lane(&stream, sink);
                self.lanes[retry].batches.push(super::oracle::Batch {
                    serials: vec![letter.serial],
                    refused: Vec::new(),
                    position: None,
                    acknowledged: true,
                });
            }
        }
    }
}

/// Below which offset nothing can be missing.
pub(super) fn start_of(subscription: &Subscription) -> Offset {
    subscription.checkpoint().map_or_else(|| subscription.beginning(), |checkpoint| checkpoint.offset)
}
