//! `[....azure]`: who the agent is to Microsoft Entra, for whatever takes its tokens.
//!
//! The vendor's variables mean here what they mean to its own programs, and override the file.

use super::{
    key::{Key, Schema},
    kind::{Authority, Choice, FilePath, PlainText, ProxyUrl, SecretText, Tenant},
    reading::Section,
    report::Reported,
};
use crate::{
    client::azure::{self, Kind, Settings},
    secret::{Secret, SecretSource},
};

pub(super) static AZURE: Schema = Schema {
    name: "azure",
    variant: "",
    doc: "Who the agent is to Microsoft Entra. Azure Arc, App Service and virtual machines need nothing here: their \
          managed identity is found.",
    keys: &[
        &CREDENTIAL,
        &TENANT_ID,
        &CLIENT_ID,
        &CLIENT_SECRET,
        &CLIENT_SECRET_FILE,
        &CLIENT_CERTIFICATE_FILE,
        &FEDERATED_TOKEN_FILE,
        &AUTHORITY_HOST,
        &CA_FILE,
        &PROXY,
    ],
    tables: &[],
};

static CREDENTIAL: Key<Choice<Kind>> = Key::with_default(
    "credential",
    Choice { what: "credential", of: &Kind::ALL },
    r#""default""#,
    "Where tokens come from. \"default\": the first that is set up of client_secret and client_certificate_file \
     (\"environment\"), federated_token_file (\"workload-identity\"), and the identity that App Service, Azure Arc or a \
     virtual machine has (\"managed-identity\"). The Azure CLI is asked only if it is named.",
);

static TENANT_ID: Key<Tenant> = Key::optional(
    "tenant_id",
    Tenant,
    "needed with client_secret, client_certificate_file and federated_token_file",
    "The tenant (directory) that the application is in: its id, or one of its domains.",
)
.variable("AZURE_TENANT_ID");

static CLIENT_ID: Key<PlainText> = Key::optional(
    "client_id",
    PlainText { what: "the id of an application" },
    "the machine's own (system-assigned) identity",
    "The id of the application, or of a user-assigned managed identity.",
)
.variable("AZURE_CLIENT_ID");

static CLIENT_SECRET: Key<SecretText> =
    Key::optional("client_secret", SecretText, "what client_secret_file holds", "The application's secret.")
        .variable("AZURE_CLIENT_SECRET");

static CLIENT_SECRET_FILE: Key<FilePath> = Key::optional(
    "client_secret_file",
    FilePath,
    "what client_secret says",
    "A file that holds the application's secret, such as \"${CREDENTIALS_DIRECTORY}/entra\". It is read for each token.",
);

static CLIENT_CERTIFICATE_FILE: Key<FilePath> = Key::optional(
    "client_certificate_file",
    FilePath,
    "no certificate is used",
    "The application's certificate and its RSA key, unencrypted, both PEM in one file. A secret goes before it.",
)
.variable("AZURE_CLIENT_CERTIFICATE_PATH");

static FEDERATED_TOKEN_FILE: Key<FilePath> = Key::optional(
    "federated_token_file",
    FilePath,
    "no such token is used",
    "A token of another issuer that the application trusts, such as Kubernetes. It is read for each token.",
)
.variable("AZURE_FEDERATED_TOKEN_FILE");

static AUTHORITY_HOST: Key<Authority> = Key::with_default(
    "authority_host",
    Authority,
    r#""https://login.microsoftonline.com""#,
    "Where applications log in: another in a national cloud.",
)
.variable("AZURE_AUTHORITY_HOST");

static CA_FILE: Key<FilePath> = Key::optional(
    "ca_file",
    FilePath,
    "the authorities that come with this program, and the system's",
    "A file of the authorities, one of which must have signed the certificate of authority_host, PEM: for a proxy that \
     opens TLS.",
);

static PROXY: Key<ProxyUrl> = Key::optional(
    "proxy",
    ProxyUrl,
    "requests go straight to authority_host",
    "The HTTP proxy that leads to authority_host. Managed identities are never asked through one.",
);

/// Reads the table within `parent`, and what the platform says in the environment.
pub(super) fn read(parent: &mut Section<'_, '_, '_>) -> Result<Settings, Reported> {
    let mut section = parent.table_or_defaults(&AZURE)?;
    let section = &mut section;
    let (kind, tenant_id, client_id) =
        (section.value(&CREDENTIAL), section.given(&TENANT_ID), section.given(&CLIENT_ID));
    let secret = section.secret(&CLIENT_SECRET, &CLIENT_SECRET_FILE);
    let certificate = section.given(&CLIENT_CERTIFICATE_FILE);
    let federated = section.given(&FEDERATED_TOKEN_FILE);
    let (authority, ca_file, proxy) = (section.value(&AUTHORITY_HOST), section.given(&CA_FILE), section.given(&PROXY));
    let platform = |name| section.reader.environment.variable(name).ok().filter(|value| !value.is_empty());
    let defaults = Settings::default();
    Ok(Settings {
        kind: kind?,
        tenant_id: tenant_id?,
        client_id: client_id?,
        client_secret: secret?,
        client_certificate_file: certificate?,
        federated_token_file: federated?,
        authority: authority?,
        ca_file: ca_file?,
        proxy: proxy?,
        identity_endpoint: platform("IDENTITY_ENDPOINT").map(str::to_owned),
        identity_header: platform("IDENTITY_HEADER").map(Secret::new),
        imds_endpoint: platform("IMDS_ENDPOINT").map(str::to_owned),
        metadata_host: platform("AZURE_POD_IDENTITY_AUTHORITY_HOST")
            .map_or(defaults.metadata_host, |host| host.trim_end_matches('/').to_owned()),
        az: defaults.az,
    })
}

/// The files of secrets that `settings` name, each with its key.
pub(super) fn secret_files(settings: &azure::Settings) -> impl Iterator<Item = (&'static str, &std::path::PathBuf)> {
    let secret = match &settings.client_secret {
        Some(SecretSource::File(file)) => Some(file),
        _ => None,
    };
    [
        (CLIENT_SECRET_FILE.name, secret),
        (CLIENT_CERTIFICATE_FILE.name, settings.client_certificate_file.as_ref()),
        (FEDERATED_TOKEN_FILE.name, settings.federated_token_file.as_ref()),
    ]
    .into_iter()
    .filter_map(|(key, file)| file.map(|file| (key, file)))
}
