//! What a source and its intake promise each other.

use std::{fmt, pin::Pin};

use forebay_buffer::{Appended, Event, Numbering, Offset, Refused};
use tokio::sync::{mpsc, oneshot, watch};

use super::{BoxFuture, Shutdown};

/// Batches that one source may have handed over and not yet have on disk.
pub const INTAKE_QUEUE: usize = 64;

/// Where events come from.
pub trait Source: Send {
    /// Takes events in until `shutdown` says stop or there are no more.
    ///
    /// It asks the intake where to resume, hands it batches in order, and acknowledges upstream only what a receipt
    /// says is on disk (Promise 1). It never returns an error for something that time may mend: it waits and goes on.
    fn run<'a>(&'a mut self, intake: Intake, shutdown: Shutdown) -> BoxFuture<'a, Result<(), SourceError>>;
}

/// Why a source stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceError {
    /// Worth starting again after a while: the supervisor does, with backoff.
    Retry(String),
    /// Only an operator can mend this: the message says what to do.
    Stop(String),
}

/// A batch of one partition's events, as a source hands it over.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SourceBatch {
    /// The events, in order.
    pub events: Vec<Event>,
    /// Their offsets, where the numbering is shared: one for each event, increasing. Empty if the buffer assigns them.
    pub offsets: Vec<Offset>,
    /// What came and cannot be an event: it becomes dead letters, in the same transaction.
    pub refused: Vec<Refused>,
    /// Where to resume reading once this batch is on disk. `None` leaves the position as it is. A batch of nothing else
    /// moves the position alone.
    pub position: Option<Vec<u8>>,
    /// What tells an event from one that was sent again: one for each event, or none at all. An event whose identity is
    /// among the last [`SourceBatch::window`] of its partition is left out, and counted as a duplicate.
    pub identities: Vec<Option<Identity>>,
    /// The same for what is refused: one for each of [`SourceBatch::refused`], or none at all.
    pub refused_identities: Vec<Option<Identity>>,
    /// How many identities the partition remembers, this batch's included. They are on disk with the events. Where many
    /// partitions remember many, it is fewer.
    pub window: u32,
}

/// A digest of what identifies an event, such as its message id.
pub type Identity = u128;

/// A partition that a source has filled: its name, and the position stored with its last batch that had one.
pub type PartitionPosition = (String, Option<Vec<u8>>);

/// Where a partition of a source stands on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resume {
    /// The last event on disk.
    pub high_water: Offset,
    /// The position stored with it.
    pub position: Option<Vec<u8>>,
    /// What this creation of the hub is to the one that was read before.
    pub creation: Creation,
}

/// A creation of a hub, to one that was read before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Creation {
    /// It is the same, or nothing was read before.
    Same,
    /// It is a later one.
    Anew,
    /// It is an earlier one, so that this is another hub. The partition is not opened.
    Former,
}

/// What another owner of a partition has delivered to every sink of the stream: it need not be read here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passed {
    /// The last event of it.
    pub offset: Offset,
    /// Where reading goes on after that.
    pub position: Option<Vec<u8>>,
}

/// How far every sink of the stream has confirmed a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivered {
    /// The last event that every sink has confirmed.
    pub offset: Offset,
    /// The position of the last batch that lies wholly at or below [`Delivered::offset`].
    pub position: Option<Vec<u8>>,
}

/// Why the intake did not take a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IntakeError {
    /// The buffer is full and holds producers back. Only [`Intake::offer`] says so; [`Intake::submit`] waits.
    Full,
    /// The batch is larger than the stream's share of the buffer, or than the buffer: it will never be taken.
    TooLarge(String),
    /// The partition is fenced: another owner has it.
    Fenced,
    /// The agent is going down, or the buffer is: nothing of the batch was kept.
    Closed(String),
}

impl fmt::Display for IntakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("the buffer is full"),
            Self::TooLarge(why) => f.write_str(why),
            Self::Fenced => f.write_str("another owner has taken this partition"),
            Self::Closed(why) => write!(f, "the buffer takes no more events: {why}"),
        }
    }
}

impl std::error::Error for IntakeError {}

/// What a source asks of its intake loop. Only `intake.rs` looks inside.
pub enum IntakeRequest {
    /// Name the partitions of the stream, with their positions.
    Partitions {
        /// Where the answer goes.
        reply: oneshot::Sender<Result<Vec<PartitionPosition>, IntakeError>>,
    },
    /// Something of one partition.
    Of {
        /// The partition's name.
        partition: String,
        /// What is asked.
        request: PartitionRequest,
    },
}

/// What a source asks of one partition.
pub enum PartitionRequest {
    /// Append a batch.
    Append {
        /// What to append.
        batch: SourceBatch,
        /// Whether to wait for room, or to say [`IntakeError::Full`] at once.
        wait: bool,
        /// Where the outcome goes.
        reply: oneshot::Sender<Result<Appended, IntakeError>>,
    },
    /// Open it, let delivery at it, and say where it stands.
    Resume {
        /// How its offsets come about.
        numbering: Numbering,
        /// What another owner has delivered of it.
        passed: Option<Passed>,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<Resume, IntakeError>>,
    },
    /// Watch how far delivery has confirmed it.
    Watch {
        /// Where the answer goes.
        reply: oneshot::Sender<Result<watch::Receiver<Delivered>, IntakeError>>,
    },
    /// It may belong to another owner: keep delivery away from it until it is resumed.
    Suspend {
        /// Where the answer goes: whether there is anything that was not delivered.
        reply: oneshot::Sender<Result<bool, IntakeError>>,
    },
    /// It has been verified that it is ours: what was turned away from it may be delivered again.
    Affirm,
    /// It belongs to another owner now: fence its delivery and take the undelivered rest back.
    Lost {
        /// When the hub that is there was created, where that is known.
        created: Option<i64>,
        /// The first event that this hub still has, where that is known.
        oldest: Option<Offset>,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<Resume, IntakeError>>,
    },
}

/// Events that came and could not be kept (MQTT QoS 0 under backpressure), for the loss ledger.
pub struct LossRequest {
    /// The partition that they were for.
    pub partition: String,
    /// How many.
    pub events: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Why.
    pub reason: String,
    /// Where to resume reading after them, if that moves.
    pub position: Option<Vec<u8>>,
    /// Where the answer goes.
    pub reply: oneshot::Sender<Result<(), IntakeError>>,
}

/// What comes from one source. Losses are counted, and partitions are left, while everything else waits for room, so these
/// have ways of their own.
pub struct IntakeRequests {
    /// Everything else, in order.
    pub queue: mpsc::Receiver<IntakeRequest>,
    /// Losses.
    pub losses: mpsc::Receiver<LossRequest>,
    /// [`PartitionRequest::Suspend`], [`PartitionRequest::Lost`] and [`PartitionRequest::Affirm`], each with its partition's
    /// name.
    pub partings: mpsc::Receiver<(String, PartitionRequest)>,
}

/// A source's way into the buffer.
#[derive(Clone)]
pub struct Intake {
    requests: mpsc::Sender<IntakeRequest>,
    losses: mpsc::Sender<LossRequest>,
    partings: mpsc::Sender<(String, PartitionRequest)>,
    full: watch::Receiver<bool>,
}

impl Intake {
    /// The handle and what the intake loop reads. `full` says whether the buffer holds this stream back.
    pub fn new(full: watch::Receiver<bool>) -> (Self, IntakeRequests) {
        let (requests, queue) = mpsc::channel(INTAKE_QUEUE);
        let (losses, lost) = mpsc::channel(INTAKE_QUEUE);
        let (partings, parted) = mpsc::channel(INTAKE_QUEUE);
        (Self { requests, losses, partings, full }, IntakeRequests { queue, losses: lost, partings: parted })
    }

    /// Opens `partition` and says where to resume. Must come before the first batch of a shared numbering; with an
    /// assigned one, a first batch opens the partition by itself.
    pub async fn resume(&self, partition: &str, numbering: Numbering) -> Result<Resume, IntakeError> {
        self.ask_of(partition, |reply| PartitionRequest::Resume { numbering, passed: None, reply }).await
    }

    /// As [`Intake::resume`], of a partition that another owner had before: what it has delivered is passed over. Delivery,
    /// which had been kept away, is let at the partition again. Where the hub was created anew, this waits until what is
    /// here of the earlier one is delivered; if the sinks have gone on with the new one, it goes into the loss ledger.
    pub async fn resume_after(
        &self,
        partition: &str,
        numbering: Numbering,
        passed: Option<Passed>,
    ) -> Result<Resume, IntakeError> {
        self.ask_of(partition, |reply| PartitionRequest::Resume { numbering, passed, reply }).await
    }

    /// Says that another owner may have `partition`: its delivery is fenced and what is in flight is awaited, and what is
    /// here stays, until [`Intake::resume_after`] or [`Intake::lost`]. The answer says whether anything of it was not
    /// delivered.
    pub async fn suspend(&self, partition: &str) -> Result<bool, IntakeError> {
        self.part(partition, |reply| PartitionRequest::Suspend { reply }).await
    }

    /// Says that `partition` was just now seen to be ours: where a destination has taken its delivery for another owner's,
    /// it goes on.
    pub async fn affirm(&self, partition: &str) -> Result<(), IntakeError> {
        self.partings.send((partition.to_owned(), PartitionRequest::Affirm)).await.map_err(|_| closed())
    }

    /// The partitions of the stream that have events or had some, with their positions.
    pub async fn partitions(&self) -> Result<Vec<PartitionPosition>, IntakeError> {
        self.ask(|reply| IntakeRequest::Partitions { reply }).await
    }

    /// Hands over a batch and returns its receipt. Batches of one partition are written in the order of these calls.
    /// Where the buffer is full, the receipt waits until it is not.
    pub async fn submit(&self, partition: &str, batch: SourceBatch) -> Result<Receipt, IntakeError> {
        self.append(partition, batch, true).await
    }

    /// As [`Intake::submit`], but where the buffer is full the receipt says [`IntakeError::Full`] at once and nothing
    /// of the batch is kept: for producers who can be told to come again.
    pub async fn offer(&self, partition: &str, batch: SourceBatch) -> Result<Receipt, IntakeError> {
        self.append(partition, batch, false).await
    }

    /// Whether the buffer holds this stream back just now: asked before a large body is read.
    pub fn is_full(&self) -> bool {
        *self.full.borrow()
    }

    /// Ends when [`Intake::is_full`] says something else than `full`.
    pub async fn is_no_longer(&self, full: bool) {
        if self.full.clone().wait_for(|now| *now != full).await.is_err() {
            std::future::pending().await // Nobody is there any more to say so.
        }
    }

    /// Follows how far every sink has confirmed `partition`.
    pub async fn delivered(&self, partition: &str) -> Result<watch::Receiver<Delivered>, IntakeError> {
        self.ask_of(partition, |reply| PartitionRequest::Watch { reply }).await
    }

    /// Says that another owner has `partition`: its delivery is fenced until it is resumed, what is in flight is awaited,
    /// and the undelivered rest is taken back out of the buffer. The answer says where the partition stands after that.
    ///
    /// `created` says when the hub was created from which the new owner reads, where that is known: what is of an earlier
    /// one is nowhere else any more, and goes into the loss ledger. So does what lies below `oldest`, the first event that
    /// this hub still has, if the sink has no checkpoint yet: the new owner would begin with that, and miss nothing.
    pub async fn lost(
        &self,
        partition: &str,
        created: Option<i64>,
        oldest: Option<Offset>,
    ) -> Result<Resume, IntakeError> {
        self.part(partition, |reply| PartitionRequest::Lost { created, oldest, reply }).await
    }

    /// Puts events that came and could not be kept into the loss ledger (Promise 6). It waits for none of the batches
    /// that were handed over: a full buffer is when events are lost.
    pub async fn lose(&self, partition: &str, events: u64, bytes: u64, reason: &str) -> Result<(), IntakeError> {
        self.record(partition, (events, bytes), reason, None).await
    }

    /// As [`Intake::lose`], of events that will not come any more: reading goes on at `position`, which is on disk with the
    /// loss. Nothing of the partition may be on its way to disk.
    pub async fn lose_before(
        &self,
        position: Vec<u8>,
        partition: &str,
        events: u64,
        reason: &str,
    ) -> Result<(), IntakeError> {
        self.record(partition, (events, 0), reason, Some(position)).await
    }

    async fn record(
        &self,
        partition: &str,
        (events, bytes): (u64, u64),
        reason: &str,
        position: Option<Vec<u8>>,
    ) -> Result<(), IntakeError> {
        let (reply, answer) = oneshot::channel();
        let (partition, reason) = (partition.to_owned(), reason.to_owned());
        let loss = LossRequest { partition, events, bytes, reason, position, reply };
        self.losses.send(loss).await.map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?
    }

    async fn append(&self, partition: &str, batch: SourceBatch, wait: bool) -> Result<Receipt, IntakeError> {
        let (reply, receipt) = oneshot::channel();
        let request = PartitionRequest::Append { batch, wait, reply };
        self.requests
            .send(IntakeRequest::Of { partition: partition.to_owned(), request })
            .await
            .map_err(|_| closed())?;
        Ok(Receipt(receipt))
    }

    async fn part<T>(
        &self,
        partition: &str,
        request: impl FnOnce(oneshot::Sender<Result<T, IntakeError>>) -> PartitionRequest,
    ) -> Result<T, IntakeError> {
        let (reply, answer) = oneshot::channel();
        self.partings.send((partition.to_owned(), request(reply))).await.map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?
    }

    async fn ask_of<T>(
        &self,
        partition: &str,
        request: impl FnOnce(oneshot::Sender<Result<T, IntakeError>>) -> PartitionRequest,
    ) -> Result<T, IntakeError> {
        let partition = partition.to_owned();
        self.ask(|reply| IntakeRequest::Of { partition, request: request(reply) }).await
    }

    async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, IntakeError>>) -> IntakeRequest,
    ) -> Result<T, IntakeError> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(request(reply)).await.map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?
    }
}

fn closed() -> IntakeError {
    IntakeError::Closed("the agent is shutting down".to_owned())
}

/// Resolves when a batch is on disk (Promise 1), or will never be.
pub struct Receipt(oneshot::Receiver<Result<Appended, IntakeError>>);

impl Future for Receipt {
    type Output = Result<Appended, IntakeError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut std::task::Context<'_>) -> std::task::Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map(|outcome| outcome.unwrap_or_else(|_| Err(closed())))
    }
}
