//! How to reach an event hub: what the source and the sink have in common.

use std::time::Duration;

use super::{
    azure::{self, AZURE},
    key::Key,
    kind::{Choice, FilePath, HostName, PlainText, ProxyUrl, SecretText, Time},
    reading::Section,
    report::Reported,
    tls::{self, TLS},
};
use crate::{
    client::eventhub::{ConnectionString, Credential, Endpoint, Namespace, Proxy, Settings, TOKEN_LIFE, Transport},
    secret::{Secret, SecretSource},
};

/// The keys, for the schemas of source and sink.
pub(super) static CONNECTION_STRING: Key<SecretText> = Key::optional(
    "connection_string",
    SecretText,
    "what connection_string_file holds; without either, namespace and the identity in the table azure",
    "A connection string, with a rule's key or a SharedAccessSignature. UseDevelopmentEmulator=true in it: no encryption, \
     and the port that its endpoint names.",
);

pub(super) static CONNECTION_STRING_FILE: Key<FilePath> = Key::optional(
    "connection_string_file",
    FilePath,
    "what connection_string says; without either, namespace and the identity in the table azure",
    "A file that holds a connection string, such as \"${CREDENTIALS_DIRECTORY}/hub\". It is read again for each \
     connection. namespace and hub must be given beside it, for checkpoints bear them.",
);

pub(super) static NAMESPACE: Key<HostName> = Key::optional(
    "namespace",
    HostName {
        or_socket: false,
        port_help: "the port is that of the transport; only UseDevelopmentEmulator=true in a connection string names another",
    },
    "that of connection_string",
    "The host name of the namespace, such as \"plant.servicebus.windows.net\". It goes before that of a connection string.",
)
.variable("EVENTHUB_NAMESPACE");

pub(super) static HUB: Key<PlainText> = Key::optional(
    "hub",
    PlainText { what: "the name of an event hub" },
    "the EntityPath of connection_string",
    "The event hub.",
);

pub(super) static TRANSPORT: Key<Choice<Transport>> = Key::with_default(
    "transport",
    Choice { what: "transport", of: &[("amqp", Transport::Tcp), ("websocket", Transport::WebSocket)] },
    r#""amqp""#,
    "\"amqp\": TCP, port 5671. \"websocket\": port 443, for networks that let nothing else out.",
);

pub(super) static PROXY: Key<ProxyUrl> = Key::optional(
    "proxy",
    ProxyUrl,
    "connections go straight to the namespace",
    "The HTTP proxy that leads to the namespace. It must allow CONNECT to the transport's port.",
);

pub(super) static TIMEOUT: Key<Time> = Key::with_default(
    "timeout",
    Time { min: Duration::from_secs(1), max: Duration::from_secs(300) },
    r#""30s""#,
    "How long the hub may take for any one answer; a batch has longer, for a slow line. After that the link is given up, or the \
     connection, and another is made.",
);

pub(super) static IDLE_TIMEOUT: Key<Time> = Key::with_default(
    "idle_timeout",
    Time { min: Duration::from_secs(2), max: Duration::from_secs(600) },
    r#""60s""#,
    "A connection over which nothing comes for so long is given up: the hub says something every half of it.",
);

/// A hub, as the config has it.
pub(super) struct Hub {
    /// How to reach it.
    pub(super) connection: Settings,
    /// The host name of its namespace, in lower case: what checkpoints bear.
    pub(super) namespace: String,
    /// Its name, in lower case.
    pub(super) name: String,
}

pub(super) fn read(section: &mut Section<'_, '_, '_>) -> Result<Hub, Reported> {
    let (text, file) = (section.given(&CONNECTION_STRING), section.given(&CONNECTION_STRING_FILE));
    let (namespace, hub) = (section.given(&NAMESPACE), section.given(&HUB));
    let (transport, proxy) = (section.value(&TRANSPORT), section.given(&PROXY));
    let (timeout, idle_timeout) = (section.value(&TIMEOUT), section.value(&IDLE_TIMEOUT));
    let tls = section.table(&TLS).and_then(|tls| tls.map(tls::read).transpose());
    let (namespace, hub) = (namespace?, hub?);
    let place = match (text?, file?) {
        (Some(_), Some(_)) => {
            let help = "keep one of the two: the file is the better";
            return Err(section.error(CONNECTION_STRING_FILE.name, "is given beside connection_string", help));
        }
        (Some(text), None) => of_text(section, &text, namespace, hub),
        (None, Some(path)) => of_file(section, path, namespace, hub),
        (None, None) => of_identity(section, namespace, hub),
    };
    let (settings, host, hub) = place?;
    let connection = Settings {
        namespace: settings,
        hub: hub.clone(),
        transport: transport?,
        tls: tls?.unwrap_or_default(),
        proxy: proxy?.map(proxy_of),
        timeout: timeout?,
        token_life: TOKEN_LIFE,
        idle_timeout: idle_timeout?,
    };
    Ok(Hub { connection, namespace: host.to_ascii_lowercase(), name: hub.to_ascii_lowercase() })
}

/// Where the hub is, its namespace's host, and its name.
type Place = (Namespace, String, String);

fn of_text(
    section: &mut Section<'_, '_, '_>,
    text: &Secret,
    namespace: Option<String>,
    hub: Option<String>,
) -> Result<Place, Reported> {
    refuse_identity(section)?;
    let parsed = ConnectionString::parse(text);
    let parsed = parsed.map_err(|problem| {
        let help = "copy it from the shared access policies of the namespace or of the hub";
        section.error(CONNECTION_STRING.name, problem, help)
    })?;
    let ConnectionString { mut endpoint, credential, entity_path } = parsed;
    if let Some(namespace) = namespace {
        endpoint.host = namespace;
    }
    let hub = match (hub, entity_path) {
        (Some(hub), Some(entity)) if !hub.eq_ignore_ascii_case(&entity) => {
            let problem = format!("is {hub:?}, and the EntityPath of connection_string is {entity:?}");
            return Err(section.error(HUB.name, problem, "keep one of the two"));
        }
        (hub, entity) => hub.or(entity).ok_or_else(|| {
            let help = "name the event hub; the connection string is of the whole namespace";
            section.error(HUB.name, "is missing, and connection_string has no EntityPath", help)
        })?,
    };
    let host = endpoint.host.clone();
    Ok((Namespace::Given { endpoint, credential }, host, hub))
}

fn of_file(
    section: &mut Section<'_, '_, '_>,
    file: std::path::PathBuf,
    namespace: Option<String>,
    hub: Option<String>,
) -> Result<Place, Reported> {
    refuse_identity(section)?;
    let help = "name it beside connection_string_file: checkpoints bear it, whatever the file says later";
    let host = namespace.ok_or_else(|| section.error(NAMESPACE.name, "is missing", help));
    let hub = hub.ok_or_else(|| section.error(HUB.name, "is missing", help));
    let (host, hub) = (host?, hub?);
    let source = SecretSource::File(file);
    Ok((Namespace::ConnectionStringFile { source, host: host.clone() }, host, hub))
}

fn of_identity(
    section: &mut Section<'_, '_, '_>,
    namespace: Option<String>,
    hub: Option<String>,
) -> Result<Place, Reported> {
    let host = namespace.ok_or_else(|| {
        let help = "give connection_string_file (or connection_string), or namespace, and the agent's identity is used";
        section.error(NAMESPACE.name, "is missing, and so is a connection string", help)
    });
    let hub = hub.ok_or_else(|| section.error(HUB.name, "is missing", "name the event hub"));
    let identity = azure::read(section);
    let (host, hub) = (host?, hub?);
    let endpoint = Endpoint { host: host.clone(), port: None, encrypted: true };
    Ok((Namespace::Given { endpoint, credential: Credential::Entra(Box::new(identity?)) }, host, hub))
}

/// Refuses an identity that would not be used.
fn refuse_identity(section: &mut Section<'_, '_, '_>) -> Result<(), Reported> {
    if section.has(AZURE.name) {
        let problem = "is given beside a connection string, which lets the agent in by itself";
        return Err(section.error(AZURE.name, problem, "keep one of the two"));
    }
    Ok(())
}

fn proxy_of(proxy: ureq::Proxy) -> Proxy {
    let login = proxy.username().map(|user| {
        let password = SecretSource::Inline(Secret::new(proxy.password().unwrap_or_default()));
        (user.to_owned(), password)
    });
    let host = proxy.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    Proxy { host, port: proxy.port(), login }
}

/// The files of secrets that `connection` names, each with its key, and whether others must not read it.
pub(super) fn files(connection: &Settings) -> Vec<(Vec<&'static str>, &std::path::Path, bool)> {
    let mut files = Vec::new();
    match &connection.namespace {
        Namespace::ConnectionStringFile { source: SecretSource::File(file), .. } => {
            files.push((vec![CONNECTION_STRING_FILE.name], file.as_path(), true));
        }
        Namespace::Given { credential: Credential::Entra(identity), .. } => {
            files
                .extend(azure::secret_files(identity).map(|(key, file)| (vec![AZURE.name, key], file.as_path(), true)));
        }
        _ => {}
    }
    files.extend(tls::files(&connection.tls).map(|(key, file, is_secret)| (vec![TLS.name, key], file, is_secret)));
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_named_by_whatever_address_it_has() {
        for (url, host) in [("http://[::1]:3128", "::1"), ("http://proxy.example:3128", "proxy.example")] {
            let proxy = proxy_of(ureq::Proxy::new(url).unwrap());
            assert_eq!((proxy.host.as_str(), proxy.port), (host, 3128));
        }
    }
}
