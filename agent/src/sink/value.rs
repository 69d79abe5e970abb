//! The value that a source gives for one event, before it is known what it becomes.

use base64::{Engine, engine::general_purpose::STANDARD};
use forebay_buffer::{Event, Offset, Timestamp, Value as Header};

use super::{body::Body, line, source::Source};
use crate::contract::PartitionId;

/// A value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value<'a> {
    Null,
    Text(&'a str),
    /// A JSON value, as it was written.
    Json(&'a str),
    /// The object of all headers.
    Headers(&'a [(String, Header)]),
    /// The header `.1` of all these, which has it more than once: an array in JSON.
    Repeated(&'a [(String, Header)], &'a str),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    Time(Timestamp),
    Bytes(&'a [u8]),
    /// The bytes of a body.
    Body(&'a [u8]),
}

/// One event, looked at once for all columns.
pub(super) struct Row<'a> {
    partition: &'a PartitionId,
    offset: Offset,
    event: &'a Event,
    body: Body<'a>,
}

impl<'a> Row<'a> {
    pub(super) fn new(partition: &'a PartitionId, offset: Offset, event: &'a Event, looks_at_body: bool) -> Self {
        let body = if looks_at_body { Body::of(event) } else { Body::None };
        Self { partition, offset, event, body }
    }

    /// What `source` gives.
    pub(super) fn value(&self, source: &Source) -> Value<'a> {
        match source {
            Source::Stream => Value::Text(&self.partition.stream),
            Source::Partition => Value::Text(&self.partition.name),
            Source::Offset => Value::Integer(self.offset.0),
            Source::Time => Value::Time(self.event.time),
            Source::Key => self.event.key.as_ref().map_or(Value::Null, |key| text_or_bytes(key)),
            Source::Table => self.event.table.as_deref().map_or(Value::Null, Value::Text),
            Source::Headers if self.event.headers.is_empty() => Value::Null,
            Source::Headers => Value::Headers(&self.event.headers),
            Source::Header(name) => self.header(name),
            Source::Body => match self.body {
                Body::None => Value::Null,
                Body::Json(json) => Value::Json(json),
                Body::Text(text) => Value::Text(text),
                Body::Bytes(bytes) => Value::Body(bytes),
            },
            Source::Path(path) => match self.body {
                Body::Json(json) => path.find_raw(json).map_or(Value::Null, Value::Json),
                _ => Value::Null,
            },
        }
    }

    fn header(&self, wanted: &str) -> Value<'a> {
        let headers = self.event.headers.as_slice();
        let mut named = headers.iter().enumerate().filter(|(_, (name, _))| name == wanted);
        match (named.next(), named.next()) {
            (None, _) => Value::Null,
            (Some((_, (_, value))), None) => match value {
                Header::String(text) => Value::Text(text),
                Header::Integer(integer) => Value::Integer(*integer),
                Header::Float(float) => Value::Float(*float),
                Header::Boolean(boolean) => Value::Boolean(*boolean),
                Header::Bytes(bytes) => Value::Bytes(bytes),
                Header::Time(time) => Value::Time(*time),
            },
            (Some((at, (name, _))), Some(_)) => Value::Repeated(&headers[at..], name),
        }
    }
}

pub(super) fn text_or_bytes(bytes: &[u8]) -> Value<'_> {
    std::str::from_utf8(bytes).map_or(Value::Bytes(bytes), Value::Text)
}

impl Value<'_> {
    /// As JSON, in the same forms as sinks of lines write.
    pub(super) fn write_json(&self, out: &mut Vec<u8>) {
        match *self {
            Self::Null => out.extend_from_slice(b"null"),
            Self::Text(text) => line::write_string(out, text),
            Self::Json(json) => out.extend_from_slice(json.as_bytes()),
            Self::Headers(headers) => line::write_headers(out, headers),
            Self::Repeated(headers, wanted) => {
                for (nth, (_, value)) in headers.iter().filter(|(name, _)| name == wanted).enumerate() {
                    out.push(if nth == 0 { b'[' } else { b',' });
                    line::write_value(out, value);
                }
                out.push(b']');
            }
            Self::Integer(integer) => line::write_value(out, &Header::Integer(integer)),
            Self::Float(float) => line::write_value(out, &Header::Float(float)),
            Self::Boolean(boolean) => line::write_value(out, &Header::Boolean(boolean)),
            Self::Time(time) => line::write_time(out, time),
            Self::Bytes(bytes) => line::write_string(out, &STANDARD.encode(bytes)),
            Self::Body(bytes) => line::write_encoded_body(out, bytes),
        }
    }
}
