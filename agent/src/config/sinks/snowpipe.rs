//! `type = "snowpipe"`.

use std::time::Duration;

use crate::{
    client::snowflake::TableName,
    config::{
        key::{Key, Schema},
        kind::{Choice, Name, RowColumns, Size, SnowflakeName, Time},
        reading::Section,
        report::Reported,
        snowflake,
        tls::TLS,
    },
    contract::BatchLimits,
    sink::snowpipe::{OnRowError, Settings, Shape, own_pipe},
};

pub(super) static SNOWPIPE: Schema = Schema {
    name: "sinks.NAME",
    variant: "snowpipe",
    doc: "Rows in a table of Snowflake by Snowpipe Streaming (its high-performance architecture), each event exactly once.",
    keys: snowflake::login_keys![
        &DATABASE,
        &SCHEMA,
        &TABLE,
        &PIPE,
        &CHANNEL,
        &FORMAT,
        &COLUMNS,
        &ON_ROW_ERROR,
        &MAX_IN_FLIGHT,
        &POLL_INTERVAL,
    ],
    tables: &[&TLS],
};

static DATABASE: Key<SnowflakeName> =
    Key::required("database", SnowflakeName, "The database that the table is in.").variable("SNOWFLAKE_DATABASE");

static SCHEMA: Key<SnowflakeName> =
    Key::with_default("schema", SnowflakeName, r#""PUBLIC""#, "The schema that the table is in.")
        .variable("SNOWFLAKE_SCHEMA_NAME");

static TABLE: Key<SnowflakeName> = Key::required(
    "table",
    SnowflakeName,
    "The table that events go into. `forebay setup` makes it. A hybrid table is none that the service streams into.",
);

static PIPE: Key<SnowflakeName> = Key::optional(
    "pipe",
    SnowflakeName,
    "the table's own, \"TABLE-STREAMING\", which fills columns by their names",
    "The pipe that rows go through.",
);

static CHANNEL: Key<Name> = Key::optional(
    "channel",
    Name { dots: true },
    "the agent's id",
    "What the names of channels begin with. No other agent may have the same. Change it only after the agent has stopped \
     with nothing left to confirm: what is committed is not found under another name. A partition of an event hub has a \
     name that all agents agree upon, whatever this says.",
);

#[derive(Debug, Clone, Copy, PartialEq)]
enum Format {
    Columns,
    Body,
}

static FORMAT: Key<Choice<Format>> = Key::with_default(
    "format",
    Choice { what: "format of rows", of: &[("columns", Format::Columns), ("body", Format::Body)] },
    r#""columns""#,
    "\"columns\": what columns says. \"body\": the members of the body, which must be a JSON object, are the columns; \
     other events become dead letters.",
);

static COLUMNS: Key<RowColumns> = Key::optional(
    "columns",
    RowColumns,
    "event_body, partition_id, sequence_number, enqueued_time, properties, system_properties and ingestion_timestamp, as \
     the Python pipeline fills them",
    "The columns that are filled, and with what. What a path does not lead to is NULL. Names are in upper \
     case, unless they stand in double quotes of their own; a pipe with a statement of its own finds them as they are here.",
);

static ON_ROW_ERROR: Key<Choice<OnRowError>> = Key::with_default(
    "on_row_error",
    Choice {
        what: "way to meet an error of a row",
        of: &[("stop", OnRowError::Stop), ("dead-letter", OnRowError::DeadLetter)],
    },
    r#""stop""#,
    "What happens when Snowflake has left rows out that do not fit the table. It says how many, and not which. \"stop\": \
     nothing more is confirmed until an operator acts. \"dead-letter\": all events that they may be among become dead \
     letters, good ones too (retrying them needs --force), and delivery goes on.",
);

static MAX_IN_FLIGHT: Key<Size> = Key::with_default(
    "max_in_flight",
    Size { min: 64 << 10, max: 1 << 30 },
    r#""16MiB""#,
    "The most bytes of events of one partition that are sent and not committed yet, which takes seconds. They stay in the \
     buffer and take little memory. One batch always may be.",
);

static POLL_INTERVAL: Key<Time> = Key::with_default(
    "poll_interval",
    Time { min: Duration::from_millis(100), max: Duration::from_secs(60) },
    r#""250ms""#,
    "How long to wait at most before it is asked again what is committed, while something waits for that; at first it is \
     asked sooner. A longer time spares a metered line.",
);

pub(super) fn read(
    section: &mut Section<'_, '_, '_>,
    batch: Result<BatchLimits, Reported>,
) -> Result<Settings, Reported> {
    let connection = snowflake::read(section);
    let (database, schema, table) = (section.value(&DATABASE), section.value(&SCHEMA), section.value(&TABLE));
    let (pipe, channel) = (section.given(&PIPE), section.given(&CHANNEL));
    let shape = read_shape(section);
    let on_row_error = section.value(&ON_ROW_ERROR);
    let (max_in_flight_bytes, poll_interval) = (section.value(&MAX_IN_FLIGHT), section.value(&POLL_INTERVAL));
    let (table, pipe) = (table?, pipe?);
    let pipe = match pipe {
        Some(pipe) => pipe,
        None => own_pipe(&table)
            .map_err(|problem| section.error(TABLE.name, format!("has a pipe whose name {problem}"), ""))?,
    };
    Ok(Settings {
        connection: connection?,
        table: TableName { database: database?, schema: schema?, table },
        pipe,
        channel: channel?,
        shape: shape?,
        on_row_error: on_row_error?,
        max_in_flight_bytes: max_in_flight_bytes?,
        poll_interval: poll_interval?,
        batch: batch?,
    })
}

fn read_shape(section: &mut Section<'_, '_, '_>) -> Result<Shape, Reported> {
    let (format, columns) = (section.value(&FORMAT), section.given(&COLUMNS));
    match (format?, columns?) {
        (Format::Columns, None) => Ok(Shape::Events),
        (Format::Columns, Some(columns)) => Ok(Shape::Columns(columns)),
        (Format::Body, None) => Ok(Shape::Body),
        (Format::Body, Some(_)) => {
            let problem = "has no meaning where the members of the body are the columns";
            Err(section.error(COLUMNS.name, problem, "take it out, or say format = \"columns\""))
        }
    }
}
