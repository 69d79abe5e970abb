//! An account with a table, a sink into it, and gateways that deliver there.

use std::{collections::BTreeMap, ops::Deref, sync::Arc, time::Duration};

use forebay::{
    client::snowflake::{self as client, Account as Name, Credential, Identifier, Pipe, TableName},
    clock::SystemClock,
    contract::{Batch, BatchLimits, Lane, Local, PartitionId, Sink, Target},
    control::snowflake::{Place, Snowflake as Table, StatusTable},
    delivery::ControlTable,
    progress::Progress,
    secret::{Secret, SecretSource},
    sink::snowpipe::{OnRowError, Settings, Shape, Snowpipe, create_table, own_pipe},
    tls::client::ClientSettings,
};
use forebay_buffer::{Checkpoint, Event, Generation, Numbering, Offset, Tag, Timestamp};
use forebay_tests::{
    servers::{ChannelState, CommittedRow, Snowflake},
    sinks::{Gateway, PATIENCE},
};
use serde_json::{Value, json};

/// The stream that gateways deliver, and the sink that takes it.
pub(crate) const STREAM: &str = "s";
pub(crate) const SINK: &str = "lake";
/// Its partition, as delivery calls it.
pub(crate) const LANE: &str = "s/0";
const TOKEN: &str = "let-me-in";

pub(crate) struct Account(Snowflake);

impl Deref for Account {
    type Target = Snowflake;

    fn deref(&self) -> &Snowflake {
        &self.0
    }
}

impl Account {
    /// With the table, and a user who may do everything.
    pub(crate) fn new() -> Self {
        let account = Self(Snowflake::start());
        let user = json!({ "pats": [TOKEN], "roles": ["ACCOUNTADMIN"], "default_role": "ACCOUNTADMIN" });
        account.make_user("FOREBAY", &user);
        account.sql("CREATE DATABASE PLANT");
        account.sql(&create_table(&account.settings()).expect("columns that are known"));
        account
    }

    /// What was asked, and how it was answered.
    pub(crate) fn requests(&self, operation: &str) -> Vec<Value> {
        let requests = self.ask("GET", "/requests", &Value::Null);
        let requests = requests.as_array().expect("a list").iter();
        requests.filter(|request| request["operation"] == operation).cloned().collect()
    }

    /// Requests that are appended and not committed.
    pub(crate) fn pending(&self) -> usize {
        self.channels().iter().map(|channel| channel.pending).sum()
    }

    /// The only channel there is.
    pub(crate) fn channel(&self) -> ChannelState {
        let [channel] = &self.channels()[..] else { panic!("{:?}", self.channels()) };
        channel.clone()
    }

    /// The offset that its token comes to.
    pub(crate) fn committed(&self) -> Option<Offset> {
        offset(&self.channel().last_committed_offset_token?)
    }

    /// All rows, in the order in which they were committed.
    pub(crate) fn all_rows(&self) -> Vec<CommittedRow> {
        self.rows("PLANT.PUBLIC.EVENTS", 0)
    }

    /// The bodies, by partition, in their order.
    pub(crate) fn bodies(&self) -> BTreeMap<String, Vec<String>> {
        let mut bodies: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for row in self.all_rows() {
            // Names are in upper case, but where the test itself has written the row.
            let value = |name: &str| row.values.get(name.to_ascii_uppercase()).unwrap_or(&row.values[name]).clone();
            let text = |name: &str| value(name).as_str().expect("a text").to_owned();
            bodies.entry(text("partition_id")).or_default().push(text("event_body"));
        }
        bodies
    }

    pub(crate) async fn until_rows(&self, count: usize) {
        until(&format!("{count} rows"), || self.all_rows().len() >= count).await;
    }

    /// The numbers in partition `0` are these, each once and in order.
    #[track_caller]
    pub(crate) fn holds(&self, numbers: impl IntoIterator<Item = u64>) {
        let expected: Vec<_> = numbers.into_iter().map(|number| number.to_string()).collect();
        assert_eq!(self.bodies().remove("0").unwrap_or_default(), expected);
    }

    pub(crate) fn settings(&self) -> Settings {
        let name = |text: &str| Identifier::new(text).expect("a name");
        let table = TableName { database: name("plant"), schema: name("public"), table: name("events") };
        Settings {
            connection: client::Settings {
                account: Name::parse("testacct", Some(&self.url())).expect("an account"),
                user: "forebay".to_owned(),
                role: None,
                credential: Credential::AccessToken(SecretSource::Inline(Secret::new(TOKEN))),
                tls: ClientSettings::default(),
                proxy: None,
            },
            pipe: own_pipe(&table.table).expect("it is short"),
            table,
            channel: None,
            shape: Shape::Events,
            on_row_error: OnRowError::Stop,
            max_in_flight_bytes: 1 << 20,
            poll_interval: Duration::from_millis(100),
            batch: BatchLimits { max_events: 20, max_bytes: 64 << 10 },
        }
    }

    /// The sink of the agent `gw-1`.
    pub(crate) fn sink(&self) -> Arc<dyn Sink> {
        sink(self.settings(), "gw-1")
    }

    /// A control table beside it.
    pub(crate) fn control(&self) -> ControlTable {
        let Settings { connection, table, .. } = self.settings();
        let target = Target { database: "PLANT".into(), schema: "PUBLIC".into(), table: "EVENTS".into() };
        let table = TableName { table: Identifier::new("ingestion_status").expect("a name"), ..table };
        self.sql(&format!("CREATE WAREHOUSE IF NOT EXISTS SMALL; {}", StatusTable(&table).create(false)));
        let place = Place { connection, warehouse: Identifier::new("small").expect("a name"), table };
        let control = Arc::new(Table::new(place, Arc::new(SystemClock::new())));
        ControlTable { control, agent_id: "gw".to_owned(), target, interval: Duration::from_millis(50) }
    }

    /// How far the only row of it is.
    pub(crate) fn waterlevel(&self) -> Option<i64> {
        let rows = self.sql("SELECT WATERLEVEL FROM PLANT.PUBLIC.INGESTION_STATUS");
        rows.first()?.first()?.as_deref()?.parse().ok()
    }

    /// The pipe, for who meddles with it.
    pub(crate) fn pipe(&self) -> Pipe {
        let Settings { connection, table, pipe, .. } = self.settings();
        let snowflake = client::Snowflake::new(connection, Arc::new(SystemClock::new())).expect("it asks nobody");
        Pipe::new(snowflake, &table.database, &table.schema, &pipe)
    }
}

pub(crate) fn sink(settings: Settings, agent_id: &str) -> Arc<dyn Sink> {
    let sink = Snowpipe::new(settings, agent_id, Arc::new(SystemClock::new()), Progress::new("sink lake"));
    Arc::new(sink.expect("settings that can be used"))
}

/// The lane of partition `0`, of a buffer that has delivered nothing.
pub(crate) async fn opened(sink: &dyn Sink) -> Box<dyn Lane> {
    let mut lane = sink.lane(Arc::new(PartitionId {
        stream: STREAM.to_owned(),
        renamed_from: None,
        name: "0".to_owned(),
        numbering: Numbering::Assigned,
        hub: None,
    }));
    let nothing = Local { generation: GENERATION, checkpoint: None, note: None };
    lane.resume(nothing).await.expect("it opens");
    lane
}

const GENERATION: Generation = Generation(1);

/// A batch of one of its events.
pub(crate) fn batch(number: i64) -> Arc<Batch> {
    Arc::new(Batch {
        events: vec![(Offset(number), Event::new(Timestamp(1), number.to_string()))],
        skipped: Vec::new(),
        expected: None,
        through: Checkpoint { generation: GENERATION, tag: Tag(1), offset: Offset(number) },
        tags: Vec::new(),
    })
}

/// The offset of a token.
pub(crate) fn offset(token: &str) -> Option<Offset> {
    token.split('/').nth(4)?.parse().ok().map(Offset)
}

pub(crate) fn gateway() -> Gateway {
    let gateway = Gateway::default();
    gateway.stream(STREAM);
    gateway.sink(SINK, &[STREAM]);
    gateway
}

/// Delivers until so many rows are there, and stops in order.
pub(crate) async fn deliver_until(gateway: &Gateway, account: &Account, rows: usize) {
    let running = gateway.deliver(SINK, &[STREAM], account.sink());
    account.until_rows(rows).await;
    running.stop().await;
}

/// What the buffer says was confirmed from it of a partition: its last offset, and whether that is all.
pub(crate) fn confirmed(gateway: &Gateway, partition: &str, numbering: Numbering) -> (Option<Offset>, bool) {
    let partition = gateway.buffer.partition(STREAM, partition, numbering).expect("it is there");
    let subscription = gateway.buffer.subscription(SINK, &partition).expect("the sink takes it");
    let is_ours = |checkpoint: &Checkpoint| checkpoint.generation == gateway.buffer.generation();
    let confirmed = subscription.checkpoint().filter(is_ours).map(|checkpoint| checkpoint.offset);
    (confirmed, confirmed == Some(partition.high_water()))
}

/// Waits until it holds.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(2 * PATIENCE, wait).await.unwrap_or_else(|_| panic!("waited in vain for {what}"));
}
