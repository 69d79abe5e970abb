//! The reference: every table and every key, from their definitions. How they are shown is for the manual page.

use super::{
    agent::{AGENT, OBSERVE},
    buffer::BUFFER,
    control::CONTROL,
    key::{Fallback, Schema},
    sinks, sources,
};

/// A table of the configuration.
#[derive(Debug, Clone)]
pub struct TableReference {
    /// What stands between the brackets of its header, such as `agent` or `sources.NAME.tls`.
    pub path: String,
    /// The `type` of source or sink that has it. Empty if all have.
    pub variant: &'static str,
    /// What it is for.
    pub doc: &'static str,
    /// Its keys. Those of a source or sink of some type are besides the ones that all types have.
    pub keys: Vec<KeyReference>,
}

/// A key of a table.
#[derive(Debug, Clone)]
pub struct KeyReference {
    /// Its name.
    pub name: &'static str,
    /// What it is for.
    pub doc: &'static str,
    /// What its value may be.
    pub expected: String,
    /// What holds where it is not given.
    pub fallback: Fallback,
    /// The environment variable that overrides it.
    pub variable: Option<&'static str>,
}

/// Every table of the top level, in the order of the reference.
fn schemas() -> impl Iterator<Item = &'static Schema> {
    [&AGENT, &BUFFER, &CONTROL, &OBSERVE]
        .into_iter()
        .chain(sources::SCHEMAS.iter().copied())
        .chain(sinks::SCHEMAS.iter().copied())
}

/// Whether any table has a key of this name.
pub(super) fn is_known(name: &str) -> bool {
    fn has(schema: &Schema, name: &str) -> bool {
        schema.names().any(|known| known == name) || schema.tables.iter().any(|inner| has(inner, name))
    }
    schemas().any(|schema| has(schema, name))
}

/// The environment variables that override keys.
pub(super) fn overrides() -> impl Iterator<Item = &'static str> {
    fn of(schema: &'static Schema) -> impl Iterator<Item = &'static str> {
        let within = schema.tables.iter().flat_map(|inner| inner.keys);
        schema.keys.iter().chain(within).filter_map(|key| key.variable())
    }
    schemas().flat_map(of)
}

/// Every table, each followed by those within it.
pub fn reference() -> Vec<TableReference> {
    let mut tables = Vec::new();
    for schema in schemas() {
        add(&mut tables, schema, schema.name.to_owned(), schema.variant);
    }
    tables
}

fn add(tables: &mut Vec<TableReference>, schema: &'static Schema, path: String, variant: &'static str) {
    let keys = schema.keys.iter().map(|key| KeyReference {
        name: key.name(),
        doc: key.doc(),
        expected: key.expected(),
        fallback: key.fallback(),
        variable: key.variable(),
    });
    tables.push(TableReference { path: path.clone(), variant, doc: schema.doc, keys: keys.collect() });
    for inner in schema.tables {
        add(tables, inner, format!("{path}.{}", inner.name), variant);
    }
}
