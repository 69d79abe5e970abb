//! What goes wrong: nothing is missing, what came twice is known again, and order stays.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use forebay::{
    client::eventhub::Namespace,
    contract::{Progress, SinkError},
    secret::SecretSource,
    sink::eventhub::{Placement, Settings},
};
use forebay_tests::{harness, random::Random, servers::EventHubs};
use serde_json::{Value, json};

use crate::rig::{HUB, batch, body, event, id, namespace, resume, resumed, sent, settings, sink, through};

fn one(number: i64) -> Arc<forebay::contract::Batch> {
    batch(number, vec![event(Some("a"), number.to_string())], &[])
}

/// What is stored, each once, as the ids tell.
fn without_repetitions(namespace: &EventHubs) -> Vec<String> {
    let mut seen = HashSet::new();
    let stored = namespace.all_stored(HUB);
    stored.iter().filter(|event| seen.insert(id(event))).map(body).collect()
}

#[tokio::test]
async fn nothing_is_missing_under_random_faults_and_repetitions_are_known() {
    let seed = harness::size("FOREBAY_SEED", u64::from(std::process::id()));
    println!("FOREBAY_SEED={seed} repeats this");
    let events = i64::try_from(harness::size("FOREBAY_HUB_FAULT_EVENTS", 5_000)).expect("a count");
    let mut random = Random::new(seed);
    let namespace = namespace(8);
    let mut given = settings(&namespace);
    given.connection.timeout = Duration::from_secs(1);
    let sink = sink(given);
    let mut lane = resumed(&sink, "0").await;
    let (mut first, mut errors, mut left) = (1, 0, Vec::new());
    while first <= events {
        for _ in 0..random.below(3) {
            // Each has its turn before any has its next.
            if left.is_empty() {
                left = deck();
            }
            let (phase, action) = left.swap_remove(random.below(left.len() as u64) as usize);
            namespace.arm(&json!({ "phase": phase, "action": action, "wait_seconds": 0, "skip": random.below(6) }));
        }
        let last = (first + 100).min(events + 1);
        let all = (first..last).map(|n| event(Some(&format!("device-{}", n % 50)), n.to_string())).collect();
        let (refusals, met) = through(&mut *lane, &batch(first, all, &[])).await;
        assert!(refusals.is_empty(), "{refusals:?}");
        errors += met.len();
        first = last;
        // What was silent is heard again.
        namespace.network("up");
    }
    let stored = namespace.all_stored(HUB);
    let (mut seen, mut newest) = (HashSet::new(), BTreeMap::new());
    for event in &stored {
        if seen.insert(id(event)) {
            // Among what is seen for the first time, each key's order is kept.
            let number: i64 = body(event).parse().expect("a number");
            let before = newest.insert(number % 50, number);
            assert!(before.is_none_or(|before| before < number), "{number} comes after {before:?}");
        }
    }
    assert_eq!(seen.len(), usize::try_from(events).expect("a count"));
    let bodies: HashSet<_> = stored.iter().map(body).collect();
    assert_eq!(bodies.len(), seen.len(), "what came twice has the same id");
    assert!(errors > 0, "no fault happened");
    let armed = namespace.ask("GET", "/faults", &Value::Null);
    let happened = armed.as_array().expect("a list").iter().filter(|fault| fault["happened"] != 0);
    let kinds: HashSet<_> = happened.map(|fault| (fault["phase"].to_string(), fault["action"].to_string())).collect();
    println!(
        "{events} events, {} kinds of faults out of {}, {errors} errors, {} came twice",
        kinds.len(),
        deck().len(),
        stored.len() - seen.len()
    );
}

/// What the emulator can be told to do at each phase that a producer comes to.
const FAULTS: [(&str, &[&str]); 7] = [
    ("connect", &["drop", "silence"]),
    ("token", &["drop", "cut", "silence", "swallow", "close", "refuse"]),
    ("management", &["drop", "cut", "silence", "swallow", "close", "refuse"]),
    ("attach", &["drop", "silence", "end", "close", "refuse"]),
    ("store", &["drop", "silence", "detach", "end", "close", "swallow", "refuse"]),
    ("acknowledge", &["drop", "cut", "silence", "detach", "end", "close", "swallow"]),
    ("acknowledged", &["drop", "silence", "detach", "end", "close"]),
];

fn deck() -> Vec<(&'static str, &'static str)> {
    FAULTS.iter().flat_map(|(phase, actions)| actions.iter().map(|action| (*phase, *action))).collect()
}

#[tokio::test]
async fn a_link_that_was_idle_is_attached_again_and_the_next_event_goes_out_at_once() {
    let namespace = namespace(4);
    namespace.set(&json!({ "idle_link_ms": 200 }));
    let sink = sink(settings(&namespace));
    let mut lane = resumed(&sink, "0").await;
    for number in 1..=3 {
        assert_eq!(through(&mut *lane, &one(number)).await, (Vec::new(), Vec::new()));
        harness::wait_until("the service detaches the idle link", || producers(&namespace) == 0);
    }
    assert_eq!(without_repetitions(&namespace), ["1", "2", "3"]);
}

/// Links of producers that are there.
fn producers(namespace: &EventHubs) -> usize {
    let all = namespace.ask("GET", "/connections", &Value::Null);
    let connections = all.as_array().expect("a list").iter().filter(|connection| connection["ended"] == false);
    let links = connections.flat_map(|connection| connection["links"].as_array().cloned().unwrap_or_default());
    links.filter(|link| link["role"] == "producer" && link["ended"] != true).count()
}

#[tokio::test]
async fn a_busy_service_is_left_alone_as_long_as_it_says() {
    let namespace = namespace(4);
    let sink = sink(settings(&namespace));
    let mut lane = resumed(&sink, "0").await;
    namespace.arm(&json!({ "phase": "store", "action": "refuse", "wait_seconds": 2 }));
    let error = sent(&mut *lane, &one(1)).await.expect_err("it is busy");
    assert!(
        matches!(error, SinkError::Retry { after: Some(after), .. } if after == Duration::from_secs(2)),
        "{error:?}"
    );
    // Nobody sends anything meanwhile, the other lanes neither: all that they say is for how long still.
    let mut other = crate::rig::lane(&sink, "1");
    for lane in [&mut lane, &mut other] {
        let error = sent(&mut **lane, &one(2)).await.expect_err("it is left alone");
        assert!(matches!(error, SinkError::Retry { after: Some(after), .. } if after <= Duration::from_secs(2)));
    }
    assert_eq!(namespace.all_stored(HUB), []);
    let (refusals, errors) = through(&mut *lane, &one(1)).await;
    assert!(refusals.is_empty() && !errors.is_empty());
    assert_eq!(without_repetitions(&namespace), ["1"]);
}

#[tokio::test]
async fn a_service_that_is_busy_when_a_link_is_to_be_attached_is_left_alone_by_all_lanes() {
    let namespace = namespace(4);
    let sink = sink(settings(&namespace));
    let mut lane = resumed(&sink, "0").await;
    namespace.arm(&json!({ "phase": "attach", "action": "refuse", "wait_seconds": 60 }));
    sent(&mut *lane, &one(1)).await.expect_err("it is busy");
    let mut other = crate::rig::lane(&sink, "1");
    let error = resume(&mut *other).await.expect_err("it is left alone");
    assert!(matches!(error, SinkError::Retry { after: Some(_), .. }), "{error:?}");
}

#[tokio::test]
async fn what_one_partition_is_refused_does_not_make_the_others_repeat_theirs() {
    let namespace = namespace(8);
    let sink = sink(settings(&namespace));
    let mut lane = resumed(&sink, "0").await;
    namespace.arm(&json!({ "phase": "store", "action": "refuse", "wait_seconds": 0, "partition": "3", "times": 5 }));
    let all = (1..=200).map(|n| event(Some(&format!("device-{}", n % 50)), n.to_string())).collect();
    let (refusals, errors) = through(&mut *lane, &batch(1, all, &[])).await;
    assert_eq!((refusals.len(), errors.len()), (0, 5));
    assert_eq!(namespace.all_stored(HUB).len(), 200, "each event is there once");
}

#[tokio::test]
async fn an_event_that_the_service_rejects_is_found_among_the_others() {
    let namespace = namespace(1);
    let sink = sink(settings(&namespace));
    let mut lane = resumed(&sink, "0").await;
    // All of it, its second half, and of that the first half.
    for skip in [0, 1, 1] {
        namespace.arm(&json!({
            "phase": "store", "action": "refuse", "condition": "com.microsoft:argument-out-of-range", "skip": skip,
        }));
    }
    let events = (1..=3).map(|n| event(Some("a"), n.to_string())).collect();
    let (refusals, errors) = through(&mut *lane, &batch(1, events, &[])).await;
    let refused: Vec<_> = refusals.iter().map(|refusal| (refusal.offset.0, refusal.code.as_str())).collect();
    assert_eq!((refused.len(), errors), (1, Vec::new()), "{refusals:?}");
    assert!(refusals[0].reason.contains("argument-out-of-range"));
    let stored = without_repetitions(&namespace);
    assert_eq!((stored.len(), namespace.all_stored(HUB).len()), (2, 2), "the others are there once");
    assert!(!stored.contains(&refused[0].0.to_string()));
}

#[tokio::test]
async fn without_order_a_batch_that_is_too_large_takes_no_other_with_it() {
    let namespace = namespace(1);
    namespace.set(&json!({ "max_message_size": 1_000, "acknowledge_delay_ms": 50 }));
    let sink = sink(Settings { partition: Placement::Any, ordered: false, ..settings(&namespace) });
    let mut lane = resumed(&sink, "0").await;
    let condition = "amqp:link:message-size-exceeded";
    namespace.arm(&json!({ "phase": "store", "action": "detach", "condition": condition, "skip": 5 }));
    // Each is a batch by itself.
    let events = (0..10).map(|n| event(None, format!("{n:0>600}"))).collect();
    assert_eq!(through(&mut *lane, &batch(1, events, &[])).await, (Vec::new(), Vec::new()));
    assert_eq!(without_repetitions(&namespace).len(), 10);
}

#[tokio::test]
async fn a_hub_that_is_disabled_refuses_no_event_and_is_tried_again() {
    let namespace = namespace(1);
    let sink = sink(settings(&namespace));
    let mut lane = resumed(&sink, "0").await;
    for condition in ["com.microsoft:entity-disabled", "amqp:not-allowed"] {
        namespace.arm(&json!({ "phase": "store", "action": "refuse", "condition": condition }));
        let error = sent(&mut *lane, &one(1)).await.expect_err(condition);
        assert!(matches!(error, SinkError::Retry { after: Some(_), .. }), "{error:?}");
        resume(&mut *lane).await.expect("a hub that is there");
    }
    assert_eq!(through(&mut *lane, &one(1)).await, (Vec::new(), Vec::new()));
    assert_eq!(without_repetitions(&namespace), ["1"]);
}

#[tokio::test]
async fn a_batch_does_not_overtake_one_that_failed() {
    let namespace = namespace(2);
    let sink = sink(settings(&namespace));
    let mut lane = resumed(&sink, "0").await;
    namespace.arm(&json!({ "phase": "store", "action": "refuse", "wait_seconds": 0 }));
    assert_eq!(lane.deliver(one(1)).await, Ok(Progress::default()));
    lane.deliver(one(2)).await.expect_err("the one before was not taken");
    assert_eq!(namespace.all_stored(HUB), []);
    for number in 1..=2 {
        assert_eq!(through(&mut *lane, &one(number)).await, (Vec::new(), Vec::new()));
    }
    assert_eq!(without_repetitions(&namespace), ["1", "2"]);
}

#[tokio::test]
async fn nothing_is_sent_after_a_failure_before_the_lane_resumes() {
    let namespace = namespace(1);
    let sink = sink(settings(&namespace));
    let mut lane = resumed(&sink, "0").await;
    namespace.arm(&json!({ "phase": "store", "action": "refuse", "wait_seconds": 0 }));
    let failure = sent(&mut *lane, &one(1)).await.expect_err("it was not taken");
    // Whoever has dropped the answer above comes with the next batch.
    assert_eq!(lane.deliver(one(2)).await, Err(failure.clone()));
    assert_eq!(lane.settle().await, Err(failure));
    assert_eq!(namespace.all_stored(HUB), []);
    assert_eq!(through(&mut *lane, &one(1)).await, (Vec::new(), Vec::new()));
    assert_eq!(without_repetitions(&namespace), ["1"]);
}

#[tokio::test]
async fn a_refusal_is_told_until_it_is_recorded() {
    let namespace = namespace(8);
    namespace.set(&json!({ "max_message_size": 1_000 }));
    let sink = sink(settings(&namespace));
    let mut lane = resumed(&sink, "0").await;
    // One partition refuses an event for good, and another is busy.
    let events = || vec![event(Some("a"), "y".repeat(1_000)), event(Some("b"), "z")];
    let (given, recorded) = (batch(1, events(), &[]), batch(1, events(), &[1]));
    let partition = {
        let mut other = resumed(&sink, "1").await;
        through(&mut *other, &batch(1, vec![event(Some("b"), "first")], &[])).await;
        namespace.all_stored(HUB)[0].partition.clone()
    };
    let busy = json!({ "phase": "store", "action": "refuse", "wait_seconds": 0, "partition": partition });
    namespace.arm(&busy);
    sent(&mut *lane, &given).await.expect_err("one partition is busy");
    for again in 1..=2 {
        let (refusals, errors) = through(&mut *lane, &given).await;
        assert_eq!((refusals.len(), refusals[0].offset.0, errors), (1, 1, Vec::new()), "time {again}");
    }
    assert_eq!(through(&mut *lane, &recorded).await, (Vec::new(), Vec::new()));
    assert_eq!(without_repetitions(&namespace), ["first", "z"]);
}

#[tokio::test]
async fn a_refusal_of_an_event_that_is_gone_is_not_told() {
    let namespace = namespace(1);
    namespace.set(&json!({ "max_message_size": 1_000 }));
    let sink = sink(settings(&namespace));
    let mut lane = resumed(&sink, "0").await;
    namespace.arm(&json!({ "phase": "store", "action": "refuse", "wait_seconds": 0 }));
    let events = vec![event(Some("a"), "y".repeat(1_000)), event(Some("a"), "z")];
    sent(&mut *lane, &batch(1, events, &[])).await.expect_err("the second one was not taken");
    // The buffer was full, and has dropped both.
    assert_eq!(through(&mut *lane, &one(3)).await, (Vec::new(), Vec::new()));
    assert_eq!(without_repetitions(&namespace), ["3"]);
}

#[tokio::test]
async fn a_refusal_that_could_not_be_recorded_is_told_again() {
    let namespace = namespace(1);
    namespace.set(&json!({ "max_message_size": 1_000 }));
    let sink = sink(settings(&namespace));
    let mut lane = resumed(&sink, "0").await;
    let large = batch(1, vec![event(Some("a"), "y".repeat(1_000))], &[]);
    assert_eq!(lane.deliver(Arc::clone(&large)).await, Ok(Progress::default()));
    let progress = lane.deliver(one(2)).await.expect("the one before has landed");
    assert_eq!(progress.refusals.len(), 1);
    let (refusals, errors) = through(&mut *lane, &large).await;
    assert_eq!((refusals, errors), (progress.refusals, Vec::new()));
}

#[tokio::test]
async fn a_key_that_was_changed_is_read_again_though_the_connection_lives() {
    let namespace = namespace(2);
    let file = tempfile::NamedTempFile::new().expect("a file");
    let text = namespace.connection_string();
    std::fs::write(file.path(), &text).expect("a write");
    let mut given = settings(&namespace);
    given.connection.namespace = Namespace::ConnectionStringFile {
        source: SecretSource::File(file.path().to_owned()),
        host: "localhost".to_owned(),
    };
    let sink = sink(given);
    let mut lane = resumed(&sink, "0").await;
    through(&mut *lane, &one(1)).await;
    namespace.set(&json!({ "rules": [{ "name": EventHubs::RULE, "key": "another", "rights": ["Manage", "Send"] }] }));
    namespace.ask("POST", "/expire-tokens", &json!({}));
    let error = sent(&mut *lane, &one(2)).await.expect_err("no token");
    assert!(matches!(error, SinkError::Retry { after: Some(_), .. }), "{error:?}");
    std::fs::write(file.path(), text.replace(EventHubs::KEY, "another")).expect("a write");
    through(&mut *lane, &one(2)).await;
    assert_eq!(without_repetitions(&namespace), ["1", "2"]);
}

#[tokio::test]
async fn a_hub_that_was_made_again_gets_what_follows() {
    let namespace = namespace(4);
    let sink = sink(settings(&namespace));
    let mut lane = resumed(&sink, "0").await;
    through(&mut *lane, &one(1)).await;
    namespace.make_hub(HUB, &json!({ "partitions": 2 }));
    for number in 2..=4 {
        let (refusals, errors) = through(&mut *lane, &one(number)).await;
        assert!(refusals.is_empty() && errors.len() <= 2, "{errors:?}");
    }
    assert_eq!(without_repetitions(&namespace), ["2", "3", "4"]);
}

#[tokio::test]
async fn a_network_that_is_down_is_waited_for() {
    let namespace = namespace(4);
    let mut given = settings(&namespace);
    given.connection.timeout = Duration::from_secs(1);
    let sink = sink(given);
    let mut lane = resumed(&sink, "0").await;
    through(&mut *lane, &one(1)).await;
    for (state, number) in [("down", 2), ("silent", 3)] {
        namespace.network(state);
        let error = sent(&mut *lane, &one(number)).await.expect_err(state);
        assert!(matches!(error, SinkError::Reconnect(_)), "{state}: {error:?}");
        namespace.network("up");
        through(&mut *lane, &one(number)).await;
    }
    assert_eq!(without_repetitions(&namespace), ["1", "2", "3"]);
}

#[tokio::test]
async fn one_batch_is_under_way_to_a_partition_though_several_lanes_send() {
    let namespace = namespace(1);
    namespace.set(&json!({ "acknowledge_delay_ms": 200 }));
    let sink = sink(settings(&namespace));
    let (done, mut all_done) = tokio::sync::mpsc::channel(4);
    for (number, name) in (1..).zip(["a", "b", "c", "d"]) {
        let (mut lane, done) = (resumed(&sink, name).await, done.clone());
        tokio::spawn(async move { done.send(sent(&mut *lane, &one(number)).await).await });
    }
    for confirmed in 1..=4 {
        let progress = all_done.recv().await.expect("four lanes");
        assert!(progress.is_ok_and(|progress| progress.confirmed.is_some()));
        // The service stores at once, and acknowledges late: what is under way is stored.
        assert!(namespace.all_stored(HUB).len() <= confirmed + 1);
    }
}
