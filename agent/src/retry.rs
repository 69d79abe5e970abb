//! How long to wait before trying again.

use std::time::Duration;

/// Growing pauses with full jitter, up to a cap. It never gives up: being offline for days is normal (Promise 7).
///
/// Full jitter (each pause is anywhere between nothing and the present limit) keeps ten thousand gateways from coming
/// back at the same moment when a server does.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    cap: Duration,
    limit: Duration,
}

impl Backoff {
    /// The first pause is at most `first`, each later limit twice the one before, and none is longer than `cap`.
    pub fn new(first: Duration, cap: Duration) -> Self {
        Self { first, cap, limit: first.min(cap) }
    }

    /// The next pause.
    #[expect(clippy::should_implement_trait, reason = "an iterator may end, and this never does")]
    pub fn next(&mut self) -> Duration {
        let limit = self.limit;
        self.limit = limit.saturating_mul(2).min(self.cap);
        // Without random bytes the longest pause is the polite one.
        getrandom::u32().map_or(limit, |random| limit.mul_f64(f64::from(random) / f64::from(u32::MAX)))
    }

    /// Begins anew, after a success.
    pub fn reset(&mut self) {
        self.limit = self.first.min(self.cap);
    }
}

impl Default for Backoff {
    /// At most one second apart, so that the first event is through soon after the network is back.
    fn default() -> Self {
        Self::new(Duration::from_millis(100), Duration::from_secs(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_cap_and_no_further() {
        let mut backoff = Backoff::new(Duration::from_millis(10), Duration::from_millis(35));
        for limit_ms in [10, 20, 35, 35, 35] {
            assert!(backoff.next() <= Duration::from_millis(limit_ms));
        }
        backoff.reset();
        assert!(backoff.next() <= Duration::from_millis(10));
    }

    #[test]
    fn pauses_are_spread_out() {
        let pauses: Vec<_> = (0..32).map(|_| Backoff::default().next()).collect();
        assert!(pauses.iter().any(|pause| *pause != pauses[0]));
    }

    #[test]
    fn it_goes_on_for_ever() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
        assert!((0..100_000).all(|_| backoff.next() <= Duration::from_secs(60)));
    }
}
