//! What an agent says of itself: the figures in `/api/status` and `/metrics` that tests look at.

use serde_json::Value;

use super::Agent;

impl Agent {
    /// What `/api/status` says.
    pub fn status(&self) -> Value {
        let answer = self.get("/api/status");
        assert_eq!(answer.status, 200, "{}", answer.body);
        serde_json::from_str(&answer.body).expect("the status is JSON")
    }

    /// Events that `sink` has still to get.
    pub fn pending(&self, sink: &str) -> u64 {
        let status = self.status();
        let sinks = status["sinks"].as_array().expect("the status has sinks");
        let sink = sinks.iter().find(|held| held["name"] == sink).expect("the status has every sink");
        sink["pending_events"].as_u64().expect("the status says what is pending")
    }

    /// Events in the loss ledger.
    pub fn lost_events(&self) -> u64 {
        let status = self.status();
        let reasons = status["buffer"]["lost_events"].as_object().expect("the status has the losses by reason");
        reasons.values().map(|events| events.as_u64().expect("a count of events")).sum()
    }

    /// Events that sources have taken in since the start.
    pub fn taken_in(&self) -> u64 {
        self.metric("forebay_source_events_total")
    }

    /// Errors that sources have met and waited out since the start.
    pub fn source_errors(&self) -> u64 {
        self.metric("forebay_source_errors_total")
    }

    /// Events that sinks have confirmed since the start.
    pub fn confirmed(&self) -> u64 {
        self.metric("forebay_sink_events_total")
    }

    /// Errors that sinks have met and waited out since the start.
    pub fn sink_errors(&self) -> u64 {
        self.metric("forebay_sink_errors_total")
    }

    /// A counter's value, summed over its labels.
    fn metric(&self, name: &str) -> u64 {
        let body = self.get("/metrics").body;
        let values: Vec<f64> = body
            .lines()
            .filter_map(|line| line.strip_prefix(name))
            .filter(|rest| rest.starts_with([' ', '{']))
            .map(|rest| rest.rsplit(' ').next().and_then(|value| value.parse().ok()).expect("a metric has a value"))
            .collect();
        assert!(!values.is_empty(), "there is no metric {name} in\n{body}");
        values.iter().sum::<f64>() as u64
    }
}
