//! A request with all that belongs to it: a token, an id, and patience.

use std::{fmt::Write, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::time::{Instant, sleep, timeout_at};
use ureq::http::Method;
use zeroize::Zeroizing;

use super::{
    Error, Snowflake,
    exchange::{Answer, Call},
    login::Plane,
};
use crate::{client::https::PATIENCE, retry::Backoff};

/// A body gets so much more time, however slow the line.
const SLOWEST_BYTES_PER_SECOND: u32 = 16 << 10;

/// A body and what it is.
pub(super) enum Content {
    None,
    Json(Bytes),
    Form(Bytes),
    /// Rows, one JSON object on each line, compressed by zstd.
    Rows(Bytes),
}

impl Content {
    fn body(&self) -> Bytes {
        match self {
            Self::None => Bytes::new(),
            Self::Json(body) | Self::Form(body) | Self::Rows(body) => body.clone(),
        }
    }

    fn headers(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let (kind, encoding) = match self {
            Self::None => (None, None),
            Self::Json(_) => (Some("application/json"), None),
            Self::Form(_) => (Some("application/x-www-form-urlencoded"), None),
            Self::Rows(_) => (Some("application/x-ndjson"), Some("zstd")),
        };
        // The service answers 391902 where it is not told what is accepted.
        let all = [("accept", Some("application/json")), ("content-type", kind), ("content-encoding", encoding)];
        all.into_iter().filter_map(|(name, value)| Some((name, value?)))
    }
}

/// What is asked for.
pub(super) struct Ask {
    /// For messages: `open channel c`.
    pub(super) what: String,
    pub(super) plane: Plane,
    pub(super) method: Method,
    /// From the root on, with a query if it has one.
    pub(super) path: String,
    pub(super) content: Content,
    /// One attempt may take this long, and a body as much longer as it needs on a slow line.
    pub(super) patience: Duration,
    /// Whether it matters that it may have been carried out and nobody knows.
    pub(super) is_delicate: bool,
    /// Whether who asks will ask again: then it is not tried again here.
    pub(super) is_single: bool,
}

impl Ask {
    /// A short one, of which it does not matter how often it is carried out.
    pub(super) fn new(plane: Plane, what: impl Into<String>, method: Method, path: impl Into<String>) -> Self {
        let (what, path) = (what.into(), path.into());
        Self {
            what,
            plane,
            method,
            path,
            content: Content::None,
            patience: PATIENCE,
            is_delicate: false,
            is_single: false,
        }
    }

    pub(super) fn with(self, content: Content) -> Self {
        Self { content, ..self }
    }
}

/// Why there is no answer that says anything.
enum Failed {
    /// It is about this moment.
    Passing {
        message: String,
        /// How long the server asks to be left alone.
        after: Option<Duration>,
        /// Whether a server was reached: the same body again is a burden for it and for the line.
        was_sent: bool,
        may_have_arrived: bool,
    },
    /// The token is refused: the next one may not be.
    Refused(String),
    Final(Error),
}

impl Snowflake {
    /// Asks until there is an answer that is not about the moment, or `deadline` has come: that the service is busy or away
    /// is waited for, and a token that it refuses is replaced once. What the answer means is for the caller to say.
    pub(super) async fn ask(self: &Arc<Self>, ask: &Ask, deadline: Instant) -> Result<Answer, Error> {
        let id = request_id();
        let (mut away, mut busy) = (Backoff::default(), Backoff::new(Duration::from_secs(1), PATIENCE * 2));
        let (mut may_have_arrived, mut was_refused) = (false, false);
        for count in 0_u32.. {
            let (message, after, backoff) = match self.attempt(ask, &id, count, deadline).await {
                Ok(answer) => return Ok(answer),
                Err(Failed::Refused(_)) if !was_refused => {
                    was_refused = true;
                    continue;
                }
                // It cannot be asked about any more.
                Err(Failed::Refused(message)) if may_have_arrived && ask.is_delicate => {
                    return Err(Error::Unknown(message));
                }
                Err(Failed::Final(error)) if may_have_arrived && ask.is_delicate => {
                    return Err(Error::Unknown(error.to_string()));
                }
                Err(Failed::Refused(message)) => return Err(Error::Unauthorized(message)),
                Err(Failed::Final(error)) => return Err(error),
                Err(Failed::Passing { message, after, was_sent, may_have_arrived: has }) => {
                    may_have_arrived |= has;
                    (message, after, if was_sent { &mut busy } else { &mut away })
                }
            };
            let pause = backoff.next().max(after.unwrap_or_default());
            if ask.is_single || Instant::now() + pause >= deadline {
                return Err(match may_have_arrived && ask.is_delicate {
                    true => Error::Unknown(message),
                    false => Error::Retry { message, after },
                });
            }
            log::debug!("{message}; again in {pause:?}");
            sleep(pause).await;
        }
        unreachable!("a deadline comes before so many attempts")
    }

    async fn attempt(self: &Arc<Self>, ask: &Ask, id: &str, count: u32, deadline: Instant) -> Result<Answer, Failed> {
        let (server, token) = match timeout_at(deadline, self.enter(ask.plane)).await {
            Ok(Ok(entered)) => entered,
            Ok(Err(Error::Retry { message, after })) => {
                return Err(Failed::Passing { message, after, was_sent: false, may_have_arrived: false });
            }
            Ok(Err(error)) => return Err(Failed::Final(error)),
            Err(_) => {
                let account = self.settings().account.url();
                let message = format!("cannot {}: {account} does not let us in in time", ask.what);
                return Err(Failed::Passing { message, after: None, was_sent: false, may_have_arrived: false });
            }
        };
        let mut headers = self.proof(ask.plane, &token);
        headers.extend(ask.content.headers().map(|(name, value)| (name, Zeroizing::new(value.to_owned()))));
        let (method, url, body) = (ask.method.clone(), url(&server, ask, id, count), ask.content.body());
        // When the last of a long body is written, the kernel still holds much of it.
        let (slowest, left) = (slowest(&body), deadline.saturating_duration_since(Instant::now()));
        let (patience, longest) = (ask.patience + slowest.min(PATIENCE), (ask.patience + slowest).min(left));
        let call = Call { method, url, headers, body, patience, longest };
        let answer = self.call(call).await.map_err(|unanswered| {
            // The ingest host may be another by now.
            self.forget(ask.plane, &token, true);
            let message = format!("cannot {} at {server}: {}", ask.what, unanswered.why);
            let may_have_arrived = unanswered.may_have_arrived;
            Failed::Passing { message, after: None, was_sent: may_have_arrived, may_have_arrived }
        })?;
        self.note(answer.date);
        let message = || format!("cannot {} at {server}: it answers {}", ask.what, answer.described());
        match answer.status {
            401 | 403 if !is_about_an_object(&answer) => {
                self.forget(ask.plane, &token, false);
                Err(Failed::Refused(format!("{}; {}", message(), self.advice(ask.plane, &token))))
            }
            status if is_passing(&answer) => {
                let may_have_arrived = status == 408 || status >= 500;
                Err(Failed::Passing { message: message(), after: answer.retry_after, was_sent: true, may_have_arrived })
            }
            _ => Ok(answer),
        }
    }
}

/// How long `body` takes on the slowest line that is put up with.
pub(super) fn slowest(body: &[u8]) -> Duration {
    Duration::from_secs(body.len() as u64) / SLOWEST_BYTES_PER_SECOND
}

/// Whether it is about this moment. A statement that took too long is not.
fn is_passing(answer: &Answer) -> bool {
    let is_busy = |code: &str| matches!(code, "ERR_GENERAL_EXCEPTION_RETRY_REQUEST" | "ERR_OPEN_CHANNEL_IN_PROGRESS");
    match answer.status {
        429 | 500.. => true,
        408 => answer.json().is_none_or(|body| body["statementHandle"].is_null()),
        400.. => is_busy(&answer.said().0),
        _ => false,
    }
}

/// Whether it is not about who we are.
fn is_about_an_object(answer: &Answer) -> bool {
    answer.said().0.ends_with("_NOT_AUTHORIZED")
}

/// The SQL API is told of a retry by `retry`, the rest by a count.
fn url(server: &str, ask: &Ask, id: &str, count: u32) -> String {
    let mut url = format!("{server}{}{}requestId={id}", ask.path, if ask.path.contains('?') { '&' } else { '?' });
    let counted = match (ask.plane, count) {
        (Plane::Sql, 0) => Ok(()),
        (Plane::Sql, _) => url.write_str("&retry=true"),
        (_, count) => write!(url, "&retryCount={count}"),
    };
    counted.expect("a text takes all that is written");
    url
}

/// A random UUID (RFC 9562 section 5.4).
fn request_id() -> String {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("a Linux kernel always has random bytes for a running process");
    let id = u128::from_be_bytes(bytes) & !(0xf << 76) & !(0b11 << 62) | 4 << 76 | 0b10 << 62;
    let hex = format!("{id:032x}");
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_a_random_uuid() {
        let ids = [request_id(), request_id()];
        assert_ne!(ids[0], ids[1]);
        for id in ids {
            let parts: Vec<_> = id.split('-').collect();
            assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [8, 4, 4, 4, 12], "{id}");
            assert!(parts[2].starts_with('4') && parts[3].starts_with(['8', '9', 'a', 'b']), "{id}");
        }
    }
}
