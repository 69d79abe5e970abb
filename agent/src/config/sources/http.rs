//! `type = "http"`.

use crate::{
    config::{
        key::{Key, Schema},
        kind::{Address, Count, FilePath, Size, Token, UrlPath},
        reading::Section,
        report::Reported,
    },
    source::http::Settings,
    tls::ServerSettings,
};

pub(super) static HTTP: Schema = Schema {
    name: "sources.NAME",
    variant: "http",
    doc: "Events by POST: a JSON value, an array of them, NDJSON, or raw bytes.",
    keys: &[&LISTEN, &PATH, &TOKEN, &TOKEN_FILE, &MAX_BODY, &MAX_DECOMPRESSED, &MAX_CONNECTIONS],
    tables: &[&TLS],
};

static LISTEN: Key<Address> = Key::required("listen", Address, "Where it listens.");

static PATH: Key<UrlPath> = Key::with_default("path", UrlPath, r#""/events""#, "Where events are posted to.");

static TOKEN: Key<Token> = Key::optional(
    "token",
    Token,
    "anyone may post, unless token_file is given",
    "What producers must send as \"Authorization: Bearer TOKEN\".",
);

static TOKEN_FILE: Key<FilePath> = Key::optional(
    "token_file",
    FilePath,
    "anyone may post, unless token is given",
    "A file that holds the token, such as \"${CREDENTIALS_DIRECTORY}/token\". It is read again when it changes.",
);

static MAX_BODY: Key<Size> = Key::with_default(
    "max_body_bytes",
    Size { min: 1 << 10, max: 256 << 20 },
    r#""4MiB""#,
    "The largest body of a request, as it is sent.",
);

static MAX_DECOMPRESSED: Key<Size> = Key::with_default(
    "max_decompressed_bytes",
    Size { min: 1 << 10, max: 256 << 20 },
    r#""16MiB""#,
    "The largest body of a request once gzip or zstd is undone.",
);

static MAX_CONNECTIONS: Key<Count> = Key::with_default(
    "max_connections",
    Count { min: 1, max: 10_000 },
    "64",
    "The most connections at a time. More than that wait.",
);

static TLS: Schema = Schema {
    name: "tls",
    variant: "",
    doc: "Encryption: without this table there is none. The files are read again when they change.",
    keys: &[&CERTIFICATE_FILE, &KEY_FILE, &CLIENT_CA_FILE],
    tables: &[],
};

static CERTIFICATE_FILE: Key<FilePath> =
    Key::required("certificate_file", FilePath, "The certificate and those that lead to its root, PEM.");

static KEY_FILE: Key<FilePath> = Key::required("key_file", FilePath, "The private key of certificate_file, PEM.");

static CLIENT_CA_FILE: Key<FilePath> = Key::optional(
    "client_ca_file",
    FilePath,
    "producers need no certificate",
    "A file of the authorities, one of which must have signed the certificate of each producer, PEM.",
);

pub(super) fn read(section: &mut Section<'_, '_, '_>, max_event_bytes: usize) -> Result<Settings, Reported> {
    let listen = section.value(&LISTEN);
    let path = section.value(&PATH);
    let token = section.secret(&TOKEN, &TOKEN_FILE);
    let max_body_bytes = section.value(&MAX_BODY).map(in_memory);
    let max_decompressed_bytes = section.value(&MAX_DECOMPRESSED).map(in_memory);
    let max_connections = section.value(&MAX_CONNECTIONS).map(in_memory);
    let tls = section.table(&TLS).and_then(|tls| tls.map(read_tls).transpose());
    let settings = Settings {
        listen: listen?,
        path: path?,
        token: token?,
        tls: tls?,
        max_body_bytes: max_body_bytes?,
        max_decompressed_bytes: max_decompressed_bytes?,
        max_connections: max_connections?,
        max_event_bytes,
    };
    warn_of_strangers(section, &settings);
    Ok(settings)
}

fn read_tls(mut section: Section<'_, '_, '_>) -> Result<ServerSettings, Reported> {
    let certificate_file = section.value(&CERTIFICATE_FILE);
    let key_file = section.value(&KEY_FILE);
    let client_ca_file = section.given(&CLIENT_CA_FILE);
    Ok(ServerSettings { certificate_file: certificate_file?, key_file: key_file?, client_ca_file: client_ca_file? })
}

/// Warns where other machines reach the listener and can write, or listen in.
fn warn_of_strangers(section: &mut Section<'_, '_, '_>, settings: &Settings) {
    let clients_are_known = settings.tls.as_ref().is_some_and(|tls| tls.client_ca_file.is_some());
    match settings {
        _ if settings.listen.ip().is_loopback() => (),
        Settings { token: None, .. } if !clients_are_known => section.warning(
            LISTEN.name,
            "lets anyone who reaches it write events",
            "give a token_file, or tls with a client_ca_file, or listen on 127.0.0.1",
        ),
        Settings { token: Some(_), tls: None, .. } => section.warning(
            LISTEN.name,
            "receives the token unencrypted",
            "add a tls table, or listen on 127.0.0.1 behind a proxy that has TLS",
        ),
        _ => (),
    }
}

fn in_memory(limit: u64) -> usize {
    usize::try_from(limit).expect("256 MiB fit the address space")
}
