//! A sensor of the plant.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use super::Lane;
use crate::mqtt::{Publisher, Quality};

/// Messages that a sensor leaves unacknowledged.
const WINDOW: usize = 50;

/// When readings are due.
#[derive(Debug, Clone, Copy)]
pub struct Pace(Option<(Instant, f64)>);

impl Pace {
    /// At once.
    pub const UNBOUNDED: Self = Self(None);

    /// So many in a second on each lane, from now on.
    pub fn new(per_second: f64) -> Self {
        Self(Some((Instant::now(), per_second)))
    }

    /// Waits until what has this number is due.
    pub fn wait(&self, number: u64) {
        if let Some((begun, per_second)) = self.0 {
            let due = Duration::from_secs_f64(number as f64 / per_second);
            sleep(due.saturating_sub(begun.elapsed()));
        }
    }
}

/// Publishes the readings of one lane at QoS 1, or another.
#[derive(Debug)]
pub struct Sensor<'a> {
    lane: &'a Lane,
    publisher: Publisher,
}

impl<'a> Sensor<'a> {
    /// One that connects to the broker on `port`.
    pub fn new(lane: &'a Lane, port: u16, quality: Quality) -> Self {
        Self { lane, publisher: Publisher::new(&lane.name, port, quality, WINDOW) }
    }

    /// Sends every reading when it is due, or as soon after as the broker lets it, and returns when all are acknowledged.
    /// Says how often it repeated one.
    pub fn run(mut self, pace: Pace) -> u64 {
        let topic = self.lane.topic();
        for number in 0..self.lane.count {
            pace.wait(number);
            self.publisher.publish(&topic, self.lane.payload(number));
        }
        self.publisher.finish();
        self.publisher.repeated()
    }
}
