//! What the service says of a channel.

use serde_json::Value;

use super::Error;

/// A channel as it was a moment ago ("Snowpipe Streaming: REST API", `ChannelStatus`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Status {
    /// `SUCCESS`, or what is wrong with it.
    pub code: String,
    /// The last token that is committed, with all rows up to it. `None`: nothing is.
    pub committed: Option<String>,
    /// Rows that were committed, in the life of the channel.
    pub rows_inserted: u64,
    /// Rows that were read, in the life of the channel.
    pub rows_parsed: u64,
    /// Rows that were left out, in the life of the channel: opening it again does not set it back. `None`: it is not said.
    pub rows_error_count: Option<u64>,
    /// The end of the append that has the last row that was left out, or a later one.
    pub last_error_offset_upper_bound: Option<String>,
    /// Why it was left out. May quote its values.
    pub last_error_message: Option<String>,
    /// When the channel was made, in milliseconds since the Unix epoch: another one of the same name has another.
    pub created_on_ms: Option<i64>,
}

impl Status {
    /// The error says what makes no sense: a count that cannot be read is not taken for none.
    pub(super) fn read(status: &Value) -> Result<Self, Error> {
        let text = |name: &str| match &status[name] {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        };
        let count = |name: &str| {
            let nonsense = || Error::Confused(format!("the service says {name} {} of a channel", status[name]));
            count(&status[name]).ok_or_else(nonsense)
        };
        Ok(Self {
            code: text("channel_status_code").unwrap_or_default(),
            committed: text("last_committed_offset_token"),
            rows_inserted: count("rows_inserted")?.unwrap_or_default(),
            rows_parsed: count("rows_parsed")?.unwrap_or_default(),
            // The reference has both names.
            rows_error_count: count("rows_error_count")?.or(count("rows_errors")?),
            last_error_offset_upper_bound: text("last_error_offset_upper_bound"),
            last_error_message: text("last_error_message"),
            created_on_ms: status["created_on_ms"].as_i64(),
        })
    }

    /// Why rows that were or will be sent to it are not committed. `None`: nothing is wrong.
    pub fn problem(&self) -> Option<Error> {
        let message = format!("the service says {} of the channel", self.code);
        match self.code.as_str() {
            "SUCCESS" | "ACTIVE" => None,
            code => Some(match Kind::of(code) {
                Some(Kind::Missing) => Error::Missing(message),
                Some(Kind::Superseded) => Error::Superseded(message),
                // The documentation has nothing else that a channel in trouble needs.
                _ => Error::Reopen(message),
            }),
        }
    }
}

/// A count: an integer, or a text or a float that is one. `Some(None)`: there is none. `None`: it is something else.
pub(super) fn count(value: &Value) -> Option<Option<u64>> {
    let integral = |float: f64| (float.fract() == 0.0 && (0.0..9e15).contains(&float)).then_some(float as u64);
    match value {
        Value::Null => Some(None),
        Value::Number(number) => Some(Some(number.as_u64().or_else(|| integral(number.as_f64()?))?)),
        Value::String(text) => Some(Some(text.parse().ok().or_else(|| integral(text.parse().ok()?))?)),
        _ => None,
    }
}

/// What a code means for a channel, whatever carries it ("Snowpipe Streaming: error handling").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Missing,
    Reopen,
    Superseded,
    Uncommitted,
}

impl Kind {
    /// `None`: it is none of channels.
    pub(super) fn of(code: &str) -> Option<Self> {
        match code {
            "ERR_CHANNEL_HAS_UNCOMMITTED_DATA" => Some(Self::Uncommitted),
            "STALE_CONTINUATION_TOKEN_SEQUENCER" | "ERR_CHANNEL_HAS_INVALID_CLIENT_SEQUENCER" => Some(Self::Superseded),
            "STALE_PIPE_CACHE" => Some(Self::Reopen),
            _ if code.starts_with("ERR_CHANNEL_") => Some(Self::Reopen),
            _ if code.contains("DOES_NOT_EXIST") || code.ends_with("_NOT_AUTHORIZED") => Some(Self::Missing),
            _ => None,
        }
    }
}
