//! Tokens of an OAuth server that the account trusts (RFC 6749 section 4.4).

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{task::spawn_blocking, time::Instant};
use ureq::http::Method;
use zeroize::Zeroizing;

use super::{Credential, Error, Snowflake, exchange::Call, login::LOOK_AGAIN};
use crate::{
    client::{
        https::{PATIENCE, encoded},
        token::Token,
    },
    secret::Secret,
};

impl Snowflake {
    /// A token for the client's own.
    pub(super) async fn oauth_token(self: &Arc<Self>) -> Result<Token, Error> {
        let Credential::OAuthClient { id, secret, token_url, scope } = &self.settings.credential else {
            unreachable!("it is asked for such clients only");
        };
        let url = token_url.clone().unwrap_or_else(|| format!("{}/oauth/token-request", self.settings.account.url()));
        let secret = secret.clone();
        let secret = spawn_blocking(move || secret.read()).await?.map_err(Error::Unauthorized)?;
        let scope = scope.clone().or_else(|| self.settings.role.as_ref().map(|role| format!("session:role:{role}")));
        let mut form =
            vec![("grant_type", "client_credentials"), ("client_id", id), ("client_secret", secret.expose())];
        form.extend(scope.as_deref().map(|scope| ("scope", scope)));
        let headers = [("accept", "application/json"), ("content-type", "application/x-www-form-urlencoded")];
        let call = Call {
            method: Method::POST,
            url: url.clone(),
            headers: headers.map(|(name, value)| (name, Zeroizing::new(value.to_owned()))).into(),
            body: Bytes::from_owner(Zeroizing::new(encoded(&form))),
            patience: PATIENCE,
            longest: PATIENCE,
        };
        let asked = Instant::now();
        let answer = self.call(call).await;
        let answer = answer.map_err(|unanswered| Error::retry(format!("no token from {url}: {}", unanswered.why)))?;
        let message = format!("no token from {url}: it answers {}", answer.described());
        match answer.status {
            200 => {}
            408 | 429 | 500.. => return Err(Error::Retry { message, after: answer.retry_after }),
            _ => {
                return Err(Error::Unauthorized(format!(
                    "{message}; look at the client {id}, its secret and its scope"
                )));
            }
        }
        let granted = answer.json().unwrap_or_default();
        let life = granted["expires_in"].as_u64().or_else(|| granted["expires_in"].as_str()?.parse().ok());
        match granted["access_token"].as_str() {
            None | Some("") => Err(Error::Confused(format!("{url} answers with something that is no token"))),
            Some(token) => Ok(Token::new(Secret::new(token), asked, life.map_or(LOOK_AGAIN, Duration::from_secs))),
        }
    }
}
