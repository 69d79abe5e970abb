//! TLS for what listens, and in [`client`] for what connects out. Certificates, keys and CAs are files, and are read
//! again when they change.

#[cfg(feature = "tls-client")]
pub mod client;
pub(crate) mod der;
mod validity;

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use forebay_buffer::{Timestamp, clock::Clock};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject},
    server::WebPkiClientVerifier,
    time_provider::TimeProvider,
};
use tokio_rustls::TlsAcceptor;

use crate::secret::Reread;
pub use validity::Validity;

/// The files that a TLS listener needs. All are PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerSettings {
    /// The server's certificate, followed by the intermediate ones.
    pub certificate_file: PathBuf,
    /// Its private key (PKCS #8, PKCS #1 or SEC 1).
    pub key_file: PathBuf,
    /// If given, clients must have a certificate that one of these signed.
    pub client_ca_file: Option<PathBuf>,
}

/// A listener's side of TLS.
pub struct Server {
    files: Reread<Loaded>,
}

struct Loaded {
    config: Arc<ServerConfig>,
    validity: Validity,
}

impl Server {
    /// Reads the files. The error names the file and what to do about it.
    pub fn new(settings: &ServerSettings, clock: Arc<dyn Clock>) -> Result<Self, String> {
        let mut paths = vec![settings.certificate_file.clone(), settings.key_file.clone()];
        paths.extend(settings.client_ca_file.clone());
        let settings = settings.clone();
        Ok(Self { files: Reread::new(paths, move || load(&settings, &clock))? })
    }

    /// What takes the next connection: made of the files as they are now, looked at once a second at most.
    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.files.get().config))
    }

    /// When the certificate in use expires.
    pub fn expires_at(&self) -> Timestamp {
        self.files.get().validity.not_after
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("expires_at", &self.expires_at()).finish()
    }
}

/// When the certificates in `file` begin and cease to be valid, all of them together: for `check` and health.
pub fn validity(file: &Path) -> Result<Validity, String> {
    validity_of(&certificates(file)?, file)
}

fn load(settings: &ServerSettings, clock: &Arc<dyn Clock>) -> Result<Loaded, String> {
    let chain = certificates(&settings.certificate_file)?;
    let validity = validity_of(&chain, &settings.certificate_file)?;
    let key_file = settings.key_file.display();
    let key = private_key(&settings.key_file)?;
    let provider = Arc::new(ring::default_provider());
    let time = Arc::new(Time { clock: Arc::clone(clock), not_before: validity.not_before });
    let builder = ServerConfig::builder_with_details(Arc::clone(&provider), time)
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("cannot set TLS up: {error}"))?;
    let builder = match &settings.client_ca_file {
        None => builder.with_no_client_auth(),
        Some(file) => builder.with_client_cert_verifier(client_verifier(file, provider)?),
    };
    let mut config = builder.with_single_cert(chain, key).map_err(|error| {
        let certificate_file = settings.certificate_file.display();
        format!("the key in {key_file} does not fit the certificate in {certificate_file}: {error}; name a pair")
    })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Loaded { config: Arc::new(config), validity })
}

/// The certificates in `file`, at least one. The error says what to do.
pub(crate) fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let shown = file.display();
    let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        Ok(_) => Err(format!("no certificate in {shown}: it must be PEM, with a BEGIN CERTIFICATE line")),
        Err(error) => {
            Err(format!("cannot read the certificates in {shown}: {error}; it must be PEM, readable for this user"))
        }
    }
}

/// The first private key in `file`. The error says what to do.
pub(crate) fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_file(file).map_err(|error| {
        let file = file.display();
        format!("cannot read a private key in {file}: {error}; it must be PEM, unencrypted, readable for this user")
    })
}

fn validity_of(chain: &[CertificateDer<'_>], file: &Path) -> Result<Validity, String> {
    chain.iter().map(|certificate| Validity::of(certificate)).reduce(|a, b| Some(a?.and(b?))).flatten().ok_or_else(
        || format!("a certificate in {} is not X.509: have it issued again, or name another file", file.display()),
    )
}

fn client_verifier(
    file: &Path,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn rustls::server::danger::ClientCertVerifier>, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file)? {
        roots
            .add(certificate)
            .map_err(|error| format!("{} holds no usable CA certificate: {error}; name another", file.display()))?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|error| format!("cannot check clients against {}: {error}", file.display()))
}

/// The time that the peers' certificates are judged by: the clock's, or what it cannot be before: for a server, the start
/// of its own certificate's validity. A gateway that boots in 1970 can take its clients in nevertheless.
#[derive(Debug)]
struct Time {
    clock: Arc<dyn Clock>,
    not_before: Timestamp,
}

impl TimeProvider for Time {
    fn current_time(&self) -> Option<UnixTime> {
        let now = self.clock.now().wall.max(self.not_before);
        let seconds = u64::try_from(now.0 / 1_000_000).ok()?;
        Some(UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds)))
    }
}

#[cfg(test)]
pub(crate) mod tests;
