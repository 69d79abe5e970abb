//! One request, and what is in its answer.

use std::{io::Read, sync::Arc, time::Duration};

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use serde_json::Value;
use tokio::task::spawn_blocking;
use ureq::{
    AsSendBody, Body, Error,
    http::{Method, Request, Response, header},
};
use zeroize::Zeroizing;

use super::Snowflake;
use crate::client::https::{failure, may_have_arrived, retry_after, shown};

/// No answer is longer, unpacked: results come in parts, of which some are of this order.
const MAX_ANSWER_BYTES: u64 = 16 << 20;

/// A request.
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) url: String,
    pub(super) headers: Vec<(&'static str, Zeroizing<String>)>,
    pub(super) body: Bytes,
    /// So long no byte may leave, and so long the answer may take once the last one has left.
    pub(super) patience: Duration,
    /// From the resolver to the last byte of the answer.
    pub(super) longest: Duration,
}

/// What the server has answered. It may be a token: it is wiped.
pub(super) struct Answer {
    pub(super) status: u16,
    /// How long the server asks to be left alone.
    pub(super) retry_after: Option<Duration>,
    /// The time by its own clock, in seconds since the Unix epoch.
    pub(super) date: Option<i64>,
    body: Zeroizing<Vec<u8>>,
}

/// There is no answer.
pub(super) struct Unanswered {
    pub(super) why: String,
    /// Whether the server may have carried the request out all the same.
    pub(super) may_have_arrived: bool,
}

impl Snowflake {
    /// Makes one request on a thread of its own, which goes on if this is given up.
    pub(super) async fn call(self: &Arc<Self>, call: Call) -> Result<Answer, Unanswered> {
        let snowflake = Arc::clone(self);
        let answered = spawn_blocking(move || snowflake.send(&call)).await;
        answered.unwrap_or_else(|_| {
            Err(Unanswered { why: "the agent is shutting down".to_owned(), may_have_arrived: true })
        })
    }

    fn send(&self, call: &Call) -> Result<Answer, Unanswered> {
        let unanswered = |error: Error| Unanswered { may_have_arrived: may_have_arrived(&error), why: failure(error) };
        let mut request = Request::builder().method(call.method.clone()).uri(&call.url);
        for (name, value) in &call.headers {
            request = request.header(*name, value.as_str());
        }
        let invalid = |error: ureq::http::Error| unanswered(error.into());
        let answer = match call.method {
            Method::GET | Method::DELETE => self.run(call, request.body(()).map_err(invalid)?),
            _ => self.run(call, request.body(&call.body[..]).map_err(invalid)?),
        };
        // What is cut off in the middle has arrived.
        answer.and_then(Answer::read).map_err(unanswered)
    }

    /// The whole may take long on a slow line: so that a dead one does not, what makes no progress ends earlier.
    fn run(&self, call: &Call, request: Request<impl AsSendBody>) -> Result<Response<Body>, Error> {
        let request = self.agent.configure_request(request).timeout_global(Some(call.longest));
        let request = request.timeout_per_write(Some(call.patience)).timeout_recv_response(Some(call.patience));
        self.agent.run(request.build())
    }
}

impl Answer {
    fn read(mut answer: Response<Body>) -> Result<Self, Error> {
        let text = |name| Some(answer.headers().get(name)?.to_str().ok()?.to_owned());
        let date = text(header::DATE).and_then(|date| jiff::fmt::rfc2822::parse(&date).ok());
        let date = date.map(|date| date.timestamp().as_second());
        let is_packed = text(header::CONTENT_ENCODING).is_some_and(|encoding| encoding.eq_ignore_ascii_case("gzip"));
        let retry_after = text(header::RETRY_AFTER).and_then(|after| retry_after(&after, date));
        let status = answer.status().as_u16();
        let reader = answer.body_mut().as_reader();
        let mut body = Zeroizing::new(Vec::new());
        let read = match is_packed {
            true => MultiGzDecoder::new(reader).take(MAX_ANSWER_BYTES + 1).read_to_end(&mut body),
            false => reader.take(MAX_ANSWER_BYTES + 1).read_to_end(&mut body),
        };
        if read? as u64 > MAX_ANSWER_BYTES {
            // It would be as long the next time: so it is an answer, of which nothing can be made.
            *body = format!("more than {MAX_ANSWER_BYTES} bytes, which is too much").into_bytes();
        }
        Ok(Self { status, retry_after, date, body })
    }

    /// Of its body.
    pub(super) fn size_bytes(&self) -> usize {
        self.body.len()
    }

    /// The body as text, without what is around it.
    pub(super) fn text(&self) -> &str {
        str::from_utf8(&self.body).unwrap_or_default().trim()
    }

    /// The body as JSON. `None`: it is something else.
    pub(super) fn json(&self) -> Option<Value> {
        serde_json::from_slice(&self.body).ok()
    }

    /// What it says is wrong: a code, which may be empty, and a text. Errors come as `{"code":...}`, as
    /// `{"error_code":...}`, as a bare JSON string, and from those in between as anything.
    pub(super) fn said(&self) -> (String, String) {
        let body = self.json().unwrap_or_default();
        let first = |names: &[&str]| names.iter().find_map(|name| body[*name].as_str()).map(str::to_owned);
        match &body {
            Value::String(text) if is_code(text) => (text.clone(), String::new()),
            Value::String(text) => (String::new(), shown(text)),
            Value::Object(_) => {
                let text = first(&["message", "error_message", "error_description"]).unwrap_or_default();
                let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
                (first(&["code", "error_code", "error"]).unwrap_or_default(), shown(&text))
            }
            _ if self.text().starts_with('<') => (String::new(), String::new()),
            _ => (String::new(), shown(self.text())),
        }
    }

    /// For messages: status, code and text.
    pub(super) fn described(&self) -> String {
        let (code, text) = self.said();
        let said: Vec<_> = [code, text].into_iter().filter(|part| !part.is_empty()).collect();
        format!("{}{}{}", self.status, if said.is_empty() { "" } else { ": " }, said.join(": "))
    }
}

/// Whether `text` is a name for an error, and no sentence.
fn is_code(text: &str) -> bool {
    text.contains('_') && text.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
}
