//! Columns of a table, and what each is filled with.

use crate::{
    config::{
        document::{Node, Value},
        reading::Reading,
        report::Reported,
    },
    sink::source::Source,
};

/// What would be right, as the end of "expected ...".
pub(super) const EXPECTED: &str = "a table of columns and what fills them, such as { time = \"time\", device = \"$.device.id\", line = \
     \"headers.topic\" }: stream, partition, offset, time, key, headers, headers.NAME, body, table, or a path into a body \
     that is JSON";

/// Reads the columns that `node` lists: at least one, and `max` at most. `name` reads the name of one.
pub(super) fn read<N>(
    node: &Node,
    reading: &mut Reading<'_, '_>,
    max: usize,
    name: impl Fn(&str) -> Result<N, String>,
) -> Result<Vec<(N, Source)>, Reported> {
    let Value::Table(table) = &node.value else {
        return Err(reading.wrong(node, format!("is {}", node.value.kind())));
    };
    if table.0.is_empty() || table.0.len() > max {
        return Err(reading.wrong(node, format!("has {} columns", table.0.len())));
    }
    let mut columns = Vec::with_capacity(table.0.len());
    for (column, entry) in &table.0 {
        let text = reading.text(&entry.node)?;
        let source = Source::parse(&text).map_err(|problem| reading.wrong(&entry.node, problem))?;
        // The TOML key is the column's very name: quotes there are TOML's, and mean nothing to the server.
        let column = name(column).map_err(|problem| reading.wrong(&entry.node, problem))?;
        columns.push((column, source));
    }
    Ok(columns)
}
