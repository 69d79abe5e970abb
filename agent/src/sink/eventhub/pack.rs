//! Messages into batches, each as large as the hub takes.

use forebay_buffer::Offset;

use crate::client::eventhub::Batch;

/// A batch, and what is in it: at least one message.
#[derive(Debug)]
pub(super) struct Packed {
    pub(super) batch: Batch,
    offsets: Vec<Offset>,
}

impl Packed {
    fn one(offset: Offset, message: Vec<u8>) -> Self {
        let mut packed = Self { batch: Batch::default(), offsets: Vec::new() };
        packed.push(offset, message);
        packed
    }

    fn push(&mut self, offset: Offset, message: Vec<u8>) {
        self.batch.push(message);
        self.offsets.push(offset);
    }

    /// The last event that is in it.
    pub(super) fn last(&self) -> Offset {
        *self.offsets.last().expect("there is at least one")
    }

    /// Both halves of it, or the one event that it holds.
    pub(super) fn halves(mut self) -> Result<(Self, Self), Offset> {
        let at = self.offsets.len() / 2;
        if at == 0 {
            return Err(self.last());
        }
        let second = Self { batch: self.batch.split_off(at), offsets: self.offsets.split_off(at) };
        Ok((self, second))
    }
}

/// Fills batches of at most `limit` bytes, in order. A message that is larger by itself is a batch of its own.
pub(super) fn pack(messages: Vec<(Offset, Vec<u8>)>, limit: usize) -> Vec<Packed> {
    let mut all: Vec<Packed> = Vec::new();
    for (offset, message) in messages {
        match all.last_mut() {
            Some(packed) if packed.batch.size_bytes() + Batch::size_of(&message) <= limit => {
                packed.push(offset, message)
            }
            _ => all.push(Packed::one(offset, message)),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn batches_are_as_full_as_they_can_be_and_no_fuller(sizes in prop::collection::vec(0usize..600, 0..60)) {
            const LIMIT: usize = 700;
            let messages: Vec<_> = sizes.iter().zip(1..).map(|(size, offset)| (Offset(offset), vec![0; *size])).collect();
            let packed = pack(messages.clone(), LIMIT);
            let size = |offset: Offset| Batch::size_of(&messages[usize::try_from(offset.0 - 1).unwrap()].1);
            let mut next = 1;
            for (at, one) in packed.iter().enumerate() {
                let first = one.offsets[0].0;
                prop_assert_eq!(first, next);
                next = one.last().0 + 1;
                let sum: usize = (first..next).map(|offset| size(Offset(offset))).sum();
                prop_assert_eq!(one.batch.size_bytes(), sum);
                prop_assert!(sum <= LIMIT);
                if let Some(behind) = packed.get(at + 1) {
                    prop_assert!(sum + size(behind.offsets[0]) > LIMIT);
                }
            }
            prop_assert_eq!(next as usize, sizes.len() + 1);
        }
    }
    #[test]
    fn a_batch_is_halved_until_one_event_is_left() {
        let messages = (1..=5).map(|offset| (Offset(offset), vec![0; 10])).collect();
        let mut waiting = pack(messages, 1_000);
        let (mut singles, mut whole) = (Vec::new(), 0);
        while let Some(packed) = waiting.pop() {
            whole = whole.max(packed.batch.size_bytes());
            match packed.halves() {
                Ok((first, second)) => waiting.extend([second, first]),
                Err(offset) => singles.push(offset.0),
            }
        }
        assert_eq!((singles, whole), (vec![1, 2, 3, 4, 5], 75));
    }
}
