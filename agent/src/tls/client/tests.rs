use std::fs;

use rcgen::{CertificateParams, KeyPair};
use rustls::{
    ServerConfig,
    pki_types::pem::PemObject,
    sign::{CertifiedKey, SingleCertAndKey},
    version::{TLS12, TLS13},
};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;
use crate::tls::{
    Server, ServerSettings,
    tests::{Authority, Clock1970},
};

struct Rig {
    dir: TempDir,
    server: Server,
}

impl Rig {
    fn new(settings: impl FnOnce(&Path) -> ServerSettings) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let server = Server::new(&settings(dir.path()), Arc::new(Clock1970)).unwrap();
        Self { dir, server }
    }

    /// One handshake, with a server that goes by `name`.
    async fn visit(&self, settings: &ClientSettings, verify: Verify, name: &str) -> Result<(), String> {
        visit(self.server.acceptor(), settings, verify, name).await
    }

    fn trusting(&self, pem: &str) -> ClientSettings {
        let ca_file = self.dir.path().join("trusted.pem");
        fs::write(&ca_file, pem).unwrap();
        ClientSettings { ca_file: Some(ca_file), ..ClientSettings::default() }
    }
}

async fn visit(server: TlsAcceptor, settings: &ClientSettings, verify: Verify, name: &str) -> Result<(), String> {
    let client = Client::new(settings, verify, Arc::new(Clock1970))?;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let answer = async {
        let mut stream = server.accept(listener.accept().await?.0).await?;
        tokio::io::AsyncWriteExt::write_all(&mut stream, b"hello").await
    };
    let ask = async {
        let stream = TcpStream::connect(address).await?;
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut stream = TlsConnector::from(client.config()).connect(name, stream).await?;
        // A server that wants a certificate says so only after the handshake (RFC 8446 section 4.4.2).
        tokio::io::AsyncReadExt::read_exact(&mut stream, &mut [0; 5]).await
    };
    let (_, asked) = tokio::join!(answer, ask);
    asked.map(drop).map_err(|error| explain(&error))
}

#[tokio::test]
async fn each_level_checks_what_it_says_even_in_1970() {
    let (ours, others) = (Authority::new(), Authority::new());
    let rig = Rig::new(|dir| ours.server_files(dir, "server"));
    let known = rig.trusting(&ours.pem);
    rig.visit(&known, Verify::Full, "localhost").await.unwrap();
    rig.visit(&known, Verify::Chain, "elsewhere.example").await.unwrap();
    rig.visit(&ClientSettings::default(), Verify::Nothing, "elsewhere.example").await.unwrap();

    let other_name = rig.visit(&known, Verify::Full, "elsewhere.example").await.unwrap_err();
    assert!(other_name.contains("for another name"), "{other_name}");
    let strange = rig.trusting(&others.pem);
    for (settings, verify) in
        [(&strange, Verify::Full), (&strange, Verify::Chain), (&ClientSettings::default(), Verify::Chain)]
    {
        let unknown = rig.visit(settings, verify, "localhost").await.unwrap_err();
        assert!(unknown.contains("name the one that did as ca_file"), "{unknown}");
    }
}

#[tokio::test]
async fn an_expired_certificate_is_refused_whatever_the_clock_says() {
    let authority = Authority::new();
    let rig = Rig::new(|dir| authority.server_files(dir, "server"));
    let (certificate, key) = authority.issue(2024);
    fs::write(rig.dir.path().join("server.pem"), certificate).unwrap();
    fs::write(rig.dir.path().join("server.key"), key).unwrap();
    rig.server.files.look_now();
    let expired = rig.visit(&rig.trusting(&authority.pem), Verify::Full, "localhost").await.unwrap_err();
    assert!(expired.contains("renew it"), "{expired}");
}

#[tokio::test]
async fn a_self_signed_certificate_that_is_named_is_trusted_for_its_name() {
    let pem = std::cell::RefCell::new(String::new());
    let rig = Rig::new(|dir| {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        *pem.borrow_mut() = params.self_signed(&key).unwrap().pem();
        let (certificate_file, key_file) = (dir.join("server.pem"), dir.join("server.key"));
        fs::write(&certificate_file, &*pem.borrow()).unwrap();
        fs::write(&key_file, key.serialize_pem()).unwrap();
        ServerSettings { certificate_file, key_file, client_ca_file: None }
    });
    let known = rig.trusting(&pem.borrow());
    rig.visit(&known, Verify::Full, "localhost").await.unwrap();
    assert!(rig.visit(&known, Verify::Full, "elsewhere.example").await.unwrap_err().contains("for another name"));
    assert!(rig.visit(&ClientSettings::default(), Verify::Full, "localhost").await.is_err());
}

#[tokio::test]
async fn a_server_that_asks_for_a_certificate_is_shown_one() {
    let authority = Authority::new();
    let rig = Rig::new(|dir| {
        let ca = dir.join("clients.pem");
        fs::write(&ca, &authority.pem).unwrap();
        ServerSettings { client_ca_file: Some(ca), ..authority.server_files(dir, "server") }
    });
    let nameless = rig.trusting(&authority.pem);
    let shown = rig.visit(&nameless, Verify::Full, "localhost").await.unwrap_err();
    assert!(shown.contains("certificate_file"), "{shown}");

    let (certificate_file, key_file) = (rig.dir.path().join("client.pem"), rig.dir.path().join("client.key"));
    let (certificate, key) = authority.issue(2090);
    fs::write(&certificate_file, certificate).unwrap();
    fs::write(&key_file, key).unwrap();
    let named =
        ClientSettings { certificate_file: Some(certificate_file), key_file: Some(key_file), ..nameless.clone() };
    rig.visit(&named, Verify::Full, "localhost").await.unwrap();
}

/// Of `openssl x509 -req` without extensions, and its key.
const VERSION_1: &str = include_str!("version_1.pem");

#[tokio::test]
async fn where_nothing_is_verified_a_certificate_of_version_1_will_do_and_its_key_must_be_there() {
    let other = KeyPair::generate().unwrap().serialize_pem();
    let server = |key: &str, version| {
        let certificate = CertificateDer::from_pem_slice(VERSION_1.as_bytes()).unwrap();
        let key = ring::sign::any_supported_type(&PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap()).unwrap();
        let shown = SingleCertAndKey::from(CertifiedKey::new(vec![certificate], key));
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_protocol_versions(&[version]).unwrap().with_no_client_auth();
        TlsAcceptor::from(Arc::new(builder.with_cert_resolver(Arc::new(shown))))
    };
    let settings = ClientSettings::default();
    for version in [&TLS12, &TLS13] {
        visit(server(VERSION_1, version), &settings, Verify::Nothing, "localhost").await.unwrap();
        for (key, verify) in [(other.as_str(), Verify::Nothing), (VERSION_1, Verify::Chain)] {
            let refused = visit(server(key, version), &settings, verify, "localhost").await.unwrap_err();
            assert!(refused.contains("certificate is refused"), "{refused}");
        }
    }
}
