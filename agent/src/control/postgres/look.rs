//! What `check --connect` finds of the control table and of the claims beside it: whether each is there, is such a table
//! as it must be, and may be used. Each finding comes with the statement that mends it.

use std::{collections::BTreeMap, sync::Arc};

use forebay_buffer::clock::Clock;

use super::{grant_connect, rows};
use crate::{
    client::postgres::{Connection, Error, Identifier, Settings, SimpleQueryRow, TableName, connect, quote_literal},
    contract::{CheckpointKey, Finding, Severity, Shares},
};

/// The types that do for a column of text, the first as it is created.
const TEXTS: &[&str] = &["text", "character varying"];
const TIMES: &[&str] = &["timestamp with time zone", "timestamp without time zone"];

/// What a table must be like.
pub struct Shape {
    /// The columns of its primary key, all of them text.
    key: &'static [&'static str],
    /// The other columns, with the types that do.
    others: &'static [(&'static str, &'static [&'static str])],
}

/// The table of checkpoints.
pub const CHECKPOINTS: Shape = Shape {
    key: &CheckpointKey::COLUMNS,
    others: &[("waterlevel", &["bigint", "numeric"]), ("metadata", &["jsonb"]), ("ts_inserted", TIMES)],
};

/// The table of claims.
pub const CLAIMS: Shape = Shape {
    key: &Shares::COLUMNS,
    others: &[
        ("owner_id", TEXTS),
        ("etag", TEXTS),
        ("last_modified_time", &["double precision"]),
        ("ts_modified", TIMES),
    ],
};

/// What the agent does with the rows.
const PRIVILEGES: [&str; 3] = ["SELECT", "INSERT", "UPDATE"];

/// Looks at `table` as the agent would find it, at its privileges only if `privileges` says so. Every finding is about
/// `subject`.
pub async fn look(
    settings: &Settings,
    table: &TableName,
    shape: &Shape,
    privileges: bool,
    clock: Arc<dyn Clock>,
    subject: &str,
) -> Vec<Finding> {
    let look = Look { table, shape, user: &settings.user, privileges, subject };
    let connection = match connect(settings, clock).await {
        Ok(connection) => connection,
        Err(error) if error.server().is_some_and(|error| error.code == "42501") => {
            return vec![look.error(error.to_string(), &format!("let its owner run: {}", grant_connect(settings)))];
        }
        Err(error) => {
            let remedy = "see that the server is up and lets the agent in: host, port, user and password, and pg_hba.conf \
                          there";
            return vec![look.error(error.to_string(), remedy)];
        }
    };
    look.at(&connection).await.unwrap_or_else(|error| vec![look.error(error.to_string(), "look at the server's log")])
}

struct Look<'a> {
    table: &'a TableName,
    shape: &'a Shape,
    user: &'a str,
    privileges: bool,
    subject: &'a str,
}

impl Look<'_> {
    async fn at(&self, connection: &Connection) -> Result<Vec<Finding>, Error> {
        let literal = |name: &Identifier| quote_literal(name.as_str()).map_err(Error::Confused);
        let (schema, table) = (literal(&self.table.schema)?, literal(&self.table.table)?);
        // By the catalogue, which everyone may read: a name in a schema that may not be used is an error, and no answer.
        let sql = format!(
            "SELECT c.oid, pg_catalog.has_schema_privilege(n.oid, 'USAGE'), {} FROM pg_catalog.pg_namespace n LEFT JOIN \
             pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = {table} AND c.relkind IN ('r', 'p', 'v', 'f') \
             WHERE n.nspname = {schema}",
            PRIVILEGES.map(|one| format!("pg_catalog.has_table_privilege(c.oid, '{one}')")).join(", "),
        );
        let answer = connection.simple(&sql).await?;
        let Some(row) = rows(&answer).next() else {
            let remedy =
                format!("run `forebay setup` as a role that may create it, or CREATE SCHEMA {};", self.table.schema);
            return Ok(vec![self.error(format!("there is no schema {}", self.table.schema), &remedy)]);
        };
        let Some(oid) = row.get(0) else {
            let remedy = "run `forebay setup`, or let a DBA run what `forebay setup --print-sql` prints";
            return Ok(vec![self.error(format!("{} is not there", self.table), remedy)]);
        };
        let mut findings = if self.privileges { self.privileges(row) } else { Vec::new() };
        findings.extend(self.columns(connection, oid).await?);
        findings.extend(self.key(connection, oid).await?);
        if findings.is_empty() {
            let message = format!("{} is there, with the right columns and key", self.table);
            let subject = self.subject.to_owned();
            findings.push(Finding { severity: Severity::Ok, subject, message, remedy: String::new() });
        }
        Ok(findings)
    }

    fn privileges(&self, row: &SimpleQueryRow) -> Vec<Finding> {
        let user = Identifier::new(self.user).map_or_else(|_| self.user.to_owned(), |user| user.to_string());
        let mut findings = Vec::new();
        let mut demand = |at, what: String, grant: String| {
            if row.get(at) != Some("t") {
                let message = format!("{:?} may not {what}", self.user);
                findings.push(self.error(message, &format!("let its owner run: {grant}")));
            }
        };
        let (schema, table) = (&self.table.schema, self.table);
        demand(1, format!("use the schema {schema}"), format!("GRANT USAGE ON SCHEMA {schema} TO {user};"));
        for (at, privilege) in PRIVILEGES.iter().enumerate() {
            let grant = format!("GRANT {privilege} ON TABLE {table} TO {user};");
            demand(at + 2, format!("{privilege} in {table}"), grant);
        }
        findings
    }

    async fn columns(&self, connection: &Connection, oid: &str) -> Result<Vec<Finding>, Error> {
        let sql = format!(
            "SELECT attname, pg_catalog.format_type(atttypid, NULL) FROM pg_catalog.pg_attribute WHERE attrelid = {oid} \
             AND attnum > 0 AND NOT attisdropped"
        );
        let answer = connection.simple(&sql).await?;
        let types: BTreeMap<_, _> = rows(&answer).filter_map(|row| Some((row.get(0)?, row.get(1)?))).collect();
        let wanted = self.shape.key.iter().map(|name| (*name, TEXTS)).chain(self.shape.others.iter().copied());
        let findings = wanted.filter_map(|(name, right)| {
            let table = self.table;
            let first = right[0];
            match types.get(name) {
                Some(found) if right.contains(found) => None,
                Some(found) => Some(self.error(
                    format!("the column {name} of {table} is of type {found}"),
                    &format!("let its owner run: ALTER TABLE {table} ALTER COLUMN {name} TYPE {first};"),
                )),
                None => Some(self.error(
                    format!("{table} has no column {name}"),
                    &format!("let its owner run: ALTER TABLE {table} ADD COLUMN {name} {first};"),
                )),
            }
        });
        Ok(findings.collect())
    }

    /// Without a unique index on just these columns two writers could make two rows of one.
    async fn key(&self, connection: &Connection, oid: &str) -> Result<Option<Finding>, Error> {
        let sql = format!(
            "SELECT string_agg(a.attname, ',') FROM pg_catalog.pg_index i JOIN pg_catalog.pg_attribute a ON a.attrelid = \
             i.indrelid AND a.attnum = ANY (i.indkey) WHERE i.indrelid = {oid} AND i.indisunique AND i.indisvalid AND \
             i.indpred IS NULL AND i.indexprs IS NULL AND i.indnkeyatts = {} GROUP BY i.indexrelid",
            self.shape.key.len(),
        );
        let answer = connection.simple(&sql).await?;
        let is_key = |columns: &str| self.shape.key.iter().all(|name| columns.split(',').any(|column| column == *name));
        if rows(&answer).filter_map(|row| row.get(0)).any(is_key) {
            return Ok(None);
        }
        let (table, columns) = (self.table, self.shape.key.join(", "));
        let remedy = format!("let its owner run: ALTER TABLE {table} ADD PRIMARY KEY ({columns});");
        Ok(Some(self.error(format!("{table} has no primary key of {columns}"), &remedy)))
    }

    fn error(&self, message: String, remedy: &str) -> Finding {
        Finding { severity: Severity::Error, subject: self.subject.to_owned(), message, remedy: remedy.to_owned() }
    }
}
