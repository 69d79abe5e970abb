//! What the service is shown: tokens signed here, tokens of others, tokens of Entra.

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use forebay_buffer::{
    Timestamp,
    clock::{Clock, Reading},
};
use percent_encoding::utf8_percent_encode;
use ring::hmac;
use tokio::time::Instant;

use super::{Credential, Error, error::Class};
use crate::{
    client::{azure, https::ESCAPED},
    secret::Secret,
    tls::client,
};

/// When another token is asked for where the one that the service takes is due for renewal, or over by this machine's
/// clock: sooner where it ends sooner.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// Makes tokens for one hub.
pub(super) struct Tokens {
    credential: Credential,
    identity: Option<Arc<azure::Credential>>,
    clock: Arc<dyn Clock>,
    /// Of those that are signed here.
    life: Duration,
    proven: Arc<Proven>,
}

/// The last time that the service has borne out: it took a token that was signed then. The clock may have been set back
/// since. But a token of a clock that was years ahead is taken too.
#[derive(Default)]
pub(super) struct Proven(Mutex<Option<Reading>>);

/// A clock that is set back by more was wrong before, and is right now: tokens that hold for years are not to be signed on.
const SET_BACK_US: i64 = 24 * 3600 * 1_000_000;

/// What lets us in, for a while.
pub(super) struct Token {
    pub(super) secret: Secret,
    /// As the request to `$cbs` has it.
    pub(super) kind: &'static str,
    /// When another is to be shown. `None`: this one cannot be renewed.
    pub(super) renew_at: Option<Instant>,
    /// When it ends, as far as is known.
    ends: Option<Instant>,
    /// When it was signed, if that was here.
    signed: Option<Reading>,
    /// What it is to Entra.
    entra: Option<azure::Token>,
}

impl Token {
    /// Whether it still lets us in, as far as is known.
    pub(super) fn holds(&self) -> bool {
        self.ends.is_some_and(|ends| Instant::now() < ends)
    }

    /// When to ask for another. A token of Entra may be due for renewal as it comes, and near its end: the next is asked
    /// for meanwhile.
    pub(super) fn next_at(&self) -> Option<Instant> {
        let (renew_at, now) = (self.renew_at?, Instant::now());
        if renew_at > now {
            return Some(renew_at);
        }
        let left = self.ends.map(|ends| ends.saturating_duration_since(now)).filter(|left| !left.is_zero());
        Some(now + left.map_or(LOOK_AGAIN, |left| (left / 2).clamp(Duration::from_secs(1), LOOK_AGAIN)))
    }
}

impl Tokens {
    /// `identity` is that of [`Credential::Entra`].
    pub(super) fn new(
        credential: Credential,
        identity: Option<Arc<azure::Credential>>,
        clock: Arc<dyn Clock>,
        life: Duration,
        proven: Arc<Proven>,
    ) -> Self {
        Self { credential, identity, clock, life, proven }
    }

    /// A token for `audience`.
    pub(super) async fn token(&self, audience: &str) -> Result<Token, Error> {
        match &self.credential {
            Credential::SharedKey { name, key } => {
                let key = key.read().map_err(unusable)?;
                let signed = self.now();
                let secret = sign(audience, name, &key, seconds(signed) + self.life.as_secs());
                // Its end is in whole seconds, and may come so much earlier.
                let life = self.life.saturating_sub(Duration::from_secs(1));
                let now = Instant::now();
                let renew_at = now + life.mul_f64(part_of_life());
                let (renew_at, ends) = (Some(renew_at), Some(now + life));
                Ok(Token { secret, kind: SAS, renew_at, ends, signed: Some(signed), entra: None })
            }
            Credential::SharedSignature(signature) => {
                let secret = signature.read().map_err(unusable)?;
                let life = expiry(&secret).map(|expiry| expiry.saturating_sub(seconds(self.now())));
                let (now, life) = (Instant::now(), life.map(|life| Duration::from_secs(life.min(1 << 30))));
                // Its file may have another by then.
                let renew_at = life.map(|life| now + life.mul_f64(part_of_life()));
                Ok(Token { secret, kind: SAS, renew_at, ends: life.map(|life| now + life), signed: None, entra: None })
            }
            Credential::Entra(_) => of_entra(self.identity().token(azure::EVENT_HUBS).await),
        }
    }

    /// Another token in place of `refused`, which the service would not have. `None`: it would be the same.
    pub(super) async fn fresh(&self, refused: &Token) -> Option<Result<Token, Error>> {
        let refused = refused.entra.as_ref()?;
        Some(of_entra(self.identity().fresh(azure::EVENT_HUBS, refused).await))
    }

    fn identity(&self) -> &azure::Credential {
        self.identity.as_ref().expect("it is made with the credential")
    }

    /// What an operator may look at when a token is refused: the clock, if nobody has set it.
    pub(super) fn advice(&self) -> &'static str {
        match (&self.credential, self.clock.now().synchronised) {
            (Credential::SharedKey { .. }, false) => {
                "; waiting for the clock: it is not synchronised, and tokens are signed by it; if that is not it, look at \
                 the name of the rule and its key"
            }
            (Credential::SharedKey { .. }, true) => "; look at the name of the rule, its key, and what it may do",
            (Credential::SharedSignature(_), _) => "; look at the shared access signature: what for, and until when",
            (Credential::Entra(_), _) => "; give the identity the role Azure Event Hubs Data Sender or Receiver",
        }
    }

    /// The service has taken `token`.
    pub(super) fn taken(&self, token: &Token) {
        if token.signed.is_some() {
            *self.proven() = token.signed;
        }
    }

    /// The time by which tokens are signed: the clock's, or what it cannot be before.
    fn now(&self) -> Reading {
        let mut now = Reading { wall: client::now(&*self.clock), ..self.clock.now() };
        if let Some(proven) = *self.proven() {
            let since = now.since_boot.saturating_sub(proven.since_boot).as_micros();
            let proven = proven.wall.0.saturating_add(i64::try_from(since).unwrap_or(i64::MAX));
            let can_be_right = client::believed(&*self.clock).is_some();
            if !can_be_right || (0..=SET_BACK_US).contains(&proven.saturating_sub(now.wall.0)) {
                now.wall = now.wall.max(Timestamp(proven));
            }
        }
        now
    }

    fn proven(&self) -> MutexGuard<'_, Option<Reading>> {
        self.proven.0.lock().expect("no holder of this lock panics")
    }
}

/// Since the Unix epoch.
fn seconds(at: Reading) -> u64 {
    u64::try_from(at.wall.0 / 1_000_000).unwrap_or_default()
}

fn of_entra(outcome: Result<azure::Token, azure::Error>) -> Result<Token, Error> {
    let token = outcome.map_err(|error| {
        let class = match (error.is_passing(), error.after()) {
            (true, Some(after)) => Class::Busy(after),
            (true, None) => Class::Lost,
            (false, _) => Class::Unauthorized,
        };
        Error::new(class, error.to_string())
    })?;
    let (secret, renew_at, ends) = (token.secret.clone(), Some(token.refresh_at), Some(token.expires));
    Ok(Token { secret, kind: "jwt", renew_at, ends, signed: None, entra: Some(token) })
}

const SAS: &str = "servicebus.windows.net:sastoken";

fn unusable(problem: String) -> Error {
    Error::new(Class::Unauthorized, problem)
}

/// Half to four fifths, so that ten thousand gateways that start together do not renew together.
fn part_of_life() -> f64 {
    getrandom::u32().map_or(0.5, |random| 0.5 + 0.3 * f64::from(random) / f64::from(u32::MAX))
}

/// A token for `resource` that ends at `expiry`, in seconds since the Unix epoch. The key is used as the text that it is.
fn sign(resource: &str, name: &str, key: &Secret, expiry: u64) -> Secret {
    let resource = utf8_percent_encode(resource, ESCAPED);
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.expose().as_bytes());
    let signature = BASE64_STANDARD.encode(hmac::sign(&key, format!("{resource}\n{expiry}").as_bytes()));
    let (signature, name) = (utf8_percent_encode(&signature, ESCAPED), utf8_percent_encode(name, ESCAPED));
    Secret::new(format!("SharedAccessSignature sr={resource}&sig={signature}&se={expiry}&skn={name}"))
}

/// When a token ends that somebody has signed.
fn expiry(token: &Secret) -> Option<u64> {
    token.expose().split(['&', ' ']).find_map(|part| part.strip_prefix("se="))?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        client::server::{Answer, Server},
        clock::ManualClock,
        secret::SecretSource,
    };

    /// Made with Python's hmac, as the vendor's documentation does it.
    #[test]
    fn a_token_is_signed_as_the_service_expects_it() {
        let token = sign("sb://ns.servicebus.windows.net/hub", "send only", &Secret::new("a+b/c="), 1_795_200_000);
        let expected = "SharedAccessSignature sr=sb%3A%2F%2Fns.servicebus.windows.net%2Fhub&sig=USIlThGigL3py3%2BuMapH3oEJ1THJsHZdy7%2F4bHJ0u4s%3D\
                        &se=1795200000&skn=send%20only";
        assert_eq!(token.expose(), expected);
        assert_eq!(expiry(&token), Some(1_795_200_000));
    }

    const HUB: &str = "sb://ns/hub";
    const NOW: i64 = 1_800_000_000;

    /// Tokens of a key, by a clock that can be set.
    fn of_key() -> (Arc<ManualClock>, Tokens) {
        let clock = Arc::new(ManualClock::new(Timestamp(NOW * 1_000_000)));
        let key = SecretSource::Inline(Secret::new("k"));
        let credential = Credential::SharedKey { name: "send".to_owned(), key };
        let life = Duration::from_secs(3600);
        let tokens = Tokens::new(credential, None, Arc::clone(&clock) as Arc<dyn Clock>, life, Arc::default());
        (clock, tokens)
    }

    /// How long after `NOW` a token is signed, in seconds.
    async fn signed(tokens: &Tokens) -> i64 {
        expiry(&tokens.token(HUB).await.unwrap().secret).unwrap() as i64 - 3600 - NOW
    }

    #[tokio::test]
    async fn a_clock_that_was_set_back_is_not_believed_after_the_service_has_taken_a_token() {
        let (clock, tokens) = of_key();
        let token = tokens.token(HUB).await.unwrap();
        clock.set_wall(Timestamp((NOW - 7_200) * 1_000_000));
        assert_eq!(signed(&tokens).await, -7_200);
        tokens.taken(&token);
        clock.advance(Duration::from_secs(60));
        assert_eq!(signed(&tokens).await, 60);
        clock.set_wall(Timestamp(0));
        assert_eq!(signed(&tokens).await, 60);
        clock.set_wall(Timestamp((NOW + 7_200) * 1_000_000));
        assert_eq!(signed(&tokens).await, 7_200);
    }

    #[tokio::test]
    async fn a_clock_that_was_years_ahead_is_believed_once_it_is_set_right() {
        let (clock, tokens) = of_key();
        clock.set_wall(Timestamp(4_070_908_800_000_000));
        tokens.taken(&tokens.token(HUB).await.unwrap());
        clock.set_wall(Timestamp(NOW * 1_000_000));
        assert_eq!(signed(&tokens).await, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_token_is_asked_for_before_the_last_one_ends() {
        let now = Instant::now();
        let next_s = |renew_s: Option<u64>, ends_s: Option<u64>| {
            let [renew_at, ends] = [renew_s, ends_s].map(|seconds| seconds.map(|it| now + Duration::from_secs(it)));
            let secret = Secret::new("x");
            let token = Token { secret, kind: "jwt", renew_at, ends, signed: None, entra: None };
            token.next_at().map(|next| (next - now).as_secs())
        };
        assert_eq!(next_s(None, None), None);
        assert_eq!(next_s(Some(1800), Some(3600)), Some(1800));
        // Due for renewal as it comes.
        for (ends_s, next) in [(3600, 30), (40, 20), (12, 6), (1, 1)] {
            assert_eq!(next_s(Some(0), Some(ends_s)), Some(next), "{ends_s}");
        }
        // Over by this machine's clock.
        assert_eq!(next_s(Some(0), Some(0)), Some(30));
    }

    #[tokio::test]
    async fn a_busy_source_of_tokens_is_left_alone_as_long_as_it_says() {
        let server = Server::start(|_| Answer::json(429, "").with("Retry-After", "17"));
        let settings = azure::Settings { metadata_host: server.url(), ..azure::Settings::default() };
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(Timestamp(0)));
        let identity = azure::Credential::new(settings.clone(), Arc::clone(&clock));
        let credential = Credential::Entra(Box::new(settings));
        let tokens = Tokens::new(credential, Some(identity), clock, Duration::from_secs(3600), Arc::default());
        let error = tokens.token("sb://ns/hub").await.err().expect("no token");
        assert_eq!(error.class, Class::Busy(Duration::from_secs(17)), "{error}");
    }
}
