//! Channels of a pipe ("Snowpipe Streaming: REST API" in the vendor's documentation).

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use percent_encoding::utf8_percent_encode;
use serde_json::{Value, json};
use tokio::time::Instant;
use ureq::http::Method;

use super::{
    Error, Identifier, Snowflake, Status,
    exchange::Answer,
    login::Plane,
    request::{Ask, Content, slowest},
    status::Kind,
};
use crate::client::https::{ESCAPED, encoded};

/// A call may take this long, with all that is tried again.
const CALL_PATIENCE: Duration = Duration::from_secs(60);
/// So many names are asked about at once.
const MAX_NAMES: usize = 500;

/// A pipe, whose channels carry rows into its table.
#[derive(Debug, Clone)]
pub struct Pipe {
    snowflake: Arc<Snowflake>,
    /// For messages.
    name: String,
    /// `/databases/.../pipes/...`.
    path: String,
}

/// A channel that is ours until somebody else opens it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// What the first append shows.
    pub continuation: String,
    /// What is committed. Look at [`Status::problem`].
    pub status: Status,
}

impl fmt::Display for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Pipe {
    /// Asks nobody yet.
    pub fn new(snowflake: Arc<Snowflake>, database: &Identifier, schema: &Identifier, name: &Identifier) -> Self {
        let [in_database, in_schema, pipe] = [database, schema, name].map(Identifier::in_path);
        let path =
            format!("/databases/{}/schemas/{}/pipes/{}", segment(&in_database), segment(&in_schema), segment(&pipe));
        Self { snowflake, name: format!("{database}.{schema}.{name}"), path }
    }

    /// Asks for the pipe as the vendor's SDK does before it opens a channel. Not in the vendor's documentation: what is no
    /// [`Error::Missing`] says nothing of the pipe. It is not tried again.
    pub async fn info(&self) -> Result<(), Error> {
        let path = format!("/v2/streaming{}:pipe-info", self.path);
        let body = Content::Json(r#"{"generate_new_token":true,"encryption_version":"AES-CTR-128.1"}"#.into());
        let ask = Ask::new(Plane::Ingest, format!("ask for {self}"), Method::POST, path).with(body);
        self.ask(&Ask { is_single: true, ..ask }, CALL_PATIENCE).await.map(drop)
    }

    /// Makes `channel` ours, and makes it if it is not there. Rows that are not committed yet are discarded, or with
    /// `fail_on_uncommitted` they are [`Error::Uncommitted`]. An `offset_token` takes the place of the committed one.
    pub async fn open(
        &self,
        channel: &str,
        fail_on_uncommitted: bool,
        offset_token: Option<&str>,
    ) -> Result<Opened, Error> {
        let mut body = json!({ "fail_on_uncommitted_rows": fail_on_uncommitted });
        if let Some(token) = offset_token {
            body["offset_token"] = token.into();
        }
        let ask = self.about_channel("open", Method::PUT, "/v2/streaming", channel, "");
        let answer = self.ask(&ask.with(Content::Json(body.to_string().into())), CALL_PATIENCE).await?;
        let body = answer.json().unwrap_or_default();
        let continuation = body["next_continuation_token"].as_str().map(str::to_owned);
        let status = Status::read(&body["channel_status"])?;
        match continuation {
            Some(continuation) => Ok(Opened { continuation, status }),
            // A pipe that is in trouble answers 200, and may have no token.
            None => Err(status
                .problem()
                .filter(|_| !status.code.is_empty())
                .unwrap_or_else(|| Error::Confused(format!("channel {channel} of {self} is opened without a token")))),
        }
    }

    /// Sends `rows`: one JSON object on each line, compressed by zstd, at most 4 MB of them. They bear the tokens from
    /// `start` to `end`. What comes back is for the next append. **They are not committed yet**: [`Pipe::statuses`] says
    /// when. Calls for one channel follow each other, and after any error but [`Error::Retry`] it is opened again.
    pub async fn append(
        &self,
        channel: &str,
        continuation: &str,
        start: &str,
        end: &str,
        rows: Bytes,
    ) -> Result<String, Error> {
        let patience = CALL_PATIENCE + slowest(&rows);
        let query =
            encoded(&[("startOffsetToken", start), ("endOffsetToken", end), ("continuationToken", continuation)]);
        // The service knows a request by its continuation token, and answers it again: what was cut off is sent again.
        let ask =
            self.about_channel("append to", Method::POST, "/v2/streaming/data", channel, &format!("/rows?{query}"));
        let ask = Ask { is_delicate: true, ..ask.with(Content::Rows(rows)) };
        let answer = self.ask(&ask, patience).await?;
        let body = answer.json().unwrap_or_default();
        match body["next_continuation_token"].as_str() {
            Some(next) if body["status_code"].as_i64().unwrap_or_default() == 0 => Ok(next.to_owned()),
            _ => Err(Error::Unknown(format!("cannot {}: it answers {}", ask.what, answer.described()))),
        }
    }

    /// What the service says of these channels. It does not know those that are missing in the answer.
    pub async fn statuses(&self, channels: &[&str]) -> Result<HashMap<String, Status>, Error> {
        let deadline = Instant::now() + CALL_PATIENCE;
        let mut found = HashMap::with_capacity(channels.len());
        let mut left: Vec<_> = channels.chunks(MAX_NAMES).collect();
        while let Some(names) = left.pop() {
            let path = format!("/v2/streaming{}:bulk-channel-status", self.path);
            let ask = Ask::new(Plane::Ingest, format!("ask for the channels of {self}"), Method::POST, path);
            let ask = ask.with(Content::Json(json!({ "channel_names": names }).to_string().into()));
            let answer = self.snowflake.ask(&ask, deadline).await?;
            if names.len() > 1 && answer.said().0 == "ERR_GET_CHANNEL_STATUS_BATCH_TOO_MANY_CHANNELS" {
                left.extend(<[_; 2]>::from(names.split_at(names.len() / 2)));
                continue;
            }
            let body = self.judged(&ask, answer)?.json().unwrap_or_default();
            let Value::Object(statuses) = &body["channel_statuses"] else {
                return Err(Error::Confused(format!("cannot {}: there are no statuses in the answer", ask.what)));
            };
            for (name, status) in statuses {
                found.insert(name.clone(), Status::read(status)?);
            }
        }
        Ok(found)
    }

    /// Gives `channel` up, with its token and what is not committed there. Its rows stay.
    pub async fn drop_channel(&self, channel: &str) -> Result<(), Error> {
        let ask = self.about_channel("drop", Method::DELETE, "/v2/streaming", channel, "");
        self.ask(&ask, CALL_PATIENCE).await.map(drop)
    }

    fn about_channel(&self, verb: &str, method: Method, root: &str, channel: &str, rest: &str) -> Ask {
        let path = format!("{root}{}/channels/{}{rest}", self.path, segment(channel));
        Ask::new(Plane::Ingest, format!("{verb} channel {channel} of {self}"), method, path)
    }

    async fn ask(&self, ask: &Ask, patience: Duration) -> Result<Answer, Error> {
        let answer = self.snowflake.ask(ask, Instant::now() + patience).await?;
        self.judged(ask, answer)
    }

    /// What an answer means that is not about the moment, nor about who we are.
    fn judged(&self, ask: &Ask, answer: Answer) -> Result<Answer, Error> {
        if answer.status == 200 {
            return Ok(answer);
        }
        let message = format!("cannot {}: the service answers {}", ask.what, answer.described());
        Err(match (Kind::of(&answer.said().0), answer.status) {
            (Some(Kind::Uncommitted), _) => Error::Uncommitted(message),
            (Some(Kind::Reopen), _) => Error::Reopen(message),
            (Some(Kind::Superseded), _) => Error::Superseded(message),
            (Some(Kind::Missing), _) => Error::Missing(format!("{message}; {}", self.snowflake.missing_grants())),
            (None, 413) => Error::TooLarge(message),
            // The channel is of no use after any other answer to an append: opening it says what is wrong.
            (None, _) if ask.is_delicate => Error::Reopen(message),
            (None, 409) => Error::Reopen(message),
            (None, 404) => Error::Missing(format!("{message}; {}", self.snowflake.missing_grants())),
            (None, _) => Error::Confused(message),
        })
    }
}

fn segment(name: &str) -> impl fmt::Display {
    utf8_percent_encode(name, ESCAPED)
}
