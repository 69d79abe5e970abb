//! The ingest host, and the token for it.

use std::{pin::Pin, sync::Arc, time::Duration};

use serde_json::Value;
use tokio::time::Instant;
use ureq::http::Method;

use super::{
    Credential, Error, Snowflake, jwt,
    login::Plane,
    request::{Ask, Content},
};
use crate::{
    client::{https::encoded, token::Token},
    secret::Secret,
    tls::client::now,
};

/// Logging in takes two requests, and may take this long. Who waits for it tries again.
const LOGIN_PATIENCE: Duration = Duration::from_secs(60);

impl Snowflake {
    /// Finds the ingest host, and has the account give a token for it. Boxed, since it makes requests of its own.
    pub(super) fn log_in_to_ingest(self: Arc<Self>) -> Pin<Box<dyn Future<Output = Result<Token, Error>> + Send>> {
        Box::pin(async move {
            let deadline = Instant::now() + LOGIN_PATIENCE;
            let host = self.ingest_host(deadline).await?;
            let token = self.scoped_token(&host, deadline).await?;
            *self.planes.host() = self.settings.account.url_of(&host);
            Ok(token)
        })
    }

    /// "Snowpipe Streaming: REST API", `Get Hostname`.
    async fn ingest_host(self: &Arc<Self>, deadline: Instant) -> Result<String, Error> {
        let ask = Ask::new(Plane::Streaming, "find the ingest host", Method::GET, "/v2/streaming/hostname");
        let ask = Ask { is_single: true, ..ask };
        let answer = self.ask(&ask, deadline).await?;
        let problem = || format!("cannot {}: the account answers {}", ask.what, answer.described());
        let host = match answer.status {
            200 => text_or(&answer.json(), "hostname").unwrap_or_else(|| answer.text().to_owned()),
            404 => return Err(Error::Missing(format!("{}; {}", problem(), self.missing_grants()))),
            _ => return Err(Error::Confused(problem())),
        };
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']');
        match host.is_empty() || !host.chars().all(fits) {
            true => Err(Error::Confused(format!("{}, which is no host", problem()))),
            false => Ok(host),
        }
    }

    /// "Snowpipe Streaming: REST API", `Exchange Scoped Token`.
    async fn scoped_token(self: &Arc<Self>, host: &str, deadline: Instant) -> Result<Token, Error> {
        let ask = Ask::new(Plane::Streaming, "get a token for the ingest host", Method::POST, "/oauth/token");
        let ask = Ask { is_single: true, ..ask.with(Content::Form(self.exchange_form(host).into())) };
        let asked = Instant::now();
        let answer = self.ask(&ask, deadline).await?;
        let said = match answer.status {
            // What is no error may be a token: it is not shown.
            200 => "200, and no token that says when it ends".to_owned(),
            _ => answer.described(),
        };
        let token = Secret::new(text_or(&answer.json(), "token").unwrap_or_else(|| answer.text().to_owned()));
        match jwt::end(&token).filter(|_| answer.status == 200) {
            None => Err(Error::Confused(format!("cannot {}: the account answers {said}", ask.what))),
            Some(end) => {
                let seconds = answer.date.unwrap_or_else(|| now(&*self.clock).0 / 1_000_000);
                Ok(Token::until(token, asked, seconds, end))
            }
        }
    }

    fn exchange_form(&self, host: &str) -> String {
        let scope = match &self.settings.role {
            // A proof of a key has its role in it.
            Some(role) if !matches!(self.settings.credential, Credential::KeyPair { .. }) => {
                format!("{host} session:role:{role}")
            }
            _ => host.to_owned(),
        };
        let exchange = "urn:ietf:params:oauth:grant-type:token-exchange";
        match self.settings.credential {
            Credential::KeyPair { .. } => {
                encoded(&[("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"), ("scope", &scope)])
            }
            Credential::AccessToken(_) => encoded(&[
                ("grant_type", exchange),
                ("scope", &scope),
                ("subject_token_type", "programmatic_access_token"),
            ]),
            Credential::OAuthClient { .. } => encoded(&[
                ("grant_type", exchange),
                ("scope", &scope),
                ("subject_token_type", "urn:ietf:params:oauth:token-type:access_token"),
            ]),
        }
    }

    /// What to grant where something is missing.
    pub(super) fn missing_grants(&self) -> String {
        let role = self.settings.role.as_deref().unwrap_or("the user's default role");
        format!(
            "look whether database, schema, table and pipe are there, and grant {role} USAGE on the database and the \
             schema, INSERT on the table, and OPERATE on a pipe of your own"
        )
    }
}

/// The service answers with bare text, and its documentation has JSON.
fn text_or(body: &Option<Value>, name: &str) -> Option<String> {
    match body.as_ref()? {
        Value::String(text) => Some(text.clone()),
        body => body[name].as_str().map(str::to_owned),
    }
}
