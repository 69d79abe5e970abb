//! The statements that make what the sink needs, for `setup` and for an administrator.

use super::{Settings, Shape};
use crate::{
    client::snowflake::{Identifier, TableName},
    sink::source::Source,
};

/// The columns of [`Shape::Events`] and their types, as operators of the Python pipeline have them.
pub(super) const EVENT_COLUMNS: [(&str, &str); 7] = [
    ("event_body", "VARIANT"),
    ("partition_id", "VARCHAR"),
    ("sequence_number", "NUMBER(38,0)"),
    ("enqueued_time", "TIMESTAMP_NTZ"),
    ("properties", "VARIANT"),
    ("system_properties", "VARIANT"),
    ("ingestion_timestamp", "TIMESTAMP_NTZ DEFAULT CURRENT_TIMESTAMP()"),
];

/// Creates the table, if it is not there. `None`: what columns the bodies fill only the operator knows.
pub fn create_table(settings: &Settings) -> Option<String> {
    let lines: Vec<_> = columns(&settings.shape)?
        .into_iter()
        .map(|(name, column_type)| format!("  {} {column_type}", identifier(name)))
        .collect();
    Some(format!("CREATE TABLE IF NOT EXISTS {} (\n{}\n)", settings.table, lines.join(",\n")))
}

/// Creates the pipe, if it is not there. `None`: it is the table's own, which the service makes; or what columns the bodies
/// fill only the operator knows.
pub fn create_pipe(settings: &Settings) -> Option<String> {
    let Settings { pipe, table, shape, .. } = settings;
    let TableName { database, schema, .. } = table;
    if settings.is_by_name() {
        return None;
    }
    let columns = columns(shape)?;
    let filled: Vec<_> = columns.iter().map(|(name, _)| identifier(name)).collect();
    let taken: Vec<_> = columns.iter().map(|(name, _)| format!("$1:{}", quoted(name))).collect();
    Some(format!(
        "CREATE PIPE IF NOT EXISTS {database}.{schema}.{pipe} AS\nCOPY INTO {table} ({})\n\
         FROM (SELECT {} FROM TABLE(DATA_SOURCE(TYPE => 'STREAMING')))",
        filled.join(", "),
        taken.join(", "),
    ))
}

fn columns(shape: &Shape) -> Option<Vec<(&str, &'static str)>> {
    match shape {
        Shape::Events => Some(EVENT_COLUMNS.to_vec()),
        Shape::Columns(columns) => {
            Some(columns.iter().map(|(name, source)| (name.as_str(), default_type(source))).collect())
        }
        Shape::Body => None,
    }
}

/// A part of a body may be anything, and VARIANT takes all of it.
fn default_type(source: &Source) -> &'static str {
    match source {
        Source::Stream | Source::Partition | Source::Key | Source::Table | Source::Header(_) => "VARCHAR",
        Source::Offset => "NUMBER(38,0)",
        Source::Time => "TIMESTAMP_NTZ",
        Source::Headers | Source::Body | Source::Path(_) => "VARIANT",
    }
}

/// A column in a statement: in upper case where its name may stand without quotes.
fn identifier(name: &str) -> String {
    Identifier::new(name).map_or_else(|_| quoted(name), |name| name.to_string())
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::{super::tests::settings, *};

    #[test]
    fn the_table_has_the_columns_that_operators_know() {
        let expected = "CREATE TABLE IF NOT EXISTS \"PLANT\".\"PUBLIC\".\"EVENTS\" (\n  \"EVENT_BODY\" VARIANT,\n  \
                        \"PARTITION_ID\" VARCHAR,\n  \"SEQUENCE_NUMBER\" NUMBER(38,0),\n  \
                        \"ENQUEUED_TIME\" TIMESTAMP_NTZ,\n  \"PROPERTIES\" VARIANT,\n  \"SYSTEM_PROPERTIES\" VARIANT,\n  \
                        \"INGESTION_TIMESTAMP\" TIMESTAMP_NTZ DEFAULT CURRENT_TIMESTAMP()\n)";
        assert_eq!(create_table(&settings()).as_deref(), Some(expected));
        assert_eq!(create_pipe(&settings()), None, "the service makes it");
    }

    #[test]
    fn a_pipe_of_another_name_fills_the_columns_that_are_asked_for() {
        let columns = [("device", "$.device.id"), ("a \"b\"", "time")];
        let columns = columns.map(|(name, source)| (name.to_owned(), Source::parse(source).expect("a source")));
        let pipe = Identifier::new("events_pipe").expect("a name");
        let settings = Settings { shape: Shape::Columns(columns.to_vec()), pipe, ..settings() };
        let expected = "CREATE PIPE IF NOT EXISTS \"PLANT\".\"PUBLIC\".\"EVENTS_PIPE\" AS\n\
                        COPY INTO \"PLANT\".\"PUBLIC\".\"EVENTS\" (\"DEVICE\", \"a \"\"b\"\"\")\n\
                        FROM (SELECT $1:\"device\", $1:\"a \"\"b\"\"\" FROM TABLE(DATA_SOURCE(TYPE => 'STREAMING')))";
        assert_eq!(create_pipe(&settings).as_deref(), Some(expected));
        assert!(create_table(&settings).is_some_and(|text| text.contains("\"a \"\"b\"\"\" TIMESTAMP_NTZ")));
    }

    #[test]
    fn what_bodies_fill_is_the_operators_to_say() {
        let settings = Settings { shape: Shape::Body, ..settings() };
        assert_eq!((create_table(&settings), create_pipe(&settings)), (None, None));
    }
}
