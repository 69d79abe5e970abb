//! How the agent logs in to a Postgres server: what sinks and the control table have in common.

use super::{
    azure::{self, AZURE},
    key::Key,
    kind::Choice,
    reading::Section,
    report::Reported,
};
use crate::client::postgres::{Password, Settings, SslMode};

/// How the agent shows who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AuthMode {
    Password,
    AzureToken,
}

/// `auth_mode`, for either.
pub(super) const fn auth_mode(otherwise: &'static str) -> Key<Choice<AuthMode>> {
    Key::optional(
        "auth_mode",
        Choice {
            what: "way to log in",
            of: &[("password", AuthMode::Password), ("azure_token", AuthMode::AzureToken)],
        },
        otherwise,
        "How the agent shows who it is. \"azure_token\": the password is a token of Microsoft Entra, made anew for each \
         connection or taken from memory while it is fresh; the table azure within this one says whose. sslmode must be \
         \"require\" at least.",
    )
}

/// The token's identity, if `mode` is of a token. Refuses one that would not be used.
pub(super) fn read_token(
    section: &mut Section<'_, '_, '_>,
    mode: Option<AuthMode>,
) -> Result<Option<Password>, Reported> {
    match mode {
        Some(AuthMode::AzureToken) => Ok(Some(Password::AzureToken(Box::new(azure::read(section)?)))),
        _ if section.has(AZURE.name) => {
            azure::read(section)?;
            let problem = "is given, and auth_mode is not \"azure_token\"";
            Err(section.error(AZURE.name, problem, "say auth_mode = \"azure_token\" too, or take it out"))
        }
        _ => Ok(None),
    }
}

/// Refuses a way to `server` on which others could read a token.
pub(super) fn check_token(section: &mut Section<'_, '_, '_>, server: &Settings) -> Result<(), Reported> {
    if !matches!(server.password, Some(Password::AzureToken(_))) || server.is_local() {
        return Ok(());
    }
    // Where neither is said, both are a sink's, and were looked at there.
    let Some(key) = ["sslmode", "auth_mode"].into_iter().find(|key| section.has(key)) else { return Ok(()) };
    if !server.sslmode.is_encrypted() {
        let problem = format!("could send the token unencrypted: sslmode is \"{}\"", server.sslmode);
        let help = "say sslmode = \"verify-full\", or at least \"require\"";
        return Err(section.error(key, problem, help));
    }
    if server.sslmode == SslMode::Require && server.tls.ca_file.is_none() {
        let problem = "sends the token to whoever answers: with sslmode = \"require\" the server is not verified";
        section.warning(key, problem, "say sslmode = \"verify-full\"");
    }
    Ok(())
}

/// Refuses a password beside a token: only one of them can be meant.
pub(super) fn refuse_password(section: &mut Section<'_, '_, '_>, key: &str) -> Reported {
    section.error(key, "is given, and auth_mode is \"azure_token\"", "keep one of the two")
}
