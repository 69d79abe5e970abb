//! What the agent has sent, as the vendor's SDKs read it.

use std::collections::{BTreeMap, BTreeSet};

use forebay_buffer::{Event, Value};
use forebay_tests::{
    harness,
    judge::{HUB, Namespace, Sdk},
};
use serde_json::json;

use crate::rig::{batch, event, resumed, settings, sink, through};

#[tokio::test]
async fn the_vendors_sdks_read_what_the_agent_has_sent() {
    let events = i64::try_from(harness::size("FOREBAY_HUB_EVENTS", 20_000)).expect("a count");
    let space = Namespace::with(&json!({ "partitions": 8 }));
    let mut given = settings(&space.hubs);
    given.connection.hub = HUB.to_owned();
    let sink = sink(given);
    let mut lane = resumed(&sink, "0").await;
    let mut first = 1;
    while first <= events {
        let last = (first + 5_000).min(events + 1);
        let numbered = |n: i64| Event {
            headers: vec![("number".to_owned(), Value::Integer(n))],
            ..event(Some(&format!("device-{}", n % 97)), format!("é {n}"))
        };
        through(&mut *lane, &batch(first, (first..last).map(numbered).collect(), &[])).await;
        first = last;
    }
    for sdk in [Sdk::JavaScript, Sdk::Python] {
        let (mut read, mut last) = (BTreeSet::new(), BTreeMap::new());
        for event in sdk.run(&space, "amqp", &["everything", &events.to_string()]) {
            let number = event["number"].as_i64().expect("a number");
            assert_eq!(event["body"], format!("é {number}"), "{sdk:?}");
            assert_eq!(event["key"], format!("device-{}", number % 97), "{sdk:?}");
            let id = event["message_id"].as_str().expect("a text");
            assert!(id.starts_with("gw-1/line1/0/") && id.ends_with(&format!("/{number}")), "{sdk:?}: {id}");
            let partition = event["partition"].to_string();
            let before = last.insert(number % 97, (partition.clone(), number));
            let in_order = before.is_none_or(|before| before.0 == partition && before.1 < number);
            assert!(in_order, "{sdk:?}: {event}");
            read.insert(number);
        }
        assert!(read.iter().copied().eq(1..=events), "{sdk:?} reads {} of {events} events", read.len());
    }
}
