//! `[control]`: the table where operators see how far each stream has come, and who writes it.
//!
//! Operators of the Python pipeline know the environment variables: they override the file, and mean what they meant.

#[cfg(feature = "postgres")]
mod postgres;

use std::{collections::BTreeMap, time::Duration};

#[cfg(feature = "postgres")]
pub(crate) use self::postgres::is_same_database;
use super::{
    SinkConfig, SinkKind,
    key::{Key, Schema},
    kind::{Choice, Time},
    reading::Section,
    report::Reported,
};
#[cfg(feature = "postgres")]
use crate::client::postgres::{Settings, TableName};

/// `[control]`, ready to use.
#[derive(Debug, Clone, PartialEq)]
pub struct ControlConfig {
    /// What keeps it.
    pub backend: ControlBackend,
    /// The control table. A Postgres sink whose database is another keeps its rows there, in a table of the same name.
    #[cfg(feature = "postgres")]
    pub table: TableName,
    /// It is written at most once in this time, where its rows are not moved together with the data.
    pub interval: Duration,
}

/// What keeps the control table.
#[derive(Debug, Clone, PartialEq)]
pub enum ControlBackend {
    /// There is none.
    Nothing,
    /// This database.
    #[cfg(feature = "postgres")]
    Postgres(Box<Settings>),
}

/// Who moves a sink's rows of the control table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowKeeper {
    /// Nobody: there is no control table.
    Nobody,
    /// The sink, in the transaction of its data: the rows that it keeps for itself are the control table's.
    Sink,
    /// Delivery, once the sink has confirmed.
    Delivery,
}

impl ControlConfig {
    /// Whether a sink of this kind has rows where this says: in the control table, or of its own.
    pub fn concerns(&self, sink: &SinkKind) -> bool {
        #[cfg(feature = "postgres")]
        if postgres::connection_of(sink).is_some() {
            return true;
        }
        self.keeper(sink) != RowKeeper::Nobody
    }

    /// Who moves the rows of a sink of this kind.
    #[cfg_attr(
        not(feature = "postgres"),
        expect(unused_variables, reason = "nothing in this build has a control table")
    )]
    pub fn keeper(&self, sink: &SinkKind) -> RowKeeper {
        match &self.backend {
            ControlBackend::Nothing => RowKeeper::Nobody,
            #[cfg(feature = "postgres")]
            ControlBackend::Postgres(control) => match postgres::connection_of(sink) {
                Some(own) if postgres::is_same_database(control, own) => RowKeeper::Sink,
                _ => RowKeeper::Delivery,
            },
        }
    }
}

impl ControlConfig {
    /// Whether two sinks with one target have their rows in different tables all the same: each in a database of its own,
    /// with no control table that has both.
    pub(super) fn keeps_apart(&self, one: &SinkKind, other: &SinkKind) -> bool {
        #[cfg(feature = "postgres")]
        if self.backend == ControlBackend::Nothing
            && let (Some(one), Some(other)) = (postgres::connection_of(one), postgres::connection_of(other))
        {
            return !postgres::is_same_database(one, other);
        }
        let _ = (one, other);
        false
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Backend {
    Postgres,
    Snowflake,
    Nothing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OwnershipMode {
    Durable,
    LocalSingleConsumerSmoke,
}

pub(super) static CONTROL: Schema = Schema {
    name: "control",
    variant: "",
    doc: "The control table: how far each sink has come in each stream, for operators and for whoever takes over. \
          If nothing is said of it, it is in the database of the first Postgres sink by name, if there is one.",
    keys: &[
        &BACKEND,
        #[cfg(feature = "postgres")]
        &postgres::DATABASE,
        #[cfg(feature = "postgres")]
        &postgres::SCHEMA,
        #[cfg(feature = "postgres")]
        &postgres::TABLE,
        &INTERVAL,
        #[cfg(feature = "postgres")]
        &postgres::HOST,
        #[cfg(feature = "postgres")]
        &postgres::PORT,
        #[cfg(feature = "postgres")]
        &postgres::USER,
        #[cfg(feature = "postgres")]
        &postgres::PASSWORD,
        #[cfg(feature = "postgres")]
        &postgres::PASSWORD_FILE,
        #[cfg(feature = "postgres")]
        &postgres::SSLMODE,
        #[cfg(feature = "postgres")]
        &postgres::CA_FILE,
        #[cfg(feature = "postgres")]
        &postgres::CERTIFICATE_FILE,
        #[cfg(feature = "postgres")]
        &postgres::KEY_FILE,
        #[cfg(feature = "postgres")]
        &postgres::AUTH_MODE,
        &OWNERSHIP_MODE,
    ],
    tables: &[],
};

static BACKEND: Key<Choice<Backend>> = Key::optional(
    "backend",
    Choice {
        what: "backend of the control table",
        of: &[("postgres", Backend::Postgres), ("snowflake", Backend::Snowflake), ("none", Backend::Nothing)],
    },
    "\"postgres\" where host is given or where there is a Postgres sink, else \"none\"",
    "What keeps the control table. \"snowflake\" comes with the Snowflake sink, which this version does not have.",
)
.variable("CONTROL_TABLE_BACKEND");

static INTERVAL: Key<Time> = Key::with_default(
    "interval",
    Time { min: Duration::from_secs(1), max: Duration::from_secs(3_600) },
    r#""10s""#,
    "How often it is written, at most, where its rows are not moved together with the data.",
);

static OWNERSHIP_MODE: Key<Choice<OwnershipMode>> = Key::with_default(
    "ownership_mode",
    Choice {
        what: "way to own partitions",
        of: &[
            ("durable", OwnershipMode::Durable),
            ("local_single_consumer_smoke", OwnershipMode::LocalSingleConsumerSmoke),
        ],
    },
    r#""durable""#,
    "How it is settled who owns a partition. \"local_single_consumer_smoke\" is of the Snowflake backend only.",
)
.variable("CONTROL_OWNERSHIP_MODE");

/// Reads the table. `sinks` are those that could be read; `all_sinks` says whether they are all there are.
pub(super) fn read(
    mut section: Section<'_, '_, '_>,
    sinks: &BTreeMap<String, SinkConfig>,
    all_sinks: bool,
) -> Result<ControlConfig, Reported> {
    let backend = section.given(&BACKEND);
    let interval = section.value(&INTERVAL);
    let ownership = ownership(&mut section);
    #[cfg(feature = "postgres")]
    let place = postgres::read(&mut section);
    let backend = match backend? {
        Some(Backend::Snowflake) => {
            let problem = "is \"snowflake\", which comes with the Snowflake sink; this version does not have it";
            return Err(section.error(BACKEND.name, problem, "use \"postgres\", or \"none\""));
        }
        #[cfg(not(feature = "postgres"))]
        Some(Backend::Postgres) => {
            let problem = "is \"postgres\", which this build of forebay lacks";
            return Err(section.error(BACKEND.name, problem, "use a build with the feature postgres, or \"none\""));
        }
        backend => backend,
    };
    ownership?;
    #[cfg(feature = "postgres")]
    {
        let place = place?;
        let sink = sinks.values().find_map(|sink| postgres::connection_of(&sink.kind));
        let (table, wanted) = (place.table.clone(), backend == Some(Backend::Postgres) || place.has_host());
        let backend = match (backend, sink) {
            (Some(Backend::Nothing), _) => ControlBackend::Nothing,
            // A sink that could not be read has been reported, and may be the one.
            (_, None) if !place.has_host() && !all_sinks => ControlBackend::Nothing,
            (_, sink) if wanted || sink.is_some() => {
                ControlBackend::Postgres(Box::new(place.settings(&mut section, sink)?))
            }
            _ => ControlBackend::Nothing,
        };
        Ok(ControlConfig { backend, table, interval: interval? })
    }
    #[cfg(not(feature = "postgres"))]
    {
        let _ = (backend, sinks, all_sinks);
        Ok(ControlConfig { backend: ControlBackend::Nothing, interval: interval? })
    }
}

fn ownership(section: &mut Section<'_, '_, '_>) -> Result<(), Reported> {
    match section.value(&OWNERSHIP_MODE)? {
        OwnershipMode::Durable => Ok(()),
        OwnershipMode::LocalSingleConsumerSmoke => {
            let problem = "is \"local_single_consumer_smoke\", which belongs to the Snowflake backend";
            Err(section.error(OWNERSHIP_MODE.name, problem, "use \"durable\", or take it out"))
        }
    }
}
