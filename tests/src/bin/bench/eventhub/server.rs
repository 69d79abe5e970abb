//! What the clients talk to: the emulator, or the peer.

use std::time::Duration;

use forebay_tests::servers::EventHubs;
use serde_json::{Value, json};

use super::{HUB, PARTITIONS, client::Client, peer::Peer};

/// Batches that the emulator is filled with.
const FILL: u64 = 1_000;

/// A namespace with one hub.
pub(super) enum Server {
    Emulator(EventHubs),
    Peer(Peer),
}

impl Server {
    /// One whose hub has so many events for its consumers, in equal parts.
    pub(super) fn start(emulator: bool, delay: Duration, events: u64) -> Self {
        if !emulator {
            return Self::Peer(Peer::start(PARTITIONS, events / PARTITIONS as u64, delay));
        }
        let hubs = EventHubs::start();
        hubs.make_hub(HUB, &json!({ "partitions": PARTITIONS }));
        let server = Self::Emulator(hubs);
        if events > 0 {
            let mut filling = Client::bare("send", &server, &[events, FILL, 1]);
            assert!(filling.is_done(), "it says when all is sent");
            filling.end();
        }
        if let Self::Emulator(hubs) = &server {
            hubs.set(&json!({ "acknowledge_delay_ms": u64::try_from(delay.as_millis()).expect("it is short") }));
        }
        server
    }

    pub(super) fn port(&self) -> u16 {
        match self {
            Self::Emulator(hubs) => hubs.ports().amqp,
            Self::Peer(peer) => peer.port(),
        }
    }

    /// As the emulator has it, without TLS; the peer does not look at it.
    pub(super) fn connection_string(&self) -> String {
        format!(
            "Endpoint=sb://localhost:{};SharedAccessKeyName={};SharedAccessKey={};UseDevelopmentEmulator=true",
            self.port(),
            EventHubs::RULE,
            EventHubs::KEY
        )
    }

    /// Events that it has taken from producers.
    pub(super) fn taken(&self) -> u64 {
        match self {
            Self::Peer(peer) => peer.taken(),
            Self::Emulator(hubs) => {
                let hub = hubs.ask("GET", &format!("/hubs/{HUB}"), &Value::Null);
                sum(&hub["partitions"], "next")
            }
        }
    }

    /// Events that it has given to consumers.
    pub(super) fn given(&self) -> u64 {
        match self {
            Self::Peer(peer) => peer.given(),
            Self::Emulator(hubs) => {
                let connections = hubs.ask("GET", "/connections", &Value::Null);
                let connections = connections.as_array().expect("a list of connections");
                let links =
                    connections.iter().flat_map(|connection| connection["links"].as_array().expect("its links"));
                let consumers: Value = links.filter(|link| link["role"] == "consumer").cloned().collect();
                sum(&consumers, "events")
            }
        }
    }
}

fn sum(items: &Value, field: &str) -> u64 {
    let items = items.as_array().expect("a list");
    items.iter().map(|item| item[field].as_u64().expect("a count")).sum()
}
