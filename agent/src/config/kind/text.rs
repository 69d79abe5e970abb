//! Texts that mean something: choices, names, addresses, paths, secrets.

use std::{net::SocketAddr, path::PathBuf};

#[cfg(feature = "postgres")]
use crate::client::postgres;
#[cfg(any(feature = "eventhub", feature = "snowpipe"))]
use crate::config::document::Value;
use crate::{
    config::{
        document::Node,
        key::{Kind, alternatives, nearest},
        reading::Reading,
        report::Reported,
    },
    secret::Secret,
};

/// No name of an agent, a source or a sink is longer: it is part of file names, metrics and rows of tables.
pub(in crate::config) const MAX_NAME: usize = 64;

/// One of a few words.
#[derive(Debug)]
pub(in crate::config) struct Choice<T: 'static> {
    /// What it is a choice of: `type of source`.
    pub(in crate::config) what: &'static str,
    /// The words, and what they mean.
    pub(in crate::config) of: &'static [(&'static str, T)],
}

/// Yes or no.
#[cfg(any(feature = "eventhub", feature = "snowpipe"))]
#[derive(Debug)]
pub(in crate::config) struct Switch;

/// A name: of letters, digits, `_` and `-`, and of dots where they are allowed.
#[derive(Debug)]
pub(in crate::config) struct Name {
    pub(in crate::config) dots: bool,
}

/// An IP address and a port.
#[derive(Debug)]
pub(in crate::config) struct Address;

/// An IP address of this machine that others cannot reach, and a port.
#[derive(Debug)]
pub(in crate::config) struct Loopback;

/// A path of a file or directory, made absolute.
#[derive(Debug)]
pub(in crate::config) struct FilePath;

/// The path of a URL.
#[derive(Debug)]
pub(in crate::config) struct UrlPath;

/// A name or an IP address of a server.
#[cfg(any(feature = "eventhub", feature = "postgres"))]
#[derive(Debug)]
pub(in crate::config) struct HostName {
    /// The directory of its Unix socket will do as well.
    pub(in crate::config) or_socket: bool,
    /// What to do about a port beside it.
    pub(in crate::config) port_help: &'static str,
}

/// Some text that is not empty and of one line.
#[cfg(any(feature = "eventhub", feature = "postgres", feature = "snowpipe"))]
#[derive(Debug)]
pub(in crate::config) struct PlainText {
    /// What it is: `the name of a user`.
    pub(in crate::config) what: &'static str,
}

/// The name of a database, a schema or a table, as SQL reads it: in lower case, unless it stands in double quotes.
#[cfg(feature = "postgres")]
#[derive(Debug)]
pub(in crate::config) struct Identifier;

/// A secret of one line. Nothing about its value is ever reported.
#[cfg(any(feature = "eventhub", feature = "mqtt", feature = "postgres", feature = "snowpipe"))]
#[derive(Debug)]
pub(in crate::config) struct SecretText;

/// A secret that is sent in a header of HTTP as it is.
#[derive(Debug)]
pub(in crate::config) struct Token;

impl<T: Copy + Sync> Kind for Choice<T> {
    type Value = T;

    fn expected(&self) -> String {
        alternatives(self.of.iter().map(|(name, _)| *name))
    }

    fn read(&self, node: &Node, reading: &mut Reading<'_, '_>) -> Result<T, Reported> {
        let text = reading.text(node)?;
        if let Some((_, meaning)) = self.of.iter().find(|(name, _)| *name == text) {
            return Ok(*meaning);
        }
        let near = nearest(&text, self.of.iter().map(|(name, _)| *name));
        let help = near.map(|near| format!("did you mean \"{near}\"?")).unwrap_or_default();
        Err(reading.wrong_with_help(node, format!("is no {} that this version knows", self.what), help))
    }
}

#[cfg(any(feature = "eventhub", feature = "snowpipe"))]
impl Kind for Switch {
    type Value = bool;

    fn expected(&self) -> String {
        "true or false".to_owned()
    }

    fn read(&self, node: &Node, reading: &mut Reading<'_, '_>) -> Result<bool, Reported> {
        match node.value {
            Value::Boolean(value) => Ok(value),
            _ => Err(reading.wrong(node, format!("is {}", node.value.kind()))),
        }
    }
}

impl Name {
    /// Whether `name` is one.
    pub(in crate::config) fn allows(&self, name: &str) -> bool {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-') || (c == '.' && self.dots);
        (1..=MAX_NAME).contains(&name.len()) && name.chars().all(fits)
    }
}

impl Kind for Name {
    type Value = String;

    fn expected(&self) -> String {
        let dots = if self.dots { ", \".\"" } else { "" };
        format!("1 to {MAX_NAME} characters: A to Z, a to z, 0 to 9{dots}, \"_\" and \"-\"")
    }

    fn read(&self, node: &Node, reading: &mut Reading<'_, '_>) -> Result<String, Reported> {
        let name = reading.text(node)?;
        if self.allows(&name) { Ok(name) } else { Err(reading.wrong(node, "is not a name")) }
    }
}

impl Kind for Address {
    type Value = SocketAddr;

    fn expected(&self) -> String {
        "an IP address with a port, such as \"0.0.0.0:8080\" or \"[::1]:8080\"".to_owned()
    }

    fn read(&self, node: &Node, reading: &mut Reading<'_, '_>) -> Result<SocketAddr, Reported> {
        let text = reading.text(node)?;
        text.parse().map_err(|_| {
            let problem = match text.rsplit_once(':') {
                _ if text.parse::<std::net::IpAddr>().is_ok() => "has no port",
                Some(("localhost", _)) => "has a name where an IP address is needed: write 127.0.0.1 for localhost",
                Some(("", port)) if port.parse::<u16>().is_ok() => "has no IP address: write 0.0.0.0 for all of them",
                _ => "is not an IP address with a port",
            };
            reading.wrong(node, problem)
        })
    }
}

impl Kind for Loopback {
    type Value = SocketAddr;

    fn expected(&self) -> String {
        "a loopback address with a port, such as \"127.0.0.1:9600\" or \"[::1]:9600\"".to_owned()
    }

    fn read(&self, node: &Node, reading: &mut Reading<'_, '_>) -> Result<SocketAddr, Reported> {
        let address = Address.read(node, reading)?;
        if address.ip().is_loopback() {
            return Ok(address);
        }
        let help = "it answers anyone without asking who: put a proxy that does before it, or use an SSH tunnel";
        Err(reading.wrong_with_help(node, "is reachable from other machines", help))
    }
}

impl Kind for FilePath {
    type Value = PathBuf;

    fn expected(&self) -> String {
        "a path; a relative one begins at the directory of the main file".to_owned()
    }

    fn read(&self, node: &Node, reading: &mut Reading<'_, '_>) -> Result<PathBuf, Reported> {
        let path = reading.text(node)?;
        match () {
            () if path.is_empty() => Err(reading.wrong(node, "is empty")),
            () if path.contains('\0') => Err(reading.wrong(node, "holds a NUL character")),
            () => Ok(reading.absolute(&path)),
        }
    }
}

impl Kind for UrlPath {
    type Value = String;

    fn expected(&self) -> String {
        "the path of a URL, such as \"/events\"".to_owned()
    }

    fn read(&self, node: &Node, reading: &mut Reading<'_, '_>) -> Result<String, Reported> {
        let path = reading.text(node)?;
        let fits = |c: char| c.is_ascii_graphic() && !matches!(c, '?' | '#' | '"' | '<' | '>');
        match () {
            () if !path.starts_with('/') => Err(reading.wrong(node, "does not begin with \"/\"")),
            () if !path.chars().all(fits) => Err(reading.wrong(node, "has a character that a path cannot have")),
            () => Ok(path),
        }
    }
}

#[cfg(any(feature = "eventhub", feature = "postgres"))]
impl Kind for HostName {
    type Value = String;

    fn expected(&self) -> String {
        let socket = if self.or_socket { ", or the directory of a Unix socket" } else { "" };
        format!("the name or the IP address of a server, without a port{socket}")
    }

    fn read(&self, node: &Node, reading: &mut Reading<'_, '_>) -> Result<String, Reported> {
        let host = reading.text(node)?;
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':' | '%');
        match () {
            () if host.is_empty() => Err(reading.wrong(node, "is empty")),
            () if self.or_socket && host.starts_with('/') && !host.contains('\0') => Ok(host),
            () if !host.chars().all(fits) => Err(reading.wrong(node, "has a character that no host's name has")),
            // A port, unless it is an IPv6 address.
            () if host.contains(':') && host.parse::<std::net::Ipv6Addr>().is_err() => {
                Err(reading.wrong_with_help(node, "has a colon", self.port_help))
            }
            () => Ok(host),
        }
    }
}

#[cfg(any(feature = "eventhub", feature = "postgres", feature = "snowpipe"))]
impl Kind for PlainText {
    type Value = String;

    fn expected(&self) -> String {
        self.what.to_owned()
    }

    fn read(&self, node: &Node, reading: &mut Reading<'_, '_>) -> Result<String, Reported> {
        let text = reading.text(node)?;
        match () {
            () if text.is_empty() => Err(reading.wrong(node, "is empty")),
            () if text.chars().any(char::is_control) => Err(reading.wrong(node, "holds a control character")),
            () => Ok(text),
        }
    }
}

#[cfg(feature = "postgres")]
impl Kind for Identifier {
    type Value = postgres::Identifier;

    fn expected(&self) -> String {
        "a name as SQL has it: in lower case, unless it stands in double quotes of its own ('\"Name\"')".to_owned()
    }

    fn read(&self, node: &Node, reading: &mut Reading<'_, '_>) -> Result<postgres::Identifier, Reported> {
        let text = reading.text(node)?;
        postgres::Identifier::parse(&text).map_err(|problem| reading.wrong(node, problem))
    }
}

#[cfg(any(feature = "eventhub", feature = "mqtt", feature = "postgres", feature = "snowpipe"))]
impl Kind for SecretText {
    type Value = Secret;

    fn expected(&self) -> String {
        "a text of one line, better \"${NAME}\" for an environment variable".to_owned()
    }

    fn is_secret(&self) -> bool {
        true
    }

    fn read(&self, node: &Node, reading: &mut Reading<'_, '_>) -> Result<Secret, Reported> {
        let secret = reading.text(node)?;
        match () {
            () if secret.is_empty() => return Err(reading.wrong(node, "is empty")),
            () if secret.chars().any(char::is_control) => {
                return Err(reading.wrong(node, "holds a control character"));
            }
            () => warn_of_inline_secret(node, reading),
        }
        Ok(Secret::new(secret))
    }
}

impl Kind for Token {
    type Value = Secret;

    fn expected(&self) -> String {
        "a text without blanks, better \"${NAME}\" for an environment variable".to_owned()
    }

    fn is_secret(&self) -> bool {
        true
    }

    fn read(&self, node: &Node, reading: &mut Reading<'_, '_>) -> Result<Secret, Reported> {
        let secret = reading.text(node)?;
        if secret.is_empty() {
            return Err(reading.wrong(node, "is empty"));
        }
        if !secret.chars().all(|c| c.is_ascii_graphic()) {
            return Err(reading.wrong(node, "has a blank or another character that cannot be sent in a header"));
        }
        warn_of_inline_secret(node, reading);
        Ok(Secret::new(secret))
    }
}

fn warn_of_inline_secret(node: &Node, reading: &mut Reading<'_, '_>) {
    if !reading.was_substituted() {
        let help = "put it into a file of mode 0600 and name that with the key of the same name and _file, \
                    or into an environment variable and write \"${NAME}\"";
        reading.warn(node, "is a secret in the configuration file, where copies and backups give it away", help);
    }
}
