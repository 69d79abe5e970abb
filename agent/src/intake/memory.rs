//! What a partition's last events are known by, so that one that is sent again is left out.

use std::collections::{HashSet, VecDeque};

use crate::contract::Identity;

/// The identities of events that are on disk, or about to be, as many as the window takes (Promise 5). The file has the
/// same.
#[derive(Default)]
pub(super) struct Memory {
    known: HashSet<Identity>,
    /// The oldest first. None is in it twice.
    order: VecDeque<Identity>,
}

impl Memory {
    /// What the file remembers, the oldest first. It may have one twice that came again after it had left the window:
    /// the later counts.
    pub(super) fn of(identities: Vec<Identity>) -> Self {
        let mut memory = Self::default();
        for identity in identities.into_iter().rev() {
            if memory.known.insert(identity) {
                memory.order.push_front(identity);
            }
        }
        memory
    }

    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    pub(super) fn knows(&self, identity: Identity) -> bool {
        self.known.contains(&identity)
    }

    /// Adds one that it does not know, and returns the one that leaves the window for it.
    pub(super) fn add(&mut self, identity: Identity, window: u32) -> Option<Identity> {
        self.known.insert(identity);
        self.order.push_back(identity);
        if self.order.len() <= window as usize {
            return None;
        }
        let oldest = self.order.pop_front()?;
        self.known.remove(&oldest);
        Some(oldest)
    }

    /// Undoes the last calls of [`Memory::add`], whose answers these are.
    pub(super) fn take_back(&mut self, answers: Vec<Option<Identity>>) {
        for left in answers.into_iter().rev() {
            let added = self.order.pop_back().expect("it was added, and nothing was forgotten since");
            self.known.remove(&added);
            if let Some(left) = left {
                self.order.push_front(left);
                self.known.insert(left);
            }
        }
    }

    /// Forgets the oldest until no more than `window` are left, and gives the room back.
    pub(super) fn limit(&mut self, window: u32) {
        let window = window as usize;
        while self.order.len() > window {
            let oldest = self.order.pop_front().expect("it is longer than the window");
            self.known.remove(&oldest);
        }
        // A memory at its window grows to twice that, and must not be made smaller each time.
        if self.order.capacity().max(self.known.capacity()) / 4 > window {
            self.order.shrink_to(window);
            self.known.shrink_to(window);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_holds_no_more_than_its_window() {
        let mut memory = Memory::of(vec![1, 2, 3]);
        assert_eq!([memory.add(4, 3), memory.add(5, 3)], [Some(1), Some(2)]);
        assert_eq!(memory.order, [3, 4, 5]);
        assert_eq!((memory.known.len(), memory.knows(2), memory.knows(3)), (3, false, true));
        memory.limit(2);
        assert_eq!((memory.order.clone(), memory.known.len()), (VecDeque::from([4, 5]), 2));
    }

    #[test]
    fn a_window_that_shrinks_gives_its_room_back() {
        let mut memory = Memory::of((0..10_000).collect());
        memory.limit(100);
        let room = memory.known.capacity().max(memory.order.capacity());
        assert!(memory.knows(9_900) && !memory.knows(9_899) && room < 400, "room for {room}");
        memory.limit(0);
        assert_eq!((memory.known.capacity(), memory.order.capacity()), (0, 0));
    }

    #[test]
    fn what_was_added_can_be_taken_back_whatever_it_pushed_out() {
        let mut memory = Memory::of(vec![1, 2]);
        let mut answers = Vec::new();
        for identity in [3, 1, 2, 3, 4, 1] {
            assert!(!memory.knows(identity));
            answers.push(memory.add(identity, 2));
        }
        memory.take_back(answers);
        assert_eq!(memory.order, [1, 2]);
        assert!((1..=4).map(|identity| memory.knows(identity)).eq([true, true, false, false]));
    }

    #[test]
    fn of_an_identity_that_the_file_has_twice_the_later_counts() {
        let mut memory = Memory::of(vec![1, 2, 3, 1]);
        memory.limit(2);
        assert!(memory.knows(1) && memory.knows(3) && !memory.knows(2));
        assert_eq!(memory.known.len(), memory.order.len());
    }
}
