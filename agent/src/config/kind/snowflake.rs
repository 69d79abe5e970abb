//! What Snowflake has of its own: names, and columns with what fills them.

use super::columns;
use crate::{
    client::snowflake::Identifier,
    config::{document::Node, key::Kind, reading::Reading, report::Reported},
    sink::source::Source,
};

/// No table has more columns that are filled by name.
const MAX_COLUMNS: usize = 2_000;

/// The name of a database, a schema, a table, a pipe, a role or a warehouse.
#[derive(Debug)]
pub(in crate::config) struct SnowflakeName;

/// Columns, and what each is filled with, at least one.
#[derive(Debug)]
pub(in crate::config) struct RowColumns;

impl Kind for SnowflakeName {
    type Value = Identifier;

    fn expected(&self) -> String {
        "a name as SQL has it: in upper case, unless it stands in double quotes of its own ('\"Name\"')".to_owned()
    }

    fn read(&self, node: &Node, reading: &mut Reading<'_, '_>) -> Result<Identifier, Reported> {
        let text = reading.text(node)?;
        Identifier::new(&text).map_err(|problem| reading.wrong(node, problem))
    }
}

impl Kind for RowColumns {
    type Value = Vec<(String, Source)>;

    fn expected(&self) -> String {
        columns::EXPECTED.to_owned()
    }

    fn read(&self, node: &Node, reading: &mut Reading<'_, '_>) -> Result<Self::Value, Reported> {
        let columns = columns::read(node, reading, MAX_COLUMNS, |name| match name {
            "" => Err("fills a column without a name".to_owned()),
            name => Ok(name.to_owned()),
        })?;
        let again = |(at, (name, _)): &(usize, &(String, Source))| {
            columns[..*at].iter().any(|(other, _)| other.eq_ignore_ascii_case(name))
        };
        match columns.iter().enumerate().find(again) {
            Some((_, (name, _))) => Err(reading.wrong(node, format!("fills {name:?} twice: case is ignored"))),
            None => Ok(columns),
        }
    }
}
