//! Waiting for conditions. The deadline only bounds a test that has already failed.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

/// How long a condition may take before the test counts as failed. Generous, for slow and busy machines.
pub const DEADLINE: Duration = Duration::from_secs(120);

const PAUSE: Duration = Duration::from_millis(10);

/// Asks `condition` until it answers, and panics with `what` if it never does.
pub fn wait_for<T>(what: &str, condition: impl FnMut() -> Option<T>) -> T {
    ask(condition).unwrap_or_else(|| panic!("waited {} s for {what}", DEADLINE.as_secs()))
}

/// As [`wait_for`], for a condition that has no more to say than yes.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    wait_for(what, || condition().then_some(()));
}

/// As [`wait_until`], but says whether it came true, to whoever has more to say about it if it did not.
pub fn comes_true(mut condition: impl FnMut() -> bool) -> bool {
    ask(|| condition().then_some(())).is_some()
}

/// Awaits what may never come.
pub async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    let awaited = tokio::time::timeout(DEADLINE, future).await;
    awaited.unwrap_or_else(|_| panic!("waited {} s for {what}", DEADLINE.as_secs()))
}

fn ask<T>(mut condition: impl FnMut() -> Option<T>) -> Option<T> {
    let begun = Instant::now();
    loop {
        if let Some(answer) = condition() {
            return Some(answer);
        }
        if begun.elapsed() >= DEADLINE {
            return None;
        }
        sleep(PAUSE);
    }
}
