//! `max_bytes_per_second`: a sink's lanes share one pace.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::Instant;

/// A pace in monotonic time. Who comes after a pause goes at once; who follows waits until what went before is paid for.
/// Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Pace {
    bytes_per_second: u64,
    free_at: Arc<Mutex<Instant>>,
}

impl Pace {
    pub(super) fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second: bytes_per_second.max(1), free_at: Arc::new(Mutex::new(Instant::now())) }
    }

    /// The most that should go out in one piece, so that a slow pace is even too: what a second allows.
    pub(super) fn piece_bytes(&self) -> usize {
        usize::try_from(self.bytes_per_second).unwrap_or(usize::MAX)
    }

    /// Waits for the turn of `size_bytes`.
    pub(super) async fn turn(&self, size_bytes: usize) {
        let cost = Duration::from_secs_f64(size_bytes as f64 / self.bytes_per_second as f64);
        let start = {
            let mut free_at = self.free_at.lock().expect("no holder of this lock panics");
            let start = (*free_at).max(Instant::now());
            *free_at = start + cost;
            start
        };
        tokio::time::sleep_until(start).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_lone_event_goes_at_once_and_what_follows_keeps_the_pace() {
        let pace = Pace::new(1000);
        let begun = Instant::now();
        pace.turn(500).await;
        assert_eq!(begun.elapsed(), Duration::ZERO);
        pace.turn(2000).await;
        assert!(begun.elapsed() >= Duration::from_millis(500));
        pace.turn(1).await;
        assert!(begun.elapsed() >= Duration::from_millis(2500));
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_is_not_saved_up_for_a_burst() {
        let pace = Pace::new(1000);
        tokio::time::sleep(Duration::from_secs(60)).await;
        let begun = Instant::now();
        pace.turn(1000).await;
        pace.turn(1000).await;
        assert!(begun.elapsed() >= Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn the_lanes_of_a_sink_share_one_pace() {
        let pace = Pace::new(1000);
        let begun = Instant::now();
        let other = pace.clone();
        tokio::join!(pace.turn(1000), other.turn(1000));
        assert!(begun.elapsed() >= Duration::from_secs(1));
    }
}
