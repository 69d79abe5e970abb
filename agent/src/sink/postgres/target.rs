//! The table that events go into, as the server's catalogue has it.

use std::collections::BTreeSet;

use super::{
    encode::Encoder,
    source::{Mapping, default_type, fits},
    types::{CatalogueType, ColumnType},
};
use crate::{
    client::postgres::{Identifier, SimpleQueryMessage, SimpleQueryRow, TableName, quote_literal},
    sink::source::Source,
};

/// A column that is filled.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Column {
    pub(super) name: Identifier,
    pub(super) kind: ColumnType,
    /// The type as the server writes it, for statements and messages.
    pub(super) shown_type: String,
    /// How texts are compared in it, as the server writes it: what is equal to a key depends on it.
    pub(super) collation: Option<String>,
    pub(super) source: Source,
    /// Whether it is part of the key of an upsert.
    pub(super) is_key: bool,
}

/// The table as it was when it was looked at.
#[derive(Debug, PartialEq)]
pub(super) struct Target {
    pub(super) name: TableName,
    pub(super) encoder: Encoder,
    /// Changes with the names and types of the columns.
    pub(super) fingerprint: String,
    /// Whether one of the filled columns is an identity that the server would otherwise insist to fill.
    pub(super) overrides_identity: bool,
    /// Whether there is a unique index on exactly the key.
    pub(super) has_unique_key: bool,
}

/// What is asked for.
pub(super) struct Wanted<'a> {
    pub(super) table: &'a TableName,
    pub(super) mapping: &'a Mapping,
    /// Empty: rows are appended.
    pub(super) key: &'a [Identifier],
}

/// What [`Target::read`] needs: two statements, the columns and the key.
pub(super) fn query(wanted: &Wanted<'_>) -> String {
    let table = wanted.table.literal();
    let mut key: Vec<_> = wanted.key.iter().map(Identifier::as_str).collect();
    key.sort_unstable();
    let key = quote_literal(&key.join("\u{1}")).expect("no name has a NUL");
    // Below a domain lies another type, or another domain. An index that tells texts apart which the column holds equal
    // would let a second row with the same key in.
    format!(
        "WITH RECURSIVE base(attnum, oid, typtype, typbasetype, typname) AS (\
           SELECT a.attnum, t.oid, t.typtype, t.typbasetype, t.typname FROM pg_catalog.pg_attribute a \
             JOIN pg_catalog.pg_type t ON t.oid = a.atttypid \
             WHERE a.attrelid = {table}::pg_catalog.regclass AND a.attnum > 0 AND NOT a.attisdropped \
           UNION ALL SELECT base.attnum, t.oid, t.typtype, t.typbasetype, t.typname FROM base \
             JOIN pg_catalog.pg_type t ON t.oid = base.typbasetype WHERE base.typtype = 'd') \
         SELECT a.attname, a.attgenerated, a.attidentity, base.oid, base.typtype, base.typname, \
           pg_catalog.format_type(a.atttypid, a.atttypmod) AS shown, \
           pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.collname) AS collation, \
           (a.attnotnull AND NOT a.atthasdef AND a.attidentity = '') AS required, ({FINGERPRINT}) AS fingerprint \
         FROM pg_catalog.pg_attribute a JOIN base ON base.attnum = a.attnum AND base.typtype <> 'd' \
         LEFT JOIN pg_catalog.pg_collation c ON c.oid = a.attcollation \
         LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.collnamespace \
         WHERE a.attrelid = {table}::pg_catalog.regclass ORDER BY a.attnum;\
         SELECT 1 FROM pg_catalog.pg_index i WHERE i.indrelid = {table}::pg_catalog.regclass AND i.indisunique \
           AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL AND (\
             SELECT pg_catalog.string_agg(a.attname::text, E'\\x01' ORDER BY a.attname::text COLLATE \"C\") \
             FROM pg_catalog.pg_attribute a WHERE a.attrelid = i.indrelid \
               AND a.attnum = ANY ((i.indkey::pg_catalog.int2[])[0:i.indnkeyatts - 1])) = {key} \
           AND NOT EXISTS (SELECT 1 FROM pg_catalog.generate_series(0, i.indnkeyatts - 1) AS k(nth) \
             JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[k.nth] \
             JOIN pg_catalog.pg_collation c ON c.oid = a.attcollation AND NOT c.collisdeterministic \
             WHERE a.attcollation <> i.indcollation[k.nth]) LIMIT 1",
        FINGERPRINT = fingerprint(wanted.table),
    )
}

/// The statement whose answer changes with the table's columns. It is asked under a lock that keeps it true.
pub(super) fn fingerprint(table: &TableName) -> String {
    format!(
        "SELECT pg_catalog.hashtextextended(pg_catalog.string_agg(pg_catalog.concat_ws(' ', f.attrelid::text, \
         f.attnum::text, f.atttypid::text, f.atttypmod::text, f.attnotnull::text, f.attgenerated::text, \
         f.attidentity::text, f.attname::text), ',' ORDER BY f.attnum), 0) FROM pg_catalog.pg_attribute f \
         WHERE f.attrelid = {}::pg_catalog.regclass AND f.attnum > 0 AND NOT f.attisdropped",
        table.literal()
    )
}

/// The fingerprint in an answer that has no other rows.
pub(super) fn read_fingerprint(answer: &[SimpleQueryMessage]) -> Option<&str> {
    rows(answer).next()?.get(0)
}

fn rows(answer: &[SimpleQueryMessage]) -> impl Iterator<Item = &SimpleQueryRow> {
    answer.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    })
}

impl Target {
    /// What the answer to [`query`] says, if the events can go there. The error says what does not fit, and what to do.
    pub(super) fn read(wanted: &Wanted<'_>, answer: &[SimpleQueryMessage]) -> Result<Self, String> {
        let found: Vec<_> = rows(answer).filter(|row| row.columns().len() > 1).collect();
        let table = wanted.table;
        let Some(first) = found.first() else { return Err(format!("table {table} has no columns")) };
        let named = |name: &Identifier| found.iter().find(|row| row.get("attname") == Some(name.as_str()));
        let mut columns = Vec::with_capacity(wanted.mapping.len());
        let mut overrides_identity = false;
        for (name, source) in wanted.mapping {
            let row = named(name).ok_or_else(|| missing(table, name, source, &found))?;
            let (is_identity, is_key) = (row.get("attidentity") == Some("a"), wanted.key.contains(name));
            if is_identity && !is_key && !wanted.key.is_empty() {
                return Err(format!(
                    "column {name} of {table} is GENERATED ALWAYS AS IDENTITY, so that no row that is there can be given \
                     another: leave it out of columns, or run ALTER TABLE {table} ALTER {name} SET GENERATED BY DEFAULT"
                ));
            }
            overrides_identity |= is_identity;
            columns.push(column(table, name, source, row, is_key)?);
        }
        if let Some(key) = wanted.key.iter().find(|key| !columns.iter().any(|column| column.name == **key)) {
            return Err(format!("key_columns names {key}, and columns fills no such column of {table}: add it there"));
        }
        let filled: BTreeSet<_> = columns.iter().map(|column| column.name.as_str()).collect();
        let required = |row: &&&SimpleQueryRow| row.get("required") == Some("t") && row.get("attgenerated") == Some("");
        let unfilled = found.iter().filter(required).filter_map(|row| row.get("attname"));
        if let Some(name) = unfilled.into_iter().find(|name| !filled.contains(name)) {
            return Err(format!(
                "column \"{name}\" of {table} must not be NULL and has no default, and nothing fills it: add it to \
                 columns, or run ALTER TABLE {table} ALTER \"{name}\" DROP NOT NULL"
            ));
        }
        let fingerprint = first.get("fingerprint").unwrap_or_default().to_owned();
        let has_unique_key = rows(answer).any(|row| row.columns().len() == 1);
        let encoder = Encoder { columns, is_numbered: !wanted.key.is_empty() };
        Ok(Self { name: table.clone(), encoder, fingerprint, overrides_identity, has_unique_key })
    }

    /// The names of the filled columns, as a list.
    pub(super) fn column_list(&self) -> String {
        let names: Vec<_> = self.encoder.columns.iter().map(|column| column.name.to_string()).collect();
        names.join(", ")
    }
}

fn column(
    table: &TableName,
    name: &Identifier,
    source: &Source,
    row: &SimpleQueryRow,
    is_key: bool,
) -> Result<Column, String> {
    let text = |column| row.get(column).unwrap_or_default();
    let shown_type = text("shown").to_owned();
    if !text("attgenerated").is_empty() {
        return Err(format!("column {name} of {table} is generated by the server: leave it out of columns"));
    }
    let found =
        CatalogueType { oid: text("oid").parse().unwrap_or_default(), kind: text("typtype"), name: text("typname") };
    let Some(kind) = ColumnType::of(found) else {
        return Err(format!(
            "column {name} of {table} is of type {shown_type}, which this program cannot write: make it text or jsonb, \
             or leave it out of columns and fill it by a trigger"
        ));
    };
    if !fits(source, kind) {
        let better = default_type(source).trim_end_matches(" NOT NULL");
        return Err(format!(
            "column {name} of {table} is of type {shown_type}, which cannot take {source}: make it {better}, or fill it \
             with something else"
        ));
    }
    if is_key && !kind.can_be_key() {
        return Err(format!("column {name} of {table} is of type {shown_type}, which cannot be a key: make it jsonb"));
    }
    let collation = row.get("collation").map(str::to_owned);
    Ok(Column { name: name.clone(), kind, shown_type, collation, source: source.clone(), is_key })
}

fn missing(table: &TableName, name: &Identifier, source: &Source, found: &[&SimpleQueryRow]) -> String {
    let names = found.iter().filter_map(|row| row.get("attname"));
    let near = names.min_by_key(|known| strsim::osa_distance(known, name.as_str())).unwrap_or_default();
    let kind = default_type(source).trim_end_matches(" NOT NULL");
    format!(
        "table {table} has no column {name} for {source}; the nearest is \"{near}\". Run ALTER TABLE {table} ADD {name} \
         {kind}, or change columns"
    )
}
