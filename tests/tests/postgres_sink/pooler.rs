//! Through PgBouncer in transaction mode: nothing of a transaction is left behind, and nothing is expected to be there.

use std::process::Stdio;

use forebay::contract::SinkError;
use forebay_buffer::Event;
use forebay_tests::{
    harness::wait_until,
    servers::{Cut, Direction, PgBouncer, Postgres, Proxy, Trap},
};

use crate::rig::*;

#[tokio::test]
async fn lanes_of_several_sinks_share_a_pooler_and_leave_nothing_behind() {
    let (postgres, direct) = server_with(|settings| settings);
    postgres.psql("ALTER TABLE t ADD CHECK (body <> '13'); CREATE TABLE u (k int PRIMARY KEY, v jsonb)");
    drop(direct);
    let pooler = PgBouncer::start(&postgres);
    let url = format!("{}?sslmode=disable", pooler.url());
    let into_u = || {
        let settings = with_columns(settings(&url), &[("k", "$"), ("v", "$")], &["k"]);
        sink(forebay::sink::postgres::Settings {
            table: forebay::client::postgres::TableName::parse("u").expect("a name"),
            ..settings
        })
    };
    let (append, also, upsert) = (sink(settings(&url)), sink(settings(&url)), into_u());
    let mut streams =
        vec![Stream::new(&append, "0"), Stream::new(&append, "1"), Stream::new(&also, "2"), Stream::new(&upsert, "0")];
    for stream in &mut streams {
        assert_eq!(stream.resume().await, Ok(None));
    }
    let tasks = streams.into_iter().enumerate().map(|(nth, mut stream)| {
        tokio::spawn(async move {
            for _ in 0..10 {
                let refused = stream.deliver_all((1..=20).map(|n| event(n.to_string())).collect()).await;
                let refused = refused.unwrap_or_else(|error| panic!("stream {nth}: {error}"));
                let expected = if nth < 3 { vec!["23514"] } else { vec![] };
                assert_eq!(refused.iter().map(|refusal| &*refusal.code).collect::<Vec<_>>(), expected);
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.expect("it delivers");
    }
    assert_eq!(postgres.psql("SELECT count(*), count(DISTINCT (partition, \"offset\")) FROM t"), "570|570");
    assert_eq!(postgres.psql("SELECT count(*) FROM u"), "20");
    let left = "SELECT count(*) FROM pg_prepared_statements; SHOW lock_timeout; SELECT count(*) FROM pg_class WHERE relname \
                = 'forebay_staging'";
    // Both of its connections, in turn.
    for _ in 0..4 {
        let mut psql = postgres.psql_command(&pooler.url());
        let done = psql.args(["-c", left]).output().expect("psql can be run");
        assert_eq!(String::from_utf8_lossy(&done.stdout), "0\n0\n0\n");
    }
}

fn events(count: usize) -> Vec<Event> {
    (0..count).map(|nth| event(nth.to_string())).collect()
}

fn counts(postgres: &Postgres) -> String {
    postgres.psql("SELECT count(*), count(DISTINCT \"offset\") FROM t")
}

/// Promise 3, with a pooler between: it may answer for a server, and end a transaction, but not make one of two.
#[tokio::test]
async fn a_commit_that_is_lost_before_the_pooler_is_resolved_by_asking_through_it() {
    let (postgres, direct) = server_with(|settings| settings);
    drop(direct);
    let pooler = PgBouncer::start(&postgres);
    let proxy = Proxy::new(pooler.port());
    let url = format!("postgresql://{}@127.0.0.1:{}/postgres?sslmode=disable", Postgres::USER, proxy.port());
    let sink = sink(settings(&url));
    let traps = [
        // The tag of a COMMIT that was done, and COMMIT itself.
        (Direction::ToClient, Trap::new(b"COMMIT\0", Cut::Reset), true),
        (Direction::ToClient, Trap::new(b"COMMIT\0", Cut::Finish), true),
        (Direction::ToServer, Trap::new(b"COMMIT\0", Cut::Reset), false),
        (Direction::ToServer, Trap::new(b"PGCOPY", Cut::Finish), false),
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
        let found = stream.resume_in_time().await;
        assert_eq!(found, if *lands { Some(batch.through) } else { before }, "{trap:?} {direction:?}");
        if !lands {
            assert_eq!(stream.deliver(&batch).await.map(|progress| progress.confirmed), Ok(Some(batch.through)));
        }
        sent += 100;
        assert_eq!(counts(&postgres), format!("{sent}|{sent}"), "{trap:?} {direction:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_is_ended_behind_the_pooler_takes_its_batch_with_it_and_the_next_delivers_it() {
    let (postgres, direct) = server_with(|settings| settings);
    drop(direct);
    let pooler = PgBouncer::start(&postgres);
    let sink = sink(settings(&format!("{}?sslmode=disable", pooler.url())));
    let mut stream = Stream::new(&sink, "0");
    stream.resume().await.expect("it answers");
    stream.deliver_all(events(10)).await.expect("it goes on");
    // Somebody has the table, so the batch has moved the checkpoint and waits.
    let mut other = postgres.psql_command(&postgres.url());
    let mut other = other.stdin(Stdio::piped()).spawn().expect("psql can be run");
    let mut input = other.stdin.take().expect("standard input is piped");
    std::io::Write::write_all(&mut input, b"BEGIN; LOCK TABLE t;\n").expect("psql reads");
    let count =
        |what: &str| postgres.psql(&format!("SELECT count(*) FROM pg_locks WHERE relation = 't'::regclass AND {what}"));
    tokio::task::block_in_place(|| {
        wait_until("the table to be locked", || count("mode = 'AccessExclusiveLock' AND granted") == "1");
    });
    let batch = stream.batch(events(10));
    let same = batch.clone();
    let delivering = tokio::spawn(async move {
        let outcome = stream.deliver(&same).await;
        (stream, outcome)
    });
    tokio::task::block_in_place(|| {
        wait_until("the batch to wait", || count("NOT granted") == "1");
        postgres.psql("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE relation = 't'::regclass AND NOT granted");
    });
    let (mut stream, outcome) = delivering.await.expect("no panic");
    assert!(matches!(&outcome, Err(SinkError::Reconnect(_))), "{outcome:?}");
    drop(input);
    assert!(other.wait().expect("psql can be waited for").success());
    assert_eq!(stream.resume_in_time().await, Some(at(10)), "nothing of it is there");
    assert_eq!(stream.deliver(&batch).await.map(|progress| progress.confirmed), Ok(Some(at(20))));
    assert_eq!(counts(&postgres), "20|20");
    assert_eq!(stream.resume_in_time().await, Some(at(20)));
}
