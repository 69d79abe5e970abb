//! A device that posts events over HTTP, in all the shapes that the source takes.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread::sleep,
    time::Duration,
};

use serde_json::json;

use crate::{
    harness::{Client, Ledger, NoAnswer, Outcome},
    plant::Pace,
    random::Random,
};

/// Events of one request at most.
const MAX_BATCH: u64 = 20;

/// One producer. It never sends an id twice, so that an unanswered request may be there once or not at all.
#[derive(Debug)]
pub struct Producer<'a> {
    /// What its ids begin with.
    pub lane: String,
    /// The HTTP source's path.
    pub path: &'a str,
    /// The way to the HTTP source.
    pub client: Client,
    /// Where its sends are entered.
    pub ledger: &'a Ledger,
    /// When its events are due.
    pub pace: Pace,
    /// Chooses sizes and shapes.
    pub random: Random,
}

impl Producer<'_> {
    /// Sends until `stop`.
    pub fn run(mut self, stop: &AtomicBool) {
        let mut next = 0;
        while !stop.load(Ordering::Relaxed) {
            self.pace.wait(next);
            let count = 1 + self.random.below(MAX_BATCH);
            let ids: Vec<String> = (next..next + count).map(|number| format!("{}:{number}", self.lane)).collect();
            let (content_type, body) = self.request(&ids);
            match self.client.post(self.path, &[("content-type", content_type)], &body) {
                Err(NoAnswer::NotSent(_)) => {
                    sleep(Duration::from_millis(2));
                    continue;
                }
                Err(NoAnswer::Unknown(_)) => self.ledger.enter(ids, Outcome::Unknown),
                Ok(answer) => match answer.status {
                    202 => self.ledger.enter(ids, Outcome::Acknowledged),
                    429 | 503 => self.ledger.enter(ids, Outcome::Rejected),
                    status => panic!("a good request was answered {status}: {}", answer.body),
                },
            }
            next += count;
            sleep(Duration::from_micros(self.random.below(10_000)));
        }
    }

    fn request(&mut self, ids: &[String]) -> (&'static str, Vec<u8>) {
        let events: Vec<String> = ids.iter().map(|id| self.event(id)).collect();
        match (events.len(), self.random.below(2)) {
            (1, 0) => ("application/json", events[0].clone().into_bytes()),
            (_, 0) => ("application/x-ndjson", events.join("\n").into_bytes()),
            _ => ("application/json", format!("[{}]", events.join(",")).into_bytes()),
        }
    }

    fn event(&mut self, id: &str) -> String {
        let celsius = self.random.below(100_000) as f64 / 1000.0;
        json!({"id": id, "celsius": celsius, "raw": self.random.bits()}).to_string()
    }
}
