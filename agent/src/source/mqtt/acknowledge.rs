//! What is to be said to the broker once it is true, in the order of what it answers.

use std::collections::VecDeque;

use super::gather::{Gather, Mark};
use crate::client::mqtt::{Acknowledgement, Connection};

/// The acknowledgements of one connection that wait for the disk. They are gone with it.
#[derive(Debug, Default)]
pub(super) struct Acknowledgements(VecDeque<Waiting>);

#[derive(Debug)]
struct Waiting {
    answer: Acknowledgement,
    packet_id: u16,
    until: Mark,
}

impl Acknowledgements {
    /// Says `answer` when all up to `until` is on disk, and all that was to be said before is said.
    pub(super) fn push(&mut self, answer: Acknowledgement, packet_id: u16, until: Mark) {
        self.0.push_back(Waiting { answer, packet_id, until });
    }

    /// Says what can be said (Promise 1).
    pub(super) fn give(&mut self, gather: &Gather, connection: &mut Connection) {
        while let Some(first) = self.0.pop_front_if(|first| gather.is_on_disk(first.until)) {
            connection.acknowledge(first.answer, first.packet_id);
        }
    }
}
