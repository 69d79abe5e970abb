//! TLS for what connects out: whom it trusts, and what it shows of itself. The files are read again when they change.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use forebay_buffer::{Timestamp, clock::Clock};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime},
    server::ParsedCertificate,
};

use super::{
    Time, Validity, certificates,
    der::{BIT_STRING, Reader, SEQUENCE, public_key},
    private_key, validity_of,
};
use crate::secret::Reread;

/// This program was not there before this time (2026-11-20), so no clock that says so is right: a gateway that boots in
/// 1970 can verify its servers nevertheless.
pub(crate) const NOT_BEFORE: Timestamp = Timestamp(1_795_132_800_000_000);

/// The files that a TLS client needs. All are PEM.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClientSettings {
    /// Whose certificates are trusted, and no others. Without it: the roots that come with this program, and the
    /// system's.
    pub ca_file: Option<PathBuf>,
    /// The client's own certificate, followed by the intermediate ones, for servers that ask for one.
    pub certificate_file: Option<PathBuf>,
    /// Its private key (PKCS #8, PKCS #1 or SEC 1).
    pub key_file: Option<PathBuf>,
}

/// How far a server must prove who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verify {
    /// By a certificate that a trusted authority signed, for its very name.
    Full,
    /// By a certificate that a trusted authority signed, for whatever name.
    Chain,
    /// Not at all: whoever is in between can read and change everything.
    Nothing,
}

/// The time by which what is signed here is judged elsewhere: the clock's, or what it cannot be before.
#[cfg(any(feature = "azure", feature = "snowpipe"))]
pub(crate) fn now(clock: &dyn Clock) -> Timestamp {
    believed(clock).unwrap_or(NOT_BEFORE)
}

/// The clock's time, if it can be right.
#[cfg(any(feature = "azure", feature = "snowpipe"))]
pub(crate) fn believed(clock: &dyn Clock) -> Option<Timestamp> {
    Some(clock.now().wall).filter(|wall| *wall >= NOT_BEFORE)
}

/// A client's side of TLS.
pub struct Client {
    files: Reread<Arc<ClientConfig>>,
}

impl Client {
    /// Reads the files. The error names the file and what to do about it.
    pub fn new(settings: &ClientSettings, verify: Verify, clock: Arc<dyn Clock>) -> Result<Self, String> {
        let settings = settings.clone();
        let paths = [&settings.ca_file, &settings.certificate_file, &settings.key_file].into_iter().flatten();
        Ok(Self {
            files: Reread::new(paths.cloned().collect(), move || load(&settings, verify, &clock).map(Arc::new))?,
        })
    }

    /// For the next connection: made of the files as they are now, looked at once a second at most.
    pub fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.files.get())
    }
}

/// What a failed handshake means, and what to do about it.
pub fn explain(error: &io::Error) -> String {
    known(error).unwrap_or_else(|| format!("the TLS handshake failed: {error}"))
}

/// What an error on a connection means if TLS is what it is about: a server may find our certificate wanting only after
/// the handshake (RFC 8446 section 4.4.2).
pub fn known(error: &io::Error) -> Option<String> {
    let why = match error.get_ref()?.downcast_ref::<Error>()? {
        Error::InvalidCertificate(why) => why,
        Error::AlertReceived(AlertDescription::CertificateRequired) => {
            return Some(
                "the server asks for a client's certificate: name one as certificate_file, and its key_file".into(),
            );
        }
        Error::AlertReceived(alert @ (AlertDescription::UnknownCA | AlertDescription::CertificateExpired)) => {
            return Some(format!("the server refuses our certificate ({alert:?}): have one issued that it trusts"));
        }
        _ => return None,
    };
    let remedy = match why {
        // A signature is bad if the authority's name is known, and its key is another.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "no authority that is trusted here signed it: name the one that did as ca_file"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "it is for another name: connect by a name that it bears, or have it issued anew"
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "waiting for the clock: by this machine's clock it is not valid yet"
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "it has expired, or this machine's clock is ahead: renew it"
        }
        _ => "have it issued anew",
    };
    Some(format!("the server's certificate is refused ({why}): {remedy}"))
}

fn load(settings: &ClientSettings, verify: Verify, clock: &Arc<dyn Clock>) -> Result<ClientConfig, String> {
    let provider = Arc::new(ring::default_provider());
    let time = Arc::new(Time { clock: Arc::clone(clock), not_before: NOT_BEFORE });
    let builder = ClientConfig::builder_with_details(Arc::clone(&provider), time)
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("cannot set TLS up: {error}"))?;
    let verifier = Verifier::new(settings.ca_file.as_deref(), verify, provider)?;
    let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
    match (&settings.certificate_file, &settings.key_file) {
        (Some(certificate_file), Some(key_file)) => {
            let chain = certificates(certificate_file)?;
            validity_of(&chain, certificate_file)?;
            let key: PrivateKeyDer<'static> = private_key(key_file)?;
            builder.with_client_auth_cert(chain, key).map_err(|error| {
                let (key, certificate) = (key_file.display(), certificate_file.display());
                format!("the key in {key} does not fit the certificate in {certificate}: {error}; name a pair")
            })
        }
        _ => Ok(builder.with_no_client_auth()),
    }
}

/// Verifies servers as far as is asked for.
#[derive(Debug)]
struct Verifier {
    verify: Verify,
    /// `None`: nobody is trusted, and nobody needs to be.
    authorities: Option<Arc<WebPkiServerVerifier>>,
    /// What `ca_file` holds: a server may show one of these itself, as self-signed ones do.
    pinned: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

impl Verifier {
    fn new(ca_file: Option<&Path>, verify: Verify, provider: Arc<CryptoProvider>) -> Result<Self, String> {
        let mut verifier = Self { verify, authorities: None, pinned: Vec::new(), provider };
        if verify == Verify::Nothing {
            return Ok(verifier);
        }
        let mut roots = RootCertStore::empty();
        let whose = match ca_file {
            Some(file) => {
                verifier.pinned = certificates(file)?;
                for certificate in &verifier.pinned {
                    roots.add(certificate.clone()).map_err(|error| {
                        format!("{} holds no usable CA certificate: {error}; name another", file.display())
                    })?;
                }
                file.display().to_string()
            }
            None => {
                roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
                // What cannot be read of the system's is not trusted, and the bundled ones are there.
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                "the system's roots".to_owned()
            }
        };
        let built =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&verifier.provider)).build();
        verifier.authorities = Some(built.map_err(|error| format!("cannot check servers against {whose}: {error}"))?);
        Ok(verifier)
    }

    /// All that counts of a certificate where it has nothing to prove. The rest may be what no authority would sign, such as
    /// version 1, which openssl(1) makes unless it is asked for more.
    fn raw_key<'c>(&self, certificate: &'c CertificateDer<'_>) -> Result<Option<&'c [u8]>, Error> {
        match self.verify {
            Verify::Nothing => public_key(certificate).map(Some).ok_or_else(|| CertificateError::BadEncoding.into()),
            Verify::Full | Verify::Chain => Ok(None),
        }
    }
}

/// What rustls does for TLS 1.3 only: whether `signature` was made with `key` (SubjectPublicKeyInfo, RFC 5280 section 4.1).
fn verify_tls12_signature_with_raw_key(
    message: &[u8],
    key: &[u8],
    signature: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, Error> {
    let parts = || {
        let mut parts = Reader::new(Reader::new(key).take(SEQUENCE)?);
        Some((parts.take(SEQUENCE)?, parts.take(BIT_STRING)?.strip_prefix(&[0])?))
    };
    let (algorithm, key) = parts().ok_or(CertificateError::BadEncoding)?;
    let scheme = algorithms.mapping.iter().filter(|(scheme, _)| *scheme == signature.scheme);
    let mut fitting = scheme.flat_map(|(_, all)| *all).filter(|one| *one.public_key_alg_id() == *algorithm);
    match fitting.any(|one| one.verify_signature(key, message, signature.signature()).is_ok()) {
        true => Ok(HandshakeSignatureValid::assertion()),
        false => Err(CertificateError::BadSignature.into()),
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(authorities) = &self.authorities else { return Ok(ServerCertVerified::assertion()) };
        if self.pinned.iter().any(|pinned| pinned == end_entity) {
            // A CA's certificate is refused as a server's, but this very one is what the operator has named.
            let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
            match Validity::of(end_entity) {
                Some(validity) if validity.not_after.0 / 1_000_000 < seconds => Err(CertificateError::Expired)?,
                Some(validity) if validity.not_before.0 / 1_000_000 > seconds => Err(CertificateError::NotValidYet)?,
                Some(_) => {}
                None => Err(CertificateError::BadEncoding)?,
            }
            if self.verify == Verify::Full {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
            }
            return Ok(ServerCertVerified::assertion());
        }
        match authorities.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            // The name is looked at last, when all else is well.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if self.verify == Verify::Chain => Ok(ServerCertVerified::assertion()),
            outcome => outcome,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        match self.raw_key(certificate)? {
            Some(key) => verify_tls12_signature_with_raw_key(message, key, signature, algorithms),
            None => rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms),
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        match self.raw_key(certificate)? {
            Some(key) => {
                rustls::crypto::verify_tls13_signature_with_raw_key(message, &key.into(), signature, algorithms)
            }
            None => rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms),
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests;
