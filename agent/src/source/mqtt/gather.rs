//! Messages on their way to disk: gathered by partition, handed over in batches, a few batches at a time.
//!
//! Everything that must be on disk has a [`Mark`]: its partition, and a number that grows with the order of arrival.
//! A partition's batches are written in order, so that one number says how far it is on disk.

use std::{
    collections::{BTreeMap, HashMap, VecDeque, hash_map::Entry},
    future::{pending, poll_fn},
    pin::Pin,
    task::Poll,
};

use forebay_buffer::{Event, Refused};

use super::{
    held,
    losses::Losses,
    partitions::{DEFAULT, Partitions},
    shape::{Shape, Shaped},
};
use crate::contract::{INTAKE_QUEUE, Identity, Intake, IntakeError, Receipt, SourceBatch};

/// Batches on their way at a time: so few that handing one over never waits.
const MAX_BATCHES: usize = 12;
const _: () = assert!(MAX_BATCHES * 2 < INTAKE_QUEUE);
/// Messages in a batch, at most.
const MAX_EVENTS: usize = 4_000;
/// Bytes in a batch; the message that reaches them is its last.
const MAX_BYTES: usize = 192 << 10;
/// What a message takes up besides its text.
const OVERHEAD_BYTES: usize = 640;
/// And what each of its headers does.
const HEADER_BYTES: usize = 64;

/// A place in the order of what is to be on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    partition: usize,
    number: u64,
}

impl Mark {
    /// On disk from the beginning.
    pub(super) const PAST: Self = Self { partition: 0, number: 0 };
}

/// Everything of one stream that is on its way.
pub(super) struct Gather {
    session: [u8; 8],
    /// Whether duplicates are to be left out, and how many identities are remembered.
    window: Option<u32>,
    partitions: Partitions,
    lanes: Vec<Lane>,
    /// Lanes that have something to hand over, the one that has waited longest first.
    waiting: VecDeque<usize>,
    in_flight: VecDeque<InFlight>,
    /// What [`InFlight::once`] says of a batch that was not taken.
    not_taken: Option<(usize, (u64, u64))>,
    /// Where each message of QoS 2 is held that is not released.
    held: HashMap<u16, Mark>,
    /// What is released, and on disk still held.
    released: HashMap<u16, Mark>,
    /// Whether there is, or was, any such message.
    is_two_phase: bool,
    last: u64,
    bytes: usize,
}

/// One partition.
#[derive(Default)]
struct Lane {
    name: String,
    items: VecDeque<Item>,
    /// What the broker will send again, if it still knows the session that it belonged to.
    aside: VecDeque<Item>,
    held: BTreeMap<u16, u64>,
    /// Whether the position on disk, or on its way there, is another than what is held.
    moved: bool,
    is_waiting: bool,
    last: u64,
    handed_over: u64,
    on_disk: u64,
}

struct Item {
    number: u64,
    event: Event,
    refusal: Option<(&'static str, String)>,
    identity: Option<Identity>,
    bytes: usize,
    /// Whether the broker sends it again unless it is acknowledged.
    comes_again: bool,
}

impl Item {
    /// One message and its bytes, if nobody sends it again.
    fn once(&self) -> Option<(u64, u64)> {
        (!self.comes_again).then(|| (1, (self.bytes - OVERHEAD_BYTES) as u64))
    }
}

struct InFlight {
    mark: Mark,
    bytes: usize,
    /// Messages in it that nobody sends again, and their bytes.
    once: (u64, u64),
    receipt: Receipt,
}

impl Gather {
    /// Begins with the positions that are on disk.
    pub(super) fn load(
        stored: Vec<(String, Option<Vec<u8>>)>,
        session: [u8; 8],
        shape: &Shape,
    ) -> Result<Self, String> {
        let mut gather = Self {
            session,
            window: shape.dedupe.as_ref().map(|dedupe| dedupe.window),
            partitions: Partitions::new(shape.partition_level),
            lanes: vec![Lane { name: DEFAULT.to_owned(), ..Lane::default() }],
            waiting: VecDeque::new(),
            in_flight: VecDeque::new(),
            not_taken: None,
            held: HashMap::new(),
            released: HashMap::new(),
            is_two_phase: false,
            last: 0,
            bytes: 0,
        };
        for (name, position) in stored {
            let partition = gather.partitions.number(&name);
            gather.lane(partition, &name);
            let Some(position) = position else { continue };
            let ids = held::decode(session, &position).map_err(|why| {
                format!(
                    "the position of partition {name} is not one of an MQTT source: {why}; give the source another name"
                )
            })?;
            gather.is_two_phase |= !ids.is_empty();
            for packet_id in ids {
                gather.hold_stored(packet_id, partition);
            }
        }
        Ok(gather)
    }

    /// Holds what a position says. Where two do, one of them has not heard of a session's end: it is put right.
    fn hold_stored(&mut self, packet_id: u16, partition: usize) {
        match self.held.entry(packet_id) {
            Entry::Vacant(vacant) => {
                vacant.insert(Mark { partition, number: 0 });
                self.lanes[partition].held.insert(packet_id, 0);
            }
            Entry::Occupied(_) => {
                self.lanes[partition].moved = true;
                self.next_mark(partition);
            }
        }
    }

    /// The partition of `topic`.
    pub(super) fn partition_of(&mut self, topic: &str) -> usize {
        let partition = self.partitions.of(topic);
        if partition >= self.lanes.len() {
            let level = self.partitions.name(topic).to_owned();
            self.lane(partition, &level);
        }
        partition
    }

    /// What the partition is called.
    pub(super) fn name_of(&self, partition: usize) -> &str {
        &self.lanes[partition].name
    }

    /// Adds a message. `held_as` is the packet identifier of one of QoS 2.
    pub(super) fn push(&mut self, partition: usize, shaped: Shaped, comes_again: bool, held_as: Option<u16>) -> Mark {
        let mark = self.next_mark(partition);
        let Shaped { event, refusal, identity } = shaped;
        let bytes = event.size_bytes() + OVERHEAD_BYTES + event.headers.len() * HEADER_BYTES;
        self.bytes += bytes;
        let lane = &mut self.lanes[partition];
        lane.items.push_back(Item { number: mark.number, event, refusal, identity, bytes, comes_again });
        if let Some(packet_id) = held_as {
            lane.held.insert(packet_id, mark.number);
            lane.moved = true;
            self.held.insert(packet_id, mark);
            self.released.remove(&packet_id);
            self.is_two_phase = true;
        }
        mark
    }

    /// Where the message with this packet identifier is, if it is held.
    pub(super) fn held(&self, packet_id: u16) -> Option<Mark> {
        self.held.get(&packet_id).copied()
    }

    /// Lets go of a message that is held. It is released once the mark is on disk: until then a release that comes
    /// again, on another connection, has the same.
    pub(super) fn release(&mut self, packet_id: u16) -> Option<Mark> {
        let Some(Mark { partition, .. }) = self.held.remove(&packet_id) else {
            return self.released.get(&packet_id).copied();
        };
        let lane = &mut self.lanes[partition];
        lane.held.remove(&packet_id);
        lane.moved = true;
        let mark = self.next_mark(partition);
        self.released.insert(packet_id, mark);
        Some(mark)
    }

    /// Lets go of everything that is held, for the broker has forgotten the session. Whether new messages must wait
    /// until all is on disk: a packet identifier that is held in two partitions would outlive its release.
    pub(super) fn release_all(&mut self) -> bool {
        self.held.clear();
        for partition in 0..self.lanes.len() {
            let lane = &mut self.lanes[partition];
            if !std::mem::take(&mut lane.held).is_empty() {
                lane.moved = true;
                self.next_mark(partition);
            }
        }
        self.is_two_phase
    }

    /// Sets aside what the broker will send again on the next connection, as far as it was not handed over.
    pub(super) fn set_aside(&mut self) {
        for lane in &mut self.lanes {
            let (aside, items) = lane.items.drain(..).partition(|item| item.comes_again);
            lane.items = items;
            lane.aside = aside;
            let handed_over = lane.handed_over;
            let (stays, goes): (BTreeMap<_, _>, _) =
                std::mem::take(&mut lane.held).into_iter().partition(|(_, number)| *number <= handed_over);
            lane.held = stays;
            for (packet_id, _) in goes {
                self.held.remove(&packet_id);
            }
        }
    }

    /// Forgets what was set aside: the broker sends it again.
    pub(super) fn forget_aside(&mut self) {
        for lane in &mut self.lanes {
            self.bytes -= lane.aside.drain(..).map(|item| item.bytes).sum::<usize>();
        }
    }

    /// Takes back what was set aside: the broker has forgotten it.
    pub(super) fn take_back_aside(&mut self) {
        for (partition, lane) in self.lanes.iter_mut().enumerate() {
            if lane.aside.is_empty() {
                continue;
            }
            lane.aside.append(&mut lane.items);
            std::mem::swap(&mut lane.aside, &mut lane.items);
            if !std::mem::replace(&mut lane.is_waiting, true) {
                self.waiting.push_back(partition);
            }
        }
    }

    /// Bytes that are not on disk.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether everything up to `mark` is on disk.
    pub(super) fn is_on_disk(&self, mark: Mark) -> bool {
        self.lanes[mark.partition].on_disk >= mark.number
    }

    /// Whether everything is, but for what was set aside.
    pub(super) fn is_settled(&self) -> bool {
        self.in_flight.is_empty() && self.waiting.is_empty()
    }

    /// Hands over as much as may be on its way.
    pub(super) async fn hand_over(&mut self, intake: &Intake) -> Result<(), IntakeError> {
        while self.in_flight.len() < MAX_BATCHES {
            let Some(partition) = self.waiting.pop_front() else { break };
            let lane = &mut self.lanes[partition];
            lane.is_waiting = false;
            let (batch, bytes, once) = lane.take_batch(self.session, self.window);
            let mark = Mark { partition, number: lane.handed_over };
            if !lane.items.is_empty() || lane.moved {
                lane.is_waiting = true;
                self.waiting.push_back(partition);
            }
            if batch.events.is_empty() && batch.refused.is_empty() && batch.position.is_none() {
                continue; // What there was is set aside.
            }
            let receipt = intake.submit(&lane.name, batch).await?;
            self.in_flight.push_back(InFlight { mark, bytes, once, receipt });
        }
        Ok(())
    }

    /// Ends when more is on disk. It can be dropped and called again at any time.
    pub(super) async fn settle(&mut self) -> Result<(), IntakeError> {
        if self.in_flight.is_empty() {
            return pending().await;
        }
        poll_fn(|context| {
            let mut settled = false;
            while let Some(first) = self.in_flight.front_mut() {
                let Poll::Ready(outcome) = Pin::new(&mut first.receipt).poll(context) else { break };
                let (mark, once) = (first.mark, first.once);
                self.bytes -= first.bytes;
                self.in_flight.pop_front();
                if let Err(error) = outcome {
                    self.not_taken = Some((mark.partition, once));
                    return Poll::Ready(Err(error));
                }
                settled = true;
                let lane = &mut self.lanes[mark.partition];
                lane.on_disk = lane.on_disk.max(mark.number);
            }
            if settled {
                let lanes = &self.lanes;
                self.released.retain(|_, mark| lanes[mark.partition].on_disk < mark.number);
                return Poll::Ready(Ok(()));
            }
            Poll::Pending
        })
        .await
    }

    /// Counts what is not taken, because of `error`, and nobody sends again. What the intake has and still may take is
    /// waited for, except behind a batch that never fits: there only its own partition takes no more.
    pub(super) async fn abandon(&mut self, error: &IntakeError, losses: &mut Losses) {
        let closed = match (error, self.not_taken) {
            (IntakeError::TooLarge(_), Some((partition, _))) => Some(partition),
            _ => None,
        };
        let mut lost: Vec<_> = self.not_taken.take().into_iter().collect();
        for InFlight { mark, once, receipt, .. } in self.in_flight.drain(..) {
            let is_answered_soon = closed.is_none_or(|closed| closed == mark.partition);
            if is_answered_soon && receipt.await.is_err() {
                lost.push((mark.partition, once));
            }
        }
        for (partition, lane) in self.lanes.iter_mut().enumerate() {
            lost.extend(lane.items.drain(..).filter_map(|item| item.once()).map(|once| (partition, once)));
        }
        for (partition, once) in lost.into_iter().filter(|(_, (messages, _))| *messages > 0) {
            losses.add(&self.lanes[partition].name, once);
        }
    }

    fn lane(&mut self, partition: usize, name: &str) -> &mut Lane {
        if partition == self.lanes.len() {
            self.lanes.push(Lane { name: name.to_owned(), ..Lane::default() });
        }
        &mut self.lanes[partition]
    }

    fn next_mark(&mut self, partition: usize) -> Mark {
        self.last += 1;
        let lane = &mut self.lanes[partition];
        lane.last = self.last;
        if !std::mem::replace(&mut lane.is_waiting, true) {
            self.waiting.push_back(partition);
        }
        Mark { partition, number: self.last }
    }
}

impl Lane {
    /// The next batch, its bytes, and what of it nobody sends again. Its position holds what its events, and those before
    /// them, are held as.
    fn take_batch(&mut self, session: [u8; 8], window: Option<u32>) -> (SourceBatch, usize, (u64, u64)) {
        let mut batch = SourceBatch { window: window.unwrap_or_default(), ..SourceBatch::default() };
        let (mut taken, mut bytes, mut once) = (0, 0, (0, 0));
        while taken < MAX_EVENTS && bytes < MAX_BYTES {
            let Some(item) = self.items.pop_front() else { break };
            taken += 1;
            bytes += item.bytes;
            once = item.once().map_or(once, |(messages, sum)| (once.0 + messages, once.1 + sum));
            self.handed_over = self.handed_over.max(item.number);
            match item.refusal {
                Some((code, reason)) => {
                    batch.refused.push(Refused { event: item.event, code: code.to_owned(), reason });
                    if window.is_some() {
                        batch.refused_identities.push(item.identity);
                    }
                }
                None => {
                    batch.events.push(item.event);
                    if window.is_some() {
                        batch.identities.push(item.identity);
                    }
                }
            }
        }
        if self.items.is_empty() {
            self.handed_over = self.last;
        }
        if std::mem::take(&mut self.moved) {
            let handed_over = self.handed_over;
            let of_these = self.held.iter().filter(|(_, number)| **number <= handed_over);
            batch.position = Some(held::encode(session, of_these.map(|(packet_id, _)| *packet_id)));
            self.moved = self.held.values().any(|number| *number > handed_over);
        }
        (batch, bytes, once)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_without_text_takes_up_memory_too() {
        let mut gather = Gather::load(Vec::new(), [0; 8], &Shape::default()).expect("there is nothing wrong");
        let headers = vec![(String::new(), forebay_buffer::Value::from("")); 60];
        let memory = headers.len() * size_of_val(&headers[0]);
        let event = Event { headers, ..Event::default() };
        gather.push(0, Shaped { event, refusal: None, identity: None }, true, None);
        assert!(gather.bytes() >= memory, "{} of {memory}", gather.bytes());
    }
}
