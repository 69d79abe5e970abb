//! From a message to an event.

use bytes::Bytes;
use forebay_buffer::{BodyKind, Event, TimeQuality, Timestamp, Value};
use ring::digest::{Context, SHA256};

use super::super::batch::check_json;
use crate::{
    client::mqtt::{Properties, Publish, Qos},
    contract::Identity,
    json_path::JsonPath,
};

/// How a message becomes an event.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Shape {
    /// What payloads are. [`BodyKind::Json`] and [`BodyKind::Text`] are checked.
    pub decode: BodyKind,
    /// What the event is about.
    pub key: Option<Key>,
    /// The level of the topic, from 0, that names the partition. Without it there is one partition.
    pub partition_level: Option<usize>,
    /// What is left out because it was there before.
    pub dedupe: Option<Dedupe>,
}

/// Where a key comes from.
#[derive(Debug, Clone, PartialEq)]
pub enum Key {
    /// It is the topic.
    Topic,
    /// It is in the payload. Where it is not, there is no key.
    Path(JsonPath),
}

/// How messages that were sent again are recognised.
#[derive(Debug, Clone, PartialEq)]
pub struct Dedupe {
    /// What identifies a message among those of its topic.
    pub by: Identifier,
    /// How many are remembered in each partition.
    pub window: u32,
}

/// What identifies a message among those of its topic.
#[derive(Debug, Clone, PartialEq)]
pub enum Identifier {
    /// The event's key.
    Key,
    /// A user property.
    Header(String),
    /// A field of the payload.
    Path(JsonPath),
}

/// Headers that say what the broker says. A publisher's property with one of these names becomes `user.` and the name.
const OURS: [&str; 6] = ["topic", "qos", "retain", "content_type", "response_topic", "correlation_data"];

/// An event, and what the intake wants to know besides.
pub(super) struct Shaped {
    pub(super) event: Event,
    /// Why it can be none: a word for it, and what is wrong.
    pub(super) refusal: Option<(&'static str, String)>,
    pub(super) identity: Option<Identity>,
}

impl Shape {
    /// What `publish` says, at `now`.
    pub(super) fn shape(&self, publish: Publish, now: Timestamp) -> Shaped {
        let refusal = self.refusal(&publish);
        let json = self.json(&publish.payload, refusal.is_none());
        let key = match &self.key {
            None => None,
            Some(Key::Topic) => Some(Bytes::copy_from_slice(publish.topic.as_bytes())),
            Some(Key::Path(path)) => json.and_then(|json| text_at(path, json)).map(Bytes::from),
        };
        let identity = self.dedupe.as_ref().and_then(|dedupe| {
            let (kind, id) = match &dedupe.by {
                Identifier::Key => ("key", key.clone()?),
                Identifier::Header(name) => {
                    let (_, value) = publish.properties.user.iter().find(|(known, _)| known == name)?;
                    ("header", Bytes::copy_from_slice(value.as_bytes()))
                }
                Identifier::Path(path) => ("field", text_at(path, json?)?.into()),
            };
            // What is left empty tells nothing apart.
            (!id.is_empty()).then(|| identity(kind, &publish.topic, &id))
        });
        let Publish { topic, qos, retain, properties, payload, .. } = publish;
        let event = Event {
            time: now,
            time_quality: TimeQuality::Stamped,
            key,
            headers: headers(topic, qos, retain, properties),
            body: Some(payload),
            // What it was said to be, it is not.
            body_kind: if refusal.is_some() { BodyKind::Unsaid } else { self.decode },
            ..Event::default()
        };
        Shaped { event, refusal, identity }
    }

    fn refusal(&self, publish: &Publish) -> Option<(&'static str, String)> {
        let payload = &publish.payload;
        if let Some(bytes) = publish.cut_from {
            let kept = payload.len();
            let reason = format!("the packet has {bytes} bytes, more than max_packet_bytes: only {kept} are kept");
            return Some(("too_large", reason));
        }
        if let Some(why) = &publish.malformed {
            return Some(("malformed", why.clone()));
        }
        let wrong = match self.decode {
            BodyKind::Json => check_json(payload).err().map(|why| format!("not a JSON value: {why}")),
            BodyKind::Text => std::str::from_utf8(payload).err().map(|why| format!("not text in UTF-8: {why}")),
            BodyKind::Bytes | BodyKind::Unsaid => None,
        };
        wrong.map(|reason| ("malformed", reason))
    }

    /// The payload, where it is JSON and something of it is asked for.
    fn json<'p>(&self, payload: &'p [u8], is_fine: bool) -> Option<&'p str> {
        let by_path = matches!(self.dedupe, Some(Dedupe { by: Identifier::Path(_), .. }));
        let asked = by_path || matches!(self.key, Some(Key::Path(_)));
        let is_json = || if self.decode == BodyKind::Json { is_fine } else { check_json(payload).is_ok() };
        (asked && is_json()).then(|| std::str::from_utf8(payload).ok()).flatten()
    }
}

/// What stands at `path`: a text as it is, anything else as it is written, for a number that was read would lose digits.
/// Null is nothing.
fn text_at(path: &JsonPath, json: &str) -> Option<String> {
    match path.find_raw(json)? {
        "null" => None,
        text if text.starts_with('"') => serde_json::from_str(text).ok(),
        other => Some(other.to_owned()),
    }
}

/// A digest of what identifies a message. It is stored, so that it must never change.
fn identity(kind: &str, topic: &str, id: &[u8]) -> Identity {
    let mut digest = Context::new(&SHA256);
    for part in [kind.as_bytes(), topic.as_bytes()] {
        digest.update(&(part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    digest.update(id);
    let digest = digest.finish();
    let first = digest.as_ref().first_chunk().expect("SHA-256 has 32 bytes");
    Identity::from_be_bytes(*first)
}

/// What came beside the payload, and the publisher's own behind it, in their order: see [`OURS`].
fn headers(topic: String, qos: Qos, retain: bool, properties: Properties) -> Vec<(String, Value)> {
    let known = usize::from(properties.content_type.is_some())
        + usize::from(properties.response_topic.is_some())
        + usize::from(properties.correlation_data.is_some());
    let mut headers = Vec::with_capacity(3 + known + properties.user.len());
    let mut add = |name: &str, value| headers.push((name.to_owned(), value));
    add("topic", Value::String(topic));
    add("qos", Value::Integer(qos as i64));
    add("retain", Value::Boolean(retain));
    if let Some(kind) = properties.content_type {
        add("content_type", Value::String(kind));
    }
    if let Some(topic) = properties.response_topic {
        add("response_topic", Value::String(topic));
    }
    if let Some(data) = properties.correlation_data {
        add("correlation_data", Value::Bytes(data));
    }
    headers.extend(properties.user.into_iter().map(|(name, value)| {
        let name = if OURS.contains(&name.as_str()) { format!("user.{name}") } else { name };
        (name, Value::String(value))
    }));
    headers
}

#[cfg(test)]
mod tests;
