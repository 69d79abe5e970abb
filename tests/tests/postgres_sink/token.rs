//! A token of Microsoft Entra as the password, from a server in the place of App Service's.

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use forebay::{
    client::postgres::{Class, Connection, Encryption, Error, Server, Settings, SimpleQueryMessage, SslMode},
    clock::SystemClock,
    config::{Config, ControlBackend, Environment},
};
use forebay_tests::servers::{Authority, Postgres};

/// As long as real ones are.
fn token(nth: usize) -> String {
    format!("eyJ.{}.{nth}", "x".repeat(2000))
}

/// Hands out one token after the other to whoever shows its header, and counts them.
fn token_server() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}/msi/token", listener.local_addr().expect("bound"));
    let given = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&given);
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let lines = BufReader::new(stream.try_clone().expect("a socket can be cloned")).lines();
            let head: Vec<_> = lines.map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
            let is_known = head.iter().any(|line| line.eq_ignore_ascii_case("x-identity-header: the-header"));
            let resource = "resource=https%3A%2F%2Fossrdbms%2Daad%2Edatabase%2Ewindows%2Enet";
            assert!(is_known && head[0].contains(resource), "{head:?}");
            let nth = count.fetch_add(1, Ordering::Relaxed) + 1;
            let body = format!(r#"{{"access_token":"{}","expires_in":3600}}"#, token(nth));
            let length = body.len();
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
                .expect("the agent waits for it");
        }
    });
    (url, given)
}

/// Where the control table is by a file, and by the variables that the operator and the platform set.
fn settings(postgres: &Postgres, ca_file: &Path, endpoint: &str) -> Settings {
    let text = format!(
        "[control]\nhost = \"localhost\"\nport = {}\ndatabase = \"postgres\"\nuser = \"gateway\"\nca_file = {ca_file:?}\n\
         [sources.in]\ntype = \"host\"\n[sinks.out]\ntype = \"stdout\"\ninputs = [\"in\"]\n",
        postgres.port()
    );
    let environment = Environment::made_up([
        ("CONTROL_PG_AUTH_MODE", "azure_token"),
        ("CONTROL_PG_SSLMODE", "verify-full"),
        ("IDENTITY_ENDPOINT", endpoint),
        ("IDENTITY_HEADER", "the-header"),
    ]);
    let loaded = Config::parse(text.as_bytes(), Path::new("/"), &environment).unwrap_or_else(|error| panic!("{error}"));
    match loaded.config.control.backend {
        ControlBackend::Postgres(settings) => *settings,
        _ => panic!("it is in Postgres"),
    }
}

async fn user(connection: &Connection) -> Option<String> {
    let answer = connection.simple("SELECT current_user").await.expect("it answers");
    answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    })
}

#[tokio::test]
async fn a_token_is_the_password_and_a_refused_one_is_replaced() {
    let directory = tempfile::tempdir().expect("a directory can be made");
    let (authority, ca_file) = (Authority::new("ours"), directory.path().join("ca.crt"));
    authority.write(&ca_file);
    let postgres = Postgres::builder().passwords().tls(authority.issue("localhost")).start();
    let (endpoint, given) = token_server();
    postgres.psql(&format!("CREATE ROLE gateway LOGIN PASSWORD '{}'", token(1)));
    let settings = settings(&postgres, &ca_file, &endpoint);
    let server = Server::new(settings.clone(), Arc::new(SystemClock::new()));
    for _ in 0..3 {
        let connection = server.connect().await.expect("the token is the role's password");
        assert_eq!(connection.encryption(), Encryption::Tls);
        assert_eq!(user(&connection).await.as_deref(), Some("gateway"));
    }
    assert_eq!(given.load(Ordering::Relaxed), 1, "one token is for many connections");

    postgres.psql(&format!("ALTER ROLE gateway PASSWORD '{}'", token(2)));
    let error = server.connect().await.err().expect("the first token is no longer the password");
    assert_eq!(error.class(), Class::Login);
    assert!(error.to_string().contains("pgaadauth_create_principal"), "{error}");
    assert!(!error.to_string().contains(&token(1)), "{error}");
    server.connect().await.expect("another attempt is made with another token");
    assert_eq!(given.load(Ordering::Relaxed), 2);

    let clear = Settings { sslmode: SslMode::Prefer, ..settings };
    let refused = Server::new(clear, Arc::new(SystemClock::new())).connect().await.err();
    assert!(matches!(refused, Some(Error::Confused(_))), "{refused:?}");
    assert_eq!(given.load(Ordering::Relaxed), 2, "no token is fetched to be sent in the clear");
}

#[tokio::test]
async fn without_a_token_nobody_logs_in_and_it_is_said_why() {
    let directory = tempfile::tempdir().expect("a directory can be made");
    let (authority, ca_file) = (Authority::new("ours"), directory.path().join("ca.crt"));
    authority.write(&ca_file);
    let postgres = Postgres::builder().passwords().tls(authority.issue("localhost")).start();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let nowhere = format!("http://{}", listener.local_addr().expect("bound"));
    drop(listener);
    let settings = settings(&postgres, &ca_file, &nowhere);
    let error = Server::new(settings, Arc::new(SystemClock::new())).connect().await.err().expect("there is no token");
    assert_eq!(error.class(), Class::Reconnect, "{error}");
    let said = error.to_string();
    assert!(
        said.contains("connecting to database \"postgres\"") && said.contains("managed identity: http://127"),
        "{said}"
    );
}
