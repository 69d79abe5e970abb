//! Rows are appended with the checkpoint in their transaction (Promises 2, 3 and 4).

use forebay::contract::{PartitionId, SinkError};
use forebay_buffer::{BodyKind, Event, Numbering, Value};

use crate::rig::*;

#[tokio::test]
async fn an_event_is_a_row_with_all_that_it_has() {
    let (postgres, sink) = server_with(|settings| settings);
    let mut stream = Stream::new(&sink, "0");
    assert_eq!(stream.resume().await, Ok(None));
    let full = Event {
        key: Some("pump 7".into()),
        headers: vec![("qos".into(), Value::Integer(1)), ("raw".into(), Value::Bytes(vec![0xff].into()))],
        ..event(r#"{"a": 1.50}"#)
    };
    let text = event("it's");
    let bytes = Event::new(TIME, vec![0xff]);
    let none = Event { body: None, ..event("") };
    let quoted = Event { body_kind: BodyKind::Text, ..event("17") };
    assert_eq!(stream.deliver_all(vec![full, text, bytes, none, quoted]).await, Ok(vec![]));
    assert_eq!(
        postgres.psql(
            "SET timezone = 'UTC'; SELECT stream, partition, \"offset\", time, key, headers, body FROM t ORDER BY \"offset\""
        ),
        "line1|0|1|2023-11-14 22:13:20.123456+00|pump 7|{\"qos\": 1, \"raw\": \"/w==\"}|{\"a\": 1.50}\n\
         line1|0|2|2023-11-14 22:13:20.123456+00|||\"it's\"\n\
         line1|0|3|2023-11-14 22:13:20.123456+00|||{\"body_base64\": \"/w==\"}\n\
         line1|0|4|2023-11-14 22:13:20.123456+00|||\n\
         line1|0|5|2023-11-14 22:13:20.123456+00|||\"17\""
    );
    let row = "SELECT eventhub_namespace, eventhub, target_db, target_schema, target_table, partition_id, waterlevel FROM \
               ingestion_status";
    assert_eq!(postgres.psql(row), "gw-1|line1|postgres|public|t|0|5");
    assert_eq!(stream.resume().await, Ok(Some(at(5))));
}

#[tokio::test]
async fn batches_follow_each_other_and_partitions_do_not_meet() {
    let (postgres, sink) = server_with(|settings| settings);
    let mut streams = [Stream::new(&sink, "0"), Stream::new(&sink, "1'\\")];
    for stream in &mut streams {
        stream.resume().await.expect("it answers");
    }
    for round in 0..3 {
        for stream in &mut streams {
            let events = (0..500).map(|nth| event(format!("[{round},{nth}]"))).collect();
            assert_eq!(stream.deliver_all(events).await, Ok(vec![]));
        }
    }
    assert_eq!(
        postgres.psql(
            "SELECT partition, count(*), count(DISTINCT \"offset\"), max(\"offset\") FROM t GROUP BY 1 ORDER BY 1"
        ),
        "0|1500|1500|1500\n1'\\|1500|1500|1500"
    );
    assert_eq!(postgres.psql("SELECT count(*) FROM ingestion_status WHERE waterlevel = 1500"), "2");
}

#[tokio::test]
async fn a_batch_that_is_all_refused_moves_the_checkpoint_alone() {
    let (postgres, sink) = server_with(|settings| settings);
    let mut stream = Stream::new(&sink, "0");
    stream.resume().await.expect("it answers");
    let refused = stream.deliver_all(vec![event(r#""\u0000""#), event(r#"["\u0000"]"#)]).await.expect("it goes on");
    assert_eq!(codes(&refused), [(1, "22P05"), (2, "22P05")]);
    assert_eq!(postgres.psql("SELECT count(*) FROM t"), "0");
    assert_eq!(stream.resume().await, Ok(Some(at(2))));
}

#[tokio::test]
async fn of_two_writers_with_the_same_batch_one_commits_and_the_other_looks_again() {
    let (postgres, sink) = server_with(|settings| settings);
    let other = crate::rig::sink(settings(&format!("{}?sslmode=disable", postgres.url())));
    let (mut one, mut two) = (Stream::new(&sink, "0"), Stream::new(&other, "0"));
    for round in 0..10 {
        let (first, second) = tokio::join!(one.resume(), two.resume());
        assert_eq!(first, second);
        let events = || (0..100).map(|nth| event(format!("{}", round * 100 + nth))).collect();
        let (batch, same) = (one.batch(events()), two.batch(events()));
        let (first, second) = tokio::join!(one.deliver(&batch), two.deliver(&same));
        let outcomes = [first, second];
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1, "{outcomes:?}");
        assert!(outcomes.iter().any(|outcome| matches!(outcome, Err(SinkError::Reconnect(_)))), "{outcomes:?}");
    }
    assert_eq!(postgres.psql("SELECT count(*), count(DISTINCT \"offset\") FROM t"), "1000|1000");
}

#[tokio::test]
async fn the_checkpoint_of_a_renamed_stream_is_carried_on_under_its_new_name() {
    let (postgres, sink) = server_with(|settings| settings);
    let mut before = Stream::new(&sink, "0");
    before.resume().await.expect("it answers");
    before.deliver_all(vec![event("1"), event("2")]).await.expect("it goes on");
    let renamed = || PartitionId {
        stream: "hall1".into(),
        renamed_from: Some("line1".into()),
        name: "0".into(),
        numbering: Numbering::Assigned,
        hub: None,
    };
    let mut after = Stream::of(&sink, renamed());
    assert_eq!(after.resume().await, Ok(Some(at(2))));
    assert_eq!(after.resume().await, Ok(Some(at(2))), "looking changes nothing");
    after.deliver_all(vec![event("3")]).await.expect("it goes on");
    after.deliver_all(vec![event("4")]).await.expect("it goes on");
    assert_eq!(postgres.psql("SELECT eventhub, waterlevel FROM ingestion_status"), "hall1|4");
    assert_eq!(Stream::of(&sink, renamed()).resume().await, Ok(Some(at(4))));
    let late = before.batch(vec![event("3")]);
    assert!(matches!(before.deliver(&late).await, Err(SinkError::Reconnect(_))), "its row is gone");
    assert_eq!(postgres.psql("SELECT count(*) FROM t"), "4");
}

#[tokio::test]
async fn a_row_of_another_program_or_garbage_in_it_stops_the_sink() {
    let (postgres, sink) = server_with(|settings| settings);
    let mut stream = Stream::new(&sink, "0");
    let row = |waterlevel: &str, metadata: &str| {
        postgres.psql(&format!(
            "TRUNCATE ingestion_status; INSERT INTO ingestion_status VALUES (now(), 'gw-1', 'line1', 'postgres', 'public', \
             't', {waterlevel}, '0', {metadata})"
        ));
    };
    row("17", "NULL");
    let Err(SinkError::Stop(message)) = stream.resume().await else { panic!("it starts from a guess") };
    assert!(
        message.contains("gw-1/line1/0") && message.contains("17") && message.contains("delete the row"),
        "{message}"
    );
    row(
        "17",
        "'{\"generation\": \"00000000000000000000000000000abc\", \"epoch_tag\": \"0000000000000012\", \"offset\": 18}'",
    );
    let Err(SinkError::Stop(message)) = stream.resume().await else { panic!("it starts from a guess") };
    assert!(message.contains("waterlevel is 17"), "{message}");
    row(
        "18",
        "'{\"generation\": \"00000000000000000000000000000abc\", \"epoch_tag\": \"0000000000000012\", \"offset\": 18}'",
    );
    assert_eq!(stream.resume().await, Ok(Some(at(18))));
}
