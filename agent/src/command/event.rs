//! Buffered events as lines of JSON: what the file sink writes, so that both can be read by the same tools.

use forebay_buffer::{Event, Numbering, Offset};

use crate::{
    contract::PartitionId,
    sink::{Format, line::write_line},
};

/// Appends the line of one event.
pub(super) fn write(
    out: &mut Vec<u8>,
    stream: &str,
    partition: &str,
    numbering: Numbering,
    offset: Offset,
    event: &Event,
) {
    let id = PartitionId { stream: stream.to_owned(), renamed_from: None, name: partition.to_owned(), numbering };
    write_line(out, Format::Envelope, &id, offset, event);
}

/// The event as a JSON value.
pub(super) fn value(
    stream: &str,
    partition: &str,
    numbering: Numbering,
    offset: Offset,
    event: &Event,
) -> serde_json::Value {
    let mut line = Vec::new();
    write(&mut line, stream, partition, numbering, offset, event);
    serde_json::from_slice(&line).expect("an envelope is JSON")
}
