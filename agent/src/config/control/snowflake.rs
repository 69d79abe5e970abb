//! The control table in Snowflake: where it is, and as whom the agent goes there.

use std::collections::BTreeMap;

use crate::{
    client::snowflake::{Settings, TableName},
    config::{
        SinkConfig, SinkKind,
        key::{Key, Schema},
        kind::{SnowflakeName, Switch},
        reading::Section,
        report::Reported,
        snowflake,
        tls::TLS,
    },
    control::snowflake::Place,
};

/// Under the names of Postgres's keys, with Snowflake's meaning.
pub(super) static DATABASE: Key<SnowflakeName> =
    Key::optional("database", SnowflakeName, "that of the first sink by name", "The database of the control table.")
        .variable("TARGET_DB");

pub(super) static SCHEMA: Key<SnowflakeName> =
    Key::with_default("schema", SnowflakeName, r#""PUBLIC""#, "The schema of the control table.")
        .variable("TARGET_SCHEMA");

pub(super) static TABLE: Key<SnowflakeName> =
    Key::with_default("table", SnowflakeName, r#""INGESTION_STATUS""#, "The control table's name.")
        .variable("TARGET_TABLE");

pub(super) static WAREHOUSE: Key<SnowflakeName> = Key::optional(
    "warehouse",
    SnowflakeName,
    "there is none; it must be given where the control table is in Snowflake",
    "The warehouse that carries out the statements about a control table in Snowflake. The smallest does. It is awake, and \
     costs, as long as checkpoints move: a longer interval lets it sleep. It is always awake where partitions are shared out, \
     for claims are renewed.",
)
.variable("SNOWFLAKE_WAREHOUSE");

pub(super) static HYBRID_TABLE: Key<Switch> = Key::with_default(
    "hybrid_table",
    Switch,
    "false",
    "Whether `forebay setup` makes the control table a hybrid one in Snowflake; it and `forebay check` refuse a standard one \
     that is there then. That of claims always is a hybrid one.",
);

pub(super) static LOGIN: Schema = Schema {
    name: "snowflake",
    variant: "",
    doc: "How the agent logs in to Snowflake for the control table. Without this table it does so as the first Snowflake sink \
          by name.",
    keys: snowflake::login_keys!(),
    tables: &[&TLS],
};

/// The table where the config says, in the account of the first sink if it says no other. `Ok(None)`: there is neither, and
/// a sink that could not be read may be the one.
pub(super) fn read(
    section: &mut Section<'_, '_, '_>,
    sinks: &BTreeMap<String, SinkConfig>,
    all_sinks: bool,
) -> Result<Option<(Place, bool)>, Reported> {
    let sink = sinks.iter().find_map(|(name, sink)| login_of(&sink.kind).map(|login| (name, login)));
    let own = section.table(&LOGIN).and_then(|login| login.map(|mut login| snowflake::read(&mut login)).transpose());
    let (database, schema, table) = (section.given(&DATABASE), section.value(&SCHEMA), section.value(&TABLE));
    let (warehouse, is_hybrid) = (section.given(&WAREHOUSE), section.value(&HYBRID_TABLE));
    let connection = match (own?, sink) {
        (Some(own), _) => own,
        (None, Some((_, (login, _)))) => login.clone(),
        (None, None) if !all_sinks => return Ok(None),
        (None, None) => {
            let problem = "is missing, and there is no Snowflake sink whose account it could be";
            return Err(section.error(LOGIN.name, problem, "say in [control.snowflake] how to log in"));
        }
    };
    let database = match (database?, sink) {
        (Some(database), _) => Ok(database),
        (None, Some((_, (_, table)))) => Ok(table.database.clone()),
        (None, None) => {
            let problem = "is missing, and there is no Snowflake sink whose database it could be";
            Err(section.error(DATABASE.name, problem, "name the database of the control table (TARGET_DB)"))
        }
    };
    let warehouse = warehouse?.ok_or_else(|| {
        let account = connection.account.name();
        let problem = format!("is missing: nothing in the account {account} carries out statements without one");
        let help = "name one (SNOWFLAKE_WAREHOUSE), or say backend = \"none\" to do without a control table";
        section.error(WAREHOUSE.name, problem, help)
    });
    let table = TableName { database: database?, schema: schema?, table: table? };
    Ok(Some((Place { connection, warehouse: warehouse?, table }, is_hybrid?)))
}

/// Reports what is wrong with keys that are not used, for the control table is elsewhere: `in_postgres`, or there is none.
pub(super) fn check(section: &mut Section<'_, '_, '_>, in_postgres: bool) -> Result<(), Reported> {
    if in_postgres && section.has(LOGIN.name) {
        let problem = "is given, and the control table is in Postgres";
        return Err(section.error(LOGIN.name, problem, "take it out, or say backend = \"snowflake\""));
    }
    let (warehouse, is_hybrid) = (section.given(&WAREHOUSE), section.value(&HYBRID_TABLE));
    section.table(&LOGIN).and_then(|login| login.map(|mut login| snowflake::read(&mut login)).transpose())?;
    warehouse?;
    is_hybrid?;
    Ok(())
}

/// How a sink logs in to Snowflake, and into which table, if it is one that does.
pub(super) fn login_of(sink: &SinkKind) -> Option<(&Settings, &TableName)> {
    match sink {
        SinkKind::Snowpipe(settings) => Some((&settings.connection, &settings.table)),
        _ => None,
    }
}
