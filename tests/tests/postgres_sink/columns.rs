//! What columns take, what is found out when the table is looked at, and tables that are altered meanwhile.

use std::process::Stdio;

use forebay::contract::SinkError;
use forebay_buffer::{Event, Value};
use forebay_tests::{harness::wait_until, servers::Postgres};

use crate::rig::*;

const FILLED: [(&str, &str); 2] = [("\"offset\"", "offset"), ("v", "$.v")];

/// A table whose column `v` has the type `of`.
async fn stream_of(of: &str) -> (Postgres, Stream) {
    let (postgres, sink) = server_with(|settings| with_columns(settings, &FILLED, &[]));
    postgres.psql(&format!("DROP TABLE t; CREATE TABLE t (\"offset\" bigint, v {of})"));
    let mut stream = Stream::new(&sink, "0");
    stream.resume().await.expect("it answers");
    (postgres, stream)
}

fn v(value: &str) -> Event {
    event(format!("{{\"v\": {value}}}"))
}

#[tokio::test]
async fn every_type_holds_what_was_sent() {
    let types = [
        ("bool", "true", "t"),
        ("int2", "-7", "-7"),
        ("int4", "\"12\"", "12"),
        ("int8", "9223372036854775807", "9223372036854775807"),
        ("float4", "0.5", "0.5"),
        ("float8", "1e300", "1e+300"),
        ("numeric", "123456789012345678901234567890.10", "123456789012345678901234567890.10"),
        ("numeric(6,1)", "1.25e2", "125.0"),
        ("timestamptz", "\"infinity\"", "infinity"),
        ("timestamp", "\"9999-12-31 23:59:59\"", "9999-12-31 23:59:59"),
        ("date", "\"-infinity\"", "-infinity"),
        ("time", "\"2023-11-14T23:30:00-05:00\"", "04:30:00"),
        ("text", "\"é\"", "é"),
        ("varchar(3)", "\"abc\"", "abc"),
        ("char(3)", "\"a\"", "a  "),
        ("name", "\"a\"", "a"),
        ("json", "{\"b\": 1.0}", "{\"b\": 1.0}"),
        ("jsonb", "{\"b\":1.0}", "{\"b\": 1.0}"),
        ("bytea", "\"a\"", "\\x61"),
        ("timestamptz", "\"2024-02-29T12:00:00.5+01:00\"", "2024-02-29 11:00:00.5+00"),
        ("timestamp", "\"2024-02-29T12:00:00+01:00\"", "2024-02-29 11:00:00"),
        ("date", "\"2024-02-29\"", "2024-02-29"),
        ("time", "\"12:34:56.789\"", "12:34:56.789"),
        ("uuid", "\"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11\"", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
    ];
    let columns: Vec<_> = (0..types.len()).map(|nth| (format!("c{nth}"), format!("$.c{nth}"))).collect();
    let columns: Vec<_> = columns.iter().map(|(column, path)| (column.as_str(), path.as_str())).collect();
    let (postgres, sink) = server_with(|settings| with_columns(settings, &columns, &[]));
    let defined: Vec<_> = types.iter().enumerate().map(|(nth, (of, _, _))| format!("c{nth} {of}")).collect();
    postgres.psql(&format!("DROP TABLE t; CREATE TABLE t ({})", defined.join(", ")));
    let mut stream = Stream::new(&sink, "0");
    stream.resume().await.expect("it answers");
    let sent: Vec<_> = types.iter().enumerate().map(|(nth, (_, sent, _))| format!("\"c{nth}\": {sent}")).collect();
    let body = format!("{{{}}}", sent.join(", "));
    assert_eq!(stream.deliver_all(vec![event(body), event("{}")]).await, Ok(vec![]));
    let found = postgres.psql("SET timezone = 'UTC'; SELECT * FROM t WHERE c0; SELECT count(*) FROM t WHERE t IS NULL");
    let expected: Vec<_> = types.iter().map(|(_, _, held)| *held).collect();
    assert_eq!(found, expected.join("|") + "\n1");
}

#[tokio::test]
async fn columns_are_filled_from_all_parts_of_an_event() {
    let columns = [
        ("s", "stream"),
        ("o", "offset"),
        ("day", "time"),
        ("k", "key"),
        ("q", "headers.qos"),
        ("dest", "table"),
        ("raw", "body"),
        ("first", "$[0]"),
    ];
    let (postgres, sink) = server_with(|settings| with_columns(settings, &columns, &[]));
    postgres.psql(
        "DROP TABLE t; CREATE TABLE t (s text, o numeric, day date, k bytea, q smallint, dest name, raw bytea, first json)",
    );
    let mut stream = Stream::new(&sink, "0");
    stream.resume().await.expect("it answers");
    let full = Event {
        key: Some(vec![0xff].into()),
        headers: vec![("qos".into(), Value::Integer(1))],
        table: Some("x".into()),
        ..event("[{\"a\": null}]")
    };
    assert_eq!(stream.deliver_all(vec![full]).await, Ok(vec![]));
    assert_eq!(
        postgres.psql("SELECT * FROM t"),
        "line1|1|2023-11-14|\\xff|1|x|\\x5b7b2261223a206e756c6c7d5d|{\"a\": null}"
    );
}

#[tokio::test]
async fn a_table_that_cannot_be_filled_stops_the_sink_with_what_to_do() {
    let cases = [
        ("v text", "no column \"offset\""),
        ("\"offset\" bigint", "ADD \"v\" jsonb"),
        ("\"offset\" integer, v text", "is of type integer, which cannot take offset: make it bigint"),
        ("\"offset\" bigint, v point", "is of type point, which this program cannot write"),
        ("\"offset\" bigint, v text[]", "is of type text[]"),
        ("\"offset\" bigint, v text GENERATED ALWAYS AS ('x') STORED", "is generated"),
        ("\"offset\" bigint, v text, w text NOT NULL", "ALTER \"w\" DROP NOT NULL"),
    ];
    let (postgres, sink) = server_with(|settings| with_columns(settings, &FILLED, &[]));
    for (columns, expected) in cases {
        postgres.psql(&format!("DROP TABLE t; CREATE TABLE t ({columns})"));
        let Err(SinkError::Stop(message)) = Stream::new(&sink, "0").resume().await else {
            panic!("({columns}) is taken")
        };
        assert!(message.contains(expected), "({columns}): {message}");
    }
    postgres.psql(
        "DROP TABLE t; CREATE TABLE t (\"offset\" bigint, v text, w text NOT NULL DEFAULT 'x', \
         i int GENERATED ALWAYS AS IDENTITY)",
    );
    assert_eq!(Stream::new(&sink, "0").resume().await, Ok(None));
    postgres.psql("DROP TABLE t");
    let Err(SinkError::Stop(message)) = Stream::new(&sink, "0").resume().await else { panic!("there is no table") };
    assert!(message.contains("forebay setup"), "{message}");
}

#[tokio::test]
async fn a_type_that_is_altered_between_batches_is_written_anew_and_not_mistaken() {
    let (postgres, mut stream) = stream_of("bigint").await;
    assert_eq!(stream.deliver_all(vec![v("17")]).await, Ok(vec![]));
    let types = ["double precision", "text", "numeric(10,2) USING v::numeric", "bigint", "jsonb USING to_jsonb(v)"];
    for of in types {
        postgres.psql(&format!("ALTER TABLE t ALTER v TYPE {of}"));
        assert_eq!(stream.deliver_all(vec![v("17")]).await, Ok(vec![]), "{of}");
        assert_eq!(postgres.psql("SELECT DISTINCT v::text::numeric::int FROM t"), "17", "{of}");
    }
    assert_eq!(postgres.psql("SELECT count(*) FROM t"), "6");
}

#[tokio::test]
async fn a_value_that_would_fit_by_now_is_not_refused_for_what_the_type_was() {
    let (postgres, mut stream) = stream_of("integer").await;
    assert_eq!(codes(&stream.deliver_all(vec![v("5000000000")]).await.expect("it goes on")), [(1, "22003")]);
    postgres.psql("ALTER TABLE t ALTER v TYPE bigint");
    assert_eq!(stream.deliver_all(vec![v("5000000000")]).await, Ok(vec![]));
    assert_eq!(postgres.psql("SELECT v FROM t"), "5000000000");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alter_that_commits_while_the_batch_waits_for_it_is_seen() {
    let (postgres, mut stream) = stream_of("bigint").await;
    assert_eq!(stream.deliver_all(vec![v("17")]).await, Ok(vec![]));
    let mut other = postgres.psql_command(&postgres.url());
    let mut other = other.stdin(Stdio::piped()).spawn().expect("psql can be run");
    let mut input = other.stdin.take().expect("standard input is piped");
    let mut say = move |text: &str| std::io::Write::write_all(&mut input, text.as_bytes()).expect("psql reads");
    say("BEGIN; ALTER TABLE t ALTER v TYPE double precision;\n");
    let count =
        |what: &str| postgres.psql(&format!("SELECT count(*) FROM pg_locks WHERE relation = 't'::regclass AND {what}"));
    let batch = stream.batch(vec![v("17")]);
    wait_until("the table to be locked", || count("mode = 'AccessExclusiveLock' AND granted") == "1");
    let delivering = tokio::spawn(async move {
        let outcome = stream.deliver(&batch).await;
        (stream, outcome)
    });
    tokio::task::block_in_place(|| wait_until("the batch to wait", || count("NOT granted") == "1"));
    say("COMMIT;\n");
    drop(say);
    let (_, outcome) = delivering.await.expect("no panic");
    assert_eq!(outcome.map(|progress| progress.confirmed), Ok(Some(at(2))));
    assert!(other.wait().expect("psql can be waited for").success());
    assert_eq!(postgres.psql("SELECT v FROM t"), "17\n17");
}
