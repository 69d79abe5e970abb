//! forebay.toml(5).

use forebay::config::{Fallback, KeyReference, TableReference, reference};

use crate::roff::{date, fill, lines, literal, prose};

const PAGE: &str = include_str!("../pages/forebay.toml.5.in");
const EXAMPLE: &str = include_str!("../pages/example.toml");

/// The page.
pub(crate) fn page() -> String {
    let tables = reference();
    let below = |collection: &str| tables_text(tables.iter().filter(|table| table.path.starts_with(collection)));
    let is_general = |table: &&TableReference| !table.path.starts_with("sources.") && !table.path.starts_with("sinks.");
    let filled = fill(
        PAGE,
        &[
            ("VERSION", format!(".Os Forebay {}\n", env!("CARGO_PKG_VERSION"))),
            ("GENERAL", tables_text(tables.iter().filter(is_general))),
            ("SOURCES", below("sources.")),
            ("SINKS", below("sinks.")),
            ("VARIABLES", tables.iter().map(variables).collect()),
            ("EXAMPLE", lines(EXAMPLE)),
        ],
    );
    date() + &filled
}

fn tables_text<'t>(tables: impl Iterator<Item = &'t TableReference>) -> String {
    let mut out = String::new();
    for table in tables {
        let variant = if table.variant.is_empty() { String::new() } else { format!(", type = \"{}\"", table.variant) };
        // The blank of no width tells mandoc(1) that the bracket is no punctuation.
        out += &format!(".Ss {}\\&\n", literal(&format!("[{}]{variant}", table.path)));
        out.push_str(&prose(table.doc));
        out += &format!(".Bl -tag -width Ds\n{}.El\n", table.keys.iter().map(key).collect::<String>());
    }
    out
}

fn key(key: &KeyReference) -> String {
    let required = if matches!(key.fallback, Fallback::Required) { " Pq required" } else { "" };
    let mut out = format!(".It Ic {}{required}\n{}", literal(key.name), prose(key.doc));
    out.push_str(".Pp\n.Bl -tag -width Variable: -compact\n");
    let mut fact = |name: &str, text: &str| out += &format!(".It {name}\n{}", prose(text));
    fact("Value:", &key.expected);
    match key.fallback {
        Fallback::Required => {}
        Fallback::Value(default) => fact("Default:", default),
        Fallback::Otherwise(otherwise) => fact("If unset:", otherwise),
    }
    if let Some(variable) = key.variable {
        fact("Variable:", variable);
    }
    out + ".El\n"
}

fn variables(table: &TableReference) -> String {
    let keys = table.keys.iter().filter_map(|key| key.variable.map(|variable| (variable, key.name)));
    let item = |(variable, key)| {
        format!(".It Ev {}\n{}", literal(variable), prose(&format!("`{key}` of `[{}]`.", table.path)))
    };
    keys.map(item).collect()
}
