//! A sink before a server, and a lane as delivery would drive it.

use std::{sync::Arc, time::Duration};

use forebay::{
    client::postgres::{Identifier, StatusTable, TableName, Url},
    clock::SystemClock,
    contract::{
        Batch, BatchLimits, Destination, KeptBy, Lane, Local, PartitionId, Progress, Refusal, Resumed, Sink, SinkError,
    },
    progress,
    sink::{
        postgres::{Postgres as PostgresSink, Settings, create_table, default_mapping},
        source::Source,
    },
};
use forebay_buffer::{Checkpoint, Event, Generation, Numbering, Offset, Tag, Timestamp};
use forebay_tests::servers::Postgres;

/// 2023-11-14T22:13:20.123456Z.
pub(crate) const TIME: Timestamp = Timestamp(1_700_000_000_123_456);

pub(crate) fn at(offset: i64) -> Checkpoint {
    Checkpoint { generation: Generation(0xabc), tag: Tag(0x12), offset: Offset(offset) }
}

pub(crate) fn event(body: impl Into<String>) -> Event {
    Event::new(TIME, body.into())
}

pub(crate) fn name(text: &str) -> Identifier {
    Identifier::parse(text).expect("a name")
}

/// Settings for a sink into the table `t`.
pub(crate) fn settings(url: &str) -> Settings {
    let mut connection = Url::parse(url).and_then(Url::settings).expect("a URL");
    connection.connect_timeout = Duration::from_secs(10);
    Settings {
        connection,
        table: TableName::parse("t").expect("a name"),
        mapping: default_mapping(),
        key: Vec::new(),
        batch: BatchLimits { max_events: 10_000, max_bytes: 1 << 20 },
    }
}

/// The same with other columns, and a key for an upsert.
pub(crate) fn with_columns(settings: Settings, columns: &[(&str, &str)], key: &[&str]) -> Settings {
    let mapping = columns.iter().map(|(column, source)| (name(column), Source::parse(source).expect("a source")));
    Settings { mapping: mapping.collect(), key: key.iter().map(|key| name(key)).collect(), ..settings }
}

fn checkpoints() -> TableName {
    TableName::parse("ingestion_status").expect("a name")
}

pub(crate) fn sink(settings: Settings) -> PostgresSink {
    PostgresSink::new(settings, "gw-1", checkpoints(), Arc::new(SystemClock::new()), progress::Progress::new("sink t"))
}

/// Creates what a sink of these settings needs.
pub(crate) fn set_up(postgres: &Postgres, settings: &Settings) {
    let (schema, checkpoints) = (&settings.table.schema, StatusTable { name: checkpoints(), kept_by: KeptBy::Sink });
    let statements = [format!("CREATE SCHEMA IF NOT EXISTS {schema}"), create_table(settings), checkpoints.create()];
    postgres.psql(&statements.join(";\n"));
}

/// A server with what `settings` need, and the sink.
pub(crate) fn server_with(change: impl FnOnce(Settings) -> Settings) -> (Postgres, PostgresSink) {
    let postgres = Postgres::start();
    let settings = change(settings(&format!("{}?sslmode=disable", postgres.url())));
    set_up(&postgres, &settings);
    (postgres, sink(settings))
}

/// One partition's lane, and where it stands.
pub(crate) struct Stream {
    lane: Box<dyn Lane>,
    pub(crate) expected: Option<Checkpoint>,
    next: i64,
}

impl Stream {
    pub(crate) fn new(sink: &PostgresSink, partition: &str) -> Self {
        Self::of(
            sink,
            PartitionId {
                stream: "line1".into(),
                renamed_from: None,
                name: partition.into(),
                numbering: Numbering::Assigned,
                hub: None,
            },
        )
    }

    pub(crate) fn of(sink: &PostgresSink, partition: PartitionId) -> Self {
        Self { lane: sink.lane(Arc::new(partition)), expected: None, next: 1 }
    }

    /// Asks the destination what it has, and goes on from there.
    pub(crate) async fn resume(&mut self) -> Result<Option<Checkpoint>, SinkError> {
        let Resumed { destination, refusals, note } =
            self.lane.resume(Local { generation: Generation(1), checkpoint: None, note: None }).await?;
        assert_eq!((refusals, note), (Vec::new(), None));
        self.expected = match destination {
            Destination::At(checkpoint) => Some(checkpoint),
            Destination::Nothing => None,
            other => panic!("a database always knows what it has, and not {other:?}"),
        };
        self.next = self.expected.map_or(1, |checkpoint| checkpoint.offset.0 + 1);
        Ok(self.expected)
    }

    /// Asks until the destination answers.
    pub(crate) async fn resume_in_time(&mut self) -> Option<Checkpoint> {
        let deadline = std::time::Instant::now() + Duration::from_secs(60);
        loop {
            match self.resume().await {
                Ok(found) => return found,
                Err(SinkError::Stop(message) | SinkError::Fenced(message)) => panic!("{message}"),
                Err(error) => assert!(std::time::Instant::now() < deadline, "it does not come back: {error}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) fn batch(&self, events: Vec<Event>) -> Batch {
        let events: Vec<_> = (self.next..).map(Offset).zip(events).collect();
        let last = events.last().expect("a batch has events").0;
        Batch { events, skipped: Vec::new(), expected: self.expected, through: at(last.0), tags: Vec::new() }
    }

    /// Delivers once.
    pub(crate) async fn deliver(&mut self, batch: &Batch) -> Result<Progress, SinkError> {
        let progress = self.lane.deliver(Arc::new(batch.clone())).await?;
        assert_eq!(progress.confirmed.is_none(), !progress.refusals.is_empty(), "{progress:?}");
        if let Some(confirmed) = progress.confirmed {
            assert_eq!(confirmed, batch.through);
            (self.expected, self.next) = (Some(confirmed), confirmed.offset.0 + 1);
        }
        Ok(progress)
    }

    /// Delivers again and again, with what is refused among the skipped, until all is confirmed. Returns what was.
    pub(crate) async fn deliver_all(&mut self, events: Vec<Event>) -> Result<Vec<Refusal>, SinkError> {
        let mut batch = self.batch(events);
        let mut refused = Vec::new();
        loop {
            let progress = self.deliver(&batch).await?;
            if progress.confirmed.is_some() {
                refused.sort_by_key(|refusal: &Refusal| refusal.offset);
                return Ok(refused);
            }
            for refusal in &progress.refusals {
                assert!(!batch.skipped.contains(&refusal.offset), "{refusal:?} was refused before");
                assert!(batch.events.iter().any(|(offset, _)| *offset == refusal.offset), "{refusal:?} is not there");
                batch.skipped.push(refusal.offset);
            }
            batch.skipped.sort_unstable();
            refused.extend(progress.refusals);
        }
    }
}

/// Offsets and codes.
pub(crate) fn codes(refusals: &[Refusal]) -> Vec<(i64, &str)> {
    refusals.iter().map(|refusal| (refusal.offset.0, refusal.code.as_str())).collect()
}
