//! One request, from its head to its answer.

use std::sync::{Arc, atomic::Ordering};

use bytes::Bytes;
use forebay_buffer::{Event, TimeQuality, Value, clock::Clock};
use hyper::{StatusCode, body::Incoming, http::request::Parts};
use serde::Serialize;
use tokio::task::spawn_blocking;

use super::{
    Patience, Settings,
    body::{self, BodyError, Limits},
    memory::Memory,
    receive::Receiver,
    rejection::{Rejection, json},
    request::{self, Asked},
};
use crate::{
    contract::{Intake, Shutdown, SourceBatch},
    http::{Request, Response},
    progress::Progress,
    secret::{Reread, Secret},
};

/// All events of this source are in one partition.
const PARTITION: &str = "0";
/// Events of one request.
pub(super) const MAX_EVENTS: usize = 32 * 1024;
/// What the bodies on their way may hold together, beside one that may be as large as the settings allow.
const SHARED_BYTES: usize = 4 * 1024 * 1024;
/// The header of raw bytes that says what they are.
const CONTENT_TYPE: &str = "content_type";
/// A longer body is parsed on a thread that may block, lest others wait for it.
const PARSE_INLINE_BYTES: usize = 256 * 1024;

/// What answers the requests of one source.
pub(super) struct Endpoint {
    path: String,
    max_event_bytes: usize,
    receiver: Receiver,
    memory: Memory,
    token: Option<Reread<Secret>>,
    intake: Intake,
    clock: Arc<dyn Clock>,
    progress: Arc<Progress>,
    shutdown: Shutdown,
}

/// The answer to a request that was taken.
#[derive(Serialize)]
struct Accepted {
    accepted: u64,
}

impl Endpoint {
    pub(super) fn new(
        settings: &Settings,
        patience: Patience,
        token: Option<Reread<Secret>>,
        intake: Intake,
        clock: Arc<dyn Clock>,
        progress: Arc<Progress>,
        shutdown: Shutdown,
    ) -> Self {
        Self {
            path: settings.path.clone(),
            max_event_bytes: settings.max_event_bytes,
            receiver: Receiver::new(settings, patience),
            memory: Memory::new(SHARED_BYTES),
            token,
            intake,
            clock,
            progress,
            shutdown,
        }
    }

    pub(super) async fn answer(&self, request: Request) -> Response {
        let (head, mut body) = request.into_parts();
        match self.take(&head, &mut body).await {
            Ok(accepted) => json(StatusCode::ACCEPTED, &Accepted { accepted }),
            Err(rejection) => {
                // A producer that is told to come again has met no error.
                if !matches!(rejection.status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
                    self.progress.errors.fetch_add(1, Ordering::Relaxed);
                }
                let goes_on = self.receiver.discard(&head, &mut body).await;
                rejection.response(!goes_on)
            }
        }
    }

    async fn take(&self, head: &Parts, body: &mut Incoming) -> Result<u64, Rejection> {
        request::addressed(head, &self.path)?;
        if let Some(token) = &self.token {
            request::authorized(head, &token.get())?;
        }
        if self.shutdown.is_requested() {
            return Err(Rejection::stopping());
        }
        if self.intake.is_full() {
            return Err(Rejection::full());
        }
        let asked = request::asked(head)?;
        let mut reserved = self.memory.reserve();
        let body = self.receiver.receive(body, asked.encoding, &mut reserved).await?;
        let body_bytes = body.len();
        let bodies = self.split(body, &asked).await?;
        if bodies.is_empty() {
            return Ok(0);
        }
        reserved.grow_to(body_bytes + bodies.len() * (size_of::<Event>() + size_of::<Bytes>())).await;

        let accepted = bodies.len() as u64;
        let batch = SourceBatch { events: self.events(bodies, &asked), ..SourceBatch::default() };
        // Promise 1: the receipt comes when the events are on disk, and the answer after the receipt.
        self.intake.offer(PARTITION, batch).await?.await?;
        Ok(accepted)
    }

    async fn split(&self, body: Bytes, asked: &Asked) -> Result<Vec<Bytes>, BodyError> {
        let beside = asked.key.as_ref().map_or(0, Bytes::len)
            + asked.content_type.as_ref().map_or(0, |content_type| CONTENT_TYPE.len() + content_type.len());
        let max_event_bytes = self.max_event_bytes.saturating_sub(beside);
        let (format, limits) = (asked.format, Limits { max_event_bytes, max_events: MAX_EVENTS });
        if body.len() <= PARSE_INLINE_BYTES {
            return body::events(&body, format, &limits);
        }
        spawn_blocking(move || body::events(&body, format, &limits)).await.expect("the parser does not panic")
    }

    fn events(&self, bodies: Vec<Bytes>, asked: &Asked) -> Vec<Event> {
        let time = self.clock.now().wall;
        let header = asked.content_type.as_deref().map(|value| (CONTENT_TYPE.to_owned(), Value::from(value)));
        let event = |body| Event {
            time,
            time_quality: TimeQuality::Stamped,
            key: asked.key.clone(),
            headers: header.iter().cloned().collect(),
            body: Some(body),
            ..Event::default()
        };
        bodies.into_iter().map(event).collect()
    }
}
