//! What a connection is made of.

use std::time::Duration;

use super::ConnectionString;
use crate::{
    client::azure,
    secret::{Secret, SecretSource},
    tls::client::ClientSettings,
};

/// How long tokens hold that SDKs sign.
pub const TOKEN_LIFE: Duration = Duration::from_secs(3600);

/// How to reach one hub.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The namespace, and what lets us in.
    pub namespace: Namespace,
    /// The hub's name.
    pub hub: String,
    /// What carries AMQP.
    pub transport: Transport,
    /// Whom TLS trusts, and what it shows.
    pub tls: ClientSettings,
    /// What lies in between.
    pub proxy: Option<Proxy>,
    /// The longest that a peer may take for any one answer: a connection, a link, an acknowledgement.
    pub timeout: Duration,
    /// How long a token holds that is signed here, such as [`TOKEN_LIFE`]. It is renewed before.
    pub token_life: Duration,
    /// A connection over which nothing comes for so long is given up. Services send something at least every half of it.
    pub idle_timeout: Duration,
}

/// Where a namespace is, and what lets us in.
#[derive(Debug, Clone, PartialEq)]
pub enum Namespace {
    /// All of it is in the configuration.
    Given {
        /// Where it is.
        endpoint: Endpoint,
        /// What lets us in.
        credential: Credential,
    },
    /// A file has a connection string, which is read again for each connection.
    ConnectionStringFile {
        /// The file.
        source: SecretSource,
        /// The host that is meant, whatever the file says.
        host: String,
    },
}

/// Where a namespace is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// A name, or an IP address without brackets.
    pub host: String,
    /// `None`: that of the transport.
    pub port: Option<u16>,
    /// Whether TLS is spoken. Only the emulator does without.
    pub encrypted: bool,
}

/// What carries AMQP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Transport {
    /// TCP, port 5671.
    #[default]
    Tcp,
    /// WebSocket, port 443.
    WebSocket,
}

/// An HTTP proxy that lets TCP through (CONNECT).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxy {
    /// A name, or an IP address without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// User and password, where it wants them (RFC 7617).
    pub login: Option<(String, SecretSource)>,
}

/// What lets us in.
#[derive(Debug, Clone, PartialEq)]
pub enum Credential {
    /// A rule's name and key: tokens are signed here.
    SharedKey {
        /// The rule.
        name: String,
        /// Its key: used as the text that it is.
        key: SecretSource,
    },
    /// A token that somebody else has signed. It cannot be renewed, but its file may get another.
    SharedSignature(SecretSource),
    /// An identity of Microsoft Entra.
    Entra(Box<azure::Settings>),
}

/// What was found out about a hub by reading all files.
#[derive(Debug, Clone)]
pub(super) struct Resolved {
    pub(super) endpoint: Endpoint,
    pub(super) credential: Credential,
}

impl Endpoint {
    /// The port to connect to.
    pub(super) fn port(&self, transport: Transport) -> u16 {
        self.port.unwrap_or(match (transport, self.encrypted) {
            (Transport::Tcp, true) => 5671,
            (Transport::Tcp, false) => 5672,
            (Transport::WebSocket, true) => 443,
            (Transport::WebSocket, false) => 80,
        })
    }
}

impl Settings {
    /// Reads what is in files. The error names the file, and what to do.
    pub(super) fn resolve(&self) -> Result<Resolved, String> {
        let (endpoint, credential, entity) = match &self.namespace {
            Namespace::Given { endpoint, credential } => (endpoint.clone(), credential.clone(), None),
            Namespace::ConnectionStringFile { source, host } => {
                let text: Secret = source.read()?;
                let file = match source {
                    SecretSource::File(path) => path.display().to_string(),
                    SecretSource::Inline(_) => "the configuration".to_owned(),
                };
                let parsed = ConnectionString::parse(&text);
                let mut parsed = parsed.map_err(|problem| format!("the connection string in {file} {problem}"))?;
                parsed.endpoint.host.clone_from(host);
                (parsed.endpoint, parsed.credential, parsed.entity_path)
            }
        };
        match entity {
            Some(entity) if !entity.eq_ignore_ascii_case(&self.hub) => Err(format!(
                "the connection string is for the hub {entity}, and {} is meant: change hub, or take another string",
                self.hub
            )),
            _ => Ok(Resolved { endpoint, credential }),
        }
    }

    /// The host of its namespace.
    pub fn host(&self) -> &str {
        match &self.namespace {
            Namespace::Given { endpoint, .. } => &endpoint.host,
            Namespace::ConnectionStringFile { host, .. } => host,
        }
    }
}
