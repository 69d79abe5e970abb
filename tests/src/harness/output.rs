//! What a file sink wrote.

use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

use memchr::memmem;
use serde::Deserialize;
use serde_json::Value;

/// One line of a file sink's envelope format.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Record {
    /// The stream.
    pub stream: String,
    /// The partition.
    pub partition: String,
    /// The offset.
    pub offset: i64,
    /// RFC 3339, microseconds, UTC.
    pub time: String,
    /// Only if the time was repaired or is not trusted.
    pub time_quality: Option<String>,
    /// The key.
    pub key: Option<Value>,
    /// The headers.
    pub headers: Option<Value>,
    /// The body: a JSON value, or a string.
    pub body: Option<Value>,
}

/// All that one sink wrote, in the order of its files.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Output {
    /// Its records.
    pub records: Vec<Record>,
    /// Files with something after the last whole line: to be expected while the agent runs, and a fault after it ended.
    pub torn: Vec<PathBuf>,
}

/// Reads the files of `sink` in `directory`. None yet is an empty output.
pub fn read_output(directory: &Path, sink: &str) -> Output {
    let mut records = Vec::new();
    let torn = scan(directory, sink, |record| records.push(record));
    Output { records, torn }
}

/// As [`read_output`], but hands the records over one by one: for outputs that do not fit the memory. Returns the torn
/// files.
pub fn scan(directory: &Path, sink: &str, mut each: impl FnMut(Record)) -> Vec<PathBuf> {
    let mut torn = Vec::new();
    for path in files(directory, sink) {
        // A file may be renamed or rotated away between the listing and the reading.
        let Ok((text, whole)) = read(&path) else { continue };
        let end = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        if end < text.len() || !whole {
            torn.push(path.clone());
        }
        for line in text[..end].split_inclusive(|byte| *byte == b'\n') {
            each(serde_json::from_slice(line).unwrap_or_else(|error| {
                panic!("{}: {error} in the line {:?}", path.display(), String::from_utf8_lossy(line))
            }));
        }
    }
    torn
}

/// Whether a file of `sink` holds `text` anywhere.
pub fn contains(directory: &Path, sink: &str, text: &str) -> bool {
    files(directory, sink)
        .iter()
        .any(|path| read(path).is_ok_and(|(bytes, _)| memmem::find(&bytes, text.as_bytes()).is_some()))
}

fn files(directory: &Path, sink: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let paths = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    let mut files: Vec<PathBuf> = paths.filter(|path| is_data(path, sink)).collect();
    files.sort();
    files
}

fn is_data(path: &Path, sink: &str) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.strip_prefix(sink).is_some_and(|rest| rest.starts_with('-') && rest.contains(".ndjson"))
}

/// The file's text, decompressed if need be, and whether it was whole.
fn read(path: &Path) -> io::Result<(Vec<u8>, bool)> {
    let bytes = fs::read(path)?;
    if !path.to_string_lossy().contains(".zst") {
        return Ok((bytes, true));
    }
    let mut text = Vec::new();
    let whole = bytes.is_empty() || zstd::Decoder::new(&bytes[..])?.read_to_end(&mut text).is_ok();
    Ok((text, whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &[u8] = b"{\"stream\":\"s\",\"partition\":\"0\",\"offset\":1,\"time\":\"\",\"body\":1}\n";

    fn output_of(name: &str, bytes: &[u8]) -> (usize, usize) {
        let dir = tempfile::tempdir().expect("a directory can be made");
        fs::write(dir.path().join(name), bytes).expect("a file can be written");
        let output = read_output(dir.path(), "out");
        (output.records.len(), output.torn.len())
    }

    #[test]
    fn whole_lines_are_records_and_the_rest_is_torn() {
        let two = [LINE, LINE].concat();
        assert_eq!(output_of("out-00000001.ndjson", &two), (2, 0));
        assert_eq!(output_of("out-00000001.ndjson", &two[..two.len() - 1]), (1, 1));
        assert_eq!(output_of("other-00000001.ndjson", &two), (0, 0));
        assert_eq!(output_of("out.state", &two), (0, 0));
    }

    #[test]
    fn a_compressed_file_is_read_up_to_where_it_is_torn() {
        let frame = zstd::encode_all(LINE, 1).expect("a line can be compressed");
        let two = [&frame[..], &frame].concat();
        assert_eq!(output_of("out-00000001.ndjson.zst", &two), (2, 0));
        assert_eq!(output_of("out-00000001.ndjson.zst", &two[..two.len() - 2]), (1, 1));
    }
}
