//! The control table in Postgres: where it is, and as whom the agent goes there.

use std::path::PathBuf;

use crate::{
    client::postgres::{Identifier, Password, Settings, SslMode, TableName, Url},
    config::{
        SinkKind,
        key::Key,
        kind::{self, Choice, Count, FilePath, HostName, PlainText, SecretText},
        login::{AuthMode, auth_mode, check_token, read_token, refuse_password},
        reading::Section,
        report::Reported,
    },
    secret::SecretSource,
};

pub(super) static DATABASE: Key<kind::Identifier> = Key::optional(
    "database",
    kind::Identifier,
    "that of the sink by whose login the agent goes there",
    "The database that the control table is in. It must be given where host is, or a login to Snowflake of its own.",
)
.variable("TARGET_DB");

pub(super) static SCHEMA: Key<kind::Identifier> =
    Key::with_default("schema", kind::Identifier, r#""public""#, "The schema that the control table is in.")
        .variable("TARGET_SCHEMA");

/// What the table of checkpoints is called where nothing is said.
#[cfg(feature = "snowpipe")]
pub(super) const TABLE_NAME: &str = "ingestion_status";

pub(super) static TABLE: Key<kind::Identifier> = Key::with_default(
    "table",
    kind::Identifier,
    r#""ingestion_status""#,
    "The control table's name. A Postgres sink whose database is another keeps its rows there, in a table of the same \
     schema and name. In Snowflake, names are in upper case, unless they stand in double quotes of their own.",
)
.variable("TARGET_TABLE");

pub(super) static HOST: Key<HostName> = Key::optional(
    "host",
    HostName { or_socket: true, port_help: "the port has a key of its own" },
    "the server of the first Postgres sink by name; then that sink's settings hold for what is not given here",
    "The server that the control table is on, or the directory of its Unix socket.",
)
.variable("CONTROL_PG_HOST");

pub(super) static PORT: Key<Count> =
    Key::optional("port", Count { min: 1, max: 65_535 }, "the sink's; where host is given, 5432", "The server's port.")
        .variable("CONTROL_PG_PORT");

pub(super) static USER: Key<PlainText> = Key::optional(
    "user",
    PlainText { what: "the name of a role" },
    "the sink's",
    "The role that the agent logs in as. It must be given where host is. Another role than the sink's does not have the \
     sink's password.",
)
.variable("CONTROL_PG_USER");

pub(super) static PASSWORD: Key<SecretText> = Key::optional(
    "password",
    SecretText,
    "what password_file holds; if that is not given either, the sink's, or none where host is given",
    "The role's password; password_file is better.",
)
.variable("CONTROL_PG_PASSWORD");

pub(super) static PASSWORD_FILE: Key<FilePath> = Key::optional(
    "password_file",
    FilePath,
    "what password says; if that is not given either, the sink's, or none where host is given",
    "A file that holds the password, such as \"${CREDENTIALS_DIRECTORY}/control\". It is read again for each connection.",
);

pub(super) static SSLMODE: Key<Choice<SslMode>> = Key::optional(
    "sslmode",
    Choice { what: "sslmode", of: &SslMode::ALL },
    "the sink's; where host is given, \"require\"",
    "How far the connection is protected, with libpq's meanings. \"verify-full\" is what keeps others out.",
)
.variable("CONTROL_PG_SSLMODE");

pub(super) static CA_FILE: Key<FilePath> = Key::optional(
    "ca_file",
    FilePath,
    "the sink's; where host is given, the authorities that come with this program, and the system's",
    "A file of the authorities, one of which must have signed the server's certificate, PEM.",
);

pub(super) static CERTIFICATE_FILE: Key<FilePath> = Key::optional(
    "certificate_file",
    FilePath,
    "the sink's; where host is given, none is shown",
    "The agent's own certificate and those that lead to its root, PEM.",
);

pub(super) static KEY_FILE: Key<FilePath> = Key::optional(
    "key_file",
    FilePath,
    "the sink's; where host is given, none is shown",
    "The private key of certificate_file, PEM.",
);

pub(super) static AUTH_MODE: Key<Choice<AuthMode>> =
    auth_mode("the sink's; where host is given, \"password\"").variable("CONTROL_PG_AUTH_MODE");

/// What is said of the place.
pub(super) struct Said {
    pub(super) table: TableName,
    database: Option<Identifier>,
    host: Option<String>,
    port: Option<u16>,
    user: Option<String>,
    password: Option<SecretSource>,
    mode: Option<AuthMode>,
    token: Option<Password>,
    sslmode: Option<SslMode>,
    ca_file: Option<PathBuf>,
    certificate: Option<(PathBuf, PathBuf)>,
}

pub(super) fn read(section: &mut Section<'_, '_, '_>) -> Result<Said, Reported> {
    let database = section.given(&DATABASE);
    let (schema, table) = (section.value(&SCHEMA), section.value(&TABLE));
    let (host, port, user) = (section.given(&HOST), section.given(&PORT), section.given(&USER));
    let password = section.secret(&PASSWORD, &PASSWORD_FILE);
    let (sslmode, ca_file) = (section.given(&SSLMODE), section.given(&CA_FILE));
    let certificate = certificate(section);
    let mode = section.given(&AUTH_MODE);
    let token = mode.and_then(|mode| read_token(section, mode).map(|token| (mode, token)));
    let (mode, token) = token?;
    Ok(Said {
        table: TableName { schema: schema?, table: table? },
        database: database?,
        host: host?,
        port: port?.map(|port| u16::try_from(port).expect("the kind allows no larger one")),
        user: user?,
        password: password?,
        mode,
        token,
        sslmode: sslmode?,
        ca_file: ca_file?,
        certificate: certificate?,
    })
}

fn certificate(section: &mut Section<'_, '_, '_>) -> Result<Option<(PathBuf, PathBuf)>, Reported> {
    let (certificate, key) = (section.given(&CERTIFICATE_FILE), section.given(&KEY_FILE));
    match (certificate?, key?) {
        (Some(certificate), Some(key)) => Ok(Some((certificate, key))),
        (None, None) => Ok(None),
        (Some(_), None) => {
            Err(section.error(CERTIFICATE_FILE.name, "has no key_file beside it", "name its private key"))
        }
        (None, Some(_)) => {
            Err(section.error(KEY_FILE.name, "has no certificate_file beside it", "name the certificate that it is of"))
        }
    }
}

impl Said {
    /// Whether it is a place of its own.
    pub(super) fn has_host(&self) -> bool {
        self.host.is_some()
    }

    /// How to get there: to a place of its own, or to that of `sink`, with what is said here in place of what it has.
    pub(super) fn settings(
        self,
        section: &mut Section<'_, '_, '_>,
        sink: Option<&Settings>,
    ) -> Result<Settings, Reported> {
        let mut settings = match (&self.host, sink) {
            (Some(host), _) => self.own(section, host)?,
            (None, Some(sink)) => sink.clone(),
            (None, None) => {
                let problem = "is not given, and there is no Postgres sink whose server it could be";
                let help = "name the server of the control table, or say backend = \"none\"";
                return Err(section.error(HOST.name, problem, help));
            }
        };
        if let Some(database) = self.database {
            settings.database = database.as_str().to_owned();
        }
        settings.port = self.port.unwrap_or(settings.port);
        let is_same_role = self.user.as_ref().is_none_or(|user| *user == settings.user);
        settings.user = self.user.unwrap_or(settings.user);
        settings.password = match (self.token, self.password) {
            (Some(_), Some(_)) => {
                let key = if section.has(PASSWORD.name) { PASSWORD.name } else { PASSWORD_FILE.name };
                return Err(refuse_password(section, key));
            }
            (Some(token), None) => Some(token),
            (None, Some(password)) => Some(Password::Secret(password)),
            (None, None) => settings.password.filter(|sinks| match sinks {
                // Another role's password is not this one's.
                Password::Secret(_) => is_same_role,
                Password::AzureToken(_) => self.mode.is_none(),
            }),
        };
        settings.sslmode = self.sslmode.unwrap_or(settings.sslmode);
        settings.tls.ca_file = self.ca_file.or(settings.tls.ca_file);
        if let Some((certificate, key)) = self.certificate {
            (settings.tls.certificate_file, settings.tls.key_file) = (Some(certificate), Some(key));
        }
        check_token(section, &settings)?;
        Ok(settings)
    }

    /// A place of its own, with the defaults that operators know.
    fn own(&self, section: &mut Section<'_, '_, '_>, host: &str) -> Result<Settings, Reported> {
        let because = format!("is missing: {host} is a server of its own, and no sink's");
        let database = match &self.database {
            Some(database) => Ok(database.as_str().to_owned()),
            None => Err(section.error(DATABASE.name, &because, "name the database of the control table (TARGET_DB)")),
        };
        let user = match &self.user {
            Some(user) => Ok(user.clone()),
            None => Err(section.error(USER.name, &because, "name the role to log in as (CONTROL_PG_USER)")),
        };
        let (host, database, user) = (Some(host.to_owned()), Some(database?), Some(user?));
        let url = Url { host, database, user, sslmode: Some(SslMode::Require), ..Url::default() };
        Ok(url.settings().expect("a URL that names host and user needs nothing else"))
    }
}

/// How a sink gets to Postgres, if it is one that does.
pub(super) fn connection_of(sink: &SinkKind) -> Option<&Settings> {
    match sink {
        SinkKind::Postgres(settings) => Some(&settings.connection),
        _ => None,
    }
}

/// Whether both lead to one database, as far as can be told without a network.
pub(crate) fn is_same_database(one: &Settings, other: &Settings) -> bool {
    is_same_host(&one.host, &other.host) && one.port == other.port && one.database == other.database
}

fn is_same_host(one: &str, other: &str) -> bool {
    // This machine has several names, and a socket's directory is one of them: the port is in the socket's name.
    let plain = |host: &str| match host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase().as_str() {
        "localhost" | "127.0.0.1" | "::1" => "localhost".to_owned(),
        other => other.to_owned(),
    };
    match (one.starts_with('/'), other.starts_with('/')) {
        (true, true) => one == other,
        (true, false) => plain(other) == "localhost",
        (false, true) => plain(one) == "localhost",
        (false, false) => plain(one) == plain(other),
    }
}
