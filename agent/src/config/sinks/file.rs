//! `type = "file"`.

use std::time::Duration;

use super::FORMAT;
use crate::{
    config::{
        key::{Key, Schema},
        kind::{Choice, Count, FilePath, Size, Time},
        reading::Section,
        report::Reported,
    },
    contract::BatchLimits,
    sink::file::{Compression, Settings},
};

pub(super) static FILE: Schema = Schema {
    name: "sinks.NAME",
    variant: "file",
    doc: "Files of lines, each event exactly once, through crashes too.",
    keys: &[&PATH, &MAX_FILE_BYTES, &MAX_FILE_AGE, &KEEP_FILES, &COMPRESSION, &FORMAT],
    tables: &[],
};

static PATH: Key<FilePath> =
    Key::required("path", FilePath, "The directory that the files are in. It is made if it is not there.");

static MAX_FILE_BYTES: Key<Size> = Key::with_default(
    "max_file_bytes",
    Size { min: 4 << 10, max: 1 << 40 },
    r#""64MiB""#,
    "No file grows larger: another is begun. A single event that is larger has a file of its own.",
);

static MAX_FILE_AGE: Key<Time> = Key::optional(
    "max_file_age",
    Time { min: Duration::from_secs(1), max: Duration::from_secs(366 * 86_400) },
    "only its size finishes a file",
    "An event that comes later than this after a file was begun finishes it, and begins another.",
);

static KEEP_FILES: Key<Count> = Key::optional(
    "keep_files",
    Count { min: 1, max: 1_000_000 },
    "no file is ever deleted",
    "How many files are kept, the one being written included. The oldest beyond that are deleted.",
);

static COMPRESSION: Key<Choice<Compression>> = Key::with_default(
    "compression",
    Choice { what: "compression", of: &[("none", Compression::None), ("zstd", Compression::Zstd)] },
    r#""none""#,
    "How files are compressed.",
);

pub(super) fn read(
    section: &mut Section<'_, '_, '_>,
    name: &str,
    batch: Result<BatchLimits, Reported>,
) -> Result<Settings, Reported> {
    let path = section.value(&PATH);
    let max_file_bytes = section.value(&MAX_FILE_BYTES);
    let max_file_age = section.given(&MAX_FILE_AGE);
    let keep_files = section.given(&KEEP_FILES);
    let compression = section.value(&COMPRESSION);
    let format = section.value(&FORMAT);
    Ok(Settings {
        path: path?,
        name: name.to_owned(),
        max_file_bytes: max_file_bytes?,
        max_file_age: max_file_age?,
        keep_files: keep_files?.map(|files| u32::try_from(files).expect("a million fits")),
        compression: compression?,
        format: format?,
        batch: batch?,
    })
}
