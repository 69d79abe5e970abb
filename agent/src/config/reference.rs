//! The reference of all keys, from their definitions: for the manual page and for `check --print-reference`.

use std::fmt::Write;

use super::{
    agent::{AGENT, OBSERVE},
    buffer::BUFFER,
    control::CONTROL,
    key::{Described, Fallback, Schema},
    sinks, sources,
};

/// Every table of the top level, in the order of the reference.
fn schemas() -> impl Iterator<Item = &'static Schema> {
    [&AGENT, &BUFFER, &CONTROL, &OBSERVE]
        .into_iter()
        .chain(sources::SCHEMAS.iter().copied())
        .chain(sinks::SCHEMAS.iter().copied())
}

/// Whether any table has a key of this name.
pub(super) fn is_known(name: &str) -> bool {
    fn has(schema: &Schema, name: &str) -> bool {
        schema.names().any(|known| known == name) || schema.tables.iter().any(|inner| has(inner, name))
    }
    schemas().any(|schema| has(schema, name))
}

/// The environment variables that override keys.
pub(super) fn overrides() -> impl Iterator<Item = &'static str> {
    schemas().flat_map(|schema| schema.keys).filter_map(|key| key.variable())
}

/// Every table and every key, as Markdown.
pub fn reference() -> String {
    let mut out = String::from(INTRODUCTION);
    for schema in schemas() {
        table(&mut out, schema, schema.name);
    }
    out
}

const INTRODUCTION: &str = r#"# forebay.toml

`/etc/forebay/forebay.toml`, and the `conf.d/*.toml` beside it in the order of their names. Each table stands in one
file only.

A size, a time or a rate is a text with its unit: `"2GiB"`, `"64 KiB"`, `"1MB"`; `"250ms"`, `"10s"`, `"1h30m"`, `"7d"`;
`"1MiB/s"`.

In every text, `${NAME}` stands for the environment variable NAME, which must be set; `$${` stands for `${`.
A relative path begins at the directory of the main file.
"#;

fn table(out: &mut String, schema: &Schema, path: &str) {
    let variant = if schema.variant.is_empty() { String::new() } else { format!(", type = \"{}\"", schema.variant) };
    push(out, format_args!("\n## [{path}]{variant}\n\n{}\n", schema.doc));
    for key in schema.keys {
        line(out, *key);
    }
    for inner in schema.tables {
        table(out, inner, &format!("{path}.{}", inner.name));
    }
}

fn line(out: &mut String, key: &dyn Described) {
    let fallback = match key.fallback() {
        Fallback::Required => "Required.".to_owned(),
        Fallback::Value(default) => format!("Default: `{default}`."),
        Fallback::Otherwise(otherwise) => format!("Without it: {otherwise}."),
    };
    let variable = key.variable().map(|name| format!(" The environment variable {name} overrides the file."));
    let (name, doc, expected) = (key.name(), key.doc(), key.expected());
    let variable = variable.unwrap_or_default();
    push(out, format_args!("\n### {name}\n\n{doc}\n\nValue: {expected}. {fallback}{variable}\n"));
}

fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("writing to a string does not fail");
}
