//! The vendor's SDK and the agent stream one hub into one table: what they write is the same, and each goes on where the
//! other has ended.

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
};

use forebay_tests::{
    harness::{Gateway, wait_until},
    judge::{HUB, Namespace, Sdk},
    servers::CommittedRow,
    vendor::Judged,
};
use serde_json::{Value, json};

use crate::site::{Site, TABLE, gateway, prepare};

/// The generation that the SDK's tokens say, as if another agent had written them.
const GENERATION: &str = "000000000000000000000000feedbeef";
const PARTITION: &str = "0";
/// A channel of the SDK's own.
const OTHER: &str = "VENDOR";
/// Events that are sent at a time.
const SOME: usize = 50;

/// A hub with one partition, and the account that two stream it into.
struct Plant {
    space: Namespace,
    account: Judged,
    gateway: Gateway,
    sent: Cell<usize>,
}

impl Plant {
    fn new() -> Self {
        let space = Namespace::with(&json!({ "partitions": 1 }));
        let account = Judged::start();
        prepare(&account);
        let source = format!(
            "type = \"eventhub\"\nhub = \"{HUB}\"\nconnection_string = \"{}\"\npartitions = \"balanced\"\n\
             load_balancing_interval = \"1s\"\npartition_ownership_expiration_interval = \"3s\"",
            space.hubs.connection_string()
        );
        let gateway = gateway(&account, "gw-a", &[(HUB.to_owned(), source)]);
        Self { space, account, gateway, sent: Cell::new(0) }
    }

    /// The hub gets some more events, with properties of every type.
    fn send(&self) {
        Sdk::Python.run(&self.space, "amqp", &["numbered", &SOME.to_string()]);
        self.sent.set(self.sent.get() + SOME);
    }

    /// Lets the SDK go on in a channel, and returns the token that it has then.
    fn vendor_writes(&self, channel: &str) -> Value {
        let hub = format!("http://127.0.0.1:{}/hubs/{HUB}", self.space.hubs.ports().control);
        self.account.judge(&["writes", channel, &hub, PARTITION, GENERATION]).remove(0)
    }

    /// The agent's own channel, once there is one.
    fn channel(&self) -> Option<String> {
        self.account.channels().into_iter().map(|channel| channel.channel_name).find(|name| name != OTHER)
    }

    fn rows_of(&self, channel: &str) -> Vec<CommittedRow> {
        let rows = self.account.rows(TABLE, 0).into_iter();
        rows.filter(|row| row.channel == channel).collect()
    }

    /// The agent runs until all that was sent is in its channel, and returns the name of that.
    fn agent_writes(&self) -> String {
        let mut site = Site::new(&self.gateway);
        site.start();
        let channel = self.is_in_agents_channel();
        site.terminate();
        channel
    }

    fn is_in_agents_channel(&self) -> String {
        wait_until("the events to come", || {
            self.channel().is_some_and(|channel| self.rows_of(&channel).len() >= self.sent.get())
        });
        self.channel().expect("it was there")
    }

    /// Each event that was sent is in the channel once and in order.
    #[track_caller]
    fn is_complete(&self, channel: &str) {
        let numbers = self.rows_of(channel).into_iter().map(|row| row.values["SEQUENCE_NUMBER"].as_u64());
        assert_eq!(numbers.collect::<Vec<_>>(), (0..self.sent.get() as u64).map(Some).collect::<Vec<_>>());
    }
}

/// But for when it was sent, which both say in the same form.
fn without_ingestion(row: CommittedRow) -> Value {
    let mut values = row.values;
    let time = values.as_object_mut().and_then(|row| row.remove("INGESTION_TIMESTAMP"));
    let form: Option<String> =
        time.as_ref().and_then(Value::as_str).map(|time| time.replace(|c: char| c.is_ascii_digit(), "0"));
    assert_eq!(form.as_deref(), Some("0000-00-00T00:00:00.000000Z"));
    values
}

/// What a token says, but for who has written it.
fn said(token: &str) -> BTreeMap<&str, &str> {
    let names = ["program", "version", "generation", "tag", "offset", "errors"];
    let mut said: BTreeMap<_, _> = names.into_iter().zip(token.split('/')).collect();
    assert_eq!((said.len(), said.remove("generation").map(str::len)), (6, Some(32)), "{token}");
    said
}

#[test]
fn the_vendors_sdk_and_the_agent_write_the_same_rows_and_tokens() {
    for agent_is_first in [true, false] {
        let plant = Plant::new();
        plant.send();
        let (channel, token) = if agent_is_first {
            let channel = plant.agent_writes();
            (channel, plant.vendor_writes(OTHER))
        } else {
            let token = plant.vendor_writes(OTHER);
            (plant.agent_writes(), token)
        };
        let [agents, vendors] = [&channel, OTHER].map(|channel| {
            plant.is_complete(channel);
            plant.rows_of(channel).into_iter().map(without_ingestion).collect::<Vec<_>>()
        });
        assert_eq!(agents, vendors);
        // And as statements find them, with the types of the columns.
        let distinct = plant.account.sql(&format!(
            "SELECT DISTINCT TYPEOF(EVENT_BODY), EVENT_BODY, PARTITION_ID, SEQUENCE_NUMBER, ENQUEUED_TIME, \
             TYPEOF(PROPERTIES), PROPERTIES, TYPEOF(SYSTEM_PROPERTIES), SYSTEM_PROPERTIES FROM {TABLE}"
        ));
        assert_eq!(distinct.len(), plant.sent.get(), "{distinct:?}");

        // The SDK reads what the agent has sent last, and what it has committed itself says the same.
        let told = plant.account.judge(&["tells", &channel]).remove(0);
        let sent = plant.rows_of(&channel).pop().and_then(|row| row.end).expect("it has a token");
        assert_eq!(told, json!({ "status": "SUCCESS", "committed": sent, "rows": plant.sent.get(), "errors": 0 }));
        assert_eq!(said(&sent), said(token.as_str().expect("a token")));
    }
}

#[test]
fn the_vendors_sdk_and_the_agent_go_on_in_one_channel_where_the_other_has_ended() {
    let plant = Plant::new();
    plant.send();
    let mut site = Site::new(&plant.gateway);
    site.start();
    let channel = plant.is_in_agents_channel();
    // The SDK takes the channel from the agent that runs: it gets it back, for it owns the partition.
    let opened = || plant.account.channels()[0].client_sequencer;
    let before = opened();
    let token = plant.account.judge(&["takes", &channel]).remove(0);
    assert_eq!(token.as_str(), plant.rows_of(&channel).pop().and_then(|row| row.end).as_deref());
    assert_eq!(opened(), before + 1, "the agent has no reason yet to open it");
    plant.send();
    plant.is_in_agents_channel();
    assert!(opened() > before + 1);
    plant.is_complete(&channel);

    // It takes it while something of the agent's is not committed, which is gone by that.
    plant.account.set(&json!({ "hold_commits": true }));
    plant.send();
    wait_until("an append to wait", || plant.account.channels()[0].pending > 0);
    plant.account.judge(&["takes", &channel]);
    plant.account.set(&json!({ "hold_commits": false }));
    plant.send();
    plant.is_in_agents_channel();
    plant.is_complete(&channel);

    // The SDK goes on behind the agent, and the agent behind the SDK.
    site.terminate();
    plant.send();
    let token = plant.vendor_writes(&channel);
    assert!(token.as_str().is_some_and(|token| token.contains(GENERATION)), "{token}");
    plant.is_complete(&channel);
    plant.send();
    assert_eq!(plant.agent_writes(), channel);
    plant.is_complete(&channel);
    let writers: BTreeSet<_> =
        plant.rows_of(&channel).into_iter().map(|row| row.end.map(|end| end[..42].to_owned())).collect();
    assert_eq!(writers.len(), 2, "{writers:?}");
}
