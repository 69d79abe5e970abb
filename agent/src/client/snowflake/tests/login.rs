//! Who we are, to the account.

use super::{
    super::{Error, Statement},
    *,
};
use crate::{
    secret::{Secret, SecretSource},
    tls::client::ClientSettings,
};

fn select() -> Statement {
    Statement {
        text: "select 1".to_owned(),
        bindings: Vec::new(),
        database: None,
        schema: None,
        warehouse: None,
        role: None,
        timeout: LONG,
    }
}

const DONE: &str = r#"{"resultSetMetaData":{"rowType":[]},"data":[]}"#;

/// The claims that a request's proof makes.
fn claims(request: &Request) -> Value {
    let bearer = request.header("authorization").unwrap().strip_prefix("Bearer ").unwrap();
    let claims = URL_SAFE_NO_PAD.decode(bearer.split('.').nth(1).unwrap()).unwrap();
    serde_json::from_slice(&claims).unwrap()
}

async fn opened(snowflake: &Arc<Snowflake>) -> Result<(), Error> {
    pipe(snowflake).open("c", true, None).await.map(drop)
}

const OPENED: &str = r#"{"next_continuation_token":"0_0","channel_status":{"channel_status_code":"SUCCESS"}}"#;

#[tokio::test]
async fn a_key_is_shown_by_proofs_that_say_their_role_where_requests_do_not() {
    let server = service(|request| match path(request) {
        "/api/v2/statements" => Answer::json(200, DONE),
        _ => Answer::json(200, OPENED),
    });
    let snowflake = snowflake(&server);
    opened(&snowflake).await.unwrap();
    snowflake.execute(select()).await.unwrap();
    let requests = server.requests();
    let expected = json!({
        "iss": format!("MYORG-MY_ACCT.INGEST.{FINGERPRINT}"), "sub": "MYORG-MY_ACCT.INGEST",
        "iat": NOW, "exp": NOW + 59 * 60, "scp": "session:role:ING",
    });
    assert_eq!(
        requests.iter().map(path).collect::<Vec<_>>(),
        [
            "/v2/streaming/hostname",
            "/oauth/token",
            "/v2/streaming/databases/DB/schemas/PUBLIC/pipes/EVENTS-STREAMING/channels/c",
            "/api/v2/statements",
        ]
    );
    assert_eq!((claims(&requests[0]), claims(&requests[1])), (expected.clone(), expected));
    assert_eq!(requests[1].field("grant_type"), Some("urn%3Aietf%3Aparams%3Aoauth%3Agrant%2Dtype%3Ajwt%2Dbearer"));
    assert_eq!(requests[1].field("scope"), Some("127%2E0%2E0%2E1"));
    assert_eq!(requests[2].header("authorization"), Some(&*format!("Bearer {}", scoped(NOW + 3600, 0))));
    assert_eq!(requests[2].header("x-snowflake-authorization-token-type"), Some("OAUTH"));
    assert_eq!(claims(&requests[3])["scp"], Value::Null);
    assert_eq!(server.connections(), 1, "one connection carries it all");
}

#[tokio::test]
async fn an_access_token_is_read_from_its_file_and_carries_the_role_in_the_scope() {
    let server = service(|request| match path(request) {
        "/api/v2/statements" => Answer::json(200, DONE),
        _ => Answer::json(200, OPENED),
    });
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    let of = || Settings { credential: Credential::AccessToken(SecretSource::File(file.clone())), ..settings(&server) };
    let clock = Arc::new(ManualClock::new(Timestamp(0)));
    let problem = Snowflake::new(of(), clock).unwrap_err();
    assert!(problem.contains("token"), "{problem}");

    std::fs::write(&file, "hunter2\n").unwrap();
    let snowflake = made(of());
    opened(&snowflake).await.unwrap();
    snowflake.execute(select()).await.unwrap();
    let requests = server.requests();
    assert_eq!(requests[1].field("scope"), Some("127%2E0%2E0%2E1%20session%3Arole%3AING"));
    assert_eq!(requests[1].field("subject_token_type"), Some("programmatic%5Faccess%5Ftoken"));
    for at in [0, 1, 3] {
        assert_eq!(requests[at].header("authorization"), Some("Bearer hunter2"));
        assert_eq!(requests[at].header("x-snowflake-authorization-token-type"), Some("PROGRAMMATIC_ACCESS_TOKEN"));
    }
    assert!(!format!("{snowflake:?}").contains("hunter2"));
}

fn oauth_client(server: &Server) -> Settings {
    let credential = Credential::OAuthClient {
        id: "app".to_owned(),
        secret: SecretSource::Inline(Secret::new("hunter2 & more")),
        token_url: None,
        scope: None,
    };
    Settings { credential, ..settings(server) }
}

#[tokio::test]
async fn an_oauth_client_gets_its_token_first() {
    let server = service(|request| match path(request) {
        "/oauth/token-request" => Answer::json(200, r#"{"access_token":"t1","expires_in":3600}"#),
        "/api/v2/statements" => Answer::json(200, DONE),
        _ => Answer::json(200, OPENED),
    });
    let snowflake = made(oauth_client(&server));
    snowflake.execute(select()).await.unwrap();
    snowflake.execute(select()).await.unwrap();
    let requests = server.requests();
    assert_eq!(
        requests.iter().map(path).collect::<Vec<_>>(),
        ["/oauth/token-request", "/api/v2/statements", "/api/v2/statements",]
    );
    let form =
        "grant_type=client%5Fcredentials&client_id=app&client_secret=hunter2%20%26%20more&scope=session%3Arole%3AING";
    assert_eq!(requests[0].body, form);
    assert_eq!(requests[1].header("authorization"), Some("Bearer t1"));
    assert_eq!(requests[1].header("x-snowflake-authorization-token-type"), Some("OAUTH"));
}

#[tokio::test]
async fn an_oauth_server_that_says_no_is_quoted_and_the_secret_is_not() {
    let server = service(|_| Answer::json(401, r#"{"error":"invalid_client","error_description":"wrong secret"}"#));
    let error = made(oauth_client(&server)).execute(select()).await.unwrap_err();
    assert!(matches!(error, Error::Unauthorized(_)), "{error:?}");
    let shown = error.to_string();
    assert!(shown.contains("401: invalid_client: wrong secret") && shown.contains("look at the client app"), "{shown}");
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[tokio::test]
async fn a_host_and_a_token_are_read_as_text_and_as_the_documentation_has_them() {
    for (host, wrap) in [("127.0.0.1", false), ("\"127.0.0.1\"", false), (r#"{"hostname":"127.0.0.1"}"#, true)] {
        let server = Server::start(move |request| match path(request) {
            "/v2/streaming/hostname" => Answer::json(200, host),
            "/oauth/token" if wrap => Answer::json(200, json!({ "token": scoped(NOW + 3600, 1) }).to_string()),
            "/oauth/token" => Answer::json(200, scoped(NOW + 3600, 1)),
            _ => Answer::json(200, OPENED),
        });
        opened(&snowflake(&server)).await.unwrap();
    }
}

#[tokio::test]
async fn what_is_wrong_with_an_account_is_said_and_no_token_is() {
    for (host, token, words) in [
        ((200, "127.0.0.1"), (200, "secret-but-no-token"), "no token"),
        ((404, ""), (200, ""), "grant ING USAGE on the database"),
        ((200, "http://elsewhere/"), (200, ""), "cannot find the ingest host"),
        ((200, "127.0.0.1"), (400, r#"{"code":"390100"}"#), "400: 390100"),
    ] {
        let server = Server::start(move |request| match path(request) {
            "/v2/streaming/hostname" => Answer::json(host.0, host.1),
            _ => Answer::json(token.0, token.1),
        });
        let error = opened(&snowflake(&server)).await.unwrap_err().to_string();
        assert!(error.contains(words) && !error.contains("secret-but"), "{error}");
    }
}

#[tokio::test]
async fn a_clock_that_nobody_has_set_is_named_where_proofs_are_refused() {
    let server = service(|_| Answer::json(401, r#"{"code":"390144","message":"JWT token is invalid."}"#));
    let clock = Arc::new(ManualClock::new(Timestamp(NOW * 1_000_000)));
    clock.set_synchronised(false);
    let error = Snowflake::new(settings(&server), clock).unwrap().execute(select()).await.unwrap_err();
    assert!(error.to_string().contains("waiting for the clock"), "{error}");
}

/// The service tells the time with every answer. A clock that has just been set right is believed again.
#[tokio::test]
async fn a_clock_that_is_wrong_keeps_nobody_out_where_the_service_tells_the_time() {
    const DATE: &str = "Sat, 28 Nov 2026 20:00:00 GMT";
    const HOUR: i64 = 3600;
    for wrong in [0, NOW - 2 * HOUR, NOW + 2 * HOUR, NOW + 3650 * 24 * HOUR] {
        let server = service(|request| {
            let signed = claims(request)["iat"].as_i64().unwrap();
            let is_right = signed.abs_diff(NOW) < 60;
            Answer::json(if is_right { 200 } else { 401 }, DONE).with("date", DATE)
        });
        let clock = Arc::new(ManualClock::new(Timestamp(wrong * 1_000_000)));
        let snowflake = Snowflake::new(settings(&server), Arc::clone(&clock) as _).unwrap();
        snowflake.execute(select()).await.unwrap_or_else(|error| panic!("{wrong}: {error}"));
        assert_eq!(server.requests().len(), 2, "the first proof is refused");
    }
}

/// Whoever answers may be wrong about the time, once.
#[tokio::test]
async fn a_date_that_is_wrong_lets_no_proof_live_beyond_the_next_answer() {
    let dates = script(vec![
        || Answer::json(401, DONE).with("date", "Fri, 28 Nov 2036 20:00:00 GMT"),
        || Answer::json(401, DONE).with("date", "Sat, 28 Nov 2026 20:00:00 GMT"),
        || Answer::json(200, DONE).with("date", "Sat, 28 Nov 2026 20:00:00 GMT"),
    ]);
    let server = service(dates);
    let snowflake = snowflake(&server);
    assert!(matches!(snowflake.execute(select()).await, Err(Error::Unauthorized(_))));
    snowflake.execute(select()).await.unwrap();
    let signed: Vec<_> = server.requests().iter().map(|request| claims(request)["iat"].as_i64().unwrap()).collect();
    assert!(signed[1] - NOW > 3600 && signed[0] == NOW && signed[2] == NOW, "{signed:?}");
}

/// Requests are kept on one connection over TLS too, where the server sends more than it is asked for: its tickets.
#[tokio::test]
async fn a_server_must_prove_who_it_is_once_for_all_requests() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start_encrypted(dir.path(), |request| match path(request) {
        "/v2/streaming/hostname" => Answer::json(200, "localhost"),
        "/oauth/token" => Answer::json(200, scoped(NOW + 3600, 0)),
        _ => Answer::json(200, OPENED),
    });
    let tls = ClientSettings { ca_file: Some(dir.path().join("ca.pem")), ..ClientSettings::default() };
    let snowflake = made(Settings { tls, ..settings(&server) });
    for _ in 0..3 {
        opened(&snowflake).await.unwrap();
    }
    assert_eq!((server.requests().len(), server.connections()), (5, 1));

    let suspicious = made(settings(&server));
    let hasty = Statement { timeout: Duration::from_millis(100), ..select() };
    let error = suspicious.execute(hasty).await.unwrap_err();
    assert!(matches!(error, Error::Retry { .. }), "nothing was sent: {error:?}");
    assert!(error.to_string().contains("name the one that did as ca_file"), "{error}");
}
