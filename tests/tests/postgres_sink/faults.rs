//! Servers that go away, answers that are lost, and privileges that are taken back.

use std::time::Duration;

use forebay::{client::postgres::Password, contract::SinkError, secret::SecretSource};
use forebay_buffer::Event;
use forebay_tests::{
    harness::wait_until,
    servers::{Cut, Direction, Postgres, Proxy, Trap},
};

use crate::rig::*;

fn events(count: usize) -> Vec<Event> {
    (0..count).map(|nth| event(nth.to_string())).collect()
}

fn counts(postgres: &Postgres) -> String {
    postgres.psql("SELECT count(*), count(DISTINCT \"offset\") FROM t")
}

/// Promise 3: whichever way COMMIT or its answer is lost, the row of the checkpoint says whether it has landed.
#[tokio::test]
async fn a_lost_commit_or_a_lost_answer_to_it_is_resolved_by_asking() {
    let (postgres, direct) = server_with(|settings| settings);
    drop(direct);
    let proxy = Proxy::new(postgres.port());
    let url = format!("postgresql://{}@127.0.0.1:{}/postgres?sslmode=disable", Postgres::USER, proxy.port());
    let sink = sink(settings(&url));
    let traps = [
        // The tag of a COMMIT that was done, and COMMIT itself.
        (Direction::ToClient, Trap::new(b"COMMIT\0", Cut::Reset), true),
        (Direction::ToClient, Trap::new(b"COMMIT\0", Cut::Finish), true),
        (Direction::ToServer, Trap::new(b"COMMIT\0", Cut::Reset), false),
        (Direction::ToServer, Trap::new(b"PGCOPY", Cut::Reset), false),
        (Direction::ToClient, Trap::new(b"BEGIN\0", Cut::Finish), false),
    ];
    for (direction, trap, _) in &traps {
        let trap = trap.clone();
        proxy.tap(*direction, move |_| trap.tap());
    }
    let mut stream = Stream::new(&sink, "0");
    stream.resume().await.expect("it answers");
    let mut sent = 0;
    for (direction, trap, lands) in &traps {
        let before = stream.expected;
        let batch = stream.batch(events(100));
        trap.arm();
        let outcome = stream.deliver(&batch).await;
        assert!(matches!(outcome, Err(SinkError::Reconnect(_))), "{trap:?} {direction:?}: {outcome:?}");
        assert_eq!(trap.sprung(), 1, "{trap:?}");
        // The server may still be about to notice that nobody is there.
        let found = stream.resume_in_time().await;
        assert_eq!(found, if *lands { Some(batch.through) } else { before }, "{trap:?} {direction:?}");
        if !lands {
            assert_eq!(stream.deliver(&batch).await.map(|progress| progress.confirmed), Ok(Some(batch.through)));
        }
        sent += 100;
        assert_eq!(counts(&postgres), format!("{sent}|{sent}"), "{trap:?} {direction:?}");
    }
}

#[tokio::test]
async fn a_server_that_dies_and_comes_back_gets_each_event_once() {
    let (postgres, sink) = server_with(|settings| settings);
    let mut stream = Stream::new(&sink, "0");
    stream.resume().await.expect("it answers");
    for round in 1..=2 {
        stream.deliver_all(events(100)).await.expect("it goes on");
        postgres.stop_immediate();
        let batch = stream.batch(events(100));
        let error = stream.deliver(&batch).await.expect_err("nobody is there");
        assert!(matches!(error, SinkError::Reconnect(_)), "{error:?}");
        assert!(matches!(stream.resume().await, Err(SinkError::Reconnect(_))));
        postgres.start_again();
        assert_eq!(stream.resume_in_time().await, Some(at(round * 200 - 100)));
        stream.deliver(&batch).await.expect("it goes on");
    }
    assert_eq!(counts(&postgres), "400|400");
}

#[tokio::test]
async fn a_session_that_an_operator_ends_is_replaced_and_the_reason_is_told() {
    let (postgres, sink) = server_with(|settings| settings);
    let mut stream = Stream::new(&sink, "0");
    stream.resume().await.expect("it answers");
    stream.deliver_all(events(10)).await.expect("it goes on");
    postgres.psql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'forebay'");
    // Either it is known by now that the connection is gone, and another is made, or it is found out now.
    let batch = stream.batch(events(10));
    if let Err(error) = stream.deliver(&batch).await {
        assert!(matches!(&error, SinkError::Reconnect(message) if message.contains("57P01")), "{error:?}");
        assert_eq!(stream.resume_in_time().await, Some(at(10)));
        stream.deliver(&batch).await.expect("it goes on");
    }
    assert_eq!(counts(&postgres), "20|20");
}

#[tokio::test]
async fn a_delivery_that_is_dropped_halfway_is_as_if_the_agent_had_died() {
    let (postgres, direct) = server_with(|settings| settings);
    drop(direct);
    let proxy = Proxy::new(postgres.port());
    let url = format!("postgresql://{}@127.0.0.1:{}/postgres?sslmode=disable", Postgres::USER, proxy.port());
    let sink = sink(settings(&url));
    let mut stream = Stream::new(&sink, "0");
    stream.resume().await.expect("it answers");
    let batch = stream.batch(events(100));
    proxy.freeze();
    tokio::select! {
        outcome = stream.deliver(&batch) => panic!("nothing gets through, and yet it ends: {outcome:?}"),
        () = tokio::time::sleep(Duration::from_millis(50)) => {}
    }
    proxy.thaw();
    let made = proxy.made();
    match stream.resume_in_time().await {
        None => drop(stream.deliver(&batch).await.expect("it goes on")),
        landed => assert_eq!(landed, Some(batch.through)),
    }
    assert!(proxy.made() > made, "what was going on on that connection is over with it");
    assert_eq!(counts(&postgres), "100|100");
}

#[tokio::test]
async fn a_server_in_read_only_mode_is_waited_for() {
    let (postgres, sink) = server_with(|settings| settings);
    postgres.psql("ALTER ROLE postgres SET default_transaction_read_only = on");
    let mut stream = Stream::new(&sink, "0");
    stream.resume().await.expect("it answers");
    let batch = stream.batch(events(10));
    let error = stream.deliver(&batch).await.expect_err("it is read-only");
    assert!(matches!(&error, SinkError::Reconnect(message) if message.contains("25006")), "{error:?}");
    postgres.psql("SET default_transaction_read_only = off; ALTER ROLE postgres RESET default_transaction_read_only");
    assert_eq!(stream.resume_in_time().await, None);
    stream.deliver(&batch).await.expect("it goes on");
    assert_eq!(counts(&postgres), "10|10");
}

/// What a standby has may be old: it must not pass for a destination that has gone back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_is_not_asked_what_there_is_and_the_primary_is_waited_for() {
    let (postgres, sink) = server_with(|settings| settings);
    let mut stream = Stream::new(&sink, "0");
    stream.resume().await.expect("it answers");
    stream.deliver_all(events(10)).await.expect("it goes on");
    postgres.psql("COPY (SELECT 1) TO PROGRAM 'touch standby.signal'");
    postgres.stop_fast();
    postgres.start_again();
    assert_eq!(postgres.psql("SELECT pg_is_in_recovery()"), "t");
    stream.resume().await.expect_err("the connection is gone, which may be found out only now");
    for _ in 0..2 {
        let error = stream.resume().await.expect_err("it is a standby");
        assert!(matches!(&error, SinkError::Retry { message, .. } if message.contains("is a standby")), "{error:?}");
    }
    let connections = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'forebay'";
    tokio::task::block_in_place(|| wait_until("the connection to be dropped", || postgres.psql(connections) == "0"));
    let found = forebay::contract::Sink::check(&sink).await;
    let is_told = |finding: &forebay::contract::Finding| {
        finding.severity == forebay::contract::Severity::Error && finding.message.contains("is a standby")
    };
    assert!(found.iter().any(is_told), "{found:#?}");
    postgres.psql("SELECT pg_promote()");
    assert_eq!(stream.resume().await, Ok(Some(at(10))));
    stream.deliver_all(events(10)).await.expect("it goes on");
    assert_eq!(counts(&postgres), "20|20");
}

/// The driver is out of step after these, and would take one answer for another.
#[tokio::test]
async fn a_copy_that_is_refused_at_its_start_is_told_as_the_server_tells_it() {
    let (postgres, owner) = server_with(|settings| settings);
    drop(owner);
    postgres.psql(
        "CREATE ROLE gw LOGIN; GRANT UPDATE ON t TO gw; \
         GRANT SELECT, INSERT, UPDATE, DELETE ON ingestion_status TO gw",
    );
    let sink = sink(settings(&format!("{}?sslmode=disable", postgres.url_for("gw", "postgres"))));
    let mut stream = Stream::new(&sink, "0");
    let cases = [
        ("", "42501", "check --connect"),
        ("GRANT INSERT ON t TO gw; ALTER TABLE t ENABLE ROW LEVEL SECURITY", "0A000", "BYPASSRLS"),
    ];
    for (change, code, advice) in cases {
        postgres.psql(change);
        stream.resume().await.expect("it answers");
        let batch = stream.batch(events(10));
        for _ in 0..2 {
            let error = stream.deliver(&batch).await.expect_err("the server will not have it");
            let SinkError::Stop(message) = &error else { panic!("{error:?}") };
            assert!(message.contains(code) && message.contains(advice), "{message}");
            assert!(message.contains("reload or restart") && !message.contains(".. "), "{message}");
        }
    }
    postgres.psql("ALTER ROLE gw BYPASSRLS");
    assert_eq!(stream.resume().await, Ok(None));
    stream.deliver_all(events(10)).await.expect("it goes on");
    assert_eq!(counts(&postgres), "10|10");
}

#[tokio::test]
async fn a_privilege_that_is_taken_back_stops_the_sink_and_says_what_tells_more() {
    let (postgres, owner) = server_with(|settings| settings);
    drop(owner);
    postgres.psql(
        "CREATE ROLE gw LOGIN; GRANT INSERT ON t TO gw; \
         GRANT SELECT, INSERT, UPDATE, DELETE ON ingestion_status TO gw",
    );
    let sink = sink(settings(&format!("{}?sslmode=disable", postgres.url_for("gw", "postgres"))));
    let mut stream = Stream::new(&sink, "0");
    stream.resume().await.expect("it answers");
    stream.deliver_all(events(10)).await.expect("the grants are enough");
    postgres.psql("REVOKE INSERT ON t FROM gw");
    let batch = stream.batch(events(10));
    let error = stream.deliver(&batch).await.expect_err("it may not");
    assert!(matches!(&error, SinkError::Stop(message) if message.contains("check --connect")), "{error:?}");
    assert_eq!(stream.resume().await, Ok(Some(at(10))), "nothing of it is committed");
    postgres.psql("GRANT INSERT ON t TO gw");
    stream.deliver(&batch).await.expect("it goes on");
    assert_eq!(counts(&postgres), "20|20");
}

#[tokio::test]
async fn a_password_that_is_changed_is_waited_for_and_read_again() {
    let postgres = Postgres::builder().passwords().start();
    let file = tempfile::NamedTempFile::new().expect("a file can be made");
    let mut settings = settings(&format!("{}?sslmode=disable", postgres.url()));
    settings.connection.password = Some(Password::Secret(SecretSource::File(file.path().to_owned())));
    set_up(&postgres, &settings);
    let sink = sink(settings);
    let mut stream = Stream::new(&sink, "0");
    for (password, words) in [("", "is empty"), ("wrong", "28P01")] {
        std::fs::write(file.path(), password).expect("it can be written");
        let error = stream.resume().await.expect_err("it is not the password");
        let SinkError::Retry { message, after: Some(after) } = &error else { panic!("{error:?}") };
        assert!(message.contains(words) && *after >= Duration::from_secs(1), "{error:?}");
    }
    std::fs::write(file.path(), Postgres::PASSWORD).expect("it can be written");
    assert_eq!(stream.resume().await, Ok(None));
    stream.deliver_all(events(10)).await.expect("it goes on");
    assert_eq!(counts(&postgres), "10|10");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_still_runs_when_the_next_comes_is_not_followed_by_its_double() {
    let (postgres, sink) = server_with(|settings| settings);
    let mut stream = Stream::new(&sink, "0");
    stream.resume().await.expect("it answers");
    stream.deliver_all(events(1)).await.expect("it goes on");
    // One of ours whose gateway is gone: it has moved the checkpoint, and is about to commit.
    let moved = "waterlevel = 11, metadata = metadata || '{\"offset\": 11}'";
    let mut ghost = postgres.psql_command(&postgres.url());
    let mut ghost = ghost.stdin(std::process::Stdio::piped()).spawn().expect("psql can be run");
    let mut input = ghost.stdin.take().expect("standard input is piped");
    let rows = "INSERT INTO t (stream, partition, \"offset\", time) SELECT 'line1', '0', n, now() FROM generate_series(2, 11) n";
    let sql = format!("BEGIN; UPDATE ingestion_status SET {moved}; {rows};\n");
    std::io::Write::write_all(&mut input, sql.as_bytes()).expect("psql reads");
    let asked = |what: &str| postgres.psql(&format!("SELECT count(*) FROM pg_stat_activity WHERE {what}"));
    wait_until("the ghost to hold the row", || asked("state = 'idle in transaction'") == "1");
    let batch = stream.batch(events(10));
    let delivering = tokio::spawn(async move {
        let outcome = stream.deliver(&batch).await;
        (stream, outcome)
    });
    tokio::task::block_in_place(|| {
        wait_until("the batch to wait for the row", || {
            asked("wait_event_type = 'Lock' AND application_name = 'forebay'") == "1"
        });
    });
    std::io::Write::write_all(&mut input, b"COMMIT;\n").expect("psql reads");
    drop(input);
    let (mut stream, outcome) = delivering.await.expect("no panic");
    assert!(matches!(&outcome, Err(SinkError::Reconnect(_))), "{outcome:?}");
    assert!(ghost.wait().expect("psql can be waited for").success());
    assert_eq!(stream.resume().await, Ok(Some(at(11))));
    assert_eq!(counts(&postgres), "11|11");
}
