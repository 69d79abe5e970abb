//! Connection strings, as the Azure portal gives them out.

use super::{Credential, Endpoint};
use crate::secret::{Secret, SecretSource};

/// `Endpoint=sb://HOST/;SharedAccessKeyName=RULE;SharedAccessKey=KEY;EntityPath=HUB`, or one with a
/// `SharedAccessSignature`, or the emulator's.
#[derive(Debug, Clone, PartialEq)]
pub struct ConnectionString {
    /// Where the namespace is.
    pub endpoint: Endpoint,
    /// What lets us in.
    pub credential: Credential,
    /// The hub, if it names one.
    pub entity_path: Option<String>,
}

#[derive(Default)]
struct Parts<'a> {
    endpoint: Option<&'a str>,
    name: Option<&'a str>,
    key: Option<&'a str>,
    signature: Option<&'a str>,
    entity_path: Option<&'a str>,
    emulator: bool,
}

impl ConnectionString {
    /// Reads one. The error says what is wrong with it, and quotes nothing of it but names of its parts.
    pub fn parse(text: &Secret) -> Result<Self, String> {
        let parts = Parts::parse(text.expose())?;
        let endpoint = parse_endpoint(parts.endpoint.ok_or("has no Endpoint=sb://…")?, parts.emulator)?;
        let inline = |text: &str| SecretSource::Inline(Secret::new(text));
        let credential = match (parts.name, parts.key, parts.signature) {
            (Some(name), Some(key), None) => Credential::SharedKey { name: name.to_owned(), key: inline(key) },
            (None, None, Some(signature)) => Credential::SharedSignature(inline(signature)),
            (_, _, Some(_)) => return Err("has a SharedAccessSignature beside a key: leave one of them".to_owned()),
            (None, Some(_), _) => return Err("has a SharedAccessKey without a SharedAccessKeyName".to_owned()),
            (Some(_), None, _) => return Err("has a SharedAccessKeyName without a SharedAccessKey".to_owned()),
            (None, None, None) => {
                return Err("has neither a SharedAccessKey nor a SharedAccessSignature".to_owned());
            }
        };
        Ok(Self { endpoint, credential, entity_path: parts.entity_path.map(str::to_owned) })
    }
}

impl<'a> Parts<'a> {
    fn parse(text: &'a str) -> Result<Self, String> {
        let mut parts = Self::default();
        for (index, part) in text.split(';').map(str::trim).filter(|part| !part.is_empty()).enumerate() {
            // A key ends with "=", so only the first one separates.
            let Some((name, value)) = part.split_once('=') else {
                return Err(format!("has a part without \"=\": the one at place {}", index + 1));
            };
            let (name, value) = (name.trim(), value.trim());
            let place = match name.to_ascii_lowercase().as_str() {
                "endpoint" => &mut parts.endpoint,
                "sharedaccesskeyname" => &mut parts.name,
                "sharedaccesskey" => &mut parts.key,
                "sharedaccesssignature" => &mut parts.signature,
                "entitypath" => &mut parts.entity_path,
                "usedevelopmentemulator" => {
                    parts.emulator = match value.to_ascii_lowercase().as_str() {
                        "true" => true,
                        "false" => false,
                        _ => return Err("has a UseDevelopmentEmulator that is neither true nor false".to_owned()),
                    };
                    continue;
                }
                // A part that was mistyped may hold the key.
                _ => return Err(format!("has a part that is not known: the one at place {}", index + 1)),
            };
            match (value, &place) {
                ("", _) => return Err(format!("has an empty {name}")),
                (_, Some(_)) => return Err(format!("has {name} twice")),
                _ => *place = Some(value),
            }
        }
        Ok(parts)
    }
}

fn parse_endpoint(text: &str, emulator: bool) -> Result<Endpoint, String> {
    let rest = ["sb://", "amqps://", "amqp://"].iter().find_map(|scheme| text.strip_prefix(scheme));
    let authority = rest.ok_or("has an Endpoint that does not begin with sb://")?.trim_end_matches('/');
    if authority.contains(['/', '?', '#', '@']) {
        return Err("has an Endpoint with more than a host and a port".to_owned());
    }
    let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, rest)) => (host, rest.strip_prefix(':')),
        None => authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port))),
    };
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '%');
    if host.is_empty() || !host.chars().all(fits) {
        return Err("has an Endpoint without a host that could be one".to_owned());
    }
    let port = port.map(|port| port.parse().ok().filter(|port| *port > 0).ok_or("has an Endpoint with a bad port"));
    Ok(Endpoint { host: host.to_owned(), port: port.transpose()?, encrypted: !emulator })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ConnectionString, String> {
        ConnectionString::parse(&Secret::new(text))
    }

    #[test]
    fn the_portals_string_names_namespace_rule_key_and_hub() {
        let text =
            "Endpoint=sb://ns.servicebus.windows.net/;SharedAccessKeyName=send;SharedAccessKey=aa+/b=;EntityPath=h";
        let parsed = parse(text).expect("a connection string");
        let endpoint = Endpoint { host: "ns.servicebus.windows.net".to_owned(), port: None, encrypted: true };
        let key = SecretSource::Inline(Secret::new("aa+/b="));
        let credential = Credential::SharedKey { name: "send".to_owned(), key };
        assert_eq!(parsed, ConnectionString { endpoint, credential, entity_path: Some("h".to_owned()) });
    }

    #[test]
    fn the_emulators_string_is_not_encrypted_and_has_a_port() {
        let text = "Endpoint=sb://localhost:5673;SharedAccessKeyName=R;SharedAccessKey=K;UseDevelopmentEmulator=true;";
        let endpoint = parse(text).expect("a connection string").endpoint;
        assert_eq!(endpoint, Endpoint { host: "localhost".to_owned(), port: Some(5673), encrypted: false });
        let text = "Endpoint=sb://[::1]:1/;SharedAccessSignature=SharedAccessSignature sr=a&sig=b%3d&se=1&skn=c";
        let parsed = parse(text).expect("a connection string");
        assert_eq!(parsed.endpoint, Endpoint { host: "::1".to_owned(), port: Some(1), encrypted: true });
        assert!(matches!(parsed.credential, Credential::SharedSignature(_)));
    }

    #[test]
    fn what_is_wrong_is_said_and_the_key_is_not() {
        for (text, said) in [
            ("", "no Endpoint"),
            ("Endpoint=sb://h;SharedAccessKeyName=r", "without a SharedAccessKey"),
            ("Endpoint=sb://h;SharedAccessKey=hunter2", "without a SharedAccessKeyName"),
            ("Endpoint=sb://h", "neither"),
            ("Endpoint=https://h;SharedAccessKeyName=r;SharedAccessKey=hunter2", "sb://"),
            ("Endpoint=sb://h:0;SharedAccessKeyName=r;SharedAccessKey=hunter2", "port"),
            ("Endpoint=sb://;SharedAccessKeyName=r;SharedAccessKey=hunter2", "host"),
            ("Endpoint=sb://h/x;SharedAccessKeyName=r;SharedAccessKey=hunter2", "more than"),
            ("Endpoint=sb://h;SharedAccessKeyName=r;SharedAccessKee=hunter2", "place 3"),
            ("Endpoint=sb://h;SharedAccessKeyName=r;hunter2", "place 3"),
            ("Endpoint=sb://h;SharedAccessKeyName=;SharedAccessKey=hunter2", "empty SharedAccessKeyName"),
            ("Endpoint=sb://h;Endpoint=sb://h;SharedAccessKeyName=r;SharedAccessKey=hunter2", "twice"),
            ("Endpoint=sb://h;SharedAccessKeyName=r;SharedAccessKey=hunter2;SharedAccessSignature=hunter2", "beside"),
            ("Endpoint=sb://h;SharedAccessKeyName=r;SharedAccessKey=hunter2;UseDevelopmentEmulator=1", "neither true"),
        ] {
            let problem = parse(text).expect_err(text);
            assert!(problem.contains(said) && !problem.contains("hunter2"), "{text}: {problem}");
        }
    }
}
