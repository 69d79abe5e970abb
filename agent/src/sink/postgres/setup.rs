//! The statements that make what the sink needs, for `setup` and for a DBA.

use super::{Settings, source::default_type};
use crate::{
    client::postgres::{Identifier, TableName},
    sink::source::Source,
};

/// What the checkpoints' rows need: DELETE is for the row of a stream that was renamed.
pub const CHECKPOINT_PRIVILEGES: [&str; 4] = ["SELECT", "INSERT", "UPDATE", "DELETE"];

/// What the target needs.
pub fn table_privileges(settings: &Settings) -> &'static [&'static str] {
    if settings.key.is_empty() { &["INSERT"] } else { &["SELECT", "INSERT", "UPDATE"] }
}

/// Lets `role` use a table's schema.
pub(super) fn grant_schema(table: &TableName, role: &Identifier) -> String {
    format!("GRANT USAGE ON SCHEMA {} TO {role}", table.schema)
}

/// Lets `role` create the table in which rows of an upsert wait.
pub fn grant_temporary(settings: &Settings, role: &Identifier) -> Option<String> {
    let database = Identifier::new(settings.connection.database.clone()).ok()?;
    (!settings.key.is_empty()).then(|| format!("GRANT TEMPORARY ON DATABASE {database} TO {role}"))
}

/// Names as a list.
pub(super) fn list(names: &[Identifier]) -> String {
    names.iter().map(Identifier::to_string).collect::<Vec<_>>().join(", ")
}

/// Creates the target, if it is not there.
pub fn create_table(settings: &Settings) -> String {
    let column = |(name, source): &(Identifier, Source)| {
        // jsonb can be a key, and its NULL cannot.
        let not_null =
            if settings.key.contains(name) && !default_type(source).ends_with("NULL") { " NOT NULL" } else { "" };
        format!("  {name} {}{not_null}", default_type(source))
    };
    let mut lines: Vec<_> = settings.mapping.iter().map(column).collect();
    if !settings.key.is_empty() {
        lines.push(format!("  PRIMARY KEY ({})", list(&settings.key)));
    }
    format!("CREATE TABLE IF NOT EXISTS {} (\n{}\n)", settings.table, lines.join(",\n"))
}
