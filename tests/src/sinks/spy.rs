//! A sink around a sink that tells when the delivery loop goes in and comes out.

use std::sync::Arc;

use forebay::contract::{Batch, BatchLimits, BoxFuture, Lane, Local, PartitionId, Progress, Resumed, Sink, SinkError};
use forebay_buffer::Checkpoint;

/// Called with what is about to happen, or has happened: `resume`, `resumed`, `deliver`, `delivered`, `settle`, `settled`.
pub type OnStep = Arc<dyn Fn(&'static str) + Send + Sync>;

/// `sink`, with `on_step` called at every step.
pub fn spy(sink: Arc<dyn Sink>, on_step: OnStep) -> Arc<dyn Sink> {
    Arc::new(Spy { sink, on_step })
}

struct Spy {
    sink: Arc<dyn Sink>,
    on_step: OnStep,
}

impl Sink for Spy {
    fn lane(&self, partition: Arc<PartitionId>) -> Box<dyn Lane> {
        Box::new(SpyLane { lane: self.sink.lane(partition), on_step: Arc::clone(&self.on_step) })
    }

    fn window_bytes(&self) -> u64 {
        self.sink.window_bytes()
    }

    fn batch_limits(&self) -> BatchLimits {
        self.sink.batch_limits()
    }
}

struct SpyLane {
    lane: Box<dyn Lane>,
    on_step: OnStep,
}

impl Lane for SpyLane {
    fn resume(&mut self, local: Local) -> BoxFuture<'_, Result<Resumed, SinkError>> {
        Box::pin(async {
            (self.on_step)("resume");
            let resumed = self.lane.resume(local).await;
            (self.on_step)("resumed");
            resumed
        })
    }

    fn deliver(&mut self, batch: Arc<Batch>) -> BoxFuture<'_, Result<Progress, SinkError>> {
        Box::pin(async {
            (self.on_step)("deliver");
            let delivered = self.lane.deliver(batch).await;
            (self.on_step)("delivered");
            delivered
        })
    }

    fn settle(&mut self) -> BoxFuture<'_, Result<Progress, SinkError>> {
        Box::pin(async {
            (self.on_step)("settle");
            let settled = self.lane.settle().await;
            (self.on_step)("settled");
            settled
        })
    }

    fn shown(&self, confirmed: Checkpoint) -> Option<Checkpoint> {
        self.lane.shown(confirmed)
    }
}
