//! One request for a token, and what is in the answer.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;
use ureq::{
    Body, Error,
    http::{Response, header},
};

use super::{Token, error::Failure};
use crate::{
    client::https::{failure, retry_after, shown},
    secret::Secret,
};

/// No answer is longer: tokens have some thousand bytes, those of users in many groups some ten thousand.
const MAX_ANSWER_BYTES: u64 = 256 << 10;
/// How long a server is left alone that is busy and does not say how long, or that waits for our clock.
const PAUSE: Duration = Duration::from_secs(5);

/// What a server has answered.
pub(super) struct Answer {
    pub(super) status: u16,
    /// Its `WWW-Authenticate`.
    pub(super) challenge: Option<String>,
    /// The time by its own clock, in seconds since the Unix epoch.
    date: Option<i64>,
    /// How long it asks to be left alone.
    retry_after: Option<Duration>,
    body: Secret,
}

/// A token, as RFC 6749 section 5.1 and the managed identities have it: some write numbers as texts.
#[derive(Deserialize)]
struct Granted {
    access_token: String,
    expires_in: Option<Value>,
    expires_on: Option<Value>,
}

/// An error, as RFC 6749 section 5.2 and the managed identities have it.
#[derive(Deserialize)]
struct Refused {
    #[serde(default)]
    error: Value,
    error_description: Option<String>,
    message: Option<String>,
}

impl Answer {
    /// Reads the answer of the server at `place`. A server that does not answer may the next time.
    pub(super) fn read(place: &str, answer: Result<Response<Body>, Error>) -> Result<Self, Failure> {
        let unanswered = |error| Failure::passing(format!("{place}: {}", failure(error)));
        let mut answer = answer.map_err(unanswered)?;
        let text = |name| Some(answer.headers().get(name)?.to_str().ok()?.to_owned());
        let (challenge, date) = (text(header::WWW_AUTHENTICATE), text(header::DATE));
        let date = date.and_then(|date| jiff::fmt::rfc2822::parse(&date).ok()).map(|date| date.timestamp().as_second());
        let retry_after = text(header::RETRY_AFTER).and_then(|after| retry_after(&after, date));
        let status = answer.status().as_u16();
        let body = answer.body_mut().with_config().limit(MAX_ANSWER_BYTES).read_to_string().map_err(unanswered)?;
        Ok(Self { status, challenge, date, retry_after, body: Secret::new(body) })
    }

    /// The token in it, which was asked for at `asked`. `now` is what this machine's clock shows, for a server that does
    /// not say what its own does.
    pub(super) fn token(&self, place: &str, asked: Instant, now: i64) -> Result<Token, Failure> {
        if self.status != 200 {
            return Err(self.refusal(place));
        }
        // What the parser says of it may quote it.
        let granted: Granted = serde_json::from_str(self.body.expose())
            .map_err(|_| Failure::lasting(format!("{place} answers with something that is no token")))?;
        let secret = Secret::new(granted.access_token);
        if secret.expose().is_empty() {
            return Err(Failure::lasting(format!("{place} answers with an empty token")));
        }
        let now = self.date.unwrap_or(now);
        let end = match (granted.expires_in.as_ref().and_then(seconds), granted.expires_on.as_ref().and_then(seconds)) {
            (Some(life), _) => now.saturating_add(life),
            (None, end) => end.unwrap_or(now),
        };
        Ok(Token::until(secret, asked, now, end))
    }

    /// Why there is no token in it.
    pub(super) fn refusal(&self, place: &str) -> Failure {
        let said = self.said();
        let why = format!("{place} answers {}{}{said}", self.status, if said.is_empty() { "" } else { ": " });
        let after = self.retry_after;
        match self.status {
            // A signed assertion was not valid at the time by the server's clock.
            _ if said.contains("AADSTS700024") => {
                Failure { after: after.or(Some(PAUSE)), ..Failure::passing(format!("waiting for the clock: {why}")) }
            }
            429 => Failure { after: after.or(Some(PAUSE)), ..Failure::passing(why) },
            _ if said.starts_with("temporarily_unavailable") => Failure { after, ..Failure::passing(why) },
            404 | 408 | 410 | 500.. => Failure { after, ..Failure::passing(why) },
            _ => Failure::lasting(why),
        }
    }

    /// What the server says is wrong, on one line.
    fn said(&self) -> String {
        let Ok(refused) = serde_json::from_str::<Refused>(self.body.expose()) else { return String::new() };
        let code = refused.error.as_str().or(refused.error["code"].as_str()).unwrap_or_default();
        let nested = refused.error["message"].as_str().map(str::to_owned);
        let text = refused.error_description.or(refused.message).or(nested).unwrap_or_default();
        shown(&format!("{code}{}{text}", if code.is_empty() || text.is_empty() { "" } else { ": " }))
    }
}

/// A number of seconds, or the text of one.
pub(super) fn seconds(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.parse().ok())
}
