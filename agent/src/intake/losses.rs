//! Losses that a source counts, on their way to the ledger.
//!
//! They pass by whatever waits for room: where events are lost, the buffer is full.

use std::sync::atomic::Ordering::Relaxed;

use forebay_buffer::{Error, Numbering};
use tokio::sync::mpsc;

use super::{Shared, answer, blocking, pressure::news};
use crate::contract::LossRequest;

/// Records one loss after another, until the source has let go of its intake.
pub(super) async fn record(shared: &Shared, mut losses: mpsc::Receiver<LossRequest>) {
    'losses: while let Some(loss) = losses.recv().await {
        let mut shutdown = shared.shutdown.clone();
        let outcome = loop {
            if loss.position.is_some() && loss.reply.is_closed() {
                // Who reads next goes by the position that is here, and counts it anew.
                continue 'losses;
            }
            let room = shared.buffer.room_made();
            match record_one(shared, &loss).await {
                // Not even the ledger could be written. What is lost meanwhile is counted by the source.
                Err(Error::Full(_)) if !shutdown.is_requested() => tokio::select! {
                    () = news(room) => {}
                    () = shutdown.requested() => {}
                },
                outcome => break outcome,
            }
        };
        if outcome.is_ok() {
            shared.progress.dropped.fetch_add(loss.events, Relaxed);
        }
        answer(loss.reply, outcome.map_err(|error| shared.explain(error)));
    }
}

async fn record_one(shared: &Shared, loss: &LossRequest) -> Result<(), Error> {
    let (buffer, stream, name) = (shared.buffer.clone(), shared.stream.clone(), loss.partition.clone());
    let partition = blocking(move || {
        // Of several, which are of one creation of a hub each, the latest.
        let all = buffer.partitions(&stream)?;
        let latest = all.into_iter().rfind(|partition| partition.name() == name && partition.for_sink().is_none());
        latest.map_or_else(|| buffer.partition(&stream, &name, Numbering::Assigned), Ok)
    });
    let partition = partition.await?;
    shared.buffer.record_loss(&partition, loss.events, loss.bytes, &loss.reason, loss.position.clone()).await
}
