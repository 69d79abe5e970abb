//! What `check --connect` asks the server: whether it lets us in, and whether all that delivery needs is there.

use std::sync::Arc;

use super::{
    Settings, Shared,
    setup::{CHECKPOINT_PRIVILEGES, grant_schema, grant_temporary, table_privileges},
};
use crate::{
    client::postgres::{
        self as client, Connection, Encryption, Identifier, SimpleQueryMessage, TableName, quote_literal,
    },
    contract::{Finding, Severity},
    control::postgres::grant_connect,
};

/// Looks at everything, and stops only where nothing further can be seen.
pub(super) async fn check(shared: &Arc<Shared>) -> Vec<Finding> {
    let place = shared.settings.connection.place();
    let connection = match shared.server.connect().await {
        Ok(connection) => connection,
        Err(error) if error.server().is_some_and(|error| error.code == "42501") => {
            let remedy = grant_connect(&shared.settings.connection);
            return vec![finding(Severity::Error, &place, error.to_string(), &remedy)];
        }
        Err(error) => {
            let remedy = "look at url, password and sslmode, and at the server's pg_hba.conf";
            return vec![finding(Severity::Error, &place, error.to_string(), remedy)];
        }
    };
    let mut findings = vec![encryption(shared, &connection, &place)];
    let role = match user(&connection).await {
        Ok(role) => role,
        Err(error) => {
            findings.push(finding(Severity::Error, &place, error, "look at the server's log"));
            return findings;
        }
    };
    if let Some(finding) = standby(&connection, &place).await {
        findings.push(finding);
    }
    let looking = Looking { shared, connection: &connection, role };
    looking.tables(&mut findings).await;
    findings
}

fn encryption(shared: &Shared, connection: &Connection, place: &str) -> Finding {
    let version = connection.server_version();
    let of = format!("version {}.{}", version / 10_000, version % 10_000);
    let settings = &shared.settings.connection;
    match (connection.encryption(), settings.sslmode) {
        (Encryption::Local, _) => ok(place, &format!("connected through its Unix socket, {of}")),
        (Encryption::Tls, client::SslMode::VerifyFull) => {
            ok(place, &format!("connected over TLS, server verified, {of}"))
        }
        (Encryption::Tls, mode) => {
            let message = format!("connected over TLS, but with sslmode={mode} another server could pass for it, {of}");
            finding(Severity::Warning, place, message, "set sslmode = \"verify-full\"")
        }
        (Encryption::None, _) => {
            let message = format!("connected without encryption, {of}");
            finding(Severity::Warning, place, message, "set sslmode = \"verify-full\" if the server has TLS")
        }
    }
}

async fn user(connection: &Connection) -> Result<Identifier, String> {
    let answer = connection.simple("SELECT current_user").await.map_err(|error| error.to_string())?;
    let name = first(&answer).and_then(|name| Identifier::new(name).ok());
    name.ok_or_else(|| "the server does not say who we are".to_owned())
}

/// A standby lets everyone in and read, and takes nothing.
async fn standby(connection: &Connection, place: &str) -> Option<Finding> {
    let answer = connection.simple("SELECT pg_catalog.pg_is_in_recovery()").await.ok()?;
    let message = "is a standby, which takes no rows, and may be behind: delivery waits for the primary".to_owned();
    let remedy = "name the primary in url, or promote this server";
    (first(&answer) == Some("t")).then(|| finding(Severity::Error, place, message, remedy))
}

fn first(answer: &[SimpleQueryMessage]) -> Option<&str> {
    answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    })
}

struct Looking<'a> {
    shared: &'a Shared,
    connection: &'a Connection,
    role: Identifier,
}

impl Looking<'_> {
    async fn tables(&self, findings: &mut Vec<Finding>) {
        let settings = &self.shared.settings;
        if self.table(&settings.table, table_privileges(settings), findings).await {
            findings.push(match self.shared.open(self.connection).await {
                Ok(opened) => match opened.meeting {
                    Some(super::Meeting::Merge) => finding(
                        Severity::Warning,
                        &settings.table.to_string(),
                        "has no unique index on exactly the key: rows are merged, one batch at a time".to_owned(),
                        &format!("CREATE UNIQUE INDEX ON {} ({})", settings.table, super::setup::list(&settings.key)),
                    ),
                    _ => ok(&settings.table.to_string(), "columns fit"),
                },
                Err(error) => finding(Severity::Error, &settings.table.to_string(), error.to_string(), ""),
            });
            self.sequences(findings).await;
            self.takes_rows(findings).await;
        }
        let checkpoints = &self.shared.checkpoints.name;
        if self.table(checkpoints, &CHECKPOINT_PRIVILEGES, findings).await {
            self.row_security(checkpoints, Severity::Warning, findings).await;
        }
        if let Some(grant) = grant_temporary(settings, &self.role) {
            let has = "pg_catalog.has_database_privilege(pg_catalog.current_database(), 'TEMPORARY')";
            let subject = format!("database {}", settings.connection.database);
            self.privilege(has, &subject, "TEMPORARY", &grant, findings).await;
        }
    }

    /// The sequences that number rows in columns which nothing fills. An identity column's needs no privilege.
    async fn sequences(&self, findings: &mut Vec<Finding>) {
        let Settings { table, mapping, .. } = &self.shared.settings;
        let filled = mapping.iter().map(|(name, _)| quote_literal(name.as_str()).expect("no name has a NUL"));
        // The privilege of what is no sequence is an error, and the server may look in any order.
        let sql = format!(
            "SELECT DISTINCT pg_catalog.format('%I.%I', n.nspname, s.relname) FROM pg_catalog.pg_attrdef d \
             JOIN pg_catalog.pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum \
             JOIN pg_catalog.pg_depend p ON p.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass AND p.objid = d.oid \
               AND p.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass \
             JOIN pg_catalog.pg_class s ON s.oid = p.refobjid \
             JOIN pg_catalog.pg_namespace n ON n.oid = s.relnamespace \
             WHERE d.adrelid = {}::pg_catalog.regclass AND a.attname NOT IN ({}) \
               AND CASE WHEN s.relkind = 'S' THEN NOT pg_catalog.has_sequence_privilege(s.oid, 'USAGE, UPDATE') END ORDER BY 1",
            table.literal(),
            filled.collect::<Vec<_>>().join(", "),
        );
        let subject = table.to_string();
        let answer = match self.connection.simple(&sql).await {
            Ok(answer) => answer,
            Err(error) => {
                return findings.push(finding(
                    Severity::Error,
                    &subject,
                    error.to_string(),
                    "look at the server's log",
                ));
            }
        };
        let rows = answer.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0),
            _ => None,
        });
        for sequence in rows {
            let message = format!("{} may not use the sequence {sequence}, which numbers its rows", self.role);
            let grant = format!("GRANT USAGE ON SEQUENCE {sequence} TO {}", self.role);
            findings.push(finding(Severity::Error, &subject, message, &grant));
        }
    }

    /// What COPY does not go into, as rows that are appended do. Those of an upsert come by INSERT or MERGE.
    async fn takes_rows(&self, findings: &mut Vec<Finding>) {
        let Settings { table, key, .. } = &self.shared.settings;
        if !key.is_empty() {
            return self.row_security(table, Severity::Warning, findings).await;
        }
        self.row_security(table, Severity::Error, findings).await;
        // 69: a trigger INSTEAD OF (64) INSERT (4) FOR EACH ROW (1), see pg_trigger.h.
        let sql = format!(
            "SELECT c.relkind IN ('v', 'm') AND NOT EXISTS (SELECT FROM pg_catalog.pg_trigger t WHERE t.tgrelid = c.oid \
             AND t.tgtype & 69 = 69) FROM pg_catalog.pg_class c WHERE c.oid = {}::pg_catalog.regclass",
            table.literal()
        );
        let (subject, remedy) =
            (table.to_string(), "name the table below it, or give the view a trigger INSTEAD OF INSERT FOR EACH ROW");
        match self.ask(&sql).await {
            Ok(answer) if answer.as_deref() == Some("t") => {
                let message = "is a view, which rows cannot be appended to by COPY".to_owned();
                findings.push(finding(Severity::Error, &subject, message, remedy));
            }
            Ok(_) => {}
            Err(error) => findings.push(finding(Severity::Error, &subject, error, "look at the server's log")),
        }
    }

    /// Whether policies stand between the role and the table's rows, and not only others'.
    async fn row_security(&self, table: &TableName, severity: Severity, findings: &mut Vec<Finding>) {
        let (subject, role) = (table.to_string(), &self.role);
        match self
            .ask(&format!("SELECT pg_catalog.row_security_active({}::pg_catalog.regclass)", table.literal()))
            .await
        {
            Ok(answer) if answer.as_deref() == Some("t") => {
                let message = match severity {
                    Severity::Error => format!("has row-level security that {role} is under, and then COPY is refused"),
                    _ => format!("has row-level security: its policies must let {role} see and write its rows"),
                };
                let remedy = format!("take it off the table, or let the role pass it by: ALTER ROLE {role} BYPASSRLS");
                findings.push(finding(severity, &subject, message, &remedy));
            }
            Ok(_) => {}
            Err(error) => findings.push(finding(Severity::Error, &subject, error, "look at the server's log")),
        }
    }

    /// Whether `table` is there, and can be used as `privileges` say. Says what is missing.
    async fn table(&self, table: &TableName, privileges: &[&str], findings: &mut Vec<Finding>) -> bool {
        let (subject, role) = (table.to_string(), &self.role);
        let schema = quote_literal(table.schema.as_str()).expect("no name has a NUL");
        let sql = format!(
            "SELECT pg_catalog.has_schema_privilege(oid, 'USAGE') FROM pg_catalog.pg_namespace WHERE nspname = {schema}"
        );
        match self.ask(&sql).await {
            Ok(Some(answer)) if answer == "t" => (),
            Ok(Some(_)) => {
                let message = format!("{role} may not use its schema");
                findings.push(finding(Severity::Error, &subject, message, &grant_schema(table, role)));
                return false;
            }
            Ok(None) => {
                findings.push(finding(
                    Severity::Error,
                    &subject,
                    "its schema is not there".to_owned(),
                    "run `forebay setup`",
                ));
                return false;
            }
            Err(error) => {
                findings.push(finding(Severity::Error, &subject, error, "look at the server's log"));
                return false;
            }
        }
        match self.ask(&format!("SELECT pg_catalog.to_regclass({})", table.literal())).await {
            Ok(Some(_)) => (),
            Ok(None) => {
                findings.push(finding(Severity::Error, &subject, "is not there".to_owned(), "run `forebay setup`"));
                return false;
            }
            Err(error) => {
                findings.push(finding(Severity::Error, &subject, error, "look at the server's log"));
                return false;
            }
        }
        let mut has_all = true;
        for privilege in privileges {
            let has = format!("pg_catalog.has_table_privilege({}, '{privilege}')", table.literal());
            let grant = format!("GRANT {privilege} ON {table} TO {role}");
            has_all &= self.privilege(&has, &subject, privilege, &grant, findings).await;
        }
        if has_all {
            findings.push(ok(&subject, &format!("is there, with {}", privileges.join(", "))));
        }
        true
    }

    async fn privilege(&self, has: &str, subject: &str, name: &str, grant: &str, findings: &mut Vec<Finding>) -> bool {
        let found = match self.ask(&format!("SELECT {has}")).await {
            Ok(answer) if answer.as_deref() == Some("t") => return true,
            Ok(_) => finding(Severity::Error, subject, format!("{} lacks {name}", self.role), grant),
            Err(error) => finding(Severity::Error, subject, error, grant),
        };
        findings.push(found);
        false
    }

    async fn ask(&self, sql: &str) -> Result<Option<String>, String> {
        let answer = self.connection.simple(sql).await.map_err(|error| error.to_string())?;
        Ok(first(&answer).map(str::to_owned))
    }
}

fn ok(subject: &str, message: &str) -> Finding {
    finding(Severity::Ok, subject, message.to_owned(), "")
}

fn finding(severity: Severity, subject: &str, message: String, remedy: &str) -> Finding {
    Finding { severity, subject: subject.to_owned(), message, remedy: remedy.to_owned() }
}
