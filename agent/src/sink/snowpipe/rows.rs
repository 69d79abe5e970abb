//! Events as rows: one JSON object on a line, whose members are columns of the table.

use forebay_buffer::{BodyKind, Event, Offset, TimeQuality, Timestamp, Value as Header};

use crate::{
    client::snowflake::Identifier,
    contract::PartitionId,
    sink::{
        body::Body,
        line,
        source::Source,
        value::{Row, Value, text_or_bytes},
    },
};

/// What a row has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shape {
    /// The columns that operators of the Python pipeline know: `event_body`, `partition_id`, `sequence_number`,
    /// `enqueued_time`, `properties`, `system_properties` and `ingestion_timestamp`.
    ///
    /// `event_body` is a text, JSON or not: what is no text is the text `{"body_base64":"…"}`. `properties` are the
    /// headers, `system_properties` those that a hub's service has set, with the event's key as `x-opt-partition-key`,
    /// its table as `table`, and how far its time can be trusted as `time_quality` where that is in doubt: both the text of
    /// a JSON object, or NULL. `ingestion_timestamp` is NULL where the clock cannot be right.
    Events,
    /// These columns, each filled with a part of the event: a body that is JSON, and parts of it, as they are; one that is
    /// no text as `{"body_base64":"…"}`; other bytes in base64.
    Columns(Vec<(String, Source)>),
    /// The members of the body, which must be a JSON object.
    Body,
}

/// The code of refusals: the body is no JSON object.
const NO_OBJECT: &str = "not_an_object";
/// What the service's own annotations begin with.
const SYSTEM_PREFIX: &str = "x-opt-";
const PARTITION_KEY: &str = "x-opt-partition-key";
const NULL: &[u8] = b"null";

impl Shape {
    /// With the names of columns as the service has them, for a pipe that goes by them: a key in another case may fill none.
    /// (A pipe with a statement of its own finds keys as they are written there.)
    pub(super) fn by_name(self) -> Self {
        let as_it_is = |name: String| Identifier::new(&name).map_or(name, |known| known.as_str().to_owned());
        match self {
            Self::Columns(columns) => {
                Self::Columns(columns.into_iter().map(|(name, source)| (as_it_is(name), source)).collect())
            }
            other => other,
        }
    }
}

/// Writes the rows of one batch.
pub(super) struct Rows<'b> {
    partition: &'b PartitionId,
    parts: Parts<'b>,
    /// JSON that becomes a text of JSON.
    json: Vec<u8>,
}

/// What is the same in all rows.
enum Parts<'b> {
    Events(EventParts),
    Columns {
        /// What comes before each value, and what the value is.
        columns: Vec<(Vec<u8>, &'b Source)>,
        looks_at_body: bool,
    },
    Body,
}

/// What comes before the values of [`Shape::Events`], in their order.
struct EventParts {
    body: Vec<u8>,
    /// The partition and its value with it.
    sequence_number: Vec<u8>,
    enqueued_time: Vec<u8>,
    properties: Vec<u8>,
    system_properties: Vec<u8>,
    /// The time of ingestion, which ends the row.
    end: Vec<u8>,
}

impl<'b> Rows<'b> {
    /// Rows of this shape, taken in at `now`, if that is known; where the pipe goes `by_name`, with keys in upper case.
    pub(super) fn new(shape: &'b Shape, partition: &'b PartitionId, now: Option<Timestamp>, by_name: bool) -> Self {
        let parts = match shape {
            Shape::Events => Parts::Events(EventParts::new(partition, now, by_name)),
            Shape::Columns(columns) => Parts::Columns {
                columns: columns.iter().enumerate().map(|(nth, (name, source))| (key(nth, name), source)).collect(),
                looks_at_body: columns.iter().any(|(_, source)| matches!(source, Source::Body | Source::Path(_))),
            },
            Shape::Body => Parts::Body,
        };
        Self { partition, parts, json: Vec::new() }
    }

    /// Appends the row of `event`, line break included. The error is a refusal's code and reason: `out` is as it was.
    pub(super) fn write(
        &mut self,
        out: &mut Vec<u8>,
        offset: Offset,
        event: &Event,
    ) -> Result<(), (&'static str, &'static str)> {
        match &self.parts {
            Parts::Events(parts) => parts.write(out, &mut self.json, offset, event),
            Parts::Columns { columns, looks_at_body } => {
                write_columns(out, columns, &Row::new(self.partition, offset, event, *looks_at_body));
            }
            Parts::Body => match Body::of(event) {
                Body::Json(json) if json.trim_ascii_start().starts_with('{') => line::write_compact(out, json),
                Body::None => return Err((NO_OBJECT, "it has no body, whose members would be the row's columns")),
                _ => return Err((NO_OBJECT, "its body is no JSON object, whose members would be the row's columns")),
            },
        }
        out.push(b'\n');
        Ok(())
    }
}

/// What comes before the value of the `nth` member of an object.
fn key(nth: usize, name: &str) -> Vec<u8> {
    let mut key = if nth == 0 { b"{".to_vec() } else { Vec::new() };
    line::begin_member(&mut key, name);
    key
}

impl EventParts {
    fn new(partition: &PartitionId, now: Option<Timestamp>, by_name: bool) -> Self {
        let key = |nth, name: &str| key(nth, &if by_name { name.to_ascii_uppercase() } else { name.to_owned() });
        let mut sequence_number = key(1, "partition_id");
        line::write_string(&mut sequence_number, &partition.name);
        sequence_number.extend(key(2, "sequence_number"));
        let mut end = key(6, "ingestion_timestamp");
        match now {
            Some(now) => line::write_time(&mut end, now),
            None => end.extend_from_slice(NULL),
        }
        end.push(b'}');
        Self {
            body: key(0, "event_body"),
            sequence_number,
            enqueued_time: key(3, "enqueued_time"),
            properties: key(4, "properties"),
            system_properties: key(5, "system_properties"),
            end,
        }
    }

    fn write(&self, out: &mut Vec<u8>, json: &mut Vec<u8>, offset: Offset, event: &Event) {
        out.extend_from_slice(&self.body);
        match event.body.as_deref().map(|body| (event.body_kind, std::str::from_utf8(body), body)) {
            None => out.extend_from_slice(NULL),
            Some((BodyKind::Unsaid | BodyKind::Json | BodyKind::Text, Ok(text), _)) => line::write_string(out, text),
            Some((_, _, bytes)) => write_quoted(out, json, |json| line::write_encoded_body(json, bytes)),
        }
        out.extend_from_slice(&self.sequence_number);
        line::write_integer(out, offset.0);
        out.extend_from_slice(&self.enqueued_time);
        line::write_time(out, event.time);
        // The hub's source puts the service's own first.
        let system = event.headers.iter().take_while(|(name, _)| name.starts_with(SYSTEM_PREFIX)).count();
        let (system, properties) = event.headers.split_at(system);
        out.extend_from_slice(&self.properties);
        match properties {
            [] => out.extend_from_slice(NULL),
            properties => write_quoted(out, json, |json| line::write_headers(json, properties)),
        }
        out.extend_from_slice(&self.system_properties);
        if write_system(json, system, event) {
            write_text_of(out, json);
        } else {
            out.extend_from_slice(NULL);
        }
        out.extend_from_slice(&self.end);
    }
}

/// The object of what the service has set, and of what else an event has that is no header. Whether there is any of it.
fn write_system(json: &mut Vec<u8>, system: &[(String, Header)], event: &Event) -> bool {
    json.clear();
    json.push(b'{');
    line::write_members(json, system);
    if let Some(key) = event.key.as_deref().filter(|_| system.iter().all(|(name, _)| name != PARTITION_KEY)) {
        line::begin_member(json, PARTITION_KEY);
        text_or_bytes(key).write_json(json);
    }
    if let Some(table) = &event.table {
        line::begin_member(json, "table");
        line::write_string(json, table);
    }
    let doubt = match event.time_quality {
        TimeQuality::Given | TimeQuality::Stamped => None,
        TimeQuality::Repaired => Some("repaired"),
        TimeQuality::Untrusted => Some("untrusted"),
    };
    if let Some(doubt) = doubt {
        line::begin_member(json, "time_quality");
        line::write_string(json, doubt);
    }
    json.push(b'}');
    json.len() > 2
}

/// What is written by way of `json` as a text of JSON.
fn write_quoted(out: &mut Vec<u8>, json: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    json.clear();
    write(json);
    write_text_of(out, json);
}

fn write_text_of(out: &mut Vec<u8>, json: &[u8]) {
    line::write_string(out, std::str::from_utf8(json).expect("JSON is UTF-8"));
}

fn write_columns(out: &mut Vec<u8>, columns: &[(Vec<u8>, &Source)], row: &Row<'_>) {
    for (key, source) in columns {
        out.extend_from_slice(key);
        match row.value(source) {
            Value::Json(json) => line::write_compact(out, json),
            value => value.write_json(out),
        }
    }
    out.push(b'}');
}

#[cfg(test)]
mod tests;
