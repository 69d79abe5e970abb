//! The locks that connections of one process take against each other: on the file, and on the slots of its
//! shared memory (<https://sqlite.org/c3ref/io_methods.html>, <https://sqlite.org/walformat.html#wal_locks>).

use std::collections::BTreeMap;

/// One open file.
pub(super) type Holder = u64;

/// SQLite's locking levels of a file, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) enum Level {
    #[default]
    None,
    Shared,
    Reserved,
    Pending,
    Exclusive,
}

/// Another connection is in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Busy;

/// Who holds one file, how far.
#[derive(Debug, Default)]
pub(super) struct FileLocks(BTreeMap<Holder, Level>);

impl FileLocks {
    /// Raises `holder` to `level`. A try for exclusive that meets readers leaves it pending, which keeps new ones out.
    pub(super) fn raise(&mut self, holder: Holder, level: Level) -> Result<(), Busy> {
        let own = self.0.get(&holder).copied().unwrap_or_default();
        if level <= own {
            return Ok(());
        }
        let highest = self.highest_but(holder);
        match level {
            Level::Shared if highest >= Level::Pending => return Err(Busy),
            Level::Reserved | Level::Pending | Level::Exclusive if highest >= Level::Reserved => return Err(Busy),
            Level::Exclusive if highest >= Level::Shared => {
                self.0.insert(holder, Level::Pending);
                return Err(Busy);
            }
            _ => {}
        }
        self.0.insert(holder, level);
        Ok(())
    }

    pub(super) fn lower(&mut self, holder: Holder, level: Level) {
        match level {
            Level::None => {
                self.0.remove(&holder);
            }
            level => {
                self.0.insert(holder, level);
            }
        }
    }

    pub(super) fn is_reserved(&self) -> bool {
        self.0.values().any(|level| *level >= Level::Reserved)
    }

    fn highest_but(&self, holder: Holder) -> Level {
        self.0.iter().filter(|(other, _)| **other != holder).map(|(_, level)| *level).max().unwrap_or_default()
    }
}

/// Who holds the slots of one shared memory, as bit masks.
#[derive(Debug, Default)]
pub(super) struct SlotLocks(BTreeMap<Holder, Slots>);

#[derive(Debug, Default, Clone, Copy)]
struct Slots {
    shared: u32,
    exclusive: u32,
}

impl SlotLocks {
    pub(super) fn lock(&mut self, holder: Holder, mask: u32, exclusive: bool) -> Result<(), Busy> {
        let others = self.0.iter().filter(|(other, _)| **other != holder);
        let in_the_way =
            others.fold(0, |all, (_, slots)| all | slots.exclusive | if exclusive { slots.shared } else { 0 });
        if in_the_way & mask != 0 {
            return Err(Busy);
        }
        let own = self.0.entry(holder).or_default();
        *(if exclusive { &mut own.exclusive } else { &mut own.shared }) |= mask;
        Ok(())
    }

    pub(super) fn unlock(&mut self, holder: Holder, mask: u32) {
        if let Some(slots) = self.0.get_mut(&holder) {
            slots.shared &= !mask;
            slots.exclusive &= !mask;
        }
    }

    pub(super) fn forget(&mut self, holder: Holder) {
        self.0.remove(&holder);
    }
}
