//! Where a rotated file went, and what was written after it.
//!
//! Rotation renames `app.log` to `app.log-20261120`, or to a number. Most count up with age: `app.log.1` is the latest,
//! and is `app.log.2` tomorrow. Some count up with time (log4j2 does, unless told otherwise): then the times of the last
//! writes show it. Apart from that no times are looked at: a clock that was wrong for a while has given wrong ones.

use std::{
    collections::HashSet,
    ffi::OsStr,
    fs, io,
    os::unix::fs::DirEntryExt,
    path::{Path, PathBuf},
};

use super::{
    file::{self, FileId},
    position::Identity,
};

/// How often a file is looked for in its folder. One that is renamed meanwhile may be missed, but not each time: it is
/// renamed once in a rotation, and from one to the next there is time for more than this.
pub(super) const LOOKS: usize = 2;

/// What rotation made of a file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Rotated {
    /// The name it has now, in the same folder.
    pub(super) now_at: Option<PathBuf>,
    /// What was rotated away after it, oldest first. What is at the original path is newer than all of these.
    pub(super) newer: Vec<PathBuf>,
    /// Numbers of what is in the folder.
    pub(super) inodes: HashSet<u64>,
}

/// Looks in the folder of `path` for the file `id` that was once there, and for what came between it and the file
/// that is there now.
pub(super) fn trace(path: &Path, id: FileId) -> io::Result<Rotated> {
    let looks = (0..LOOKS).map(|_| trace_once(path, id)).collect::<io::Result<Vec<_>>>()?;
    let inodes = looks.iter().flat_map(|look| &look.inodes).copied().collect();
    let latest = looks.into_iter().rev().find(|look| look.now_at.is_some()).unwrap_or_default();
    Ok(Rotated { inodes, ..latest })
}

fn trace_once(path: &Path, id: FileId) -> io::Result<Rotated> {
    let (Some(folder), Some(base)) = (path.parent(), path.file_name()) else { return Ok(Rotated::default()) };
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let (mut own, mut kin, mut inodes) = (None, Vec::new(), HashSet::new());
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        inodes.insert(entry.ino());
        let rank = Rank::of(base, &entry.file_name());
        // The number in the folder is a hint: it is another file system's where something is mounted.
        if rank.is_none() && entry.ino() != id.inode {
            continue;
        }
        let path = entry.path();
        let Some(look) = file::look(&path)? else { continue };
        inodes.insert(look.id.inode);
        if look.id == id {
            own = Some((path, rank, look.modified));
        } else if let Some(rank) = rank {
            kin.push(Kin { rank, path, modified: look.modified });
        }
    }
    let Some((now_at, rank, modified)) = own else {
        return Ok(Rotated { inodes, ..Rotated::default() });
    };
    let newer = rank.map_or_else(Vec::new, |rank| newer(Kin { rank, path: now_at.clone(), modified }, kin));
    Ok(Rotated { now_at: Some(now_at), newer, inodes })
}

/// A rotated file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Kin {
    rank: Rank,
    path: PathBuf,
    /// Its last write.
    modified: (i64, i64),
}

/// What was rotated away after `own`, oldest first.
fn newer(own: Kin, mut kin: Vec<Kin>) -> Vec<PathBuf> {
    kin.retain(|other| std::mem::discriminant(&other.rank) == std::mem::discriminant(&own.rank));
    kin.push(own.clone());
    kin.sort_by(|a, b| a.rank.cmp(&b.rank));
    let counts_with_age = matches!(own.rank, Rank::Count(_)) && !counts_with_time(&kin);
    if counts_with_age {
        kin.reverse();
    } else if matches!(own.rank, Rank::Count(_)) {
        // Guessed from times, so that the times must agree in each case.
        kin.retain(|other| *other == own || other.modified > own.modified);
    }
    kin.into_iter().skip_while(|other| *other != own).skip(1).map(|other| other.path).collect()
}

/// Whether the higher numbers are the later files, as far as their last writes show.
fn counts_with_time(ascending: &[Kin]) -> bool {
    let later = ascending.windows(2).filter(|two| two[1].modified > two[0].modified).count();
    let earlier = ascending.windows(2).filter(|two| two[1].modified < two[0].modified).count();
    later > earlier
}

/// Looks in the folder of `path` for the file that `identity` describes, under whatever name; else for one with its
/// number under the name of a rotated file, which was truncated, or made anew, before it was rotated.
pub(super) fn find(path: &Path, identity: &Identity) -> io::Result<Option<PathBuf>> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut rewritten = None;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.ino() != identity.inode {
            continue;
        }
        // The inode number alone says nothing of a file with another name.
        if identity.head_bytes == 0 && entry.path() != path && !is_rotated(path, &entry.path()) {
            continue;
        }
        let Some((file, look)) = file::open(&entry.path())? else { continue };
        if identity.is(look.id, &file::head(&file)?) {
            return Ok(Some(entry.path()));
        }
        if path.file_name().and_then(|base| Rank::of(base, &entry.file_name())).is_some() {
            rewritten = Some(entry.path());
        }
    }
    Ok(rewritten)
}

/// The log to which a file belongs, by its name: `a.log` for `a.log.1`, and for itself.
pub(super) fn log(path: &Path) -> PathBuf {
    original(path).unwrap_or_else(|| path.to_owned())
}

/// The path that a file had before it was rotated, by its name.
fn original(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?;
    let bases = name.match_indices(['.', '-', '_']).map(|(at, _)| &name[..at]);
    let base =
        bases.filter(|base| !base.is_empty()).find(|base| Rank::of(OsStr::new(base), OsStr::new(name)).is_some())?;
    Some(path.with_file_name(base))
}

/// Whether `path` is what rotation may have made of `original`, by its name.
pub(super) fn is_rotated(original: &Path, path: &Path) -> bool {
    let (Some(base), Some(name)) = (original.file_name(), path.file_name()) else { return false };
    original.parent() == path.parent() && Rank::of(base, name).is_some()
}

/// What the name of a rotated file adds to the original.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// `.1`, `.2`.
    Count(u32),
    /// `-20261120`, `.2026-11-20T14`: in the order of time.
    Date(String),
}

impl Rank {
    fn of(base: &OsStr, name: &OsStr) -> Option<Self> {
        let added = name.to_str()?.strip_prefix(base.to_str()?)?;
        let stamp = added.strip_prefix(['.', '-', '_'])?;
        let is_stamp = |c: char| c.is_ascii_digit() || matches!(c, '-' | '_' | '.' | ':' | 'T' | 'Z');
        if !stamp.starts_with(|c: char| c.is_ascii_digit()) || !stamp.chars().all(is_stamp) {
            return None;
        }
        match stamp.parse() {
            Ok(count) if stamp.len() < "20261120".len() => Some(Self::Count(count)),
            _ => Some(Self::Date(added.to_owned())),
        }
    }
}

/// Looks again and again while a file is renamed from the one name to the other and back, once in each look.
#[cfg(test)]
pub(super) fn renamed_meanwhile(one: &Path, other: &Path, mut look: impl FnMut()) {
    use std::sync::mpsc::channel;

    std::thread::scope(|scope| {
        let ((begin, begun), (end, ended)) = (channel::<u32>(), channel());
        scope.spawn(move || {
            for round in begun {
                // At another moment each time.
                (0..round).for_each(|_| std::hint::spin_loop());
                let (from, to) = if round % 2 == 0 { (one, other) } else { (other, one) };
                fs::rename(from, to).expect("a rename");
                end.send(()).expect("somebody waits for it");
            }
        });
        for round in 0..4_000 {
            begin.send(round).expect("it is renamed as often as is said");
            look();
            ended.recv().expect("it was renamed");
        }
    });
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn folder_with(names: &[impl AsRef<str>]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        for name in names.iter().map(AsRef::as_ref) {
            fs::write(folder.path().join(name), name).expect("a write");
            set_modified(folder.path(), name, 1_000);
        }
        folder
    }

    fn set_modified(folder: &Path, name: &str, seconds: u64) {
        let file = fs::File::options().write(true).open(folder.join(name)).expect("a file");
        file.set_modified(UNIX_EPOCH + Duration::from_secs(seconds)).expect("a time");
    }

    fn newer_than(folder: &Path, name: &str) -> Vec<String> {
        let id = file::look(&folder.join(name)).expect("no error").expect("a file").id;
        let rotated = trace(&folder.join("a.log"), id).expect("no error");
        assert_eq!(rotated.now_at, Some(folder.join(name)));
        let names = rotated.newer.iter().filter_map(|path| path.file_name()?.to_str());
        names.map(str::to_owned).collect()
    }

    #[test]
    fn what_came_after_a_counted_file_is_found_oldest_first() {
        let folder = folder_with(&["a.log", "a.log.1", "a.log.2", "a.log.10", "a.log.11", "a.log.3.gz", "b.log.1"]);
        assert_eq!(newer_than(folder.path(), "a.log.10"), ["a.log.2", "a.log.1"]);
        assert_eq!(newer_than(folder.path(), "a.log.1"), [] as [&str; 0]);
        assert_eq!(newer_than(folder.path(), "a.log"), [] as [&str; 0]);
    }

    #[test]
    fn numbers_that_grow_with_time_are_known_by_the_last_writes() {
        let folder = folder_with(&["a.log", "a.log.1", "a.log.2", "a.log.3", "a.log.4"]);
        (1..5).for_each(|n| set_modified(folder.path(), &format!("a.log.{n}"), 1_000 + n));
        assert_eq!(newer_than(folder.path(), "a.log.2"), ["a.log.3", "a.log.4"]);
        (1..5).for_each(|n| set_modified(folder.path(), &format!("a.log.{n}"), 1_000 - n));
        assert_eq!(newer_than(folder.path(), "a.log.3"), ["a.log.2", "a.log.1"]);
    }

    #[test]
    fn what_came_after_a_dated_file_is_found_oldest_first() {
        let folder =
            folder_with(&["a.log", "a.log-20261118", "a.log-20261119", "a.log-20261120", "a.log-old", "a.log.1"]);
        assert_eq!(newer_than(folder.path(), "a.log-20261118"), ["a.log-20261119", "a.log-20261120"]);
    }

    #[test]
    fn a_file_that_is_renamed_meanwhile_is_traced() {
        let folder = folder_with(&(1..30).map(|n| format!("a.log.{n}")).collect::<Vec<_>>());
        let id = file::look(&folder.path().join("a.log.1")).expect("no error").expect("a file").id;
        renamed_meanwhile(&folder.path().join("a.log.1"), &folder.path().join("a.log.99"), || {
            let rotated = trace(&folder.path().join("a.log"), id).expect("no error");
            assert!(rotated.now_at.is_some() && rotated.inodes.contains(&id.inode));
        });
    }

    #[test]
    fn a_name_tells_the_log() {
        let log = |name| log(Path::new(name)).display().to_string();
        assert_eq!(log("/v/a.log.1"), "/v/a.log");
        assert_eq!(log("/v/a.log-2026-11-20T14"), "/v/a.log");
        for name in ["/v/a.log", "/v/a.log.1.gz", "/v/.1", "/v/a.log.1st"] {
            assert_eq!(log(name), name);
        }
    }

    #[test]
    fn a_copy_that_somebody_made_is_not_taken_for_a_rotated_file() {
        let folder = folder_with(&["a.log", "a.log.2", "a.log.bak", "a.log~", "a.log.1.bak", "a.log."]);
        assert_eq!(newer_than(folder.path(), "a.log.2"), [] as [&str; 0]);
    }

    #[test]
    fn a_file_is_found_under_any_name_and_not_when_its_inode_was_reused() {
        let folder = folder_with(&["a.log", "moved"]);
        let path = folder.path().join("a.log");
        let id = file::look(&folder.path().join("moved")).expect("no error").expect("a file").id;
        let found = find(&path, &Identity::new(id, b"moved")).expect("no error");
        assert_eq!(found, Some(folder.path().join("moved")));
        assert_eq!(find(&path, &Identity::new(id, b"other")).expect("no error"), None);
        fs::rename(folder.path().join("moved"), folder.path().join("a.log.1")).expect("a rename");
        let found = find(&path, &Identity::new(id, b"other")).expect("no error");
        assert_eq!(found, Some(folder.path().join("a.log.1")), "something else was in it before it was rotated");
    }
}
