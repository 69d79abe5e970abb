//! Makes what is not there.

use std::sync::Arc;

use super::tables::{Place, Table};
use crate::{
    client::postgres::{Class, Connection, Error, SimpleQueryMessage, connect, quote_literal},
    command::{
        failure::{Failure, Outcome},
        output,
        setting::Setting,
    },
};

/// Many gateways may be set up at the same time, and `IF NOT EXISTS` is not safe against itself. The number is ours
/// alone: "forebay" in ASCII.
const TAKE_TURNS: &str = "SELECT pg_catalog.pg_advisory_xact_lock(28826340021559673)";

/// Creates the tables of one place that are not there, and says which were.
pub(super) async fn create(setting: &Setting, place: &Place) -> Outcome {
    let connection = connect(&place.connection, Arc::clone(&setting.clock)).await;
    let connection = connection.map_err(|error| failure(place, "", &error))?;
    for table in &place.tables {
        let (name, what) = (&table.name, table.uses.join("; "));
        let outcome = ensure(&connection, table).await;
        let done = outcome.map_err(|error| failure(place, &format!("creating {name} ({what}) in "), &error))?;
        output::print(&format!("{} in {} ({what}): {done}\n", table.name, place.connection.place()))?;
    }
    Ok(())
}

/// Sees to it that the table is there. What was done.
async fn ensure(connection: &Connection, table: &Table) -> Result<&'static str, Error> {
    let schema = quote_literal(table.name.schema.as_str()).map_err(Error::Confused)?;
    let name = quote_literal(table.name.table.as_str()).map_err(Error::Confused)?;
    let sql = format!(
        "SELECT c.oid FROM pg_catalog.pg_namespace n LEFT JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND \
         c.relname = {name} WHERE n.nspname = {schema}"
    );
    let answer = connection.simple(&sql).await?;
    let row = answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let mut statements = vec![TAKE_TURNS.to_owned()];
    match row {
        Some(row) if row.get(0).is_some() => return Ok("was there already"),
        Some(_) => {}
        // Only where it is missing: a role that may not create schemas may not say IF NOT EXISTS either.
        None => statements.push(format!("CREATE SCHEMA IF NOT EXISTS {}", table.name.schema)),
    }
    statements.push(table.create.clone());
    connection.simple(&statements.join("; ")).await?;
    Ok("created")
}

fn failure(place: &Place, doing: &str, error: &Error) -> Failure {
    let remedy = match error.server().map(|server| server.code.as_str()) {
        Some("42501") => {
            "; give what `forebay setup --print-sql` prints to someone who may, or run this with that one's user and \
             password in the config"
        }
        Some("3D000") => "; create the database first",
        _ => "",
    };
    // The words about a connection name the place themselves.
    let place = if doing.is_empty() { String::new() } else { format!("{doing}{}: ", place.connection.place()) };
    let message = format!("{place}{error}{remedy}");
    match error.class() {
        Class::Retry | Class::Reconnect => Failure::temporary(message),
        Class::Login | Class::Stop | Class::Refusal => Failure::failed(message),
    }
}
