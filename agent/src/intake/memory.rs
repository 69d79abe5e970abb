//! What a partition's last events are known by, so that one that is sent again is left out.

use std::collections::{HashSet, VecDeque};

use crate::contract::Identity;

/// The identities of events that are on disk, as many as the window takes (Promise 5). The file has the same.
#[derive(Default)]
pub(super) struct Memory {
    known: HashSet<Identity>,
    /// The oldest first.
    order: VecDeque<Identity>,
}

impl Memory {
    /// What the file remembers, the oldest first.
    pub(super) fn of(identities: Vec<Identity>) -> Self {
        Self { known: identities.iter().copied().collect(), order: identities.into() }
    }

    pub(super) fn knows(&self, identity: Identity) -> bool {
        self.known.contains(&identity)
    }

    /// Adds what has come to be on disk, in order, and forgets what leaves the window with it.
    pub(super) fn add(&mut self, identities: &[Identity], window: u32) {
        for identity in identities {
            self.limit(window.saturating_sub(1));
            self.known.insert(*identity);
            self.order.push_back(*identity);
        }
        self.limit(window);
    }

    /// Forgets the oldest until no more than `window` are left.
    pub(super) fn limit(&mut self, window: u32) {
        while self.order.len() > window as usize {
            let oldest = self.order.pop_front().expect("it is longer than the window");
            self.known.remove(&oldest);
        }
        if window == 0 {
            // Not even the room is kept of a memory that is no longer wanted.
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_holds_no_more_than_its_window() {
        let mut memory = Memory::of(vec![1, 2, 3]);
        memory.add(&[4, 5], 3);
        assert_eq!(memory.order, [3, 4, 5]);
        assert_eq!((memory.known.len(), memory.knows(2), memory.knows(3)), (3, false, true));
        memory.add(&[6, 7, 8, 9], 2);
        assert_eq!(memory.order, [8, 9]);
        memory.add(&[], 0);
        assert_eq!((memory.known.capacity(), memory.order.capacity()), (0, 0));
    }
}
