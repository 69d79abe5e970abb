//! Batches of one partition that are written together.

use forebay_buffer::{Appended, Batch, Event, Value};
use tokio::sync::oneshot;

use super::{admission::Permit, answer, memory::Memory};
use crate::contract::{Identity, IntakeError, SourceBatch};

/// No group is put together that has more bytes: it would not make a commit cheaper.
const ENOUGH_BYTES: u64 = 256 << 10;
/// Nor one of more than this part of the stream's share, which it may not fit into where each of its batches does.
const SHARES: u64 = 8;

/// Bytes of events, refused ones included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Size {
    /// As [`Event::size_bytes`] counts.
    pub(super) counted: usize,
    /// As they are in memory: many small headers take up more than their text.
    pub(super) held: usize,
}

impl Size {
    fn of(event: &Event) -> Self {
        let counted = event.size_bytes();
        let besides = size_of::<Event>() + event.headers.len() * size_of::<(String, Value)>();
        Self { counted, held: counted + besides }
    }

    /// Of all that is in a batch.
    pub(super) fn of_batch(batch: &SourceBatch) -> Self {
        let events = batch.events.iter().chain(batch.refused.iter().map(|refused| &refused.event));
        events.map(Self::of).fold(Self::default(), Self::and)
    }

    fn and(self, other: Self) -> Self {
        Self { counted: self.counted + other.counted, held: self.held + other.held }
    }

    fn without(self, part: Self) -> Self {
        Self { counted: self.counted - part.counted, held: self.held - part.held }
    }
}

/// One batch that waits for the disk.
pub(super) struct Waiting {
    pub(super) batch: SourceBatch,
    /// What it takes up.
    pub(super) size: Size,
    /// Whether it waits for room in a full buffer.
    pub(super) wait: bool,
    pub(super) reply: oneshot::Sender<Result<Appended, IntakeError>>,
    pub(super) permit: Permit,
}

/// What goes into one append, and who is to hear of it.
pub(super) struct Group {
    /// All events, in order.
    pub(super) batch: Batch,
    /// What [`Group::batch`] takes up.
    pub(super) size: Size,
    /// How many of its events the source could not make anything of.
    pub(super) refused: u64,
    /// How many were left out, for they are here or on disk already.
    pub(super) duplicates: u64,
    /// Whether its members wait for room.
    pub(super) wait: bool,
    /// How many identities the partition is to remember. `None`: there is nothing here to be known again.
    pub(super) window: Option<u32>,
    /// What each event is known by. [`Batch::identities`] has those that are not left out.
    identities: Vec<Option<Identity>>,
    /// And each that is refused.
    refused_identities: Vec<Option<Identity>>,
    /// How to take back what the memory learnt from this group.
    learnt: Vec<Option<Identity>>,
    members: Vec<Member>,
}

struct Member {
    events: u64,
    reply: oneshot::Sender<Result<Appended, IntakeError>>,
    _permit: Permit,
}

impl Group {
    /// A group of one.
    pub(super) fn new(first: Waiting) -> Self {
        let mut group = Self {
            batch: Batch::default(),
            size: Size::default(),
            refused: 0,
            duplicates: 0,
            wait: first.wait,
            window: None,
            identities: Vec::new(),
            refused_identities: Vec::new(),
            learnt: Vec::new(),
            members: Vec::new(),
        };
        group.push(first);
        group
    }

    /// Whether a batch may share the fate of this group, in a stream of at most `max_bytes`. One whose offsets do not
    /// come after those here may not: the buffer would refuse both.
    pub(super) fn can_take(&self, next: &SourceBatch, size: Size, wait: bool, max_bytes: u64) -> bool {
        let follows = match (self.batch.offsets.last(), next.offsets.first()) {
            (Some(last), Some(first)) => last < first,
            (Some(_), None) => next.events.is_empty(),
            (None, Some(_)) => self.batch.events.is_empty(),
            (None, None) => true,
        };
        let together = self.size.and(size).held as u64;
        self.wait == wait && follows && together <= ENOUGH_BYTES.min(max_bytes / SHARES)
    }

    /// Adds a batch behind those that are here.
    pub(super) fn push(&mut self, waiting: Waiting) {
        let Waiting { batch, size, reply, permit, .. } = waiting;
        self.size = self.size.and(size);
        let SourceBatch { events, offsets, refused, position, mut identities, mut refused_identities, window } = batch;
        if !(events.is_empty() && refused_identities.is_empty()) {
            self.window = Some(window);
        }
        if window == 0 {
            identities.clear();
            refused_identities.clear();
        }
        identities.resize(events.len(), None);
        self.identities.extend(identities);
        refused_identities.resize(refused.len(), None);
        self.refused_identities.extend(refused_identities);
        self.members.push(Member { events: events.len() as u64, reply, _permit: permit });
        self.refused += refused.len() as u64;
        self.batch.events.extend(events);
        self.batch.offsets.extend(offsets);
        self.batch.refused.extend(refused);
        self.batch.position = position.or(self.batch.position.take());
    }

    /// Leaves out everything that is among the last `window` of `memory` when its turn comes, and has the rest
    /// remembered: [`Group::forget`] it unless it comes to be on disk.
    pub(super) fn leave_out_duplicates(&mut self, memory: &mut Memory, window: u32) {
        self.batch.window = window;
        memory.limit(window);
        let identities = std::mem::take(&mut self.identities);
        let refused_identities = std::mem::take(&mut self.refused_identities);
        if identities.iter().chain(&refused_identities).all(Option::is_none) {
            return;
        }
        let (kept, learnt) = (&mut self.batch.identities, &mut self.learnt);
        let mut is_new = |identity: Option<Identity>| {
            let Some(identity) = identity else { return true };
            let is_new = !memory.knows(identity);
            if is_new {
                learnt.push(memory.add(identity, window));
                kept.push(identity);
            }
            is_new
        };
        let offsets = std::mem::take(&mut self.batch.offsets);
        let events = std::mem::take(&mut self.batch.events);
        let mut all = events.into_iter().zip(identities).enumerate();
        for member in &mut self.members {
            for (index, (event, identity)) in all.by_ref().take(member.events as usize) {
                if is_new(identity) {
                    self.batch.events.push(event);
                    self.batch.offsets.extend(offsets.get(index));
                } else {
                    self.size = self.size.without(Size::of(&event));
                    self.duplicates += 1;
                    member.events -= 1;
                }
            }
        }
        for (refused, identity) in std::mem::take(&mut self.batch.refused).into_iter().zip(refused_identities) {
            if is_new(identity) {
                self.batch.refused.push(refused);
            } else {
                self.size = self.size.without(Size::of(&refused.event));
                self.duplicates += 1;
                self.refused -= 1;
            }
        }
    }

    /// Takes the events out, once; what is left is who to answer, and what to forget.
    pub(super) fn take_batch(&mut self) -> Batch {
        std::mem::take(&mut self.batch)
    }

    /// Has `memory` forget what it learnt from this group, which is not on disk.
    pub(super) fn forget(&mut self, memory: &mut Memory) {
        memory.take_back(std::mem::take(&mut self.learnt));
    }

    /// Tells every member that the group is on disk.
    pub(super) fn acknowledge(self, appended: Appended) {
        let alone = self.members.len() == 1;
        for member in self.members {
            let own = match appended.dropped {
                _ if alone => appended,
                0 => Appended { events: member.events, ..appended },
                _ => Appended { events: 0, dropped: member.events, ..appended },
            };
            answer(member.reply, Ok(own));
        }
    }

    /// Tells every member that nothing of the group was kept.
    pub(super) fn refuse(self, error: &IntakeError) {
        for member in self.members {
            answer(member.reply, Err(error.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use forebay_buffer::{Offset, Timestamp};

    use super::*;
    use crate::{contract::PartitionRequest, intake::admission::Admission};

    fn batch(headers: usize) -> SourceBatch {
        let headers = vec![("a".to_owned(), Value::Boolean(true)); headers];
        SourceBatch { events: vec![Event { headers, ..Event::new(Timestamp(0), "") }], ..SourceBatch::default() }
    }

    fn numbered(offsets: std::ops::Range<i64>) -> SourceBatch {
        let event = |_| Event::new(Timestamp(0), "");
        let events = offsets.clone().map(event).collect();
        SourceBatch { events, offsets: offsets.map(Offset).collect(), ..SourceBatch::default() }
    }

    fn group(batch: SourceBatch) -> Group {
        let (size, permit) = (Size::of_batch(&batch), Permit::default());
        Group::new(Waiting { batch, size, wait: true, reply: oneshot::channel().0, permit })
    }

    #[test]
    fn numbered_batches_go_together_if_they_follow_each_other() {
        let can_take = |group: &Group, next: &SourceBatch| group.can_take(next, Size::of_batch(next), true, u64::MAX);
        let numbers = group(numbered(0..5));
        assert!(can_take(&numbers, &numbered(5..7)) && can_take(&numbers, &numbered(9..10)));
        assert!(!can_take(&numbers, &numbered(4..7)), "the buffer would refuse both");
        // A position alone, and events that have no number.
        let position = SourceBatch { position: Some(b"p".to_vec()), ..SourceBatch::default() };
        assert!(can_take(&numbers, &position) && can_take(&group(position), &numbered(0..5)));
        assert!(!can_take(&numbers, &batch(0)) && !can_take(&group(batch(0)), &numbered(0..5)));
    }

    #[tokio::test]
    async fn many_small_headers_fill_a_group() {
        let (reply, _) = oneshot::channel();
        let few = Size::of_batch(&batch(1));
        let first = PartitionRequest::Append { batch: batch(5_000), wait: true, reply: oneshot::channel().0 };
        let admitted = Admission::default().admit(first).await;
        let (size, permit) = (admitted.size, admitted.permit);
        assert!(size.counted < 16 << 10 && size.held > ENOUGH_BYTES as usize);
        let group = Group::new(Waiting { batch: batch(5_000), size, wait: true, reply, permit });
        assert!(!group.can_take(&batch(1), few, true, u64::MAX));
    }
}
