//! File systems and block devices: `/proc/self/mounts`, `statvfs(3)` and `/proc/diskstats` (proc_diskstats(5)).
//!
//! Only file systems on a device of this machine are asked (and the root of a container): one whose server is gone
//! would hang, and one in memory says nothing of a disk.

use std::{collections::BTreeSet, io, path::Path};

use rustix::fs::statvfs;
use serde::Serialize;

use super::{number, text};

/// The unit of `/proc/diskstats`, whatever the device's own is.
const SECTOR_BYTES: u64 = 512;
/// More than any gateway has; the rest is left out.
const MAX_ENTRIES: usize = 256;

#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Body {
    filesystems: Vec<FileSystem>,
    devices: Vec<Device>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct FileSystem {
    mount: String,
    device: String,
    #[serde(rename = "type")]
    kind: String,
    total_bytes: u64,
    used_bytes: u64,
    /// What programs without privileges can still get.
    available_bytes: u64,
    total_inodes: u64,
    free_inodes: u64,
}

/// Counters since boot.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Device {
    device: String,
    reads: u64,
    read_bytes: u64,
    writes: u64,
    written_bytes: u64,
    busy_ms: u64,
}

pub(super) fn read(root: &Path) -> io::Result<Body> {
    let mut seen = BTreeSet::new();
    let mounts = text(root, "proc/self/mounts")?;
    let mounts = mounts.lines().filter_map(parse_mount).filter(|mount| seen.insert(mount.device.clone()));
    let filesystems = mounts.take(MAX_ENTRIES).filter_map(|mount| usage(root, mount)).collect();
    // A container may see no devices.
    let devices = text(root, "proc/diskstats").unwrap_or_default();
    let devices: Vec<_> = devices.lines().filter_map(parse_device).take(MAX_ENTRIES).collect();
    Ok(Body { filesystems, devices })
}

#[derive(Debug, PartialEq, Eq)]
struct Mount {
    device: String,
    path: String,
    kind: String,
}

fn parse_mount(line: &str) -> Option<Mount> {
    let mut words = line.split(' ');
    let (device, path, kind) = (unescape(words.next()?), unescape(words.next()?), words.next()?.to_owned());
    let is_local = device.starts_with("/dev/") || (kind == "overlay" && path == "/");
    (is_local && kind != "squashfs").then_some(Mount { device, path, kind })
}

/// Spaces and the like are written as a backslash and three octal digits (fstab(5), getmntent(3)).
fn unescape(word: &str) -> String {
    let mut text = String::with_capacity(word.len());
    let mut rest = word;
    while let Some((before, after)) = rest.split_once('\\') {
        text.push_str(before);
        match after.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                text.push(char::from(byte));
                rest = &after[3..];
            }
            None => {
                text.push('\\');
                rest = after;
            }
        }
    }
    text + rest
}

/// `None` where the mount point cannot be reached.
fn usage(root: &Path, mount: Mount) -> Option<FileSystem> {
    let found = statvfs(root.join(mount.path.trim_start_matches('/'))).ok()?;
    let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
    Some(FileSystem {
        mount: mount.path,
        device: mount.device,
        kind: mount.kind,
        total_bytes: bytes(found.f_blocks),
        used_bytes: bytes(found.f_blocks.saturating_sub(found.f_bfree)),
        available_bytes: bytes(found.f_bavail),
        total_inodes: found.f_files,
        free_inodes: found.f_ffree,
    })
}

/// `None` for a line that cannot be read, and for a device that was never used.
fn parse_device(line: &str) -> Option<Device> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let count = |index: usize| number::<u64>(words.get(index).copied());
    let device = (*words.get(2)?).to_owned();
    let (reads, writes) = (count(3)?, count(7)?);
    let (read_sectors, written_sectors, busy_ms) = (count(5)?, count(9)?, count(12)?);
    let read_bytes = read_sectors.saturating_mul(SECTOR_BYTES);
    let written_bytes = written_sectors.saturating_mul(SECTOR_BYTES);
    (reads > 0 || writes > 0).then_some(Device { device, reads, read_bytes, writes, written_bytes, busy_ms })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_disks_of_this_machine_are_asked() {
        let mount = parse_mount("/dev/sda1 /mnt/my\\040disk ext4 rw,relatime 0 0").expect("a disk");
        assert_eq!((mount.path.as_str(), mount.kind.as_str()), ("/mnt/my disk", "ext4"));
        assert!(parse_mount("overlay / overlay rw 0 0").is_some());
        for line in ["server:/x /mnt nfs4 rw 0 0", "tmpfs /tmp tmpfs rw 0 0", "/dev/loop0 /snap squashfs ro 0 0", ""] {
            assert_eq!(parse_mount(line), None, "{line}");
        }
    }

    #[test]
    fn an_escape_that_is_none_is_kept() {
        assert_eq!(unescape("a\\134b\\9\\"), "a\\b\\9\\");
    }

    #[test]
    fn a_device_is_read_in_bytes_and_an_unused_one_left_out() {
        let line = "254 0 vda 20087 6238 5814962 20187 4641 39805 7152048 17477 0 6084 37967 4108 43 207648 300 55 2";
        let device = parse_device(line).expect("as the kernel writes it");
        assert_eq!((device.reads, device.read_bytes), (20_087, 5_814_962 * 512));
        assert_eq!((device.writes, device.written_bytes, device.busy_ms), (4_641, 7_152_048 * 512, 6_084));
        assert_eq!(parse_device("7 0 loop0 0 0 0 0 0 0 0 0 0 0 0"), None);
    }

    proptest! {
        #[test]
        fn parsing_never_panics(line in "(\\PC|\\\\[0-9]{0,4}| ){0,40}|( ?[0-9]{0,21}){0,20}") {
            let _ = (parse_mount(&line), parse_device(&line));
        }
    }
}
