//! Buffer to sink: the one loop that reads, delivers, retries, dead-letters and confirms.
//!
//! A [`Delivery`] looks after one sink. Each partition of the sink's streams has a lane of its own, a task that goes
//! round like this, and knows no other way:
//!
//! 1. [`lane`]: pass the partition's fence, run a session, and wait out what ended it.
//! 2. [`session`]: ask the destination what it has, and [`decide`] where to resume; then read a batch, deliver it, record
//!    what was refused, confirm what has arrived, and again.
//!    [`control`]: hears of what was confirmed, and writes the control table, where the sink does not.
//! 3. [`window`]: what is in flight. Its leases keep the buffer from dropping, or from counting as lost, an event whose
//!    outcome is not known.
//!
//! Nothing here knows what a destination is; nothing in a sink knows how to retry, and where checkpoints are kept.

mod control;
mod decide;
mod feed;
mod lane;
mod pace;
mod session;
mod window;

use std::{
    collections::{BTreeMap, HashMap, hash_map::Entry},
    sync::Arc,
};

use forebay_buffer::{Buffer, Error, Numbering, Partition};
use tokio::{
    sync::watch,
    task::{AbortHandle, JoinSet},
};

pub use self::control::ControlTable;
use self::{
    control::{Board, Keeper},
    feed::{Feed, blocking},
    lane::LaneTask,
    pace::Pace,
};
use crate::{
    contract::{BatchLimits, HubId, PartitionId, Shutdown, Sink},
    fence::Fences,
    progress::{Condition, Progress},
    retry::Backoff,
};

/// Where [`Progress`] keeps what concerns the sink and none of its lanes.
const NO_LANE: &str = "";
/// What follows the name of a partition whose events are for one sink only.
const OF_THIS_SINK: &str = "/sink";
/// So many batches a lane may be reading and sending, where the sink does not keep them any longer.
const BATCHES_IN_HAND: u64 = 4;

/// Delivers the streams of one sink.
pub struct Delivery {
    /// The sink's name, as the buffer knows it.
    pub name: String,
    /// The destination.
    pub sink: Arc<dyn Sink>,
    /// Where the events are. Streams and sink have been declared.
    pub buffer: Buffer,
    /// The streams that the sink takes.
    pub streams: Vec<String>,
    /// What a stream was called before, for those that the config says were renamed.
    pub renamed_from: BTreeMap<String, String>,
    /// The hubs that streams come from.
    pub hubs: BTreeMap<String, Arc<HubId>>,
    /// The control table, where delivery is to write the sink's rows of it.
    pub control: Option<ControlTable>,
    /// At most so many bytes of events a second, over all partitions.
    pub max_bytes_per_second: Option<u64>,
    /// Where health and metrics look.
    pub progress: Arc<Progress>,
    /// Where the intake keeps delivery away from a partition.
    pub fences: Fences,
}

impl Delivery {
    /// Delivers until `shutdown`: what is in flight then is finished, as long as this future is not dropped.
    ///
    /// An error is the buffer's: its file is damaged, nothing more was read from it, and it is time to close and salvage
    /// it. Everything else is waited out, or stops the one lane that it concerns.
    pub async fn run(self, mut shutdown: Shutdown) -> Result<(), Error> {
        let mut limits = self.sink.batch_limits();
        let pace = self.max_bytes_per_second.map(Pace::new);
        limits.max_bytes = pace.as_ref().map_or(limits.max_bytes, |pace| limits.max_bytes.min(pace.piece_bytes()));
        let Some(feed) = self.insist(&mut shutdown, || self.feed(limits)).await? else { return Ok(()) };
        let board = self.control.clone().map(Board::new);
        let (keeping, keeper) = self.keep(board.as_ref());
        let mut lanes = JoinSet::new();
        let mut known = HashMap::new();
        loop {
            // Listening begins before looking, so that no partition can slip in between.
            let changed = self.buffer.partitions_changed();
            let Some(partitions) = self.insist(&mut shutdown, || self.partitions()).await? else { break };
            for partition in &partitions {
                let id = Arc::new(self.id(partition));
                if is_over(partition, &partitions) {
                    // It waits for what never comes; and for its destination its place would be a riddle.
                    known.remove(&id).inspect(AbortHandle::abort);
                } else if let Entry::Vacant(place) = known.entry(id) {
                    let id = Arc::clone(place.key());
                    let lane = self.lane(id, partition.clone(), &feed, &pace, &board);
                    place.insert(lanes.spawn(lane.run(shutdown.clone())));
                }
            }
            tokio::select! {
                () = changed => {}
                () = shutdown.requested() => break,
                Some(ended) = lanes.join_next() => finished(ended)?,
            }
        }
        while let Some(ended) = lanes.join_next().await {
            finished(ended)?;
        }
        // No lane has anything more to say.
        keeping.send_replace(true);
        keeper.join_all().await;
        Ok(())
    }

    /// Starts what writes the control table, if anything is to, and says how to let it write a last time and end.
    fn keep(&self, board: Option<&Board>) -> (watch::Sender<bool>, JoinSet<()>) {
        let (switch, shutdown) = Shutdown::new();
        // It ends with this set, wherever that is dropped.
        let mut keeper = JoinSet::new();
        if let Some(board) = board {
            keeper.spawn(Keeper::new(board.clone(), Arc::clone(&self.progress)).run(shutdown));
        }
        (switch, keeper)
    }

    /// Asks the buffer until it answers. `None`: it is time to stop.
    async fn insist<T, F: Future<Output = Result<T, Error>>>(
        &self,
        shutdown: &mut Shutdown,
        ask: impl Fn() -> F,
    ) -> Result<Option<T>, Error> {
        let mut backoff = Backoff::default();
        loop {
            match ask().await {
                Ok(answer) => {
                    self.progress.leave(NO_LANE);
                    return Ok(Some(answer));
                }
                Err(Error::Closed) => return Ok(None),
                Err(error @ Error::Damaged(_)) => return Err(error),
                Err(error) => self.progress.enter(NO_LANE, Condition::Waiting(error.to_string())),
            }
            tokio::select! {
                () = tokio::time::sleep(backoff.next()) => {}
                () = shutdown.requested() => return Ok(None),
            }
        }
    }

    async fn feed(&self, limits: BatchLimits) -> Result<Feed, Error> {
        let (buffer, window_bytes) = (self.buffer.clone(), self.sink.window_bytes());
        let most = if self.sink.keeps_batches() { u64::MAX } else { BATCHES_IN_HAND * limits.max_bytes as u64 };
        blocking(move || Feed::new(&buffer, limits, window_bytes.min(most))).await
    }

    /// The partitions to deliver: all of the streams, but for what another sink is to get again.
    async fn partitions(&self) -> Result<Vec<Partition>, Error> {
        let (buffer, streams, name) = (self.buffer.clone(), self.streams.clone(), self.name.clone());
        blocking(move || {
            let mut found = Vec::new();
            for stream in &streams {
                let partitions = buffer.partitions(stream)?;
                found.extend(partitions.into_iter().filter(|p| p.for_sink().is_none_or(|sink| sink == name)));
            }
            Ok(found)
        })
        .await
    }

    /// How the destination knows a partition. What this sink alone is to get again stands apart from what all are.
    fn id(&self, partition: &Partition) -> PartitionId {
        // A stream that took over the former name would have its checkpoint mistaken for this one's.
        let former = self.renamed_from.get(partition.stream()).filter(|former| !self.streams.contains(former));
        PartitionId {
            stream: partition.stream().to_owned(),
            renamed_from: former.cloned(),
            name: match partition.for_sink() {
                Some(_) => format!("{}{OF_THIS_SINK}", partition.name()),
                None => partition.name().to_owned(),
            },
            numbering: partition.numbering(),
            // What is to be retried is numbered here, and no other agent has it.
            hub: match partition.numbering() {
                Numbering::Shared { .. } => self.hubs.get(partition.stream()).cloned(),
                Numbering::Assigned => None,
            },
        }
    }

    fn lane(
        &self,
        id: Arc<PartitionId>,
        partition: Partition,
        feed: &Feed,
        pace: &Option<Pace>,
        board: &Option<Board>,
    ) -> LaneTask {
        LaneTask {
            label: id.to_string(),
            id,
            sink_name: self.name.clone(),
            sink: Arc::clone(&self.sink),
            buffer: self.buffer.clone(),
            partition,
            feed: feed.clone(),
            pace: pace.clone(),
            board: board.clone(),
            progress: Arc::clone(&self.progress),
            fences: self.fences.clone(),
        }
    }
}

/// Whether the hub was created anew, and all that is here of the earlier one is delivered.
fn is_over(partition: &Partition, all: &[Partition]) -> bool {
    let is_later = |other: &Partition| match (other.numbering(), partition.numbering()) {
        (Numbering::Shared { created: other }, Numbering::Shared { created }) => other > created,
        _ => false,
    };
    let is_same = |other: &&Partition| (other.stream(), other.name()) == (partition.stream(), partition.name());
    all.iter().filter(is_same).any(is_later) && partition.delivered().0 >= partition.high_water()
}

fn finished(ended: Result<Result<(), Error>, tokio::task::JoinError>) -> Result<(), Error> {
    match ended {
        Ok(outcome) => outcome,
        Err(failed) if failed.is_panic() => std::panic::resume_unwind(failed.into_panic()),
        Err(_) => Ok(()),
    }
}
