mod channels;
mod login;
mod statements;

use std::{sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use forebay_buffer::Timestamp;
use serde_json::{Value, json};

use super::{Account, Credential, Identifier, Pipe, Settings, Snowflake};
use crate::{
    client::server::{Answer, Request, Server},
    clock::ManualClock,
};

/// 2026-11-28T20:00:00Z.
const NOW: i64 = 1_795_896_000;
const FINGERPRINT: &str = "SHA256:LUNFk7YNZo2D43unma+QJ9wIJ4rsmCSvO6N5ogX0pmA=";
const LONG: Duration = Duration::from_secs(60);

/// A user with the key of `key/tests`.
fn settings(server: &Server) -> Settings {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/src/client/snowflake/key/tests/open.p8");
    Settings {
        account: Account::parse("myorg-my_acct", Some(&server.url())).unwrap(),
        user: "ingest".to_owned(),
        role: Some("ING".to_owned()),
        credential: Credential::KeyPair { file: file.into(), password: None },
        tls: Default::default(),
        proxy: None,
    }
}

fn made(settings: Settings) -> Arc<Snowflake> {
    Snowflake::new(settings, Arc::new(ManualClock::new(Timestamp(NOW * 1_000_000)))).unwrap()
}

fn snowflake(server: &Server) -> Arc<Snowflake> {
    made(settings(server))
}

fn pipe(snowflake: &Arc<Snowflake>) -> Pipe {
    let [database, schema, pipe] = ["DB", "PUBLIC", "EVENTS-STREAMING"].map(|name| Identifier::exact(name).unwrap());
    Pipe::new(Arc::clone(snowflake), &database, &schema, &pipe)
}

/// A token that bears its end.
fn scoped(end: i64, number: usize) -> String {
    let claims = URL_SAFE_NO_PAD.encode(json!({ "exp": end, "n": number }).to_string());
    format!("e30.{claims}.c2ln")
}

/// The service, which lets everybody in. The rest is for `respond`.
fn service(respond: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Server {
    Server::start(move |request| match path(request) {
        "/v2/streaming/hostname" => Answer::json(200, "127.0.0.1"),
        "/oauth/token" => Answer::json(200, scoped(NOW + 3600, 0)),
        _ => respond(request),
    })
}

fn path(request: &Request) -> &str {
    request.target.split('?').next().unwrap()
}

fn query<'r>(request: &'r Request, name: &str) -> Option<&'r str> {
    let pairs = request.target.split_once('?')?.1.split('&');
    pairs.filter_map(|pair| pair.split_once('=')).find(|(known, _)| *known == name).map(|(_, value)| value)
}

fn body(request: &Request) -> Value {
    serde_json::from_str(&request.body).unwrap()
}

/// Answers one after the other, and the last one for ever.
fn script(answers: Vec<fn() -> Answer>) -> impl Fn(&Request) -> Answer + Send + Sync {
    let next = std::sync::atomic::AtomicUsize::new(0);
    move |_| {
        let nth = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        answers[nth.min(answers.len() - 1)]()
    }
}
