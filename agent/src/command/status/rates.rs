//! How fast it goes, from one report to the next.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use crate::observe::status::Report;

/// Rates are taken over this long: long enough to be calm, short enough to be of now.
const WINDOW: Duration = Duration::from_secs(10);

/// The reports of the last seconds, in figures.
#[derive(Debug, Default)]
pub(in crate::command) struct History(VecDeque<Sample>);

#[derive(Debug)]
struct Sample {
    taken: Instant,
    /// Events that each source took in.
    sources: BTreeMap<String, u64>,
    /// Events that each sink has confirmed, and still has to get.
    sinks: BTreeMap<String, (u64, u64)>,
}

impl History {
    /// Takes note of a report that was just taken.
    pub(in crate::command) fn add(&mut self, report: &Report) {
        self.add_at(report, Instant::now());
    }

    fn add_at(&mut self, report: &Report, taken: Instant) {
        let sources = report.sources.iter().filter_map(|s| Some((s.name.clone(), s.counters?.events)));
        let sinks = report.sinks.iter().filter_map(|s| Some((s.name.clone(), (s.counters?.events, s.pending_events))));
        self.0.push_back(Sample { taken, sources: sources.collect(), sinks: sinks.collect() });
        while self.0.len() > 2 && taken.duration_since(self.0[0].taken) > WINDOW {
            self.0.pop_front();
        }
    }

    /// Events a second that a source takes in. `None`: not known yet.
    pub(super) fn taken_in(&self, source: &str) -> Option<f64> {
        self.slope(|sample| Some(*sample.sources.get(source)? as f64)).filter(|rate| *rate >= 0.0)
    }

    /// Events a second that a sink delivers. `None`: not known yet.
    pub(super) fn delivered(&self, sink: &str) -> Option<f64> {
        self.slope(|sample| Some(sample.sinks.get(sink)?.0 as f64)).filter(|rate| *rate >= 0.0)
    }

    /// How long it takes a sink to catch up, if all goes on like this. `None`: not known, or it does not catch up.
    pub(super) fn time_to_drain(&self, sink: &str) -> Option<Duration> {
        let pending = self.0.back()?.sinks.get(sink)?.1 as f64;
        let shrinks = -self.slope(|sample| Some(sample.sinks.get(sink)?.1 as f64))?;
        (shrinks > 0.0).then(|| Duration::try_from_secs_f64(pending / shrinks).ok()).flatten()
    }

    /// The change a second of a figure, between the first sample and the last. An agent that started anew in between
    /// counts from nothing: its rates are below zero, and no rates.
    fn slope(&self, figure: impl Fn(&Sample) -> Option<f64>) -> Option<f64> {
        let (first, last) = (self.0.front()?, self.0.back()?);
        let seconds = last.taken.duration_since(first.taken).as_secs_f64();
        (seconds > 0.0).then(|| Some((figure(last)? - figure(first)?) / seconds)).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::status::render::tests::report;

    fn history(samples: &[(u64, u64)]) -> History {
        let (mut history, start) = (History::default(), Instant::now());
        for (second, (confirmed, pending)) in samples.iter().enumerate() {
            let mut report = report();
            report.sinks[0].pending_events = *pending;
            report.sinks[0].counters.as_mut().expect("the sink runs").events = *confirmed;
            history.add_at(&report, start + Duration::from_secs(second as u64));
        }
        history
    }

    #[test]
    fn a_sink_that_catches_up_has_a_time_to_drain() {
        let history = history(&[(0, 1_000), (150, 900), (300, 800)]);
        assert_eq!(history.delivered("files"), Some(150.0));
        assert_eq!(history.time_to_drain("files"), Some(Duration::from_secs(8)));
        assert_eq!(history.taken_in("host"), Some(0.0));
    }

    #[test]
    fn a_sink_that_falls_behind_has_none() {
        assert_eq!(history(&[(0, 10), (5, 10)]).time_to_drain("files"), None);
        assert_eq!(history(&[(0, 10), (5, 20)]).time_to_drain("files"), None);
    }

    #[test]
    fn one_report_and_a_restart_give_no_rate() {
        assert_eq!(history(&[(7, 1)]).delivered("files"), None);
        assert_eq!(history(&[(1_000, 1), (3, 1)]).delivered("files"), None);
    }

    #[test]
    fn what_is_long_ago_is_forgotten() {
        let samples: Vec<_> = (0..100).map(|second| (if second < 50 { 0 } else { (second - 50) * 10 }, 0)).collect();
        let history = history(&samples);
        assert!(history.0.len() <= 12);
        assert_eq!(history.delivered("files"), Some(10.0));
    }
}
