//! A full disk is the same as a full buffer: producers are held back, sinks go on, and nothing is lost (Promises 1 and 6).

use forebay_buffer::Durability;
use forebay_tests::workload::{Runner, sweep};

/// Random runs in CI.
const SEEDS: u64 = 300;

#[test]
fn a_full_disk_holds_producers_back_until_sinks_have_made_room() {
    assert_eq!(Runner::new(Durability::PowerLoss).fill_and_drain(), Ok(()));
}

#[test]
fn a_disk_that_fills_and_empties_loses_nothing() {
    let failures = sweep(Durability::PowerLoss, SEEDS, 3, Runner::full_disk);
    assert!(failures.is_empty(), "by seed: {failures:#?}");
}
