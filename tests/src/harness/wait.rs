//! Waiting for conditions. The deadline only bounds a test that has already failed.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

/// How long a condition may take before the test counts as failed. Generous, for slow and busy machines.
pub const DEADLINE: Duration = Duration::from_secs(120);

const PAUSE: Duration = Duration::from_millis(10);

/// Asks `condition` until it answers, and panics with `what` if it never does.
pub fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = condition() {
            return answer;
        }
        assert!(begun.elapsed() < DEADLINE, "waited {} s for {what}", DEADLINE.as_secs());
        sleep(PAUSE);
    }
}

/// As [`wait_for`], for a condition that has no more to say than yes.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    wait_for(what, || condition().then_some(()));
}
