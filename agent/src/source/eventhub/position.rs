//! Where reading goes on in a partition: the hub's offset and the sequence number, which are kept apart.
//!
//! The offset is opaque: in a geo-replicated namespace it is no number. The sequence number is what events are known by
//! here, and where reading goes on if the hub does not know the offset any more.

use serde::{Deserialize, Serialize};

use crate::{client::eventhub::Start, contract::Upstream};

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Position {
    /// The hub's offset of the last event, where it is known.
    pub(super) offset: Option<String>,
    /// The sequence number of the last event; -1 before the first.
    pub(super) sequence_number: i64,
}

impl Position {
    /// As it is kept with the events.
    pub(super) fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a text and a number are JSON")
    }

    /// Reads what [`Position::encode`] wrote.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(bytes).map_err(|error| format!("the position in the buffer cannot be read: {error}"))
    }

    /// What a row of the control table says.
    pub(super) fn of_row(sequence_number: i64, upstream: Option<&Upstream>) -> Self {
        Self { offset: upstream.and_then(|upstream| upstream.offset.clone()), sequence_number }
    }

    /// Where a receiver begins.
    pub(super) fn start(&self) -> Start {
        match &self.offset {
            Some(offset) => Start::AfterOffset(offset.clone()),
            None if self.sequence_number < 0 => Start::Oldest,
            None => Start::AfterSequenceNumber(self.sequence_number),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_comes_back_as_it_was_and_an_offset_is_never_a_number() {
        for offset in [Some("0:4:98".to_owned()), Some("41".to_owned()), None] {
            let position = Position { offset, sequence_number: i64::MAX };
            assert_eq!(Position::decode(&position.encode()), Ok(position));
        }
        assert!(Position::decode(b"41").is_err());
    }

    #[test]
    fn without_an_offset_the_sequence_number_says_where() {
        let at =
            |offset: Option<&str>, sequence_number| Position { offset: offset.map(str::to_owned), sequence_number };
        assert_eq!(at(Some("x"), 5).start(), Start::AfterOffset("x".to_owned()));
        assert_eq!(at(None, 5).start(), Start::AfterSequenceNumber(5));
        assert_eq!(at(None, -1).start(), Start::Oldest);
    }
}
