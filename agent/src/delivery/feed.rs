//! Reading from the buffer, for the lanes of one sink: one read-only connection, and a bound on what is in memory.

use std::sync::Arc;

use forebay_buffer::{Buffer, Checkpoint, Error, Event, Lease, Offset, ReadLimits, Reader, Subscription};
use tokio::{
    sync::{Mutex, OwnedMutexGuard, OwnedSemaphorePermit, Semaphore},
    task::spawn_blocking,
};

use crate::contract::{Batch, BatchLimits};

/// Memory is handed out in pieces of this size.
const PIECE_BYTES: usize = 1024;
/// Lanes that may hold all they may at the same time: those that wait for a destination must not hold up the others.
const FULL_LANES: usize = 2;

/// The way from the buffer into the lanes of one sink. Clones share the connection and the bound.
#[derive(Clone)]
pub(super) struct Feed {
    reader: Arc<Mutex<Reader>>,
    room: Arc<Semaphore>,
    /// Taken by who reads again what may be as large as a batch, for which there is no room.
    again: Arc<Mutex<()>>,
    limits: BatchLimits,
}

/// A batch as it was read, before it is anywhere.
pub(super) struct Loaded {
    pub(super) batch: Arc<Batch>,
    pub(super) size_bytes: usize,
    pub(super) lease: Lease,
    /// What it takes in memory.
    pub(super) room: OwnedSemaphorePermit,
}

impl Feed {
    /// With memory for twice what one lane may hold and for a batch, however many lanes there are (Promise 5). Blocks.
    pub(super) fn new(buffer: &Buffer, limits: BatchLimits, held_bytes: u64) -> Result<Self, Error> {
        let held_bytes = usize::try_from(held_bytes).unwrap_or(usize::MAX / 4).max(limits.max_bytes);
        let pieces = (FULL_LANES * held_bytes.div_ceil(PIECE_BYTES) + pieces_of(limits)).min(Semaphore::MAX_PERMITS);
        let reader = Arc::new(Mutex::new(buffer.reader()?));
        Ok(Self { reader, room: Arc::new(Semaphore::new(pieces)), again: Arc::default(), limits })
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
        let (limits, subscription) = (self.read_limits(), subscription.clone());
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
            shrink(&mut room, size_bytes);
            Loaded { batch, size_bytes, lease, room }
        }))
    }

    /// The turn of one who reads many events again, and keeps them for a while.
    pub(super) async fn turn(&self) -> OwnedMutexGuard<()> {
        Arc::clone(&self.again).lock_owned().await
    }

    /// The events after `after` once more, at most `max_events` of them, and at most as many as a batch may have. One that
    /// is not here any more was dropped by a retention policy or is damaged, and is in the loss ledger.
    pub(super) async fn events(
        &self,
        subscription: &Subscription,
        after: Offset,
        max_events: usize,
    ) -> Result<Vec<(Offset, Event)>, Error> {
        let (mut limits, subscription) = (self.read_limits(), subscription.clone());
        limits.max_events = limits.max_events.min(max_events);
        self.read(move |reader| subscription.read_again(reader, after, limits)).await
    }

    fn read_limits(&self) -> ReadLimits {
        ReadLimits { max_events: self.limits.max_events, max_bytes: self.limits.max_bytes }
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

/// Gives back what is not needed for so many bytes.
pub(super) fn shrink(room: &mut OwnedSemaphorePermit, size_bytes: usize) {
    let spare = room.num_permits().saturating_sub(size_bytes.div_ceil(PIECE_BYTES));
    drop(room.split(spare));
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
