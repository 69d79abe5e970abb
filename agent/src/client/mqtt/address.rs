//! Where a broker is.

use std::fmt;

/// A broker, from `mqtt://host:1883` or `mqtts://host:8883`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// A name, or an IP address without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Whether the connection is encrypted.
    pub encrypted: bool,
}

impl Address {
    /// Reads a URL. The error says what is wrong with it, and quotes nothing of it: it may hold a password.
    pub fn parse(url: &str) -> Result<Self, &'static str> {
        let (encrypted, rest) = match url.split_once("://") {
            Some(("mqtt", rest)) => (false, rest),
            Some(("mqtts", rest)) => (true, rest),
            Some(("tcp" | "ssl" | "tls" | "ws" | "wss" | "http" | "https", _)) => {
                return Err("has a scheme that is not supported");
            }
            _ => return Err("does not begin with mqtt:// or mqtts://"),
        };
        if rest.contains('@') {
            return Err("has a user or a password in it: give them as user and password_file");
        }
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains(['/', '?', '#']) {
            return Err("has more than a host and a port");
        }
        let (host, port) = split_port(authority)?;
        let port = match port {
            None if encrypted => 8883,
            None => 1883,
            Some(port) => port.parse().ok().filter(|port| *port > 0).ok_or("has a port that is none")?,
        };
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '%');
        match host {
            "" => Err("has no host"),
            _ if !host.chars().all(fits) => Err("has a host with a character that no host has"),
            _ => Ok(Self { host: host.to_owned(), port, encrypted }),
        }
    }
}

/// The host without its brackets, and the port.
fn split_port(authority: &str) -> Result<(&str, Option<&str>), &'static str> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or("has a bracket that is not closed")?;
        return match rest.strip_prefix(':') {
            _ if host.parse::<std::net::Ipv6Addr>().is_err() => Err("has no IPv6 address in its brackets"),
            None if rest.is_empty() => Ok((host, None)),
            None => Err("has something behind the brackets that is no port"),
            Some(port) => Ok((host, Some(port))),
        };
    }
    match authority.split_once(':') {
        None => Ok((authority, None)),
        Some((_, port)) if port.contains(':') => Err("has an IPv6 address without brackets"),
        Some((host, port)) => Ok((host, Some(port))),
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_address_has_the_port_of_its_scheme_unless_it_names_one() {
        let parsed = |url| Address::parse(url).map(|a| (a.to_string(), a.encrypted));
        assert_eq!(parsed("mqtt://broker"), Ok(("broker:1883".to_owned(), false)));
        assert_eq!(parsed("mqtts://broker.local/"), Ok(("broker.local:8883".to_owned(), true)));
        assert_eq!(parsed("mqtt://10.0.0.1:2883"), Ok(("10.0.0.1:2883".to_owned(), false)));
        assert_eq!(parsed("mqtts://[::1]"), Ok(("[::1]:8883".to_owned(), true)));
        assert_eq!(parsed("mqtt://[fe80::1]:1"), Ok(("[fe80::1]:1".to_owned(), false)));
    }

    #[test]
    fn what_is_no_address_is_refused_and_not_quoted() {
        let wrong = |url| Address::parse(url).expect_err("no address");
        assert!(wrong("mqtt://me:hunter2@broker").contains("password_file"));
        for url in [
            "broker",
            "broker:1883",
            "tcp://broker",
            "mqtt://",
            "mqtt://:1883",
            "mqtt://broker:0",
            "mqtt://broker:99999",
            "mqtt://broker/path",
            "mqtt://broker?x",
            "mqtt://::1",
            "mqtt://[::1",
            "mqtt://[::1]x",
            "mqtt://[broker]",
            "mqtt://a b",
            "mqtt://broker:",
        ] {
            assert!(!wrong(url).contains("broker"), "{url}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(mqtts?://)?[\\[\\]:/@a-z0-9é.]{0,16}") {
            let _ = Address::parse(&text);
        }
    }
}
