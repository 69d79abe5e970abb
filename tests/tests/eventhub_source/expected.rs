//! What becomes of an event of a hub in the table: said anew here, from what the emulator stored.

use base64::{Engine, prelude::BASE64_STANDARD};
use forebay_tests::servers::StoredEvent;
use serde_json::{Map, Value, json};

use crate::rig::Row;

/// The row that an event should be.
pub(crate) fn row(event: &StoredEvent) -> Row {
    let body = body(event);
    Row {
        partition: event.partition.clone(),
        offset: event.sequence_number,
        time_ms: event.enqueued,
        key: event.partition_key.clone(),
        headers: headers(event),
        has_body: body.is_some(),
        body: body.unwrap_or(Value::Null),
    }
}

fn headers(event: &StoredEvent) -> Value {
    let mut headers = Map::new();
    headers.insert("x-opt-sequence-number".into(), json!(event.sequence_number));
    headers.insert("x-opt-offset".into(), json!(event.offset));
    headers.insert("x-opt-enqueued-time".into(), json!(time(event.enqueued)));
    headers.extend(event.partition_key.iter().map(|key| ("x-opt-partition-key".to_owned(), json!(key))));
    let named = event.properties.iter().chain(&event.application_properties);
    headers.extend(named.map(|(name, value)| (name.clone(), header(value))));
    Value::Object(headers)
}

/// What is compound is JSON in a text.
fn header(typed: &Value) -> Value {
    match plain(typed) {
        compound @ (Value::Array(_) | Value::Object(_)) => json!(compound.to_string()),
        plain => plain,
    }
}

fn body(event: &StoredEvent) -> Option<Value> {
    if let Some(bytes) = &event.body {
        return Some(match std::str::from_utf8(bytes) {
            Ok(text) => serde_json::from_str(text).unwrap_or_else(|_| json!(text)),
            Err(_) => json!({ "body_base64": BASE64_STANDARD.encode(bytes) }),
        });
    }
    if let Some(sections) = &event.sequence {
        return Some(sections.iter().flat_map(items).collect());
    }
    event.value.as_ref().filter(|value| !value.is_null()).map(plain)
}

/// A sequence's section is a list.
fn items(section: &Value) -> Vec<Value> {
    section["list"].as_array().expect("a list").iter().map(plain).collect()
}

/// A value with AMQP's type, without it.
fn plain(typed: &Value) -> Value {
    let Some((kind, value)) = typed.as_object().and_then(|typed| typed.iter().next()) else { return Value::Null };
    let text = || value.as_str().expect("it is written as a text");
    match kind.as_str() {
        "binary" => json!(BASE64_STANDARD.encode(bytes(text()))),
        "uuid" => json!([&text()[..8], &text()[8..12], &text()[12..16], &text()[16..20], &text()[20..]].join("-")),
        "timestamp" => json!(time(value.as_i64().expect("milliseconds"))),
        "list" => value.as_array().expect("a list").iter().map(plain).collect(),
        "map" => {
            let pairs = value.as_array().expect("pairs").iter();
            let pair = |pair: &Value| (plain(&pair[0]).as_str().expect("a text").to_owned(), plain(&pair[1]));
            Value::Object(pairs.map(pair).collect())
        }
        _ => value.clone(),
    }
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits = |at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal");
    (0..hex.len()).step_by(2).map(digits).collect()
}

/// As a header has it.
fn time(milliseconds: i64) -> String {
    let time = jiff::Timestamp::from_millisecond(milliseconds).expect("a time of today");
    format!("{time:.6}")
}
