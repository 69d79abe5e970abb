//! Promise 1, and with it 2, 3, 4 and 6: power cuts at every point of one run, and at random points of thousands.
//!
//! `FOREBAY_POWER_CUT_SEEDS=100000` makes the full run; `FOREBAY_POWER_CUT_SEED=<n>` repeats one.

use std::{path::Path, sync::Arc};

use forebay_buffer::{Batch, Buffer, Durability, Event, Numbering, Options, StreamLimits, Timestamp};
use forebay_tests::{
    clock::StillClock,
    random::Random,
    vfs::{Image, PowerCut},
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
    let failures = sweep(Durability::ProcessCrash, SEEDS_TO_FIND_A_LOSS, 5, Runner::random);
    let found = failures.iter().any(|(_, what)| what.contains("is lost"));
    assert!(found, "NORMAL must lose events, or the suite proves nothing: {}", report(&failures));
}

#[test]
fn without_any_sync_a_damaged_file_is_found() {
    let failures = sweep(Durability::None, SEEDS_TO_FIND_A_LOSS, 1, Runner::random);
    assert!(!failures.is_empty(), "OFF must damage a file or lose events, or the suite proves nothing");
}

/// Promise 1, of a position that comes without events: a source keeps in it what it has promised upstream.
#[test]
fn a_position_alone_survives_a_power_cut_once_it_is_acknowledged() {
    let disk = PowerCut::register("forebay-positions");
    let images = |cut| [Image::Nothing, Image::Everything, Image::Prefix(cut), Image::Subset(cut), Image::Torn(cut)];
    let run = |durability, cut, image| {
        disk.wipe();
        disk.cut_after(cut);
        let directory = tempfile::tempdir().expect("a directory for temporary files");
        let (acknowledged, finished) = move_positions(&disk, directory.path(), durability);
        disk.restart(image);
        let found = open(&disk, directory.path(), durability).and_then(|buffer| {
            let found = buffer.partition("line", "0", Numbering::Assigned).map(|partition| partition.position());
            buffer.close();
            found.ok()?
        });
        assert!(found.as_ref().is_none_or(|found| found[0] < POSITIONS), "{found:?} was never handed over");
        (found >= acknowledged, finished)
    };
    let held = |durability, cut| images(cut).map(|image| run(durability, cut, image));
    let mut cut = 0;
    loop {
        let outcomes = held(Durability::PowerLoss, cut);
        assert!(outcomes.iter().all(|(held, _)| *held), "cut at operation {cut}");
        if outcomes.iter().all(|(_, finished)| *finished) {
            break;
        }
        cut += 1;
        assert!(cut < 10_000, "the run never comes to its end");
    }
    let lost = (0..cut).any(|cut| held(Durability::ProcessCrash, cut).iter().any(|(held, _)| !held));
    assert!(lost, "without a sync for each commit a position must be lost, or the test proves nothing");
}

/// Positions that are handed over one after the other.
const POSITIONS: u8 = 6;

fn open(disk: &PowerCut, directory: &Path, durability: Durability) -> Option<Buffer> {
    let mut options = Options::new(directory.join("buffer.db"), Arc::new(StillClock::default()));
    (options.durability, options.vfs) = (durability, Some(disk.name().to_owned()));
    (options.max_bytes, options.min_free_disk) = (Options::MIN_MAX_BYTES, Some(0));
    let buffer = options.open().ok()?;
    buffer.declare_stream("line", StreamLimits::default()).ok()?;
    Some(buffer)
}

/// Events with the first position, then positions alone, and no power at the end. Returns the last that was acknowledged,
/// and whether the power lasted until then.
fn move_positions(disk: &PowerCut, directory: &Path, durability: Durability) -> (Option<Vec<u8>>, bool) {
    let Some(buffer) = open(disk, directory, durability) else {
        disk.cut();
        return (None, false);
    };
    let mut acknowledged = None;
    if let Ok(partition) = buffer.partition("line", "0", Numbering::Assigned) {
        for n in 0..POSITIONS {
            let events = if n == 0 { vec![Event::new(Timestamp(1), "first")] } else { Vec::new() };
            let batch = Batch { events, position: Some(vec![n]), ..Batch::default() };
            let encoded = partition.encode(batch).expect("a batch can be encoded");
            if partition.append(encoded).wait().is_err() {
                break;
            }
            acknowledged = Some(vec![n]);
        }
    }
    let finished = !disk.is_cut();
    disk.cut();
    buffer.close();
    (acknowledged, finished)
}
