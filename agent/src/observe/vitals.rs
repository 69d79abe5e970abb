//! What can only be seen by looking more than once: how long a lane has not moved, and how long the buffer is full.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use forebay_buffer::{Checkpoint, Heartbeat, Status};

/// A lane: sink, stream, partition.
type Key = (String, String, String);

/// What was seen before.
#[derive(Debug, Default)]
pub(super) struct Vitals {
    lanes: BTreeMap<Key, Lane>,
    full_since: Option<Instant>,
    writer: Option<(Heartbeat, Instant)>,
}

#[derive(Debug, Clone, Copy)]
struct Lane {
    confirmed: Option<Checkpoint>,
    /// Since when something is pending and nothing of it was confirmed.
    still_since: Option<Instant>,
}

impl Vitals {
    /// Takes note of how things are at `now`.
    pub(super) fn look(&mut self, status: &Status, now: Instant) {
        self.full_since = status.full.as_ref().map(|_| self.full_since.unwrap_or(now));
        let mut lanes = BTreeMap::new();
        for sink in &status.sinks {
            for place in &sink.partitions {
                let key = (sink.name.clone(), place.stream.clone(), place.partition.clone());
                let before = self.lanes.get(&key).filter(|before| before.confirmed == place.checkpoint);
                let still_since = before.and_then(|before| before.still_since).unwrap_or(now);
                let still_since = (place.pending_events > 0).then_some(still_since);
                lanes.insert(key, Lane { confirmed: place.checkpoint, still_since });
            }
        }
        self.lanes = lanes;
    }

    /// For how long something is pending there and nothing of it was confirmed.
    pub(super) fn still(&self, sink: &str, stream: &str, partition: &str, now: Instant) -> Option<Duration> {
        let lane = self.lanes.get(&(sink.to_owned(), stream.to_owned(), partition.to_owned()))?;
        lane.still_since.map(|since| now.duration_since(since))
    }

    /// For how long the buffer has been full.
    pub(super) fn full(&self, now: Instant) -> Option<Duration> {
        self.full_since.map(|since| now.duration_since(since))
    }

    /// For how long the buffer's writer has had work and ended none.
    pub(super) fn writer_stuck(&mut self, heartbeat: Heartbeat, now: Instant) -> Duration {
        let since = match self.writer {
            Some((before, since)) if before == heartbeat && heartbeat.busy => since,
            _ => now,
        };
        self.writer = Some((heartbeat, since));
        now.duration_since(since)
    }
}

#[cfg(test)]
mod tests {
    use forebay_buffer::{Generation, Offset, Tag};

    use super::*;
    use crate::observe::tests::status;

    #[test]
    fn a_lane_that_is_empty_or_moves_is_not_still() {
        let (mut vitals, start) = (Vitals::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut status = status();
        let mut see = |pending, offset, seconds| {
            let place = &mut status.sinks[0].partitions[0];
            place.pending_events = pending;
            place.checkpoint = Some(Checkpoint { generation: Generation(1), tag: Tag(1), offset: Offset(offset) });
            vitals.look(&status, at(seconds));
            vitals.still("files", "line1", "0", at(seconds)).map(|still| still.as_secs())
        };
        assert_eq!(see(0, 1, 0), None);
        assert_eq!(see(5, 1, 100), Some(0), "nothing was pending until now");
        assert_eq!(see(7, 1, 200), Some(100));
        assert_eq!(see(6, 2, 300), Some(0), "one was confirmed");
        assert_eq!(see(6, 2, 400), Some(100));
        assert_eq!(see(0, 8, 500), None);
    }

    #[test]
    fn a_busy_writer_that_ends_nothing_is_stuck() {
        let (mut vitals, start) = (Vitals::default(), Instant::now());
        let mut see = |beats, busy, seconds| {
            vitals.writer_stuck(Heartbeat { beats, busy }, start + Duration::from_secs(seconds)).as_secs()
        };
        assert_eq!(see(1, true, 0), 0);
        assert_eq!(see(1, true, 9), 9);
        assert_eq!(see(2, true, 10), 0);
        assert_eq!(see(2, false, 20), 0);
        assert_eq!(see(2, false, 90), 0, "it has nothing to do");
    }
}
