//! Snowpipe Streaming.

use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

use ureq::http::Method;

use super::{
    super::{Error, exchange::Call},
    *,
};

const OPENED: &str = r#"{"next_continuation_token":"3_0","channel_status":{"database_name":"DB","channel_name":"c",
    "channel_status_code":"SUCCESS","last_committed_offset_token":"t7","created_on_ms":1795175794320,
    "rows_inserted":5,"rows_parsed":6,"rows_error_count":1,"last_error_offset_upper_bound":"t6",
    "last_error_message":"Numeric value 'x' is not recognized","last_error_timestamp":1795175794399}}"#;
const APPENDED: &str = r#"{"status_code":0,"message":null,"next_continuation_token":"3_1"}"#;
const CHANNEL: &str = "/databases/DB/schemas/PUBLIC/pipes/EVENTS-STREAMING/channels/gw-1%2Ftemp%200";

fn appended() -> Answer {
    Answer::json(200, APPENDED)
}

async fn append(snowflake: &Arc<Snowflake>) -> Result<String, Error> {
    pipe(snowflake).append("gw-1/temp 0", "3_0", "a 1", "a+9", Bytes::from_static(b"rows")).await
}

/// What is asked about a channel, without the login.
fn asked(server: &Server) -> Vec<Request> {
    server.requests().into_iter().filter(|request| request.target.contains("/databases/")).collect()
}

#[tokio::test]
async fn opening_a_channel_says_what_is_committed() {
    let server = service(|_| Answer::json(200, OPENED));
    let snowflake = snowflake(&server);
    let opened = pipe(&snowflake).open("gw-1/temp 0", true, None).await.unwrap();
    assert_eq!(opened.continuation, "3_0");
    let text = |text: &str| Some(text.to_owned());
    let expected = super::super::Status {
        code: "SUCCESS".to_owned(),
        committed: text("t7"),
        rows_inserted: 5,
        rows_parsed: 6,
        rows_error_count: Some(1),
        last_error_offset_upper_bound: text("t6"),
        last_error_message: text("Numeric value 'x' is not recognized"),
        created_on_ms: Some(1_795_175_794_320),
    };
    assert_eq!((opened.status.problem(), opened.status), (None, expected));
    pipe(&snowflake).open("gw-1/temp 0", false, Some("t3")).await.unwrap();

    let asked = asked(&server);
    assert_eq!((asked[0].method.as_str(), path(&asked[0])), ("PUT", &*format!("/v2/streaming{CHANNEL}")));
    assert_eq!(query(&asked[0], "retryCount"), Some("0"));
    assert_eq!(body(&asked[0]), json!({ "fail_on_uncommitted_rows": true }));
    assert_eq!(body(&asked[1]), json!({ "fail_on_uncommitted_rows": false, "offset_token": "t3" }));
    assert_ne!(query(&asked[0], "requestId"), query(&asked[1], "requestId"));
}

#[tokio::test]
async fn a_channel_is_dropped_as_the_vendors_sdk_does_it() {
    let server = service(|_| Answer::json(200, r#"{"last_committed_offset_token":"t7"}"#));
    pipe(&snowflake(&server)).drop_channel("gw-1/temp 0").await.unwrap();
    let asked = asked(&server);
    assert_eq!((asked[0].method.as_str(), path(&asked[0])), ("DELETE", &*format!("/v2/streaming{CHANNEL}")));
    assert_eq!((query(&asked[0], "retryCount"), asked[0].body.as_str()), (Some("0"), ""));
}

#[tokio::test]
async fn an_append_bears_its_tokens_and_gives_the_next_one() {
    let server = service(|_| appended());
    let snowflake = snowflake(&server);
    for _ in 0..3 {
        assert_eq!(append(&snowflake).await.unwrap(), "3_1");
    }
    let asked = asked(&server);
    assert_eq!((asked[0].method.as_str(), path(&asked[0])), ("POST", &*format!("/v2/streaming/data{CHANNEL}/rows")));
    for (name, value) in [("startOffsetToken", "a%201"), ("endOffsetToken", "a%2B9"), ("continuationToken", "3%5F0")] {
        assert_eq!(query(&asked[0], name), Some(value));
    }
    for (name, value) in [
        ("content-type", "application/x-ndjson"),
        ("content-encoding", "zstd"),
        ("content-length", "4"),
        ("accept", "application/json"),
    ] {
        assert_eq!(asked[0].header(name), Some(value));
    }
    assert_eq!(asked[0].body, "rows");
    assert_eq!(server.connections(), 1, "appends follow each other on one connection");
}

#[tokio::test(start_paused = true)]
async fn an_append_that_is_not_answered_is_sent_again_as_it_was() {
    let server = service(script(vec![
        || appended().cut(0),
        || appended().cut(60),
        || Answer::json(500, r#"{"error_code":"ERR_INTERNAL","message":"oh"}"#),
        || Answer::json(503, r#""ERR_GENERAL_EXCEPTION_RETRY_REQUEST""#),
        || Answer::json(429, "").with("Retry-After", "20"),
        || Answer::json(408, "<html>"),
        appended,
    ]));
    let begun = tokio::time::Instant::now();
    assert_eq!(append(&snowflake(&server)).await.unwrap(), "3_1");
    assert!(
        begun.elapsed() >= Duration::from_secs(20),
        "it is left alone for as long as it asks, by the runtime's clock"
    );
    let asked = asked(&server);
    let counts: Vec<_> = asked.iter().map(|request| query(request, "retryCount").unwrap()).collect();
    assert_eq!(counts, ["0", "1", "2", "3", "4", "5", "6"]);
    let strip = |request: &Request| request.target.split("&retryCount").next().unwrap().to_owned();
    assert!(asked.iter().all(|request| strip(request) == strip(&asked[0]) && request.body == "rows"));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_busy_is_asked_seldom() {
    let server = service(|_| Answer::json(503, ""));
    assert!(matches!(append(&snowflake(&server)).await, Err(Error::Unknown(_))));
    let count = asked(&server).len();
    assert!((2..40).contains(&count), "{count} times in a minute of the runtime's clock");
}

/// Takes connections, and reads nothing.
fn deaf() -> (std::net::TcpListener, String) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    (listener, url)
}

#[tokio::test]
async fn a_body_that_does_not_get_through_or_is_not_answered_does_not_wait_for_the_whole_time() {
    let (_listener, url) = deaf();
    let server = service(|_| appended());
    for size in [1, 64 << 20] {
        let call = Call {
            method: Method::POST,
            url: url.clone(),
            headers: Vec::new(),
            body: vec![0; size].into(),
            patience: Duration::from_millis(100),
            longest: Duration::from_secs(24 * 3600),
        };
        let unanswered = snowflake(&server).call(call).await.err().unwrap();
        assert_eq!((&*unanswered.why, unanswered.may_have_arrived), ("no answer in time", true), "{size} bytes");
    }
}

#[tokio::test(start_paused = true)]
async fn what_may_have_come_of_an_append_is_told_from_what_cannot_have() {
    for (answer, may_have_arrived) in [
        ((|| appended().cut(0)) as fn() -> Answer, true),
        (|| Answer::json(503, ""), true),
        (|| Answer::json(429, ""), false),
    ] {
        let server = service(move |_| answer());
        match append(&snowflake(&server)).await.unwrap_err() {
            Error::Unknown(_) => assert!(may_have_arrived),
            Error::Retry { .. } => assert!(!may_have_arrived),
            other => panic!("{other:?}"),
        }
    }
    // An id that is refused in the end was sent all the same.
    let server = service(script(vec![|| appended().cut(0), || Answer::json(401, "")]));
    assert!(matches!(append(&snowflake(&server)).await, Err(Error::Unknown(_))));
    // So was one before which the login comes to nothing.
    let asked_for = AtomicUsize::new(0);
    let server = Server::start(move |request| match path(request) {
        "/v2/streaming/hostname" if asked_for.fetch_add(1, Ordering::Relaxed) == 0 => Answer::json(200, "127.0.0.1"),
        "/v2/streaming/hostname" => Answer::json(401, ""),
        "/oauth/token" => Answer::json(200, scoped(NOW + 3600, 0)),
        _ => appended().cut(0),
    });
    assert!(matches!(append(&snowflake(&server)).await, Err(Error::Unknown(_))));
    let server = service(|_| Answer::json(200, r#"{"status_code":7,"message":"no"}"#));
    assert!(matches!(append(&snowflake(&server)).await, Err(Error::Unknown(_))));
}

fn class(error: &Error) -> &'static str {
    match error {
        Error::Retry { .. } => "retry",
        Error::Unknown(_) => "unknown",
        Error::Reopen(_) => "reopen",
        Error::Superseded(_) => "superseded",
        Error::Uncommitted(_) => "uncommitted",
        Error::Unauthorized(_) => "unauthorized",
        Error::Missing(_) => "missing",
        Error::TooLarge(_) => "too large",
        Error::Statement(_) => "statement",
        Error::Confused(_) => "confused",
    }
}

#[tokio::test(start_paused = true)]
async fn every_answer_has_its_class() {
    for (status, body, to_append, to_open) in [
        (400, r#"{"code":"STALE_CONTINUATION_TOKEN_SEQUENCER","message":"stale"}"#, "superseded", "superseded"),
        (409, r#"{"code":"ERR_CHANNEL_HAS_INVALID_CLIENT_SEQUENCER"}"#, "superseded", "superseded"),
        (400, r#"{"error_code":"STALE_PIPE_CACHE"}"#, "reopen", "reopen"),
        (400, r#"{"code":"ERR_CHANNEL_HAS_INVALID_ROW_SEQUENCER"}"#, "reopen", "reopen"),
        (404, r#"{"code":"ERR_CHANNEL_DOES_NOT_EXIST_OR_IS_NOT_AUTHORIZED"}"#, "reopen", "reopen"),
        (409, r#"{"code":"ERR_CHANNEL_HAS_UNCOMMITTED_DATA"}"#, "uncommitted", "uncommitted"),
        (409, "", "reopen", "reopen"),
        (409, r#"{"code":"ERR_OPEN_CHANNEL_IN_PROGRESS"}"#, "retry", "retry"),
        (404, r#"{"error_code":"ERR_PIPE_DOES_NOT_EXIST_OR_NOT_AUTHORIZED"}"#, "missing", "missing"),
        (403, r#"{"code":"ERR_TABLE_DOES_NOT_EXIST_NOT_AUTHORIZED"}"#, "missing", "missing"),
        (404, "<html>Not found</html>", "reopen", "missing"),
        (400, r#""nonsense""#, "reopen", "confused"),
        (413, "", "too large", "too large"),
        (401, r#"{"code":"390303"}"#, "unauthorized", "unauthorized"),
        (403, "", "unauthorized", "unauthorized"),
        (429, "", "retry", "retry"),
        (503, r#""ERR_GENERAL_EXCEPTION_RETRY_REQUEST""#, "unknown", "retry"),
    ] {
        let server = service(move |_| Answer::json(status, body));
        let snowflake = snowflake(&server);
        let error = append(&snowflake).await.unwrap_err();
        assert_eq!(class(&error), to_append, "append: {status} {body}: {error}");
        let error = pipe(&snowflake).open("c", true, None).await.unwrap_err();
        assert_eq!(class(&error), to_open, "open: {status} {body}: {error}");
        assert!(error.to_string().contains(&status.to_string()), "{error}");
    }
}

#[tokio::test]
async fn a_missing_pipe_is_named_with_what_to_grant() {
    let server = service(|_| {
        Answer::json(404, r#"{"error_code":"ERR_PIPE_DOES_NOT_EXIST_OR_NOT_AUTHORIZED","message":"No such pipe"}"#)
    });
    let error = pipe(&snowflake(&server)).open("c", true, None).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot open channel c of \"DB\".\"PUBLIC\".\"EVENTS-STREAMING\": the service answers 404: \
         ERR_PIPE_DOES_NOT_EXIST_OR_NOT_AUTHORIZED: No such pipe; look whether database, schema, table and pipe are there, \
         and grant ING USAGE on the database and the schema, INSERT on the table, and OPERATE on a pipe of your own"
    );
    // It may say so with 200, too.
    let status = r#"{"channel_status":{"channel_status_code":"ERR_PIPE_DOES_NOT_EXIST_OR_NOT_AUTHORIZED"}}"#;
    let server = service(move |_| Answer::json(200, status));
    let error = pipe(&snowflake(&server)).open("c", true, None).await.unwrap_err();
    assert_eq!(class(&error), "missing", "{error}");
}

#[tokio::test]
async fn a_status_that_is_no_success_says_what_is_to_be_done() {
    for (code, expected) in [
        ("SUCCESS", None),
        ("ACTIVE", None),
        ("ERR_CHANNEL_MUST_BE_REOPENED_DUE_TO_ROW_SEQ_GAP", Some("reopen")),
        ("ERR_TABLE_DOES_NOT_EXIST_NOT_AUTHORIZED", Some("missing")),
        ("SOMETHING_NEW", Some("reopen")),
    ] {
        let status = super::super::Status { code: code.to_owned(), ..Default::default() };
        assert_eq!(status.problem().as_ref().map(class), expected, "{code}");
    }
}

#[tokio::test]
async fn counts_of_rows_are_read_however_they_are_written() {
    let server = service(|request| {
        let channel = &body(request)["channel_names"][0];
        let count = match channel.as_str().unwrap() {
            "integer" => json!(3),
            "text" => json!("3"),
            "float" => json!(3.0),
            "none" => Value::Null,
            other => json!(other),
        };
        let status = json!({ "rows_error_count": count, "channel_status_code": "SUCCESS" });
        Answer::json(200, json!({ "channel_statuses": { channel.as_str().unwrap(): status } }).to_string())
    });
    let pipe = pipe(&snowflake(&server));
    for (name, expected) in [("integer", Some(3)), ("text", Some(3)), ("float", Some(3)), ("none", None)] {
        let statuses = pipe.statuses(&[name]).await.unwrap();
        assert_eq!(statuses[name].rows_error_count, expected, "{name}");
    }
    for name in ["three", "3.5", "-3"] {
        let error = pipe.statuses(&[name]).await.unwrap_err();
        assert!(matches!(&error, Error::Confused(why) if why.contains(name)), "{error:?}");
    }
}

#[tokio::test]
async fn statuses_are_asked_for_together_and_in_parts_where_they_are_too_many() {
    let status = AtomicUsize::new(412);
    let server = service(move |request| {
        let names = body(request)["channel_names"].as_array().unwrap().clone();
        if names.len() > 2 {
            // The reference has the code, and not the status that it comes with.
            let status = status.fetch_add(1, Ordering::Relaxed) as u16;
            return Answer::json(status, r#"{"code":"ERR_GET_CHANNEL_STATUS_BATCH_TOO_MANY_CHANNELS"}"#);
        }
        let known = names.iter().filter(|name| *name != "c3");
        let statuses: serde_json::Map<_, _> = known
            .map(|name| {
                (name.as_str().unwrap().to_owned(), json!({ "rows_errors": 4, "channel_status_code": "SUCCESS" }))
            })
            .collect();
        Answer::json(200, json!({ "channel_statuses": statuses }).to_string())
    });
    let statuses = pipe(&snowflake(&server)).statuses(&["c0", "c1", "c2", "c3", "c4"]).await.unwrap();
    let mut names: Vec<_> = statuses.keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["c0", "c1", "c2", "c4"], "the service does not know the other");
    assert!(statuses.values().all(|status| status.rows_error_count == Some(4)));
    let target = "/v2/streaming/databases/DB/schemas/PUBLIC/pipes/EVENTS-STREAMING:bulk-channel-status";
    assert!(asked(&server).iter().all(|request| path(request) == target && request.method == "POST"));
}

/// A service that counts its tokens, and takes the last one only.
fn counting(life: i64, fails: fn(&Request, usize) -> bool) -> Server {
    let given = AtomicUsize::new(0);
    Server::start(move |request| match path(request) {
        "/v2/streaming/hostname" => Answer::json(200, "127.0.0.1"),
        "/oauth/token" => Answer::json(200, scoped(NOW + life, given.fetch_add(1, Ordering::Relaxed) + 1)),
        _ if fails(request, given.load(Ordering::Relaxed)) => Answer::json(401, r#"{"code":"390318"}"#),
        _ => appended(),
    })
}

fn logins(server: &Server) -> usize {
    server.requests().iter().filter(|request| path(request) == "/oauth/token").count()
}

#[tokio::test]
async fn a_token_that_is_refused_is_replaced_and_the_append_is_sent_again() {
    let server = counting(3600, |_, given| given == 1);
    let snowflake = snowflake(&server);
    append(&snowflake).await.unwrap();
    append(&snowflake).await.unwrap();
    assert_eq!(logins(&server), 2);
    let asked = asked(&server);
    assert_eq!(query(&asked[0], "requestId"), query(&asked[1], "requestId"));
    assert_eq!((query(&asked[1], "retryCount"), asked.len()), (Some("1"), 3));
}

#[tokio::test(start_paused = true)]
async fn a_token_is_renewed_before_the_end_that_it_bears() {
    let server = counting(1200, |_, _| false);
    let snowflake = snowflake(&server);
    append(&snowflake).await.unwrap();
    tokio::time::advance(Duration::from_secs(9 * 60)).await;
    append(&snowflake).await.unwrap();
    assert_eq!(logins(&server), 1);
    tokio::time::advance(Duration::from_secs(8 * 60)).await;
    // Nobody waits for the new one.
    append(&snowflake).await.unwrap();
    while logins(&server) < 2 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn an_ingest_host_that_is_away_is_asked_for_again() {
    let asked_for = AtomicUsize::new(0);
    let server = Server::start(move |request| match path(request) {
        // On the first nobody listens.
        "/v2/streaming/hostname" if asked_for.fetch_add(1, Ordering::Relaxed) == 0 => Answer::json(200, "127.0.0.2"),
        "/v2/streaming/hostname" => Answer::json(200, "127.0.0.1"),
        "/oauth/token" => Answer::json(200, scoped(NOW + 3600, 0)),
        _ => appended(),
    });
    let snowflake = snowflake(&server);
    append(&snowflake).await.unwrap();
    append(&snowflake).await.unwrap();
    assert_eq!(logins(&server), 2);
}

#[tokio::test]
async fn one_login_serves_all_channels_that_wait_for_it() {
    let server = service(|_| appended());
    let snowflake = snowflake(&server);
    let appends: Vec<_> = (0..16)
        .map(|_| {
            let snowflake = Arc::clone(&snowflake);
            tokio::spawn(async move { append(&snowflake).await })
        })
        .collect();
    for append in appends {
        append.await.unwrap().unwrap();
    }
    assert_eq!(logins(&server), 1);
}
