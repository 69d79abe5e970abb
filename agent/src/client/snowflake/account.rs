//! Where an account is, and how it is called in proofs.

use ureq::http::Uri;

use crate::client::https::is_loopback;

/// The domains of the service.
const DOMAINS: [&str; 2] = [".snowflakecomputing.com", ".snowflakecomputing.cn"];

/// An account: its server, and its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// `https://HOST[:PORT]`.
    url: String,
    name: String,
}

impl Account {
    /// Reads an identifier (`myorg-my_acct`, or a locator with its region: `xy12345.us-east-1`,
    /// `xy12345.eu-central-1.aws`), the name of the account's host, or its URL. With `url` the server is there, for private
    /// links and emulators. The error says what is wrong: "... ".
    pub fn parse(text: &str, url: Option<&str>) -> Result<Self, String> {
        let host = match text.contains("://") {
            true => server(text)?.1,
            false => text.to_owned(),
        };
        let lower = host.to_ascii_lowercase();
        let domain = DOMAINS.iter().find(|domain| lower.ends_with(*domain));
        if text.contains("://") && domain.is_none() {
            return Err("names no account, only a server: name the account, and give this as url".into());
        }
        let identifier = &host[..host.len() - domain.map_or(0, |domain| domain.len())];
        check(identifier)?;
        let domain = match identifier.split('.').nth(1).is_some_and(|region| region.starts_with("cn-")) {
            true => DOMAINS[1],
            false => domain.unwrap_or(&DOMAINS[0]),
        };
        let url = match url.or(Some(text).filter(|text| text.contains("://"))) {
            Some(url) => {
                let (url, host) = server(url)?;
                let is_known = DOMAINS.iter().any(|domain| host.to_ascii_lowercase().ends_with(domain));
                if is_known { with_dashes(&url) } else { url }
            }
            None => with_dashes(&format!("https://{identifier}{domain}")).to_ascii_lowercase(),
        };
        Ok(Self { url, name: name(identifier) })
    }

    /// Its server: `https://HOST[:PORT]`, without a slash at the end.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// As proofs name it: upper case, without the region.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The URL of `host`, which is another host of the same service.
    pub(super) fn url_of(&self, host: &str) -> String {
        let (scheme, place) = self.url.split_once("://").expect("it was read as a URL");
        let port = place.rsplit_once(':').map(|(_, port)| port).filter(|port| !port.ends_with(']'));
        let colon = if port.is_some() { ":" } else { "" };
        format!("{scheme}://{}{colon}{}", with_dashes(host), port.unwrap_or_default())
    }
}

/// No certificate is for a name with an underscore.
fn with_dashes(host: &str) -> String {
    host.replace('_', "-")
}

fn check(identifier: &str) -> Result<(), String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    match identifier.chars().find(|c| !fits(*c)) {
        Some(other) => Err(format!(
            "has {other:?}, which no account has: write it as myorg-myaccount, or as xy12345.eu-central-1 with its region"
        )),
        None if identifier.split('.').any(str::is_empty) => {
            Err("is empty before, between or after its dots: write it as myorg-myaccount".into())
        }
        None => Ok(()),
    }
}

/// "Using key-pair authentication" in the vendor's guide to the SQL API: the region is left out, and of a global account
/// what follows its name.
fn name(identifier: &str) -> String {
    let end = if identifier.contains(".global") { '-' } else { '.' };
    identifier.split(end).next().unwrap_or_default().to_ascii_uppercase()
}

/// A server's URL without what follows its host and port, and its host. Secrets are sent there: it must be encrypted,
/// except on this machine.
fn server(text: &str) -> Result<(String, String), String> {
    let uri = text.parse::<Uri>().map_err(|error| format!("is no URL: {error}"))?;
    let host = uri.host().filter(|host| !host.is_empty()).ok_or("has no host: write https://HOST")?;
    match uri.scheme_str() {
        Some("https") => {}
        Some("http") if is_loopback(text) => {}
        Some("http") => return Err("is not encrypted: write https://".into()),
        _ => return Err("is neither https nor http: write https://HOST".into()),
    }
    let authority = uri.authority().map(|authority| authority.as_str()).unwrap_or_default();
    match uri.path_and_query().map(|path| path.as_str()) {
        _ if authority.contains('@') => Err("has a user in it: leave out what is before the @".into()),
        None | Some("" | "/") => Ok((text.trim_end_matches('/').to_owned(), host.to_owned())),
        Some(more) => Err(format!("has {more:?} after its host: leave it out")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> (String, String) {
        let account = Account::parse(text, None).unwrap_or_else(|problem| panic!("{text} {problem}"));
        (account.url, account.name)
    }

    #[test]
    fn accounts_are_read_as_operators_write_them() {
        for (text, host, name) in [
            ("myorg-my_acct", "myorg-my-acct.snowflakecomputing.com", "MYORG-MY_ACCT"),
            ("my_org-acct", "my-org-acct.snowflakecomputing.com", "MY_ORG-ACCT"),
            ("XY12345", "xy12345.snowflakecomputing.com", "XY12345"),
            ("xy12345.us-east-1", "xy12345.us-east-1.snowflakecomputing.com", "XY12345"),
            ("xy12345.eu-central-1.aws", "xy12345.eu-central-1.aws.snowflakecomputing.com", "XY12345"),
            ("xy12345.eu.privatelink", "xy12345.eu.privatelink.snowflakecomputing.com", "XY12345"),
            ("xy12345.cn-northwest-1.aws", "xy12345.cn-northwest-1.aws.snowflakecomputing.cn", "XY12345"),
            ("acct-ext123.global", "acct-ext123.global.snowflakecomputing.com", "ACCT"),
            ("myorg-acct.snowflakecomputing.com", "myorg-acct.snowflakecomputing.com", "MYORG-ACCT"),
            ("https://myorg-acct.snowflakecomputing.com/", "myorg-acct.snowflakecomputing.com", "MYORG-ACCT"),
            ("https://my_org-acct.snowflakecomputing.com", "my-org-acct.snowflakecomputing.com", "MY_ORG-ACCT"),
        ] {
            assert_eq!(parsed(text), (format!("https://{host}"), name.to_owned()), "{text}");
        }
    }

    #[test]
    fn a_server_elsewhere_keeps_scheme_and_port_for_its_other_hosts() {
        let account = Account::parse("my_org-acct", Some("http://127.0.0.1:8085/")).unwrap();
        assert_eq!((account.url(), account.name()), ("http://127.0.0.1:8085", "MY_ORG-ACCT"));
        assert_eq!(account.url_of("127.0.0.1"), "http://127.0.0.1:8085");
        let account = Account::parse("myorg-acct", None).unwrap();
        assert_eq!(account.url_of("a_b.ingest.example"), "https://a-b.ingest.example");
        let elsewhere = |url| Account::parse("acct", Some(url)).unwrap().url;
        assert_eq!(
            elsewhere("https://my_org-acct.privatelink.snowflakecomputing.com:444"),
            "https://my-org-acct.privatelink.snowflakecomputing.com:444"
        );
        assert_eq!(elsewhere("https://snow_flake.example"), "https://snow_flake.example", "who knows what it has");
        let account = Account::parse("a", Some("http://[::1]")).unwrap();
        assert_eq!(account.url_of("[::1]"), "http://[::1]");
    }

    #[test]
    fn what_is_no_account_is_told_what_it_is() {
        for (text, url, words) in [
            ("", None, "is empty"),
            ("a..b", None, "is empty before"),
            ("my acct", None, "has ' '"),
            ("a/b", None, "has '/'"),
            ("https://127.0.0.1:1", None, "names no account"),
            ("acct", Some("http://example.com"), "is not encrypted"),
            ("acct", Some("ftp://example.com"), "neither https nor http"),
            ("acct", Some("https://example.com/api"), "leave it out"),
            ("acct", Some("https://me:secret@example.com"), "has a user in it"),
            ("acct", Some("https://"), "is no URL"),
        ] {
            let problem = Account::parse(text, url).unwrap_err();
            assert!(problem.contains(words) && !problem.contains("secret"), "{text} {url:?}: {problem}");
        }
    }
}
