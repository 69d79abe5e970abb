//! Which of the changes that were not durable a power cut lets through.

use std::collections::BTreeMap;

use super::disk::{Change, Inode};
use crate::random::Random;

/// What is found on the platter after a power cut, beyond what was synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Image {
    /// Nothing: no sector was written back.
    Nothing,
    /// Everything, as after a plain crash of the process.
    Everything,
    /// Everything up to some moment.
    Prefix(u64),
    /// Any sectors and any names. One sector, one size and one name never go back in time.
    Subset(u64),
    /// A prefix or a subset, and one sector beyond it torn: each of its bytes is old or new.
    Torn(u64),
}

/// What became of one change.
#[derive(Debug, Clone)]
pub(super) enum Fate {
    Lost,
    Kept,
    /// Half-way, by these dice.
    Torn(Random),
}

/// Changes of one place happen in order: a sector, a file's size, a name.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place<'a> {
    Sector(Inode, usize),
    Size(Inode),
    Name(&'a str),
}

impl Image {
    /// One of all of these, by `seed`.
    pub fn seeded(seed: u64) -> Self {
        let mut random = Random::new(seed);
        match random.below(8) {
            0 => Self::Nothing,
            1 => Self::Everything,
            2 | 3 => Self::Prefix(random.bits()),
            4 | 5 => Self::Subset(random.bits()),
            _ => Self::Torn(random.bits()),
        }
    }

    pub(super) fn fates(self, changes: &[&Change], sector_bytes: usize) -> Vec<Fate> {
        match self {
            Self::Nothing => vec![Fate::Lost; changes.len()],
            Self::Everything => vec![Fate::Kept; changes.len()],
            Self::Prefix(seed) => prefix(changes, &mut Random::new(seed)),
            Self::Subset(seed) => subset(changes, sector_bytes, &mut Random::new(seed)),
            Self::Torn(seed) => {
                let mut random = Random::new(seed);
                let mut fates = match random.one_in(2) {
                    true => prefix(changes, &mut random),
                    false => subset(changes, sector_bytes, &mut random),
                };
                tear(changes, sector_bytes, &mut fates, &mut random);
                fates
            }
        }
    }
}

fn prefix(changes: &[&Change], random: &mut Random) -> Vec<Fate> {
    let kept = random.between(0, changes.len() as u64) as usize;
    (0..changes.len()).map(|i| if i < kept { Fate::Kept } else { Fate::Lost }).collect()
}

fn subset(changes: &[&Change], sector_bytes: usize, random: &mut Random) -> Vec<Fate> {
    let mut left: BTreeMap<_, u64> = BTreeMap::new();
    for change in changes {
        *left.entry(place(change, sector_bytes)).or_insert(0) += 1;
    }
    for count in left.values_mut() {
        *count = random.between(0, *count);
    }
    let mut fates = Vec::with_capacity(changes.len());
    for change in changes {
        let count = left.get_mut(&place(change, sector_bytes)).expect("every place was counted");
        fates.push(if *count > 0 { Fate::Kept } else { Fate::Lost });
        *count = count.saturating_sub(1);
    }
    fates
}

/// Tears one of the writes that are the first of their sector to be lost.
fn tear(changes: &[&Change], sector_bytes: usize, fates: &mut [Fate], random: &mut Random) {
    let mut first_lost = BTreeMap::new();
    for (i, change) in changes.iter().enumerate() {
        if matches!((change, &fates[i]), (Change::Write { .. }, Fate::Lost)) {
            first_lost.entry(place(change, sector_bytes)).or_insert(i);
        }
    }
    if !first_lost.is_empty() {
        let nth = random.below(first_lost.len() as u64) as usize;
        let torn = *first_lost.values().nth(nth).expect("nth is below the length");
        fates[torn] = Fate::Torn(random.clone());
    }
}

fn place<'a>(change: &'a Change, sector_bytes: usize) -> Place<'a> {
    match change {
        Change::Link { name, .. } | Change::Unlink { name } => Place::Name(name),
        Change::Resize { inode, .. } => Place::Size(*inode),
        Change::Write { inode, at, .. } => Place::Sector(*inode, at / sector_bytes),
    }
}
