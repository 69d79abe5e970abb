//! Rows in a table of Snowflake by Snowpipe Streaming, each event exactly once.
//!
//! Each partition has a channel of its own ([`mod@name`]), into which its rows are appended one request after the other.
//! An append that is answered is not committed: the service says later, by the offset token ([`token`]) that came with the
//! rows, how far it has come, and delivery's checkpoint follows that ([`lane`], [`poll`]). Opening a channel discards what
//! is not committed and shuts out whoever had it open, so that what is sent again from there on cannot be there twice.
//!
//! A row that does not fit its table is left out by the service, which only counts it: what `on_row_error` says happens
//! then. The count that has been dealt with is kept with the checkpoint ([`note`]), and compared before a token is trusted.

mod check;
mod encode;
mod flights;
mod lane;
mod name;
mod note;
mod pack;
mod poll;
mod rows;
mod setup;
mod token;

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use forebay_buffer::clock::Clock;

use self::{lane::SnowpipeLane, poll::Poller};
pub use self::{
    rows::Shape,
    setup::{create_pipe, create_table},
};
use crate::{
    client::snowflake::{self as client, Identifier, Pipe, Snowflake, TableName},
    contract::{BatchLimits, BoxFuture, Finding, Lane, PartitionId, Sink, SinkError, Target},
    progress::Progress,
};

/// What the config says of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// How to reach the account.
    pub connection: client::Settings,
    /// The table that rows go into.
    pub table: TableName,
    /// The pipe of its schema that they go through.
    pub pipe: Identifier,
    /// What the names of channels begin with. `None`: the agent's id.
    pub channel: Option<String>,
    /// What a row has.
    pub shape: Shape,
    /// What to do when the service leaves a row out.
    pub on_row_error: OnRowError,
    /// Bytes of events of one partition that may be appended and not committed.
    pub max_in_flight_bytes: u64,
    /// It is asked at least so often what is committed, while something waits for that.
    pub poll_interval: Duration,
    /// Limits of what a lane hands over at a time.
    pub batch: BatchLimits,
}

/// What to do when the service has left a row out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnRowError {
    /// Stop, for an operator to see.
    #[default]
    Stop,
    /// Put the events that it may be among into the dead letters, and go on.
    DeadLetter,
}

impl Settings {
    /// Where its events go, as checkpoints name it.
    pub fn target(&self) -> Target {
        let TableName { database, schema, table } = &self.table;
        let [database, schema, table] = [database, schema, table].map(|name| name.as_str().to_owned());
        Target { database, schema, table }
    }

    /// Whether rows go through the table's own pipe, which fills columns by their names.
    fn is_by_name(&self) -> bool {
        own_pipe(&self.table.table).is_ok_and(|own| own == self.pipe)
    }

    /// Bytes of event bodies that one lane may have appended and not committed: one batch always may be.
    pub fn window_bytes(&self) -> u64 {
        self.max_in_flight_bytes.max(self.batch.max_bytes as u64)
    }
}

/// The pipe that a table has of its own: the service makes it when it is first used. The error says that its name is too
/// long.
pub fn own_pipe(table: &Identifier) -> Result<Identifier, String> {
    Identifier::exact(format!("{}-STREAMING", table.as_str()))
}

/// The sink.
pub struct Snowpipe {
    shared: Arc<Shared>,
}

struct Shared {
    settings: Settings,
    agent_id: String,
    snowflake: Arc<Snowflake>,
    pipe: Pipe,
    poller: OnceLock<Poller>,
    clock: Arc<dyn Clock>,
    progress: Arc<Progress>,
}

impl Snowpipe {
    /// Nobody is asked before the first lane resumes. The error says which file cannot be used; it may be there later.
    pub fn new(
        mut settings: Settings,
        agent_id: &str,
        clock: Arc<dyn Clock>,
        progress: Arc<Progress>,
    ) -> Result<Self, SinkError> {
        let snowflake = Snowflake::new(settings.connection.clone(), Arc::clone(&clock));
        let snowflake = snowflake.map_err(|message| SinkError::Retry { message, after: None })?;
        let TableName { database, schema, .. } = &settings.table;
        if settings.is_by_name() {
            settings.shape = settings.shape.by_name();
        }
        let pipe = Pipe::new(Arc::clone(&snowflake), database, schema, &settings.pipe);
        Ok(Self {
            shared: Arc::new(Shared {
                settings,
                agent_id: agent_id.to_owned(),
                snowflake,
                pipe,
                poller: OnceLock::new(),
                clock,
                progress,
            }),
        })
    }
}

impl Shared {
    /// What the names of the agent's own channels begin with.
    fn prefix(&self) -> &str {
        self.settings.channel.as_deref().unwrap_or(&self.agent_id)
    }

    fn poller(&self) -> &Poller {
        self.poller.get_or_init(|| Poller::new(self.pipe.clone(), self.settings.poll_interval))
    }
}

impl Sink for Snowpipe {
    fn lane(&self, partition: Arc<PartitionId>) -> Box<dyn Lane> {
        Box::new(SnowpipeLane::new(Arc::clone(&self.shared), partition))
    }

    fn window_bytes(&self) -> u64 {
        self.shared.settings.window_bytes()
    }

    fn batch_limits(&self) -> BatchLimits {
        self.shared.settings.batch
    }

    fn check(&self) -> BoxFuture<'_, Vec<Finding>> {
        Box::pin(check::check(&self.shared))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        client::snowflake::{Account, Credential},
        secret::{Secret, SecretSource},
        tls::client::ClientSettings,
    };

    fn name(text: &str) -> Identifier {
        Identifier::new(text).expect("a name")
    }

    pub(super) fn settings() -> Settings {
        let table = name("events");
        Settings {
            connection: client::Settings {
                account: Account::parse("myorg-plant", None).expect("an account"),
                user: "forebay".to_owned(),
                role: None,
                credential: Credential::AccessToken(SecretSource::Inline(Secret::new("x"))),
                tls: ClientSettings::default(),
                proxy: None,
            },
            pipe: own_pipe(&table).expect("it is short"),
            table: TableName { database: name("plant"), schema: name("public"), table },
            channel: None,
            shape: Shape::Events,
            on_row_error: OnRowError::Stop,
            max_in_flight_bytes: 8 << 20,
            poll_interval: Duration::from_millis(250),
            batch: BatchLimits { max_events: 10_000, max_bytes: 1 << 20 },
        }
    }

    #[test]
    fn the_target_bears_the_names_that_the_service_has() {
        let Target { database, schema, table } = settings().target();
        assert_eq!([database, schema, table], ["PLANT", "PUBLIC", "EVENTS"]);
        assert_eq!(settings().pipe.as_str(), "EVENTS-STREAMING");
    }
}
