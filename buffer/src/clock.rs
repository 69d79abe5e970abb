//! The only clock there is. Everything that needs a time is given one of these.

use std::time::Duration;

use crate::Timestamp;

/// One look at the clocks: the wall, and the one that only goes forward, read together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// What the wall clock says. It may be wrong by years.
    pub wall: Timestamp,
    /// Time since boot, time asleep included. It never jumps.
    pub since_boot: Duration,
    /// Whether the kernel calls the wall clock synchronised.
    pub synchronised: bool,
}

/// A source of time. Cheap to ask; called once for each commit.
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// The time now.
    fn now(&self) -> Reading;
    /// The random id of this boot (`/proc/sys/kernel/random/boot_id`).
    fn boot_id(&self) -> u128;
}
