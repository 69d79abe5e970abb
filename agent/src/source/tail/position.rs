//! What is stored with each batch of a file's lines: which file it was, and how far it was read.
//!
//! Positions are JSON with a version, so that an operator can read them and a later version can too.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::file::FileId;

const VERSION: u32 = 1;
/// How many of a file's first bytes tell it from another.
pub(super) const HEAD_BYTES: usize = 256;
/// Finished files that a position remembers.
pub(super) const MAX_FINISHED: usize = 256;
/// The latest of them are remembered whether they can be found or not.
const ALWAYS_FINISHED: usize = 8;

/// A file, recognisable after its inode number has been given to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    pub(super) device: u64,
    pub(super) inode: u64,
    /// How many of its first bytes are in `head_crc`: fewer than [`HEAD_BYTES`] while it is short.
    pub(super) head_bytes: u32,
    /// CRC-32 of them.
    pub(super) head_crc: u32,
}

impl Identity {
    /// Of the file `id` that begins with `head`.
    pub(super) fn new(id: FileId, head: &[u8]) -> Self {
        let head = &head[..head.len().min(HEAD_BYTES)];
        let head_bytes = u32::try_from(head.len()).expect("a head is short");
        Self { device: id.device, inode: id.inode, head_bytes, head_crc: crc32fast::hash(head) }
    }

    /// Whether a file `id` that begins with `head` is this one. Device numbers may change when the machine restarts, so
    /// that the inode number and the first bytes together are enough.
    pub(super) fn is(&self, id: FileId, head: &[u8]) -> bool {
        let length = self.head_bytes as usize;
        let same_number = self.inode == id.inode && (self.device == id.device || length > 0);
        same_number && head.len() >= length && crc32fast::hash(&head[..length]) == self.head_crc
    }
}

/// Forgets the finished files that are not in their folder any more: `inodes` are there.
pub(super) fn forget_gone(finished: &mut Vec<Identity>, inodes: &HashSet<u64>) {
    let mut older = finished.len().saturating_sub(ALWAYS_FINISHED);
    finished.retain(|file| {
        let is_older = older > 0;
        older = older.saturating_sub(1);
        !is_older || inodes.contains(&file.inode)
    });
    finished.drain(..finished.len().saturating_sub(MAX_FINISHED));
}

/// Where to go on reading.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Position {
    #[serde(rename = "v")]
    version: u32,
    #[serde(flatten)]
    pub(super) file: Identity,
    /// The byte after the last line taken.
    pub(super) offset: u64,
    /// Files that were read to their end under this path and can still be found under a name that is followed too:
    /// they must not be read again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) finished: Vec<Identity>,
}

impl Position {
    /// At `offset` of `file`.
    pub(super) fn new(file: Identity, offset: u64, finished: &[Identity]) -> Self {
        let finished = finished[finished.len().saturating_sub(MAX_FINISHED)..].to_vec();
        Self { version: VERSION, file, offset, finished }
    }

    /// As it is stored.
    pub(super) fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("numbers are always JSON")
    }

    /// From what was stored.
    pub(super) fn decode(stored: &[u8]) -> Result<Self, String> {
        let position: Self = serde_json::from_slice(stored).map_err(|error| error.to_string())?;
        if position.version != VERSION {
            return Err(format!("it has version {}, and this agent knows {VERSION}", position.version));
        }
        Ok(position)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: FileId = FileId { device: 1, inode: 2 };

    #[test]
    fn a_position_comes_back_as_it_was_stored() {
        let finished: Vec<_> =
            (0..MAX_FINISHED as u64 + 12).map(|inode| Identity::new(FileId { device: 1, inode }, b"x")).collect();
        let position = Position::new(Identity::new(ID, b"first line"), 11, &finished);
        assert_eq!(position.finished, finished[12..], "only the latest are kept");
        assert_eq!(Position::decode(&position.encode()), Ok(position));
    }

    #[test]
    fn a_finished_file_is_remembered_for_as_long_as_it_is_there() {
        let all: Vec<_> = (0..20).map(|inode| Identity::new(FileId { device: 1, inode }, b"x")).collect();
        let mut finished = all.clone();
        forget_gone(&mut finished, &(0..20).collect());
        assert_eq!(finished, all);
        forget_gone(&mut finished, &HashSet::from([3]));
        assert_eq!(finished, [&all[3..4], &all[12..]].concat());
    }

    #[test]
    fn a_position_of_another_version_is_not_guessed_at() {
        let newer = br#"{"v":2,"device":1,"inode":2,"head_bytes":0,"head_crc":0,"offset":0}"#;
        assert_eq!(Position::decode(newer), Err("it has version 2, and this agent knows 1".to_owned()));
        assert!(Position::decode(b"").is_err());
    }

    #[test]
    fn a_reused_inode_is_recognised_by_its_first_bytes() {
        let identity = Identity::new(ID, b"first line\n");
        assert!(identity.is(ID, b"first line\nand more"));
        assert!(!identity.is(ID, b"another line\n"));
        assert!(!identity.is(ID, b"first"), "it never gets shorter");
        assert!(!identity.is(FileId { inode: 3, ..ID }, b"first line\n"));
        let after_reboot = FileId { device: 7, ..ID };
        assert!(identity.is(after_reboot, b"first line\n"));
        assert!(
            !Identity::new(ID, b"").is(after_reboot, b"first line\n"),
            "nothing but the inode number is too little"
        );
    }

    proptest! {
        #[test]
        fn decoding_never_panics(stored in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Position::decode(&stored);
        }
    }
}
