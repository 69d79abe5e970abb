//! What is to be said to the broker once it is true, in the order of what it answers.

use std::collections::VecDeque;

use super::gather::{Gather, Mark};
use crate::client::mqtt::{Acknowledgement, Connection, Error};

/// So many wait at most: more than there are packet identifiers, in every state that they can have.
const MAX_WAITING: usize = 2 << 16;

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
    pub(super) fn push(&mut self, answer: Acknowledgement, packet_id: u16, until: Mark) -> Result<(), Error> {
        if self.0.len() >= MAX_WAITING {
            return Err(Error::Lost(format!("the broker has sent more than {MAX_WAITING} packets without an answer")));
        }
        self.0.push_back(Waiting { answer, packet_id, until });
        Ok(())
    }

    /// Says what can be said (Promise 1).
    pub(super) fn give(&mut self, gather: &Gather, connection: &mut Connection) {
        while let Some(first) = self.0.front().filter(|first| gather.is_on_disk(first.until)) {
            connection.acknowledge(first.answer, first.packet_id);
            self.0.pop_front();
        }
    }
}
