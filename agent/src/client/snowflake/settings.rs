//! Which account, and who logs in to it.

use std::path::PathBuf;

use super::Account;
use crate::{secret::SecretSource, tls::client::ClientSettings};

/// What is needed to reach the service.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The account.
    pub account: Account,
    /// Who logs in. Proofs of a key name it in upper case.
    pub user: String,
    /// With which role. `None`: the user's default.
    pub role: Option<String>,
    /// With which proof.
    pub credential: Credential,
    /// Whom TLS trusts, and what it shows.
    pub tls: ClientSettings,
    /// What requests go through.
    pub proxy: Option<ureq::Proxy>,
}

/// What lets us in. Files are read again for each proof, which is at least once an hour.
#[derive(Debug, Clone, PartialEq)]
pub enum Credential {
    /// An RSA key whose public half is registered at the user.
    KeyPair {
        /// PEM, PKCS #8.
        file: PathBuf,
        /// What opens it, if it is encrypted.
        password: Option<SecretSource>,
    },
    /// A programmatic access token.
    AccessToken(SecretSource),
    /// A client of an OAuth server that the account trusts.
    OAuthClient {
        /// The client.
        id: String,
        /// Its secret.
        secret: SecretSource,
        /// Where it gets its tokens. `None`: the account itself.
        token_url: Option<String>,
        /// What for. `None`: the role.
        scope: Option<String>,
    },
}
