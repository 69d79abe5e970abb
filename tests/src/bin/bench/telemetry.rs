//! Events as a machine on a plant floor sends them: 256 bytes of JSON with numbers that wander.

use bytes::Bytes;
use forebay_buffer::{Batch, Event, Timestamp};
use forebay_tests::random::Random;

/// Bytes of each body.
pub(crate) const BODY_BYTES: usize = 256;

/// 2026-01-01T00:00:00Z.
const BEGIN_MICROS: i64 = 1_767_225_600_000_000;

/// One machine's stream of measurements.
#[derive(Debug)]
pub(crate) struct Telemetry {
    random: Random,
    sent: i64,
    celsius: f64,
    bar: f64,
    amperes: f64,
    pieces: u64,
}

impl Telemetry {
    /// Machine number `seed`.
    pub(crate) fn new(seed: u64) -> Self {
        Self { random: Random::new(seed), sent: 0, celsius: 61.0, bar: 5.8, amperes: 11.2, pieces: 480_000 }
    }

    /// The next batch.
    pub(crate) fn batch(&mut self, events: usize) -> Batch {
        Batch { events: (0..events).map(|_| self.event()).collect(), ..Batch::default() }
    }

    /// The next event.
    pub(crate) fn event(&mut self) -> Event {
        let body = self.body();
        Event::new(Timestamp(BEGIN_MICROS + self.sent), body)
    }

    /// The next body.
    pub(crate) fn body(&mut self) -> Bytes {
        self.sent += 100_000 + self.random.below(900) as i64;
        self.celsius += self.step(0.2);
        self.bar += self.step(0.01);
        self.amperes += self.step(0.3);
        self.pieces += self.random.below(2);
        let (x, y, z) = (self.step(0.4), self.step(0.4), 9.81 + self.step(0.4));
        let mut body = format!(
            "{{\"device\":\"line1-press-07\",\"ts\":{},\"state\":\"running\",\"temperature\":{:.3},\"pressure\":{:.4},\
             \"vibration\":{{\"x\":{x:.4},\"y\":{y:.4},\"z\":{z:.4}}},\"current\":{:.2},\"spindle_rpm\":{},\
             \"pieces\":{},\"raw\":\"{:012x}\",\"unit\":\"",
            BEGIN_MICROS + self.sent,
            self.celsius,
            self.bar,
            self.amperes,
            2_990 + self.random.below(21),
            self.pieces,
            self.random.bits() >> 16,
        );
        let fill = BODY_BYTES - 2 - body.len();
        body.push_str(&"metric/plant-4/hall-2/cell-11/west"[..fill]);
        body.push_str("\"}");
        Bytes::from(body)
    }

    fn step(&mut self, width: f64) -> f64 {
        (self.random.below(2_000_001) as f64 / 1e6 - 1.0) * width
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_body_is_json_of_256_bytes() {
        let mut telemetry = Telemetry::new(1);
        for _ in 0..20_000 {
            let body = telemetry.body();
            assert_eq!(body.len(), BODY_BYTES);
            serde_json::from_slice::<serde_json::Value>(&body).expect("JSON");
        }
    }
}
