//! Batches of one partition that are written together.

use std::collections::HashSet;

use forebay_buffer::{Appended, Batch};
use tokio::sync::oneshot;

use super::{admission::Permit, answer, memory::Memory};
use crate::contract::{Identity, IntakeError, SourceBatch};

/// No group is put together that has more bytes: it would not make a commit cheaper.
const ENOUGH_BYTES: u64 = 256 << 10;
/// Nor one of more than this part of the stream's share, which it may not fit into where each of its batches does.
const SHARES: u64 = 8;

/// Bytes of events in a batch, refused ones included.
pub(super) fn size_bytes(batch: &SourceBatch) -> usize {
    let refused = batch.refused.iter().map(|refused| refused.event.size_bytes());
    batch.events.iter().map(|event| event.size_bytes()).chain(refused).sum()
}

/// One batch that waits for the disk.
pub(super) struct Waiting {
    pub(super) batch: SourceBatch,
    /// Whether it waits for room in a full buffer.
    pub(super) wait: bool,
    pub(super) reply: oneshot::Sender<Result<Appended, IntakeError>>,
    pub(super) permit: Permit,
}

/// What goes into one append, and who is to hear of it.
pub(super) struct Group {
    /// All events, in order.
    pub(super) batch: Batch,
    /// Bytes of [`Group::batch`].
    pub(super) size_bytes: usize,
    /// How many of its events the source could not make anything of.
    pub(super) refused: u64,
    /// How many were left out, for they are here or on disk already.
    pub(super) duplicates: u64,
    /// Whether its members wait for room.
    pub(super) wait: bool,
    /// What each event is known by. [`Batch::identities`] has those that are not left out.
    identities: Vec<Option<Identity>>,
    /// What the events that were taken out are known by, and the window of that memory. `None`: there were none.
    news: Option<(Vec<Identity>, u32)>,
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
            size_bytes: 0,
            refused: 0,
            duplicates: 0,
            wait: first.wait,
            identities: Vec::new(),
            news: None,
            members: Vec::new(),
        };
        group.push(first);
        group
    }

    /// Whether a batch may share the fate of this group, in a stream of at most `max_bytes`. Batches with offsets of their own keep their own receipts.
    pub(super) fn can_take(&self, next: &SourceBatch, wait: bool, max_bytes: u64) -> bool {
        let assigned = self.batch.offsets.is_empty() && next.offsets.is_empty();
        let together = (self.size_bytes + size_bytes(next)) as u64;
        self.wait == wait && assigned && together <= ENOUGH_BYTES.min(max_bytes / SHARES)
    }

    /// Adds a batch behind those that are here.
    pub(super) fn push(&mut self, waiting: Waiting) {
        let Waiting { batch, reply, permit, .. } = waiting;
        self.size_bytes += size_bytes(&batch);
        let SourceBatch { events, offsets, refused, position, mut identities, window } = batch;
        if !events.is_empty() {
            self.batch.window = window;
        }
        if window == 0 {
            identities.clear();
        }
        identities.resize(events.len(), None);
        self.identities.extend(identities);
        self.members.push(Member { events: events.len() as u64, reply, _permit: permit });
        self.refused += refused.len() as u64;
        self.batch.events.extend(events);
        self.batch.offsets.extend(offsets);
        self.batch.refused.extend(refused);
        self.batch.position = position.or(self.batch.position.take());
    }

    /// Leaves out every event that `memory` knows, and every one that is here twice.
    pub(super) fn leave_out_duplicates(&mut self, memory: &mut Memory) {
        let identities = std::mem::take(&mut self.identities);
        if identities.iter().all(Option::is_none) {
            return;
        }
        memory.limit(self.batch.window);
        let offsets = std::mem::take(&mut self.batch.offsets);
        let events = std::mem::take(&mut self.batch.events);
        let mut all = events.into_iter().zip(identities).enumerate();
        let mut met = HashSet::new();
        for member in &mut self.members {
            for (index, (event, identity)) in all.by_ref().take(member.events as usize) {
                if identity.is_some_and(|identity| memory.knows(identity) || !met.insert(identity)) {
                    self.size_bytes -= event.size_bytes();
                    self.duplicates += 1;
                    member.events -= 1;
                    continue;
                }
                self.batch.events.push(event);
                self.batch.identities.extend(identity);
                self.batch.offsets.extend(offsets.get(index));
            }
        }
    }

    /// Takes the events out; what is left is who to answer, and what to remember.
    pub(super) fn take_batch(&mut self) -> Batch {
        let batch = std::mem::take(&mut self.batch);
        self.news = (!batch.events.is_empty()).then(|| (batch.identities.clone(), batch.window));
        batch
    }

    /// Puts what is on disk by now into `memory`.
    pub(super) fn remember(&mut self, memory: &mut Memory) {
        if let Some((identities, window)) = self.news.take() {
            memory.add(&identities, window);
        }
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
