//! The tables that a config needs, place by place, and the SQL that makes them.

use std::fmt::Write;

use crate::{
    client::postgres::{Identifier, OwnershipTable, Settings, StatusTable, TableName},
    config::{Config, ControlBackend, SinkKind, is_same_database},
    contract::KeptBy,
    control::postgres::grant_connect,
    sink::postgres::{CHECKPOINT_PRIVILEGES, create_table, grant_temporary, table_privileges},
};

/// What the agent does with the rows of the control table and with claims.
const CONTROL_PRIVILEGES: [&str; 3] = ["SELECT", "INSERT", "UPDATE"];

/// One database, and the tables to be there.
pub(super) struct Place {
    pub(super) connection: Settings,
    pub(super) tables: Vec<Table>,
    /// What lets the roles into the database.
    connects: Vec<String>,
    /// What is to be granted beside what the tables need.
    grants: Vec<String>,
}

/// One table.
pub(super) struct Table {
    pub(super) name: TableName,
    /// What it is for, once for each that needs it.
    pub(super) uses: Vec<String>,
    /// The statement that creates it.
    pub(super) create: String,
    /// Which privileges each role is to have.
    roles: Vec<(String, Vec<&'static str>)>,
}

/// The tables that `config` needs.
pub(super) fn of(config: &Config) -> Vec<Place> {
    let mut places = Vec::new();
    let checkpoints = StatusTable { name: config.control.table.clone(), kept_by: KeptBy::Sink };
    let rows = || (checkpoints.name.clone(), checkpoints.create());
    if let ControlBackend::Postgres(connection) = &config.control.backend {
        let place = place(&mut places, connection);
        place.add(connection, rows(), "the control table".to_owned(), &CONTROL_PRIVILEGES);
        if let Ok(claims) = OwnershipTable::beside(&checkpoints.name)
            && config.shares_out()
        {
            let what = "who reads which partition of a hub".to_owned();
            place.add(connection, (claims.0.clone(), claims.create()), what, &CONTROL_PRIVILEGES);
        }
    }
    for (name, sink) in &config.sinks {
        let SinkKind::Postgres(settings) = &sink.kind else { continue };
        let (connection, target) = (&settings.connection, (settings.table.clone(), create_table(settings)));
        let place = place(&mut places, connection);
        place.add(connection, target, format!("the table of the sink {name}"), table_privileges(settings));
        place.add(connection, rows(), format!("the checkpoints of the sink {name}"), &CHECKPOINT_PRIVILEGES);
        let role = Identifier::new(connection.user.clone()).ok();
        place.grants.extend(role.and_then(|role| grant_temporary(settings, &role)));
    }
    places
}

/// The place that `connection` leads to.
fn place<'p>(places: &'p mut Vec<Place>, connection: &Settings) -> &'p mut Place {
    let at = places.iter().position(|place| is_same_database(&place.connection, connection));
    let at = at.unwrap_or_else(|| {
        places.push(Place {
            connection: connection.clone(),
            tables: Vec::new(),
            connects: Vec::new(),
            grants: Vec::new(),
        });
        places.len() - 1
    });
    &mut places[at]
}

impl Place {
    fn add(
        &mut self,
        connection: &Settings,
        (name, create): (TableName, String),
        what: String,
        privileges: &[&'static str],
    ) {
        let at = self.tables.iter().position(|table| table.name == name).unwrap_or_else(|| {
            self.tables.push(Table { name, uses: Vec::new(), create, roles: Vec::new() });
            self.tables.len() - 1
        });
        let connect = grant_connect(connection);
        if !self.connects.contains(&connect) {
            self.connects.push(connect);
        }
        let Table { uses, roles, .. } = &mut self.tables[at];
        uses.push(what);
        let at = roles.iter().position(|(role, _)| *role == connection.user).unwrap_or_else(|| {
            roles.push((connection.user.clone(), Vec::new()));
            roles.len() - 1
        });
        let held = &mut roles[at].1;
        held.extend(privileges.iter().filter(|one| !held.contains(one)).copied().collect::<Vec<_>>());
    }
}

/// The statements for someone who may create tables, place by place.
pub(super) fn sql(places: &[Place]) -> String {
    let mut out = String::new();
    for place in places {
        push(&mut out, format_args!("-- In {}, as a role that may create tables:\n", place.connection.place()));
        for connect in &place.connects {
            push(&mut out, format_args!("\n{connect}\n"));
        }
        for table in &place.tables {
            push(&mut out, format_args!("\n-- {}\n", table.uses.join("; ")));
            if table.name.schema.as_str() != "public" {
                push(&mut out, format_args!("CREATE SCHEMA IF NOT EXISTS {};\n", table.name.schema));
            }
            push(&mut out, format_args!("{};\n", table.create));
            for (role, privileges) in &table.roles {
                let role = Identifier::new(role.clone()).map_or_else(|_| role.clone(), |role| role.to_string());
                push(&mut out, format_args!("GRANT USAGE ON SCHEMA {} TO {role};\n", table.name.schema));
                push(&mut out, format_args!("GRANT {} ON {} TO {role};\n", privileges.join(", "), table.name));
            }
        }
        for grant in &place.grants {
            push(&mut out, format_args!("\n{grant};\n"));
        }
        out.push('\n');
    }
    out
}

fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("writing to a string does not fail");
}
