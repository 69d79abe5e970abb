//! The limit on what one source has handed over and not yet heard of (Promise 5).

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::group::Size;
use crate::contract::{INTAKE_QUEUE, PartitionRequest};

/// Bytes of events in flight of one source, as they are in memory. A single larger batch passes alone.
const MAX_BYTES: usize = 4 << 20;
/// What one byte permit stands for.
const UNIT_BYTES: usize = 1 << 10;

/// Lets requests in as long as there is room for them.
pub(super) struct Admission {
    requests: Arc<Semaphore>,
    units: Arc<Semaphore>,
}

/// A request, and the room that it takes up until it is answered.
pub(super) struct Admitted {
    pub(super) request: PartitionRequest,
    /// What the events in it take up, counted once: that is a walk over all of them.
    pub(super) size: Size,
    pub(super) permit: Permit,
}

impl Admitted {
    /// One that takes up no room, and waits for none.
    pub(super) fn at_once(request: PartitionRequest) -> Self {
        Self { request, size: Size::default(), permit: Permit::default() }
    }
}

/// Room for one request.
#[derive(Default)]
pub(super) struct Permit {
    _request: Option<OwnedSemaphorePermit>,
    _units: Option<OwnedSemaphorePermit>,
}

impl Default for Admission {
    fn default() -> Self {
        Self {
            requests: Arc::new(Semaphore::new(INTAKE_QUEUE)),
            units: Arc::new(Semaphore::new(MAX_BYTES / UNIT_BYTES)),
        }
    }
}

impl Admission {
    /// Waits until there is room for `request`.
    pub(super) async fn admit(&self, request: PartitionRequest) -> Admitted {
        const OPEN: &str = "these semaphores are never closed";
        let size = match &request {
            PartitionRequest::Append { batch, .. } => Size::of_batch(batch),
            _ => Size::default(),
        };
        let units = size.held.div_ceil(UNIT_BYTES).min(MAX_BYTES / UNIT_BYTES) as u32;
        let permit = Permit {
            _request: Some(Arc::clone(&self.requests).acquire_owned().await.expect(OPEN)),
            _units: Some(Arc::clone(&self.units).acquire_many_owned(units).await.expect(OPEN)),
        };
        Admitted { request, size, permit }
    }
}

#[cfg(test)]
mod tests {
    use std::{future::Future, pin::pin, task::Poll};

    use forebay_buffer::{Event, Timestamp, Value};
    use tokio::sync::oneshot;

    use super::*;
    use crate::contract::SourceBatch;

    fn append(bytes: usize) -> PartitionRequest {
        let batch = SourceBatch { events: vec![Event::new(Timestamp(0), vec![0; bytes])], ..SourceBatch::default() };
        PartitionRequest::Append { batch, wait: true, reply: oneshot::channel().0 }
    }

    async fn is_let_in(admission: &Admission, bytes: usize) -> bool {
        // A task that has done much in one turn is told to wait, whether there is room or not.
        tokio::task::yield_now().await;
        let mut admitted = pin!(admission.admit(append(bytes)));
        std::future::poll_fn(|context| Poll::Ready(admitted.as_mut().poll(context).is_ready())).await
    }

    #[tokio::test]
    async fn no_more_batches_are_let_in_than_the_contract_says() {
        let admission = Admission::default();
        let mut held = Vec::new();
        for _ in 0..INTAKE_QUEUE {
            held.push(admission.admit(append(1)).await);
        }
        assert!(!is_let_in(&admission, 1).await);
        held.pop();
        assert!(is_let_in(&admission, 1).await);
    }

    #[tokio::test]
    async fn bytes_in_flight_are_limited_and_a_huge_batch_passes_alone() {
        let admission = Admission::default();
        let huge = admission.admit(append(3 * MAX_BYTES)).await;
        assert!(!is_let_in(&admission, 1).await);
        drop(huge);
        let half = MAX_BYTES / 2 - size_of::<Event>();
        let _half = admission.admit(append(half)).await;
        assert!(is_let_in(&admission, half).await);
        assert!(!is_let_in(&admission, half + 1).await);
    }

    #[tokio::test]
    async fn what_headers_take_up_besides_their_text_is_counted() {
        let headers = vec![("a".to_owned(), Value::Boolean(true)); MAX_BYTES / 64];
        let event = Event { headers, ..Event::new(Timestamp(0), "") };
        let batch = SourceBatch { events: vec![event], ..SourceBatch::default() };
        let admission = Admission::default();
        let _many = admission.admit(PartitionRequest::Append { batch, wait: true, reply: oneshot::channel().0 }).await;
        assert!(!is_let_in(&admission, 1).await);
    }
}
