//! Which paths are followed, and what their partitions are called.

use std::{
    collections::BTreeSet,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use glob::{MatchOptions, Pattern};

/// The longest name of a partition, in bytes.
const MAX_NAME_BYTES: usize = 200;

/// As a shell does it: `*` stops at a slash, and names that begin with a dot are asked for by a dot.
const OPTIONS: MatchOptions =
    MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: true };

/// The patterns of one source.
#[derive(Debug)]
pub(super) struct Patterns {
    include: Vec<Pattern>,
    exclude: Vec<Pattern>,
}

/// What a search of the file system brought.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Every path that is asked for, in order.
    pub(super) paths: BTreeSet<PathBuf>,
    /// The first folder that could not be searched, and why.
    pub(super) trouble: Option<String>,
}

impl Patterns {
    /// Fails with the pattern that cannot be understood.
    pub(super) fn new(include: &[String], exclude: &[String]) -> Result<Self, String> {
        let compile = |pattern: &String| {
            Pattern::new(pattern).map_err(|error| format!("the pattern {pattern:?} cannot be understood: {error}"))
        };
        Ok(Self {
            include: include.iter().map(compile).collect::<Result<_, _>>()?,
            exclude: exclude.iter().map(compile).collect::<Result<_, _>>()?,
        })
    }

    /// Searches the file system. Blocks.
    pub(super) fn search(&self) -> Found {
        let mut found = Found::default();
        for pattern in &self.include {
            let paths = glob::glob_with(pattern.as_str(), OPTIONS).expect("the pattern was compiled before");
            for path in paths {
                match path {
                    Ok(path) if !self.excludes(&path) => drop(found.paths.insert(path)),
                    Ok(_) => {}
                    Err(error) => {
                        let (path, error) = (error.path().display(), error.error());
                        found.trouble.get_or_insert_with(|| format!("cannot search {path}: {error}"));
                    }
                }
            }
        }
        found
    }

    /// Whether `path` is asked for.
    pub(super) fn matches(&self, path: &Path) -> bool {
        self.include.iter().any(|pattern| pattern.matches_path_with(path, OPTIONS)) && !self.excludes(path)
    }

    /// A pattern without a slash is for the name alone.
    fn excludes(&self, path: &Path) -> bool {
        self.exclude.iter().any(|pattern| {
            let subject = if pattern.as_str().contains('/') { Some(path.as_os_str()) } else { path.file_name() };
            subject.is_some_and(|subject| pattern.matches_path_with(Path::new(subject), OPTIONS))
        })
    }
}

/// The name of a path's partition: the path itself, or where that is too long or no text, its end and a hash of all.
pub(super) fn partition_name(path: &Path) -> String {
    let bytes = path.as_os_str().as_bytes();
    if let Some(text) = path.to_str()
        && text.len() <= MAX_NAME_BYTES
    {
        return text.to_owned();
    }
    let hash = format!("#{:016x}", fnv1a(bytes));
    let text = path.to_string_lossy();
    let mut from = (text.len() + hash.len() + "...".len()).saturating_sub(MAX_NAME_BYTES);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    let cut = if from > 0 { "..." } else { "" };
    format!("{cut}{}{hash}", &text[from..])
}

/// FNV-1a: these names are stored, so that the hash must never change.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use std::{ffi::OsStr, fs};

    use super::*;

    #[test]
    fn what_is_included_and_not_excluded_is_found() {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["a.log", "b.log", "a.log.gz", ".hidden.log", "c.txt"] {
            fs::write(folder.path().join(name), "").expect("a write");
        }
        let root = folder.path().display();
        let include = [format!("{root}/*.log"), format!("{root}/*.log*"), format!("{root}/c.txt")];
        let patterns = Patterns::new(&include, &["*.gz".to_owned(), format!("{root}/b*")]).expect("good patterns");
        let found = patterns.search();
        let names: Vec<_> = found.paths.iter().filter_map(|path| path.file_name()?.to_str()).collect();
        assert_eq!(names, ["a.log", "c.txt"]);
        assert!(patterns.matches(&folder.path().join("a.log.1")));
        assert!(!patterns.matches(&folder.path().join("a.log.1.gz")));
    }

    #[test]
    fn a_bad_pattern_is_named() {
        let error = Patterns::new(&["/var/log/[".to_owned()], &[]).expect_err("it is bad");
        assert!(error.contains("\"/var/log/[\""), "{error}");
    }

    #[test]
    fn a_partition_bears_its_path_or_a_short_name_of_its_own() {
        assert_eq!(partition_name(Path::new("/var/log/a.log")), "/var/log/a.log");
        let long = |last: &str| format!("/{}/{last}", "ü".repeat(150));
        let (one, two) = (partition_name(Path::new(&long("a"))), partition_name(Path::new(&long("b"))));
        assert!(one.len() <= MAX_NAME_BYTES && one.starts_with("...ü") && one.contains("/a#"), "{one}");
        assert_ne!(one, two);
        let broken = [b"/a\xff".as_slice(), b"/a\xfe"].map(|path| partition_name(Path::new(OsStr::from_bytes(path))));
        assert_ne!(broken[0], broken[1]);
    }
}
