//! The agent itself, from a producer's acknowledgement to the hub, killed on the way.

use std::collections::{BTreeMap, BTreeSet};

use forebay_tests::{
    harness::{Gateway, wait_until},
    servers::{EventHubs, StoredEvent},
};
use serde_json::{Value, json};

use super::rig::{HUB, namespace};

const CONFIG: &str = r#"
[sources.line]
type = "http"
listen = "{http}"
path = "/events"

[sinks.cloud]
type = "eventhub"
inputs = ["line"]
connection_string = "{place}"
hub = "plant"
"#;
const BATCH: usize = 50;
const BATCHES: usize = 60;

fn ids(stored: &[StoredEvent]) -> Vec<u64> {
    let id = |event: &StoredEvent| {
        let body: Value = serde_json::from_slice(event.body.as_deref().expect("a body")).expect("JSON");
        body["id"].as_u64().expect("a number")
    };
    stored.iter().map(id).collect()
}

#[test]
fn what_was_acknowledged_is_in_the_hub_in_order_though_the_agent_is_killed() {
    let hubs: EventHubs = namespace(4);
    let gateway = Gateway::new();
    gateway.configure(&CONFIG.replace("{place}", &hubs.connection_string()));
    let mut agent = gateway.start();
    for batch in 0..BATCHES {
        let lines: String = (0..BATCH).map(|at| format!("{}\n", json!({ "id": batch * BATCH + at }))).collect();
        let headers = [("content-type", "application/x-ndjson")];
        let answer = gateway.producer().post("/events", &headers, lines.as_bytes()).expect("the agent answers");
        assert_eq!(answer.status, 202, "{}", answer.body);
        match batch % 15 {
            // What follows is sent and not acknowledged when the agent dies.
            4 => hubs.set(&json!({ "acknowledge_delay_ms": 300 })),
            9 => {
                agent.kill_9();
                hubs.set(&json!({ "acknowledge_delay_ms": 0 }));
                agent = gateway.start();
            }
            _ => {}
        }
    }
    let wanted: BTreeSet<_> = (0..(BATCH * BATCHES) as u64).collect();
    wait_until("all to be in the hub", || {
        ids(&hubs.all_stored(HUB)).into_iter().collect::<BTreeSet<_>>().len() == wanted.len()
    });
    assert!(agent.terminate().success());
    let stored = hubs.all_stored(HUB);
    let mut seen: BTreeMap<u64, String> = BTreeMap::new();
    let mut first: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for (event, id) in stored.iter().zip(ids(&stored)) {
        let message_id = event.properties["message_id"].to_string();
        match seen.get(&id) {
            Some(before) => assert_eq!(*before, message_id, "what came twice bears one id"),
            None => {
                seen.insert(id, message_id);
                first.entry(&event.partition).or_default().push(id);
            }
        }
    }
    assert_eq!(seen.keys().copied().collect::<BTreeSet<_>>(), wanted);
    assert_eq!(seen.values().collect::<BTreeSet<_>>().len(), wanted.len(), "each event has an id of its own");
    assert!(first.values().all(|ids| ids.is_sorted()), "{first:?}");
    println!("{} events, {} came twice", wanted.len(), stored.len() - wanted.len());
}
