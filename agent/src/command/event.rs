//! Buffered events as lines of JSON: what the file sink writes, so that both can be read by the same tools.

use std::{collections::BTreeMap, io::Write};

use forebay_buffer::{Event, Inspector, Numbering, Offset, StreamStatus};

use super::failure::Outcome;
use crate::{
    contract::PartitionId,
    sink::{Format, line::write_line},
};

/// Events that are read at once.
const PAGE: usize = 500;

/// Writes up to `limit` events of a stream, of one partition or of all, after an offset. Returns how many.
pub(super) fn write_stream(
    inspector: &mut Inspector,
    stream: &StreamStatus,
    only: Option<&str>,
    after: Option<Offset>,
    limit: usize,
    out: &mut impl Write,
) -> Outcome<usize> {
    let mut lanes_by_name: BTreeMap<&str, usize> = BTreeMap::new();
    let wanted = stream.partitions.iter().filter(|partition| only.is_none_or(|only| only == partition.name));
    wanted.for_each(|partition| *lanes_by_name.entry(&partition.name).or_default() += 1);
    let mut left = limit;
    for (name, lanes) in lanes_by_name {
        let mut after = after;
        while left > 0 {
            // Retried dead letters of several sinks share a name and have offsets of their own: no offset is the place
            // to go on from, so these few are read in one page.
            let page = if lanes == 1 { left.min(PAGE) } else { left };
            let events = inspector.peek(&stream.name, Some(name), after, page)?;
            let mut lines = Vec::new();
            for peeked in &events {
                write(&mut lines, &stream.name, &peeked.partition, peeked.numbering, peeked.offset, &peeked.event);
            }
            out.write_all(&lines)?;
            left = left.saturating_sub(events.len());
            match events.last() {
                Some(last) if lanes == 1 => after = Some(last.offset),
                _ => break,
            }
        }
    }
    Ok(limit - left)
}

/// Appends the line of one event.
fn write(out: &mut Vec<u8>, stream: &str, partition: &str, numbering: Numbering, offset: Offset, event: &Event) {
    let id =
        PartitionId { stream: stream.to_owned(), renamed_from: None, name: partition.to_owned(), numbering, hub: None };
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
