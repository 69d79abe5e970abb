//! The source as its producers see it: real sockets, and an intake that remembers what it was given.

mod encrypted;
mod limits;
mod malformed;
mod rig;

use std::io::Write;

use forebay_buffer::{TimeQuality, Timestamp, Value};

use super::*;
use crate::contract::{IntakeError, IntakeRequest, PartitionRequest};
use rig::{Rig, TIME, appended, post, settings};

fn bodies(rig: &Rig) -> Vec<Vec<String>> {
    let text = |event: forebay_buffer::Event| String::from_utf8(event.body.unwrap().to_vec()).unwrap();
    rig.batches().into_iter().map(|batch| batch.events.into_iter().map(text).collect()).collect()
}

#[tokio::test]
async fn the_events_of_a_request_are_one_batch() {
    let rig = Rig::start(settings()).await;
    let mut client = rig.connect().await;
    for (content_type, body, accepted) in [
        ("application/json", "{\"a\": 1}", 1),
        ("application/json", "[1, {\"b\":2}]", 2),
        ("application/x-ndjson", "1\r\n2\n3", 3),
        ("text/plain", "some\ntext", 1),
    ] {
        let answer = client.send(&post(content_type, body)).await;
        assert_eq!(answer.status, 202, "{answer:?}");
        assert_eq!(answer.body, format!("{{\"accepted\":{accepted}}}"));
    }
    let expected = vec![vec!["{\"a\": 1}"], vec!["1", "{\"b\":2}"], vec!["1", "2", "3"], vec!["some\ntext"]];
    assert_eq!(bodies(&rig), expected);
}

#[tokio::test]
async fn an_event_bears_time_key_and_content_type() {
    let rig = Rig::start(settings()).await;
    let mut client = rig.connect().await;
    let request = post("text/plain; charset=utf-8", "x").replace("POST /", "POST /?key=pump%207");
    assert_eq!(client.send(&request).await.status, 202);
    let event = rig.batches().remove(0).events.remove(0);
    assert_eq!((event.time, event.time_quality), (Timestamp(TIME), TimeQuality::Stamped));
    assert_eq!(event.key.unwrap(), "pump 7");
    assert_eq!(event.headers, [("content_type".to_owned(), Value::from("text/plain; charset=utf-8"))]);
}

#[tokio::test]
async fn the_answer_comes_after_the_receipt() {
    // Promise 1.
    let (rig, mut requests) = Rig::held(settings()).await;
    let mut client = rig.connect().await;
    client.write(post("application/json", "1")).await;
    let Some(IntakeRequest::Of { request: PartitionRequest::Append { reply, .. }, .. }) = requests.recv().await else {
        panic!("no batch came")
    };
    assert!(client.is_silent().await);
    reply.send(Ok(appended(1))).unwrap();
    assert_eq!(client.read().await.status, 202);
}

#[tokio::test]
async fn what_the_intake_does_not_take_is_not_acknowledged() {
    let (rig, mut requests) = Rig::held(settings()).await;
    let mut client = rig.connect().await;
    for (error, status) in
        [(IntakeError::Full, 429), (IntakeError::Fenced, 503), (IntakeError::Closed("disk gone".to_owned()), 503)]
    {
        client.write(post("application/json", "1")).await;
        let Some(IntakeRequest::Of { request: PartitionRequest::Append { reply, wait, .. }, .. }) =
            requests.recv().await
        else {
            panic!("no batch came")
        };
        assert!(!wait, "a producer can be told to come again");
        reply.send(Err(error)).unwrap();
        let answer = client.read().await;
        assert_eq!(answer.status, status);
        assert!(answer.header("retry-after").is_some(), "{answer:?}");
    }
    // An intake that goes without a word has kept nothing, as far as anyone knows.
    client.write(post("application/json", "1")).await;
    drop(requests.recv().await);
    assert_eq!(client.read().await.status, 503);
}

#[tokio::test]
async fn a_full_buffer_is_said_before_the_body_is_read() {
    let rig = Rig::start(settings()).await;
    rig.full.send_replace(true);
    let mut client = rig.connect().await;
    let large = "POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 90000\r\n\r\n";
    client.write(large).await;
    let answer = client.read().await;
    assert_eq!((answer.status, answer.header("connection")), (429, Some("close")));
    assert!(answer.header("retry-after").unwrap().parse::<u32>().unwrap() > 0);

    // A short body is read and thrown away, and the connection goes on.
    let mut client = rig.connect().await;
    assert_eq!(client.send(&post("application/json", "1")).await.status, 429);
    rig.full.send_replace(false);
    assert_eq!(client.send(&post("application/json", "1")).await.status, 202);
}

#[tokio::test]
async fn bodies_may_be_compressed() {
    let rig = Rig::start(settings()).await;
    let mut client = rig.connect().await;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(b"[1,2]").unwrap();
    let bodies_sent = [("gzip", gzip.finish().unwrap()), ("zstd", zstd::encode_all(&b"[1,2]"[..], 1).unwrap())];
    for (encoding, body) in &bodies_sent {
        let answer = client.send(rig::encoded(encoding, body)).await;
        assert_eq!((answer.status, answer.body.as_str()), (202, "{\"accepted\":2}"), "{encoding}");
    }
    for (encoding, body) in &bodies_sent {
        let answer = client.send(rig::encoded(encoding, &body[..body.len() - 3])).await;
        assert_eq!(answer.status, 400, "{encoding}: {answer:?}");
    }
    assert_eq!(bodies(&rig), vec![vec!["1", "2"]; 2]);
}

#[tokio::test]
async fn a_client_that_asks_first_is_told_to_go_on() {
    let rig = Rig::start(settings()).await;
    let mut client = rig.connect().await;
    let head = "POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1\r\n";
    client.write(format!("{head}Expect: 100-continue\r\n\r\n")).await;
    assert_eq!(client.read().await.status, 100);
    client.write("7").await;
    assert_eq!(client.read().await.status, 202);
    assert_eq!(bodies(&rig), [["7"]]);
}

#[tokio::test]
async fn a_client_that_asks_first_is_told_not_to() {
    let rig = Rig::start(settings()).await;
    let mut client = rig.connect().await;
    let head = "POST / HTTP/1.1\r\nHost: x\r\nContent-Type: text/csv\r\nContent-Length: 1\r\n";
    client.write(format!("{head}Expect: 100-continue\r\n\r\n")).await;
    assert_eq!(client.read().await.status, 415);
}

#[tokio::test]
async fn requests_may_follow_each_other_without_waiting() {
    let rig = Rig::start(settings()).await;
    let mut client = rig.connect().await;
    let requests: String = (0..50).map(|n| post("application/json", &n.to_string())).collect();
    client.write(requests).await;
    for _ in 0..50 {
        assert_eq!(client.read().await.status, 202);
    }
    let expected: Vec<_> = (0..50).map(|n: u32| vec![n.to_string()]).collect();
    assert_eq!(bodies(&rig), expected);
}

#[tokio::test]
async fn a_chunked_body_may_come_in_the_smallest_pieces() {
    let rig = Rig::start(settings()).await;
    let mut client = rig.connect().await;
    let head = "POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunks: String = "[10,20]".chars().map(|byte| format!("1\r\n{byte}\r\n")).collect();
    for byte in format!("{head}{chunks}0\r\n\r\n").chars() {
        client.write(byte.to_string()).await;
    }
    assert_eq!(client.read().await.status, 202);
    assert_eq!(bodies(&rig), [["10", "20"]]);
}

#[tokio::test]
async fn an_empty_array_is_no_event_and_no_batch() {
    let rig = Rig::start(settings()).await;
    let answer = rig.connect().await.send(&post("application/json", "[]")).await;
    assert_eq!((answer.status, answer.body.as_str()), (202, "{\"accepted\":0}"));
    assert!(rig.batches().is_empty());
}

#[tokio::test]
async fn a_request_that_is_on_its_way_is_answered_before_the_end() {
    let (mut rig, mut requests) = Rig::held(settings()).await;
    let mut client = rig.connect().await;
    let mut idle = rig.connect().await;
    client.write(post("application/json", "1")).await;
    let Some(IntakeRequest::Of { request: PartitionRequest::Append { reply, .. }, .. }) = requests.recv().await else {
        panic!("no batch came")
    };
    rig.stop();
    assert!(idle.is_closed().await, "an idle connection holds nothing up");
    reply.send(Ok(appended(1))).unwrap();
    assert_eq!(client.read().await.status, 202);
    rig.ended().await.unwrap();
}

#[tokio::test]
async fn an_address_that_is_taken_is_tried_again_later() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let settings = Settings { listen: taken.local_addr().unwrap(), ..settings() };
    let Err(SourceError::Retry(error)) = Rig::refused(settings).await else { panic!("it must be tried again") };
    assert!(error.contains("cannot listen on 127.0.0.1:"), "{error}");
}
