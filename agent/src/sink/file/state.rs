//! The state file: what of the data files is committed, and how far each partition has come.
//!
//! The file is a row of 4 KiB pages. A record is a header and JSON, begins at a page, and takes as many as it needs:
//!
//! ```text
//! "forebay1"  sequence: u64 LE  length: u32 LE  crc32 of sequence and JSON: u32 LE  JSON
//! ```
//!
//! The valid record with the highest sequence counts. A new one goes to the lowest pages that no record in force
//! occupies, so a torn write never harms what it would replace: in the usual case two places take turns.

use std::{collections::BTreeMap, fs::File, io, ops::Range, path::PathBuf};

use forebay_buffer::{Checkpoint, Offset};
use serde::{Deserialize, Serialize};

use super::{Compression, disk::Disk};

const PAGE: usize = 4096;
const MAGIC: &[u8; 8] = b"forebay1";
const HEADER: usize = 24;

/// What is committed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct State {
    /// The number of the first file that this state was about: older ones are not ours to delete.
    pub(super) first: u64,
    /// The file being written. `None` before the first.
    pub(super) current: Option<Current>,
    /// How far each partition has come, by stream and name.
    pub(super) checkpoints: BTreeMap<(String, String), Checkpoint>,
}

/// The file being written. It may not be there yet if its length is 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Current {
    /// Its number.
    pub(super) number: u64,
    pub(super) compression: Compression,
    /// The committed length, in bytes.
    pub(super) length: u64,
    /// Length and checksum of the last write, which ends at `length`: shows that the file is still the same.
    pub(super) last_write: (u64, u32),
    /// When it was begun: the boot, and microseconds since.
    pub(super) begun: (u128, u64),
}

/// The state file, locked against other processes for as long as it is open.
pub(super) struct StateFile {
    path: PathBuf,
    file: File,
    sequence: u64,
    /// Pages not to be written over.
    in_force: Vec<Range<usize>>,
}

/// What a state file was found to hold.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing yet, or a first record that was never finished.
    Nothing,
    /// A valid record.
    State(State),
    /// Records, none of which is valid.
    Damaged,
    /// A record that this version of the program does not understand.
    Newer,
    /// Something else altogether.
    Foreign,
}

impl StateFile {
    /// Takes over an open and locked file, and says what it holds.
    pub(super) fn read(path: PathBuf, file: File) -> io::Result<(Self, Found)> {
        let bytes = std::fs::read(&path)?;
        let mut newest: Option<(u64, &[u8])> = None;
        let mut in_force = Vec::new();
        let mut page = 0;
        while page * PAGE < bytes.len() {
            let Some((sequence, json)) = record(&bytes[page * PAGE..]) else {
                page += 1;
                continue;
            };
            let pages = page..page + pages_for(json.len());
            page = pages.end;
            in_force.push(pages);
            if newest.is_none_or(|(newest, _)| newest < sequence) {
                newest = Some((sequence, json));
            }
        }
        let found = match newest {
            Some((_, json)) => parse(json).map_or(Found::Newer, Found::State),
            None if bytes.iter().all(|byte| *byte == 0) => Found::Nothing,
            None if bytes.starts_with(MAGIC) => Found::Damaged,
            None => Found::Foreign,
        };
        let sequence = newest.map_or(0, |(sequence, _)| sequence);
        Ok((Self { path, file, sequence, in_force }, found))
    }

    /// Whether it is still the file of its name.
    pub(super) fn is_named(&self, disk: &impl Disk) -> io::Result<bool> {
        disk.is_named(&self.path, &self.file)
    }

    /// Replaces the state. It is durable when this returns; after an error, either may be in force.
    pub(super) fn write(&mut self, disk: &impl Disk, state: &State) -> io::Result<()> {
        let sequence = self.sequence + 1;
        let json = serde_json::to_vec(&Stored::from(state)).map_err(io::Error::other)?;
        let place = self.place(pages_for(json.len()));
        let mut bytes = Vec::with_capacity(place.len() * PAGE);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&sequence.to_le_bytes());
        bytes.extend_from_slice(&u32::try_from(json.len()).map_err(io::Error::other)?.to_le_bytes());
        bytes.extend_from_slice(&checksum(sequence, &json).to_le_bytes());
        bytes.extend_from_slice(&json);
        bytes.resize(place.len() * PAGE, 0);
        disk.write_at(&self.path, &self.file, &bytes, (place.start * PAGE) as u64)?;
        disk.sync(&self.path, &self.file)?;
        self.sequence = sequence;
        self.in_force = vec![place];
        Ok(())
    }

    fn place(&self, pages: usize) -> Range<usize> {
        let mut starts: Vec<_> = self.in_force.iter().map(|held| held.end).collect();
        starts.push(0);
        starts.sort_unstable();
        let free = |start: &usize| self.in_force.iter().all(|held| start + pages <= held.start || *start >= held.end);
        let start = starts.into_iter().find(free).expect("behind the last record in force there is always room");
        start..start + pages
    }
}

fn pages_for(json_bytes: usize) -> usize {
    (HEADER + json_bytes).div_ceil(PAGE)
}

/// The record that `bytes` begin with, if there is a valid one.
fn record(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (header, rest) = bytes.split_at_checked(HEADER)?;
    let (magic, numbers) = header.split_at(MAGIC.len());
    let sequence = u64::from_le_bytes(numbers[..8].try_into().ok()?);
    let length = u32::from_le_bytes(numbers[8..12].try_into().ok()?);
    let crc = u32::from_le_bytes(numbers[12..].try_into().ok()?);
    let json = rest.get(..length as usize)?;
    (magic == MAGIC && crc == checksum(sequence, json)).then_some((sequence, json))
}

fn checksum(sequence: u64, json: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&sequence.to_le_bytes());
    hasher.update(json);
    hasher.finalize()
}

/// [`State`] as it is stored.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    first: u64,
    current: Option<StoredFile>,
    partitions: Vec<StoredPartition>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredFile {
    number: u64,
    compressed: bool,
    length: u64,
    last_write: (u64, u32),
    /// The boot is in hexadecimal, as JSON numbers are not that long.
    begun: (String, u64),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredPartition {
    stream: String,
    partition: String,
    generation: String,
    tag: String,
    offset: i64,
}

impl From<&State> for Stored {
    fn from(state: &State) -> Self {
        Self {
            first: state.first,
            current: state.current.as_ref().map(|current| StoredFile {
                number: current.number,
                compressed: current.compression == Compression::Zstd,
                length: current.length,
                last_write: current.last_write,
                begun: (format!("{:032x}", current.begun.0), current.begun.1),
            }),
            partitions: state
                .checkpoints
                .iter()
                .map(|((stream, partition), checkpoint)| StoredPartition {
                    stream: stream.clone(),
                    partition: partition.clone(),
                    generation: checkpoint.generation.to_string(),
                    tag: checkpoint.tag.to_string(),
                    offset: checkpoint.offset.0,
                })
                .collect(),
        }
    }
}

fn parse(json: &[u8]) -> Option<State> {
    let stored: Stored = serde_json::from_slice(json).ok()?;
    let current = match stored.current {
        None => None,
        Some(file) => Some(Current {
            number: file.number,
            compression: if file.compressed { Compression::Zstd } else { Compression::None },
            length: file.length,
            last_write: file.last_write,
            begun: (u128::from_str_radix(&file.begun.0, 16).ok()?, file.begun.1),
        }),
    };
    let mut checkpoints = BTreeMap::new();
    for StoredPartition { stream, partition, generation, tag, offset } in stored.partitions {
        let (generation, tag) = (generation.parse().ok()?, tag.parse().ok()?);
        checkpoints.insert((stream, partition), Checkpoint { generation, tag, offset: Offset(offset) });
    }
    Some(State { first: stored.first, current, checkpoints })
}

#[cfg(test)]
mod tests;
