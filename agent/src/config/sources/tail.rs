//! `type = "tail"`.

use std::time::Duration;

use super::FORMAT;
use crate::{
    config::{
        key::{Key, Schema},
        kind::{Choice, Count, Exclusions, Globs, Time},
        reading::Section,
        report::Reported,
    },
    source::tail::{Settings, StartAt},
};

pub(super) static TAIL: Schema = Schema {
    name: "sources.NAME",
    variant: "tail",
    doc: "Lines from files that grow, through rotation by renaming and by copying and truncating.",
    keys: &[&INCLUDE, &EXCLUDE, &FORMAT, &START, &POLL_INTERVAL, &MAX_FILES],
    tables: &[],
};

static INCLUDE: Key<Globs> = Key::required("include", Globs, "The files to read. Each is a partition of its own.");

static EXCLUDE: Key<Exclusions> = Key::with_default(
    "exclude",
    Exclusions,
    "[]",
    "Files among them that are not read. A pattern without \"/\" is one of file names.",
);

static START: Key<Choice<StartAt>> = Key::with_default(
    "start",
    Choice { what: "place to start at", of: &[("beginning", StartAt::Beginning), ("end", StartAt::End)] },
    r#""beginning""#,
    "Where to begin in files that are there at the first start. Files that come later are read from their beginning.",
);

static POLL_INTERVAL: Key<Time> = Key::with_default(
    "poll_interval",
    Time { min: Duration::from_millis(10), max: Duration::from_secs(3_600) },
    r#""1s""#,
    "How often files are looked at.",
);

static MAX_FILES: Key<Count> = Key::with_default(
    "max_files",
    Count { min: 1, max: 10_000 },
    "256",
    "The most files that are read at a time. More than that are left until others are gone, and health says so.",
);

pub(super) fn read(section: &mut Section<'_, '_, '_>, max_event_bytes: usize) -> Result<Settings, Reported> {
    let include = section.value(&INCLUDE);
    let exclude = section.value(&EXCLUDE);
    let format = section.value(&FORMAT);
    let start = section.value(&START);
    let poll_interval = section.value(&POLL_INTERVAL);
    let max_files = section.value(&MAX_FILES);
    Ok(Settings {
        include: include?,
        exclude: exclude?,
        format: format?,
        start: start?,
        poll_interval: poll_interval?,
        max_files: usize::try_from(max_files?).expect("10,000 fit the address space"),
        max_event_bytes,
    })
}
