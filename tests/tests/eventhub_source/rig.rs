//! A namespace, a server, and a gateway between them.

use std::collections::BTreeMap;

use forebay::{
    client::eventhub::Batch,
    client::postgres::{OwnershipTable, StatusTable, TableName},
    contract::KeptBy,
};
use forebay_tests::{
    harness::{Agent, Gateway, comes_true, wait_until},
    hub::Producer,
    judge::{HUB, Namespace},
    random::Random,
    servers::{EventHubs, Postgres, StoredEvent},
};
use serde::Deserialize;
use serde_json::{Value, json};

/// Where rows go. The first column tells their order.
const TABLE: &str = "CREATE TABLE events (nr bigserial, stream text, partition text, \"offset\" bigint, time timestamptz, \
                     key text, headers jsonb, body jsonb)";

/// See the module.
pub(crate) struct Rig {
    pub(crate) space: Namespace,
    pub(crate) postgres: Postgres,
    pub(crate) gateway: Gateway,
    producer: Producer,
    /// How many events each partition has been sent.
    sent: BTreeMap<String, u64>,
}

/// A row as it stands in the table.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct Row {
    pub(crate) partition: String,
    pub(crate) offset: i64,
    pub(crate) time_ms: i64,
    pub(crate) key: Option<String>,
    pub(crate) headers: Value,
    pub(crate) body: Value,
    pub(crate) has_body: bool,
}

impl Rig {
    /// One whose hub has so many partitions.
    pub(crate) fn new(partitions: u32) -> Self {
        Self::with(&json!({ "partitions": partitions }))
    }

    /// One whose hub is made with these options.
    pub(crate) fn with(options: &Value) -> Self {
        let (space, postgres) = (Namespace::with(options), Postgres::start());
        postgres.psql(&format!("{TABLE}; {}", control()));
        let producer = Producer::new(&space.hubs.connection_string(), HUB);
        Self { space, postgres, gateway: Gateway::new(), producer, sent: BTreeMap::new() }
    }

    /// The namespace.
    pub(crate) fn hubs(&self) -> &EventHubs {
        &self.space.hubs
    }

    /// Writes the config: `source` is added to the source's settings.
    pub(crate) fn configure(&self, source: &str) {
        let place = format!("connection_string = \"{}\"\n", self.hubs().connection_string());
        self.configure_at(&place, source, "");
    }

    /// The same, with another way to the hub, and with `rest` besides.
    pub(crate) fn configure_at(&self, place: &str, source: &str, rest: &str) {
        self.gateway.configure(&config(place, source, self.postgres.port(), rest));
    }

    /// Sends so many events to a partition, numbered on from those that were sent before.
    pub(crate) fn send(&mut self, partition: &str, events: u64) {
        let sent = self.sent.entry(partition.to_owned()).or_default();
        let numbers: Vec<u64> = (*sent..*sent + events).collect();
        *sent += events;
        for some in numbers.chunks(1_000) {
            self.producer.send(partition, some.iter().map(|number| format!("\"{partition}/{number}\"")));
        }
    }

    /// Sends one event of this size, which cannot be compressed.
    pub(crate) fn send_large(&mut self, partition: &str, bytes: usize) {
        let mut random = Random::new(bytes as u64);
        let body: Vec<u8> = std::iter::repeat_with(|| random.bits() as u8).take(bytes).collect();
        self.producer.send(partition, [body]);
    }

    /// Sends one event whose body is lists, one in the other.
    pub(crate) fn send_nested(&mut self, partition: &str, depth: usize) {
        let mut body = vec![0x45];
        for _ in 1..depth {
            let size = u32::try_from(body.len() + 4).expect("it is short").to_be_bytes();
            body = [&[0xd0][..], &size, &[0, 0, 0, 1], &body].concat();
        }
        let mut batch = Batch::default();
        batch.push([&[0x00, 0x53, 0x77][..], &body].concat());
        self.producer.send_batch(partition, &batch);
    }

    /// What the hub holds.
    pub(crate) fn stored(&self) -> Vec<StoredEvent> {
        self.hubs().all_stored(HUB)
    }

    /// How many rows there are.
    pub(crate) fn count(&self) -> usize {
        self.postgres.psql("SELECT count(*) FROM events").parse().expect("a count is a number")
    }

    /// The table, in the order in which its rows were inserted.
    pub(crate) fn rows(&self) -> Vec<Row> {
        let rows = self.postgres.psql(
            "SELECT json_build_object('partition', partition, 'offset', \"offset\", 'time_ms', (extract(epoch FROM \
             time) * 1000)::bigint, 'key', key, 'headers', headers, 'body', body, 'has_body', body IS NOT NULL) FROM events ORDER BY nr",
        );
        rows.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"))).collect()
    }

    /// Waits until all that the hub holds has come, and judges it.
    pub(crate) fn all_comes(&self) {
        self.comes(&self.stored());
    }

    /// Waits until these have come, and judges whether each is a row, once, in order, and nothing else is.
    pub(crate) fn comes(&self, events: &[StoredEvent]) {
        // If it does not, the judgement has more to say.
        comes_true(|| self.count() >= events.len());
        let mut wanted: BTreeMap<&str, Vec<i64>> = BTreeMap::new();
        for event in events {
            wanted.entry(&event.partition).or_default().push(event.sequence_number);
        }
        let rows = self.rows();
        let mut there: BTreeMap<&str, Vec<i64>> = BTreeMap::new();
        for row in &rows {
            there.entry(&row.partition).or_default().push(row.offset);
        }
        let partitions: Vec<_> = there.keys().chain(wanted.keys()).copied().collect();
        for partition in partitions {
            let (wanted, there) = (wanted.get(partition), there.get(partition));
            assert!(wanted == there, "partition {partition}: {}", difference(wanted, there));
        }
    }

    /// What the control table says of a partition: its number, and its metadata.
    pub(crate) fn checkpoint(&self, partition: &str) -> Option<(i64, Value)> {
        let row = self.postgres.psql(&format!(
            "SELECT json_build_array(waterlevel, metadata) FROM ingestion_status WHERE partition_id = '{partition}'"
        ));
        (!row.is_empty()).then(|| serde_json::from_str(&row).expect("JSON"))
    }

    /// The links that the hub has now, or had.
    fn links(&self) -> impl Iterator<Item = Value> {
        let connections = self.hubs().ask("GET", "/connections", &Value::Null);
        let live = connections.as_array().expect("a list").iter().filter(|one| one["ended"] == false);
        let links: Vec<_> = live.flat_map(|one| one["links"].as_array().cloned().unwrap_or_default()).collect();
        links.into_iter()
    }

    /// How often the hub was asked about itself over the connections that it has now.
    pub(crate) fn questions(&self) -> u64 {
        let management = self.links().filter(|link| link["role"] == "requests" && link["node"] == "$management");
        management.map(|link| link["requests"].as_u64().expect("a count")).sum()
    }

    /// Consumers that the hub has now: of which partition, and how many events each was sent.
    pub(crate) fn consumers(&self) -> Vec<(String, u64)> {
        self.links()
            .filter(|link| link["role"] == "consumer" && link["ended"] == false)
            .map(|link| {
                let partition = link["partition"].as_str().expect("a consumer has a partition").to_owned();
                (partition, link["events"].as_u64().expect("a count"))
            })
            .collect()
    }

    /// Waits until just these partitions are being read.
    pub(crate) fn are_read(&self, partitions: &[&str]) {
        wait_until("the partitions to be read", || {
            let mut read: Vec<_> = self.consumers().into_iter().map(|(partition, _)| partition).collect();
            read.sort();
            read == partitions
        });
    }
}

/// Creates the table of checkpoints, and the one of claims.
fn control() -> String {
    let name = TableName::parse("ingestion_status").expect("a name");
    let claims = OwnershipTable::beside(&name).expect("a short name").create();
    format!("{}; {claims}", StatusTable { name, kept_by: KeptBy::Sink }.create())
}

/// A source `hub` and a sink `warehouse`.
pub(crate) fn config(place: &str, source: &str, postgres: u16, rest: &str) -> String {
    format!(
        r#"
[sources.hub]
type = "eventhub"
hub = "{HUB}"
{place}
{source}

[sinks.warehouse]
type = "postgres"
inputs = ["hub"]
url = "postgresql://{user}@127.0.0.1:{postgres}/postgres?sslmode=disable"
table = "events"

{rest}
"#,
        user = Postgres::USER,
    )
}

/// Waits until the source says something that has all of these in it.
#[track_caller]
pub(crate) fn says(agent: &Agent, words: &[&str]) {
    let mut said = String::new();
    let comes = comes_true(|| {
        said = agent.status()["sources"][0]["condition"].to_string();
        words.iter().all(|word| said.contains(word))
    });
    assert!(comes, "it does not say {words:?}, but: {said}");
}

fn difference(wanted: Option<&Vec<i64>>, there: Option<&Vec<i64>>) -> String {
    let (wanted, there) = (wanted.map_or(&[][..], Vec::as_slice), there.map_or(&[][..], Vec::as_slice));
    let at = wanted.iter().zip(there).position(|(wanted, there)| wanted != there);
    let at = at.unwrap_or_else(|| wanted.len().min(there.len()));
    let some = |numbers: &[i64]| format!("{:?}", numbers.iter().skip(at).take(10).collect::<Vec<_>>());
    format!(
        "{} rows of {} events; from row {at} on {} instead of {}",
        there.len(),
        wanted.len(),
        some(there),
        some(wanted)
    )
}
