//! A batch as requests, made on a thread where that holds up nobody.

use std::sync::Arc;

use forebay_buffer::Timestamp;
use tokio::task::spawn_blocking;

use super::{
    Shared,
    pack::{Packer, Request},
    rows::Rows,
};
use crate::{
    contract::{Batch, PartitionId, Refusal, SinkError},
    tls::client::believed,
};

/// The code of refusals: the row is larger than the service takes.
pub(super) const TOO_LARGE: &str = "too_large";

/// The service takes 4 MB in a request, as it comes over the network.
pub(super) const MAX_REQUEST_BYTES: usize = 3_800_000;

/// What becomes of a batch.
pub(super) struct Encoded {
    /// Its rows.
    pub(super) requests: Vec<Request>,
    /// Events that are no rows, or too large for a request.
    pub(super) refusals: Vec<Refusal>,
}

/// The requests of all that is wanted of `batch`, each of at most `limit` bytes, or of one event.
pub(super) async fn encode(
    shared: &Arc<Shared>,
    partition: &Arc<PartitionId>,
    batch: &Arc<Batch>,
    limit: usize,
) -> Result<Encoded, SinkError> {
    let (shared, partition, batch) = (Arc::clone(shared), Arc::clone(partition), Arc::clone(batch));
    let encoding = spawn_blocking(move || {
        let _working = shared.progress.working();
        encode_now(&shared, &partition, &batch, limit, believed(&*shared.clock))
    });
    match encoding.await {
        Ok(encoded) => Ok(encoded),
        Err(failed) if failed.is_panic() => std::panic::resume_unwind(failed.into_panic()),
        Err(_) => Err(SinkError::Reconnect("the agent is shutting down".to_owned())),
    }
}

fn encode_now(
    shared: &Shared,
    partition: &PartitionId,
    batch: &Batch,
    limit: usize,
    now: Option<Timestamp>,
) -> Encoded {
    let mut rows = Rows::new(&shared.settings.shape, partition, now, shared.settings.is_by_name());
    let (mut packer, mut refusals, mut row) = (Packer::new(limit, MAX_REQUEST_BYTES), Vec::new(), Vec::new());
    for (offset, event) in batch.wanted() {
        row.clear();
        let refused = match rows.write(&mut row, *offset, event) {
            Err((code, reason)) => Some((code, reason.to_owned())),
            Ok(()) => packer.push(*offset, &row).err().map(|size| {
                let reason = format!(
                    "the event takes {size} bytes as a row, compressed, and a request {MAX_REQUEST_BYTES} at most"
                );
                (TOO_LARGE, reason)
            }),
        };
        refusals.extend(refused.map(|(code, reason)| Refusal { offset: *offset, code: code.to_owned(), reason }));
    }
    Encoded { requests: packer.finish(), refusals }
}
