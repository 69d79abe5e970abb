//! What comes to the hub where nothing goes wrong.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use forebay::{
    client::eventhub::{Credential, Namespace},
    contract::{Progress, Severity, Sink, SinkError},
    secret::{Secret, SecretSource},
    sink::eventhub::{Placement, Settings},
};
use forebay_buffer::{BodyKind, Event, Value};
use forebay_tests::harness::{self, wait_until};
use serde_json::json;

use crate::rig::{HUB, TAG, batch, body, event, id, lane, namespace, resume, resumed, sent, settings, sink, through};

#[tokio::test]
async fn all_of_an_event_comes_to_the_hub() {
    let namespace = namespace(4);
    let sink = sink(settings(&namespace));
    let mut lane = resumed(&sink, "0").await;
    let rich = Event {
        body_kind: BodyKind::Json,
        table: Some("telemetry".to_owned()),
        headers: vec![
            ("topic".to_owned(), Value::String("a/b".to_owned())),
            ("qos".to_owned(), Value::Integer(1)),
            ("raw".to_owned(), Value::Bytes(vec![0, 255].into())),
        ],
        ..event(Some("device-1"), "{}")
    };
    let tombstone = Event { body: None, ..event(Some("device-1"), "") };
    let both = batch(5, vec![rich, tombstone], &[]);
    let progress = sent(&mut *lane, &both).await;
    assert_eq!(progress, Ok(Progress { confirmed: Some(both.through), ..Progress::default() }));
    let stored = namespace.all_stored(HUB);
    assert_eq!(stored.len(), 2);
    assert_eq!(id(&stored[0]), format!("gw-1/line1/0/{TAG}/5"));
    assert_eq!((body(&stored[0]).as_str(), stored[1].body.clone()), ("{}", None));
    assert_eq!(stored[0].properties["content_type"], json!({ "symbol": "application/json" }));
    assert_eq!(stored[0].properties["creation_time"], json!({ "timestamp": 1_700_000_000_123_i64 }));
    let properties = &stored[0].application_properties;
    for (name, value) in [
        ("forebay_key", json!({ "string": "device-1" })),
        ("forebay_table", json!({ "string": "telemetry" })),
        ("topic", json!({ "string": "a/b" })),
        ("qos", json!({ "long": 1 })),
        ("raw", json!({ "binary": "00ff" })),
    ] {
        assert_eq!(properties[name], value, "{name}");
    }
}

/// Where the service puts the keys is what the emulator's judges have proven of it.
#[tokio::test]
async fn events_of_one_key_go_to_one_partition_in_their_order() {
    const KEYS: i64 = 97;
    let events = i64::try_from(harness::size("FOREBAY_HUB_EVENTS", 20_000)).expect("a count");
    let namespace = namespace(8);
    let sink = sink(settings(&namespace));
    let mut lane = resumed(&sink, "0").await;
    let mut first = 1;
    while first <= events {
        let last = (first + 2_000).min(events + 1);
        let all = (first..last).map(|n| event(Some(&format!("device-{}", n % KEYS)), n.to_string())).collect();
        let (refusals, errors) = through(&mut *lane, &batch(first, all, &[])).await;
        assert_eq!((refusals, errors), (Vec::new(), Vec::new()));
        first = last;
    }
    let mut partitions: BTreeMap<String, HashSet<String>> = BTreeMap::new();
    let mut last: BTreeMap<String, i64> = BTreeMap::new();
    let stored = namespace.all_stored(HUB);
    assert_eq!(stored.len(), usize::try_from(events).expect("a count"));
    for event in &stored {
        let key = event.application_properties["forebay_key"]["string"].as_str().expect("a text").to_owned();
        let number: i64 = body(event).parse().expect("a number");
        assert_eq!(id(event), format!("gw-1/line1/0/{TAG}/{number}"));
        assert!(last.insert(key.clone(), number).is_none_or(|before| before < number), "{key} is out of order");
        partitions.entry(event.partition.clone()).or_default().insert(key);
    }
    assert_eq!(partitions.len(), 8, "the keys are spread over all partitions");
    assert_eq!(partitions.values().map(HashSet::len).sum::<usize>(), last.len(), "no key is in two partitions");
}

#[tokio::test]
async fn the_streams_partition_decides_if_it_is_to_and_where_there_is_no_key() {
    let namespace = namespace(4);
    let by_stream = sink(Settings { partition: Placement::Stream, ..settings(&namespace) });
    for name in ["2", "3"] {
        let mut lane = resumed(&by_stream, name).await;
        through(&mut *lane, &batch(1, vec![event(Some("a"), "x"), event(None, "y")], &[])).await;
        let stored = namespace.stored(HUB, name);
        assert_eq!(stored.iter().map(body).collect::<Vec<_>>(), ["x", "y"]);
    }
    let by_key = sink(settings(&namespace));
    let mut lane = resumed(&by_key, "elsewhere").await;
    let before = namespace.all_stored(HUB).len();
    through(&mut *lane, &batch(1, (0..8).map(|_| event(None, "z")).collect(), &[])).await;
    let keyless: HashSet<_> =
        namespace.all_stored(HUB).into_iter().filter(|event| body(event) == "z").map(|event| event.partition).collect();
    assert_eq!((keyless.len(), namespace.all_stored(HUB).len() - before), (1, 8));
}

#[tokio::test]
async fn without_order_the_hub_chooses() {
    let namespace = namespace(4);
    namespace.set(&json!({ "max_message_size": 2_000 }));
    let sink = sink(Settings { partition: Placement::Any, ordered: false, ..settings(&namespace) });
    let mut lane = resumed(&sink, "0").await;
    let sent = batch(1, (0..200).map(|n| event(None, n.to_string())).collect(), &[]);
    assert_eq!(through(&mut *lane, &sent).await, (Vec::new(), Vec::new()));
    let stored = namespace.all_stored(HUB);
    let ids: HashSet<_> = stored.iter().map(id).collect();
    assert_eq!((stored.len(), ids.len()), (200, 200));
    assert!(["0", "1", "2", "3"].iter().all(|partition| !namespace.stored(HUB, partition).is_empty()));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_order_as_many_batches_are_under_way_as_max_in_flight_lets() {
    let mut in_one_batch = 0;
    for batches in [1, 2, 8] {
        let namespace = namespace(1);
        // What is under way is stored, and not acknowledged as long as this takes.
        namespace.set(&json!({ "max_message_size": 2 << 10, "acknowledge_delay_ms": 3_600_000 }));
        let max_in_flight_bytes = batches * (2 << 10);
        let mut given =
            Settings { partition: Placement::Any, ordered: false, max_in_flight_bytes, ..settings(&namespace) };
        given.connection.timeout = Duration::from_secs(60);
        let sink = sink(given);
        let mut lane = resumed(&sink, "0").await;
        let sent = batch(1_000, (0..400).map(|_| event(None, "x")).collect(), &[]);
        lane.deliver(sent).await.expect("it is taken");
        let stored = || namespace.all_stored(HUB).len();
        wait_until("as many are under way as may be", || stored() >= (in_one_batch * batches).max(1));
        tokio::time::sleep(Duration::from_millis(200)).await;
        if batches == 1 {
            in_one_batch = stored();
        }
        assert_eq!(stored(), in_one_batch * batches, "{batches} batches of {in_one_batch} events");
    }
}

#[tokio::test]
async fn an_event_that_is_too_large_is_refused_with_its_size_and_the_limit() {
    let namespace = namespace(2);
    namespace.set(&json!({ "max_message_size": 1_000 }));
    let sink = sink(settings(&namespace));
    let mut lane = resumed(&sink, "0").await;
    let events = vec![event(Some("a"), "x"), event(Some("a"), "y".repeat(1_000)), event(Some("b"), "z")];
    let sent = batch(1, events, &[]);
    let (refusals, errors) = through(&mut *lane, &sent).await;
    assert_eq!(errors, Vec::new());
    let [refusal] = &refusals[..] else { panic!("{refusals:?}") };
    assert_eq!((refusal.offset.0, refusal.code.as_str()), (2, "amqp:link:message-size-exceeded"));
    assert!(refusal.reason.contains("takes 1000 at most"), "{}", refusal.reason);
    let mut bodies: Vec<_> = namespace.all_stored(HUB).iter().map(body).collect();
    bodies.sort_unstable();
    assert_eq!(bodies, ["x", "z"]);
}

#[tokio::test]
async fn a_batch_is_taken_while_the_one_before_it_is_under_way_and_follows_it() {
    let namespace = namespace(1);
    namespace.set(&json!({ "acknowledge_delay_ms": 200 }));
    let sink = sink(settings(&namespace));
    let mut lane = resumed(&sink, "0").await;
    let batches: Vec<_> = (1..=3).map(|n| batch(n, vec![event(None, n.to_string())], &[])).collect();
    let mut confirmed = None;
    for (stored, batch) in batches.iter().enumerate() {
        let progress = lane.deliver(Arc::clone(batch)).await;
        assert_eq!(progress, Ok(Progress { confirmed, ..Progress::default() }));
        // The service stores at once, and acknowledges late.
        assert!(namespace.all_stored(HUB).len() <= stored + 1);
        confirmed = Some(batch.through);
    }
    assert_eq!(lane.settle().await, Ok(Progress { confirmed, ..Progress::default() }));
    let bodies: Vec<_> = namespace.all_stored(HUB).iter().map(body).collect();
    assert_eq!(bodies, ["1", "2", "3"]);
}

#[tokio::test]
async fn check_finds_what_the_hub_takes_and_who_may_not_send() {
    let namespace = namespace(4);
    let found = sink(settings(&namespace)).check().await;
    let [finding] = &found[..] else { panic!("{found:?}") };
    assert_eq!(finding.severity, Severity::Ok);
    assert_eq!(finding.message, "4 partitions; we may send, up to 1048576 bytes at a time");

    namespace.set(&json!({ "rules": [{ "name": "listen", "key": "k", "rights": ["Listen"] }] }));
    let mut listener = settings(&namespace);
    if let Namespace::Given { credential, .. } = &mut listener.connection.namespace {
        let key = SecretSource::Inline(Secret::new("k"));
        *credential = Credential::SharedKey { name: "listen".to_owned(), key };
    }
    let found = sink(listener).check().await;
    assert_eq!(found[0].severity, Severity::Error);
    assert!(found[0].remedy.contains("right to send"), "{found:?}");

    let mut lost = settings(&namespace);
    lost.connection.hub = "nowhere".to_owned();
    let mut lane = lane(&sink(lost), "0");
    let error = resume(lane.as_mut()).await.expect_err("no such hub");
    assert!(matches!(error, SinkError::Retry { after: Some(_), .. }), "{error:?}");
}
