//! Messages of QoS 0 that came while the buffer was full: dropped, and counted (Promise 6).

use std::{collections::BTreeMap, future::pending};

use crate::contract::{BoxFuture, Intake, IntakeError};

const REASON: &str = "a message of QoS 0 came while the buffer was full";

/// What is lost and not yet in the ledger, by partition. One entry at a time is written, and sums up what came since.
#[derive(Default)]
pub(super) struct Losses {
    counted: BTreeMap<String, (u64, u64)>,
    writing: Option<BoxFuture<'static, Result<(), IntakeError>>>,
}

impl Losses {
    /// Counts a message.
    pub(super) fn count(&mut self, partition: &str, bytes: usize) {
        if !self.counted.contains_key(partition) {
            self.counted.insert(partition.to_owned(), (0, 0));
        }
        if let Some((events, sum)) = self.counted.get_mut(partition) {
            *events += 1;
            *sum += bytes as u64;
        }
    }

    /// Whether all of it is in the ledger.
    pub(super) fn are_settled(&self) -> bool {
        self.writing.is_none() && self.counted.is_empty()
    }

    /// Ends when an entry was written. It can be dropped and called again at any time.
    pub(super) async fn write(&mut self, intake: &Intake) -> Result<(), IntakeError> {
        if self.writing.is_none() {
            let Some((partition, (events, bytes))) = self.counted.pop_first() else { return pending().await };
            let intake = intake.clone();
            let write = async move { intake.lose(&partition, events, bytes, REASON).await };
            self.writing = Some(Box::pin(write));
        }
        let Some(writing) = &mut self.writing else { return pending().await };
        let outcome = writing.await;
        self.writing = None;
        outcome
    }
}
