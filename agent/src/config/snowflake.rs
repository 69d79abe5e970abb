//! How the agent logs in to Snowflake: what the sink and the control table have in common.
//!
//! The variables mean what they meant to operators of the Python pipeline, and override the file.

use std::path::Path;

use ureq::http::Uri;

use super::{
    key::Key,
    kind::{FilePath, PlainText, ProxyUrl, SecretText, SnowflakeName},
    reading::Section,
    report::Reported,
    tls::{self, TLS},
};
use crate::{
    client::{
        https::is_loopback,
        snowflake::{Account, Credential, Settings},
    },
    secret::SecretSource,
};

pub(super) static ACCOUNT: Key<PlainText> = Key::required(
    "account",
    PlainText { what: "an account, such as \"myorg-myaccount\", or \"xy12345.eu-central-1\" with its region" },
    "The account.",
)
.variable("SNOWFLAKE_ACCOUNT");

pub(super) static URL: Key<PlainText> = Key::optional(
    "url",
    PlainText { what: "\"https://HOST\" or \"https://HOST:PORT\"" },
    "https://ACCOUNT.snowflakecomputing.com",
    "Where the account's server is, for a private link. http:// is for an emulator on this machine.",
);

pub(super) static USER: Key<PlainText> =
    Key::required("user", PlainText { what: "the name of a user" }, "Who logs in.").variable("SNOWFLAKE_USER");

pub(super) static ROLE: Key<SnowflakeName> =
    Key::optional("role", SnowflakeName, "the user's default role", "The role that the agent takes.")
        .variable("SNOWFLAKE_ROLE");

pub(super) static PRIVATE_KEY_FILE: Key<FilePath> = Key::optional(
    "private_key_file",
    FilePath,
    "no key is used; then token_file or oauth_client_id must be given",
    "The RSA key whose public half is registered at the user, PEM, as `openssl pkcs8 -topk8` writes it, encrypted or not. \
     It is read again when it changes.",
)
.variable("SNOWFLAKE_PRIVATE_KEY_FILE");

pub(super) static PRIVATE_KEY_PASSWORD: Key<SecretText> = Key::optional(
    "private_key_password",
    SecretText,
    "what private_key_password_file holds; without either, the key is not encrypted",
    "What opens the key; private_key_password_file is better.",
)
.variable("SNOWFLAKE_PRIVATE_KEY_PASSWORD");

pub(super) static PRIVATE_KEY_PASSWORD_FILE: Key<FilePath> = Key::optional(
    "private_key_password_file",
    FilePath,
    "what private_key_password says; without either, the key is not encrypted",
    "A file that holds what opens the key, such as \"${CREDENTIALS_DIRECTORY}/snowflake-password\".",
);

pub(super) static TOKEN_FILE: Key<FilePath> = Key::optional(
    "token_file",
    FilePath,
    "no such token is used",
    "A file that holds a programmatic access token. It is read again when it changes.",
);

pub(super) static OAUTH_CLIENT_ID: Key<PlainText> = Key::optional(
    "oauth_client_id",
    PlainText { what: "the id of a client" },
    "no OAuth is used",
    "The id under which an OAuth server knows the agent: it gets a token for it by its client's credentials.",
);

pub(super) static OAUTH_CLIENT_SECRET: Key<SecretText> = Key::optional(
    "oauth_client_secret",
    SecretText,
    "what oauth_client_secret_file holds",
    "The client's secret; oauth_client_secret_file is better.",
);

pub(super) static OAUTH_CLIENT_SECRET_FILE: Key<FilePath> = Key::optional(
    "oauth_client_secret_file",
    FilePath,
    "what oauth_client_secret says",
    "A file that holds the client's secret. It is read for each token.",
);

pub(super) static OAUTH_TOKEN_URL: Key<PlainText> = Key::optional(
    "oauth_token_url",
    PlainText { what: "an https URL" },
    "the account's own",
    "Where the OAuth server gives tokens.",
);

pub(super) static OAUTH_SCOPE: Key<PlainText> =
    Key::optional("oauth_scope", PlainText { what: "a scope" }, "the role's", "What the token is asked for.");

pub(super) static PROXY: Key<ProxyUrl> = Key::optional(
    "proxy",
    ProxyUrl,
    "requests go straight to the account",
    "The HTTP proxy that leads to Snowflake. It must allow CONNECT to port 443.",
);

/// The keys above, and then these.
macro_rules! login_keys {
    ($($more:expr),* $(,)?) => {
        &[
            &$crate::config::snowflake::ACCOUNT,
            &$crate::config::snowflake::URL,
            &$crate::config::snowflake::USER,
            &$crate::config::snowflake::ROLE,
            &$crate::config::snowflake::PRIVATE_KEY_FILE,
            &$crate::config::snowflake::PRIVATE_KEY_PASSWORD,
            &$crate::config::snowflake::PRIVATE_KEY_PASSWORD_FILE,
            &$crate::config::snowflake::TOKEN_FILE,
            &$crate::config::snowflake::OAUTH_CLIENT_ID,
            &$crate::config::snowflake::OAUTH_CLIENT_SECRET,
            &$crate::config::snowflake::OAUTH_CLIENT_SECRET_FILE,
            &$crate::config::snowflake::OAUTH_TOKEN_URL,
            &$crate::config::snowflake::OAUTH_SCOPE,
            &$crate::config::snowflake::PROXY,
            $($more),*
        ]
    };
}
pub(super) use login_keys;

/// Reads the keys above, and the table `tls` beside them.
pub(super) fn read(section: &mut Section<'_, '_, '_>) -> Result<Settings, Reported> {
    let (account, url) = (section.value(&ACCOUNT), section.given(&URL));
    let (user, role, proxy) = (section.value(&USER), section.given(&ROLE), section.given(&PROXY));
    let credential = read_credential(section);
    let tls = section.table(&TLS).and_then(|tls| tls.map(tls::read).transpose());
    let (account, url) = (account?, url?);
    let help = "the account's URL in the web console begins with its identifier";
    Account::parse(&account, None).map_err(|problem| section.error(ACCOUNT.name, problem, help))?;
    let account = Account::parse(&account, url.as_deref()).map_err(|problem| section.error(URL.name, problem, ""))?;
    Ok(Settings {
        account,
        user: user?,
        role: role?.map(|role| role.as_str().to_owned()),
        credential: credential?,
        tls: tls?.unwrap_or_default(),
        proxy: proxy?,
    })
}

/// The one that is given.
fn read_credential(section: &mut Section<'_, '_, '_>) -> Result<Credential, Reported> {
    let (key, token, client) = (read_key(section), section.given(&TOKEN_FILE), read_client(section));
    let token = token?.map(|file| (TOKEN_FILE.name, Credential::AccessToken(SecretSource::File(file))));
    let mut given = [key?, token, client?].into_iter().flatten();
    match (given.next(), given.next()) {
        (Some((_, credential)), None) => Ok(credential),
        (Some((first, _)), Some((second, _))) => {
            Err(section.error(second, format!("is given beside {first}"), "keep one way to log in"))
        }
        (None, _) => {
            let problem = "is missing, and so are token_file and oauth_client_id: nothing lets the agent in";
            let help = "make a key with `openssl genrsa 2048 | openssl pkcs8 -topk8 -out key.p8`, register its public half \
                        (ALTER USER … SET RSA_PUBLIC_KEY), and name the file";
            Err(section.error(PRIVATE_KEY_FILE.name, problem, help))
        }
    }
}

type Given = Option<(&'static str, Credential)>;

fn read_key(section: &mut Section<'_, '_, '_>) -> Result<Given, Reported> {
    let file = section.given(&PRIVATE_KEY_FILE);
    let password = section.secret(&PRIVATE_KEY_PASSWORD, &PRIVATE_KEY_PASSWORD_FILE);
    match (file?, password?) {
        (Some(file), password) => Ok(Some((PRIVATE_KEY_FILE.name, Credential::KeyPair { file, password }))),
        (None, Some(_)) => {
            let has_inline = section.has(PRIVATE_KEY_PASSWORD.name);
            let key = if has_inline { PRIVATE_KEY_PASSWORD.name } else { PRIVATE_KEY_PASSWORD_FILE.name };
            Err(section.error(key, "is given without the key that it opens", "give private_key_file too, or remove it"))
        }
        (None, None) => Ok(None),
    }
}

fn read_client(section: &mut Section<'_, '_, '_>) -> Result<Given, Reported> {
    let id = section.given(&OAUTH_CLIENT_ID);
    let secret = section.secret(&OAUTH_CLIENT_SECRET, &OAUTH_CLIENT_SECRET_FILE);
    let (token_url, scope) = (section.given(&OAUTH_TOKEN_URL), section.given(&OAUTH_SCOPE));
    let (secret, token_url, scope) = (secret?, token_url?, scope?);
    if token_url.as_deref().is_some_and(|url| !is_private(url)) {
        let problem = "is no URL that a secret can be sent to unseen";
        return Err(section.error(OAUTH_TOKEN_URL.name, problem, "write https://HOST/PATH"));
    }
    match (id?, secret) {
        (Some(id), Some(secret)) => {
            Ok(Some((OAUTH_CLIENT_ID.name, Credential::OAuthClient { id, secret, token_url, scope })))
        }
        (Some(_), None) => {
            Err(section.error(OAUTH_CLIENT_ID.name, "is given without its secret", "give oauth_client_secret_file too"))
        }
        (None, secret) => {
            let others =
                [OAUTH_CLIENT_SECRET.name, OAUTH_CLIENT_SECRET_FILE.name, OAUTH_TOKEN_URL.name, OAUTH_SCOPE.name];
            match others.into_iter().find(|key| section.has(key)) {
                Some(key) => {
                    let help = "give oauth_client_id too, or remove it";
                    Err(section.error(key, "is given without the client that it is of", help))
                }
                None => {
                    debug_assert!(secret.is_none(), "it was given by one of these keys");
                    Ok(None)
                }
            }
        }
    }
}

/// Whether nobody else can read what is sent there: it is encrypted, or stays on this machine. An address is shown in
/// messages, so that it may have no password in it.
fn is_private(text: &str) -> bool {
    let Ok(url) = text.parse::<Uri>() else { return false };
    let is_bare = url.authority().is_some_and(|authority| !authority.as_str().contains('@'));
    is_bare
        && match (url.scheme_str(), url.host()) {
            (Some("https"), Some(host)) => !host.is_empty(),
            (Some("http"), Some(_)) => is_loopback(text),
            _ => false,
        }
}

/// The files that `settings` name, each with its key, and whether others must not read it.
pub(super) fn files(settings: &Settings) -> Vec<(Vec<&'static str>, &Path, bool)> {
    fn secret<'s>(key: &'static str, source: &'s SecretSource) -> Option<(Vec<&'static str>, &'s Path, bool)> {
        match source {
            SecretSource::File(file) => Some((vec![key], file, true)),
            SecretSource::Inline(_) => None,
        }
    }
    let mut files = Vec::new();
    match &settings.credential {
        Credential::KeyPair { file, password } => {
            files.push((vec![PRIVATE_KEY_FILE.name], file.as_path(), true));
            files.extend(password.as_ref().and_then(|source| secret(PRIVATE_KEY_PASSWORD_FILE.name, source)));
        }
        Credential::AccessToken(source) => files.extend(secret(TOKEN_FILE.name, source)),
        Credential::OAuthClient { secret: source, .. } => files.extend(secret(OAUTH_CLIENT_SECRET_FILE.name, source)),
    }
    files.extend(tls::files(&settings.tls).map(|(key, file, is_secret)| (vec![TLS.name, key], file, is_secret)));
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_sent_only_where_nobody_else_reads_it_and_no_address_has_one_in_it() {
        for url in ["https://idp.example/token", "http://localhost:1", "http://127.0.0.2/token", "http://[::1]:8080"] {
            assert!(is_private(url), "{url}");
        }
        for url in ["http://idp.example", "ftp://127.0.0.1", "idp", "https://id:secret@idp", "http://id@127.0.0.1"] {
            assert!(!is_private(url), "{url}");
        }
    }
}
