//! What a sink and its delivery promise each other.

use std::{fmt, sync::Arc, time::Duration};

use forebay_buffer::{Checkpoint, Event, Generation, Numbering, Offset, Value};

use super::BoxFuture;

/// The header in which an event hub's events bear their offset there, an opaque string: the name is that of the annotation
/// that it comes in.
pub const UPSTREAM_OFFSET: &str = "x-opt-offset";

/// Where an event stands upstream, if its source has said so.
pub fn upstream_offset(event: &Event) -> Option<&str> {
    event.headers.iter().find_map(|(name, value)| match value {
        Value::String(offset) if name == UPSTREAM_OFFSET => Some(offset.as_str()),
        _ => None,
    })
}

/// The code of a refusal of an event that may be at the destination all the same: it refused some of several events, and
/// does not say which.
pub const POSSIBLY_DELIVERED: &str = "possibly_delivered";

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
    /// The hub that its numbers are those of, where other agents read the same ones.
    pub hub: Option<Arc<HubId>>,
}

/// An event hub as checkpoints name it, and as whose reader.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HubId {
    /// The host name of its namespace, in lower case.
    pub namespace: String,
    /// Its name, in lower case.
    pub hub: String,
    /// The consumer group that reads it.
    pub consumer_group: String,
    /// Whether its partitions are shared out: another agent may own one by now.
    pub is_shared: bool,
}

impl fmt::Display for HubId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} ({})", self.namespace, self.hub, self.consumer_group)
    }
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

    /// Whether a batch stays in memory until it is confirmed, and not only until the sink has taken it.
    fn keeps_batches(&self) -> bool {
        false
    }

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

    /// What the destination itself shows to whoever asks it next, where everything up to `confirmed` is: less, where what
    /// follows was refused and has left no trace there, or nothing. The control table goes no further (Promise 2): who passes
    /// over what it says must find the destination there, or ahead of it.
    fn shown(&self, confirmed: Checkpoint) -> Option<Checkpoint> {
        Some(confirmed)
    }
}

/// What the buffer remembers of a sink's place in one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Local {
    /// The buffer file's generation. That of the checkpoint is an older one after `adopt`.
    pub generation: Generation,
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
    /// Events above the local checkpoint and at or below the destination's that are not there, or may not be, for it
    /// refused them after it had taken them. They are recorded before the local checkpoint passes them.
    pub refusals: Vec<RefusedRange>,
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

/// Events that a destination refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedRange {
    /// Right before the first of them.
    pub after: Offset,
    /// The last one.
    pub through: Offset,
    /// The code of each refusal.
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
