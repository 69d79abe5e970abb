//! The SQL API.

use std::{
    io::Write,
    sync::atomic::{AtomicBool, Ordering},
};

use super::{
    super::{DUPLICATE_KEY, Error, Statement, Stats, Value as Bound},
    *,
};

fn statement(text: &str) -> Statement {
    Statement {
        text: text.to_owned(),
        bindings: Vec::new(),
        database: None,
        schema: None,
        warehouse: None,
        role: None,
        timeout: LONG,
    }
}

/// So short that what is tried again ends soon.
fn hasty(text: &str) -> Statement {
    Statement { timeout: Duration::from_millis(200), ..statement(text) }
}

const DONE: &str = r#"{"resultSetMetaData":{"numRows":2,"format":"jsonv2","partitionInfo":[{"rowCount":2}],
    "rowType":[{"name":"A","type":"text"},{"name":"B","type":"fixed"}]},
    "data":[["x","1"],[null,"2"]],"code":"090001","sqlState":"00000","statementHandle":"h-1",
    "message":"Statement executed successfully.","stats":{"numRowsInserted":1,"numRowsUpdated":2,"numRowsDeleted":3}}"#;
const RUNS: &str = r#"{"code":"333334","message":"Asynchronous execution in progress.","statementHandle":"h-1"}"#;

fn done() -> Answer {
    Answer::json(200, DONE)
}

fn runs() -> Answer {
    Answer::json(202, RUNS)
}

#[tokio::test]
async fn a_statement_says_all_that_it_needs_and_its_result_is_read() {
    let server = service(|_| done());
    let statement = Statement {
        bindings: vec![Bound::Text("it's".to_owned()), Bound::Fixed(-7), Bound::Null],
        database: Some("DB".to_owned()),
        schema: Some("PUBLIC".to_owned()),
        warehouse: Some("WH".to_owned()),
        ..statement("select ?, ?, ?")
    };
    let result = snowflake(&server).execute(statement).await.unwrap();
    assert_eq!(result.columns, ["A", "B"]);
    let text = |value: &str| Some(value.to_owned());
    assert_eq!(result.rows, [[text("x"), text("1")], [None, text("2")]]);
    assert_eq!(result.stats, Some(Stats { inserted: 1, updated: 2, deleted: 3 }));
    assert_eq!(result.affected(), 6);

    let request = &server.requests()[0];
    assert_eq!((request.method.as_str(), path(request)), ("POST", "/api/v2/statements"));
    assert_eq!((query(request, "requestId").map(str::len), query(request, "retry")), (Some(36), None));
    assert_eq!(request.header("accept"), Some("application/json"));
    assert_eq!(request.header("content-type"), Some("application/json"));
    assert!(request.header("user-agent").unwrap().starts_with("forebay/"));
    assert_eq!(request.header("x-snowflake-authorization-token-type"), Some("KEYPAIR_JWT"));
    let expected = json!({
        "statement": "select ?, ?, ?", "timeout": 60,
        "database": "DB", "schema": "PUBLIC", "warehouse": "WH", "role": "ING",
        "bindings": {
            "1": { "type": "TEXT", "value": "it's" }, "2": { "type": "FIXED", "value": "-7" },
            "3": { "type": "TEXT", "value": null },
        },
    });
    assert_eq!(body(request), expected);
}

#[tokio::test]
async fn a_statement_that_is_not_answered_is_sent_again_under_its_id() {
    let server = service(script(vec![
        || done().cut(0),
        || done().cut(200),
        || Answer::json(503, r#""ERR_GENERAL_EXCEPTION_RETRY_REQUEST""#),
        || Answer::json(429, r#"{"code":"390505","message":"Too many requests."}"#),
        done,
    ]));
    let result = snowflake(&server).execute(statement("select 1")).await.unwrap();
    assert_eq!(result.rows.len(), 2);
    let requests = server.requests();
    let ids: Vec<_> = requests.iter().map(|request| query(request, "requestId").unwrap()).collect();
    assert_eq!(ids, [ids[0]; 5]);
    let retries: Vec<_> = requests.iter().map(|request| query(request, "retry")).collect();
    assert_eq!(retries, [None, Some("true"), Some("true"), Some("true"), Some("true")]);
    assert!(requests.iter().all(|request| request.body == requests[0].body));
}

#[tokio::test]
async fn what_is_known_of_a_statement_that_nobody_answers_is_said() {
    let server = service(|_| Answer::json(429, "").with("Retry-After", "7"));
    let error = snowflake(&server).execute(hasty("update t")).await.unwrap_err();
    let Error::Retry { after, .. } = error else { panic!("{error:?}") };
    assert_eq!(after, Some(Duration::from_secs(7)));
    let server = service(|_| Answer::json(503, "").with("Retry-After", "18446744073709551615"));
    let error = snowflake(&server).execute(hasty("update t")).await.unwrap_err();
    assert!(matches!(error, Error::Unknown(_)), "no pause is too long to be waited for: {error:?}");

    let server = service(|_| done().cut(10));
    let error = snowflake(&server).execute(hasty("update t")).await.unwrap_err();
    assert!(matches!(&error, Error::Unknown(_)), "{error:?}");
    assert!(error.to_string().contains("cannot carry out a statement at http://127.0.0.1"), "{error}");

    let nobody =
        Settings { account: Account::parse("a", Some(&crate::client::server::nobody())).unwrap(), ..settings(&server) };
    let error = made(nobody).execute(hasty("update t")).await.unwrap_err();
    assert!(matches!(error, Error::Retry { after: None, .. }), "nothing can have come of it: {error:?}");
}

#[tokio::test]
async fn what_the_service_says_of_a_statement_is_kept_apart() {
    let refuse = |status: u16, code: &'static str, message: &'static str| {
        service(move |_| {
            let refusal = json!({ "code": code, "message": message, "sqlState": "42000", "statementHandle": "h-9" });
            Answer::json(status, refusal.to_string())
        })
    };
    let server = refuse(422, "000904", "SQL compilation error: error line 1 at position 7\ninvalid identifier 'FOO'");
    let error = snowflake(&server).execute(statement("select foo")).await.unwrap_err();
    let said = error.statement().unwrap();
    assert_eq!((said.code.as_str(), said.state.as_str(), said.position), ("000904", "42000", Some((1, 7))));
    assert_eq!(
        error.to_string(),
        "SQL compilation error: error line 1 at position 7 invalid identifier 'FOO' (code 000904, SQLSTATE 42000, query h-9)"
    );
    let server = refuse(422, DUPLICATE_KEY, "Primary key already exists");
    assert!(snowflake(&server).execute(statement("insert")).await.unwrap_err().is(DUPLICATE_KEY));
    let server = refuse(408, "000604", "SQL execution canceled");
    assert!(snowflake(&server).execute(statement("select")).await.unwrap_err().is("000604"), "it is not tried again");
    for (status, words) in [(400, "390142: no payload"), (404, "the right one"), (413, "413")] {
        let server = refuse(status, "390142", "no payload");
        let error = snowflake(&server).execute(statement("select")).await.unwrap_err();
        assert!(error.statement().is_none() && error.to_string().contains(words), "{error}");
    }
}

#[tokio::test]
async fn a_statement_that_takes_its_time_is_asked_about_until_it_is_done() {
    let server = service(script(vec![runs, runs, || Answer::json(502, "<html>"), runs, done]));
    let result = snowflake(&server).execute(statement("call slow()")).await.unwrap();
    assert_eq!(result.rows.len(), 2);
    let requests = server.requests();
    assert!(requests[1..].iter().all(|request| path(request) == "/api/v2/statements/h-1" && request.method == "GET"));
    assert_eq!(requests.len(), 5);

    let server = service(script(vec![runs, || Answer::json(422, r#"{"code":"100132","message":"no"}"#)]));
    assert!(snowflake(&server).execute(statement("call slow()")).await.unwrap_err().is("100132"));
    assert_eq!(server.requests().len(), 2, "there is nothing to cancel");
}

#[tokio::test]
async fn a_statement_is_cancelled_when_its_time_is_over() {
    let server = service(|_| runs());
    let error = snowflake(&server).execute(hasty("call slow()")).await.unwrap_err();
    assert!(matches!(&error, Error::Unknown(message) if message.contains("h-1")), "{error:?}");
    let last = server.requests().pop().unwrap();
    assert_eq!((last.method.as_str(), path(&last)), ("POST", "/api/v2/statements/h-1/cancel"));
}

#[tokio::test]
async fn a_statement_that_nobody_waits_for_is_cancelled() {
    let server = service(|_| runs());
    let snowflake = snowflake(&server);
    let waiting = tokio::spawn(async move { snowflake.execute(statement("call slow()")).await });
    while server.requests().is_empty() {
        tokio::task::yield_now().await;
    }
    waiting.abort();
    assert!(waiting.await.unwrap_err().is_cancelled());
    let is_cancelled = || server.requests().iter().any(|request| path(request).ends_with("/h-1/cancel"));
    while !is_cancelled() {
        tokio::task::yield_now().await;
    }
}

fn in_parts(request: &Request) -> Answer {
    let gzip = |text: &str| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    };
    match query(request, "partition") {
        None => Answer::json(200, DONE.replace(r#"[{"rowCount":2}]"#, "[{},{},{}]")),
        Some("1") => Answer::json(200, gzip(r#"{"data":[["y","3"]]}"#)).with("Content-Encoding", "gzip"),
        Some(_) => Answer::json(200, r#"{"data":[["z","4"]]}"#),
    }
}

#[tokio::test]
async fn a_large_result_comes_in_parts() {
    let server = service(in_parts);
    let result = snowflake(&server).execute(statement("select")).await.unwrap();
    let last: Vec<_> = result.rows.iter().map(|row| row[1].clone().unwrap()).collect();
    assert_eq!(last, ["1", "2", "3", "4"]);
}

#[tokio::test]
async fn a_proof_that_is_refused_is_replaced_once() {
    let server =
        service(script(vec![|| Answer::json(401, r#"{"code":"390144","message":"JWT token is invalid."}"#), done]));
    let snowflake = snowflake(&server);
    snowflake.execute(statement("select 1")).await.unwrap();
    snowflake.execute(statement("select 1")).await.unwrap();
    assert_eq!(server.requests().len(), 3);

    static LET_IN: AtomicBool = AtomicBool::new(false);
    let server = service(|_| match LET_IN.load(Ordering::Relaxed) {
        true => done(),
        false => Answer::json(401, r#"{"code":"390144","message":"JWT token is invalid."}"#),
    });
    let snowflake = self::snowflake(&server);
    let error = snowflake.execute(statement("select 1")).await.unwrap_err();
    assert!(matches!(error, Error::Unauthorized(_)), "{error:?}");
    let shown = error.to_string();
    assert!(shown.contains("390144: JWT token is invalid") && shown.contains(FINGERPRINT), "{shown}");
    assert!(shown.contains("DESC USER ingest"), "{shown}");
    assert_eq!(server.requests().len(), 2);
    LET_IN.store(true, Ordering::Relaxed);
    snowflake.execute(statement("select 1")).await.unwrap();
}

#[tokio::test]
async fn an_answer_that_makes_no_sense_leaves_open_what_came_of_it() {
    for nonsense in ["", "OK", "[]", r#"{"data":7}"#] {
        let server = service(move |_| Answer::json(200, nonsense));
        let error = snowflake(&server).execute(statement("update t")).await.unwrap_err();
        assert!(matches!(error, Error::Unknown(_)), "{nonsense}: {error:?}");
    }
}

#[tokio::test]
async fn a_result_has_a_limit_and_so_has_each_part() {
    let server = service(|_| Answer::json(200, vec![b'x'; (16 << 20) + 1]));
    let error = snowflake(&server).execute(statement("select")).await.unwrap_err();
    assert!(error.to_string().contains("more than 16777216 bytes"), "{error}");
    assert_eq!(server.requests().len(), 1, "it would be as long the next time");

    let server = service(|request| match query(request, "partition") {
        None => Answer::json(200, DONE.replace(r#"[{"rowCount":2}]"#, "[{},{},{},{}]")),
        Some(_) => Answer::json(200, format!(r#"{{"data":[["{}"]]}}"#, "x".repeat(12 << 20))),
    });
    let error = snowflake(&server).execute(statement("select")).await.unwrap_err();
    assert!(matches!(&error, Error::Confused(message) if message.contains("ask for less")), "{error:?}");
    assert_eq!(server.requests().len(), 4, "the one that is too much is the third part");
}
