//! Answers that are not 202: always JSON, always with what to do.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    StatusCode,
    header::{
        ACCEPT_ENCODING, ALLOW, CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE,
    },
};
use serde::Serialize;

use super::{
    body::{BodyError, Fault},
    decode::Encoding,
};
use crate::{contract::IntakeError, http::Response};

/// When a producer that is held back should come again.
const RETRY_AFTER_FULL: Duration = Duration::from_secs(5);
/// When a producer should come again whom something passing has stopped.
const RETRY_AFTER_BUSY: Duration = Duration::from_secs(1);

/// Why a request was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rejection {
    pub(super) status: StatusCode,
    what: Box<What>,
    header: Option<(HeaderName, String)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct What {
    error: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    element: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    byte: Option<usize>,
}

impl Rejection {
    fn new(status: StatusCode, error: impl Into<String>) -> Self {
        let what = What { error: error.into(), line: None, element: None, byte: None };
        Self { status, what: Box::new(what), header: None }
    }

    fn with(mut self, name: HeaderName, value: impl Into<String>) -> Self {
        self.header = Some((name, value.into()));
        self
    }

    fn again_after(self, wait: Duration) -> Self {
        self.with(RETRY_AFTER, wait.as_secs().to_string())
    }

    pub(super) fn bad_request(error: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error)
    }

    pub(super) fn unauthorized(error: &str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, error).with(WWW_AUTHENTICATE, "Bearer")
    }

    pub(super) fn not_found(path: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("there is nothing here: send events to {path}"))
    }

    pub(super) fn method_not_allowed() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "send events with POST").with(ALLOW, "POST")
    }

    pub(super) fn unknown_type(found: &str) -> Self {
        let known = "application/json, application/x-ndjson, text/plain or application/octet-stream";
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, format!("Content-Type is {found}: use {known}"))
    }

    pub(super) fn unknown_encoding(found: &str) -> Self {
        let error = format!("Content-Encoding is {found}: use gzip or zstd, or send the body as it is");
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, error).with(ACCEPT_ENCODING, Encoding::ACCEPTED)
    }

    pub(super) fn too_large(limit_bytes: usize, setting: &str) -> Self {
        let error = format!("the body is larger than {limit_bytes} bytes: split it, or raise {setting}");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, error)
    }

    pub(super) fn timeout() -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "the body did not come in time: send it faster, or less of it")
    }

    pub(super) fn full() -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "the buffer is full: send this again later")
            .again_after(RETRY_AFTER_FULL)
    }

    pub(super) fn busy() -> Self {
        let error = "too many large bodies at once: send this again later";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, error).again_after(RETRY_AFTER_BUSY)
    }

    pub(super) fn stopping() -> Self {
        let error = "the agent is shutting down: send this again later";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, error).again_after(RETRY_AFTER_BUSY)
    }

    /// The answer. `close`: no other request can follow on this connection.
    pub(super) fn response(self, close: bool) -> Response {
        let mut response = json(self.status, &self.what);
        if let Some((name, value)) = self.header {
            let value = HeaderValue::try_from(value).expect("our own header values are printable ASCII");
            response.headers_mut().insert(name, value);
        }
        if close {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

impl From<BodyError> for Rejection {
    fn from(error: BodyError) -> Self {
        let status = match error.fault {
            Fault::Malformed => StatusCode::BAD_REQUEST,
            Fault::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        };
        let what = What { error: error.message, line: error.line, element: error.element, byte: error.byte };
        Self { status, what: Box::new(what), header: None }
    }
}

impl From<IntakeError> for Rejection {
    fn from(error: IntakeError) -> Self {
        match error {
            IntakeError::Full => Self::full(),
            IntakeError::TooLarge(why) => Self::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("{why}: split it, or raise max_bytes in the source's buffer table"),
            ),
            IntakeError::Fenced | IntakeError::Closed(_) => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, format!("{error}: send this again later"))
                    .again_after(RETRY_AFTER_FULL)
            }
        }
    }
}

/// A JSON answer.
pub(super) fn json(status: StatusCode, content: &impl Serialize) -> Response {
    let text = serde_json::to_vec(content).expect("numbers and text always serialize");
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
