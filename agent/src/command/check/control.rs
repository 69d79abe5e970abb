//! The control table: where it is, and with `--connect` whether it can be used.

use std::sync::Arc;

use forebay_buffer::clock::Clock;

#[cfg(feature = "postgres")]
use super::finding;
use super::ok;
#[cfg(feature = "snowpipe")]
use crate::control::snowflake::{self, Snowflake};
use crate::{
    agent::build_control,
    command::units,
    config::{Config, ControlBackend, RowKeeper},
    contract::Finding,
};
#[cfg(feature = "postgres")]
use crate::{
    client::postgres::OwnershipTable,
    config::{SinkConfig, SinkKind},
    contract::Severity,
    control::postgres,
};

const SUBJECT: &str = "control table";

/// Where it is, and who writes it.
pub(super) fn place(config: &Config, clock: &Arc<dyn Clock>) -> Finding {
    let Some(control) = build_control(&config.control, clock) else {
        return ok(SUBJECT, "none");
    };
    let kept_by = |keeper| {
        let sinks = config.sinks.iter().filter(move |(_, sink)| config.control.keeper(&sink.kind) == keeper);
        sinks.map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ")
    };
    let interval = units::duration(config.control.interval);
    let written = match (kept_by(RowKeeper::Sink), kept_by(RowKeeper::Delivery)) {
        (with_data, later) if later.is_empty() => format!("written with the data of {with_data}"),
        (with_data, later) if with_data.is_empty() => format!("written at most every {interval} for {later}"),
        (with_data, later) => {
            format!("written with the data of {with_data}, and at most every {interval} for {later}")
        }
    };
    ok(SUBJECT, format!("{}; {written}", control.place()))
}

/// Looks at the columns and the key of the table that the sink called `name` keeps its checkpoints in, where that is not
/// the control table. The sink itself has seen to the rest.
#[cfg_attr(not(feature = "postgres"), expect(unused_variables, reason = "no sink in this build has such a table"))]
pub(super) async fn look_at_own(config: &Config, name: &str, clock: &Arc<dyn Clock>) -> Vec<Finding> {
    #[cfg(feature = "postgres")]
    if let Some(SinkConfig { kind: kind @ SinkKind::Postgres(sink), .. }) = config.sinks.get(name)
        && config.control.keeper(kind) != RowKeeper::Sink
    {
        let subject = format!("checkpoints of the sink {name}");
        let (connection, table) = (&sink.connection, &config.control.table);
        let shape = &postgres::CHECKPOINTS;
        return postgres::look(connection, table, shape, false, Arc::clone(clock), &subject).await;
    }
    Vec::new()
}

/// Asks the server.
#[cfg_attr(
    not(any(feature = "postgres", feature = "snowpipe")),
    expect(unused_variables, reason = "nothing in this build has a control table")
)]
pub(super) async fn look(config: &Config, clock: &Arc<dyn Clock>) -> Vec<Finding> {
    match &config.control.backend {
        ControlBackend::Nothing => Vec::new(),
        #[cfg(feature = "postgres")]
        ControlBackend::Postgres(settings) => {
            // Of a role that has its rows there as a sink, that sink's own look sees to the privileges.
            let is_seen_to = |sink: &SinkConfig| {
                let role = match &sink.kind {
                    SinkKind::Postgres(sink) => Some(&sink.connection.user),
                    _ => None,
                };
                config.control.keeper(&sink.kind) == RowKeeper::Sink && role == Some(&settings.user)
            };
            let (table, privileges) = (&config.control.table, !config.sinks.values().any(is_seen_to));
            let shape = &postgres::CHECKPOINTS;
            let mut found = postgres::look(settings, table, shape, privileges, Arc::clone(clock), SUBJECT).await;
            match OwnershipTable::beside(table) {
                Ok(OwnershipTable(claims)) if config.shares_out() => {
                    let (shape, clock) = (&postgres::CLAIMS, Arc::clone(clock));
                    found.extend(postgres::look(settings, &claims, shape, true, clock, "claims").await);
                }
                Err(problem) if config.shares_out() => {
                    let remedy = "give the control table a shorter name";
                    found.push(finding(Severity::Error, "claims", problem, remedy));
                }
                _ => {}
            }
            found
        }
        #[cfg(feature = "snowpipe")]
        ControlBackend::Snowflake(settings) => {
            let control = Snowflake::new(settings.place.clone(), Arc::clone(clock));
            let shares_out = config.shares_out() && settings.is_durable;
            snowflake::look(&control, settings.is_hybrid, shares_out, SUBJECT).await
        }
    }
}
