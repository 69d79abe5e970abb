//! Source to buffer: the one loop that appends and acknowledges.
//!
//! One [`IntakeLoop`] serves one source. It takes the requests of the source's [`Intake`](crate::contract::Intake) in
//! turn and hands each to the lane of its partition, so that a partition that waits for the disk or for room holds up
//! no other. A lane writes its batches in order, one append at a time, and puts all that came meanwhile into the next
//! one: the longer the disk takes, the larger the groups that it is given.
//!
//! Where a source tells events by their identities, a lane leaves out those that its partition remembers: they were sent
//! again. What it remembers is on disk with the events, and grows only with what is.
//!
//! A producer hears that its events are taken only from the buffer's own receipt (Promise 1). What is handed over and
//! not yet on disk is bounded in batches and in bytes (Promise 5).

mod admission;
mod group;
mod lane;
mod losses;
mod memory;
mod pressure;
mod window;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use forebay_buffer::{Buffer, Error};
use tokio::{
    sync::{oneshot, watch},
    task::JoinSet,
};

use self::{
    admission::Admission,
    lane::{Lane, LaneHandle},
    pressure::Pressure,
    window::Windows,
};
use crate::{
    contract::{IntakeError, IntakeRequest, IntakeRequests, PartitionPosition, PartitionRequest, Shutdown},
    fence::Fences,
    progress::Progress,
};

/// The way of one source's events into the buffer.
pub struct IntakeLoop {
    /// The stream: its source's name.
    pub stream: String,
    /// The stream's share of the buffer.
    pub max_bytes: u64,
    /// Where the events go.
    pub buffer: Buffer,
    /// What the source asks.
    pub requests: IntakeRequests,
    /// Whether the buffer holds this stream back.
    pub full: watch::Sender<bool>,
    /// What the source has achieved.
    pub progress: Arc<Progress>,
    /// How delivery is told to leave a lost partition alone.
    pub fences: Fences,
}

/// What every lane of one intake loop shares.
struct Shared {
    stream: String,
    max_bytes: u64,
    buffer: Buffer,
    progress: Arc<Progress>,
    fences: Fences,
    pressure: Pressure,
    /// What the lanes may remember.
    windows: Arc<Windows>,
    shutdown: Shutdown,
    /// Why nothing can be appended any more. The first failure stays.
    failure: watch::Sender<Option<Error>>,
}

impl Shared {
    /// Ends the loop: a batch after one that failed must not be written, for its position would skip what failed.
    fn fail(&self, error: Error) -> IntakeError {
        let answer = IntakeError::Closed(error.to_string());
        self.failure.send_if_modified(|failure| {
            let first = failure.is_none();
            failure.get_or_insert(error);
            first
        });
        answer
    }

    /// The partitions that the source has filled, with their positions.
    async fn partitions(&self) -> Result<Vec<PartitionPosition>, IntakeError> {
        let (buffer, stream) = (self.buffer.clone(), self.stream.clone());
        let partitions = blocking(move || buffer.partitions(&stream)).await.map_err(|error| self.fail(error))?;
        let own = partitions.into_iter().filter(|partition| partition.for_sink().is_none());
        Ok(own.map(|partition| (partition.name().to_owned(), partition.position())).collect())
    }

    fn failure(&self) -> Option<IntakeError> {
        self.failure.borrow().as_ref().map(|error| IntakeError::Closed(error.to_string()))
    }
}

impl IntakeLoop {
    /// Serves the source until it has let go of its intake and all it handed over is answered.
    ///
    /// When `shutdown` is requested, batches no longer wait for room in a full buffer: they are refused, and their
    /// source reads them again next time. An error says that the buffer cannot be written to: nothing is acknowledged
    /// from then on, and source and intake must be started anew.
    pub async fn run(self, shutdown: Shutdown) -> Result<(), Error> {
        let Self { stream, max_bytes, buffer, requests, full, progress, fences } = self;
        let pressure = Pressure::new(stream.clone(), buffer.clone(), full, Arc::clone(&progress));
        let IntakeRequests { queue: mut requests, losses, mut partings } = requests;
        let windows = Windows::new(progress.subject().to_owned());
        let failure = watch::Sender::new(None);
        let mut failed = failure.subscribe();
        let shared =
            Arc::new(Shared { stream, max_bytes, buffer, progress, fences, pressure, windows, shutdown, failure });

        let mut background = JoinSet::new();
        background.spawn({
            let shared = Arc::clone(&shared);
            async move { shared.pressure.watch().await }
        });
        let lanes = Lanes { shared: Arc::clone(&shared), running: Mutex::default() };
        let admission = Admission::default();
        let serve = async {
            while let Some(request) = requests.recv().await {
                match request {
                    IntakeRequest::Partitions { reply } => answer(reply, shared.partitions().await),
                    IntakeRequest::Of { partition, request } => {
                        if let Some(request) = refuse_at_once(&shared, request) {
                            lanes.handle(partition).send(admission.admit(request).await).await;
                        }
                    }
                }
            }
        };
        let part = async {
            while let Some((partition, request)) = partings.recv().await {
                match request {
                    PartitionRequest::Affirm => shared.fences.affirm(&shared.stream, &partition),
                    request => lanes.handle(partition).part(request).await,
                }
            }
        };
        tokio::select! {
            ((), (), ()) = async { tokio::join!(serve, part, losses::record(&shared, losses)) } => {}
            _ = failed.wait_for(Option::is_some) => {}
        }
        drop((requests, partings));
        lanes.finish().await;
        let failure = shared.failure.borrow().clone();
        failure.map_or(Ok(()), Err)
    }
}

/// Answers an offer to a full buffer before it takes up any room in the queues.
fn refuse_at_once(shared: &Shared, request: PartitionRequest) -> Option<PartitionRequest> {
    match request {
        PartitionRequest::Append { wait: false, reply, .. } if shared.pressure.is_full() => {
            answer(reply, Err(IntakeError::Full));
            None
        }
        request => Some(request),
    }
}

/// Sends an answer. A source that no longer waits for it has no use for it.
fn answer<T>(reply: oneshot::Sender<T>, outcome: T) {
    let _ = reply.send(outcome);
}

/// Runs a call of the buffer that blocks.
async fn blocking<T: Send + 'static>(call: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    tokio::task::spawn_blocking(call).await.unwrap_or_else(|error| Err(Error::Failed(error.to_string())))
}

/// The lanes of one source, by partition.
struct Lanes {
    shared: Arc<Shared>,
    running: Mutex<Running>,
}

#[derive(Default)]
struct Running {
    handles: BTreeMap<String, LaneHandle>,
    tasks: JoinSet<()>,
}

impl Lanes {
    fn handle(&self, partition: String) -> LaneHandle {
        let Running { handles, tasks } = &mut *self.running.lock().expect("no holder of this lock panics");
        let handle = handles.entry(partition).or_insert_with_key(|partition| {
            let (lane, handle) = Lane::new(Arc::clone(&self.shared), partition.clone());
            tasks.spawn(lane.run());
            handle
        });
        handle.clone()
    }

    /// Waits until every lane has answered what it was given.
    async fn finish(self) {
        let Running { handles, mut tasks } = self.running.into_inner().expect("no holder of this lock panics");
        drop(handles);
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = ended {
                log::error!("intake of {}: {error}", self.shared.stream);
            }
        }
    }
}

#[cfg(test)]
mod tests;
