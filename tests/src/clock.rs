//! A clock that stands still until it is told to go on.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use forebay_buffer::{
    Timestamp,
    clock::{Clock, Reading},
};

/// Where [`StillClock`] begins: 2026-01-01, in microseconds since the Unix epoch.
const START_US: i64 = 1_767_225_600_000_000;

/// Synchronised, in one boot, and moved by hand.
#[derive(Debug, Default)]
pub struct StillClock {
    since_boot_us: AtomicI64,
}

impl StillClock {
    /// Moves on by `step`.
    pub fn advance(&self, step: Duration) {
        self.since_boot_us.fetch_add(step.as_micros() as i64, Ordering::Relaxed);
    }
}

impl Clock for StillClock {
    fn now(&self) -> Reading {
        let since_boot_us = self.since_boot_us.load(Ordering::Relaxed);
        Reading {
            wall: Timestamp(START_US + since_boot_us),
            since_boot: Duration::from_micros(since_boot_us as u64),
            synchronised: true,
        }
    }

    fn boot_id(&self) -> u128 {
        1
    }
}
