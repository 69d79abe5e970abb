//! Requests that are too large, too many or too slow.

use std::{io::Write, time::Instant};

use super::{
    rig::{Rig, cut_short, encoded, post, settings},
    *,
};

fn hurried() -> Limits {
    Limits {
        header_timeout: Duration::from_millis(200),
        idle_timeout: Duration::from_millis(400),
        write_timeout: Duration::from_millis(200),
        ..Limits::default()
    }
}

fn impatient() -> Patience {
    Patience { silence: Duration::from_millis(200), whole: Duration::from_millis(600), ..Patience::default() }
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_before_it_is_read() {
    let rig = Rig::start(settings()).await;
    let mut client = rig.connect().await;
    let head = "POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100001\r\n\r\n";
    let answer = client.send(head).await;
    assert_eq!((answer.status, answer.header("connection")), (413, Some("close")));
    assert!(answer.body.contains("100000 bytes"), "{answer:?}");
}

#[tokio::test]
async fn a_producer_that_sends_on_sees_its_refusal_nevertheless() {
    let rig = Rig::start(settings()).await;
    let mut client = rig.connect().await;
    // All of it goes through: nothing resets the connection before the answer is read.
    client.write(post("application/json", &"[".repeat(10_000_000))).await;
    assert_eq!(client.read().await.status, 413);
}

#[tokio::test]
async fn a_chunked_body_over_the_limit_is_refused() {
    let rig = Rig::start(settings()).await;
    let mut client = rig.connect().await;
    client.write("POST / HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    for _ in 0..11 {
        client.write_while_taken(format!("2710\r\n{}\r\n", "x".repeat(10_000)).as_bytes()).await;
    }
    assert_eq!(client.read().await.status, 413);
    assert!(rig.batches().is_empty());
}

#[tokio::test]
async fn a_body_at_the_limit_is_taken() {
    let rig = Rig::start(Settings { max_event_bytes: 200_000, ..settings() }).await;
    let body = format!("\"{}\"", "x".repeat(99_998));
    assert_eq!(rig.connect().await.send(post("application/json", &body)).await.status, 202);
}

#[tokio::test]
async fn a_bomb_does_not_go_off() {
    let rig = Rig::start(settings()).await;
    let zeros = vec![b' '; 50_000_000];
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&zeros[..10_000_000]).unwrap();
    for (encoding, bomb) in [("gzip", gzip.finish().unwrap()), ("zstd", zstd::encode_all(&zeros[..], 1).unwrap())] {
        assert!(bomb.len() < 100_000, "the bomb itself is small enough");
        let answer = rig.connect().await.send(encoded(encoding, &bomb)).await;
        assert_eq!(answer.status, 413, "{encoding}");
        assert!(answer.body.contains("max_decompressed_bytes"), "{answer:?}");
    }
}

#[tokio::test]
async fn an_event_over_the_limit_is_named_and_nothing_is_kept() {
    let rig = Rig::start(Settings { max_event_bytes: 10, ..settings() }).await;
    let mut client = rig.connect().await;
    let answer = client.send(post("application/x-ndjson", "1\n\"123456789\"\n")).await;
    assert_eq!((answer.status, &answer.json()["line"]), (413, &2.into()));
    // The key is part of an event, and counts.
    let long_key = post("application/json", "12").replace("POST /", "POST /?key=123456789");
    assert_eq!(client.send(long_key).await.status, 413);
    assert!(rig.batches().is_empty());
}

#[tokio::test]
async fn deep_nesting_is_refused_at_once() {
    let limits = Settings { max_body_bytes: 20_000_000, max_event_bytes: 20_000_000, ..settings() };
    let rig = Rig::start(limits).await;
    let started = Instant::now();
    for content_type in ["application/json", "application/x-ndjson"] {
        let answer = rig.connect().await.send(post(content_type, &"[".repeat(10_000_000))).await;
        assert_eq!(answer.status, 400, "{answer:?}");
    }
    println!("20 MB of brackets were refused in {:?}", started.elapsed());
}

#[tokio::test]
async fn a_slow_head_is_cut_off() {
    let rig = Rig::hurried(settings(), hurried(), impatient()).await;
    let mut client = rig.connect().await;
    client.write("POST / HTTP/1.1\r\nX-").await;
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn a_head_that_trickles_is_cut_off() {
    let rig = Rig::hurried(settings(), hurried(), impatient()).await;
    let mut client = rig.connect().await;
    let trickle = async {
        loop {
            client.write_while_taken(b"X").await;
            tokio::time::sleep(Duration::from_millis(20)).await;
            if client.is_cut().await {
                break;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), trickle).await.expect("the trickle is cut off");
}

#[tokio::test]
async fn a_silent_connection_is_closed() {
    let rig = Rig::hurried(settings(), hurried(), impatient()).await;
    let mut client = rig.connect().await;
    assert_eq!(client.send(post("application/json", "1")).await.status, 202);
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn a_body_that_stops_coming_is_answered_408() {
    let rig = Rig::hurried(settings(), hurried(), impatient()).await;
    let mut client = rig.connect().await;
    client.write(cut_short("application/json", "[1,2]")).await;
    let answer = client.read().await;
    assert_eq!(answer.status, 408, "{answer:?}");
    assert!(client.is_closed().await);
    assert!(rig.batches().is_empty());
}

#[tokio::test]
async fn a_body_that_trickles_is_answered_408() {
    let rig = Rig::hurried(settings(), hurried(), impatient()).await;
    let mut client = rig.connect().await;
    client.write("POST / HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: 90000\r\n\r\n").await;
    let answer = loop {
        client.write_while_taken(b"x").await;
        if let Ok(answer) = tokio::time::timeout(Duration::from_millis(50), client.try_read()).await {
            break answer.expect("it is answered before it is cut off");
        }
    };
    assert_eq!(answer.status, 408);
}

#[tokio::test]
async fn more_connections_than_allowed_wait_for_their_turn() {
    let rig = Rig::start(Settings { max_connections: 2, ..settings() }).await;
    let (mut first, mut second) = (rig.connect().await, rig.connect().await);
    for client in [&mut first, &mut second] {
        assert_eq!(client.send(post("application/json", "1")).await.status, 202);
    }
    let mut third = rig.connect().await;
    third.write(post("application/json", "1")).await;
    assert!(third.is_silent().await);
    drop(first);
    assert_eq!(third.read().await.status, 202);
}

#[tokio::test]
async fn many_large_bodies_at_once_are_all_taken() {
    // Together they are far more than what requests share.
    let large = 3 << 20;
    let limits =
        Settings { max_decompressed_bytes: large, max_event_bytes: large, max_body_bytes: large, ..settings() };
    let rig = Rig::start(limits).await;
    let mut clients = Vec::new();
    for _ in 0..8 {
        let mut client = rig.connect().await;
        clients.push(tokio::spawn(async move {
            let body = format!("\"{}\"", "x".repeat(large - 10));
            let body = zstd::encode_all(body.as_bytes(), 1).unwrap();
            client.send(encoded("zstd", &body)).await.status
        }));
    }
    for client in clients {
        assert_eq!(client.await.unwrap(), 202);
    }
    assert_eq!(rig.batches().len(), 8);
}

#[tokio::test]
async fn what_slow_producers_have_announced_does_not_hold_up_the_others() {
    let rig = Rig::start(Settings { max_body_bytes: 8 << 20, ..settings() }).await;
    let mut slow = Vec::new();
    for _ in 0..4 {
        let mut client = rig.connect().await;
        let head = "POST / HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: 4190000\r\n";
        client.write(format!("{head}Expect: 100-continue\r\n\r\n")).await;
        assert_eq!(client.read().await.status, 100, "its body is waited for");
        client.write("x").await;
        slow.push(client);
    }
    assert_eq!(rig.connect().await.send(post("application/json", "1")).await.status, 202);
}
