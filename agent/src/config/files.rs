//! The files of a configuration: the main one and its `conf.d`, and where in them something stands.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

/// No configuration file is longer.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// No `conf.d` holds more files.
const MAX_FILES: usize = 1_000;

/// A stretch of one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// Which of [`Files`].
    pub(super) file: usize,
    /// The first byte.
    pub(super) start: usize,
    /// After the last byte.
    pub(super) end: usize,
}

impl Place {
    /// A file as a whole, for what is not in it.
    pub(super) fn whole(file: usize) -> Self {
        Self { file, start: 0, end: 0 }
    }
}

/// One file as it was read.
#[derive(Debug)]
pub(super) struct SourceFile {
    /// As the operator named it.
    pub(super) path: PathBuf,
    /// What is in it. Empty if it could not be read.
    pub(super) text: String,
}

/// The files, the main one first.
#[derive(Debug, Default)]
pub(super) struct Files(pub(super) Vec<SourceFile>);

/// A file that cannot be read as text, and why.
#[derive(Debug)]
pub(super) struct Unreadable {
    pub(super) path: PathBuf,
    pub(super) problem: String,
    pub(super) help: String,
}

impl Files {
    /// Reads `main` and the `conf.d/*.toml` beside it, in the order of their names.
    pub(super) fn read(main: &Path) -> (Self, Vec<Unreadable>) {
        let (mut files, mut unreadable) = (Self::default(), Vec::new());
        let mut take = |path: PathBuf| match read_text(&path) {
            Ok(text) => files.0.push(SourceFile { path, text }),
            Err((problem, help)) => unreadable.push(Unreadable { path, problem, help: help.to_owned() }),
        };
        take(main.to_owned());
        let directory = main.with_file_name("conf.d");
        match list(&directory) {
            Ok(paths) => paths.into_iter().for_each(take),
            Err(problem) => {
                let help = "make the directory readable for the user that forebay runs as".into();
                unreadable.push(Unreadable { path: directory, problem, help });
            }
        }
        (files, unreadable)
    }

    /// `path:line:column` of where `place` begins.
    pub(super) fn show(&self, place: Place) -> String {
        let (line, column) = self.position(place);
        format!("{}:{line}:{column}", self.0[place.file].path.display())
    }

    /// Line and column of where `place` begins, both from 1, the column in characters.
    pub(super) fn position(&self, place: Place) -> (usize, usize) {
        let before = &self.0[place.file].text[..self.floor(place.file, place.start)];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }

    /// The text at `place`, as the operator wrote it.
    pub(super) fn text(&self, place: Place) -> &str {
        let (start, end) = (self.floor(place.file, place.start), self.floor(place.file, place.end));
        &self.0[place.file].text[start..end.max(start)]
    }

    /// The nearest boundary of a character at or before `index`.
    fn floor(&self, file: usize, index: usize) -> usize {
        let text = &self.0[file].text;
        (0..=index.min(text.len())).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0)
    }
}

fn list(directory: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|error| format!("cannot be listed: {error}"))?,
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| format!("cannot be listed: {error}"))?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden && path.extension().is_some_and(|extension| extension == "toml") {
            paths.push(path);
        }
    }
    if paths.len() > MAX_FILES {
        return Err(format!("holds {} files, more than the {MAX_FILES} that are read", paths.len()));
    }
    paths.sort();
    Ok(paths)
}

fn read_text(path: &Path) -> Result<String, Problem> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes));
    read.map_err(|error| {
        let help = "name another with --config, or make it readable for the user that forebay runs as";
        (format!("cannot be read: {error}"), help)
    })?;
    decode(bytes)
}

/// What is wrong with a file, and what to do.
type Problem = (String, &'static str);

/// The text that `bytes` are, if they can be a configuration.
pub(super) fn decode(bytes: Vec<u8>) -> Result<String, Problem> {
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err((format!("is longer than {MAX_FILE_BYTES} bytes"), "name a file that is a configuration"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = valid.iter().filter(|byte| **byte == b'\n').count() + 1;
        (format!("is not UTF-8 text: the first other byte is on line {line}"), "save it as UTF-8")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Files {
        Files(vec![SourceFile { path: "a.toml".into(), text: text.to_owned() }])
    }

    #[test]
    fn positions_count_lines_and_characters_from_one() {
        let files = one("a = 1\nö = \"x\"\n");
        let at = |start| Place { file: 0, start, end: start + 1 };
        assert_eq!(files.position(at(0)), (1, 1));
        assert_eq!(files.position(at(11)), (2, 5), "two bytes of ö are one column");
        assert_eq!(files.position(at(1_000)), (3, 1), "behind the end is the end");
        assert_eq!(files.show(at(6)), "a.toml:2:1");
    }

    #[test]
    fn the_longest_file_is_read_and_one_byte_more_is_not() {
        let limit = usize::try_from(MAX_FILE_BYTES).expect("1 MiB fits");
        assert!(decode(vec![b'#'; limit]).is_ok());
        assert!(decode(vec![b'#'; limit + 1]).unwrap_err().0.contains("longer"));
    }

    #[test]
    fn bytes_that_are_no_text_are_named_by_line() {
        assert!(decode(b"a = 1\n\xff".to_vec()).unwrap_err().0.contains("line 2"));
    }

    #[test]
    fn conf_d_is_read_in_the_order_of_names_without_hidden_files() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let conf_d = directory.path().join("conf.d");
        std::fs::create_dir(&conf_d).expect("an empty directory takes another");
        for name in ["20-b.toml", "10-a.toml", ".hidden.toml", "notes.txt"] {
            std::fs::write(conf_d.join(name), "").expect("the directory is writable");
        }
        let main = directory.path().join("forebay.toml");
        std::fs::write(&main, "").expect("the directory is writable");
        let (files, unreadable) = Files::read(&main);
        assert!(unreadable.is_empty());
        let names: Vec<_> = files.0.iter().filter_map(|file| file.path.file_name()?.to_str()).collect();
        assert_eq!(names, ["forebay.toml", "10-a.toml", "20-b.toml"]);
    }
}
