use std::{fs, net::SocketAddr, time::Duration};

use forebay_buffer::clock::Reading;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::AsyncReadExt,
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::*;

/// A certificate authority for a test.
pub(crate) struct Authority {
    pub(crate) pem: String,
    der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self { pem: certificate.pem(), der: certificate.der().clone(), issuer: Issuer::new(params, key) }
    }

    /// A certificate for `localhost` that expires in `year`, and its key, as PEM.
    pub(crate) fn issue(&self, year: i32) -> (String, String) {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    fn write(&self, settings: &ServerSettings, year: i32) {
        let (certificate, key) = self.issue(year);
        fs::write(&settings.certificate_file, certificate).unwrap();
        fs::write(&settings.key_file, key).unwrap();
    }

    pub(crate) fn server_files(&self, dir: &Path, name: &str) -> ServerSettings {
        let settings = ServerSettings {
            certificate_file: dir.join(format!("{name}.pem")),
            key_file: dir.join(format!("{name}.key")),
            client_ca_file: None,
        };
        self.write(&settings, 2090);
        settings
    }

    /// A client that trusts this authority, and shows a certificate (PEM, with its key) if it has one.
    pub(crate) fn client_config(&self, identity: Option<(String, String)>) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        Arc::new(match identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
                builder.with_client_auth_cert(vec![certificate], key).unwrap()
            }
        })
    }
}

pub(crate) async fn connect(to: SocketAddr, config: Arc<ClientConfig>) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(to).await?;
    TlsConnector::from(config).connect(ServerName::try_from("localhost").unwrap(), stream).await
}

#[derive(Debug)]
pub(crate) struct Clock1970;

impl Clock for Clock1970 {
    fn now(&self) -> Reading {
        Reading { wall: Timestamp(0), since_boot: Duration::ZERO, synchronised: false }
    }
    fn boot_id(&self) -> u128 {
        1
    }
}

fn server(settings: &ServerSettings) -> Result<Server, String> {
    Server::new(settings, Arc::new(Clock1970))
}

fn year(at: Timestamp) -> i16 {
    jiff::Timestamp::from_microsecond(at.0).unwrap().to_zoned(jiff::tz::TimeZone::UTC).year()
}

/// One connection to `server`: what the client reads after the handshake.
async fn visit(server: &Server, config: Arc<ClientConfig>) -> std::io::Result<Vec<u8>> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let answer = async {
        let mut stream = server.acceptor().accept(listener.accept().await?.0).await?;
        tokio::io::AsyncWriteExt::write_all(&mut stream, b"hello").await?;
        tokio::io::AsyncWriteExt::shutdown(&mut stream).await
    };
    let read = async {
        let mut all = Vec::new();
        connect(address, config).await?.read_to_end(&mut all).await?;
        Ok(all)
    };
    let (_, read) = tokio::join!(answer, read);
    read
}

#[tokio::test]
async fn a_new_certificate_is_used_without_a_restart() {
    let (dir, old, new) = (tempfile::tempdir().unwrap(), Authority::new(), Authority::new());
    let settings = old.server_files(dir.path(), "server");
    let server = server(&settings).unwrap();
    assert_eq!(visit(&server, old.client_config(None)).await.unwrap(), b"hello");
    assert_eq!(year(server.expires_at()), 2090);

    // The certificate is there before its key: the old pair stays in use.
    let (certificate, key) = new.issue(2060);
    fs::write(&settings.certificate_file, certificate).unwrap();
    server.files.look_now();
    assert!(server.files.error().unwrap().contains("does not fit"));
    assert_eq!(visit(&server, old.client_config(None)).await.unwrap(), b"hello");

    fs::write(&settings.key_file, key).unwrap();
    server.files.look_now();
    assert_eq!(visit(&server, new.client_config(None)).await.unwrap(), b"hello");
    assert!(visit(&server, old.client_config(None)).await.is_err(), "the old certificate is gone");
    assert_eq!(year(server.expires_at()), 2060);
}

#[tokio::test]
async fn with_a_client_ca_only_its_clients_come_in_even_in_1970() {
    let (dir, ours, others) = (tempfile::tempdir().unwrap(), Authority::new(), Authority::new());
    let ca = dir.path().join("ca.pem");
    fs::write(&ca, &ours.pem).unwrap();
    let settings = ServerSettings { client_ca_file: Some(ca), ..ours.server_files(dir.path(), "server") };
    let server = server(&settings).unwrap();
    assert_eq!(visit(&server, ours.client_config(Some(ours.issue(2090)))).await.unwrap(), b"hello");
    assert!(visit(&server, ours.client_config(None)).await.is_err());
    assert!(visit(&server, ours.client_config(Some(others.issue(2090)))).await.is_err());
}

#[test]
fn errors_name_the_file_and_what_to_do() {
    let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let one = authority.server_files(dir.path(), "one");
    let two = authority.server_files(dir.path(), "two");
    let empty = dir.path().join("empty.pem");
    fs::write(&empty, "nothing here").unwrap();
    let with = |certificate_file: &Path, key_file: &Path, client_ca_file: Option<&Path>| {
        let settings = ServerSettings {
            certificate_file: certificate_file.to_owned(),
            key_file: key_file.to_owned(),
            client_ca_file: client_ca_file.map(Path::to_owned),
        };
        server(&settings).unwrap_err()
    };
    let missing = dir.path().join("missing.pem");
    assert!(with(&missing, &one.key_file, None).contains("missing.pem"));
    assert!(with(&empty, &one.key_file, None).contains("empty.pem"));
    assert!(with(&one.certificate_file, &empty, None).contains("empty.pem"));
    assert!(with(&one.certificate_file, &one.key_file, Some(&missing)).contains("missing.pem"));
    let mismatch = with(&one.certificate_file, &two.key_file, None);
    assert!(mismatch.contains("two.key") && mismatch.contains("one.pem"), "{mismatch}");
    assert_eq!(year(validity(&one.certificate_file).unwrap().not_after), 2090);
}
