//! Events that the server will never take go out of the way, each with the reason, and no other does (Promise 6).

use forebay::contract::SinkError;

use crate::rig::*;

/// A table of offsets and values, whose definition the test gives.
async fn stream_into(definition: &str) -> (forebay_tests::servers::Postgres, Stream) {
    let (postgres, sink) =
        server_with(|settings| with_columns(settings, &[("\"offset\"", "offset"), ("v", "$.v"), ("w", "$.w")], &[]));
    postgres.psql(&format!("DROP TABLE t; CREATE TABLE t (\"offset\" bigint, v text, w text); {definition}"));
    let mut stream = Stream::new(&sink, "0");
    stream.resume().await.expect("it answers");
    (postgres, stream)
}

fn v(value: impl std::fmt::Display) -> forebay_buffer::Event {
    event(format!("{{\"v\": {value}}}"))
}

fn offsets(postgres: &forebay_tests::servers::Postgres) -> String {
    postgres.psql("SELECT string_agg(\"offset\"::text, ',' ORDER BY \"offset\") FROM t")
}

#[tokio::test]
async fn every_kind_of_refusal_is_found_in_one_batch_and_named() {
    let (postgres, mut stream) = stream_into(
        "CREATE TYPE colour AS ENUM ('red', 'green'); CREATE DOMAIN short AS varchar(5) CHECK (VALUE <> 'bad'); \
         DROP TABLE t; CREATE TABLE t (\"offset\" bigint CHECK (\"offset\" <> 4), v colour NOT NULL, w short UNIQUE)",
    )
    .await;
    let row = |v: &str, w: &str| event(format!("{{\"v\": {v}, \"w\": {w}}}"));
    let events = vec![
        row("\"red\"", "\"a\""),
        row("\"blue\"", "\"b\""),
        row("null", "\"c\""),
        row("\"red\"", "\"d\""),
        row("\"red\"", "\"bad\""),
        row("\"red\"", "\"too long\""),
        row("\"green\"", "\"a\""),
        row("\"green\"", "null"),
        row("\"green\"", "\"e\""),
    ];
    let refused = stream.deliver_all(events).await.expect("it goes on");
    let expected = [(2, "22P02"), (3, "23502"), (4, "23514"), (5, "23514"), (6, "22001"), (7, "23505")];
    assert_eq!(codes(&refused), expected);
    assert!(
        refused[0].reason.contains("\"blue\"") && refused[0].reason.contains("column \"v\""),
        "{}",
        refused[0].reason
    );
    assert!(refused[1].reason.contains("column \"v\""), "{}", refused[1].reason);
    assert!(refused[5].reason.contains("(w)=(a)"), "{}", refused[5].reason);
    assert_eq!(offsets(&postgres), "1,8,9");
    assert_eq!(stream.resume().await, Ok(Some(at(9))));
}

#[tokio::test]
async fn what_is_refused_here_and_what_the_server_refuses_come_together_in_the_end() {
    let (postgres, mut stream) =
        stream_into("ALTER TABLE t ALTER v TYPE integer USING NULL; ALTER TABLE t ADD CHECK (v < 100)").await;
    let refused = stream.deliver_all(vec![v(1), v("\"x\""), v(100), v(4), v(5_000_000_000_i64), v("[]")]).await;
    assert_eq!(codes(&refused.expect("it goes on")), [(2, "22P02"), (3, "23514"), (5, "22003"), (6, "22P02")]);
    assert_eq!(offsets(&postgres), "1,4");
}

#[tokio::test]
async fn of_many_refusals_in_a_large_batch_each_is_found() {
    let (postgres, mut stream) = stream_into("ALTER TABLE t ADD CHECK (v <> 'bad')").await;
    let is_bad = |nth: &i64| nth % 50 == 0 || (700..720).contains(nth);
    let events = (1..=3000).map(|nth| v(if is_bad(&nth) { "\"bad\"" } else { "\"good\"" })).collect();
    let refused = stream.deliver_all(events).await.expect("it goes on");
    let found: Vec<_> = refused.iter().map(|refusal| refusal.offset.0).collect();
    assert_eq!(found, (1..=3000).filter(is_bad).collect::<Vec<_>>());
    assert_eq!(postgres.psql("SELECT count(*) FROM t"), (3000 - found.len()).to_string());
}

#[tokio::test]
async fn of_two_rows_that_cannot_both_be_there_the_later_is_refused_at_once_or_at_commit() {
    for when in ["", "DEFERRABLE INITIALLY DEFERRED"] {
        let (postgres, mut stream) = stream_into(&format!("ALTER TABLE t ADD UNIQUE (v) {when}")).await;
        assert_eq!(stream.deliver_all(vec![v("\"a\"")]).await, Ok(vec![]));
        let refused =
            stream.deliver_all(vec![v("\"b\""), v("\"c\""), v("\"b\""), v("\"a\""), v("\"d\""), v("\"c\"")]).await;
        let expected = [(4, "23505"), (5, "23505"), (7, "23505")];
        assert_eq!(codes(&refused.expect("it goes on")), expected, "unique {when}");
        assert_eq!(offsets(&postgres), "1,2,3,6");
    }
}

#[tokio::test]
async fn a_reference_to_nothing_is_found_although_the_server_names_no_line() {
    let (postgres, mut stream) = stream_into(
        "CREATE TABLE device (id text PRIMARY KEY); INSERT INTO device VALUES ('a'), ('b'); \
         ALTER TABLE t ADD FOREIGN KEY (v) REFERENCES device",
    )
    .await;
    let events = (1..=40).map(|nth| v(if nth % 9 == 0 { "\"c\"" } else { "\"a\"" })).collect();
    let refused = stream.deliver_all(events).await.expect("it goes on");
    assert_eq!(codes(&refused), [(9, "23503"), (18, "23503"), (27, "23503"), (36, "23503")]);
    assert!(refused[0].reason.contains("(v)=(c)"), "{}", refused[0].reason);
    assert_eq!(postgres.psql("SELECT count(*) FROM t"), "36");
}

#[tokio::test]
async fn a_row_too_large_for_an_index_is_refused_and_not_the_one_at_which_a_buffer_was_written() {
    let (postgres, mut stream) = stream_into("CREATE INDEX ON t (v); ALTER TABLE t ALTER w SET STORAGE PLAIN").await;
    // What can be compressed would fit.
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut noise = |length: usize| -> String {
        let digit = |_| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            char::from(b'!' + 13 + (random % 40) as u8)
        };
        (0..length).map(digit).filter(|c| *c != '\\').collect()
    };
    let mut events: Vec<_> = (1..=20).map(v).collect();
    events[4] = v(format!("\"{}\"", noise(9_000)));
    // A row that fits no page: the server finds out when it writes several at once.
    events[9] = event(format!("{{\"w\": \"{}\"}}", noise(9_000)));
    let refused = stream.deliver_all(events).await.expect("it goes on");
    assert_eq!(codes(&refused), [(5, "54000"), (10, "54000")]);
    assert_eq!(postgres.psql("SELECT count(*) FROM t"), "18");
}

/// Lets rows with certain values fail with certain codes.
const TRIGGER: &str = "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
                       IF NEW.v LIKE 'fail %' THEN RAISE EXCEPTION 'no' USING ERRCODE = substr(NEW.v, 6); END IF; \
                       RETURN NEW; END $$; CREATE TRIGGER fail BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION fail()";

#[tokio::test]
async fn binary_that_the_server_cannot_read_is_a_refusal_where_the_types_are_as_they_were() {
    let (postgres, mut stream) = stream_into(TRIGGER).await;
    let refused = stream.deliver_all(vec![v(1), v("\"fail 22P03\""), v(3)]).await.expect("it goes on");
    assert_eq!(codes(&refused), [(2, "22P03")]);
    assert_eq!(offsets(&postgres), "1,3");
}

#[tokio::test]
async fn json_that_is_nested_too_deep_is_refused_and_what_is_less_deep_is_taken() {
    for of in ["jsonb", "json"] {
        let (postgres, sink) = server_with(|settings| with_columns(settings, &[("v", "body")], &[]));
        postgres.psql(&format!("DROP TABLE t; CREATE TABLE t (v {of})"));
        let mut stream = Stream::new(&sink, "0");
        stream.resume().await.expect("it answers");
        let nested = |depth: usize| event(format!("{}1{}", "{\"a\":[".repeat(depth / 2), "]}".repeat(depth / 2)));
        let bodies = vec![event("1"), nested(100_000), nested(1000), event("[".repeat(100_000)), event("4")];
        let refused = stream.deliver_all(bodies).await.expect("it goes on");
        // What has no end is a text to us.
        assert_eq!(codes(&refused), [(2, "54001")], "{of}");
        assert_eq!(postgres.psql("SELECT count(*) FROM t"), "4", "{of}");
    }
}

#[tokio::test]
async fn a_partition_that_is_not_there_is_waited_for_and_refuses_nothing() {
    let (postgres, mut stream) = stream_into(
        "DROP TABLE t; CREATE TABLE t (\"offset\" bigint, v text, w text CHECK (w <> 'bad')) PARTITION BY LIST (v); \
         CREATE TABLE t_a PARTITION OF t FOR VALUES IN ('a')",
    )
    .await;
    for events in [vec![v("\"a\""), v("\"b\"")], vec![event(r#"{"v": "a", "w": "bad"}"#), v("\"b\"")]] {
        let batch = stream.batch(events);
        let error = stream.deliver(&batch).await.expect_err("there is no partition");
        let SinkError::Retry { message, .. } = &error else { panic!("{error:?}") };
        assert!(message.contains("no partition of relation") && message.contains("Create the partition"), "{message}");
    }
    postgres.psql("CREATE TABLE t_b PARTITION OF t FOR VALUES IN ('b')");
    let refused = stream.deliver_all(vec![event(r#"{"v": "a", "w": "bad"}"#), v("\"b\"")]).await.expect("it goes on");
    assert_eq!(codes(&refused), [(1, "23514")]);
    assert_eq!(offsets(&postgres), "2");
}

#[tokio::test]
async fn a_trigger_that_raises_something_is_told_with_the_event_and_leaves_the_connection_to_others() {
    let (postgres, mut stream) = stream_into(TRIGGER).await;
    let ours = || postgres.psql("SELECT pid FROM pg_stat_activity WHERE application_name = 'forebay'");
    let before = ours();
    for (code, words) in
        [("P0001", "event at offset 2"), ("40001", "writing"), ("57014", "writing"), ("55P03", "writing")]
    {
        let batch = stream.batch(vec![v(1), v(format!("\"fail {code}\"")), v(3)]);
        let error = stream.deliver(&batch).await.expect_err("it is raised");
        let SinkError::Retry { message, .. } = &error else { panic!("{error:?}") };
        assert!(message.contains(words) && message.contains(code), "{message}");
        assert!(code != "P0001" || message.contains("trigger"), "{message}");
    }
    assert_eq!(stream.deliver_all(vec![v(1)]).await, Ok(vec![]));
    assert_eq!(ours(), before);
}

#[tokio::test]
async fn what_is_no_refusal_refuses_nothing() {
    let (postgres, mut stream) = stream_into(TRIGGER).await;
    for (code, kind) in [
        ("08P01", "reconnect"),
        ("25006", "reconnect"),
        ("53100", "retry"),
        ("40001", "retry"),
        ("P0001", "retry"),
        ("42501", "stop"),
    ] {
        // Alone, and behind a true refusal: then it is met while that is looked for.
        for events in [vec![v(format!("\"fail {code}\""))], vec![v("\"fail 23514\""), v(format!("\"fail {code}\""))]] {
            stream.resume().await.expect("it answers");
            let batch = stream.batch(events);
            let outcome = stream.deliver(&batch).await;
            let found = match &outcome {
                Err(SinkError::Reconnect(_)) => "reconnect",
                Err(SinkError::Retry { .. }) => "retry",
                Err(SinkError::Stop(_)) => "stop",
                _ => "nothing",
            };
            assert_eq!(found, kind, "{code}: {outcome:?}");
        }
    }
    assert_eq!(postgres.psql("SELECT count(*) FROM t"), "0");
    assert_eq!(postgres.psql("SELECT count(*) FROM ingestion_status"), "0");
}
