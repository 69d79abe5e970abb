//! Power cuts and kills at every step, and files that are not what they were.

mod power;

use std::{collections::BTreeMap, fs};

use forebay_buffer::{Generation, Numbering, Offset, Tag, Timestamp, clock::Reading};
use proptest::prelude::*;

use self::power::{Aftermath, TestDisk};
use super::*;
use crate::{
    contract::BatchLimits,
    sink::{Format, file::disk::RealDisk},
};

#[derive(Debug)]
struct StoppedClock(std::sync::atomic::AtomicU64);

impl Clock for StoppedClock {
    fn now(&self) -> Reading {
        let since_boot = Duration::from_secs(self.0.load(std::sync::atomic::Ordering::Relaxed));
        Reading { wall: Timestamp(0), since_boot, synchronised: false }
    }
    fn boot_id(&self) -> u128 {
        1
    }
}

fn settings(path: &Path) -> Settings {
    Settings {
        path: path.join("deep/down"),
        name: "out".into(),
        max_file_bytes: 100,
        max_file_age: None,
        keep_files: None,
        compression: Compression::None,
        format: Format::Body,
        batch: BatchLimits { max_events: 10, max_bytes: 1000 },
    }
}

fn partition(name: &str) -> PartitionId {
    PartitionId { stream: "s".into(), renamed_from: None, name: name.into(), numbering: Numbering::Assigned, hub: None }
}

fn checkpoint(offset: i64) -> Checkpoint {
    Checkpoint { generation: Generation(1), tag: Tag(1), offset: Offset(offset) }
}

fn open(settings: &Settings) -> Result<Writer<RealDisk>, SinkError> {
    Writer::open(RealDisk, settings.clone(), Arc::new(StoppedClock(0.into())))
}

/// Events `after + 1` to `through`, each a line of partition, number, and a number of dots that depends on it.
fn part(partition: &str, after: Option<i64>, through: i64) -> Part {
    let mut part = Part::new(after.map(checkpoint), checkpoint(through));
    for offset in after.unwrap_or(0) + 1..=through {
        let dots = ".".repeat((offset * 7 % 31) as usize);
        part.add(checkpoint(offset), |lines| lines.extend(format!("{partition} {offset} {dots}\n").bytes()));
    }
    part
}

/// Every line of every file, in the order of the files.
fn lines(settings: &Settings) -> Vec<String> {
    let mut all = Vec::new();
    for number in numbers(settings).expect("the directory can be read") {
        let plain = settings.path.join(data_name(&settings.name, number, Compression::None));
        let bytes = fs::read(&plain).unwrap_or_else(|_| {
            let compressed = settings.path.join(data_name(&settings.name, number, Compression::Zstd));
            zstd::decode_all(&*fs::read(compressed).expect("one of the two is there")).expect("whole frames")
        });
        all.extend(String::from_utf8(bytes).expect("text").lines().map(str::to_owned));
    }
    all
}

/// Each event once, and in order in its partition.
fn holds(settings: &Settings, partitions: &[(&str, i64)]) -> Result<(), String> {
    let mut found: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for line in lines(settings) {
        let mut words = line.split(' ');
        let (name, offset) = (words.next().unwrap_or_default(), words.next().and_then(|word| word.parse().ok()));
        found.entry(name.to_owned()).or_default().push(offset.ok_or_else(|| format!("not a line of ours: {line:?}"))?);
    }
    let wanted: BTreeMap<String, Vec<i64>> =
        partitions.iter().map(|(name, last)| ((*name).to_owned(), (1..=*last).collect())).collect();
    if found == wanted { Ok(()) } else { Err(format!("found {found:?}")) }
}

/// Delivers as the delivery loop does: asks, goes on from the answer, and is told what is committed. The second value is
/// what each partition was told, whatever the outcome.
fn deliver<D: Disk>(
    disk: D,
    settings: &Settings,
    goal: &[(&str, i64)],
    step: i64,
    told: &mut BTreeMap<String, i64>,
) -> Result<(), SinkError> {
    let mut writer = Writer::open(disk, settings.clone(), Arc::new(StoppedClock(0.into())))?;
    let mut at = Vec::new();
    for (name, _) in goal {
        let found = writer.checkpoint(&partition(name)).map(|checkpoint| checkpoint.offset.0);
        assert!(found >= told.get(*name).copied(), "{name} was told {told:?}, and the files say {found:?}");
        told.extend(found.map(|found| ((*name).to_owned(), found)));
        at.push(found);
    }
    while goal.iter().zip(&at).any(|((_, last), at)| at.unwrap_or(0) < *last) {
        for ((name, last), at) in goal.iter().zip(&mut at) {
            let through = (at.unwrap_or(0) + step).min(*last);
            if at.unwrap_or(0) < through {
                writer.commit(&partition(name), &part(name, *at, through))?;
                told.insert((*name).to_owned(), through);
                *at = Some(through);
            }
        }
    }
    Ok(())
}

const GOAL: [(&str, i64); 2] = [("a", 23), ("b", 17)];

/// Cuts at the step `cut`, restores what the disk kept, delivers the rest, and looks. `None`: there is no such step.
fn survives(settings: Settings, step: i64, cut: usize, aftermath: Aftermath) -> Option<Result<(), String>> {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let settings = Settings { path: directory.path().join("live"), ..settings };
    let disk = TestDisk::cut_at(cut);
    let mut told = BTreeMap::new();
    if deliver(disk.clone(), &settings, &GOAL, step, &mut told).is_ok() {
        return None;
    }
    let settings = Settings { path: directory.path().join("after"), ..settings };
    fs::create_dir(&settings.path).expect("there is room");
    disk.restore(&settings.path, aftermath);
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        deliver(TestDisk::whole(), &settings, &GOAL, step, &mut told).map_err(|error| error.to_string())
    }));
    let outcome = outcome.unwrap_or_else(|_| Err("a checkpoint that was told is gone".to_owned()));
    Some(outcome.and_then(|()| holds(&settings, &GOAL)))
}

/// Promise 3: exactly once, where the destination allows it.
#[test]
fn every_event_is_there_once_after_a_kill_at_any_step() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    for compression in [Compression::None, Compression::Zstd] {
        let settings = Settings { compression, ..settings(directory.path()) };
        let mut steps = 0;
        while let Some(outcome) = survives(settings.clone(), 4, steps, Aftermath::Kill) {
            assert_eq!(outcome, Ok(()), "killed at step {steps}");
            steps += 1;
        }
        assert!(steps > 50, "only {steps} steps were tried");
    }
}

/// Promise 3, and what a device may do with all that was not synced.
#[test]
fn every_event_is_there_once_after_a_power_cut_at_any_step() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let settings = settings(directory.path());
    let mut steps = 0;
    while survives(settings.clone(), 4, steps, Aftermath::Kill).is_some() {
        for seed in 0..6 {
            let outcome = survives(settings.clone(), 4, steps, Aftermath::PowerCut { seed, synced: true });
            assert_eq!(outcome, Some(Ok(())), "cut at step {steps}, seed {seed}");
        }
        steps += 1;
    }
}

/// What a new process finds in the page cache, and answers from, must be durable by then: the buffer deletes what it is
/// told is there.
#[test]
fn an_answer_after_a_kill_survives_a_power_cut() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    for cut in 0..50 {
        for more in [4, 8] {
            let live = Settings { path: directory.path().join(format!("{cut} {more}")), ..settings(directory.path()) };
            let disk = TestDisk::cut_at(cut);
            let mut told = BTreeMap::new();
            deliver(disk.clone(), &live, &GOAL, 4, &mut told).expect_err("it was killed");
            disk.killed_and_cut_after(more);
            let _ = deliver(disk.clone(), &live, &GOAL, 4, &mut told);
            let after = Settings { path: live.path.join("after"), ..live };
            fs::create_dir(&after.path).expect("there is room");
            disk.restore(&after.path, Aftermath::PowerCut { seed: cut as u64, synced: true });
            deliver(TestDisk::whole(), &after, &GOAL, 4, &mut told).expect("there is room");
            assert_eq!(holds(&after, &GOAL), Ok(()), "killed at {cut}, cut {more} later");
        }
    }
}

/// The same, on a disk that forgets what was synced: if nothing were found, the tests above would prove nothing.
#[test]
fn without_syncing_events_are_lost() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let settings = settings(directory.path());
    let lost = (0..60).filter(|cut| {
        let aftermath = Aftermath::PowerCut { seed: *cut as u64, synced: false };
        matches!(survives(settings.clone(), 4, *cut, aftermath), Some(Err(_)))
    });
    assert!(lost.count() > 10);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_limits_and_batches_survive_a_power_cut(
        max_file_bytes in 1u64..2000,
        step in 1i64..30,
        cut in 0usize..120,
        seed in any::<u64>(),
        compressed in any::<bool>(),
    ) {
        let compression = if compressed { Compression::Zstd } else { Compression::None };
        let settings = Settings { max_file_bytes, compression, ..settings(Path::new("")) };
        let outcome = survives(settings, step, cut, Aftermath::PowerCut { seed, synced: true });
        prop_assert!(matches!(outcome, None | Some(Ok(()))), "{:?}", outcome);
    }
}

#[test]
fn files_are_rotated_at_events_and_no_larger_than_allowed() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let settings = settings(directory.path());
    deliver(TestDisk::whole(), &settings, &GOAL, 5, &mut BTreeMap::new()).expect("there is room");
    assert_eq!(holds(&settings, &GOAL), Ok(()));
    let numbers = numbers(&settings).expect("the directory can be read");
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
    for number in numbers {
        let path = settings.path.join(data_name("out", number, Compression::None));
        let bytes = fs::read(path).expect("it is there");
        assert!((1..=100).contains(&bytes.len()) && bytes.ends_with(b"\n"));
    }
}

#[test]
fn an_event_larger_than_a_file_has_one_of_its_own() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let settings = Settings { max_file_bytes: 5, ..settings(directory.path()) };
    deliver(TestDisk::whole(), &settings, &[("a", 3)], 3, &mut BTreeMap::new()).expect("there is room");
    assert_eq!(numbers(&settings).expect("the directory can be read"), [1, 2, 3]);
    assert_eq!(holds(&settings, &[("a", 3)]), Ok(()));
}

#[test]
fn the_oldest_files_go_and_those_of_others_stay() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let settings = Settings { keep_files: Some(2), max_file_bytes: 5, ..settings(directory.path()) };
    fs::create_dir_all(&settings.path).expect("there is room");
    let foreign = settings.path.join("out-00000003.ndjson");
    fs::write(&foreign, "not ours").expect("there is room");
    deliver(TestDisk::whole(), &settings, &[("a", 6)], 6, &mut BTreeMap::new()).expect("there is room");
    assert_eq!(numbers(&settings).expect("the directory can be read"), [3, 8, 9]);
    assert_eq!(fs::read(foreign).expect("it is there"), b"not ours");
}

#[test]
fn a_file_is_rotated_when_it_is_old() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let settings = Settings { max_file_age: Some(Duration::from_secs(60)), ..settings(directory.path()) };
    let clock = Arc::new(StoppedClock(1000.into()));
    let mut writer = Writer::open(RealDisk, settings.clone(), Arc::clone(&clock) as Arc<dyn Clock>).expect("it opens");
    let mut commit = |after: Option<i64>| writer.commit(&partition("a"), &part("a", after, after.unwrap_or(0) + 1));
    commit(None).expect("there is room");
    clock.0.store(1059, std::sync::atomic::Ordering::Relaxed);
    commit(Some(1)).expect("there is room");
    assert_eq!(numbers(&settings).expect("the directory can be read"), [1]);
    clock.0.store(1060, std::sync::atomic::Ordering::Relaxed);
    commit(Some(2)).expect("there is room");
    assert_eq!(numbers(&settings).expect("the directory can be read"), [1, 2]);
}

#[test]
fn another_compression_begins_another_file() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let plain = Settings { max_file_bytes: 10_000, ..settings(directory.path()) };
    let mut told = BTreeMap::new();
    deliver(TestDisk::whole(), &plain, &[("a", 5)], 5, &mut told).expect("there is room");
    let compressed = Settings { compression: Compression::Zstd, ..plain };
    deliver(TestDisk::whole(), &compressed, &[("a", 9)], 5, &mut told).expect("there is room");
    assert_eq!(numbers(&compressed).expect("the directory can be read"), [1, 2]);
    assert_eq!(holds(&compressed, &[("a", 9)]), Ok(()));
}

#[test]
fn a_batch_that_does_not_follow_what_is_there_is_turned_away() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut writer = open(&settings(directory.path())).expect("it opens");
    writer.commit(&partition("a"), &part("a", None, 2)).expect("there is room");
    for after in [None, Some(1)] {
        let outcome = writer.commit(&partition("a"), &part("a", after, 3));
        assert!(matches!(outcome, Err(SinkError::Reconnect(_))), "{outcome:?}");
    }
    assert_eq!(lines(&settings(directory.path())).len(), 2);
}

#[test]
fn a_renamed_stream_goes_on_where_it_was() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let settings = settings(directory.path());
    open(&settings).and_then(|mut writer| writer.commit(&partition("a"), &part("a", None, 2))).expect("there is room");
    let renamed = PartitionId { stream: "t".into(), renamed_from: Some("s".into()), ..partition("a") };
    let mut writer = open(&settings).expect("it opens");
    assert_eq!(writer.checkpoint(&renamed), Some(checkpoint(2)));
    writer.commit(&renamed, &part("a", Some(2), 3)).expect("there is room");
    drop(writer);
    let mut writer = open(&settings).expect("it opens");
    assert_eq!((writer.checkpoint(&partition("a")), writer.checkpoint(&renamed)), (None, Some(checkpoint(3))));
}

#[track_caller]
fn stops(settings: &Settings, words: &str) {
    match open(settings) {
        Err(SinkError::Stop(message)) => assert!(message.contains(words), "{message}"),
        Err(error) => panic!("it would try again: {error}"),
        Ok(_) => panic!("it opens"),
    }
}

#[test]
fn a_file_that_is_not_what_was_written_stops_the_sink_and_is_left_alone() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let settings = Settings { max_file_bytes: 10_000, ..settings(directory.path()) };
    deliver(TestDisk::whole(), &settings, &[("a", 5)], 5, &mut BTreeMap::new()).expect("there is room");
    let path = settings.path.join("out-00000001.ndjson");
    let whole = fs::read(&path).expect("it is there");
    let mut other = whole.clone();
    other[3] ^= 1;
    for bytes in [&whole[..whole.len() - 1], b"", &other, &[other.clone(), vec![b'x'; 100]].concat()] {
        fs::write(&path, bytes).expect("there is room");
        stops(&settings, "out-00000001.ndjson");
        assert_eq!(fs::read(&path).expect("it is there"), bytes);
    }
    fs::write(&path, &whole).expect("there is room");
    deliver(TestDisk::whole(), &settings, &[("a", 9)], 5, &mut BTreeMap::new()).expect("it is whole again");
    assert_eq!(holds(&settings, &[("a", 9)]), Ok(()));
}

#[test]
fn a_file_that_was_taken_away_is_followed_by_another() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let settings = Settings { max_file_bytes: 10_000, ..settings(directory.path()) };
    let mut told = BTreeMap::new();
    deliver(TestDisk::whole(), &settings, &[("a", 5)], 5, &mut told).expect("there is room");
    fs::remove_file(settings.path.join("out-00000001.ndjson")).expect("it is there");
    deliver(TestDisk::whole(), &settings, &[("a", 6)], 5, &mut told).expect("there is room");
    assert_eq!(numbers(&settings).expect("the directory can be read"), [2]);
    assert_eq!(lines(&settings).len(), 1);
}

#[test]
fn a_state_file_of_another_program_stops_the_sink() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let settings = settings(directory.path());
    fs::create_dir_all(&settings.path).expect("there is room");
    fs::write(settings.path.join("out.state"), "a shopping list").expect("there is room");
    stops(&settings, "not a file of forebay");
}

#[test]
fn a_damaged_state_file_stops_the_sink_once_there_are_data_files() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let settings = settings(directory.path());
    deliver(TestDisk::whole(), &settings, &[("a", 1)], 1, &mut BTreeMap::new()).expect("there is room");
    let path = settings.path.join("out.state");
    let mut bytes = fs::read(&path).expect("it is there");
    for page in bytes.chunks_mut(4096) {
        page[30] ^= 1;
    }
    fs::write(&path, bytes).expect("there is room");
    stops(&settings, "is damaged");
}

#[test]
fn a_second_writer_waits_for_the_first() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let first = open(&settings(directory.path())).expect("it opens");
    let second = open(&settings(directory.path())).err();
    assert!(matches!(second, Some(SinkError::Retry { .. })), "{second:?}");
    drop(first);
    assert!(open(&settings(directory.path())).is_ok());
}

#[test]
fn a_directory_that_cannot_be_written_is_tried_again() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    fs::write(directory.path().join("deep"), "a file in the way").expect("there is room");
    assert!(matches!(open(&settings(directory.path())).err(), Some(SinkError::Retry { .. })));
}
