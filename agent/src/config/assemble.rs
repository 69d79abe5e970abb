//! From files to a [`Config`]: parses them, reads every part, checks the parts against each other.

use std::{collections::BTreeMap, path::PathBuf};

use super::{
    Config, Environment, Invalid, Loaded, SourceConfig, agent,
    buffer::{self, equal_share},
    check::{self, Parts},
    control,
    document::{self, Entry, Table, Value},
    files::{Files, Place, Unreadable},
    key::{Kind, Schema, alternatives, nearest},
    kind::Name,
    reading::{EMPTY, Reader, Section, not_a_table},
    report::{Fault, Findings, Report, Reported},
    sinks, sources,
};

/// The tables of the top level.
const TABLES: [&str; 6] = ["agent", "buffer", "control", "observe", "sources", "sinks"];

/// No configuration has more sources, nor more sinks.
const MAX_ENTRIES: usize = 1_000;

/// The names of sources and sinks.
const NAME: Name = Name { dots: false };

/// What to assume of the largest event, for finding more errors, where `[buffer]` has one.
const ASSUMED_MAX_EVENT_BYTES: usize = 1 << 20;

/// Parses, reads and checks `files`. `look` comes last, for what takes a look at the files that they name.
pub(super) fn assemble(
    files: Files,
    unreadable: Vec<Unreadable>,
    base: PathBuf,
    environment: &Environment,
    look: impl FnOnce(&Config, &Table, &mut Report),
) -> Result<Loaded, Invalid> {
    let mut reader = Reader { files: &files, environment, base, report: Report::default() };
    for file in unreadable {
        reader.report.unreadable(file);
    }
    let root = document::parse(&files, &mut reader.report);
    // What is missing from a file that cannot be read or parsed would be reported again, as something else.
    let config = if reader.report.has_errors() { None } else { read(&root, &mut reader).ok() };
    if let Some(config) = &config {
        look(config, &root, &mut reader.report);
    }
    let Findings { errors, warnings, left_out } = reader.report.finish(&files);
    match config {
        Some(config) if errors.is_empty() => Ok(Loaded { config, warnings }),
        _ => Err(Invalid { errors, warnings, left_out }),
    }
}

/// Reads every part first, so that all that is wrong is reported.
fn read(root: &Table, reader: &mut Reader<'_>) -> Result<Config, Reported> {
    refuse_unknown_tables(root, reader);
    let agent = section(root, reader, &agent::AGENT).and_then(agent::read);
    let data_dir = agent.as_ref().ok().map(|agent| agent.data_dir.clone());
    let buffer = section(root, reader, &buffer::BUFFER).and_then(|section| buffer::read(section, data_dir));
    let observe = section(root, reader, &agent::OBSERVE).and_then(agent::read_observe);
    let max_event_bytes = buffer.as_ref().map_or(ASSUMED_MAX_EVENT_BYTES, |(buffer, _)| buffer.max_event_bytes);
    let (sources, all_sources) =
        entries(root, reader, "sources", |reader, name, entry| sources::read(reader, name, entry, max_event_bytes));
    let (sinks, all_sinks) = entries(root, reader, "sinks", sinks::read);
    let control =
        section(root, reader, &control::CONTROL).and_then(|section| control::read(section, &sinks, all_sinks.is_ok()));
    let parts = Parts {
        root,
        agent: agent.as_ref().ok(),
        buffer: buffer.as_ref().ok().map(|(buffer, _)| buffer),
        control: control.as_ref().ok(),
        observe: observe.as_ref().ok().copied().flatten(),
        sources: &sources,
        sinks: &sinks,
    };
    check::check(&parts, reader);
    all_sources.and(all_sinks)?;
    let (buffer, defaults) = buffer?;
    let share = equal_share(buffer.max_bytes, sources.values().map(|source| &source.quota));
    let with_limits = |(name, source): (String, sources::Source)| {
        let limits = source.quota.limits(share, defaults);
        (name, SourceConfig { kind: source.kind, limits, renamed_from: source.renamed_from })
    };
    let sources = sources.into_iter().map(with_limits).collect();
    Ok(Config { agent: agent?, buffer, control: control?, observe: observe?, sources, sinks })
}

fn refuse_unknown_tables(root: &Table, reader: &mut Reader<'_>) {
    for (name, entry) in root.0.iter().filter(|(name, _)| !TABLES.contains(&name.as_str())) {
        let help = nearest(name, TABLES.into_iter()).map(|near| format!("did you mean [{near}]?")).unwrap_or_default();
        let fault = Fault::new(entry.key, name, "is not a table of the configuration").help(help).masked();
        reader.report.error(fault.expected(alternatives(TABLES.into_iter())));
    }
}

/// The table of the top level that `schema` describes; an empty one if it is not there.
fn section<'r, 'e, 't>(
    root: &'t Table,
    reader: &'r mut Reader<'e>,
    schema: &'static Schema,
) -> Result<Section<'r, 'e, 't>, Reported> {
    match root.0.get(schema.name) {
        None => Ok(Section::open(reader, schema.name, root.place(&[]), &EMPTY, vec![schema])),
        Some(Entry { key, node }) => match &node.value {
            Value::Table(table) => Ok(Section::open(reader, schema.name, *key, table, vec![schema])),
            _ => Err(reader.report.error(not_a_table(node, schema.name))),
        },
    }
}

/// Reads the entries of `[sources]` or `[sinks]`: those that are right, and whether all are.
fn entries<T>(
    root: &Table,
    reader: &mut Reader<'_>,
    collection: &'static str,
    mut read: impl FnMut(&mut Reader<'_>, &str, &Entry) -> Result<T, Reported>,
) -> (BTreeMap<String, T>, Result<(), Reported>) {
    let (mut right, mut all) = (BTreeMap::new(), Ok(()));
    let table = match root.0.get(collection).map(|entry| &entry.node) {
        None => &EMPTY,
        Some(node) => match &node.value {
            Value::Table(table) => table,
            _ => return (right, Err(reader.report.error(not_a_table(node, &format!("{collection}.NAME"))))),
        },
    };
    if table.0.is_empty() {
        return (right, Err(reader.report.error(nothing_configured(collection))));
    }
    if table.0.len() > MAX_ENTRIES {
        let fault = Fault::new(root.place(&[collection]), collection, format!("are more than {MAX_ENTRIES}"));
        return (right, Err(reader.report.error(fault)));
    }
    for (name, entry) in &table.0 {
        let named = if NAME.allows(name) {
            Ok(())
        } else {
            let fault =
                Fault::new(entry.key, format!("{collection}.{name}"), "is not a name").expected(NAME.expected());
            Err(reader.report.error(fault))
        };
        match read(reader, name, entry) {
            Ok(part) => drop(right.insert(name.clone(), part)),
            Err(reported) => all = Err(reported),
        }
        all = all.and(named);
    }
    (right, all)
}

fn nothing_configured(collection: &'static str) -> Fault {
    let whole = Place::whole(0);
    match collection {
        "sources" => Fault::new(whole, collection, "are missing: there is nothing to take events from")
            .help("add one, such as [sources.host] with type = \"host\""),
        _ => Fault::new(whole, collection, "are missing: events would fill the buffer and never leave it")
            .help("add one, such as [sinks.files] with type = \"file\", inputs and path"),
    }
}
