//! What a source, a sink and the loops between them promise each other.
//!
//! The way of the data is a straight line: source, intake, buffer, delivery, sink. A source hands batches to its
//! [`Intake`] and awaits receipts; a sink gives a [`Lane`] for each partition, which the delivery loop drives. Neither
//! retries, checkpoints or keeps order on its own: the two loops do, and these types are all they share.

use std::{fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use forebay_buffer::{Appended, Checkpoint, Event, Numbering, Offset, Refused};
use tokio::sync::{mpsc, oneshot, watch};

/// A boxed future, as the traits here must stay usable as trait objects.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Batches that one source may have handed over and not yet have on disk.
pub const INTAKE_QUEUE: usize = 64;

// ---------------------------------------------------------------------------------------------------------- sources

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
    /// Where to resume reading once this batch is on disk. `None` leaves the position as it is.
    pub position: Option<Vec<u8>>,
}

/// Where a partition of a source stands on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resume {
    /// The last event on disk.
    pub high_water: Offset,
    /// The position stored with it.
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
    /// Append a batch.
    Append {
        /// The partition's name.
        partition: String,
        /// What to append.
        batch: SourceBatch,
        /// Whether to wait for room, or to say [`IntakeError::Full`] at once.
        wait: bool,
        /// Where the outcome goes.
        reply: oneshot::Sender<Result<Appended, IntakeError>>,
    },
    /// Open a partition and say where it stands.
    Resume {
        /// The partition's name.
        partition: String,
        /// How its offsets come about.
        numbering: Numbering,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<Resume, IntakeError>>,
    },
    /// Watch how far delivery has confirmed a partition.
    Watch {
        /// The partition's name.
        partition: String,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<watch::Receiver<Delivered>, IntakeError>>,
    },
    /// The partition belongs to another owner now: fence its delivery and take the undelivered rest back.
    Lost {
        /// The partition's name.
        partition: String,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<Resume, IntakeError>>,
    },
    /// Count events that came and could not be kept (MQTT QoS 0 under backpressure) in the loss ledger.
    Lose {
        /// The partition's name.
        partition: String,
        /// How many.
        events: u64,
        /// Their bytes.
        bytes: u64,
        /// Why.
        reason: String,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<(), IntakeError>>,
    },
}

/// A source's way into the buffer.
#[derive(Clone)]
pub struct Intake {
    requests: mpsc::Sender<IntakeRequest>,
    full: watch::Receiver<bool>,
}

impl Intake {
    /// The handle and the queue that the intake loop reads. `full` says whether the buffer holds this stream back.
    pub fn new(full: watch::Receiver<bool>) -> (Self, mpsc::Receiver<IntakeRequest>) {
        let (requests, queue) = mpsc::channel(INTAKE_QUEUE);
        (Self { requests, full }, queue)
    }

    /// Opens `partition` and says where to resume. Must come before the first batch of a shared numbering; with an
    /// assigned one, a first batch opens the partition by itself.
    pub async fn resume(&self, partition: &str, numbering: Numbering) -> Result<Resume, IntakeError> {
        let partition = partition.to_owned();
        self.ask(|reply| IntakeRequest::Resume { partition, numbering, reply }).await
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

    /// Follows how far every sink has confirmed `partition`.
    pub async fn delivered(&self, partition: &str) -> Result<watch::Receiver<Delivered>, IntakeError> {
        let partition = partition.to_owned();
        self.ask(|reply| IntakeRequest::Watch { partition, reply }).await
    }

    /// Says that another owner has `partition`: its delivery is fenced, what is in flight is awaited, and the
    /// undelivered rest is taken back out of the buffer. The answer says where the partition stands after that.
    pub async fn lost(&self, partition: &str) -> Result<Resume, IntakeError> {
        let partition = partition.to_owned();
        self.ask(|reply| IntakeRequest::Lost { partition, reply }).await
    }

    /// Puts events that came and could not be kept into the loss ledger (Promise 6).
    pub async fn lose(&self, partition: &str, events: u64, bytes: u64, reason: &str) -> Result<(), IntakeError> {
        let (partition, reason) = (partition.to_owned(), reason.to_owned());
        self.ask(|reply| IntakeRequest::Lose { partition, events, bytes, reason, reply }).await
    }

    async fn append(&self, partition: &str, batch: SourceBatch, wait: bool) -> Result<Receipt, IntakeError> {
        let (reply, receipt) = oneshot::channel();
        let request = IntakeRequest::Append { partition: partition.to_owned(), batch, wait, reply };
        self.requests.send(request).await.map_err(|_| closed())?;
        Ok(Receipt(receipt))
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

/// Says when to stop. Cloned into everything that runs.
#[derive(Debug, Clone)]
pub struct Shutdown(watch::Receiver<bool>);

impl Shutdown {
    /// The switch (send `true` to stop) and what it switches.
    pub fn new() -> (watch::Sender<bool>, Self) {
        let (switch, watched) = watch::channel(false);
        (switch, Self(watched))
    }

    /// Resolves when it is time to stop.
    pub async fn requested(&mut self) {
        // An error means that the switch is gone, and whoever held it with it.
        let _ = self.0.wait_for(|stop| *stop).await;
    }

    /// Whether it is time to stop.
    pub fn is_requested(&self) -> bool {
        *self.0.borrow()
    }
}

// ------------------------------------------------------------------------------------------------------------ sinks

/// One ordered lane of one stream.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PartitionId {
    /// The stream: its source's name.
    pub stream: String,
    /// What the stream was called before, while the config says so. A sink that finds nothing under the present name
    /// looks under this one too, and carries what it finds on under the present one.
    pub renamed_from: Option<String>,
    /// The partition's name.
    pub name: String,
    /// How its offsets come about.
    pub numbering: Numbering,
}

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.stream, self.name)
    }
}

/// Where events go. Opens lanes; knows nothing of retrying or checkpoints' whereabouts.
pub trait Sink: Send + Sync {
    /// The lane for one partition. Called again after a fence or a reload; the earlier lane is gone by then.
    fn lane(&self, partition: Arc<PartitionId>) -> Box<dyn Lane>;

    /// Bytes of event bodies that one lane may have delivered and not confirmed: one batch for a sink that commits as
    /// it delivers, more for one that confirms later.
    fn window_bytes(&self) -> u64;

    /// Limits of one batch.
    fn batch_limits(&self) -> BatchLimits;

    /// Tables and permissions, for `check --connect`. Empty where there is nothing to find.
    fn check(&self) -> BoxFuture<'_, Vec<Finding>> {
        Box::pin(async { Vec::new() })
    }
}

/// Something that `check` found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What was looked at.
    pub subject: String,
    /// What was found.
    pub message: String,
    /// What to do about it. Empty where nothing needs doing.
    pub remedy: String,
}

/// How bad a [`Finding`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// As it should be.
    Ok,
    /// It works, but look at it.
    Warning,
    /// It does not work.
    Error,
}

/// How large one batch may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchLimits {
    /// Events at most.
    pub max_events: usize,
    /// Bytes at most, as [`Event::size_bytes`] counts; a single larger event is a batch of its own.
    pub max_bytes: usize,
}

/// The way into the destination for one partition. Calls never overlap.
///
/// Any of these futures may be dropped halfway: that is no different from a crash, and [`Lane::resume`] comes next.
pub trait Lane: Send {
    /// Asks the destination itself what it has. Called first, and after every error: the outcome of a failed
    /// [`Lane::deliver`] is unknown until this has answered. What was sent and is not confirmed by then must never land
    /// beside what is delivered from now on: it was rolled back, or is fenced off, or its compare-and-set will fail
    /// once the next batch's has succeeded (and the next batch's will fail once it has landed).
    ///
    /// `local` is what the buffer remembers of the last confirmation: what the answer is compared with, and where a
    /// sink finds the note that it left there.
    fn resume(&mut self, local: Local) -> BoxFuture<'_, Result<Resumed, SinkError>>;

    /// Hands over a batch, shared so that it can be encoded on another thread.
    ///
    /// Commits at most up to the first refusal that is not in [`Batch::skipped`], and reports every refusal it found.
    /// Where it reports one above its [`Progress::confirmed`], it has taken nothing above that: the rest of the batch
    /// comes again, with the refusals among the skipped. Else it has taken the whole batch, and what is not confirmed
    /// by now will be by [`Lane::settle`].
    ///
    /// A destination that has moved on from [`Batch::expected`] is a [`SinkError::Reconnect`]: look again at the truth.
    fn deliver(&mut self, batch: Arc<Batch>) -> BoxFuture<'_, Result<Progress, SinkError>>;

    /// Waits until more of what was delivered is confirmed. Never called when everything is. It only waits: dropped
    /// because there is more to deliver, it is called again later, and has lost nothing.
    fn settle(&mut self) -> BoxFuture<'_, Result<Progress, SinkError>>;
}

/// What the buffer remembers of a sink's place in one partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Local {
    /// The last confirmed checkpoint. It may be behind the destination's, for it is written a moment later.
    pub checkpoint: Option<Checkpoint>,
    /// The note that came with it (see [`Progress::note`]).
    pub note: Option<Vec<u8>>,
}

/// What a lane found when it asked its destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resumed {
    /// What is there.
    pub destination: Destination,
    /// Events above the local checkpoint and at or below the destination's that are not there, for it refused them
    /// after it had taken them. They are recorded before the local checkpoint passes them.
    pub refusals: Vec<Refusal>,
    /// The note to keep with the destination's checkpoint.
    pub note: Option<Vec<u8>>,
}

impl From<Destination> for Resumed {
    fn from(destination: Destination) -> Self {
        Self { destination, refusals: Vec::new(), note: None }
    }
}

/// What a destination has of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// A checkpoint.
    At(Checkpoint),
    /// Nothing, and it would know: resume there only if nothing was ever delivered, for someone deleted it.
    Nothing,
    /// Nothing, and that may be because it forgot (a channel that expired): the local checkpoint is right.
    Forgotten,
    /// It cannot say (stdout): the local checkpoint is all there is.
    Unknown,
}

/// A batch on its way to a sink.
#[derive(Debug, Clone)]
pub struct Batch {
    /// The events in order, with their offsets.
    pub events: Vec<(Offset, Event)>,
    /// Offsets among them that are recorded as refused, ascending: deliver the others (these still count as passed).
    pub skipped: Vec<Offset>,
    /// What the destination's checkpoint must be when this batch comes to it: compare-and-set against it. `None`: there
    /// must be none. For a sink that confirms later, it is the end of the batch delivered before.
    pub expected: Option<Checkpoint>,
    /// What the checkpoint is when all of the batch is in. A sink that stops before a refusal takes its
    /// generation and tag from [`Batch::checkpoint_at`].
    pub through: Checkpoint,
    /// The tag of each epoch that the batch's offsets come from: `(first offset with it, tag)`, ascending.
    pub tags: Vec<(Offset, forebay_buffer::Tag)>,
}

impl Batch {
    /// The checkpoint at `offset`, one of this batch's.
    pub fn checkpoint_at(&self, offset: Offset) -> Checkpoint {
        let tag = self.tags.iter().rev().find(|(first, _)| *first <= offset).map_or(self.through.tag, |(_, tag)| *tag);
        Checkpoint { generation: self.through.generation, tag, offset }
    }

    /// The events to deliver: all but the skipped.
    pub fn wanted(&self) -> impl Iterator<Item = &(Offset, Event)> {
        self.events.iter().filter(|(offset, _)| self.skipped.binary_search(offset).is_err())
    }
}

/// How far a lane has come.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Progress {
    /// The destination's checkpoint by now: one of the delivered events. `None`: no further than before.
    pub confirmed: Option<Checkpoint>,
    /// Events refused for good, each one of those delivered and not confirmed before, and not among the skipped. A
    /// destination that refuses after it has taken (Snowpipe) may have confirmed past them in this same answer.
    pub refusals: Vec<Refusal>,
    /// Bytes that the sink wants kept with [`Progress::confirmed`] and given back by [`Local::note`]. `None` leaves
    /// what was kept before.
    pub note: Option<Vec<u8>>,
}

/// One event that the destination will never take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Which.
    pub offset: Offset,
    /// The destination's code for it (a SQLSTATE, an HTTP status).
    pub code: String,
    /// The destination's words.
    pub reason: String,
}

/// Why a lane could not go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SinkError {
    /// Try again, after as long as the server asks if it does.
    Retry {
        /// What happened, to what.
        message: String,
        /// How long the server wants to be left alone.
        after: Option<Duration>,
    },
    /// The connection is gone: a new one is worth trying at once.
    Reconnect(String),
    /// Another owner writes to this partition now: stop, and do not fight.
    Fenced(String),
    /// Only an operator can mend this: the message says what to do.
    Stop(String),
}

impl fmt::Display for SinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Retry { message, .. } | Self::Reconnect(message) | Self::Fenced(message) | Self::Stop(message) => {
                f.write_str(message)
            }
        }
    }
}

impl std::error::Error for SinkError {}
