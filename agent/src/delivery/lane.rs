//! One partition's lane: sessions, and what lies between them.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use forebay_buffer::{Buffer, Error, Partition, Subscription};

use super::{
    control::Board,
    feed::{Feed, blocking},
    pace::Pace,
    session::{End, Session, interrupted},
    window::Window,
};
use crate::{
    contract::{PartitionId, Shutdown, Sink, SinkError},
    fence::{Fences, Pass},
    progress::{Condition, Progress},
    retry::Backoff,
};

/// Delivers one partition to one sink.
pub(super) struct LaneTask {
    pub(super) id: Arc<PartitionId>,
    /// How log lines and health call it.
    pub(super) label: String,
    pub(super) sink_name: String,
    pub(super) sink: Arc<dyn Sink>,
    pub(super) buffer: Buffer,
    pub(super) partition: Partition,
    pub(super) feed: Feed,
    pub(super) pace: Option<Pace>,
    pub(super) board: Option<Board>,
    pub(super) progress: Arc<Progress>,
    pub(super) fences: Fences,
}

/// What to do after a session.
enum Next {
    /// Ask the destination again after a while.
    Again(Duration),
    /// Nothing before the fence has been opened anew.
    Fenced,
    /// Nothing before an operator has acted.
    Stopped,
    /// The lane is done.
    Done(Result<(), Error>),
}

impl LaneTask {
    /// Delivers until shutdown. An error means that the buffer is damaged.
    pub(super) async fn run(self, mut shutdown: Shutdown) -> Result<(), Error> {
        self.progress.enter(&self.label, Condition::Starting);
        let mut backoff = Backoff::default();
        loop {
            if self.fences.is_closed(self.partition.stream(), self.partition.name()) {
                // It is another owner's, and no concern of this agent's.
                self.progress.leave(&self.label);
            }
            let pass = tokio::select! {
                pass = self.fences.pass(self.partition.stream(), self.partition.name()) => pass,
                () = shutdown.requested() => return Ok(()),
            };
            if let Some(outcome) = self.behind_the_fence(&pass, &mut backoff, &mut shutdown).await {
                return outcome;
            }
            if let Some(board) = &self.board {
                board.flush(&self.label).await;
            }
        }
    }

    /// Session after session, until the fence is being closed (`None`) or the lane is done.
    async fn behind_the_fence(
        &self,
        pass: &Pass,
        backoff: &mut Backoff,
        shutdown: &mut Shutdown,
    ) -> Option<Result<(), Error>> {
        let mut window = Window::default();
        let mut lane = self.sink.lane(Arc::clone(&self.id));
        let mut ailing = false;
        loop {
            if shutdown.is_requested() {
                return Some(Ok(()));
            }
            if pass.is_closing() {
                return None;
            }
            let end = match self.subscription().await {
                Ok(subscription) => {
                    let window = &mut window;
                    let lane = lane.as_mut();
                    let subscription = &subscription;
                    let (ahead, leave_by) = (None, None);
                    Session { task: self, subscription, lane, window, pass, shutdown, backoff, ailing, ahead, leave_by }
                        .run()
                        .await
                }
                Err(error) => End::Buffer(error),
            };
            window.give_room();
            ailing = true;
            match self.next(end, backoff) {
                Next::Done(outcome) => return Some(outcome),
                Next::Again(wait) => {
                    tokio::select! {
                        () = tokio::time::sleep(wait) => {}
                        () = interrupted(shutdown, pass) => {}
                    }
                }
                Next::Fenced => {
                    tokio::select! {
                        () = pass.superseded() => return None,
                        () = shutdown.requested() => {}
                    }
                }
                Next::Stopped => interrupted(shutdown, pass).await,
            }
        }
    }

    fn next(&self, end: End, backoff: &mut Backoff) -> Next {
        let (message, wait) = match end {
            End::Interrupted => return Next::Again(Duration::ZERO),
            End::Buffer(Error::Closed) => return Next::Done(Ok(())),
            End::Buffer(error @ Error::Damaged(_)) => return Next::Done(Err(error)),
            End::Buffer(error @ (Error::Unknown(_) | Error::Refused(_) | Error::TooLarge(_))) => {
                return self.stopped(error.to_string());
            }
            End::Buffer(error @ (Error::Full(_) | Error::Failed(_))) => (error.to_string(), backoff.next()),
            End::Sink(SinkError::Stop(message)) => return self.stopped(message),
            End::Sink(SinkError::Fenced(message)) => {
                self.progress.enter(&self.label, Condition::Waiting(message));
                return Next::Fenced;
            }
            End::Sink(SinkError::Reconnect(message)) => (message, backoff.next()),
            End::Sink(SinkError::Retry { message, after }) => (message, backoff.next().max(after.unwrap_or_default())),
        };
        self.progress.errors.fetch_add(1, Ordering::Relaxed);
        self.progress.enter(&self.label, Condition::Waiting(message));
        Next::Again(wait)
    }

    fn stopped(&self, message: String) -> Next {
        self.progress.enter(&self.label, Condition::Stopped(message));
        Next::Stopped
    }

    async fn subscription(&self) -> Result<Subscription, Error> {
        let (buffer, sink, partition) = (self.buffer.clone(), self.sink_name.clone(), self.partition.clone());
        blocking(move || buffer.subscription(&sink, &partition)).await
    }
}
