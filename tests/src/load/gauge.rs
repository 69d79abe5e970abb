//! A producer that sends one event at a time, when told to.

use serde_json::json;

use crate::{
    harness::{Client, Gateway, Ledger, NoAnswer, Outcome, Record, read_output, wait_until},
    random::Random,
};

/// Sends numbered events, one by one, and keeps the ledger.
#[derive(Debug)]
pub struct Gauge {
    port: u16,
    path: &'static str,
    sent: u64,
    /// What was sent.
    pub ledger: Ledger,
}

impl Gauge {
    /// Posts to `path` of the gateway's HTTP source.
    pub fn new(gateway: &Gateway, path: &'static str) -> Self {
        Self { port: gateway.http_port, path, sent: 0, ledger: Ledger::default() }
    }

    /// Sends one event of about `size_bytes` and returns the status code; the ledger knows the rest.
    pub fn send(&mut self, size_bytes: usize) -> u16 {
        let id = format!("gauge:{}", self.sent);
        self.sent += 1;
        // Digits that do not compress, so that the size is one on disk too.
        let mut random = Random::new(self.sent);
        let pad: String = (0..size_bytes / 16).map(|_| format!("{:016x}", random.bits())).collect();
        let body = json!({"id": id, "pad": pad}).to_string();
        // A connection of its own each time: the agent may have been restarted since the last.
        match Client::new(self.port).post(self.path, &[("content-type", "application/json")], body.as_bytes()) {
            Ok(answer) => {
                let kept = answer.status == 202;
                self.ledger.enter(vec![id], if kept { Outcome::Acknowledged } else { Outcome::Rejected });
                answer.status
            }
            Err(NoAnswer::NotSent(error) | NoAnswer::Unknown(error)) => panic!("no answer to a producer: {error}"),
        }
    }

    /// Sends one event and expects it to be acknowledged.
    pub fn send_well(&mut self) {
        assert_eq!(self.send(32), 202, "a good event is acknowledged");
    }

    /// Waits until `sink` has all that was acknowledged, and returns it.
    pub fn wait_delivered(&self, gateway: &Gateway, directory: &str, sink: &str) -> Vec<Record> {
        wait_until("every acknowledged event to be delivered", || {
            read_output(&gateway.path(directory), sink).records.len() >= self.ledger.acknowledged()
        });
        read_output(&gateway.path(directory), sink).records
    }

    /// Judges what a sink holds: see [`Ledger::judge`].
    pub fn judge(&self, records: &[Record]) {
        let faults = self.ledger.judge(records, |record| Some(record.body.as_ref()?.get("id")?.as_str()?.to_owned()));
        assert!(faults.is_empty(), "{faults:#?}");
    }
}
