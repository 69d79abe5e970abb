//! Events into an event hub, each at least once, and each with an id by which consumers tell what came twice.
//!
//! A hub keeps no checkpoint and takes no part in one, so what was sent and not acknowledged is sent again. Order is kept
//! by having one batch under way for each of the hub's partitions, and no more (Promise 4): then what fails cannot be
//! overtaken. An event's partition is a matter of its key, or of the stream's partition, so that it is the same each time.
//!
//! The lanes share one connection, and one sender for each partition of the hub.

mod check;
mod encode;
mod hash;
mod lane;
mod pack;
mod place;
mod senders;

use std::sync::Arc;

use forebay_buffer::clock::Clock;
use tokio::sync::Semaphore;

pub use self::place::Placement;
use self::{lane::HubLane, senders::Senders};
use crate::{
    client::eventhub::{self as client, Hub},
    contract::{BatchLimits, BoxFuture, Finding, Lane, PartitionId, Sink, SinkError, Target},
    progress::Progress,
};

/// What is in flight is counted in pieces of this size.
const PIECE_BYTES: usize = 1024;

/// What the config says of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// How to reach the hub.
    pub connection: client::Settings,
    /// Which of the hub's partitions an event goes to.
    pub partition: Placement,
    /// Whether one batch at a time is under way to each partition.
    pub ordered: bool,
    /// Bytes under way at most, over all partitions; one batch always may be.
    pub max_in_flight_bytes: usize,
    /// Limits of what a lane hands over at a time.
    pub batch: BatchLimits,
}

impl Settings {
    /// One batch is under way, and another is made ready: it is taken while there is no more than one.
    pub fn window_bytes(&self) -> u64 {
        self.batch.max_bytes as u64 + 1
    }

    /// Where its events go, as checkpoints name it.
    pub fn target(&self) -> Target {
        Target {
            database: self.connection.host().to_ascii_lowercase(),
            schema: "eventhub".to_owned(),
            table: self.connection.hub.to_ascii_lowercase(),
        }
    }
}

/// The sink.
pub struct EventHub {
    shared: Arc<Shared>,
}

struct Shared {
    settings: Settings,
    agent_id: String,
    progress: Arc<Progress>,
    senders: Senders,
    in_flight: Semaphore,
}

impl EventHub {
    /// Nothing is connected before the first lane resumes. The error says which file cannot be used; it may be there later.
    pub fn new(
        settings: Settings,
        agent_id: &str,
        clock: Arc<dyn Clock>,
        progress: Arc<Progress>,
    ) -> Result<Self, SinkError> {
        let hub = Hub::new(settings.connection.clone(), clock);
        let hub = hub.map_err(|message| SinkError::Retry { message, after: None })?;
        let pieces = settings.max_in_flight_bytes.div_ceil(PIECE_BYTES).clamp(1, Semaphore::MAX_PERMITS);
        Ok(Self {
            shared: Arc::new(Shared {
                senders: Senders::new(hub),
                agent_id: agent_id.to_owned(),
                progress,
                in_flight: Semaphore::new(pieces),
                settings,
            }),
        })
    }
}

impl Sink for EventHub {
    fn lane(&self, partition: Arc<PartitionId>) -> Box<dyn Lane> {
        Box::new(HubLane::new(Arc::clone(&self.shared), partition))
    }

    fn window_bytes(&self) -> u64 {
        self.shared.settings.window_bytes()
    }

    fn keeps_batches(&self) -> bool {
        true
    }

    fn batch_limits(&self) -> BatchLimits {
        self.shared.settings.batch
    }

    fn check(&self) -> BoxFuture<'_, Vec<Finding>> {
        Box::pin(check::check(&self.shared))
    }
}
