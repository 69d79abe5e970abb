//! Events as rows: one JSON object on a line, whose members are columns of the table.

use forebay_buffer::{BodyKind, Event, Offset, TimeQuality, Timestamp, Value as Header};

use crate::{
    client::snowflake::Identifier,
    contract::PartitionId,
    sink::{
        body::Body,
        line,
        source::Source,
        value::{Row, Value},
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
    /// a JSON object, or NULL.
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

    /// Appends the row of `event`, line break included; where the pipe goes `by_name`, with keys in upper case. The error is
    /// a refusal's code and reason: `out` is as it was.
    pub(super) fn write(
        &self,
        out: &mut Vec<u8>,
        partition: &PartitionId,
        offset: Offset,
        event: &Event,
        now: Timestamp,
        by_name: bool,
    ) -> Result<(), (&'static str, &'static str)> {
        match self {
            Self::Events => write_event(out, partition, offset, event, now, by_name),
            Self::Columns(columns) => write_columns(out, columns, partition, offset, event),
            Self::Body => match Body::of(event) {
                Body::Json(json) if json.trim_ascii_start().starts_with('{') => line::write_compact(out, json),
                Body::None => return Err((NO_OBJECT, "it has no body, whose members would be the row's columns")),
                _ => return Err((NO_OBJECT, "its body is no JSON object, whose members would be the row's columns")),
            },
        }
        out.push(b'\n');
        Ok(())
    }
}

fn write_event(
    out: &mut Vec<u8>,
    partition: &PartitionId,
    offset: Offset,
    event: &Event,
    now: Timestamp,
    by_name: bool,
) {
    let key = |out: &mut Vec<u8>, key: &str| {
        let start = out.len();
        out.extend_from_slice(key.as_bytes());
        if by_name {
            out[start..].make_ascii_uppercase();
        }
    };
    key(out, "{\"event_body\":");
    match event.body.as_deref().map(|body| (event.body_kind, std::str::from_utf8(body), body)) {
        None => Value::Null.write_json(out),
        Some((BodyKind::Unsaid | BodyKind::Json | BodyKind::Text, Ok(text), _)) => line::write_string(out, text),
        Some((_, _, bytes)) => write_quoted(out, |out| line::write_encoded_body(out, bytes)),
    }
    key(out, ",\"partition_id\":");
    line::write_string(out, &partition.name);
    key(out, ",\"sequence_number\":");
    Value::Integer(offset.0).write_json(out);
    key(out, ",\"enqueued_time\":");
    line::write_time(out, event.time);
    // The hub's source puts the service's own first.
    let system = event.headers.iter().take_while(|(name, _)| name.starts_with(SYSTEM_PREFIX)).count();
    let (system, properties) = event.headers.split_at(system);
    key(out, ",\"properties\":");
    write_properties(out, properties);
    key(out, ",\"system_properties\":");
    let beside = beside(event, system);
    match beside.as_slice() {
        [] => write_properties(out, system),
        _ => write_properties(out, &[system, beside.as_slice()].concat()),
    }
    key(out, ",\"ingestion_timestamp\":");
    line::write_time(out, now);
    out.push(b'}');
}

/// What stands among the system's properties and is no header.
fn beside(event: &Event, system: &[(String, Header)]) -> Vec<(String, Header)> {
    let key = event.key.as_ref().filter(|_| system.iter().all(|(name, _)| name != PARTITION_KEY)).map(|key| {
        std::str::from_utf8(key).map_or_else(|_| Header::Bytes(key.clone()), |text| Header::String(text.to_owned()))
    });
    let quality = match event.time_quality {
        TimeQuality::Given | TimeQuality::Stamped => None,
        TimeQuality::Repaired => Some("repaired"),
        TimeQuality::Untrusted => Some("untrusted"),
    };
    let all = [
        (PARTITION_KEY, key),
        ("table", event.table.clone().map(Header::String)),
        ("time_quality", quality.map(|quality| Header::String(quality.to_owned()))),
    ];
    all.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

fn write_properties(out: &mut Vec<u8>, properties: &[(String, Header)]) {
    if properties.is_empty() {
        Value::Null.write_json(out);
    } else {
        write_quoted(out, |out| line::write_headers(out, properties));
    }
}

/// JSON as a text of JSON.
fn write_quoted(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let mut json = Vec::new();
    write(&mut json);
    line::write_string(out, std::str::from_utf8(&json).expect("JSON is UTF-8"));
}

fn write_columns(
    out: &mut Vec<u8>,
    columns: &[(String, Source)],
    partition: &PartitionId,
    offset: Offset,
    event: &Event,
) {
    let looks_at_body = columns.iter().any(|(_, source)| matches!(source, Source::Body | Source::Path(_)));
    let row = Row::new(partition, offset, event, looks_at_body);
    for (nth, (name, source)) in columns.iter().enumerate() {
        out.push(if nth == 0 { b'{' } else { b',' });
        line::write_string(out, name);
        out.push(b':');
        match row.value(source) {
            Value::Json(json) => line::write_compact(out, json),
            value => value.write_json(out),
        }
    }
    out.push(b'}');
}

#[cfg(test)]
mod tests;
