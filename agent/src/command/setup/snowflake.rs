//! What a config needs in Snowflake, account by account: tables, pipes, and the SQL that makes them and lets the agent in.

use std::{fmt::Write, sync::Arc, time::Duration};

use crate::{
    client::snowflake::{Error, Identifier, PublicKey, Settings, Snowflake as Client, Statement, TableName},
    command::{
        failure::{Failure, Outcome},
        output,
        setting::Setting,
    },
    config::{Config, ControlBackend, SinkKind},
    control::snowflake::{Kind, OwnershipTable, Place, Snowflake, StatusTable},
    sink::snowpipe::{create_pipe, create_table},
};

/// How long one statement may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// What the agent does with the rows of the control table and with claims.
const CONTROL_PRIVILEGES: &str = "SELECT, INSERT, UPDATE";

/// One thing to be there.
struct Thing<'c> {
    connection: &'c Settings,
    /// What it is for.
    what: String,
    /// As what privileges are granted on it: a table, or a pipe.
    kind: &'static str,
    name: TableName,
    /// The statement that makes it. `None`: only the operator knows what it is like.
    create: Option<String>,
    privileges: &'static str,
    /// What carries out statements about it.
    warehouse: Option<&'c Identifier>,
    /// Where it has to be a hybrid table: what to say if it is there and is none.
    hybrid: Option<(&'c Place, String)>,
}

fn things(config: &Config) -> Vec<Thing<'_>> {
    let mut things = Vec::new();
    if let ControlBackend::Snowflake(control) = &config.control.backend {
        let place = &control.place;
        let thing = |what: &str, name: TableName, create, is_no_hybrid: Option<String>| Thing {
            connection: &place.connection,
            what: what.to_owned(),
            kind: "TABLE",
            name,
            create: Some(create),
            privileges: CONTROL_PRIVILEGES,
            warehouse: Some(&place.warehouse),
            hybrid: is_no_hybrid.map(|words| (place, words)),
        };
        let table = StatusTable(&place.table);
        let (create, is_no_hybrid) = (table.create(control.is_hybrid), table.is_no_hybrid());
        things.push(thing("the control table", place.table.clone(), create, control.is_hybrid.then_some(is_no_hybrid)));
        if let Ok(claims) = OwnershipTable::beside(&place.table)
            && config.shares_out()
            && control.is_durable
        {
            let (create, is_no_hybrid) = (claims.create(), claims.is_no_hybrid());
            things.push(thing("who reads which partition of a hub", claims.0, create, Some(is_no_hybrid)));
        }
    }
    for (name, sink) in &config.sinks {
        let SinkKind::Snowpipe(settings) = &sink.kind else { continue };
        let thing = |what: &str, kind, table, create, privileges| Thing {
            connection: &settings.connection,
            what: format!("the {what} of the sink {name}"),
            kind,
            name: table,
            create,
            privileges,
            warehouse: None,
            hybrid: None,
        };
        let create = create_table(settings);
        things.push(thing("table", "TABLE", settings.table.clone(), create, "INSERT, SELECT"));
        if let Some(create) = create_pipe(settings) {
            let pipe = TableName { table: settings.pipe.clone(), ..settings.table.clone() };
            things.push(thing("pipe", "PIPE", pipe, Some(create), "OPERATE, MONITOR"));
        }
    }
    things
}

/// Makes what is not there, and says what was. Whether anything is needed at all.
pub(super) async fn create(setting: &Setting, config: &Config) -> Outcome<bool> {
    let things = things(config);
    for thing in &things {
        let client = Client::new(thing.connection.clone(), Arc::clone(&setting.clock)).map_err(Failure::failed)?;
        let Thing { what, name, create, .. } = thing;
        let done = match create {
            Some(create) => run(thing, &client, create).await.map_err(|error| failure(thing, &error))?,
            None => "not made: what columns the bodies need only you know".to_owned(),
        };
        if let Some((place, is_no_hybrid)) = &thing.hybrid {
            insist_on_hybrid(setting, place, name, is_no_hybrid).await.map_err(|error| failure(thing, &error))?;
        }
        let account = thing.connection.account.name();
        output::print(&format!("{name} in {account} ({what}): {done}\n"))?;
    }
    Ok(!things.is_empty())
}

/// What the server says when it is done.
async fn run(thing: &Thing<'_>, client: &Arc<Client>, text: &str) -> Result<String, Error> {
    let statement = Statement {
        text: text.to_owned(),
        bindings: Vec::new(),
        database: None,
        schema: None,
        // A hybrid table is not made without one.
        warehouse: thing.warehouse.map(|warehouse| warehouse.as_str().to_owned()),
        role: None,
        timeout: PATIENCE,
    };
    let answer = client.execute(statement).await?;
    Ok(answer.rows.into_iter().flatten().flatten().next().unwrap_or_else(|| "done".to_owned()))
}

/// A table that was there may be of the wrong kind, or that of claims have the wrong key.
async fn insist_on_hybrid(
    setting: &Setting,
    place: &Place,
    table: &TableName,
    is_no_hybrid: &str,
) -> Result<(), Error> {
    let control = Snowflake::new(place.clone(), Arc::clone(&setting.clock));
    match control.kind_of(table).await? {
        Some(Kind::Hybrid) => match OwnershipTable::beside(&place.table).ok().filter(|claims| claims.0 == *table) {
            Some(claims) if !control.has_key_of_claims(&claims).await? => {
                Err(Error::Confused(claims.has_another_key()))
            }
            _ => Ok(()),
        },
        _ => Err(Error::Confused(is_no_hybrid.to_owned())),
    }
}

fn failure(thing: &Thing<'_>, error: &Error) -> Failure {
    let Thing { what, name, .. } = thing;
    let remedy = match error {
        Error::Statement(_) => {
            "; give what `forebay setup --print-sql` prints to someone who may, or run this with that one's login in the config"
        }
        _ => "",
    };
    let message = format!("creating {name} ({what}): {error}{remedy}");
    match error {
        Error::Retry { .. } | Error::Unknown(_) => Failure::temporary(message),
        _ => Failure::failed(message),
    }
}

/// The statements for an administrator.
pub(super) fn sql(setting: &Setting, config: &Config) -> String {
    let things = things(config);
    let mut out = String::new();
    let mut accounts: Vec<&Settings> = Vec::new();
    for Thing { connection, .. } in &things {
        if !accounts.contains(connection) {
            accounts.push(connection);
        }
    }
    for connection in accounts {
        let of_this: Vec<_> = things.iter().filter(|thing| thing.connection == connection).collect();
        account_sql(&mut out, setting, connection, &of_this);
    }
    out
}

fn account_sql(out: &mut String, setting: &Setting, connection: &Settings, things: &[&Thing<'_>]) {
    let user = Identifier::new(&connection.user).or_else(|_| Identifier::exact(&*connection.user));
    let user = user.map_or_else(|_| connection.user.clone(), |user| user.to_string());
    let account = connection.account.name();
    push(out, format_args!("-- In the account {account}, as a role that may create these and grant roles:\n\n"));
    let role = match &connection.role {
        Some(role) => {
            let role = Identifier::exact(role.clone()).map_or_else(|_| role.clone(), |role| role.to_string());
            push(out, format_args!("CREATE ROLE IF NOT EXISTS {role};\nGRANT ROLE {role} TO USER {user};\n"));
            role
        }
        None => {
            push(out, format_args!("-- The config names no role: put the default role of {user} for <ROLE>.\n"));
            "<ROLE>".to_owned()
        }
    };
    let client = Client::new(connection.clone(), Arc::clone(&setting.clock));
    match client.and_then(|client| client.public_key()) {
        Ok(Some(PublicKey { fingerprint, base64 })) => {
            push(
                out,
                format_args!(
                    "-- The key that the agent logs in with, {fingerprint}. It takes the place of the key that is\n"
                ),
            );
            push(out, format_args!("-- there; beside one that must stay, set RSA_PUBLIC_KEY_2 instead:\n"));
            push(out, format_args!("ALTER USER {user} SET RSA_PUBLIC_KEY = '{base64}';\n"));
        }
        Ok(None) => {}
        Err(problem) => push(out, format_args!("-- The agent's key cannot be shown: {problem}\n")),
    }
    let mut warehouses: Vec<_> = things.iter().filter_map(|thing| thing.warehouse).collect();
    warehouses.sort();
    warehouses.dedup();
    for warehouse in warehouses {
        push(out, format_args!("GRANT USAGE ON WAREHOUSE {warehouse} TO ROLE {role};\nUSE WAREHOUSE {warehouse};\n"));
    }
    for Thing { what, kind, name, create, privileges, .. } in things {
        let TableName { database, schema, .. } = name;
        push(out, format_args!("\n-- {what}\nCREATE SCHEMA IF NOT EXISTS {database}.{schema};\n"));
        match create {
            Some(create) => push(out, format_args!("{create};\n")),
            None => push(out, format_args!("-- CREATE TABLE {name} with the columns that the bodies have.\n")),
        }
        push(out, format_args!("GRANT USAGE ON DATABASE {database} TO ROLE {role};\n"));
        push(out, format_args!("GRANT USAGE ON SCHEMA {database}.{schema} TO ROLE {role};\n"));
        push(out, format_args!("GRANT {privileges} ON {kind} {name} TO ROLE {role};\n"));
    }
    out.push('\n');
}

fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("writing to a string does not fail");
}
