//! TLS as the library for Postgres wants it. With a password, the server's certificate is part of the login (SCRAM with
//! channel binding), which whoever sits in between cannot forge.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use ring::digest;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, TlsConnect};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::socket::Socket;
use crate::tls::{
    client::Verify,
    der::{self, OBJECT, SEQUENCE},
};

/// Encrypts one connection.
pub(super) struct Connector {
    pub(super) config: Arc<ClientConfig>,
    /// What the server's certificate must be of.
    pub(super) host: String,
    /// How far it is verified.
    pub(super) verify: Verify,
    /// Noted there: under `prefer` the server decides whether it comes to that.
    pub(super) used: Arc<AtomicBool>,
}

/// An encrypted connection.
pub(super) struct Stream {
    stream: TlsStream<Socket>,
    verify: Verify,
}

impl TlsConnect<Socket> for Connector {
    type Stream = Stream;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Stream>> + Send>>;

    fn connect(self, socket: Socket) -> Self::Future {
        self.used.store(true, Ordering::Relaxed);
        Box::pin(async move {
            let name = ServerName::try_from(self.host);
            let name = name.map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
            let stream = TlsConnector::from(self.config).connect(name, socket).await?;
            Ok(Stream { stream, verify: self.verify })
        })
    }
}

impl tokio_postgres::tls::TlsStream for Stream {
    fn channel_binding(&self) -> ChannelBinding {
        let certificates = self.stream.get_ref().1.peer_certificates();
        let end_point = certificates.and_then(|all| end_point(all.first()?, self.verify));
        end_point.map_or_else(ChannelBinding::none, ChannelBinding::tls_server_end_point)
    }
}

/// What the login is bound to: the hash of the certificate (RFC 5929 section 4.1). `None`: to nothing.
///
/// Where a certificate is signed by an algorithm that has no hash of its own, such as Ed25519, servers fail over what they
/// are to compare, and libpq gives up. A server that has proved who it is needs no binding. Of any other, whoever sits in
/// between could show such a certificate so as to be bound to nothing: the login is bound to a hash all the same, and fails.
fn end_point(certificate: &[u8], verify: Verify) -> Option<Vec<u8>> {
    let algorithm = match (signed_with(certificate), verify) {
        (Some(algorithm), _) => algorithm,
        (None, Verify::Full) => return None,
        (None, Verify::Chain | Verify::Nothing) => &digest::SHA256,
    };
    Some(digest::digest(algorithm, certificate).as_ref().to_vec())
}

/// The hash with which a certificate was signed, or SHA-256 where that is older. `None`: with none, or one that is not known
/// here.
fn signed_with(certificate: &[u8]) -> Option<&'static digest::Algorithm> {
    const RSA: [u8; 8] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01];
    const ECDSA: [u8; 6] = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04];
    let mut parts = der::Reader::new(der::Reader::new(certificate).take(SEQUENCE)?);
    let (_signed, algorithm) = (parts.take(SEQUENCE)?, parts.take(SEQUENCE)?);
    let mut algorithm = der::Reader::new(algorithm);
    let name = algorithm.take(OBJECT)?;
    match (name.strip_prefix(&RSA), name.strip_prefix(&ECDSA)) {
        (Some([4 | 5 | 11]), _) | (_, Some([1] | [3, 2])) => Some(&digest::SHA256),
        (Some([12]), _) | (_, Some([3, 3])) => Some(&digest::SHA384),
        (Some([13]), _) | (_, Some([3, 4])) => Some(&digest::SHA512),
        (Some([10]), _) => of_pss(algorithm.take(SEQUENCE)?),
        _ => None,
    }
}

/// The same of the parameters of RSASSA-PSS (RFC 4055 section 3.1).
fn of_pss(parameters: &[u8]) -> Option<&'static digest::Algorithm> {
    const HASH: u8 = 0xa0;
    const SHA2: [u8; 8] = [0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02];
    // SHA-1 is what goes without saying.
    let Some(hash) = der::Reader::new(parameters).take(HASH) else { return Some(&digest::SHA256) };
    match der::Reader::new(der::Reader::new(hash).take(SEQUENCE)?).take(OBJECT)?.strip_prefix(&SHA2)? {
        [1] => Some(&digest::SHA256),
        [2] => Some(&digest::SHA384),
        [3] => Some(&digest::SHA512),
        _ => None,
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519};

    use super::*;

    #[test]
    fn a_certificate_is_hashed_as_it_was_signed_and_otherwise_only_a_server_that_is_verified_goes_without() {
        let lengths = [
            (&PKCS_ECDSA_P256_SHA256, Some(32), 32),
            (&PKCS_ECDSA_P384_SHA384, Some(48), 48),
            (&PKCS_ED25519, None, 32),
        ];
        for (algorithm, verified, other) in lengths {
            let key = KeyPair::generate_for(algorithm).expect("a key");
            let params = CertificateParams::new(["db.example".to_owned()]).expect("a name");
            let certificate = params.self_signed(&key).expect("a certificate");
            let length = |verify| end_point(certificate.der(), verify).map(|hash| hash.len());
            assert_eq!(length(Verify::Full), verified, "{algorithm:?}");
            for verify in [Verify::Chain, Verify::Nothing] {
                assert_eq!(length(verify), Some(other), "{algorithm:?}");
            }
            for end in 0..certificate.der().len() {
                assert!(signed_with(&certificate.der()[..end]).is_none(), "cut at {end}");
            }
        }
    }

    /// The names of algorithms are as openssl(1) writes them.
    #[test]
    fn the_hash_of_rsassa_pss_is_in_its_parameters() {
        let sha2 = |last| {
            let mut parameters = b"\xa0\x0f\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x00\x05\x00".to_vec();
            parameters[14] = last;
            parameters
        };
        let lengths =
            [(vec![], Some(32)), (sha2(1), Some(32)), (sha2(2), Some(48)), (sha2(3), Some(64)), (sha2(4), None)];
        for (parameters, length) in lengths {
            let mut certificate =
                b"\x30\x00\x30\x00\x30\x00\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0a\x30\x00".to_vec();
            certificate.extend(&parameters);
            for (at, behind) in [(1, 2), (5, 6), (18, 19)] {
                certificate[at] = u8::try_from(certificate.len() - behind).expect("it is short");
            }
            assert_eq!(end_point(&certificate, Verify::Full).map(|hash| hash.len()), length, "{parameters:?}");
        }
    }
}
