//! `type = "postgres"`.

use std::time::Duration;

use crate::{
    client::postgres::{Identifier, Password, Settings as Server, SslMode, Url},
    config::{
        azure::AZURE,
        key::{Key, Schema},
        kind::{Choice, ColumnNames, Columns, FilePath, SecretText, ServerUrl, Table, Time},
        login::{AuthMode, auth_mode, check_token, read_token, refuse_password},
        reading::Section,
        report::Reported,
    },
    contract::BatchLimits,
    secret::SecretSource,
    sink::postgres::{Mapping, Settings, default_mapping},
};

pub(super) static POSTGRES: Schema = Schema {
    name: "sinks.NAME",
    variant: "postgres",
    doc: "Rows in a table of Postgres 12 or later, each event exactly once. The checkpoint is a row in the same database.",
    keys: &[
        &URL,
        &PASSWORD,
        &PASSWORD_FILE,
        &AUTH_MODE,
        &SSLMODE,
        &CA_FILE,
        &CERTIFICATE_FILE,
        &KEY_FILE,
        &CONNECT_TIMEOUT,
        &TABLE,
        &MODE,
        &KEY_COLUMNS,
        &COLUMNS,
    ],
    tables: &[&AZURE],
};

static AUTH_MODE: Key<Choice<AuthMode>> = auth_mode("\"password\"");

static URL: Key<ServerUrl> = Key::required(
    "url",
    ServerUrl,
    "The server, as libpq has it; a port that is not 5432 stands behind the host. Of parameters it knows sslmode, \
     sslrootcert, sslcert, sslkey, connect_timeout and application_name. A host that begins with %2F is the directory \
     of a Unix socket.",
);

static PASSWORD: Key<SecretText> =
    Key::optional("password", SecretText, "none is sent, unless password_file is given", "The user's password.");

static PASSWORD_FILE: Key<FilePath> = Key::optional(
    "password_file",
    FilePath,
    "none is sent, unless password is given",
    "A file that holds the password, such as \"${CREDENTIALS_DIRECTORY}/pg\". It is read again for each connection.",
);

static SSLMODE: Key<Choice<SslMode>> = Key::optional(
    "sslmode",
    Choice { what: "sslmode", of: &SslMode::ALL },
    "what url says, else \"prefer\": encrypted if the server can, and the server is not verified",
    "How far the connection is protected, with libpq's meanings. \"verify-full\" is what keeps others out.",
);

static CA_FILE: Key<FilePath> = Key::optional(
    "ca_file",
    FilePath,
    "what url says, else the authorities that come with this program, and the system's",
    "A file of the authorities, one of which must have signed the server's certificate, PEM.",
);

static CERTIFICATE_FILE: Key<FilePath> = Key::optional(
    "certificate_file",
    FilePath,
    "what url says, else none is shown",
    "The agent's own certificate and those that lead to its root, PEM.",
);

static KEY_FILE: Key<FilePath> = Key::optional(
    "key_file",
    FilePath,
    "what url says, else none is shown",
    "The private key of certificate_file, PEM.",
);

static CONNECT_TIMEOUT: Key<Time> = Key::optional(
    "connect_timeout",
    Time { min: Duration::from_secs(1), max: Duration::from_secs(3600) },
    "what url says, else 10s",
    "How long making a connection may take, logging in included.",
);

static TABLE: Key<Table> = Key::required("table", Table, "The table that events go into. `forebay setup` makes it.");

static MODE: Key<Choice<Mode>> = Key::with_default(
    "mode",
    Choice { what: "mode", of: &[("append", Mode::Append), ("upsert", Mode::Upsert)] },
    r#""append""#,
    "\"append\": each event is a new row. \"upsert\": it replaces the row that has the same key_columns.",
);

static KEY_COLUMNS: Key<ColumnNames> = Key::optional(
    "key_columns",
    ColumnNames,
    "rows are appended; with mode = \"upsert\" it must be given",
    "The columns by which \"upsert\" tells rows apart. There should be a unique index on exactly these.",
);

static COLUMNS: Key<Columns> = Key::optional(
    "columns",
    Columns,
    "stream, partition, \"offset\", time, key, headers and body, each filled with what it is called",
    "The columns that are filled, and with what. What a path does not lead to is NULL; what cannot be converted to the \
     column's type becomes a dead letter. Times without an offset are UTC.",
);

#[derive(Debug, Clone, Copy, PartialEq)]
enum Mode {
    Append,
    Upsert,
}

pub(super) fn read(
    section: &mut Section<'_, '_, '_>,
    batch: Result<BatchLimits, Reported>,
) -> Result<Settings, Reported> {
    let connection = read_server(section);
    let table = section.value(&TABLE);
    let mapping = section.given(&COLUMNS).map(|columns| columns.unwrap_or_else(default_mapping));
    let (mode, key) = (section.value(&MODE), section.given(&KEY_COLUMNS));
    let (mapping, key) = (mapping?, read_key(section, mode?, key?)?);
    check_key(section, &key, &mapping)?;
    Ok(Settings { connection: connection?, table: table?, mapping, key, batch: batch? })
}

/// The server, put together from its URL and the keys, which must not say the same thing twice.
fn read_server(section: &mut Section<'_, '_, '_>) -> Result<Server, Reported> {
    let url = section.value(&URL);
    let password = section.secret(&PASSWORD, &PASSWORD_FILE);
    let token = section.given(&AUTH_MODE).and_then(|mode| read_token(section, mode));
    let sslmode = section.given(&SSLMODE);
    let files = [&CA_FILE, &CERTIFICATE_FILE, &KEY_FILE].map(|key| section.given(key));
    let connect_timeout = section.given(&CONNECT_TIMEOUT);
    let (mut url, password, token): (Url, _, _) = (url?, password?, token?);
    url.sslmode = once(section, SSLMODE.name, url.sslmode, sslmode?)?;
    let [ca_file, certificate_file, key_file] = files;
    url.ca_file = once(section, CA_FILE.name, url.ca_file, ca_file?)?;
    url.certificate_file = once(section, CERTIFICATE_FILE.name, url.certificate_file, certificate_file?)?;
    url.key_file = once(section, KEY_FILE.name, url.key_file, key_file?)?;
    url.connect_timeout = once(section, CONNECT_TIMEOUT.name, url.connect_timeout, connect_timeout?)?;
    let inline = url.password.take().map(SecretSource::Inline);
    let key = if section.has(PASSWORD_FILE.name) { PASSWORD_FILE.name } else { PASSWORD.name };
    let password = once(section, key, inline, password)?;
    let is_said = url.sslmode.is_some();
    let mut server = url.settings().map_err(|problem| section.error(URL.name, problem, ""))?;
    if token.is_some() && password.is_some() {
        return Err(refuse_password(section, if section.has(key) { key } else { URL.name }));
    }
    server.password = token.or(password.map(Password::Secret));
    check_files(section, &server)?;
    check_token(section, &server)?;
    if !is_said && !server.is_local() {
        let help = "say sslmode = \"verify-full\", or \"disable\" where the network is trusted";
        section.warning(URL.name, "may go unencrypted, and to whoever answers: there is no sslmode", help);
    }
    Ok(server)
}

fn once<T>(
    section: &mut Section<'_, '_, '_>,
    key: &str,
    in_url: Option<T>,
    given: Option<T>,
) -> Result<Option<T>, Reported> {
    match (in_url, given) {
        (Some(_), Some(_)) => Err(section.error(key, "is given in url too", "keep one of the two")),
        (in_url, given) => Ok(in_url.or(given)),
    }
}

fn check_files(section: &mut Section<'_, '_, '_>, server: &Server) -> Result<(), Reported> {
    match (&server.tls.certificate_file, &server.tls.key_file) {
        (Some(_), None) => Err(section.error(CERTIFICATE_FILE.name, "is given without its key", "give key_file too")),
        (None, Some(_)) => {
            Err(section.error(KEY_FILE.name, "is given without its certificate", "give certificate_file too"))
        }
        _ => Ok(()),
    }
}

fn read_key(
    section: &mut Section<'_, '_, '_>,
    mode: Mode,
    key: Option<Vec<Identifier>>,
) -> Result<Vec<Identifier>, Reported> {
    match (mode, key) {
        (Mode::Append, None) => Ok(Vec::new()),
        (Mode::Upsert, Some(key)) => Ok(key),
        (Mode::Append, Some(_)) => {
            Err(section.error(KEY_COLUMNS.name, "has no meaning where rows are appended", "say mode = \"upsert\" too"))
        }
        (Mode::Upsert, None) => {
            Err(section.error(MODE.name, "needs key_columns", "name the columns that tell rows apart"))
        }
    }
}

fn check_key(section: &mut Section<'_, '_, '_>, key: &[Identifier], mapping: &Mapping) -> Result<(), Reported> {
    let filled = |column: &&Identifier| mapping.iter().any(|(name, _)| name == *column);
    match key.iter().find(|column| !filled(column)) {
        None => Ok(()),
        Some(column) => {
            let problem = format!("names the column {column}, which nothing fills");
            Err(section.error(KEY_COLUMNS.name, problem, "add it to columns, or choose another"))
        }
    }
}
