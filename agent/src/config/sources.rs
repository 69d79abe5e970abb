//! `[sources.NAME]`: where events come from.

#[cfg(feature = "eventhub")]
mod eventhub;
mod host;
mod http;
#[cfg(feature = "mqtt")]
mod mqtt;
mod stdin;
mod tail;

#[cfg(not(all(feature = "eventhub", feature = "mqtt")))]
use super::document::Table;
use super::{
    SourceKind,
    buffer::{self, Quota},
    document::{Entry, Value},
    key::{Key, Schema},
    kind::{Choice, Name},
    reading::{Reader, Section, not_a_table},
    report::Reported,
};
use crate::source::LineFormat;

/// One source, but for its share of the buffer, which depends on the others.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) kind: SourceKind,
    pub(super) quota: Quota,
    pub(super) renamed_from: Option<String>,
}

#[derive(Debug, Clone, Copy)]
enum Type {
    EventHub,
    Host,
    Http,
    Mqtt,
    Stdin,
    Tail,
}

/// The tables of all types, as the reference shows them.
pub(super) static SCHEMAS: &[&Schema] = &[
    &COMMON,
    #[cfg(feature = "eventhub")]
    &eventhub::EVENT_HUB,
    &host::HOST,
    &http::HTTP,
    #[cfg(feature = "mqtt")]
    &mqtt::MQTT,
    &stdin::STDIN,
    &tail::TAIL,
];

static COMMON: Schema = Schema {
    name: "sources.NAME",
    variant: "",
    doc: "Where events come from. NAME is yours: it names the stream, in sinks' inputs, in metrics and on disk.",
    keys: &[&TYPE, &RENAMED_FROM],
    tables: &[&buffer::STREAM],
};

static TYPE: Key<Choice<Type>> = Key::required(
    "type",
    Choice {
        what: "type of source",
        of: &[
            ("eventhub", Type::EventHub),
            ("host", Type::Host),
            ("http", Type::Http),
            ("mqtt", Type::Mqtt),
            ("stdin", Type::Stdin),
            ("tail", Type::Tail),
        ],
    },
    "What kind of source it is.",
);

pub(super) static RENAMED_FROM: Key<Name> = Key::optional(
    "renamed_from",
    Name { dots: false },
    "it has always had its name",
    "What it was called before, so that what is in the buffer under that name is taken over.",
);

/// A key that sources of lines share.
static FORMAT: Key<Choice<LineFormat>> = Key::with_default(
    "format",
    Choice { what: "format of lines", of: &[("lines", LineFormat::Lines), ("ndjson", LineFormat::Ndjson)] },
    r#""lines""#,
    "\"lines\": each line is an event. \"ndjson\": each line must be a JSON value; one that is none becomes a dead \
     letter.",
);

/// Reads the source that `entry` is.
pub(super) fn read(
    reader: &mut Reader<'_>,
    name: &str,
    entry: &Entry,
    max_event_bytes: usize,
) -> Result<Source, Reported> {
    let path = format!("sources.{name}");
    let Value::Table(table) = &entry.node.value else {
        return Err(reader.report.error(not_a_table(&entry.node, &path)));
    };
    let kind = Section::peek(reader, &path, entry.key, table, &COMMON).value(&TYPE)?;
    let schema = match kind {
        #[cfg(feature = "eventhub")]
        Type::EventHub => &eventhub::EVENT_HUB,
        #[cfg(not(feature = "eventhub"))]
        Type::EventHub => return Err(lacks(reader, &path, entry, table, "eventhub")),
        Type::Host => &host::HOST,
        Type::Http => &http::HTTP,
        #[cfg(feature = "mqtt")]
        Type::Mqtt => &mqtt::MQTT,
        #[cfg(not(feature = "mqtt"))]
        Type::Mqtt => return Err(lacks(reader, &path, entry, table, "mqtt")),
        Type::Stdin => &stdin::STDIN,
        Type::Tail => &tail::TAIL,
    };
    let mut section = Section::open(reader, &path, entry.key, table, vec![&COMMON, schema]);
    let renamed_from = section.given(&RENAMED_FROM);
    let quota = section.table(&buffer::STREAM).and_then(|quota| quota.map(buffer::read_quota).transpose());
    let kind = match kind {
        #[cfg(feature = "eventhub")]
        Type::EventHub => eventhub::read(&mut section).map(|settings| SourceKind::EventHub(Box::new(settings))),
        #[cfg(not(feature = "eventhub"))]
        Type::EventHub => unreachable!("it has no schema, and is refused above"),
        Type::Host => host::read(&mut section).map(SourceKind::Host),
        Type::Http => http::read(&mut section, max_event_bytes).map(SourceKind::Http),
        #[cfg(feature = "mqtt")]
        Type::Mqtt => mqtt::read(&mut section, max_event_bytes).map(|settings| SourceKind::Mqtt(Box::new(settings))),
        #[cfg(not(feature = "mqtt"))]
        Type::Mqtt => unreachable!("it has no schema, and is refused above"),
        Type::Stdin => stdin::read(&mut section, max_event_bytes).map(SourceKind::Stdin),
        Type::Tail => tail::read(&mut section, max_event_bytes).map(SourceKind::Tail),
    };
    Ok(Source { kind: kind?, quota: quota?.unwrap_or_default(), renamed_from: renamed_from? })
}

/// Says that this build has no such source.
#[cfg(not(all(feature = "eventhub", feature = "mqtt")))]
fn lacks(reader: &mut Reader<'_>, path: &str, entry: &Entry, table: &Table, feature: &str) -> Reported {
    let mut section = Section::peek(reader, path, entry.key, table, &COMMON);
    section.error(TYPE.name, "is a type that this build lacks", format!("install one with the feature {feature}"))
}
