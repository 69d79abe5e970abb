//! Where an event stands: offsets, and the lineage that says which offsets may be compared.

use std::fmt;

/// Bits of an assigned offset that count within its epoch.
const COUNTER_BITS: u32 = 40;

/// An event's number in its partition: strictly increasing, gaps allowed.
///
/// From a source whose numbers are stable and shared it is that number. Else the buffer assigns it: the epoch in the
/// high 23 bits, a counter in the low 40, so that whatever is written after a restart is greater than all that ever
/// was, even if the disk lied and the file fell back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offset(pub i64);

impl Offset {
    /// Below every offset: "nothing yet".
    pub const BEFORE_ALL: Self = Self(-1);
    /// The last epoch that fits.
    pub const MAX_EPOCH: u32 = (1 << (63 - COUNTER_BITS)) - 1;

    /// The offset that the buffer assigns as number `counter` of `epoch`.
    pub fn assigned(epoch: u32, counter: u64) -> Self {
        assert!(epoch <= Self::MAX_EPOCH && counter < 1 << COUNTER_BITS, "an assigned offset must fit 23 + 40 bits");
        Self((i64::from(epoch) << COUNTER_BITS) | counter as i64)
    }

    /// The epoch of an assigned offset.
    pub fn epoch(self) -> u32 {
        (self.0.max(0) >> COUNTER_BITS) as u32
    }

    /// The counter of an assigned offset.
    pub fn counter(self) -> u64 {
        (self.0.max(0) & ((1 << COUNTER_BITS) - 1)) as u64
    }
}

/// How a partition's offsets come about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Numbering {
    /// The buffer assigns them.
    Assigned,
    /// The source gives them, and others see the same numbers. They may be compared within one creation of the hub.
    Shared {
        /// The hub's creation time, in microseconds since the Unix epoch.
        created: i64,
    },
}

impl Numbering {
    /// An offset as a person should see it: `epoch.counter` if assigned, the plain number if shared.
    pub fn display(self, offset: Offset) -> impl fmt::Display {
        struct Shown(Numbering, Offset);
        impl fmt::Display for Shown {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self.0 {
                    _ if self.1 == Offset::BEFORE_ALL => f.write_str("-"),
                    Numbering::Assigned => write!(f, "{}.{}", self.1.epoch(), self.1.counter()),
                    Numbering::Shared { .. } => write!(f, "{}", self.1.0),
                }
            }
        }
        Shown(self, offset)
    }
}

/// The random id of one buffer file, until it is adopted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Generation(pub u128);

/// The random id of one writable opening of the file; for shared offsets, the hub's creation time.
///
/// Offsets are never compared without comparing tags first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tag(pub u64);

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl std::str::FromStr for Generation {
    type Err = std::num::ParseIntError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u128::from_str_radix(text, 16).map(Self)
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl std::str::FromStr for Tag {
    type Err = std::num::ParseIntError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u64::from_str_radix(text, 16).map(Self)
    }
}

/// How far a sink has confirmed one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checkpoint {
    /// The file that the events were in.
    pub generation: Generation,
    /// The tag of the epoch that assigned [`Checkpoint::offset`].
    pub tag: Tag,
    /// The last confirmed event.
    pub offset: Offset,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_epoch_is_above_everything_before_it() {
        let last_of_first = Offset::assigned(1, (1 << COUNTER_BITS) - 1);
        let first_of_second = Offset::assigned(2, 0);
        assert!(last_of_first < first_of_second);
        assert_eq!((first_of_second.epoch(), first_of_second.counter()), (2, 0));
        assert!(Offset::assigned(Offset::MAX_EPOCH, (1 << COUNTER_BITS) - 1).0 == i64::MAX);
    }

    #[test]
    fn offsets_are_shown_as_epoch_and_counter() {
        assert_eq!(Numbering::Assigned.display(Offset::assigned(7, 42)).to_string(), "7.42");
        assert_eq!(Numbering::Shared { created: 0 }.display(Offset(42)).to_string(), "42");
    }
}
