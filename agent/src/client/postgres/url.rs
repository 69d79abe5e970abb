//! `postgresql://user:password@host:port/database?parameter=value`, as libpq has it (PostgreSQL documentation, section
//! "Connection URIs"), but for lists of hosts.

use std::{path::PathBuf, time::Duration};

use percent_encoding::percent_decode_str;

use super::{Password, Settings, SslMode, settings::DEFAULT_CONNECT_TIMEOUT};
use crate::{secret::Secret, secret::SecretSource, tls::client::ClientSettings};

/// The parameters that are understood.
const PARAMETERS: [&str; 6] = ["sslmode", "sslrootcert", "sslcert", "sslkey", "connect_timeout", "application_name"];

/// The parts of a URL, those that it names: others may come from elsewhere.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Url {
    /// A name, an IP address, or the directory of a Unix socket.
    pub host: Option<String>,
    /// The port.
    pub port: Option<u16>,
    /// The database.
    pub database: Option<String>,
    /// Who logs in.
    pub user: Option<String>,
    /// The password, which had better be elsewhere.
    pub password: Option<Secret>,
    /// `sslmode`.
    pub sslmode: Option<SslMode>,
    /// `sslrootcert`.
    pub ca_file: Option<PathBuf>,
    /// `sslcert`.
    pub certificate_file: Option<PathBuf>,
    /// `sslkey`.
    pub key_file: Option<PathBuf>,
    /// `connect_timeout`, in whole seconds.
    pub connect_timeout: Option<Duration>,
    /// `application_name`.
    pub application_name: Option<String>,
}

impl Url {
    /// Reads one. The error says what is wrong, and never quotes a password.
    pub fn parse(text: &str) -> Result<Self, String> {
        let rest = ["postgresql://", "postgres://"].iter().find_map(|scheme| text.strip_prefix(scheme));
        let rest = rest.ok_or("does not begin with \"postgresql://\"")?;
        if rest.contains('#') {
            return Err("has a \"#\": write it as %23".to_owned());
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, host)) => (user, host),
            None => ("", authority),
        };
        let mut url = Self { database: given(path, "database")?, ..Self::default() };
        let (user, password) = user.split_once(':').unwrap_or((user, ""));
        url.user = given(user, "user")?;
        url.password = given(password, "password")?.map(Secret::new);
        url.read_host(host)?;
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            url.read_parameter(name, &decode(value, name)?)?;
        }
        Ok(url)
    }

    fn read_host(&mut self, text: &str) -> Result<(), String> {
        if text.contains(',') {
            return Err("names more than one host: name one, or a name that leads to the server in charge".to_owned());
        }
        let (host, port) = match text.strip_prefix('[').map(|rest| rest.split_once(']')) {
            Some(Some((host, rest))) => (host, rest.strip_prefix(':').unwrap_or(rest)),
            Some(None) => return Err("has a \"[\" without its \"]\"".to_owned()),
            None => text.split_once(':').unwrap_or((text, "")),
        };
        self.host = given(host, "host")?;
        if !port.is_empty() {
            let number = port.parse().ok().filter(|port| *port > 0);
            self.port = Some(number.ok_or("has a port that is no number from 1 to 65535")?);
        }
        Ok(())
    }

    fn read_parameter(&mut self, name: &str, value: &str) -> Result<(), String> {
        let path = || Some(PathBuf::from(value));
        match name {
            _ if value.is_empty() => return Err(format!("has the parameter {name} without a value")),
            "sslmode" => self.sslmode = Some(SslMode::parse(value)?),
            "sslrootcert" => self.ca_file = path(),
            "sslcert" => self.certificate_file = path(),
            "sslkey" => self.key_file = path(),
            "connect_timeout" => {
                let seconds = value.parse().ok().filter(|seconds| (1..=3600).contains(seconds));
                let seconds = seconds.ok_or("has a connect_timeout that is no number of seconds from 1 to 3600")?;
                self.connect_timeout = Some(Duration::from_secs(seconds));
            }
            "application_name" => self.application_name = Some(value.to_owned()),
            _ => {
                let distance = |known: &&str| strsim::osa_distance(name, known);
                let near = PARAMETERS.iter().min_by_key(|known| distance(known)).expect("there are some");
                return Err(format!("has the parameter {name:?}, which is not known; the nearest is \"{near}\""));
            }
        }
        Ok(())
    }

    /// The settings, with libpq's defaults for what it does not name.
    pub fn settings(self) -> Result<Settings, String> {
        let user = self.user.ok_or("names no user: write postgresql://USER@HOST/DATABASE")?;
        Ok(Settings {
            host: self.host.ok_or("names no host: write postgresql://USER@HOST/DATABASE")?,
            port: self.port.unwrap_or(5432),
            database: self.database.unwrap_or_else(|| user.clone()),
            user,
            password: self.password.map(SecretSource::Inline).map(Password::Secret),
            sslmode: self.sslmode.unwrap_or_default(),
            tls: ClientSettings {
                ca_file: self.ca_file,
                certificate_file: self.certificate_file,
                key_file: self.key_file,
            },
            connect_timeout: self.connect_timeout.unwrap_or(DEFAULT_CONNECT_TIMEOUT),
            application_name: self.application_name.unwrap_or_else(|| "forebay".to_owned()),
        })
    }
}

fn given(text: &str, what: &str) -> Result<Option<String>, String> {
    if text.is_empty() { Ok(None) } else { decode(text, what).map(Some) }
}

fn decode(text: &str, what: &str) -> Result<String, String> {
    let stray = text.match_indices('%').any(|(at, _)| {
        let digits = text.as_bytes().get(at + 1..at + 3);
        !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    });
    if stray {
        return Err(format!("has a \"%\" in its {what} without two hexadecimal digits: write it as %25"));
    }
    let decoded = percent_decode_str(text).decode_utf8().map_err(|_| format!("has a {what} that is not UTF-8"))?;
    if decoded.contains('\0') { Err(format!("has a NUL in its {what}")) } else { Ok(decoded.into_owned()) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn settings(text: &str) -> Settings {
        Url::parse(text).and_then(Url::settings).expect(text)
    }

    #[test]
    fn all_parts_are_read() {
        let url = "postgresql://in%67est:p%40ss@db.example:6432/plant?sslmode=verify-full&sslrootcert=%2Fca.pem\
                   &connect_timeout=7&application_name=gw";
        let settings = settings(url);
        assert_eq!((settings.user.as_str(), settings.database.as_str()), ("ingest", "plant"));
        assert_eq!((settings.host.as_str(), settings.port), ("db.example", 6432));
        assert_eq!(settings.password, Some(Password::Secret(SecretSource::Inline(Secret::new("p@ss")))));
        assert_eq!((settings.sslmode, settings.connect_timeout.as_secs()), (SslMode::VerifyFull, 7));
        assert_eq!((settings.tls.ca_file, settings.application_name.as_str()), (Some("/ca.pem".into()), "gw"));
    }

    #[test]
    fn what_is_not_said_is_as_libpq_has_it() {
        let settings = settings("postgres://me@[::1]");
        assert_eq!((settings.host.as_str(), settings.port, settings.database.as_str()), ("::1", 5432, "me"));
        assert_eq!((settings.sslmode, settings.password), (SslMode::Prefer, None));
    }

    #[test]
    fn a_directory_stands_for_its_socket() {
        assert_eq!(settings("postgresql://me@%2Frun%2Fpostgresql:5433/db").host, "/run/postgresql");
    }

    #[test]
    fn errors_say_what_to_do_and_do_not_quote_the_password() {
        let error = |text: &str| Url::parse(text).and_then(Url::settings).expect_err(text);
        assert!(error("postgresql://me@h/db?sslmod=require").contains("\"sslmode\""));
        assert!(error("postgresql://me@h/db?sslmode=requir").contains("\"require\""));
        assert!(error("postgresql://h/db").contains("no user"));
        assert!(error("postgresql://me@/db").contains("no host"));
        assert!(error("postgresql://me@a,b/db").contains("more than one host"));
        for text in ["mysql://me:hunter2@h", "postgresql://me:hunter2%@h", "postgresql://me:hunter2@h:port/db"] {
            assert!(!error(text).contains("hunter2"), "{text}");
        }
        assert!(!format!("{:?}", Url::parse("postgresql://me:hunter2@h")).contains("hunter2"));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "postgresql://[a-z:@/?=&%\\[\\],0-9é]{0,24}") {
            let _ = Url::parse(&text).and_then(Url::settings);
        }
    }
}
