//! Events as the rows of a binary COPY (PostgreSQL documentation, section "COPY", "Binary Format").

use std::ops::Range;

use bytes::Bytes;
use forebay_buffer::Offset;

use super::{
    cell::{self, Misfit, Written},
    target::Column,
};
use crate::{
    contract::{Batch, PartitionId, Refusal},
    sink::{
        source::Source,
        value::{Row, Value},
    },
};

/// The signature, no flags, and no extension.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// What stands where the next row's number of fields would.
const TRAILER: [u8; 2] = (-1_i16).to_be_bytes();
const NULL: [u8; 4] = (-1_i32).to_be_bytes();
/// So much of a value is quoted where it is refused.
const MAX_QUOTED: usize = 60;

/// What rows are made of.
#[derive(Debug, PartialEq)]
pub(super) struct Encoder {
    /// The columns, in the order of the COPY.
    pub(super) columns: Vec<Column>,
    /// Whether each row begins with its number among them.
    pub(super) is_numbered: bool,
}

/// The rows of a batch.
#[derive(Debug)]
pub(super) struct Rows {
    /// Header, rows and trailer.
    bytes: Bytes,
    /// Whose row it is, and where it ends.
    ends: Vec<(Offset, usize)>,
    /// Events that are no rows.
    pub(super) refusals: Vec<Refusal>,
}

impl Encoder {
    /// The rows of all that is wanted of `batch`.
    pub(super) fn encode(&self, partition: &PartitionId, batch: &Batch) -> Rows {
        let looks_at_body = self.columns.iter().any(|column| matches!(column.source, Source::Body | Source::Path(_)));
        let wanted = batch.events.len() - batch.skipped.len().min(batch.events.len());
        let size: usize = batch.wanted().map(|(_, event)| event.size_bytes()).sum();
        let mut out = Vec::with_capacity(size + wanted * (8 * self.columns.len() + 64) + 64);
        let mut rows = Rows { bytes: Bytes::new(), ends: Vec::with_capacity(wanted), refusals: Vec::new() };
        out.extend_from_slice(HEADER);
        for (offset, event) in batch.wanted() {
            let start = out.len();
            let row = Row::new(partition, *offset, event, looks_at_body);
            match self.row(&mut out, rows.ends.len(), &row) {
                Ok(()) => rows.ends.push((*offset, out.len())),
                Err((code, reason)) => {
                    out.truncate(start);
                    rows.refusals.push(Refusal { offset: *offset, code: code.to_owned(), reason });
                }
            }
        }
        out.extend_from_slice(&TRAILER);
        rows.bytes = out.into();
        rows
    }

    fn row(&self, out: &mut Vec<u8>, number: usize, row: &Row<'_>) -> Result<(), (&'static str, String)> {
        let fields = self.columns.len() + usize::from(self.is_numbered);
        out.extend_from_slice(&u16::try_from(fields).expect("a table has at most 1600 columns").to_be_bytes());
        if self.is_numbered {
            out.extend_from_slice(&4_i32.to_be_bytes());
            out.extend_from_slice(&i32::try_from(number).expect("a batch has fewer rows").to_be_bytes());
        }
        for column in &self.columns {
            let length_at = out.len();
            out.extend_from_slice(&NULL);
            let value = row.value(&column.source);
            match cell::write(out, column.kind, value).map_err(|misfit| refused(column, value, &misfit))? {
                Written::Value => {
                    let length = out.len() - length_at - NULL.len();
                    // The buffer takes no event of this size, so this is an event's fault only in theory.
                    let length = i32::try_from(length).map_err(|_| ("54000", "is larger than 2 GiB".to_owned()))?;
                    out[length_at..length_at + NULL.len()].copy_from_slice(&length.to_be_bytes());
                }
                Written::Null if column.is_key => {
                    let reason = format!(
                        "column {} is a key, and {} gives nothing for it: no row can be told from others by it",
                        column.name, column.source
                    );
                    return Err(("23502", reason));
                }
                Written::Null => (),
            }
        }
        Ok(())
    }
}

fn refused(column: &Column, value: Value<'_>, misfit: &Misfit) -> (&'static str, String) {
    let mut shown = Vec::new();
    value.write_json(&mut shown);
    let shown = String::from_utf8_lossy(&shown);
    let quoted: String = shown.chars().take(MAX_QUOTED).collect();
    let cut = if quoted.len() < shown.len() { "…" } else { "" };
    let Column { name, shown_type, source, .. } = column;
    (misfit.code, format!("column {name} ({shown_type}) cannot take {source}: {quoted}{cut} {}", misfit.problem))
}

impl Rows {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whose row `at` is.
    pub(super) fn offset(&self, at: usize) -> Offset {
        self.ends[at].0
    }

    /// Bytes of all of it.
    pub(super) fn size_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// What is sent for some of the rows: one piece for all of them, else header, rows and trailer.
    pub(super) fn pieces(&self, range: Range<usize>) -> Vec<Bytes> {
        if range == (0..self.len()) {
            return vec![self.bytes.clone()];
        }
        let end_of = |row: usize| row.checked_sub(1).map_or(HEADER.len(), |before| self.ends[before].1);
        let rows = self.bytes.slice(end_of(range.start)..end_of(range.end));
        vec![Bytes::from_static(HEADER), rows, self.bytes.slice(self.bytes.len() - TRAILER.len()..)]
    }
}

#[cfg(test)]
mod tests {
    use forebay_buffer::{Checkpoint, Event, Generation, Numbering, Tag, Timestamp};

    use super::*;
    use crate::{client::postgres::Identifier, sink::postgres::types::ColumnType};

    fn column(name: &str, kind: ColumnType, source: &str, is_key: bool) -> Column {
        Column {
            name: Identifier::new(name).expect("a name"),
            kind,
            shown_type: "a type".to_owned(),
            collation: None,
            source: Source::parse(source).expect("a source"),
            is_key,
        }
    }

    fn batch(bodies: &[&str], skipped: &[i64]) -> Batch {
        let events: Vec<_> =
            (1..).zip(bodies).map(|(at, body)| (Offset(at), Event::new(Timestamp(0), body.to_string()))).collect();
        let through = Checkpoint { generation: Generation(1), tag: Tag(1), offset: Offset(events.len() as i64) };
        Batch { events, skipped: skipped.iter().map(|at| Offset(*at)).collect(), expected: None, through, tags: vec![] }
    }

    fn partition() -> PartitionId {
        PartitionId {
            stream: "s".into(),
            renamed_from: None,
            name: "0".into(),
            numbering: Numbering::Assigned,
            hub: None,
        }
    }

    #[test]
    fn rows_are_written_as_the_documentation_says() {
        let columns = vec![column("o", ColumnType::Int8, "offset", false), column("b", ColumnType::Text, "$.b", false)];
        let encoder = Encoder { columns, is_numbered: true };
        let rows = encoder.encode(&partition(), &batch(&[r#"{"b":"x"}"#, "{}"], &[1]));
        let row = [&[0, 3][..], &[0, 0, 0, 4, 0, 0, 0, 0], &[0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 2], &NULL].concat();
        assert_eq!(rows.pieces(0..1).concat(), [HEADER, &row, &TRAILER].concat());
        assert_eq!((rows.len(), rows.offset(0), rows.refusals.len()), (1, Offset(2), 0));
    }

    #[test]
    fn some_of_the_rows_are_a_copy_of_their_own() {
        let encoder = Encoder { columns: vec![column("b", ColumnType::Text, "body", false)], is_numbered: false };
        let of = |bodies: &[&str]| encoder.encode(&partition(), &batch(bodies, &[]));
        let all = of(&["a", "bb", "ccc"]);
        assert_eq!(all.pieces(1..3).concat(), of(&["bb", "ccc"]).pieces(0..2).concat());
        assert_eq!(all.pieces(0..1).concat(), of(&["a"]).pieces(0..1).concat());
        assert_eq!(all.pieces(1..1).concat(), of(&[]).pieces(0..0).concat());
    }

    #[test]
    fn a_value_that_does_not_fit_refuses_its_event_and_no_other() {
        let encoder = Encoder { columns: vec![column("n", ColumnType::Int4, "$.n", true)], is_numbered: false };
        let rows = encoder.encode(&partition(), &batch(&[r#"{"n":1}"#, r#"{"n":"x"}"#, "{}", r#"{"n":4}"#], &[]));
        assert_eq!((rows.len(), rows.offset(0), rows.offset(1)), (2, Offset(1), Offset(4)));
        let refused: Vec<_> = rows.refusals.iter().map(|r| (r.offset.0, r.code.as_str())).collect();
        assert_eq!(refused, [(2, "22P02"), (3, "23502")]);
        assert_eq!(rows.refusals[0].reason, "column \"n\" (a type) cannot take $.n: \"x\" is no value of that type");
    }
}
