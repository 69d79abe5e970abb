//! Who the agent is to Entra, and where that is proven.

use std::path::PathBuf;

use crate::{
    client::https::is_loopback,
    secret::{Secret, SecretSource},
};

/// What tokens are asked for with. Nothing here has been looked at but its form.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Which sources are asked.
    pub kind: Kind,
    /// The tenant (directory) of the application.
    pub tenant_id: Option<Tenant>,
    /// The application, or a user-assigned managed identity.
    pub client_id: Option<String>,
    /// The application's secret.
    pub client_secret: Option<SecretSource>,
    /// The application's certificate and its RSA key, PEM. A secret goes before it.
    pub client_certificate_file: Option<PathBuf>,
    /// A token of another issuer that Entra trusts, such as Kubernetes. It is read each time.
    pub federated_token_file: Option<PathBuf>,
    /// Where applications log in.
    pub authority: Authority,
    /// Whose certificates the authority may have. Without it: the roots that come with this program, and the system's.
    pub ca_file: Option<PathBuf>,
    /// What requests to the authority go through. Managed identities are on this machine or beside it: they never do.
    pub proxy: Option<ureq::Proxy>,
    /// `IDENTITY_ENDPOINT`, of App Service and of Azure Arc.
    pub identity_endpoint: Option<String>,
    /// `IDENTITY_HEADER`, of App Service.
    pub identity_header: Option<Secret>,
    /// `IMDS_ENDPOINT`, of Azure Arc.
    pub imds_endpoint: Option<String>,
    /// Where the metadata service of a virtual machine is.
    pub metadata_host: String,
    /// The Azure CLI.
    pub az: PathBuf,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            kind: Kind::Default,
            tenant_id: None,
            client_id: None,
            client_secret: None,
            client_certificate_file: None,
            federated_token_file: None,
            authority: Authority::default(),
            ca_file: None,
            proxy: None,
            identity_endpoint: None,
            identity_header: None,
            imds_endpoint: None,
            metadata_host: "http://169.254.169.254".to_owned(),
            az: "az".into(),
        }
    }
}

/// Which sources of an identity are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kind {
    /// All but the Azure CLI, in the order of `DefaultAzureCredential`.
    #[default]
    Default,
    /// An application with its secret or certificate.
    Environment,
    /// An application with a federated token.
    WorkloadIdentity,
    /// The identity of the machine.
    ManagedIdentity,
    /// Whoever is logged in to the Azure CLI.
    AzureCli,
}

impl Kind {
    /// All of them, with their names.
    pub const ALL: [(&'static str, Self); 5] = [
        ("default", Self::Default),
        ("environment", Self::Environment),
        ("workload-identity", Self::WorkloadIdentity),
        ("managed-identity", Self::ManagedIdentity),
        ("azure-cli", Self::AzureCli),
    ];
}

/// A tenant: its id, or one of its domains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenant(String);

impl Tenant {
    /// Reads one. It becomes part of a URL and of a command line.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
        match () {
            () if text.is_empty() => Err("is empty"),
            () if !text.chars().all(fits) => Err("has a character other than letters, digits, \".\" and \"-\""),
            () if !text.starts_with(|c: char| c.is_ascii_alphanumeric()) => Err("begins with no letter or digit"),
            () => Ok(Self(text.to_owned())),
        }
    }

    /// As it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Where applications log in: `https://HOST`. Secrets are sent there, so nothing else will do, except on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority(String);

impl Default for Authority {
    fn default() -> Self {
        Self("https://login.microsoftonline.com".to_owned())
    }
}

impl Authority {
    /// Reads one. `https://` may be left out, as the vendor's libraries allow.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let url = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
        let url = url.trim_end_matches('/');
        let host = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://")).unwrap_or_default();
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']' | '/' | '_');
        match () {
            () if host.is_empty() || host.starts_with(['/', ':']) => Err("is not https:// and a host"),
            () if !host.chars().all(fits) => Err("has a character that no host has"),
            () if url.starts_with("http:") && !is_loopback(url) => Err("is not encrypted"),
            () => Ok(Self(url.to_owned())),
        }
    }

    /// Its URL, without a slash at the end.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_cannot_lead_elsewhere() {
        for tenant in ["contoso.onmicrosoft.com", "72f988bf-86f1-41af-91ab-2d7cd011db47"] {
            assert_eq!(Tenant::parse(tenant).as_ref().map(Tenant::as_str), Ok(tenant));
        }
        for wrong in ["", "a/b", "a?b", "..", "-o", "a b", "ä"] {
            assert!(Tenant::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn secrets_go_to_an_authority_only_over_tls() {
        let read = |text| Authority::parse(text).map(|authority| authority.0);
        assert_eq!(read("https://login.microsoftonline.us/"), Ok("https://login.microsoftonline.us".to_owned()));
        assert_eq!(read("login.partner.example"), Ok("https://login.partner.example".to_owned()));
        assert_eq!(read("http://127.0.0.1:8080"), Ok("http://127.0.0.1:8080".to_owned()));
        assert_eq!(read("http://login.example"), Err("is not encrypted"));
        assert_eq!(read("http://127.0.0.1.example"), Err("is not encrypted"));
        for wrong in ["", "https://", "ftp://x", "https://a b", "https://me:pw@host", "https://h?x"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
