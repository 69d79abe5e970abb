mod applications;
mod cache;
mod machines;

use std::{path::PathBuf, sync::Arc};

use forebay_buffer::Timestamp;

use super::{Authority, Credential, EVENT_HUBS, Error, Kind, Settings, Tenant, Token};
use crate::{
    client::server::{self, Answer, Server},
    clock::ManualClock,
    secret::{Secret, SecretSource},
};

/// 2026-11-28T20:00:00Z.
const NOW: i64 = 1_795_896_000;

fn credential(settings: Settings) -> Arc<Credential> {
    Credential::new(settings, Arc::new(ManualClock::new(Timestamp(NOW * 1_000_000))))
}

async fn token(settings: Settings) -> Result<Token, Error> {
    credential(settings).token(EVENT_HUBS).await
}

/// An application with a secret, and nothing else that answers.
fn application(server: &Server) -> Settings {
    Settings {
        tenant_id: Some(Tenant::parse("contoso.example").unwrap()),
        client_id: Some("app".to_owned()),
        client_secret: Some(SecretSource::Inline(Secret::new("hunter2 & more"))),
        ..elsewhere(server)
    }
}

/// Nobody, with `server` in the place of Entra and of the metadata service.
fn elsewhere(server: &Server) -> Settings {
    Settings {
        authority: Authority::parse(&server.url()).unwrap(),
        metadata_host: server.url(),
        az: PathBuf::from("/nowhere/az"),
        ..Settings::default()
    }
}

/// How long `token` holds from now, in seconds, rounded to minutes.
fn minutes(token: &Token) -> u64 {
    ((token.expires - tokio::time::Instant::now()).as_secs() + 30) / 60
}

/// A token of an hour.
fn granted(token: &str) -> Answer {
    Answer::json(200, format!(r#"{{"token_type":"Bearer","expires_in":3600,"access_token":"{token}"}}"#))
}

#[tokio::test]
async fn sources_that_are_not_set_up_are_passed_over_and_named_each_on_its_line() {
    let server =
        Server::start(|_| Answer::json(400, r#"{"error":"invalid_request","error_description":"Identity not found"}"#));
    let error = token(elsewhere(&server)).await.unwrap_err();
    let url = server.url();
    assert_eq!(
        error.to_string(),
        format!(
            "no token of Microsoft Entra:\n  \
             client secret: client_secret (AZURE_CLIENT_SECRET) is not given\n  \
             client certificate: client_certificate_file (AZURE_CLIENT_CERTIFICATE_PATH) is not given\n  \
             workload identity: federated_token_file (AZURE_FEDERATED_TOKEN_FILE) is not given\n  \
             managed identity: {url}/metadata/identity/oauth2/token answers 400: invalid_request: Identity not found; \
             give this machine an identity, or name the right one as client_id"
        )
    );
    assert!(!error.is_passing());
    assert!(!format!("{error:#}").contains('\n'));
}

#[tokio::test]
async fn a_machine_without_a_metadata_service_is_told_so_and_tries_again() {
    let server = Server::start(|_| granted("x"));
    let away = Settings { metadata_host: server::nobody(), ..elsewhere(&server) };
    let error = token(away).await.unwrap_err();
    assert!(error.to_string().contains("this is no Azure virtual machine"), "{error}");
    assert!(error.is_passing(), "the network may be what is missing");
}

#[tokio::test]
async fn the_first_source_that_is_set_up_is_asked_and_no_other() {
    let server = Server::start(|request| match request.target.contains("/metadata/") {
        true => granted("machine"),
        false => granted("application"),
    });
    assert_eq!(token(application(&server)).await.unwrap().secret.expose(), "application");
    assert_eq!(token(elsewhere(&server)).await.unwrap().secret.expose(), "machine");
    let fixed = Settings { kind: Kind::ManagedIdentity, ..application(&server) };
    assert_eq!(token(fixed).await.unwrap().secret.expose(), "machine");
}

#[tokio::test]
async fn a_source_that_is_set_up_and_fails_ends_the_search() {
    let server = Server::start(|request| match request.target.contains("/metadata/") {
        true => granted("machine"),
        false => {
            let why = "AADSTS7000215: Invalid client secret provided.\\r\\nTrace ID: 1";
            Answer::json(401, format!(r#"{{"error":"invalid_client","error_description":"{why}"}}"#))
        }
    });
    let error = token(application(&server)).await.unwrap_err();
    let expected = "answers 401: invalid_client: AADSTS7000215: Invalid client secret provided.";
    assert!(error.to_string().ends_with(expected), "{error}");
    assert!(!error.is_passing() && !error.to_string().contains("hunter2"), "{error}");
    assert_eq!(server.requests().len(), 1);

    let half = Settings { tenant_id: None, ..application(&server) };
    let error = token(half).await.unwrap_err();
    assert!(error.to_string().contains("tenant_id (AZURE_TENANT_ID) is missing"), "{error}");
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn neither_settings_nor_tokens_show_their_secrets() {
    let server = Server::start(|_| granted("x"));
    let settings = Settings { identity_header: Some(Secret::new("hunter2")), ..application(&server) };
    let token = Token::new(Secret::new("hunter2"), tokio::time::Instant::now(), std::time::Duration::ZERO);
    let shown = format!("{:?} {token:?}", credential(settings));
    assert!(shown.contains("contoso") && !shown.contains("hunter2"), "{shown}");
}
