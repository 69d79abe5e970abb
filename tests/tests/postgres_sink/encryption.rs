//! `sslmode`, each with libpq's meaning, before servers with TLS and without.

use std::sync::Arc;

use forebay::{
    client::postgres::{Class, Connection, Encryption, Error, Password, Server, Settings, SslMode, Url, connect},
    clock::SystemClock,
    secret::{Secret, SecretSource},
};
use forebay_tests::servers::{Authority, Certificate, Postgres};

const ALL: [&str; 6] = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];

fn to(postgres: &Postgres, host: &str, mode: &str) -> Settings {
    let url = format!("postgresql://{}@{host}:{}/postgres?sslmode={mode}", Postgres::USER, postgres.port());
    let mut settings = Url::parse(&url).and_then(Url::settings).expect("a URL");
    settings.password = Some(Password::Secret(SecretSource::Inline(Secret::new(Postgres::PASSWORD))));
    settings
}

async fn attempt(settings: &Settings) -> Result<Connection, Error> {
    connect(settings, Arc::new(SystemClock::new())).await
}

/// Whether the server itself says that the session is encrypted.
async fn is_encrypted(settings: &Settings) -> Result<bool, Error> {
    let connection = attempt(settings).await?;
    let answer = connection.simple("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").await?;
    let says = answer.iter().any(
        |message| matches!(message, forebay::client::postgres::SimpleQueryMessage::Row(row) if row.get(0) == Some("t")),
    );
    assert_eq!(says, connection.encryption() == Encryption::Tls);
    Ok(says)
}

#[tokio::test]
async fn a_server_that_wants_tls_is_verified_as_far_as_is_asked_for() {
    let authority = Authority::new("ours");
    let directory = tempfile::tempdir().expect("a directory can be made");
    let ours = directory.path().join("ours.crt");
    authority.write(&ours);
    let theirs = directory.path().join("theirs.crt");
    Authority::new("theirs").write(&theirs);
    let postgres = Postgres::builder().passwords().tls(authority.issue("localhost")).start();
    let by = |host: &str, mode: &str, ca: Option<&std::path::PathBuf>| {
        let mut settings = to(&postgres, host, mode);
        settings.tls.ca_file = ca.cloned();
        settings
    };
    let works = [
        by("127.0.0.1", "allow", None),
        by("127.0.0.1", "prefer", Some(&theirs)),
        by("127.0.0.1", "require", None),
        by("127.0.0.1", "require", Some(&ours)),
        by("127.0.0.1", "verify-ca", Some(&ours)),
        by("localhost", "verify-full", Some(&ours)),
    ];
    for settings in works {
        assert_eq!(is_encrypted(&settings).await, Ok(true), "{settings:?}");
    }
    let fails = [
        (by("127.0.0.1", "disable", None), "pg_hba"),
        (by("127.0.0.1", "require", Some(&theirs)), "ca_file"),
        (by("localhost", "verify-ca", Some(&theirs)), "ca_file"),
        (by("localhost", "verify-ca", None), "ca_file"),
        (by("localhost", "verify-full", Some(&theirs)), "ca_file"),
        (by("127.0.0.1", "verify-full", Some(&ours)), "another name"),
    ];
    for (settings, words) in fails {
        let error = attempt(&settings).await.err().unwrap_or_else(|| panic!("{settings:?} connects"));
        assert_eq!(error.class(), Class::Login, "{settings:?}: {error}");
        assert!(error.to_string().contains(words), "{settings:?}: {error}");
    }
}

#[tokio::test]
async fn what_tls_needs_is_read_once_for_many_connections() {
    let authority = Authority::new("ours");
    let directory = tempfile::tempdir().expect("a directory can be made");
    let ca = directory.path().join("ours.crt");
    authority.write(&ca);
    let postgres = Postgres::builder().passwords().tls(authority.issue("localhost")).start();
    let mut settings = to(&postgres, "localhost", "verify-full");
    settings.tls.ca_file = Some(ca.clone());
    let server = Server::new(settings.clone(), Arc::new(SystemClock::new()));
    assert_eq!(server.connect().await.map(|connection| connection.encryption()), Ok(Encryption::Tls));
    std::fs::remove_file(&ca).expect("it is there");
    assert_eq!(server.connect().await.map(|connection| connection.encryption()), Ok(Encryption::Tls));
    assert!(attempt(&settings).await.is_err(), "whoever begins now needs the file");
}

#[tokio::test]
async fn a_server_without_tls_is_reached_only_where_that_is_allowed() {
    let postgres = Postgres::builder().passwords().start();
    for mode in ALL {
        let outcome = is_encrypted(&to(&postgres, "127.0.0.1", mode)).await;
        if ["disable", "allow", "prefer"].contains(&mode) {
            assert_eq!(outcome, Ok(false), "{mode}");
        } else {
            let error = outcome.expect_err(mode);
            assert!(error.to_string().contains("does not support TLS"), "{mode}: {error}");
            assert_eq!(error.class(), Class::Login, "{mode}: {error}");
        }
    }
}

#[tokio::test]
async fn a_server_that_wants_a_certificate_gets_it_and_passwords_are_bound_to_the_channel() {
    let authority = Authority::new("ours");
    let directory = tempfile::tempdir().expect("a directory can be made");
    let ca = directory.path().join("ours.crt");
    authority.write(&ca);
    let (certificate, key) = authority.issue(Postgres::USER).write(directory.path(), "client");
    let postgres = Postgres::builder()
        .passwords()
        .tls(authority.issue("localhost"))
        .client_certificates(&authority)
        .setting("log_connections", "on")
        .start();
    let mut settings = to(&postgres, "localhost", "verify-full");
    settings.tls.ca_file = Some(ca);
    let error = attempt(&settings).await.err().expect("it has no certificate to show");
    assert!(matches!(error.class(), Class::Login | Class::Reconnect), "{error}");
    settings.tls.certificate_file = Some(certificate);
    settings.tls.key_file = Some(key);
    assert_eq!(settings.sslmode, SslMode::VerifyFull);
    assert_eq!(is_encrypted(&settings).await, Ok(true));
}

/// Of `openssl x509 -req` without extensions, and its key.
const VERSION_1: &str = include_str!("../../../agent/src/tls/client/version_1.pem");

#[tokio::test]
async fn a_certificate_of_version_1_will_do_where_nothing_is_verified() {
    let (certificate, key) = (VERSION_1.to_owned(), VERSION_1.to_owned());
    let postgres = Postgres::builder().passwords().tls(Certificate { certificate, key }).start();
    for mode in ["allow", "prefer", "require"] {
        assert_eq!(is_encrypted(&to(&postgres, "localhost", mode)).await, Ok(true), "{mode}");
    }
}

/// Of `openssl req -x509 -newkey ed25519` for `localhost`, and its key.
const ED25519: (&str, &str) = (
    "-----BEGIN CERTIFICATE-----
MIIBVTCCAQegAwIBAgIUYaF3xeeNZdj2X86KGcdJMD/jRV0wBQYDK2VwMBQxEjAQ
BgNVBAMMCWxvY2FsaG9zdDAgFw0yNjExMjkxODI5MzJaGA8yMTI2MTEwNTE4Mjkz
MlowFDESMBAGA1UEAwwJbG9jYWxob3N0MCowBQYDK2VwAyEAMm4i931eeitaZzos
IKSsPhuaFSPlWTAf0hJmPiFSznKjaTBnMB0GA1UdDgQWBBQfYubhN1L2BOds0NTq
GgOJcaUihTAfBgNVHSMEGDAWgBQfYubhN1L2BOds0NTqGgOJcaUihTAPBgNVHRMB
Af8EBTADAQH/MBQGA1UdEQQNMAuCCWxvY2FsaG9zdDAFBgMrZXADQQBAQrVcMkkF
hjpAG/Dycmdt8+exfUTV8ei9+rexrVZnP0e52qQ1pw6E5xq4fRAIVceae5i1uLmQ
4Dkko4Dvy14O
-----END CERTIFICATE-----",
    "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIPGmSol/S9ZkCshI5XAMZuvdfmMg/m57j7fOAMtU5eW7
-----END PRIVATE KEY-----",
);

/// Whoever sits in between could show one, and hand the login on.
#[tokio::test]
async fn a_certificate_that_no_login_can_be_bound_to_is_taken_only_of_a_server_that_is_verified() {
    let directory = tempfile::tempdir().expect("a directory can be made");
    let ca = directory.path().join("server.crt");
    std::fs::write(&ca, ED25519.0).expect("a certificate can be written");
    let (certificate, key) = (ED25519.0.to_owned(), ED25519.1.to_owned());
    let postgres = Postgres::builder().passwords().tls(Certificate { certificate, key }).start();
    for (mode, ca) in [("require", None), ("require", Some(&ca)), ("verify-ca", Some(&ca))] {
        let mut settings = to(&postgres, "localhost", mode);
        settings.tls.ca_file = ca.cloned();
        let error = attempt(&settings).await.err().unwrap_or_else(|| panic!("{settings:?} connects"));
        assert!(
            error.to_string().contains("digest") && error.to_string().contains("verify-full"),
            "{settings:?}: {error}"
        );
    }
    let mut verified = to(&postgres, "localhost", "verify-full");
    verified.tls.ca_file = Some(ca);
    assert_eq!(is_encrypted(&verified).await, Ok(true));
}
