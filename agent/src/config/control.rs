//! `[control]`: the table where operators see how far each stream has come, and who writes it.
//!
//! Operators of the Python pipeline know the environment variables: they override the file, and mean what they meant.

#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "snowpipe")]
mod snowflake;

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
#[cfg(feature = "snowpipe")]
use crate::control::{local::SMOKE, snowflake::Place};

/// `[control]`, ready to use.
#[derive(Debug, Clone, PartialEq)]
pub struct ControlConfig {
    /// What keeps it.
    pub backend: ControlBackend,
    /// The control table in Postgres. A Postgres sink whose database is another, or where the control table is elsewhere,
    /// keeps its rows in a table of the same name.
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
    /// This account of Snowflake.
    #[cfg(feature = "snowpipe")]
    Snowflake(Box<InSnowflake>),
}

/// The control table in Snowflake.
#[cfg(feature = "snowpipe")]
#[derive(Debug, Clone, PartialEq)]
pub struct InSnowflake {
    /// Where it is.
    pub place: Place,
    /// Whether `setup` makes it a hybrid table.
    pub is_hybrid: bool,
    /// Whether claims are kept there, and not in memory.
    pub is_durable: bool,
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
            #[cfg(feature = "snowpipe")]
            ControlBackend::Snowflake(_) => RowKeeper::Delivery,
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
          If nothing is said of it, it is in the account of the first Snowflake sink by name where a warehouse is named, else \
          in the database of the first Postgres sink, if there is one.",
    keys: &[
        &BACKEND,
        #[cfg(feature = "postgres")]
        &postgres::DATABASE,
        #[cfg(feature = "postgres")]
        &postgres::SCHEMA,
        #[cfg(feature = "postgres")]
        &postgres::TABLE,
        // Keys of the same name, of which one is enough in the list.
        #[cfg(all(feature = "snowpipe", not(feature = "postgres")))]
        &snowflake::DATABASE,
        #[cfg(all(feature = "snowpipe", not(feature = "postgres")))]
        &snowflake::SCHEMA,
        #[cfg(all(feature = "snowpipe", not(feature = "postgres")))]
        &snowflake::TABLE,
        #[cfg(feature = "snowpipe")]
        &snowflake::WAREHOUSE,
        #[cfg(feature = "snowpipe")]
        &snowflake::HYBRID_TABLE,
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
    tables: &[
        #[cfg(feature = "postgres")]
        &super::azure::AZURE,
        #[cfg(feature = "snowpipe")]
        &snowflake::LOGIN,
    ],
};

static BACKEND: Key<Choice<Backend>> = Key::optional(
    "backend",
    Choice {
        what: "backend of the control table",
        of: &[("postgres", Backend::Postgres), ("snowflake", Backend::Snowflake), ("none", Backend::Nothing)],
    },
    "\"postgres\" where host is given; else \"snowflake\" where the table control.snowflake is given, or warehouse and there is \
     a Snowflake sink; else \"postgres\" where there is a Postgres sink; else \"none\"",
    "What keeps the control table.",
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
    "How it is settled who owns a partition. \"local_single_consumer_smoke\" is of the Snowflake backend only, and for trying \
     out: claims are kept in memory, and no other agent knows of them.",
)
.variable("CONTROL_OWNERSHIP_MODE");

/// Reads the table. `sinks` are those that could be read; `all_sinks` says whether they are all there are.
pub(super) fn read(
    mut section: Section<'_, '_, '_>,
    sinks: &BTreeMap<String, SinkConfig>,
    all_sinks: bool,
) -> Result<ControlConfig, Reported> {
    let (backend, interval) = (section.given(&BACKEND), section.value(&INTERVAL));
    let mode = section.value(&OWNERSHIP_MODE);
    let backend = backend.and_then(|backend| match backend {
        Some(backend) => has(backend, &mut section),
        None => Ok(default_backend(&section, sinks)),
    });
    let mode = mode.and_then(|mode| match (&backend, mode) {
        (Ok(Backend::Nothing | Backend::Postgres), OwnershipMode::LocalSingleConsumerSmoke) => {
            let problem = "is \"local_single_consumer_smoke\", which belongs to the Snowflake backend";
            Err(section.error(OWNERSHIP_MODE.name, problem, "use \"durable\", or take it out"))
        }
        _ => Ok(mode),
    });
    #[cfg(feature = "snowpipe")]
    if let Ok(Backend::Snowflake) = backend {
        let place = snowflake::read(&mut section, sinks, all_sinks)?;
        let is_durable = mode? == OwnershipMode::Durable;
        if !is_durable {
            section.warning(OWNERSHIP_MODE.name, SMOKE, "use \"durable\" with a hybrid table once it works");
        }
        return Ok(ControlConfig {
            backend: place.map_or(ControlBackend::Nothing, |(place, is_hybrid)| {
                ControlBackend::Snowflake(Box::new(InSnowflake { place, is_hybrid, is_durable }))
            }),
            #[cfg(feature = "postgres")]
            table: TableName::parse(postgres::TABLE_NAME).expect("it is a name"),
            interval: interval?,
        });
    }
    #[cfg(feature = "snowpipe")]
    let unused = snowflake::check(&mut section, matches!(backend, Ok(Backend::Postgres)));
    #[cfg(not(feature = "snowpipe"))]
    let unused: Result<(), Reported> = Ok(());
    #[cfg(feature = "postgres")]
    {
        let place = postgres::read(&mut section);
        let (backend, place) = (backend?, place?);
        mode?;
        unused?;
        let (table, sink) = (place.table.clone(), sinks.values().find_map(|sink| postgres::connection_of(&sink.kind)));
        let backend = match backend {
            Backend::Postgres if sink.is_none() && !place.has_host() && !all_sinks => {
                // A sink that could not be read has been reported, and may be the one.
                ControlBackend::Nothing
            }
            Backend::Postgres => ControlBackend::Postgres(Box::new(place.settings(&mut section, sink)?)),
            Backend::Nothing | Backend::Snowflake => ControlBackend::Nothing,
        };
        Ok(ControlConfig { backend, table, interval: interval? })
    }
    #[cfg(not(feature = "postgres"))]
    {
        let _ = (backend?, mode?, unused?, all_sinks);
        Ok(ControlConfig { backend: ControlBackend::Nothing, interval: interval? })
    }
}

/// Where nothing is said of it. A host is one of Postgres; a warehouse, which costs money, is what Snowflake needs for it.
#[cfg_attr(
    not(any(feature = "postgres", feature = "snowpipe")),
    expect(unused_variables, reason = "nothing in this build has a control table")
)]
fn default_backend(section: &Section<'_, '_, '_>, sinks: &BTreeMap<String, SinkConfig>) -> Backend {
    #[cfg(feature = "postgres")]
    if section.has(postgres::HOST.name) {
        return Backend::Postgres;
    }
    #[cfg(feature = "snowpipe")]
    if section.has(snowflake::LOGIN.name)
        || section.has(snowflake::WAREHOUSE.name)
            && sinks.values().any(|sink| snowflake::login_of(&sink.kind).is_some())
    {
        return Backend::Snowflake;
    }
    #[cfg(feature = "postgres")]
    if sinks.values().any(|sink| postgres::connection_of(&sink.kind).is_some()) {
        return Backend::Postgres;
    }
    Backend::Nothing
}

/// The backend, if this build has it.
fn has(backend: Backend, section: &mut Section<'_, '_, '_>) -> Result<Backend, Reported> {
    let feature = match backend {
        Backend::Postgres if cfg!(not(feature = "postgres")) => "postgres",
        Backend::Snowflake if cfg!(not(feature = "snowpipe")) => "snowpipe",
        _ => return Ok(backend),
    };
    let problem = "is one that this build of forebay lacks";
    Err(section.error(BACKEND.name, problem, format!("use a build with the feature {feature}, or \"none\"")))
}
