use std::{fs, path::Path};

use forebay_buffer::{Generation, Tag};

use super::*;
use crate::sink::file::disk::RealDisk;

fn state(length: u64, partitions: usize) -> State {
    let checkpoint = Checkpoint { generation: Generation(3), tag: Tag(5), offset: Offset(length as i64) };
    State {
        first: 1,
        current: Some(Current {
            number: 4,
            compression: Compression::Zstd,
            length,
            last_write: (7, 8),
            begun: (u128::MAX, 12),
        }),
        checkpoints: (0..partitions).map(|n| (("a \"stream\"".to_owned(), n.to_string()), checkpoint)).collect(),
    }
}

fn open(path: &Path) -> (StateFile, Found) {
    let file = fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).expect("it opens");
    StateFile::read(path.to_owned(), file).expect("it can be read")
}

fn written(path: &Path, states: &[State]) {
    let (mut file, _) = open(path);
    for state in states {
        file.write(&RealDisk, state).expect("there is room");
    }
}

#[test]
fn the_last_state_that_was_written_is_the_one_that_is_found() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("s.state");
    assert_eq!(open(&path).1, Found::Nothing);
    for (length, partitions) in [(1, 1), (2, 300), (3, 0), (4, 40), (5, 300), (6, 301), (7, 1)] {
        written(&path, &[state(length, partitions)]);
        assert_eq!(open(&path).1, Found::State(state(length, partitions)));
    }
}

#[test]
fn a_torn_write_leaves_the_state_before_it() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("s.state");
    for partitions in [1, 60] {
        let _ = fs::remove_file(&path);
        written(&path, &[state(1, 60), state(2, 1), state(3, partitions)]);
        let before = fs::read(&path).expect("it is there");
        written(&path, &[state(4, partitions)]);
        let after = fs::read(&path).expect("it is there");
        for cut in (0..after.len()).step_by(61) {
            let mut torn = before.clone();
            torn.resize(torn.len().max(after.len()), 0);
            torn[..cut].copy_from_slice(&after[..cut]);
            // A new file each time: writing over one makes some filesystems flush it.
            fs::remove_file(&path).expect("it is there");
            fs::write(&path, &torn).expect("there is room");
            let found = open(&path).1;
            assert!(
                [3, 4].map(|length| Found::State(state(length, partitions))).contains(&found),
                "cut at {cut}: {found:?}"
            );
        }
    }
}

#[test]
fn two_places_take_turns() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("s.state");
    written(&path, &(0..100).map(|length| state(length, 1)).collect::<Vec<_>>());
    assert_eq!(fs::metadata(&path).expect("it is there").len(), 2 * PAGE as u64);
}

/// A record that the page cache has and the disk has not must not be all that is left of two.
#[test]
fn after_opening_no_valid_record_is_written_over() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("s.state");
    written(&path, &[state(1, 1), state(2, 1)]);
    written(&path, &[state(3, 1)]);
    let bytes = fs::read(&path).expect("it is there");
    let lengths: Vec<_> = bytes.chunks(PAGE).map(|page| record(page).and_then(|(_, json)| parse(json))).collect();
    assert_eq!(lengths, [1, 2, 3].map(|length| Some(state(length, 1))));
}

#[test]
fn other_files_are_told_apart() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("s.state");
    fs::write(&path, "a shopping list").expect("there is room");
    assert_eq!(open(&path).1, Found::Foreign);
    fs::write(&path, vec![0; 5000]).expect("there is room");
    assert_eq!(open(&path).1, Found::Nothing);
    fs::write(&path, MAGIC).expect("there is room");
    assert_eq!(open(&path).1, Found::Damaged);
    let json = br#"{"first":1,"current":null,"partitions":[],"something":"new"}"#;
    let (length, crc) = ((json.len() as u32).to_le_bytes(), checksum(9, json).to_le_bytes());
    fs::write(&path, [&MAGIC[..], &9u64.to_le_bytes(), &length, &crc, json].concat()).expect("there is room");
    assert_eq!(open(&path).1, Found::Newer);
}
