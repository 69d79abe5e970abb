//! Where a server is, and how to log in to it.

use std::time::Duration;

use crate::{
    client::azure,
    secret::SecretSource,
    tls::client::{ClientSettings, Verify},
};

/// How long making a connection may take if nothing else is said.
pub(super) const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// What is needed to connect.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// A name, an IP address, or the directory of a Unix socket (which begins with a slash).
    pub host: String,
    /// The port; of a Unix socket, the number in its name.
    pub port: u16,
    /// The database.
    pub database: String,
    /// Who logs in.
    pub user: String,
    /// With which password.
    pub password: Option<Password>,
    /// How far the connection is protected.
    pub sslmode: SslMode,
    /// The files that TLS needs.
    pub tls: ClientSettings,
    /// How long making a connection may take, all of it.
    pub connect_timeout: Duration,
    /// How the server's views call us.
    pub application_name: String,
}

impl Settings {
    /// Server and database as messages name them.
    pub fn place(&self) -> String {
        format!("database {:?} on {}, port {}", self.database, self.host, self.port)
    }

    /// Whether the server is reached by a Unix socket. Those are never encrypted, whatever `sslmode` says: libpq too
    /// takes no notice of it there.
    pub fn is_local(&self) -> bool {
        self.host.starts_with('/')
    }
}

/// A password. There may be another for each connection.
#[derive(Debug, Clone, PartialEq)]
pub enum Password {
    /// It is read again for each.
    Secret(SecretSource),
    /// A token of Microsoft Entra for this identity. It goes to no server without TLS.
    AzureToken(Box<azure::Settings>),
}

/// libpq's `sslmode` (PostgreSQL documentation, section "SSL Support", table "SSL Mode Descriptions").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SslMode {
    /// Never encrypted.
    Disable,
    /// Encrypted if the server will not have it otherwise.
    Allow,
    /// Encrypted if the server can.
    #[default]
    Prefer,
    /// Encrypted. The server is not verified, unless there is a CA file: then it is as `verify-ca`.
    Require,
    /// Encrypted, and the server's certificate is signed by an authority that is trusted.
    VerifyCa,
    /// As `verify-ca`, and the certificate is for the host's name.
    VerifyFull,
}

impl SslMode {
    /// All of them, with their names.
    pub const ALL: [(&'static str, Self); 6] = [
        ("disable", Self::Disable),
        ("allow", Self::Allow),
        ("prefer", Self::Prefer),
        ("require", Self::Require),
        ("verify-ca", Self::VerifyCa),
        ("verify-full", Self::VerifyFull),
    ];

    /// Reads a name.
    pub fn parse(text: &str) -> Result<Self, String> {
        Self::ALL.iter().find(|(name, _)| *name == text).map(|(_, mode)| *mode).ok_or_else(|| {
            let names = Self::ALL.map(|(name, _)| format!("\"{name}\"")).join(", ");
            format!("has an sslmode that is none of {names}")
        })
    }

    /// Whether nothing but TLS will do.
    pub fn is_encrypted(self) -> bool {
        matches!(self, Self::Require | Self::VerifyCa | Self::VerifyFull)
    }

    /// How far the server must prove who it is.
    pub(super) fn verify(self, tls: &ClientSettings) -> Verify {
        match self {
            Self::VerifyFull => Verify::Full,
            Self::VerifyCa => Verify::Chain,
            Self::Require if tls.ca_file.is_some() => Verify::Chain,
            Self::Disable | Self::Allow | Self::Prefer | Self::Require => Verify::Nothing,
        }
    }
}

impl std::fmt::Display for SslMode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(Self::ALL.iter().find(|(_, mode)| mode == self).map_or("", |(name, _)| name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn require_verifies_the_chain_only_if_there_is_something_to_verify_it_with() {
        let with_ca = ClientSettings { ca_file: Some("/ca.pem".into()), ..ClientSettings::default() };
        assert_eq!(SslMode::Require.verify(&ClientSettings::default()), Verify::Nothing);
        assert_eq!(SslMode::Require.verify(&with_ca), Verify::Chain);
        assert_eq!(SslMode::Prefer.verify(&with_ca), Verify::Nothing);
        assert_eq!(SslMode::VerifyFull.verify(&ClientSettings::default()), Verify::Full);
    }
}
