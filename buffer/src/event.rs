//! What the buffer keeps: events, and the typed values of their headers.
//!
//! Bodies and keys are [`Bytes`], so that reading a segment hands out slices of one decompressed block instead of a
//! copy for each event.

use bytes::Bytes;

/// Microseconds since the Unix epoch, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub i64);

/// Where an event's time comes from, and how far it can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TimeQuality {
    /// The producer gave it. It is kept as it came.
    #[default]
    Given,
    /// The gateway's own clock gave it. Between intake and delivery this says no more than that; after reading it says
    /// that the clock was synchronised when it did.
    Stamped,
    /// The gateway's clock gave it before it was synchronised, and it was put right when the event was read.
    Repaired,
    /// The gateway's clock gave it without ever having been synchronised in that boot: it may be off by years.
    Untrusted,
}

/// What a body is: how a sink that tells JSON, text and bytes apart shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BodyKind {
    /// Nobody said: JSON if it is, else text if it is, else bytes.
    #[default]
    Unsaid,
    /// JSON. The source has checked that.
    Json,
    /// Text, though it may look like JSON. The source has checked that it is UTF-8.
    Text,
    /// Bytes, whatever they look like.
    Bytes,
}

/// One event: what a producer sent, and what a sink delivers.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Event {
    /// When it happened.
    pub time: Timestamp,
    /// Where [`Event::time`] comes from.
    pub time_quality: TimeQuality,
    /// What it is about: a device, a topic, a primary key.
    pub key: Option<Bytes>,
    /// Named, typed values beside the body, in order. A name may occur more than once.
    pub headers: Vec<(String, Value)>,
    /// The payload, byte for byte. `None` (a tombstone) and an empty body differ.
    pub body: Option<Bytes>,
    /// What the body is, where the source says so.
    pub body_kind: BodyKind,
    /// The target table, where the source names one.
    pub table: Option<String>,
    /// Whether a transaction of the source ends with this event.
    pub end_of_transaction: bool,
}

impl Event {
    /// An event with a body and a time of the producer's, and nothing else.
    pub fn new(time: Timestamp, body: impl Into<Bytes>) -> Self {
        Self { time, body: Some(body.into()), ..Self::default() }
    }

    /// Bytes of key, headers, body and table: what limits and quotas on an event's size count.
    pub fn size_bytes(&self) -> usize {
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + value.size_bytes()).sum();
        self.key.as_ref().map_or(0, Bytes::len)
            + self.body.as_ref().map_or(0, Bytes::len)
            + self.table.as_ref().map_or(0, String::len)
            + headers
    }
}

/// A header's value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Text.
    String(String),
    /// A signed integer.
    Integer(i64),
    /// A floating-point number.
    Float(f64),
    /// True or false.
    Boolean(bool),
    /// Anything.
    Bytes(Bytes),
    /// A point in time.
    Time(Timestamp),
}

impl Value {
    fn size_bytes(&self) -> usize {
        match self {
            Self::String(text) => text.len(),
            Self::Bytes(bytes) => bytes.len(),
            Self::Boolean(_) => 1,
            Self::Integer(_) | Self::Float(_) | Self::Time(_) => 8,
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(text.to_owned())
    }
}
