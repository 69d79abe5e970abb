//! Events as they come, out of AMQP's types.

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use fe2o3_amqp::types::{
    messaging::{Body as AmqpBody, Message, MessageId, Properties, annotations::OwnedKey},
    primitives::{OrderedMap, Timestamp as Milliseconds, Uuid, Value as Amqp},
};
use forebay_buffer::{Timestamp, Value};
use serde_json::{Value as Json, json};

use super::{Body, LastEnqueued, Received};

/// What an event takes beside its bytes, roughly.
const OVERHEAD_BYTES: usize = 256;

type Annotations = OrderedMap<OwnedKey, Amqp>;

/// An event out of its message.
pub(super) fn received(message: Message<AmqpBody<Amqp>>) -> Received {
    let mut received = Received {
        offset: None,
        sequence_number: None,
        enqueued_time: None,
        partition_key: None,
        body: body(message.body),
        properties: message.properties.map(properties).unwrap_or_default(),
        application_properties: Vec::new(),
        annotations: Vec::new(),
        last_enqueued: message.delivery_annotations.and_then(|annotations| last_enqueued(&annotations.0)),
        size_bytes: 0,
    };
    for (name, found) in message.message_annotations.map(|annotations| annotations.0).into_iter().flatten() {
        annotate(&mut received, key(name), found);
    }
    for (name, found) in message.application_properties.map(|properties| properties.0).into_iter().flatten() {
        received.application_properties.extend(value(found.into()).map(|value| (name, value)));
    }
    received.size_bytes = size(&received);
    received
}

fn annotate(received: &mut Received, name: String, found: Amqp) {
    match (name.as_str(), found) {
        ("x-opt-offset", Amqp::String(offset)) => received.offset = Some(offset),
        ("x-opt-sequence-number", Amqp::Long(number)) => received.sequence_number = Some(number),
        ("x-opt-enqueued-time", Amqp::Timestamp(at)) => received.enqueued_time = Some(time(&at)),
        ("x-opt-partition-key", Amqp::String(key)) => received.partition_key = Some(key),
        (_, found) => received.annotations.extend(value(found).map(|value| (name, value))),
    }
}

fn key(key: OwnedKey) -> String {
    match key {
        OwnedKey::Symbol(name) => name.0,
        OwnedKey::Ulong(number) => number.to_string(),
    }
}

fn last_enqueued(annotations: &Annotations) -> Option<LastEnqueued> {
    let find = |name: &str| {
        let found = annotations.iter().find(|(key, _)| matches!(key, OwnedKey::Symbol(symbol) if symbol.0 == name));
        found.map(|(_, value)| value)
    };
    let Some(Amqp::Long(sequence_number)) = find("last_enqueued_sequence_number") else { return None };
    Some(LastEnqueued {
        sequence_number: *sequence_number,
        offset: match find("last_enqueued_offset") {
            Some(Amqp::String(offset)) => Some(offset.clone()),
            _ => None,
        },
        enqueued_time: match find("last_enqueued_time_utc") {
            Some(Amqp::Timestamp(at)) => Some(time(at)),
            _ => None,
        },
    })
}

fn body(body: AmqpBody<Amqp>) -> Body {
    match body {
        AmqpBody::Empty => Body::None,
        AmqpBody::Data(mut sections) if sections.len() == 1 => {
            Body::Data(sections.pop().map(|section| section.0.into_vec().into()).unwrap_or_default())
        }
        AmqpBody::Data(sections) => {
            Body::Data(sections.iter().flat_map(|section| section.0.iter().copied()).collect::<Vec<u8>>().into())
        }
        AmqpBody::Value(value) => match value.0 {
            Amqp::Null => Body::None,
            Amqp::String(text) => Body::Text(text),
            Amqp::Binary(bytes) => Body::Data(bytes.into_vec().into()),
            value => Body::Json(json(&value).to_string()),
        },
        AmqpBody::Sequence(sections) => {
            let values = sections.into_iter().flat_map(|section| section.0);
            Body::Json(Json::Array(values.map(|value| json(&value)).collect()).to_string())
        }
    }
}

fn properties(properties: Properties) -> Vec<(&'static str, Value)> {
    let mut found = Vec::new();
    let mut add = |name, value: Option<Value>| found.extend(value.map(|value| (name, value)));
    add("message_id", properties.message_id.map(identifier));
    add("user_id", properties.user_id.map(|id| Value::Bytes(id.into_vec().into())));
    add("to", properties.to.map(Value::String));
    add("subject", properties.subject.map(Value::String));
    add("reply_to", properties.reply_to.map(Value::String));
    add("correlation_id", properties.correlation_id.map(identifier));
    add("content_type", properties.content_type.map(|name| Value::String(name.0)));
    add("content_encoding", properties.content_encoding.map(|name| Value::String(name.0)));
    add("absolute_expiry_time", properties.absolute_expiry_time.map(|at| Value::Time(time(&at))));
    add("creation_time", properties.creation_time.map(|at| Value::Time(time(&at))));
    add("group_id", properties.group_id.map(Value::String));
    add("group_sequence", properties.group_sequence.map(|number| Value::Integer(i64::from(number))));
    add("reply_to_group_id", properties.reply_to_group_id.map(Value::String));
    found
}

fn identifier(id: MessageId) -> Value {
    match id {
        MessageId::String(text) => Value::String(text),
        MessageId::Ulong(number) => unsigned(number),
        MessageId::Uuid(id) => Value::String(hyphenated(&id)),
        MessageId::Binary(bytes) => Value::Bytes(bytes.into_vec().into()),
    }
}

/// A header's value. What has no type among headers becomes a text: JSON where it is compound. `None`: null.
fn value(value: Amqp) -> Option<Value> {
    Some(match value {
        Amqp::Null => return None,
        Amqp::Bool(value) => Value::Boolean(value),
        Amqp::Ubyte(number) => Value::Integer(i64::from(number)),
        Amqp::Ushort(number) => Value::Integer(i64::from(number)),
        Amqp::Uint(number) => Value::Integer(i64::from(number)),
        Amqp::Ulong(number) => unsigned(number),
        Amqp::Byte(number) => Value::Integer(i64::from(number)),
        Amqp::Short(number) => Value::Integer(i64::from(number)),
        Amqp::Int(number) => Value::Integer(i64::from(number)),
        Amqp::Long(number) => Value::Integer(number),
        Amqp::Float(number) => Value::Float(f64::from(number.0)),
        Amqp::Double(number) => Value::Float(number.0),
        Amqp::Timestamp(at) => Value::Time(time(&at)),
        Amqp::Binary(bytes) => Value::Bytes(Bytes::from(bytes.into_vec())),
        Amqp::String(text) => Value::String(text),
        other => match json(&other) {
            Json::String(text) => Value::String(text),
            json => Value::String(json.to_string()),
        },
    })
}

fn unsigned(number: u64) -> Value {
    i64::try_from(number).map_or_else(|_| Value::String(number.to_string()), Value::Integer)
}

/// Any value of AMQP as JSON. What a described value is described as is left out.
fn json(value: &Amqp) -> Json {
    match value {
        Amqp::Null => Json::Null,
        Amqp::Bool(value) => json!(value),
        Amqp::Ubyte(number) => json!(number),
        Amqp::Ushort(number) => json!(number),
        Amqp::Uint(number) => json!(number),
        Amqp::Ulong(number) => json!(number),
        Amqp::Byte(number) => json!(number),
        Amqp::Short(number) => json!(number),
        Amqp::Int(number) => json!(number),
        Amqp::Long(number) => json!(number),
        Amqp::Float(number) => real(f64::from(number.0)),
        Amqp::Double(number) => real(number.0),
        Amqp::Decimal32(number) => hexadecimal(&number.clone().into_inner()),
        Amqp::Decimal64(number) => hexadecimal(&number.clone().into_inner()),
        Amqp::Decimal128(number) => hexadecimal(&number.clone().into_inner()),
        Amqp::Char(character) => json!(character),
        Amqp::Timestamp(at) => {
            let at = jiff::Timestamp::from_millisecond(at.milliseconds());
            at.map_or(Json::Null, |at| json!(at.to_string()))
        }
        Amqp::Uuid(id) => json!(hyphenated(id)),
        Amqp::Binary(bytes) => json!(BASE64_STANDARD.encode(bytes)),
        Amqp::String(text) => json!(text),
        Amqp::Symbol(name) => json!(name.0),
        Amqp::List(values) => values.iter().map(json).collect(),
        Amqp::Array(values) => values.0.iter().map(json).collect(),
        Amqp::Map(map) => {
            let text = |key: &Amqp| match json(key) {
                Json::String(text) => text,
                json => json.to_string(),
            };
            Json::Object(map.iter().map(|(key, value)| (text(key), json(value))).collect())
        }
        Amqp::Described(described) => json(&described.value),
    }
}

/// JSON has no infinity, and nothing that is no number.
fn real(number: f64) -> Json {
    if number.is_finite() { json!(number) } else { json!(number.to_string()) }
}

fn hexadecimal(bytes: &[u8]) -> Json {
    json!(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

fn hyphenated(id: &Uuid) -> String {
    let number = u128::from_be_bytes(*id.as_inner());
    let digits = format!("{number:032x}");
    [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]].join("-")
}

/// AMQP counts milliseconds.
pub(super) fn time(at: &Milliseconds) -> Timestamp {
    Timestamp(at.milliseconds().saturating_mul(1_000))
}

fn size(received: &Received) -> usize {
    let width = |value: &Value| match value {
        Value::String(text) => text.len(),
        Value::Bytes(bytes) => bytes.len(),
        _ => 8,
    };
    let named = received.application_properties.iter().chain(&received.annotations);
    let named: usize = named.map(|(name, value)| name.len() + width(value)).sum();
    let properties: usize = received.properties.iter().map(|(name, value)| name.len() + width(value)).sum();
    let body = match &received.body {
        Body::None => 0,
        Body::Data(bytes) => bytes.len(),
        Body::Text(text) | Body::Json(text) => text.len(),
    };
    OVERHEAD_BYTES + named + properties + body + received.partition_key.as_ref().map_or(0, String::len)
}
