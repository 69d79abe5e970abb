//! What Azure gives a machine, and the Azure CLI.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use super::*;
use crate::client::azure::{arc, sources::Sources};

#[tokio::test]
async fn a_virtual_machine_asks_its_metadata_service() {
    let server = Server::start(|_| {
        Answer::json(200, r#"{"access_token":"t1","expires_in":"7200","expires_on":"1","resource":"r"}"#)
    });
    let settings = Settings { client_id: Some("user-assigned".to_owned()), ..elsewhere(&server) };
    let token = token(settings).await.unwrap();
    assert_eq!((token.secret.expose(), minutes(&token)), ("t1", 120));
    let request = &server.requests()[0];
    assert_eq!((request.method.as_str(), request.header("metadata")), ("GET", Some("true")));
    let query = "api-version=2018%2D02%2D01&resource=https%3A%2F%2Feventhubs%2Eazure%2Enet&client_id=user%2Dassigned";
    assert_eq!(request.target, format!("/metadata/identity/oauth2/token?{query}"));
}

#[tokio::test]
async fn app_service_is_shown_its_header_and_says_when_a_token_ends() {
    let server = Server::start(|_| {
        let ends = NOW + 1_000_000 + 1800;
        Answer::json(200, format!(r#"{{"access_token":"t1","expires_on":"{ends}"}}"#))
            .with("Date", "Thu, 10 Dec 2026 09:46:40 GMT")
    });
    let settings = Settings {
        identity_endpoint: Some(format!("{}/msi/token", server.url())),
        identity_header: Some(Secret::new("hunter2")),
        ..elsewhere(&server)
    };
    let token = token(settings).await.unwrap();
    assert_eq!(minutes(&token), 30, "by the server's clock, which is eleven days ahead of ours");
    let request = &server.requests()[0];
    assert_eq!(request.header("x-identity-header"), Some("hunter2"));
    let query = "api-version=2019%2D08%2D01&resource=https%3A%2F%2Feventhubs%2Eazure%2Enet";
    assert_eq!(request.target, format!("/msi/token?{query}"));
}

/// Arc's agent: it gives a token to who shows what is in the file that it names.
fn arc_agent(file: impl AsRef<Path>) -> Server {
    let challenge = format!("Basic realm={}", file.as_ref().display());
    Server::start(move |request| match request.header("authorization") {
        _ if request.header("metadata") != Some("true") => Answer::json(400, "{}"),
        Some("Basic the-key") => granted("t1"),
        Some(_) => Answer::json(401, r#"{"error":"unauthorized_client"}"#),
        None => Answer::json(401, "").with("WWW-Authenticate", &challenge),
    })
}

async fn ask_arc(server: &Server, settings: Settings, tokens: &Path) -> Result<Token, String> {
    let sources = Sources::new(settings, Arc::new(ManualClock::new(Timestamp(0))));
    let (endpoint, tokens) = (format!("{}/metadata/identity/oauth2/token", server.url()), tokens.to_owned());
    let asking = move || arc::ask(&sources, EVENT_HUBS, &endpoint, &tokens).map_err(|failure| failure.why);
    tokio::task::spawn_blocking(asking).await.unwrap()
}

#[tokio::test]
async fn azure_arc_is_shown_what_is_in_the_file_that_it_names() {
    let tokens = tempfile::tempdir().unwrap();
    let file = tokens.path().join("1.key");
    fs::write(&file, "the-key").unwrap();
    let server = arc_agent(&file);
    let token = ask_arc(&server, elsewhere(&server), tokens.path()).await.unwrap();
    assert_eq!((token.secret.expose(), minutes(&token)), ("t1", 60));
    let target = &server.requests()[1].target;
    assert!(target.ends_with("?api-version=2020%2D06%2D01&resource=https%3A%2F%2Feventhubs%2Eazure%2Enet"), "{target}");

    fs::write(&file, "hunter2").unwrap();
    let error = ask_arc(&server, elsewhere(&server), tokens.path()).await.unwrap_err();
    assert!(error.contains("answers 401: unauthorized_client") && !error.contains("hunter2"), "{error}");
}

#[tokio::test]
async fn azure_arc_cannot_have_another_file_read() {
    let (tokens, elsewhere_dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let file = elsewhere_dir.path().join("1.key");
    fs::write(&file, "the-key").unwrap();
    let server = arc_agent(&file);
    let error = ask_arc(&server, elsewhere(&server), tokens.path()).await.unwrap_err();
    assert!(error.contains("is no .key file of"), "{error}");
    assert_eq!(server.requests().len(), 1, "nothing of it is sent");
    // The way that a process goes there: by its variables, and to the one directory that there is.
    let settings =
        Settings { identity_endpoint: Some(server.url()), imds_endpoint: Some(server.url()), ..elsewhere(&server) };
    let error = token(settings).await.unwrap_err();
    assert!(error.to_string().contains("is no .key file of /var/opt/azcmagent/tokens"), "{error}");
}

#[tokio::test]
async fn azure_arc_is_on_this_machine_and_has_one_identity() {
    let tokens = tempfile::tempdir().unwrap();
    let server = arc_agent(tokens.path().join("1.key"));
    let other = Settings { client_id: Some("user-assigned".to_owned()), ..elsewhere(&server) };
    let error = ask_arc(&server, other, tokens.path()).await.unwrap_err();
    assert!(error.contains("take client_id"), "{error}");
    let settings = Settings {
        identity_endpoint: Some("http://10.0.0.1/token".to_owned()),
        imds_endpoint: Some("http://10.0.0.1".to_owned()),
        ..elsewhere(&server)
    };
    let error = token(settings).await.unwrap_err();
    assert!(error.to_string().contains("Arc's agent is on this machine"), "{error}");
    assert_eq!(server.requests().len(), 0);
}

fn az(directory: &Path, script: &str) -> Settings {
    let az = directory.join("az");
    fs::write(&az, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&az, fs::Permissions::from_mode(0o755)).unwrap();
    Settings { kind: Kind::AzureCli, tenant_id: Some(Tenant::parse("contoso").unwrap()), az, ..Settings::default() }
}

#[tokio::test]
async fn the_azure_cli_is_run_and_what_it_says_is_passed_on() {
    let dir = tempfile::tempdir().unwrap();
    let ends = NOW + 2400;
    let settings = az(
        dir.path(),
        &format!(
            "echo \"{{\\\"accessToken\\\": \\\"$*\\\", \\\"expiresOn\\\": \\\"x\\\", \\\"expires_on\\\": {ends}}}\""
        ),
    );
    let printed = token(settings).await.unwrap();
    assert_eq!(
        printed.secret.expose(),
        "account get-access-token --output json --resource https://eventhubs.azure.net --tenant contoso"
    );
    assert_eq!(minutes(&printed), 40);

    let settings = az(dir.path(), "echo \"ERROR: Please run 'az login' to setup account.\" >&2; echo hunter2; exit 1");
    let error = token(settings).await.unwrap_err().to_string();
    assert!(error.contains("Please run 'az login'") && !error.contains("hunter2"), "{error}");
    let error = token(az(dir.path(), "echo hunter2")).await.unwrap_err().to_string();
    assert!(error.contains("something that is no token") && !error.contains("hunter2"), "{error}");
    let settings = Settings { az: dir.path().join("none"), ..az(dir.path(), "") };
    let error = token(settings).await.unwrap_err().to_string();
    assert!(error.contains("none is not installed"), "{error}");
}
