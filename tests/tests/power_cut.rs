//! Promise 1, and with it 2, 3, 4 and 6: power cuts at every point of one run, and at random points of thousands.
//!
//! `FOREBAY_POWER_CUT_SEEDS=100000` makes the full run; `FOREBAY_POWER_CUT_SEED=<n>` repeats one.

use forebay_buffer::Durability;
use forebay_tests::{
    random::Random,
    vfs::Image,
    workload::{Runner, plan, sweep},
};

/// Random runs in CI.
const SEEDS: u64 = 2_000;
/// Runs on a failing disk in CI.
const FAILING_SEEDS: u64 = 500;
/// Runs in which a missing sync must have been found.
const SEEDS_TO_FIND_A_LOSS: u64 = 300;

/// A number from the environment of the test.
fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

fn report(failures: &[(u64, String)]) -> String {
    let lines = failures.iter().map(|(seed, what)| format!("FOREBAY_POWER_CUT_SEED={seed} repeats this: {what}"));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn no_cut_point_of_a_run_breaks_a_promise() {
    let steps = plan(&mut Random::new(2), 40);
    let operations = Runner::new(Durability::PowerLoss).operations(&steps).expect("without a cut all goes well");
    assert!(operations > 300, "a run of {operations} operations has too few cut points");
    let images = |cut| [Image::Nothing, Image::Everything, Image::Prefix(cut), Image::Subset(cut), Image::Torn(cut)];
    let failures = sweep(Durability::PowerLoss, operations, 3, |runner, cut| {
        images(cut).into_iter().try_for_each(|image| {
            runner.fixed(&steps, cut, image).map_err(|what| format!("cut at operation {cut}, {image:?}: {what}"))
        })
    });
    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
fn an_acknowledged_event_survives_a_power_cut() {
    if let Some(seed) = from_environment("FOREBAY_POWER_CUT_SEED") {
        let verdict = Runner::new(Durability::PowerLoss).random(seed);
        assert_eq!(verdict, Ok(()), "seed {seed}");
        return;
    }
    let seeds = from_environment("FOREBAY_POWER_CUT_SEEDS").unwrap_or(SEEDS);
    let failures = sweep(Durability::PowerLoss, seeds, 3, Runner::random);
    assert!(failures.is_empty(), "{}", report(&failures));
}

#[test]
fn an_acknowledged_event_survives_a_failed_write_or_sync() {
    let failures = sweep(Durability::PowerLoss, FAILING_SEEDS, 3, Runner::failing);
    assert!(failures.is_empty(), "by seed: {failures:#?}");
}

#[test]
fn without_a_sync_for_each_commit_acknowledged_events_are_found_lost() {
    let failures = sweep(Durability::ProcessCrash, SEEDS_TO_FIND_A_LOSS, 1, Runner::random);
    let found = failures.iter().any(|(_, what)| what.contains("is lost"));
    assert!(found, "NORMAL must lose events, or the suite proves nothing: {}", report(&failures));
}

#[test]
fn without_any_sync_a_damaged_file_is_found() {
    let failures = sweep(Durability::None, SEEDS_TO_FIND_A_LOSS, 1, Runner::random);
    assert!(!failures.is_empty(), "OFF must damage a file or lose events, or the suite proves nothing");
}
