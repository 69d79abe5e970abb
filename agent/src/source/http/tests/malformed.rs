//! Requests that are wrong: each gets the answer that says how, and nothing of it is kept.

use super::{
    rig::{Rig, cut_short, post, settings},
    *,
};
use crate::secret::Secret;

#[tokio::test]
async fn the_place_of_a_fault_is_told_and_nothing_is_kept() {
    let rig = Rig::start(settings()).await;
    let mut client = rig.connect().await;
    let answer = client.send(post("application/x-ndjson", "{\"a\":1}\n{\"a\":}\n{\"a\":3}\n")).await;
    assert_eq!((answer.status, &answer.json()["line"]), (400, &2.into()));
    assert!(answer.json()["error"].as_str().unwrap().contains("line 2"), "{answer:?}");
    let answer = client.send(post("application/json", "[1,2,]")).await;
    assert_eq!((answer.status, &answer.json()["element"], &answer.json()["byte"]), (400, &2.into(), &5.into()));
    assert_eq!(client.send(post("application/json", "")).await.status, 400);
    // The connection is as good as before.
    assert_eq!(client.send(post("application/json", "1")).await.status, 202);
    assert_eq!(rig.batches().len(), 1);
}

#[tokio::test]
async fn a_wrong_place_or_method_is_told_the_right_one() {
    let rig = Rig::start(Settings { path: "/events".to_owned(), ..settings() }).await;
    let mut client = rig.connect().await;
    let answer = client.send(post("application/json", "1")).await;
    assert_eq!(answer.status, 404);
    assert!(answer.body.contains("/events"), "{answer:?}");
    for method in ["GET", "PUT", "DELETE"] {
        let answer = client.send(format!("{method} /events?x=y HTTP/1.1\r\nHost: x\r\n\r\n")).await;
        assert_eq!((answer.status, answer.header("allow")), (405, Some("POST")), "{method}");
    }
    assert_eq!(client.send(post("application/json", "1").replace("POST /", "POST /events")).await.status, 202);
}

#[tokio::test]
async fn unknown_types_and_encodings_are_told_the_known_ones() {
    let rig = Rig::start(settings()).await;
    let mut client = rig.connect().await;
    let answer = client.send(post("application/x-www-form-urlencoded", "{}")).await;
    assert_eq!(answer.status, 415);
    assert!(answer.body.contains("application/json"), "{answer:?}");
    let answer = client.send(rig::encoded("br", b"x")).await;
    assert_eq!((answer.status, answer.header("accept-encoding")), (415, Some("gzip, zstd")));
}

#[tokio::test]
async fn without_the_token_nothing_is_taken() {
    let token = Some(SecretSource::Inline(Secret::new("hunter2")));
    let rig = Rig::start(Settings { token, ..settings() }).await;
    let mut client = rig.connect().await;
    let with = |value: &str| post("application/json", "1").replace("Host", &format!("Authorization: {value}\r\nHost"));
    for request in [post("application/json", "1"), with("Bearer hunter3"), with("Basic hunter2")] {
        let answer = client.send(request).await;
        assert_eq!((answer.status, answer.header("www-authenticate")), (401, Some("Bearer")));
        assert!(!answer.body.contains("hunter"), "{answer:?}");
    }
    assert_eq!(client.send(with("Bearer hunter2")).await.status, 202);
    assert_eq!(rig.batches().len(), 1);
}

#[tokio::test]
async fn a_new_token_counts_without_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, "old\n").unwrap();
    let rig = Rig::start(Settings { token: Some(SecretSource::File(file.clone())), ..settings() }).await;
    let mut client = rig.connect().await;
    let with = |token| post("application/json", "1").replace("Host", &format!("Authorization: Bearer {token}\r\nHost"));
    assert_eq!(client.send(with("old")).await.status, 202);
    std::fs::write(&file, "new\n").unwrap();
    let counts = async {
        while client.send(with("new")).await.status != 202 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), counts).await.expect("the new token counts");
    assert_eq!(client.send(with("old")).await.status, 401);
}

#[tokio::test]
async fn a_token_file_that_is_not_there_is_tried_again_later() {
    let token = Some(SecretSource::File("/nonexistent/token".into()));
    let Err(SourceError::Retry(error)) = Rig::refused(Settings { token, ..settings() }).await else {
        panic!("it must be tried again")
    };
    assert!(error.contains("/nonexistent/token"), "{error}");
}

#[tokio::test]
async fn what_is_no_http_ends_the_connection_and_no_other() {
    let rig = Rig::start(settings()).await;
    let mut good = rig.connect().await;
    let head = "POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n";
    for wrong in [
        "\0\0\0\0\r\n\r\n".to_owned(),
        "\x16\x03\x01\x02\x00\x01\x00\x01\x7c".to_owned() + &"x".repeat(200) + "\r\n\r\n",
        "POST / HTTP/9.9\r\n\r\n".to_owned(),
        "POST /\r\n\r\n\r\n".to_owned(),
        format!("{head}Content-Length: -1\r\n\r\n1"),
        format!("{head}Content-Length: 1\r\nContent-Length: 2\r\n\r\n11"),
        format!("{head}Content-Length: 99999999999999999999999\r\n\r\n1"),
        format!("{head}Transfer-Encoding: chunked\r\n\r\nzz\r\n1\r\n0\r\n\r\n"),
        format!("{head}Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n1"),
        format!("{head}X: {}\r\n\r\n", "x".repeat(200_000)),
        format!("{head}{}\r\n\r\n", "X: x\r\n".repeat(1_000)),
    ] {
        let mut client = rig.connect().await;
        client.write_while_taken(wrong.as_bytes()).await;
        let shown = wrong.escape_debug().take(80).collect::<String>();
        while let Some(answer) = client.try_read().await {
            assert!((400..500).contains(&answer.status), "{shown}: {answer:?}");
        }
    }
    assert_eq!(good.send(post("application/json", "1")).await.status, 202);
    assert_eq!(rig.batches().len(), 1);
}

#[tokio::test]
async fn a_length_and_chunks_together_cannot_hide_a_second_request() {
    let rig = Rig::start(settings()).await;
    let mut client = rig.connect().await;
    let both = "POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 4\r\n\
                Transfer-Encoding: chunked\r\n\r\n1\r\n1\r\n0\r\n\r\n";
    client.write_while_taken(both.as_bytes()).await;
    client.write_while_taken(post("application/json", "2").as_bytes()).await;
    let mut answers = Vec::new();
    while let Some(answer) = client.try_read().await {
        answers.push(answer.status);
        if answers.len() == 2 {
            break;
        }
    }
    let bodies = bodies(&rig).concat();
    assert!(bodies.iter().all(|body| body == "1" || body == "2"), "{bodies:?}");
    assert_eq!(answers.iter().filter(|status| **status == 202).count(), bodies.len());
}

#[tokio::test]
async fn a_body_that_breaks_off_is_not_kept() {
    let rig = Rig::start(settings()).await;
    for part in [cut_short("application/x-ndjson", "1\n2\n3\n"), cut_short("application/json", "[1,2,3]")] {
        let mut client = rig.connect().await;
        client.write(part).await;
        drop(client);
    }
    assert_eq!(rig.connect().await.send(post("application/json", "4")).await.status, 202);
    assert_eq!(bodies(&rig), [["4"]]);
}
