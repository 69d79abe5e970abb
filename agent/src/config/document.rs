//! The low layer: what the files say, as one tree, every part of it with its place. It knows no key's meaning.
//!
//! The files of `conf.d` add tables to the main one. A table is never put together from two files: `[agent]`, or one
//! source or sink, stands in one place, so that a reader who has found it has found all of it.

use std::{borrow::Cow, collections::BTreeMap};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    files::{Files, Place},
    reading::not_a_table,
    report::{Fault, MAX_SHOWN, Report},
};

/// Tables whose entries, not they themselves, are the unit of merging.
const COLLECTIONS: [&str; 2] = ["sources", "sinks"];

/// A value and its place.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) value: Value,
}

/// A value as TOML has it.
#[derive(Debug)]
pub(super) enum Value {
    Text(String),
    Integer(String),
    Float,
    Boolean(
        #[cfg_attr(
            not(any(feature = "eventhub", feature = "snowpipe")),
            expect(dead_code, reason = "no key of this build is a switch")
        )]
        bool,
    ),
    Time,
    List(Vec<Node>),
    Table(Table),
}

impl Value {
    /// What it is, for an error that says so: `a string`.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "a string",
            Self::Integer(_) => "a number",
            Self::Float => "a number with a fraction",
            Self::Boolean(_) => "a boolean (true or false)",
            Self::Time => "a date or time",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
        }
    }
}

/// Keys and their values.
#[derive(Debug, Default)]
pub(super) struct Table(pub(super) BTreeMap<String, Entry>);

/// A key's value, and where the key stands.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: Place,
    pub(super) node: Node,
}

impl Table {
    /// Where the value of the key at `path` stands; if it is not there, the nearest table that would hold it.
    pub(super) fn place(&self, path: &[&str]) -> Place {
        let mut place = Place::whole(0);
        let mut table = Some(self);
        for key in path {
            let Some(entry) = table.and_then(|table| table.0.get(*key)) else { break };
            (place, table) = match &entry.node.value {
                Value::Table(inner) => (entry.key, Some(inner)),
                _ => (entry.node.place, None),
            };
        }
        place
    }

    /// Whether there is a key at `path`.
    #[cfg(feature = "postgres")]
    pub(super) fn has(&self, path: &[&str]) -> bool {
        let mut entries = self;
        path.iter().enumerate().all(|(nth, key)| match entries.0.get(*key).map(|entry| &entry.node.value) {
            Some(Value::Table(inner)) => {
                entries = inner;
                true
            }
            found => found.is_some() && nth + 1 == path.len(),
        })
    }

    /// Where item `at` of the list at `path` stands.
    pub(super) fn item_place(&self, path: &[&str], at: usize) -> Place {
        let mut table = Some(self);
        let mut node = None;
        for key in path {
            node = table.and_then(|table| table.0.get(*key)).map(|entry| &entry.node);
            table = match node.map(|node| &node.value) {
                Some(Value::Table(inner)) => Some(inner),
                _ => None,
            };
        }
        match node.map(|node| &node.value) {
            Some(Value::List(items)) => items.get(at).map_or_else(|| self.place(path), |item| item.place),
            _ => self.place(path),
        }
    }
}

/// Parses all files and merges them.
pub(super) fn parse(files: &Files, report: &mut Report) -> Table {
    let mut root = Table::default();
    for (index, file) in files.0.iter().enumerate() {
        let (parsed, errors) = DeTable::parse_recoverable(&file.text);
        for (seen, error) in errors.iter().enumerate() {
            let span = error.span().unwrap_or(0..0);
            let place = Place { file: index, start: span.start, end: span.end };
            report.error(match seen < MAX_SHOWN {
                true => syntax_error(files, place, error.message()),
                false => Fault::new(place, "", error.message()),
            });
        }
        if errors.is_empty() {
            merge(&mut root, table(index, parsed.get_ref()), "", files, report);
        }
    }
    root
}

/// What the parser found at `place`. Of two definitions of one thing it names the second; this adds the first.
fn syntax_error(files: &Files, place: Place, message: &str) -> Fault {
    match first_definition(files, place) {
        Some(line) if message.contains("duplicate") => {
            Fault::new(place, "", format!("is defined twice: first on line {line}, and again here"))
        }
        _ => Fault::new(place, "", format!("not valid TOML: {message}")).broken(),
    }
}

/// The line above `place`, in the same table, that begins as the line at `place` does: with the same key, or as the
/// same header.
fn first_definition(files: &Files, place: Place) -> Option<usize> {
    let (number, _) = files.position(place);
    let above: Vec<_> = files.0[place.file].text.lines().take(number).map(definition).collect();
    let (second, above) = above.split_last()?;
    let is_header = |line: &str| line.starts_with('[');
    let table = if is_header(second) { 0 } else { above.iter().rposition(|line| is_header(line)).unwrap_or(0) };
    let first = above[table..].iter().position(|line| line == second && !line.is_empty())?;
    Some(table + first + 1)
}

/// What a line defines: its key, or its whole header.
fn definition(line: &str) -> &str {
    let end = if line.trim_start().starts_with('[') { '#' } else { '=' };
    line.split(end).next().unwrap_or_default().trim()
}

/// Moves the entries of `from` into `into`.
fn merge(into: &mut Table, from: Table, path: &str, files: &Files, report: &mut Report) {
    for (name, entry) in from.0 {
        let collection = path.is_empty() && COLLECTIONS.contains(&name.as_str());
        match into.0.get_mut(&name) {
            None => {
                into.0.insert(name, entry);
            }
            Some(Entry { node: Node { value: Value::Table(held), .. }, .. }) if collection => match entry.node.value {
                Value::Table(added) => merge(held, added, &format!("{name}."), files, report),
                _ => drop(report.error(not_a_table(&entry.node, &format!("{name}.NAME")))),
            },
            Some(held) => {
                let problem = format!("is defined twice: first at {}, and again here", files.show(held.key));
                let help = "keep one of the two; a table is not put together from several files";
                report.error(Fault::new(entry.key, format!("{path}{name}"), problem).help(help));
            }
        }
    }
}

fn table(file: usize, parsed: &DeTable<'_>) -> Table {
    let entry = |(key, value): (&Spanned<Cow<'_, str>>, &Spanned<DeValue<'_>>)| {
        let span = key.span();
        let key_place = Place { file, start: span.start, end: span.end };
        (key.get_ref().to_string(), Entry { key: key_place, node: node(file, value) })
    };
    Table(parsed.iter().map(entry).collect())
}

fn node(file: usize, parsed: &Spanned<DeValue<'_>>) -> Node {
    let span = parsed.span();
    let value = match parsed.get_ref() {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(number) => Value::Integer(number.to_string()),
        DeValue::Float(_) => Value::Float,
        DeValue::Boolean(value) => Value::Boolean(*value),
        DeValue::Datetime(_) => Value::Time,
        DeValue::Array(list) => Value::List(list.iter().map(|item| node(file, item)).collect()),
        DeValue::Table(inner) => Value::Table(table(file, inner)),
    };
    Node { place: Place { file, start: span.start, end: span.end }, value }
}

/// A value as a default is written: it has no place in any file.
pub(super) fn literal(text: &'static str) -> Node {
    let parsed = DeValue::parse(text).expect("a default is valid TOML");
    node(0, &parsed)
}
