//! Reading from the buffer, for the lanes of one sink: one read-only connection, and a bound on what is in memory.

use std::sync::Arc;

use forebay_buffer::{Buffer, Checkpoint, Error, Event, Offset, ReadLimits, Reader, Refused, Subscription};
use tokio::{
    sync::{Mutex, OwnedSemaphorePermit, Semaphore},
    task::spawn_blocking,
};

use super::window::Loaded;
use crate::contract::{Batch, BatchLimits, Refusal};

/// Memory is handed out in pieces of this size.
const PIECE_BYTES: usize = 1024;
/// Lanes that may fill their windows at the same time: those that wait for a destination must not hold up the others.
const FULL_WINDOWS: usize = 2;

/// The way from the buffer into the lanes of one sink. Clones share the connection and the bound.
#[derive(Clone)]
pub(super) struct Feed {
    reader: Arc<Mutex<Reader>>,
    room: Arc<Semaphore>,
    limits: BatchLimits,
}

impl Feed {
    /// With memory for two full windows and a batch, however many lanes there are (Promise 5). Blocks.
    pub(super) fn new(buffer: &Buffer, limits: BatchLimits, window_bytes: u64) -> Result<Self, Error> {
        let window_bytes = usize::try_from(window_bytes).unwrap_or(usize::MAX / 4).max(limits.max_bytes);
        let pieces =
            (FULL_WINDOWS * window_bytes.div_ceil(PIECE_BYTES) + pieces_of(limits)).min(Semaphore::MAX_PERMITS);
        Ok(Self { reader: Arc::new(Mutex::new(buffer.reader()?)), room: Arc::new(Semaphore::new(pieces)), limits })
    }

    /// Room in memory for one batch, when there is some.
    pub(super) async fn room(&self) -> OwnedSemaphorePermit {
        let room = Arc::clone(&self.room).acquire_many_owned(pieces_of(self.limits) as u32).await;
        room.expect("the semaphore is never closed")
    }

    /// Room in memory for one batch, if there is some now: a lane with something in flight must not wait for room.
    pub(super) fn room_now(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.room).try_acquire_many_owned(pieces_of(self.limits) as u32).ok()
    }

    /// The next batch after `after`, with what is recorded as refused among its skipped. `None`: nothing is there yet.
    pub(super) async fn next(
        &self,
        subscription: &Subscription,
        after: Offset,
        expected: Option<Checkpoint>,
        mut room: OwnedSemaphorePermit,
    ) -> Result<Option<Loaded>, Error> {
        let limits = ReadLimits { max_events: self.limits.max_events, max_bytes: self.limits.max_bytes };
        let subscription = subscription.clone();
        let loaded = self
            .read(move |reader| {
                let delivery = subscription.read(reader, after, limits)?;
                let Some(through) = delivery.events.last().map(|(offset, _)| *offset) else { return Ok(None) };
                // A recorded refusal is final, after a restart too (Promise 6).
                let mut skipped = subscription.refused(reader, after, through)?;
                skipped.sort_unstable();
                let through = checkpoint_at(&subscription, through)?;
                let tags = subscription.tags(after, through.offset);
                let batch = Batch { events: delivery.events, skipped, expected, through, tags };
                Ok(Some((Arc::new(batch), delivery.size_bytes, delivery.lease)))
            })
            .await?;
        Ok(loaded.map(|(batch, size_bytes, lease)| {
            let spare = room.num_permits().saturating_sub(size_bytes.div_ceil(PIECE_BYTES).max(1));
            drop(room.split(spare));
            Loaded { batch, size_bytes, lease, room }
        }))
    }

    /// The events of refusals that became known only now, for the dead letters. One that is not here any more was
    /// dropped by a retention policy, and is in the loss ledger.
    pub(super) async fn refused_events(
        &self,
        subscription: &Subscription,
        refusals: Vec<Refusal>,
    ) -> Result<Vec<(Offset, Refused)>, Error> {
        let subscription = subscription.clone();
        self.read(move |reader| {
            let mut found = Vec::with_capacity(refusals.len());
            for refusal in refusals {
                let before = Offset(refusal.offset.0.saturating_sub(1));
                let one = subscription.read(reader, before, ReadLimits { max_events: 1, max_bytes: 1 })?;
                let event = one.events.into_iter().find(|(offset, _)| *offset == refusal.offset);
                found.extend(event.map(|(offset, event)| (offset, refused(&refusal, event))));
            }
            Ok(found)
        })
        .await
    }

    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Reader) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let mut reader = Arc::clone(&self.reader).lock_owned().await;
        blocking(move || work(&mut reader)).await
    }
}

/// Runs what blocks where it may. A panic there is passed on; a runtime that is going down counts as a closed buffer.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(failed) if failed.is_panic() => std::panic::resume_unwind(failed.into_panic()),
        Err(_) => Err(Error::Closed),
    }
}

/// A refused event as the buffer keeps it.
pub(super) fn refused(refusal: &Refusal, event: Event) -> Refused {
    Refused { event, code: refusal.code.clone(), reason: refusal.reason.clone() }
}

fn checkpoint_at(subscription: &Subscription, offset: Offset) -> Result<Checkpoint, Error> {
    subscription.checkpoint_at(offset).ok_or_else(|| {
        let partition = subscription.partition();
        Error::Damaged(format!(
            "{}/{} holds an event at {}, of an epoch that the file does not know",
            partition.stream(),
            partition.name(),
            partition.numbering().display(offset)
        ))
    })
}

fn pieces_of(limits: BatchLimits) -> usize {
    limits.max_bytes.div_ceil(PIECE_BYTES).clamp(1, u32::MAX as usize / 4)
}
