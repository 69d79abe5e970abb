//! The source behind TLS.

use super::{
    rig::{Client, Rig, post, settings},
    *,
};
use crate::tls::tests::{Authority, connect};

#[tokio::test]
async fn events_come_in_over_tls() {
    let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let tls = Some(authority.server_files(dir.path(), "one"));
    let rig = Rig::start(Settings { tls, ..settings() }).await;
    let stream = connect(rig.http, authority.client_config(None)).await.unwrap();
    let mut client = Client::new(stream);
    for _ in 0..2 {
        assert_eq!(client.send(post("application/json", "1")).await.status, 202);
    }
    assert_eq!(rig.batches().len(), 2);
}

#[tokio::test]
async fn plain_http_is_no_way_around_tls() {
    let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let tls = Some(authority.server_files(dir.path(), "one"));
    let rig = Rig::start(Settings { tls, ..settings() }).await;
    let mut client = rig.connect().await;
    client.write_while_taken(post("application/json", "1").as_bytes()).await;
    assert!(client.is_closed().await);
    assert!(rig.batches().is_empty());
}

#[tokio::test]
async fn a_certificate_that_is_not_there_is_tried_again_later() {
    let tls = Some(tls::ServerSettings {
        certificate_file: "/nonexistent/cert.pem".into(),
        key_file: "/nonexistent/key.pem".into(),
        client_ca_file: None,
    });
    let Err(SourceError::Retry(error)) = Rig::refused(Settings { tls, ..settings() }).await else {
        panic!("it must be tried again")
    };
    assert!(error.contains("/nonexistent/cert.pem"), "{error}");
}
