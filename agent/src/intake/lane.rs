//! One partition's way into the buffer.

use std::{cmp::Ordering, sync::Arc};

use forebay_buffer::{AppendError, Appended, Encoded, Error, Numbering, Offset, Partition, TakenBack};
use tokio::sync::{mpsc, watch};

use super::{
    Shared,
    admission::Admitted,
    answer, blocking,
    group::{Group, Waiting},
    memory::Memory,
    pressure::news,
    window::Share,
};
use crate::contract::{Creation, Delivered, INTAKE_QUEUE, IntakeError, PartitionRequest, Passed, Resume};

/// Compressing more than this, and waiting for a place in the writer's queue, is left to the blocking threads.
const INLINE_BYTES: usize = 64 << 10;
/// Why events are in the loss ledger that were of a hub's earlier creation.
const HUB_IS_NO_MORE: &str = "their hub was created anew, and the sinks have gone on with that";
/// Why events are there that a new owner cannot read any more.
const GONE_AT_THE_HUB: &str = "expired at the hub before its new owner could read it";

/// Writes one partition.
pub(super) struct Lane {
    shared: Arc<Shared>,
    name: String,
    queue: mpsc::Receiver<Admitted>,
    /// What came up while a group was gathered and could not join it.
    next: Option<Admitted>,
    partition: Option<Partition>,
    /// What the events of [`Lane::partition`] are known by.
    memory: Memory,
    /// How many of these there may be. `None` as long as it remembers nothing.
    share: Option<Share>,
    /// How often the source has said that the partition is another's, or may be, as soon as it says so.
    fencings: watch::Receiver<u64>,
    fencings_done: u64,
    /// Whether what is here is of another hub than the one that the source leads to: no other owner reads it there.
    is_former: bool,
    /// Why nothing is taken: until the source asks where to resume, or for good.
    closed: Option<IntakeError>,
}

/// The sending end of a lane.
#[derive(Clone)]
pub(super) struct LaneHandle {
    queue: mpsc::Sender<Admitted>,
    fencings: Arc<watch::Sender<u64>>,
}

impl LaneHandle {
    /// Has the partition left, before and in place of all that waits for room.
    pub(super) async fn part(&self, request: PartitionRequest) {
        self.fencings.send_modify(|fencings| *fencings += 1);
        self.send(Admitted::at_once(request)).await;
    }

    pub(super) async fn send(&self, admitted: Admitted) {
        // A lane ends only when its handle is gone, unless it panicked: then the dropped reply says "closed".
        let _ = self.queue.send(admitted).await;
    }
}

impl Lane {
    pub(super) fn new(shared: Arc<Shared>, name: String) -> (Self, LaneHandle) {
        let (handle, queue) = mpsc::channel(INTAKE_QUEUE);
        let (fencings_handle, fencings) = watch::channel(0);
        let (partition, memory) = (None, Memory::default());
        let (next, share, closed, is_former) = (None, None, None, false);
        let lane =
            Self { shared, name, queue, next, partition, memory, share, fencings, fencings_done: 0, is_former, closed };
        (lane, LaneHandle { queue: handle, fencings: Arc::new(fencings_handle) })
    }

    /// Serves until the handle is gone and everything is answered.
    pub(super) async fn run(mut self) {
        loop {
            let next = match self.next.take() {
                Some(next) => Some(next),
                None => self.receive().await,
            };
            let Some(Admitted { request, size, permit }) = next else { return };
            match request {
                PartitionRequest::Append { batch, wait, reply, .. } => {
                    let group = self.gather(Waiting { batch, size, wait, reply, permit });
                    self.write(group).await;
                }
                // Who asked has gone since, and the partition may be another's by now: its fence stays as it is.
                PartitionRequest::Resume { reply, .. } if reply.is_closed() => {}
                PartitionRequest::Resume { numbering, passed, reply } => {
                    answer(reply, self.resume(numbering, passed).await);
                }
                PartitionRequest::Suspend { reply } => {
                    let outcome = self.suspend().await;
                    self.fencings_done += 1;
                    answer(reply, outcome);
                }
                PartitionRequest::Lost { created, oldest, reply } => {
                    let outcome = self.lose_ownership(created, oldest).await;
                    self.fencings_done += 1;
                    answer(reply, outcome);
                }
                PartitionRequest::Watch { reply, .. } => answer(reply, self.watch().await),
                PartitionRequest::Affirm => unreachable!("it waits for nothing, and comes to no lane"),
            }
        }
    }

    /// The next request. Meanwhile what is remembered shrinks as more partitions come to remember something.
    async fn receive(&mut self) -> Option<Admitted> {
        loop {
            let Some(share) = &mut self.share else { return self.queue.recv().await };
            tokio::select! {
                next = self.queue.recv() => return next,
                window = share.changed() => self.memory.limit(window),
            }
        }
    }

    /// Puts `first` together with whatever waits behind it and can share its fate.
    fn gather(&mut self, first: Waiting) -> Group {
        let mut group = Group::new(first);
        while let Ok(Admitted { request, size, permit }) = self.queue.try_recv() {
            match request {
                PartitionRequest::Append { batch, wait, reply, .. }
                    if group.can_take(&batch, size, wait, self.shared.max_bytes) =>
                {
                    group.push(Waiting { batch, size, wait, reply, permit });
                }
                request => {
                    self.next = Some(Admitted { request, size, permit });
                    break;
                }
            }
        }
        group
    }

    async fn write(&mut self, mut group: Group) {
        match self.append(&mut group).await {
            Ok(appended) => {
                if appended.dropped > 0 {
                    group.forget(&mut self.memory);
                }
                let progress = &self.shared.progress;
                progress.count(appended.events, group.size.counted as u64);
                count(&progress.refused, group.refused);
                count(&progress.dropped, appended.dropped);
                count(&progress.duplicates, group.duplicates);
                group.acknowledge(appended);
            }
            Err(error) => {
                group.forget(&mut self.memory);
                group.refuse(&error);
            }
        }
    }

    /// Appends the group, once there is room. An error says that nothing of it was kept.
    async fn append(&mut self, group: &mut Group) -> Result<Appended, IntakeError> {
        let shared = Arc::clone(&self.shared);
        let mut held_back = None;
        let mut encoded = None;
        loop {
            if let Some(error) = self.refusal() {
                return Err(error);
            }
            // Asked for before the attempt, so that no news of room is missed.
            let room = shared.buffer.room_made();
            match self.attempt(group, encoded.take()).await {
                Ok(appended) => return Ok(appended),
                Err(Attempt::Full(back)) => {
                    shared.pressure.met();
                    if !group.wait {
                        return Err(IntakeError::Full);
                    }
                    held_back.get_or_insert_with(|| shared.pressure.waiting());
                    encoded = back;
                }
                Err(Attempt::Refused(error)) => {
                    // A later batch's position would skip this one: nothing more until the source has looked again.
                    let error = refused(error);
                    self.closed = group.wait.then(|| IntakeError::Closed(error.to_string()));
                    return Err(error);
                }
                Err(Attempt::Failed(error)) => return Err(shared.fail(error)),
            }
            if let Err(error) = self.wait_for(room).await {
                self.closed = Some(error.clone());
                return Err(error);
            }
        }
    }

    /// Why a batch cannot be taken, if it cannot.
    fn refusal(&self) -> Option<IntakeError> {
        let lost = *self.fencings.borrow() > self.fencings_done;
        lost.then_some(IntakeError::Fenced).or_else(|| self.closed.clone()).or_else(|| self.shared.failure())
    }

    async fn wait_for(&mut self, change: event_listener::EventListener) -> Result<(), IntakeError> {
        let mut shutdown = self.shared.shutdown.clone();
        let fencings_done = self.fencings_done;
        tokio::select! {
            () = news(change) => Ok(()),
            () = shutdown.requested() => Err(IntakeError::Closed("the agent is shutting down".to_owned())),
            _ = self.fencings.wait_for(|fencings| *fencings > fencings_done) => Err(IntakeError::Fenced),
        }
    }

    async fn attempt(&mut self, group: &mut Group, encoded: Option<Encoded>) -> Result<Appended, Attempt> {
        let partition = self.open(Numbering::Assigned).await?;
        let encode: Box<dyn FnOnce() -> Result<Encoded, Error> + Send> = match encoded {
            Some(encoded) => Box::new(move || Ok(encoded)),
            None => {
                if let Some(wanted) = group.window {
                    let window = self.window(wanted);
                    group.leave_out_duplicates(&mut self.memory, window);
                }
                let (partition, batch) = (partition.clone(), group.take_batch());
                Box::new(move || partition.encode(batch))
            }
        };
        let append = move || Ok(partition.append(encode()?));
        let queued = if group.size.counted < INLINE_BYTES {
            append()?
        } else {
            let _working = self.shared.progress.working();
            blocking(append).await?
        };
        match queued.await {
            Ok(appended) => Ok(appended),
            Err(AppendError::Full(encoded)) => Err(Attempt::Full(Some(*encoded))),
            Err(AppendError::Failed(error)) => Err(error.into()),
        }
    }

    /// The partition: the one in use, or the one on disk, or a new one with this numbering.
    async fn open(&mut self, numbering: Numbering) -> Result<Partition, Error> {
        if let Some(partition) = &self.partition {
            return Ok(partition.clone());
        }
        let (buffer, stream, name) = (self.shared.buffer.clone(), self.shared.stream.clone(), self.name.clone());
        let opened = blocking(move || recall(buffer.partition(&stream, &name, numbering)?)).await?;
        Ok(self.take_up(opened))
    }

    fn take_up(&mut self, (partition, memory): (Partition, Memory)) -> Partition {
        self.memory = memory;
        if !self.memory.is_empty() {
            let share = self.share.get_or_insert_with(|| self.shared.windows.join());
            self.memory.limit(share.get());
        }
        self.partition.insert(partition).clone()
    }

    /// The window that the lane has where `wanted` is asked for.
    fn window(&mut self, wanted: u32) -> u32 {
        if wanted == 0 {
            self.share = None;
            return 0;
        }
        self.share.get_or_insert_with(|| self.shared.windows.join()).window(wanted)
    }

    async fn resume(&mut self, numbering: Numbering, passed: Option<Passed>) -> Result<Resume, IntakeError> {
        let sinks_are_here = passed.is_some();
        let shared = Arc::clone(&self.shared);
        if self.partition.as_ref().is_some_and(|partition| partition.numbering() != numbering) {
            self.partition = None;
        }
        let creation = self.finish_earlier(numbering, sinks_are_here).await?;
        self.is_former = creation == Creation::Former;
        if self.is_former {
            // What is here of the other is delivered all the same.
            shared.fences.open(&shared.stream, &self.name);
            return Ok(Resume { high_water: Offset::BEFORE_ALL, position: None, creation });
        }
        let partition = self.open(numbering).await.map_err(|error| shared.explain(error))?;
        if let Some(Passed { offset, position }) = passed.filter(|passed| passed.offset > partition.delivered().0) {
            shared.fences.close(&shared.stream, &self.name).await;
            let partition = partition.clone();
            let passed_over = blocking(move || partition.pass_over(offset, position)).await;
            passed_over.map_err(|error| shared.explain(error))?;
        }
        shared.fences.open(&shared.stream, &self.name);
        self.closed = None;
        Ok(Resume { creation, ..standing(&partition) })
    }

    /// Waits until what is here of earlier creations of the hub is delivered, for its checkpoint would be replaced. What
    /// this creation is to what is here.
    /// Where the sinks have gone on with this creation already (`sinks_are_here`), nobody will take it any more.
    async fn finish_earlier(&mut self, numbering: Numbering, sinks_are_here: bool) -> Result<Creation, IntakeError> {
        let Numbering::Shared { created } = numbering else { return Ok(Creation::Same) };
        let to_this = |partition: &Partition| match partition.numbering() {
            Numbering::Shared { created: other } => other.cmp(&created),
            Numbering::Assigned => Ordering::Equal,
        };
        let mut here = self.all().await.map_err(|error| self.shared.explain(error))?;
        here.retain(|partition| partition.high_water() > Offset::BEFORE_ALL);
        if here.iter().any(|partition| to_this(partition).is_gt()) {
            return Ok(Creation::Former);
        }
        here.retain(|partition| to_this(partition).is_lt());
        let earlier = here;
        if sinks_are_here && !earlier.is_empty() {
            self.shared.fences.close(&self.shared.stream, &self.name).await;
            let earlier = earlier.clone();
            let given_up = blocking(move || earlier.iter().try_for_each(|one| one.give_up(HUB_IS_NO_MORE).map(drop)));
            given_up.await.map_err(|error| self.shared.explain(error))?;
        }
        for partition in &earlier {
            // Listening begins before looking.
            let mut change = partition.listen();
            while partition.delivered().0 < partition.high_water() {
                self.shared.fences.open(&self.shared.stream, &self.name);
                self.wait_for(change).await?;
                change = partition.listen();
            }
        }
        Ok(if earlier.is_empty() { Creation::Same } else { Creation::Anew })
    }

    async fn watch(&mut self) -> Result<watch::Receiver<Delivered>, IntakeError> {
        let partition = self.open(Numbering::Assigned).await.map_err(|error| self.shared.explain(error))?;
        let (sender, receiver) = watch::channel(delivered(&partition));
        tokio::spawn(async move {
            loop {
                let change = partition.listen();
                let now = delivered(&partition);
                sender.send_if_modified(|before| {
                    let changed = *before != now;
                    *before = now;
                    changed
                });
                tokio::select! {
                    () = change => {}
                    () = sender.closed() => return,
                }
            }
        });
        Ok(receiver)
    }

    /// Keeps delivery away from what another owner may have: not from dead letters that are retried, which are numbered here.
    async fn suspend(&mut self) -> Result<bool, IntakeError> {
        let all = self.all().await.map_err(|error| self.shared.explain(error))?;
        if all.iter().all(|partition| partition.numbering() != Numbering::Assigned) {
            self.fence().await;
        }
        Ok(all.iter().any(|partition| partition.delivered().0 < partition.high_water()))
    }

    /// Keeps delivery away, and takes nothing more, until the source asks where to resume.
    async fn fence(&mut self) {
        self.closed = Some(IntakeError::Fenced);
        self.shared.fences.close(&self.shared.stream, &self.name).await;
    }

    /// Takes back what was not delivered: the new owner reads it upstream.
    async fn lose_ownership(&mut self, created: Option<i64>, oldest: Option<Offset>) -> Result<Resume, IntakeError> {
        self.fence().await;
        let shared = Arc::clone(&self.shared);
        let mut all = self.all().await.map_err(|error| shared.explain(error))?;
        let to_present = |partition: &Partition| match (partition.numbering(), created) {
            (Numbering::Shared { created: other }, Some(created)) => other.cmp(&created),
            _ => Ordering::Equal,
        };
        let is_later = |partition: &Partition| to_present(partition).is_gt();
        if self.is_former || all.iter().any(|one| is_later(one) && one.high_water() > Offset::BEFORE_ALL) {
            return Ok(Resume { high_water: Offset::BEFORE_ALL, position: None, creation: Creation::Former });
        }
        all.retain(|one| !is_later(one));
        let latest = all.pop_if(|latest| to_present(latest).is_eq());
        let taken = blocking(move || {
            // What is of a hub that was created anew is nowhere else any more.
            for earlier in all {
                earlier.give_up(HUB_IS_NO_MORE)?;
            }
            let Some(latest) = latest else { return Ok((TakenBack::default(), None)) };
            let back = match oldest {
                Some(oldest) => latest.take_back_from(oldest, GONE_AT_THE_HUB)?,
                None => TakenBack { taken: latest.take_back()?, lost: 0 },
            };
            Ok((back, Some(recall(latest)?)))
        });
        let (TakenBack { taken, lost }, last) = taken.await.map_err(|error| shared.explain(error))?;
        let (subject, name) = (shared.progress.subject(), &self.name);
        if taken > 0 {
            log::info!("{subject} ({name}): lost to another owner; {taken} events taken back");
        }
        if lost > 0 {
            log::error!(
                "{subject} ({name}): lost to another owner, and {lost} events have expired at the hub, so that it cannot \
                 read them; they are in the loss ledger"
            );
        }
        Ok(match last {
            Some(opened) => standing(&self.take_up(opened)),
            None => Resume { high_water: Offset::BEFORE_ALL, position: None, creation: Creation::Same },
        })
    }

    /// The partitions of this name: one for each creation of the hub, the latest last.
    async fn all(&self) -> Result<Vec<Partition>, Error> {
        let (buffer, stream, name) = (self.shared.buffer.clone(), self.shared.stream.clone(), self.name.clone());
        blocking(move || {
            let mut all = buffer.partitions(&stream)?;
            all.retain(|partition| partition.name() == name && partition.for_sink().is_none());
            Ok(all)
        })
        .await
    }
}

impl Shared {
    /// What a source is told of an error that is not about one of its batches.
    pub(super) fn explain(&self, error: Error) -> IntakeError {
        match Attempt::from(error) {
            Attempt::Full(_) => IntakeError::Full,
            Attempt::Refused(error) => refused(error),
            Attempt::Failed(error) => self.fail(error),
        }
    }
}

/// Why an attempt to write a group did not succeed.
enum Attempt {
    /// No room: try the same again later.
    Full(Option<Encoded>),
    /// The buffer is well, and does not want this.
    Refused(Error),
    /// The buffer cannot be written to.
    Failed(Error),
}

impl From<Error> for Attempt {
    fn from(error: Error) -> Self {
        match error {
            Error::Full(_) => Self::Full(None),
            Error::Unknown(_) | Error::Refused(_) | Error::TooLarge(_) => Self::Refused(error),
            Error::Damaged(_) | Error::Failed(_) | Error::Closed => Self::Failed(error),
        }
    }
}

fn refused(error: Error) -> IntakeError {
    match error {
        Error::TooLarge(why) => IntakeError::TooLarge(why),
        error => IntakeError::Closed(error.to_string()),
    }
}

/// A partition with what it remembers. Blocking.
fn recall(partition: Partition) -> Result<(Partition, Memory), Error> {
    let memory = Memory::of(partition.identities()?);
    Ok((partition, memory))
}

fn standing(partition: &Partition) -> Resume {
    Resume { high_water: partition.high_water(), position: partition.position(), creation: Creation::Same }
}

fn delivered(partition: &Partition) -> Delivered {
    let (offset, position) = partition.delivered();
    Delivered { offset, position }
}

fn count(counter: &std::sync::atomic::AtomicU64, more: u64) {
    counter.fetch_add(more, std::sync::atomic::Ordering::Relaxed);
}
