//! What a receiver is asked for, and what it gives.

use bytes::Bytes;
use forebay_buffer::{Timestamp, Value};

/// What a receiver receives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiverOptions {
    /// The consumer group.
    pub consumer_group: String,
    /// The partition.
    pub partition: String,
    /// Where to begin.
    pub start: Start,
    /// Receivers with a higher one disconnect those with a lower one, and those with none. (The service calls it epoch.)
    pub owner_level: Option<i64>,
    /// What the service calls the receiver in its messages.
    pub name: String,
    /// Events that may be under way or unaccepted, at least 1.
    pub prefetch: u32,
    /// The same in bytes, roughly: fewer events are asked for where they are large.
    pub prefetch_bytes: usize,
    /// Whether events say how far the partition is.
    pub track_last_enqueued: bool,
}

/// Where a receiver begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// At the oldest event that is there.
    Oldest,
    /// With what comes from now on.
    Latest,
    /// After the event with this offset.
    AfterOffset(String),
    /// After the event with this sequence number.
    AfterSequenceNumber(i64),
    /// After this time, to the millisecond.
    EnqueuedAfter(Timestamp),
}

/// An event, as it came.
#[derive(Debug, Clone, PartialEq)]
pub struct Received {
    /// Its offset in the partition: opaque.
    pub offset: Option<String>,
    /// Its number in the partition.
    pub sequence_number: Option<i64>,
    /// When the hub took it.
    pub enqueued_time: Option<Timestamp>,
    /// The key it was sent with.
    pub partition_key: Option<String>,
    /// Its body.
    pub body: Body,
    /// The properties that AMQP knows and the event has (AMQP 1.0 part 3, section 3.2.4), by their names there.
    pub properties: Vec<(&'static str, Value)>,
    /// The application's own properties.
    pub application_properties: Vec<(String, Value)>,
    /// Annotations that are in no other field here.
    pub annotations: Vec<(String, Value)>,
    /// How far the partition was when this was sent, if that was asked for.
    pub last_enqueued: Option<LastEnqueued>,
    /// Why it is no event, where the bytes are not those of a message of AMQP: then they are its body.
    pub malformed: Option<&'static str>,
    /// What it takes in memory, roughly.
    pub size_bytes: usize,
}

/// An event's body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// There is none.
    None,
    /// Bytes: what nearly every producer sends.
    Data(Bytes),
    /// A text, sent as such.
    Text(String),
    /// Any other value of AMQP, or a sequence of them, as JSON. Binary is in base64, times are RFC 3339.
    Json(String),
}

/// How far a partition is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastEnqueued {
    /// The last event's number.
    pub sequence_number: i64,
    /// The last event's offset.
    pub offset: Option<String>,
    /// When the last event was taken.
    pub enqueued_time: Option<Timestamp>,
}

/// What a hub says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubProperties {
    /// Its name, as it was made.
    pub name: String,
    /// When it was made: in microseconds since the Unix epoch. A hub made again has another time.
    pub created: Timestamp,
    /// The names of its partitions.
    pub partition_ids: Vec<String>,
}

/// What a partition says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionProperties {
    /// The oldest event's number.
    pub begin_sequence_number: i64,
    /// The last event's number, -1 if there never was one.
    pub last_sequence_number: i64,
    /// The last event's offset: not one to begin at where the namespace is geo-replicated.
    pub last_offset: String,
    /// When the last event was taken.
    pub last_enqueued_time: Option<Timestamp>,
    /// Whether there is nothing in it.
    pub is_empty: bool,
}
