//! What a run does, drawn from its seed.

use std::time::Duration;

use super::oracle::{HUB, LANES, RING, SINKS};
use crate::random::Random;

/// One append: so many events, and what comes with them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Append {
    /// The partition's number; the ring is the last.
    pub lane: usize,
    /// Seeds of the events: each gives its size and its bytes.
    pub events: Vec<u64>,
    /// Whether intake refuses something of the batch, which becomes a dead letter.
    pub refuses_one: bool,
    /// Whether a source position comes with it.
    pub has_position: bool,
}

/// How far a delivery gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// The destination commits nothing.
    Nothing,
    /// It commits the first half.
    Half,
    /// It commits everything.
    All,
}

/// One step of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Append, and wait for the receipt.
    Append(Append),
    /// Append several, and wait for all receipts: they may share a commit.
    Group(Vec<Append>),
    /// Append so many single events together, small segments all: enough of them are merged.
    Trickle {
        /// The partition's number.
        lane: usize,
        /// How many.
        count: u64,
    },
    /// Read for a sink, let its destination commit, and confirm.
    Deliver {
        /// The sink's number.
        sink: usize,
        /// The partition's number, modulo those known by then.
        lane: usize,
        /// So many events at the most.
        max_events: usize,
        /// How far the destination gets.
        reach: Reach,
        /// Whether the destination refuses an event, which is dead-lettered before anything passes it.
        refuses_one: bool,
    },
    /// Retry so many dead letters of sinks.
    Retry(usize),
    /// Discard so many dead letters.
    Discard(usize),
    /// Let the clock go on.
    Wait(Duration),
    /// Close and open again.
    Reopen,
}

/// The steps of a run. The same seed gives the same steps.
pub fn plan(random: &mut Random, length: u64) -> Vec<Step> {
    (0..length).map(|_| step(random)).collect()
}

fn step(random: &mut Random) -> Step {
    match random.below(20) {
        0..8 => Step::Append(append(random, LANES.len())),
        8..10 => {
            // Not in the ring: which of several unanswered appends has dropped which could not be told apart.
            let lanes = LANES.iter().position(|lane| lane.stream == RING).expect("there is a ring");
            Step::Group((0..random.between(2, 5)).map(|_| append(random, lanes)).collect())
        }
        10..17 => Step::Deliver {
            sink: random.below(SINKS.len() as u64) as usize,
            lane: random.below(60) as usize,
            max_events: random.between(1, 20) as usize,
            reach: [Reach::Nothing, Reach::Half, Reach::All, Reach::All][random.below(4) as usize],
            refuses_one: random.one_in(5),
        },
        17 => match random.below(3) {
            0 => Step::Discard(random.between(1, 2) as usize),
            _ => Step::Retry(random.between(1, 2) as usize),
        },
        18 => Step::Wait(Duration::from_millis(random.between(1, 5_000))),
        _ if random.one_in(2) => Step::Reopen,
        _ if random.one_in(3) => Step::Trickle { lane: random.below(2) as usize, count: random.between(250, 300) },
        _ => Step::Append(append(random, LANES.len())),
    }
}

fn append(random: &mut Random, lanes: usize) -> Append {
    let lane = random.below(lanes as u64) as usize;
    Append {
        lane,
        events: (0..random.between(1, 5)).map(|_| random.bits()).collect(),
        refuses_one: random.one_in(12),
        has_position: LANES[lane].stream == HUB || random.one_in(3),
    }
}
