//! Who we are to which server.

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use ring::signature::RsaKeyPair;
use tokio::{task::spawn_blocking, time::Instant};
use zeroize::Zeroizing;

use super::{Credential, Error, PublicKey, Snowflake, jwt, key};
use crate::{
    client::{slot::Slot, token::Token},
    tls::client::{NOT_BEFORE, now},
};

/// The file of a token that somebody else has issued is looked at again after this.
pub(super) const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// Where a request goes, and what it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plane {
    /// The account, for the SQL API: requests say their role.
    Sql,
    /// The account, for Snowpipe Streaming: proofs say their role.
    Streaming,
    /// The ingest host.
    Ingest,
}

/// A clock is believed that is no further from the service's: it takes proofs that are off by so much.
const MAX_SKEW_SECONDS: u64 = 120;

/// The tokens at hand.
#[derive(Default)]
pub(super) struct Planes {
    sql: Arc<Slot>,
    streaming: Arc<Slot>,
    ingest: Arc<Slot>,
    /// The ingest host's URL, for which the token is.
    host: Mutex<String>,
    /// What the service's clock showed last, in seconds since the Unix epoch, and how long after boot that was.
    shown: Mutex<Option<(i64, Duration)>>,
}

impl Planes {
    fn slot(&self, plane: Plane) -> &Arc<Slot> {
        match plane {
            Plane::Sql => &self.sql,
            Plane::Streaming => &self.streaming,
            Plane::Ingest => &self.ingest,
        }
    }

    pub(super) fn host(&self) -> MutexGuard<'_, String> {
        self.host.lock().expect("no holder of this lock panics")
    }

    fn shown(&self) -> MutexGuard<'_, Option<(i64, Duration)>> {
        self.shown.lock().expect("no holder of this lock panics")
    }
}

impl Snowflake {
    /// What is to be registered at the user: `None` if no key is what lets us in. The error names the file.
    pub fn public_key(&self) -> Result<Option<PublicKey>, String> {
        let Credential::KeyPair { file, password } = &self.settings.credential else { return Ok(None) };
        Ok(Some(PublicKey::of(&key::read(file, password.as_ref())?)))
    }

    /// Looks at the files of the credential.
    pub(super) fn look(&self) -> Result<(), String> {
        match &self.settings.credential {
            Credential::KeyPair { .. } => self.public_key().map(drop),
            Credential::AccessToken(secret) | Credential::OAuthClient { secret, .. } => secret.read().map(drop),
        }
    }

    /// The URL of the plane's server, and a token for it.
    pub(super) async fn enter(self: &Arc<Self>, plane: Plane) -> Result<(String, Token), Error> {
        let slot = self.planes.slot(plane);
        let account = &self.settings.account;
        if plane == Plane::Ingest {
            let token = slot.token("the ingest host", Arc::clone(self).log_in_to_ingest()).await?;
            return Ok((self.planes.host().clone(), token));
        }
        let token = slot.token(account.name(), Arc::clone(self).prove(plane)).await?;
        Ok((account.url().to_owned(), token))
    }

    /// The service's clock shows `date`, in seconds since the Unix epoch, where it says so. Only what it showed last counts: an
    /// answer that is wrong about the time is put right by the next.
    pub(super) fn note(&self, date: Option<i64>) {
        if let Some(date) = date.filter(|date| *date >= NOT_BEFORE.0 / 1_000_000) {
            *self.planes.shown() = Some((date, self.clock.now().since_boot));
        }
    }

    /// The time by which proofs are signed, in seconds since the Unix epoch: the clock's, or what it cannot be before; and
    /// the service's own, where it has shown that the clock is wrong.
    fn signing_time(&self) -> i64 {
        let clock = now(&*self.clock).0 / 1_000_000;
        let since_boot = self.clock.now().since_boot;
        let shown = self.planes.shown().map(|(date, at)| date + since_boot.saturating_sub(at).as_secs() as i64);
        shown.filter(|shown| shown.abs_diff(clock) > MAX_SKEW_SECONDS).unwrap_or(clock)
    }

    /// Hands `token` out no more: it is refused, or there `is_no_answer`, which only says something about the ingest host.
    pub(super) fn forget(&self, plane: Plane, token: &Token, is_no_answer: bool) {
        if plane == Plane::Ingest || !is_no_answer {
            self.planes.slot(plane).forget(token);
        }
    }

    /// How a request shows `token`.
    pub(super) fn proof(&self, plane: Plane, token: &Token) -> Vec<(&'static str, Zeroizing<String>)> {
        let kind = match (plane, &self.settings.credential) {
            (Plane::Ingest, _) | (_, Credential::OAuthClient { .. }) => "OAUTH",
            (_, Credential::KeyPair { .. }) => "KEYPAIR_JWT",
            (_, Credential::AccessToken(_)) => "PROGRAMMATIC_ACCESS_TOKEN",
        };
        let bearer = Zeroizing::new(format!("Bearer {}", token.secret.expose()));
        vec![("authorization", bearer), ("x-snowflake-authorization-token-type", Zeroizing::new(kind.to_owned()))]
    }

    /// What an operator may do where `refused` does not let us in.
    pub(super) fn advice(&self, plane: Plane, refused: &Token) -> String {
        let user = &self.settings.user;
        match &self.settings.credential {
            _ if plane == Plane::Ingest => {
                format!("the account lets {user} in: look what its role may do, and from which networks it may come")
            }
            Credential::KeyPair { .. } => {
                // Who is told the time signs by that.
                let clock = match self.clock.now().synchronised || self.planes.shown().is_some() {
                    true => "",
                    false => {
                        "waiting for the clock: it is not synchronised, and proofs are signed by it; if that is not it, "
                    }
                };
                let fingerprint = jwt::fingerprint(&refused.secret).unwrap_or_default();
                format!(
                    "{clock}look whether DESC USER {user} shows the key {fingerprint} as RSA_PUBLIC_KEY_FP, and register it \
                     if not; and whether account, user and role are the right ones"
                )
            }
            Credential::AccessToken(_) => format!(
                "look at the access token: whose it is ({user}?), until when, for which role, and from which networks"
            ),
            Credential::OAuthClient { id, .. } => {
                format!("look at the OAuth client {id}, its scope, and the security integration that trusts its server")
            }
        }
    }

    /// A proof of who we are, for the account.
    async fn prove(self: Arc<Self>, plane: Plane) -> Result<Token, Error> {
        if let Credential::OAuthClient { .. } = self.settings.credential {
            return self.oauth_token().await;
        }
        // Files are read, and passwords are made slow to try.
        spawn_blocking(move || self.proven(plane)).await?.map_err(Error::Unauthorized)
    }

    fn proven(&self, plane: Plane) -> Result<Token, String> {
        let asked = Instant::now();
        match &self.settings.credential {
            Credential::KeyPair { file, password } => {
                let key: RsaKeyPair = key::read(file, password.as_ref())?;
                let role = self.settings.role.as_deref().filter(|_| plane == Plane::Streaming);
                let (account, user) = (self.settings.account.name(), &self.settings.user);
                let proof = jwt::sign(&key, account, user, role, self.signing_time())?;
                Ok(Token::new(proof, asked, jwt::LIFE))
            }
            Credential::AccessToken(secret) | Credential::OAuthClient { secret, .. } => {
                Ok(Token::new(secret.read()?, asked, LOOK_AGAIN))
            }
        }
    }
}
