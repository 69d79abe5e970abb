//! Each way to a namespace, and each way of being let in or not.

use std::fs;

use forebay::{
    client::eventhub::{Class, Credential, Namespace, Proxy, Settings, Transport},
    secret::{Secret, SecretSource},
    tls::client::ClientSettings,
};
use forebay_tests::servers::{Authority, EventHubs};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::rig::{HUB, at, bodies, connect, namespace, send, settings, with_hub};

/// Sends an event, and sees that it came.
async fn works(namespace: &EventHubs, settings: Settings) {
    let before = namespace.all_stored(HUB).len();
    let connection = connect(settings).await.expect("a connection");
    send(&connection.sender(None).await.expect("a sender"), &["here"]).await;
    assert_eq!(namespace.all_stored(HUB).len(), before + 1);
    connection.close().await;
}

#[tokio::test]
async fn every_transport_carries_events() {
    let authority = Authority::new("of namespaces");
    let directory = tempfile::tempdir().expect("a directory");
    let ca_file = directory.path().join("ca.pem");
    authority.write(&ca_file);
    let namespace = with_hub(EventHubs::builder().tls(authority.issue("localhost")).start());
    let ports = namespace.ports();
    let tls = ClientSettings { ca_file: Some(ca_file), ..ClientSettings::default() };
    for (transport, port, encrypted) in [
        (Transport::Tcp, ports.amqp, false),
        (Transport::Tcp, ports.amqps.expect("a port"), true),
        (Transport::WebSocket, ports.ws, false),
        (Transport::WebSocket, ports.wss.expect("a port"), true),
    ] {
        let settings = Settings { transport, tls: tls.clone(), ..settings(&namespace) };
        works(&namespace, at(settings, port, encrypted)).await;
    }
    let strangers =
        connect(at(settings(&namespace), ports.amqps.expect("a port"), true)).await.err().expect("no trust");
    assert!(strangers.message.contains("ca_file"), "{strangers}");
}

#[tokio::test]
async fn a_client_shows_its_certificate_where_one_is_wanted() {
    let (authority, clients) = (Authority::new("of namespaces"), Authority::new("of clients"));
    let directory = tempfile::tempdir().expect("a directory");
    let ca_file = directory.path().join("ca.pem");
    authority.write(&ca_file);
    let (certificate, key) = clients.issue("gateway").write(directory.path(), "client");
    let builder = EventHubs::builder().tls(authority.issue("localhost")).client_certificates(&clients);
    let namespace = with_hub(builder.start());
    let port = namespace.ports().amqps.expect("a port");
    let without = ClientSettings { ca_file: Some(ca_file), ..ClientSettings::default() };
    let with = ClientSettings { certificate_file: Some(certificate), key_file: Some(key), ..without.clone() };
    works(&namespace, at(Settings { tls: with, ..settings(&namespace) }, port, true)).await;
    let error = connect(at(Settings { tls: without, ..settings(&namespace) }, port, true)).await.err();
    assert_eq!(error.expect("it wants a certificate").class, Class::Lost);
}

#[tokio::test]
async fn a_connection_string_in_a_file_is_read_for_each_connection() {
    let namespace = namespace();
    let file = tempfile::NamedTempFile::new().expect("a file");
    let write = |text: String| fs::write(file.path(), text).expect("a write");
    let text = format!("{};EntityPath={HUB}", namespace.connection_string());
    write(text.replace(EventHubs::KEY, "hunter2"));
    let source = SecretSource::File(file.path().to_owned());
    let given = Settings {
        namespace: Namespace::ConnectionStringFile { source, host: "localhost".to_owned() },
        ..settings(&namespace)
    };
    let hub = crate::rig::hub(given);
    assert_eq!(hub.place(), format!("localhost/{HUB}"));
    let error = hub.connection().await.err().expect("a wrong key");
    assert_eq!(error.class, Class::Unauthorized, "{error}");
    assert!(error.message.contains("key") && !error.message.contains("hunter2"), "{error}");
    write(text);
    let connection = hub.connection().await.expect("the key is another now");
    send(&connection.sender(Some("0")).await.expect("a sender"), &["a"]).await;
    assert_eq!(bodies(&namespace.stored(HUB, "0")), ["a"]);
}

#[tokio::test]
async fn callers_share_the_live_connection() {
    let namespace = namespace();
    let hub = crate::rig::hub(settings(&namespace));
    let (first, second) = tokio::join!(hub.connection(), hub.connection());
    let (first, second) = (first.expect("a connection"), second.expect("a connection"));
    first.close().await;
    assert!(!second.is_alive());
    let third = hub.connection().await.expect("a new connection");
    assert!(third.is_alive());
    let all = namespace.ask("GET", "/connections", &json!(null));
    assert_eq!(all.as_array().expect("a list").len(), 2, "{all}");
}

#[tokio::test]
async fn what_may_not_be_done_is_said_with_what_is_asked_for() {
    let namespace = namespace();
    namespace.set(&json!({ "rules": [{ "name": "listen", "key": "k", "rights": ["Listen"] }] }));
    let key = SecretSource::Inline(Secret::new("k"));
    let mut given = settings(&namespace);
    if let Namespace::Given { credential, .. } = &mut given.namespace {
        *credential = Credential::SharedKey { name: "listen".to_owned(), key };
    }
    let connection = connect(given).await.expect("a connection");
    let error = connection.sender(None).await.err().expect("no right to send");
    assert_eq!(error.class, Class::Unauthorized);
    assert!(error.message.starts_with(&format!("attaching a sender to {HUB}: ")), "{error}");
    let mut missing = settings(&namespace);
    missing.hub = "nowhere".to_owned();
    let error = connect(missing).await.err();
    assert!(error.is_some_and(|error| matches!(error.class, Class::NotFound | Class::Unauthorized)));
}

/// An HTTP proxy that asks for the user `me` with the password `hunter2`, and says what it was asked for.
async fn connect_proxy() -> (u16, tokio::sync::mpsc::UnboundedReceiver<String>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("it listens").port();
    let (say, asked) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(client.read_u8().await.expect("a head"));
            }
            let head = String::from_utf8(head).expect("text");
            say.send(head.clone()).expect("the test goes on");
            // "me:hunter2".
            let answer = if head.contains("Proxy-Authorization: Basic bWU6aHVudGVyMg==") {
                "HTTP/1.1 200 Connection established\r\nVia: test\r\n\r\n"
            } else {
                "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"
            };
            client.write_all(answer.as_bytes()).await.expect("a client");
            let target = head.split(' ').nth(1).expect("a target").to_owned();
            if answer.contains("200") {
                let mut server = tokio::net::TcpStream::connect(target).await.expect("the namespace");
                tokio::spawn(async move { tokio::io::copy_bidirectional(&mut client, &mut server).await });
            }
        }
    });
    (port, asked)
}

#[tokio::test]
async fn a_proxy_leads_to_the_namespace_once_it_knows_who_asks() {
    let authority = Authority::new("of namespaces");
    let directory = tempfile::tempdir().expect("a directory");
    let ca_file = directory.path().join("ca.pem");
    authority.write(&ca_file);
    let namespace = with_hub(EventHubs::builder().tls(authority.issue("localhost")).start());
    let ports = namespace.ports();
    let tls = ClientSettings { ca_file: Some(ca_file), ..ClientSettings::default() };
    let (port, mut asked) = connect_proxy().await;
    let through = |password: Option<&str>| Proxy {
        host: "127.0.0.1".to_owned(),
        port,
        login: password.map(|password| ("me".to_owned(), SecretSource::Inline(Secret::new(password)))),
    };
    for (transport, port) in [(Transport::Tcp, ports.amqps), (Transport::WebSocket, ports.wss)] {
        let port = port.expect("a port");
        let settings =
            Settings { transport, tls: tls.clone(), proxy: Some(through(Some("hunter2"))), ..settings(&namespace) };
        works(&namespace, at(settings, port, true)).await;
        assert!(asked.recv().await.expect("a request").starts_with(&format!("CONNECT localhost:{port} HTTP/1.1\r\n")));
    }
    for password in [None, Some("wrong")] {
        let settings = Settings { proxy: Some(through(password)), ..settings(&namespace) };
        let error = connect(settings).await.err().expect("it does not know us");
        assert_eq!(error.class, Class::Unauthorized);
        assert!(error.message.contains("proxy 127.0.0.1") && !error.message.contains("wrong"), "{error}");
    }
}
