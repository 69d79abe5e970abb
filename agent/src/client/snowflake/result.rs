//! What a statement gives.

use serde_json::Value;

use super::{Error, StatementError, exchange::Answer, status::count};

/// Columns and rows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ResultSet {
    /// The names of the columns.
    pub columns: Vec<String>,
    /// The values, as the service writes them: `true`, `12`, `1620151584.123456789`. `None` is NULL.
    pub rows: Vec<Vec<Option<String>>>,
    /// What the statement changed, if it changes anything and the service says so.
    pub stats: Option<Stats>,
}

impl ResultSet {
    /// What is in the column called `name`, row by row. Nothing where there is no such column.
    pub fn values_of<'r>(&'r self, name: &str) -> impl Iterator<Item = &'r str> {
        let column = self.columns.iter().position(|column| column.eq_ignore_ascii_case(name));
        let value = move |row: &'r Vec<Option<String>>| Some(row.get(column?)?.as_deref().unwrap_or_default());
        self.rows.iter().filter_map(value)
    }

    /// How many rows the statement inserted, updated and deleted. Where that is missing, the one row of such a statement's
    /// result has these numbers too.
    pub fn affected(&self) -> u64 {
        let counted = |stats: Stats| stats.inserted + stats.updated + stats.deleted;
        let told = || self.rows.iter().flatten().flatten().filter_map(|count| count.parse::<u64>().ok()).sum();
        self.stats.map_or_else(told, counted)
    }
}

/// How many rows a statement changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Inserted.
    pub inserted: u64,
    /// Updated.
    pub updated: u64,
    /// Deleted.
    pub deleted: u64,
}

/// A result of which some parts may be elsewhere.
pub(super) struct Begun {
    pub(super) result: ResultSet,
    /// Of all parts.
    pub(super) parts: usize,
    /// What the service calls the statement.
    pub(super) handle: String,
}

impl Begun {
    pub(super) fn read(mut body: Value) -> Option<Self> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let [inserted, updated, deleted] =
            ["numRowsInserted", "numRowsUpdated", "numRowsDeleted"].map(|name| count(&body["stats"][name]));
        let (inserted, updated, deleted) = (inserted?, updated?, deleted?);
        // Where it says none of them, it says nothing.
        let stats = inserted.or(updated).or(deleted).map(|_| Stats {
            inserted: inserted.unwrap_or_default(),
            updated: updated.unwrap_or_default(),
            deleted: deleted.unwrap_or_default(),
        });
        let data = &body["resultSetMetaData"];
        let columns = list(&data["rowType"]).iter().map(|column| text(&column["name"])).collect::<Option<_>>()?;
        let parts = data["partitionInfo"].as_array().map_or(1, Vec::len);
        let handle = text(&body["statementHandle"]).unwrap_or_default();
        let rows = rows(body["data"].take())?;
        Some(Self { result: ResultSet { columns, rows, stats }, parts, handle })
    }
}

/// The rows of one part.
pub(super) fn rows(data: Value) -> Option<Vec<Vec<Option<String>>>> {
    let value = |value: Value| match value {
        Value::Null => None,
        Value::String(text) => Some(text),
        other => Some(other.to_string()),
    };
    let row = |row: Value| match row {
        Value::Array(values) => Some(values.into_iter().map(value).collect()),
        _ => None,
    };
    match data {
        Value::Array(rows) => rows.into_iter().map(row).collect(),
        Value::Null => Some(Vec::new()),
        _ => None,
    }
}

impl StatementError {
    pub(super) fn read(answer: &Answer) -> Self {
        let body = answer.json().unwrap_or_default();
        let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
        let (code, message) = answer.said();
        let position = position(&message);
        Self { code, message, state: text("sqlState"), position, handle: text("statementHandle") }
    }

    /// Of a statement that is not the whole text.
    pub(super) fn into_error(self) -> Error {
        Error::Statement(Box::new(self))
    }
}

/// `... error line 1 at position 7 ...`.
fn position(message: &str) -> Option<(u32, u32)> {
    let rest = message.split_once("line ")?.1;
    let (line, rest) = rest.split_once(" at position ")?;
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    Some((line.parse().ok()?, rest[..end].parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_statement_changed_is_in_its_row_where_it_is_nowhere_else() {
        let body = serde_json::json!({
            "resultSetMetaData": { "rowType": [{ "name": "number of rows inserted" }, { "name": "number of rows updated" }] },
            "data": [["2", "1"]],
        });
        let result = Begun::read(body).unwrap().result;
        assert_eq!((result.stats, result.affected()), (None, 3));
    }

    #[test]
    fn counts_are_read_however_they_are_written_and_one_that_cannot_be_is_not_taken_for_none() {
        let begun = |stats: Value| {
            let row = serde_json::json!({ "rowType": [{ "name": "number of rows updated" }] });
            Begun::read(serde_json::json!({ "resultSetMetaData": row, "data": [["1"]], "stats": stats }))
        };
        let updated = |count: Value| serde_json::json!({ "numRowsUpdated": count });
        for stats in [updated("1".into()), updated(1.0.into()), updated(1.into()), serde_json::json!({}), Value::Null] {
            assert_eq!(begun(stats.clone()).map(|begun| begun.result.affected()), Some(1), "{stats}");
        }
        assert_eq!(begun(updated(0.into())).map(|begun| begun.result.affected()), Some(0));
        for stats in [updated("many".into()), updated(1.5.into()), updated((-1).into())] {
            assert!(begun(stats.clone()).is_none(), "{stats}");
        }
    }

    #[test]
    fn the_position_is_read_from_the_message() {
        let message = "SQL compilation error: error line 2 at position 17 invalid identifier 'FOO'";
        assert_eq!(position(message), Some((2, 17)));
        assert_eq!(position("syntax error line 1 at position 0"), Some((1, 0)));
        for other in ["Primary key already exists", "line up at position 3", "line 1 at position x"] {
            assert_eq!(position(other), None, "{other}");
        }
    }
}
