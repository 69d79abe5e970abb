//! Events as they come.

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use forebay_buffer::{Timestamp, Value};
use serde_json::{Value as Json, json};

use super::{
    Body, LastEnqueued, Received,
    decode::{self, Message, Named, Value as Amqp},
};

/// What an event takes beside its bytes, roughly.
const OVERHEAD_BYTES: usize = 256;

/// The properties that AMQP knows (section 3.2.4), in their order.
const PROPERTIES: [&str; 13] = [
    "message_id",
    "user_id",
    "to",
    "subject",
    "reply_to",
    "correlation_id",
    "content_type",
    "content_encoding",
    "absolute_expiry_time",
    "creation_time",
    "group_id",
    "group_sequence",
    "reply_to_group_id",
];

/// An event out of its message. What is none has the message's bytes as its body.
pub(super) fn received(bytes: Bytes) -> Received {
    let (message, outcome) = decode::message(&bytes);
    let Message { delivery_annotations, annotations, properties, application_properties, body } = message;
    let properties = PROPERTIES.into_iter().zip(properties);
    let mut received = Received {
        offset: None,
        sequence_number: None,
        enqueued_time: None,
        partition_key: None,
        body: self::body(body),
        properties: properties.filter_map(|(name, found)| Some((name, value(found)?))).collect(),
        application_properties: named(application_properties).collect(),
        annotations: Vec::new(),
        last_enqueued: last_enqueued(&delivery_annotations),
        malformed: None,
        size_bytes: OVERHEAD_BYTES + bytes.len(),
    };
    for (name, found) in annotations {
        annotate(&mut received, name, found);
    }
    if let Err(malformed) = outcome {
        (received.body, received.malformed) = (Body::Data(bytes), Some(malformed));
    }
    received
}

fn annotate(received: &mut Received, name: String, found: Amqp) {
    match (name.as_str(), found) {
        ("x-opt-offset", Amqp::String(offset)) => received.offset = Some(offset),
        ("x-opt-sequence-number", found) => received.sequence_number = found.integer(),
        ("x-opt-enqueued-time", Amqp::Time(at)) => received.enqueued_time = Some(at),
        ("x-opt-partition-key", Amqp::String(key)) => received.partition_key = Some(key),
        (_, found) => received.annotations.extend(value(found).map(|value| (name, value))),
    }
}

fn named(named: Named) -> impl Iterator<Item = (String, Value)> {
    named.into_iter().filter_map(|(name, found)| Some((name, value(found)?)))
}

fn last_enqueued(annotations: &Named) -> Option<LastEnqueued> {
    let find = |name: &str| annotations.iter().find(|(key, _)| key == name).map(|(_, value)| value);
    Some(LastEnqueued {
        sequence_number: find("last_enqueued_sequence_number")?.integer()?,
        offset: match find("last_enqueued_offset") {
            Some(Amqp::String(offset)) => Some(offset.clone()),
            _ => None,
        },
        enqueued_time: match find("last_enqueued_time_utc") {
            Some(Amqp::Time(at)) => Some(*at),
            _ => None,
        },
    })
}

fn body(body: decode::Body) -> Body {
    match body {
        decode::Body::None | decode::Body::Value(Amqp::Null) => Body::None,
        decode::Body::Data(bytes) | decode::Body::Value(Amqp::Binary(bytes)) => Body::Data(bytes),
        decode::Body::Value(Amqp::String(text)) => Body::Text(text),
        decode::Body::Value(value) => Body::Json(json(&value).to_string()),
        decode::Body::Sequence(values) => Body::Json(Json::from_iter(values.iter().map(json)).to_string()),
    }
}

/// A header's value. What has no type among headers becomes a text: JSON where it is compound. `None`: null.
fn value(value: Amqp) -> Option<Value> {
    Some(match value {
        Amqp::Null => return None,
        Amqp::Boolean(value) => Value::Boolean(value),
        Amqp::Unsigned(number) => {
            i64::try_from(number).map_or_else(|_| Value::String(number.to_string()), Value::Integer)
        }
        Amqp::Signed(number) => Value::Integer(number),
        Amqp::Float(number) => Value::Float(number),
        Amqp::Time(at) => Value::Time(at),
        Amqp::Binary(bytes) => Value::Bytes(bytes),
        Amqp::String(text) | Amqp::Symbol(text) => Value::String(text),
        other => match json(&other) {
            Json::String(text) => Value::String(text),
            json => Value::String(json.to_string()),
        },
    })
}

/// Any value of AMQP as JSON.
fn json(value: &Amqp) -> Json {
    match value {
        Amqp::Null => Json::Null,
        Amqp::Boolean(value) => json!(value),
        Amqp::Unsigned(number) => json!(number),
        Amqp::Signed(number) => json!(number),
        // JSON has no infinity, and nothing that is no number.
        Amqp::Float(number) if !number.is_finite() => json!(number.to_string()),
        Amqp::Float(number) => json!(number),
        Amqp::Decimal(bytes) => json!(hexadecimal(bytes)),
        Amqp::Character(character) => json!(character),
        Amqp::Time(Timestamp(at)) => {
            jiff::Timestamp::from_microsecond(*at).map_or(Json::Null, |at| json!(at.to_string()))
        }
        Amqp::Uuid(number) => json!(hyphenated(*number)),
        Amqp::Binary(bytes) => json!(BASE64_STANDARD.encode(bytes)),
        Amqp::String(text) | Amqp::Symbol(text) => json!(text),
        Amqp::List(values) => values.iter().map(json).collect(),
        Amqp::Map(pairs) => {
            let text = |key: &Amqp| match json(key) {
                Json::String(text) => text,
                json => json.to_string(),
            };
            Json::Object(pairs.iter().map(|(key, value)| (text(key), json(value))).collect())
        }
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn hyphenated(number: u128) -> String {
    let digits = format!("{number:032x}");
    [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]].join("-")
}
