//! Certificates for servers and clients of a test, from an authority of its own.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

/// A certificate authority.
#[derive(Debug)]
pub struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, as PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

impl Authority {
    /// One with a new key, called `name`.
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names are no wrong names");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key can be made");
        let pem = params.self_signed(&key).expect("a certificate can be signed").pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// Its own certificate, as PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Signs a certificate for `name`: of a server, its host name or address; of a client, its common name.
    pub fn issue(&self, name: &str) -> Certificate {
        self.issue_for(&[name])
    }

    /// The same for a server that has several names; the first is the common one.
    pub fn issue_for(&self, names: &[&str]) -> Certificate {
        let alternatives: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(alternatives).expect("a test names hosts and addresses");
        params.distinguished_name.push(DnType::CommonName, names[0]);
        let key = KeyPair::generate().expect("a key can be made");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate can be signed");
        Certificate { certificate: certificate.pem(), key: key.serialize_pem() }
    }

    /// Writes its own certificate to `path`.
    pub fn write(&self, path: &Path) {
        fs::write(path, &self.pem).expect("a certificate can be written");
    }
}

impl Certificate {
    /// Writes `NAME.crt` and `NAME.key` into `directory`, and returns their paths.
    pub fn write(&self, directory: &Path, name: &str) -> (PathBuf, PathBuf) {
        let paths = (directory.join(format!("{name}.crt")), directory.join(format!("{name}.key")));
        fs::write(&paths.0, &self.certificate).expect("a certificate can be written");
        fs::write(&paths.1, &self.key).expect("a key can be written");
        paths
    }
}
