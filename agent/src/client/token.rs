//! A token, and how long it holds.

use std::time::Duration;

use tokio::time::Instant;

use crate::secret::Secret;

/// No token is trusted longer, whatever its issuer says.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// How long one is taken to hold whose end lies in the past by a clock that cannot be right: it was issued just now.
const UNKNOWN: Duration = Duration::from_secs(300);

/// An access token. Both times are monotonic: a wall clock that is wrong does no harm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// What the service is shown.
    pub secret: Secret,
    /// It is not to be used after this.
    pub expires: Instant,
    /// From here on another is asked for.
    pub refresh_at: Instant,
}

impl Token {
    /// One that was asked for at `asked` and holds for `life` from then on.
    pub(super) fn new(secret: Secret, asked: Instant, life: Duration) -> Self {
        let life = life.min(LONGEST);
        Self { secret, expires: asked + life, refresh_at: asked + life.mul_f64(renewal()) }
    }

    /// One that ends at `end`, both in seconds since the Unix epoch by one clock.
    pub(super) fn until(secret: Secret, asked: Instant, now: i64, end: i64) -> Self {
        let life = u64::try_from(end.saturating_sub(now)).ok().filter(|seconds| *seconds > 0);
        Self::new(secret, asked, life.map_or(UNKNOWN, Duration::from_secs))
    }
}

/// The part of its life after which a token is renewed: half to four fifths, so that ten thousand gateways that start
/// together do not renew together.
fn renewal() -> f64 {
    let mut byte = [0];
    getrandom::fill(&mut byte).expect("a Linux kernel always has random bytes for a running process");
    0.5 + 0.3 * f64::from(byte[0]) / 255.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[tokio::test(start_paused = true)]
    async fn a_token_is_renewed_at_half_to_four_fifths_of_its_life() {
        let asked = Instant::now();
        for _ in 0..1000 {
            let token = Token::new(Secret::new("x"), asked, HOUR);
            assert_eq!(token.expires - asked, HOUR);
            let part = (token.refresh_at - asked).as_secs_f64() / HOUR.as_secs_f64();
            assert!((0.499..=0.801).contains(&part), "{part}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_end_that_the_clock_makes_absurd_is_not_believed() {
        let asked = Instant::now();
        let life = |now, end| Token::until(Secret::new("x"), asked, now, end).expires - asked;
        assert_eq!(life(1_000, 4_600), HOUR);
        assert_eq!(life(0, 1_800_000_000), LONGEST);
        assert_eq!(life(1_800_000_000, 1_700_000_000), UNKNOWN);
        assert_eq!(life(i64::MIN, i64::MAX), LONGEST);
    }
}
