//! Messages that could not be stored and are not sent again, such as those of QoS 0 that came while the buffer was full:
//! dropped, and counted (Promise 6).

use std::{collections::BTreeMap, future::pending};

use crate::contract::{BoxFuture, Intake, IntakeError};

const REASON: &str = "the buffer was full, and the broker does not send the message again";

/// What is lost and not yet in the ledger, by partition. One entry at a time is written, and sums up what came since.
#[derive(Default)]
pub(super) struct Losses {
    counted: BTreeMap<String, (u64, u64)>,
    writing: Option<BoxFuture<'static, Result<(), NotWritten>>>,
}

/// Why an entry was not written, and what was in it.
type NotWritten = (IntakeError, String, (u64, u64));

impl Losses {
    /// Counts a message.
    pub(super) fn count(&mut self, partition: &str, bytes: usize) {
        self.add(partition, (1, bytes as u64));
    }

    /// Counts so many messages of so many bytes.
    pub(super) fn add(&mut self, partition: &str, (messages, bytes): (u64, u64)) {
        if !self.counted.contains_key(partition) {
            self.counted.insert(partition.to_owned(), (0, 0));
        }
        if let Some((events, sum)) = self.counted.get_mut(partition) {
            *events += messages;
            *sum += bytes;
        }
    }

    /// Whether all of it is in the ledger.
    pub(super) fn are_settled(&self) -> bool {
        self.writing.is_none() && self.counted.is_empty()
    }

    /// Messages that are not in the ledger.
    pub(super) fn unwritten(&self) -> u64 {
        self.counted.values().map(|(events, _)| events).sum()
    }

    /// Ends when an entry was written. It can be dropped and called again at any time.
    pub(super) async fn write(&mut self, intake: &Intake) -> Result<(), IntakeError> {
        if self.writing.is_none() {
            let Some((partition, (events, bytes))) = self.counted.pop_first() else { return pending().await };
            let intake = intake.clone();
            self.writing = Some(Box::pin(async move {
                let outcome = intake.lose(&partition, events, bytes, REASON).await;
                outcome.map_err(|error| (error, partition, (events, bytes)))
            }));
        }
        let Some(writing) = &mut self.writing else { return pending().await };
        let outcome = writing.await;
        self.writing = None;
        outcome.map_err(|(error, partition, counted)| {
            self.add(&partition, counted);
            error
        })
    }
}
