//! `[sinks.NAME]`: where events go.

#[cfg(feature = "eventhub")]
mod eventhub;
mod file;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "snowpipe")]
mod snowpipe;
mod stdout;

use forebay_buffer::Start;

#[cfg(not(all(feature = "eventhub", feature = "postgres", feature = "snowpipe")))]
use super::document::Table;
use super::{
    SinkConfig, SinkKind,
    document::{Entry, Value},
    key::{Key, Schema},
    kind::{Choice, Count, Names, Rate, Size},
    reading::{Reader, Section, not_a_table},
    report::Reported,
    sources::RENAMED_FROM,
};
use crate::{contract::BatchLimits, sink::Format};

#[derive(Debug, Clone, Copy)]
enum Type {
    EventHub,
    File,
    Postgres,
    Snowpipe,
    Stdout,
}

/// The tables of all types, as the reference shows them.
pub(super) static SCHEMAS: &[&Schema] = &[
    &COMMON,
    #[cfg(feature = "eventhub")]
    &eventhub::EVENT_HUB,
    &file::FILE,
    #[cfg(feature = "postgres")]
    &postgres::POSTGRES,
    #[cfg(feature = "snowpipe")]
    &snowpipe::SNOWPIPE,
    &stdout::STDOUT,
];

static COMMON: Schema = Schema {
    name: "sinks.NAME",
    variant: "",
    doc: "Where events go. NAME is yours: checkpoints bear it.",
    keys: &[&TYPE, &INPUTS, &START, &MAX_RATE, &MAX_BATCH_EVENTS, &MAX_BATCH_BYTES, &RENAMED_FROM],
    tables: &[],
};

static TYPE: Key<Choice<Type>> = Key::required(
    "type",
    Choice {
        what: "type of sink",
        of: &[
            ("eventhub", Type::EventHub),
            ("file", Type::File),
            ("postgres", Type::Postgres),
            ("snowpipe", Type::Snowpipe),
            ("stdout", Type::Stdout),
        ],
    },
    "What kind of sink it is.",
);

static INPUTS: Key<Names> = Key::required("inputs", Names, "The names of the sources whose events it takes.");

static START: Key<Choice<Start>> = Key::with_default(
    "start",
    Choice { what: "place to start at", of: &[("oldest", Start::Oldest), ("now", Start::Now)] },
    r#""oldest""#,
    "Where a sink that is new begins: with the oldest event in the buffer, or with the next that comes.",
);

static MAX_RATE: Key<Rate> = Key::optional(
    "max_bytes_per_second",
    Rate,
    "as fast as the destination confirms",
    "The most that it sends, counted in bytes of events before compression: leaves room on a thin line for others.",
);

/// A transaction costs a sync and three times the length of the line, and a batch into a hub the length of the line for
/// each of its partitions: so these are larger than batches of lines.
const MAX_REMOTE_BATCH: usize = 10_000;
const MAX_BATCH_LINES: usize = 1_000;

static MAX_BATCH_EVENTS: Key<Count> = Key::optional(
    "max_batch_events",
    Count { min: 1, max: 100_000 },
    "1000, or 10000 into Postgres, Snowflake and event hubs",
    "The most events that are delivered and confirmed together.",
);

static MAX_BATCH_BYTES: Key<Size> = Key::with_default(
    "max_batch_bytes",
    Size { min: 1 << 10, max: 64 << 20 },
    r#""1MiB""#,
    "The most bytes of events that are delivered and confirmed together. A larger event is a batch of its own.",
);

/// A key that sinks of lines share.
static FORMAT: Key<Choice<Format>> = Key::with_default(
    "format",
    Choice { what: "format of lines", of: &[("envelope", Format::Envelope), ("body", Format::Body)] },
    r#""envelope""#,
    "\"envelope\": a JSON object with stream, offset, time, key, headers and body. \"body\": the body alone, as JSON.",
);

/// Reads the sink that `entry` is.
pub(super) fn read(reader: &mut Reader<'_>, name: &str, entry: &Entry) -> Result<SinkConfig, Reported> {
    let path = format!("sinks.{name}");
    let Value::Table(table) = &entry.node.value else {
        return Err(reader.report.error(not_a_table(&entry.node, &path)));
    };
    let kind = Section::peek(reader, &path, entry.key, table, &COMMON).value(&TYPE)?;
    let schema = match kind {
        #[cfg(feature = "eventhub")]
        Type::EventHub => &eventhub::EVENT_HUB,
        #[cfg(not(feature = "eventhub"))]
        Type::EventHub => return Err(lacks(reader, &path, entry, table, "eventhub")),
        Type::File => &file::FILE,
        #[cfg(feature = "postgres")]
        Type::Postgres => &postgres::POSTGRES,
        #[cfg(not(feature = "postgres"))]
        Type::Postgres => return Err(lacks(reader, &path, entry, table, "postgres")),
        #[cfg(feature = "snowpipe")]
        Type::Snowpipe => &snowpipe::SNOWPIPE,
        #[cfg(not(feature = "snowpipe"))]
        Type::Snowpipe => return Err(lacks(reader, &path, entry, table, "snowpipe")),
        Type::Stdout => &stdout::STDOUT,
    };
    let mut section = Section::open(reader, &path, entry.key, table, vec![&COMMON, schema]);
    let inputs = section.value(&INPUTS);
    let start = section.value(&START);
    let max_bytes_per_second = section.given(&MAX_RATE);
    let renamed_from = section.given(&RENAMED_FROM);
    let is_remote = matches!(kind, Type::EventHub | Type::Postgres | Type::Snowpipe);
    let max_events = if is_remote { MAX_REMOTE_BATCH } else { MAX_BATCH_LINES };
    let batch = read_batch(&mut section, max_events);
    let kind = match kind {
        #[cfg(feature = "eventhub")]
        Type::EventHub => eventhub::read(&mut section, batch).map(|settings| SinkKind::EventHub(Box::new(settings))),
        #[cfg(not(feature = "eventhub"))]
        Type::EventHub => unreachable!("it has no schema, and is refused above"),
        Type::File => file::read(&mut section, name, batch).map(SinkKind::File),
        #[cfg(feature = "postgres")]
        Type::Postgres => postgres::read(&mut section, batch).map(|settings| SinkKind::Postgres(Box::new(settings))),
        #[cfg(not(feature = "postgres"))]
        Type::Postgres => unreachable!("it has no schema, and is refused above"),
        #[cfg(feature = "snowpipe")]
        Type::Snowpipe => snowpipe::read(&mut section, batch).map(|settings| SinkKind::Snowpipe(Box::new(settings))),
        #[cfg(not(feature = "snowpipe"))]
        Type::Snowpipe => unreachable!("it has no schema, and is refused above"),
        Type::Stdout => stdout::read(&mut section, batch).map(SinkKind::Stdout),
    };
    Ok(SinkConfig {
        kind: kind?,
        inputs: inputs?,
        start: start?,
        max_bytes_per_second: max_bytes_per_second?,
        renamed_from: renamed_from?,
    })
}

/// Says that this build has no such sink.
#[cfg(not(all(feature = "eventhub", feature = "postgres", feature = "snowpipe")))]
fn lacks(reader: &mut Reader<'_>, path: &str, entry: &Entry, table: &Table, feature: &str) -> Reported {
    let mut section = Section::peek(reader, path, entry.key, table, &COMMON);
    section.error(TYPE.name, "is a type that this build lacks", format!("install one with the feature {feature}"))
}

fn read_batch(section: &mut Section<'_, '_, '_>, max_events: usize) -> Result<BatchLimits, Reported> {
    let (events, bytes) = (section.given(&MAX_BATCH_EVENTS), section.value(&MAX_BATCH_BYTES));
    let fits = |limit| usize::try_from(limit).expect("64 Mi fit the address space");
    Ok(BatchLimits { max_events: events?.map_or(max_events, fits), max_bytes: fits(bytes?) })
}
