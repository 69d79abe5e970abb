//! Rows that replace those with the same key; the last event of a key wins.

use forebay::{contract::SinkError, sink::postgres::Postgres as PostgresSink};
use forebay_buffer::Event;
use forebay_tests::servers::Postgres;

use crate::rig::*;

/// A table whose columns are `k` and `v`, with the key `k`.
async fn stream_into(definition: &str) -> (Postgres, PostgresSink, Stream) {
    let (postgres, sink) = server_with(|settings| with_columns(settings, &[("k", "$.k"), ("v", "$.v")], &["k"]));
    postgres.psql(&format!("DROP TABLE t; {definition}"));
    let mut stream = Stream::new(&sink, "0");
    stream.resume().await.expect("it answers");
    (postgres, sink, stream)
}

fn kv(key: impl std::fmt::Display, value: impl std::fmt::Display) -> Event {
    event(format!("{{\"k\": {key}, \"v\": {value}}}"))
}

#[tokio::test]
async fn the_table_that_setup_makes_takes_an_upsert() {
    let (postgres, sink) = server_with(|settings| with_columns(settings, &[("k", "key"), ("v", "body")], &["k"]));
    let mut stream = Stream::new(&sink, "0");
    stream.resume().await.expect("it answers");
    let keyed = |key: &'static str, body: &str| Event { key: Some(key.into()), ..event(body) };
    assert_eq!(stream.deliver_all(vec![keyed("a", "1"), keyed("b", "2"), keyed("a", "3")]).await, Ok(vec![]));
    assert_eq!(stream.deliver_all(vec![keyed("b", "4"), keyed("c", "5")]).await, Ok(vec![]));
    assert_eq!(postgres.psql("SELECT k, v FROM t ORDER BY k"), "a|3\nb|4\nc|5");
    assert_eq!(stream.resume().await, Ok(Some(at(5))));
}

#[tokio::test]
async fn what_the_server_holds_equal_is_one_key() {
    let types = [
        ("numeric PRIMARY KEY", ["1.0", "1.00", "1e0"]),
        ("numeric(5,1) PRIMARY KEY", ["1.04", "0.96", "1"]),
        ("float8 PRIMARY KEY", ["0.0", "-0.0", "0"]),
        ("char(4) PRIMARY KEY", ["\"a\"", "\"a  \"", "\"a   \""]),
        (
            "timestamptz(0) PRIMARY KEY",
            ["\"2024-01-01T00:00:00.1Z\"", "\"2024-01-01T00:00:00Z\"", "\"2024-01-01T01:00:00+01:00\""],
        ),
        ("jsonb PRIMARY KEY", ["{\"a\":1,\"b\":2}", "{\"b\":2,\"a\":1}", "{\"b\": 2.0, \"a\": 1}"]),
        ("text COLLATE ci PRIMARY KEY", ["\"Pump\"", "\"PUMP\"", "\"pump\""]),
    ];
    let (postgres, sink, _) = stream_into(
        "CREATE COLLATION ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false); \
         CREATE TABLE t (k int PRIMARY KEY, v int)",
    )
    .await;
    for (nth, (of, keys)) in types.into_iter().enumerate() {
        postgres.psql(&format!("DROP TABLE t; CREATE TABLE t (k {of}, v int)"));
        let mut stream = Stream::new(&sink, &nth.to_string());
        stream.resume().await.expect("it answers");
        let events = keys.iter().zip(1..).map(|(key, value)| kv(key, value)).collect();
        assert_eq!(stream.deliver_all(events).await, Ok(vec![]), "{of}");
        assert_eq!(postgres.psql("SELECT v FROM t"), "3", "{of}");
    }
}

#[tokio::test]
async fn an_event_without_its_key_is_refused() {
    let (postgres, _, mut stream) = stream_into("CREATE TABLE t (k int UNIQUE, v int)").await;
    let refused = stream.deliver_all(vec![kv(1, 1), event("{\"v\": 2}"), kv("null", 3)]).await.expect("it goes on");
    assert_eq!(codes(&refused), [(2, "23502"), (3, "23502")]);
    assert_eq!(postgres.psql("SELECT k, v FROM t"), "1|1");
}

#[tokio::test]
async fn an_event_that_is_refused_leaves_the_one_before_it_in_place() {
    let (postgres, _, mut stream) = stream_into("CREATE TABLE t (k int PRIMARY KEY, v int CHECK (v < 100))").await;
    assert_eq!(stream.deliver_all(vec![kv(1, 1), kv(2, 2)]).await, Ok(vec![]));
    let refused = stream.deliver_all(vec![kv(1, 3), kv(1, 100), kv(2, 200), kv(3, 4)]).await.expect("it goes on");
    assert_eq!(codes(&refused), [(4, "23514"), (5, "23514")]);
    assert_eq!(postgres.psql("SELECT k, v FROM t ORDER BY k"), "1|3\n2|2\n3|4");
}

#[tokio::test]
async fn where_only_the_key_is_filled_a_row_that_is_there_stays() {
    for definition in
        ["CREATE TABLE t (k int PRIMARY KEY, seen int DEFAULT 7)", "CREATE TABLE t (k int, seen int DEFAULT 7)"]
    {
        let (postgres, sink) = server_with(|settings| with_columns(settings, &[("k", "$.k")], &["k"]));
        postgres.psql(&format!("DROP TABLE t; {definition}; INSERT INTO t VALUES (1, 0)"));
        let mut stream = Stream::new(&sink, "0");
        stream.resume().await.expect("it answers");
        assert_eq!(stream.deliver_all(vec![kv(1, 0), kv(2, 0), kv(2, 0)]).await, Ok(vec![]));
        assert_eq!(postgres.psql("SELECT k, seen FROM t ORDER BY k"), "1|0\n2|7");
    }
}

#[tokio::test]
async fn an_identity_that_is_filled_is_taken_as_it_is() {
    let (postgres, _, mut stream) =
        stream_into("CREATE TABLE t (k int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v int)").await;
    assert_eq!(stream.deliver_all(vec![kv(41, 1), kv(42, 2)]).await, Ok(vec![]));
    assert_eq!(postgres.psql("SELECT k, v FROM t ORDER BY k"), "41|1\n42|2");
}

#[tokio::test]
async fn without_a_unique_index_rows_are_merged_and_two_writers_do_not_insert_one_key_twice() {
    // An index on more than the key, or on part of the table, is none.
    let (postgres, sink, mut stream) = stream_into(
        "CREATE TABLE t (k int, v int); CREATE UNIQUE INDEX ON t (k, v); CREATE UNIQUE INDEX ON t (k) WHERE v = -1",
    )
    .await;
    let mut other = Stream::new(&sink, "1");
    let url = format!("{}?sslmode=disable", postgres.url());
    let rival = crate::rig::sink(with_columns(settings(&url), &[("k", "$.k"), ("v", "$.v")], &["k"]));
    let mut rival = Stream::new(&rival, "2");
    other.resume().await.expect("it answers");
    rival.resume().await.expect("it answers");
    for round in 0..20 {
        let events = || (0..50).map(|nth| kv(nth % 25 + round, round)).collect::<Vec<_>>();
        let (one, two, three) =
            tokio::join!(stream.deliver_all(events()), other.deliver_all(events()), rival.deliver_all(events()));
        assert_eq!((one, two, three), (Ok(vec![]), Ok(vec![]), Ok(vec![])));
    }
    assert_eq!(postgres.psql("SELECT count(*), count(DISTINCT k), sum(v) FROM t"), "44|44|646");
}

#[tokio::test]
async fn rows_that_meet_only_in_the_table_go_in_one_after_the_other() {
    for (index, unique) in [("by conflict", "PRIMARY KEY"), ("by merge", "")] {
        let (postgres, _, mut stream) = stream_into(&format!(
            "CREATE TABLE t (k int {unique}, v int CHECK (v < 100)); \
             CREATE FUNCTION halve() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.k = NEW.k / 10; RETURN NEW; END $$; \
             CREATE TRIGGER halve BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION halve()"
        ))
        .await;
        let events = || vec![kv(10, 1), kv(20, 2), kv(11, 3), kv(12, 4), kv(30, 5)];
        assert_eq!(stream.deliver_all(events()).await, Ok(vec![]), "{index}");
        if !unique.is_empty() {
            assert_eq!(postgres.psql("SELECT k, v FROM t ORDER BY k"), "1|4\n2|2\n3|5");
            let refused = stream.deliver_all(vec![kv(10, 6), kv(13, 100), kv(14, 7)]).await.expect("it goes on");
            assert_eq!(codes(&refused), [(7, "23514")]);
            assert_eq!(postgres.psql("SELECT k, v FROM t ORDER BY k"), "1|7\n2|2\n3|5");
        }
        let next = stream.expected;
        assert_eq!(stream.resume().await.map(|found| found == next), Ok(true), "it is committed with its checkpoint");
    }
}

#[tokio::test]
async fn an_index_that_tells_more_keys_apart_than_the_column_is_not_relied_on_and_one_that_tells_fewer_is() {
    let (postgres, sink, _) = stream_into(
        "CREATE COLLATION ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false); \
         CREATE TABLE t (k int PRIMARY KEY, v int)",
    )
    .await;
    for (nth, (column, index)) in [("ci", "\"C\""), ("\"C\"", "ci"), ("\"C\"", "\"POSIX\"")].into_iter().enumerate() {
        postgres.psql(&format!(
            "DROP TABLE t; CREATE TABLE t (k text COLLATE {column}, v int); CREATE UNIQUE INDEX ON t (k COLLATE {index})"
        ));
        let mut stream = Stream::new(&sink, &nth.to_string());
        stream.resume().await.expect("it answers");
        assert_eq!(stream.deliver_all(vec![kv("\"Pump\"", 1), kv("\"PUMP\"", 2)]).await, Ok(vec![]), "{index}");
        assert_eq!(stream.deliver_all(vec![kv("\"pump\"", 3)]).await, Ok(vec![]), "{index}");
        let expected = if nth < 2 { "3" } else { "1,2,3" };
        assert_eq!(postgres.psql("SELECT string_agg(v::text, ',' ORDER BY v) FROM t"), expected, "{column} {index}");
    }
}

#[tokio::test]
async fn an_index_that_is_dropped_meanwhile_is_done_without() {
    let (postgres, _, mut stream) =
        stream_into("CREATE TABLE t (k int, v int); CREATE UNIQUE INDEX the_key ON t (k)").await;
    assert_eq!(stream.deliver_all(vec![kv(1, 1)]).await, Ok(vec![]));
    postgres.psql("DROP INDEX the_key");
    assert_eq!(stream.deliver_all(vec![kv(1, 2), kv(2, 3)]).await, Ok(vec![]));
    assert_eq!(postgres.psql("SELECT k, v FROM t ORDER BY k"), "1|2\n2|3");
}

#[tokio::test]
async fn an_identity_beside_the_key_stops_the_sink_with_what_to_do() {
    let (postgres, sink, _) = stream_into("CREATE TABLE t (k int PRIMARY KEY, v int)").await;
    postgres.psql("DROP TABLE t; CREATE TABLE t (k int PRIMARY KEY, v int GENERATED ALWAYS AS IDENTITY)");
    let mut stream = Stream::new(&sink, "0");
    let Err(SinkError::Stop(message)) = stream.resume().await else { panic!("it cannot be replaced") };
    let remedy = "ALTER TABLE \"public\".\"t\" ALTER \"v\" SET GENERATED BY DEFAULT";
    assert!(message.contains(remedy), "{message}");
    postgres.psql(remedy);
    stream.resume().await.expect("it is mended");
    assert_eq!(stream.deliver_all(vec![kv(1, 1), kv(1, 2)]).await, Ok(vec![]));
    assert_eq!(postgres.psql("SELECT k, v FROM t"), "1|2");
}

#[tokio::test]
async fn a_key_that_is_checked_at_commit_is_merged_too() {
    let (postgres, _, mut stream) = stream_into("CREATE TABLE t (k int UNIQUE DEFERRABLE, v int)").await;
    assert_eq!(stream.deliver_all(vec![kv(1, 1), kv(1, 2)]).await, Ok(vec![]));
    assert_eq!(stream.deliver_all(vec![kv(1, 3)]).await, Ok(vec![]));
    assert_eq!(postgres.psql("SELECT k, v FROM t"), "1|3");
}

#[tokio::test]
async fn a_key_that_cannot_be_compared_stops_the_sink() {
    let (postgres, sink, _) = stream_into("CREATE TABLE t (k int PRIMARY KEY, v int)").await;
    postgres.psql("DROP TABLE t; CREATE TABLE t (k json, v int)");
    let Err(SinkError::Stop(message)) = Stream::new(&sink, "0").resume().await else { panic!("json has no equality") };
    assert!(message.contains("cannot be a key: make it jsonb"), "{message}");
}
