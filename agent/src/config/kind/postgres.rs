//! What Postgres has of its own: addresses of servers, names of tables and columns, and what fills the columns.

use super::columns;
use crate::{
    client::postgres::{Identifier, TableName, Url},
    config::{document::Node, key::Kind, reading::Reading, report::Reported},
    sink::postgres::Mapping,
};

/// No table has more columns.
const MAX_COLUMNS: usize = 1_600;

/// Where a server is, and how to log in to it.
#[derive(Debug)]
pub(in crate::config) struct ServerUrl;

/// The name of a table.
#[derive(Debug)]
pub(in crate::config) struct Table;

/// Names of columns, each once, at least one.
#[derive(Debug)]
pub(in crate::config) struct ColumnNames;

/// Columns, and what each is filled with, at least one.
#[derive(Debug)]
pub(in crate::config) struct Columns;

impl Kind for ServerUrl {
    type Value = Url;

    fn expected(&self) -> String {
        "\"postgresql://USER@HOST/DATABASE?sslmode=verify-full\"".to_owned()
    }

    fn read(&self, node: &Node, reading: &mut Reading<'_, '_>) -> Result<Url, Reported> {
        let text = reading.text(node)?;
        let url = Url::parse(&text).map_err(|problem| reading.wrong(node, problem))?;
        if url.password.is_some() && !reading.was_substituted() {
            let help = "take the password out, put it into a file of mode 0600, and name that as password_file";
            reading.warn(node, "has a password in it, which copies and backups give away", help);
        }
        Ok(url)
    }
}

impl Kind for Table {
    type Value = TableName;

    fn expected(&self) -> String {
        "\"TABLE\" or \"SCHEMA.TABLE\", in lower case unless in double quotes; the schema is public if not given"
            .to_owned()
    }

    fn read(&self, node: &Node, reading: &mut Reading<'_, '_>) -> Result<TableName, Reported> {
        let text = reading.text(node)?;
        TableName::parse(&text).map_err(|problem| reading.wrong(node, problem))
    }
}

impl Kind for ColumnNames {
    type Value = Vec<Identifier>;

    fn expected(&self) -> String {
        "a list of columns, such as [\"device\", \"time\"], at least one".to_owned()
    }

    fn read(&self, node: &Node, reading: &mut Reading<'_, '_>) -> Result<Vec<Identifier>, Reported> {
        let mut names = Vec::new();
        for item in reading.list(node)? {
            let text = reading.text(item)?;
            let name = Identifier::parse(&text).map_err(|problem| reading.wrong(item, problem))?;
            if names.contains(&name) {
                return Err(reading.wrong(item, "names the same twice"));
            }
            names.push(name);
        }
        if names.is_empty() { Err(reading.wrong(node, "is empty")) } else { Ok(names) }
    }
}

impl Kind for Columns {
    type Value = Mapping;

    fn expected(&self) -> String {
        columns::EXPECTED.to_owned()
    }

    fn read(&self, node: &Node, reading: &mut Reading<'_, '_>) -> Result<Mapping, Reported> {
        columns::read(node, reading, MAX_COLUMNS, |name| Identifier::new(name))
    }
}
