//! What goes to and fro where nothing goes wrong.

use forebay::client::eventhub::{Batch, Body, Class, LastEnqueued, Outgoing, ReceiverOptions, Start};
use forebay_buffer::{Timestamp, Value};
use serde_json::json;

use crate::rig::{HUB, batch, bodies, connect, namespace, next, options, send, settings, text};

#[tokio::test]
async fn a_hub_says_when_it_was_made_and_what_its_partitions_are() {
    let namespace = namespace();
    let connection = connect(settings(&namespace)).await.expect("a connection");
    let said = connection.properties().await.expect("properties");
    assert_eq!((said.name.as_str(), said.partition_ids), (HUB, vec!["0".to_owned(), "1".to_owned()]));
    let created = namespace.ask("GET", &format!("/hubs/{HUB}"), &json!(null))["created"].as_i64().expect("a time");
    assert_eq!(said.created, Timestamp(created * 1000));
    let empty = connection.partition_properties("1").await.expect("properties");
    assert_eq!((empty.last_sequence_number, empty.last_offset.as_str(), empty.is_empty), (-1, "-1", true));
    send(&connection.sender(Some("1")).await.expect("a sender"), &["a", "b"]).await;
    let full = connection.partition_properties("1").await.expect("properties");
    assert_eq!((full.begin_sequence_number, full.last_sequence_number, full.is_empty), (0, 1, false));
    assert!(full.last_enqueued_time.is_some());
    let unknown = connection.partition_properties("7").await.expect_err("no such partition");
    assert!(unknown.message.contains("$management") && unknown.message.contains("com.microsoft"), "{unknown}");
    assert!(connection.is_alive());
}

#[tokio::test]
async fn an_event_is_received_as_it_was_sent() {
    let namespace = namespace();
    let connection = connect(settings(&namespace)).await.expect("a connection");
    let long = "x".repeat(300);
    let outgoing = Outgoing {
        message_id: "id-1",
        content_type: Some("application/json"),
        creation_time: Some(Timestamp(1_700_000_000_123_000)),
        application_properties: vec![
            ("text", Value::String(long.clone())),
            ("integer", Value::Integer(i64::MIN)),
            ("float", Value::Float(0.5)),
            ("yes", Value::Boolean(true)),
            ("bytes", Value::Bytes(vec![0, 255].into())),
            ("time", Value::Time(Timestamp(-1_000))),
        ],
        body: Some(b"{}"),
    };
    let mut sent = Batch::default();
    sent.push(outgoing.encode());
    sent.push(Outgoing { message_id: "id-2", ..Outgoing::default() }.encode());
    connection.sender(Some("0")).await.expect("a sender").send(&sent).await.expect("an acknowledgement");

    let mut receiver = connection.receiver(&options("0")).await.expect("a receiver");
    let first = receiver.receive().await.expect("an event");
    assert_eq!((first.sequence_number, first.partition_key.clone()), (Some(0), None));
    assert!(first.offset.is_some() && first.enqueued_time.is_some());
    let owned = outgoing.application_properties.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
    assert_eq!(first.application_properties, owned.collect::<Vec<_>>());
    assert_eq!(
        first.properties,
        [
            ("message_id", Value::String("id-1".to_owned())),
            ("content_type", Value::String("application/json".to_owned())),
            ("creation_time", Value::Time(Timestamp(1_700_000_000_123_000))),
        ]
    );
    assert_eq!(text(&first), "{}");
    let second = receiver.receive().await.expect("an event");
    assert_eq!((second.body, second.sequence_number), (Body::None, Some(1)));
    assert!(receiver.try_receive().is_none());
    receiver.close().await;
}

#[tokio::test]
async fn a_receiver_begins_where_it_says() {
    let namespace = namespace();
    let connection = connect(settings(&namespace)).await.expect("a connection");
    let sender = connection.sender(Some("0")).await.expect("a sender");
    send(&sender, &["a", "b", "c"]).await;
    let mut oldest = connection.receiver(&options("0")).await.expect("a receiver");
    let first = oldest.receive().await.expect("an event");
    assert_eq!(text(&first), "a");
    let after = |start| ReceiverOptions { start, ..options("0") };
    for start in [Start::AfterOffset(first.offset.expect("an offset")), Start::AfterSequenceNumber(0)] {
        let mut receiver = connection.receiver(&after(start.clone())).await.expect("a receiver");
        assert_eq!(next(&mut receiver).await, "b", "{start:?}");
    }
    let before = Timestamp(first.enqueued_time.expect("a time").0 - 1_000);
    let mut receiver = connection.receiver(&after(Start::EnqueuedAfter(before))).await.expect("a receiver");
    assert_eq!(next(&mut receiver).await, "a");
    let mut latest = connection.receiver(&after(Start::Latest)).await.expect("a receiver");
    send(&sender, &["d"]).await;
    assert_eq!(next(&mut latest).await, "d");
    for start in [Start::AfterOffset("99999".to_owned()), Start::AfterSequenceNumber(99)] {
        let error = connection.receiver(&after(start)).await.err().expect("no such place");
        assert_eq!(error.class, Class::InvalidOffset, "{error}");
    }
    assert!(connection.is_alive(), "a refused link leaves the others alone");
    send(&sender, &["e"]).await;
    assert_eq!(next(&mut latest).await, "e");
}

#[tokio::test]
async fn no_more_events_come_than_there_is_credit_for() {
    let namespace = namespace();
    let connection = connect(settings(&namespace)).await.expect("a connection");
    let bodies: Vec<String> = (0..50).map(|number| number.to_string()).collect();
    let sender = connection.sender(Some("0")).await.expect("a sender");
    send(&sender, &bodies.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let options = ReceiverOptions { prefetch: 10, track_last_enqueued: true, ..options("0") };
    let mut receiver = connection.receiver(&options).await.expect("a receiver");
    for number in 0..10 {
        let received = receiver.receive().await.expect("an event");
        assert_eq!(text(&received), number.to_string());
        assert!(matches!(received.last_enqueued, Some(LastEnqueued { sequence_number: 49, .. })), "{received:?}");
    }
    // Whatever else was under way has come by now.
    connection.partition_properties("0").await.expect("properties");
    assert!(receiver.try_receive().is_none());
    for number in 10..50 {
        receiver.accept(1).await.expect("credit");
        assert_eq!(next(&mut receiver).await, number.to_string());
    }
}

#[tokio::test]
async fn large_events_are_asked_for_one_by_one() {
    let namespace = namespace();
    let connection = connect(settings(&namespace)).await.expect("a connection");
    let sender = connection.sender(Some("0")).await.expect("a sender");
    assert_eq!(sender.max_message_bytes(), 1 << 20);
    let large = "x".repeat(1_000_000);
    for _ in 0..6 {
        send(&sender, &[&large]).await;
    }
    let options = ReceiverOptions { prefetch_bytes: 8 << 10, ..options("0") };
    let mut receiver = connection.receiver(&options).await.expect("a receiver");
    for _ in 0..6 {
        assert_eq!(next(&mut receiver).await.len(), large.len());
        receiver.accept(1).await.expect("credit");
    }
}

#[tokio::test]
async fn a_batch_may_be_as_large_as_the_service_says_and_no_larger() {
    let namespace = namespace();
    let connection = connect(settings(&namespace)).await.expect("a connection");
    let sender = connection.sender(Some("0")).await.expect("a sender");
    let limit = sender.max_message_bytes();
    let message = |bytes| {
        let body = vec![b'x'; bytes];
        Outgoing { message_id: "x", body: Some(&body), ..Outgoing::default() }.encode()
    };
    let overhead = Batch::size_of(&message(limit)) - limit;
    for (size, fits) in [(limit, true), (limit + 1, false)] {
        let mut batch = Batch::default();
        batch.push(message(size - overhead));
        assert_eq!(batch.size_bytes(), size);
        let sent = sender.send(&batch).await.map_err(|error| error.class);
        assert_eq!(sent, if fits { Ok(()) } else { Err(Class::TooLarge) });
    }
    assert!(sender.is_alive(), "what is too large is not sent");
    assert_eq!(namespace.stored(HUB, "0").len(), 1);
}

#[tokio::test]
async fn batches_that_are_sent_at_once_are_under_way_at_once_and_keep_their_order() {
    let namespace = namespace();
    // What is under way is stored, and not acknowledged as long as this takes.
    namespace.set(&json!({ "acknowledge_delay_ms": 3_600_000 }));
    let connection = connect(settings(&namespace)).await.expect("a connection");
    let sender = connection.sender(Some("0")).await.expect("a sender");
    let batches = ["a", "b", "c", "d"].map(|body| batch(&[body]));
    let [a, b, c, d] = batches.each_ref().map(|batch| sender.send(batch));
    let seen = async {
        while namespace.stored(HUB, "0").len() < 4 {
            tokio::task::yield_now().await;
        }
    };
    let all = async { tokio::join!(a, b, c, d) };
    tokio::select! {
        biased;
        done = all => panic!("{done:?}"),
        () = seen => {}
    }
    assert_eq!(bodies(&namespace.stored(HUB, "0")), ["a", "b", "c", "d"]);
}

#[tokio::test]
async fn a_receiver_with_a_higher_owner_level_takes_the_partition_away() {
    let namespace = namespace();
    let connection = connect(settings(&namespace)).await.expect("a connection");
    let level = |level| ReceiverOptions { owner_level: Some(level), ..options("0") };
    let mut low = connection.receiver(&level(1)).await.expect("a receiver");
    let mut high = connection.receiver(&level(2)).await.expect("a receiver");
    assert_eq!(low.receive().await.expect_err("it is stolen").class, Class::Stolen);
    let error = connection.receiver(&level(1)).await.err().expect("a lower level");
    assert_eq!(error.class, Class::Stolen, "{error}");
    send(&connection.sender(None).await.expect("a sender"), &["a"]).await;
    send(&connection.sender(Some("0")).await.expect("a sender"), &["b"]).await;
    assert!(["a", "b"].contains(&next(&mut high).await.as_str()));
}
