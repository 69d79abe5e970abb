//! Names of things in the database, and texts, as they may stand in a statement: always quoted.

use std::fmt;

/// The server cuts longer names off (`NAMEDATALEN - 1`), which would name something else.
const MAX_BYTES: usize = 63;

/// The name of a schema, a table or a column, as the server has it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identifier(String);

impl Identifier {
    /// The name exactly as it is, capitals included. The error says what is wrong with it.
    pub fn new(name: impl Into<String>) -> Result<Self, String> {
        let name = name.into();
        match () {
            () if name.is_empty() => Err("is empty".to_owned()),
            () if name.contains('\0') => Err("has a NUL character".to_owned()),
            () if name.len() > MAX_BYTES => Err(format!("is longer than {MAX_BYTES} bytes: {name:?}")),
            () => Ok(Self(name)),
        }
    }

    /// Reads a name as it is written in SQL: lower case unless it stands in double quotes.
    pub fn parse(text: &str) -> Result<Self, String> {
        match split(text)?.as_mut_slice() {
            [name] => Ok(std::mem::replace(name, Self(String::new()))),
            _ => Err(format!("has more than one part: put a name that has a dot in it in double quotes: {text:?}")),
        }
    }

    /// The bare name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Identifier {
    /// As it stands in a statement: quoted.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.replace('"', "\"\""))
    }
}

/// The name of a table, with its schema.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TableName {
    /// The schema.
    pub schema: Identifier,
    /// The table.
    pub table: Identifier,
}

impl TableName {
    /// Reads `table` or `schema.table`, each in lower case unless it stands in double quotes. Without a schema it is
    /// `public`: what the server's `search_path` says is not asked, for it may differ from one connection to the next.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = split(text)?.into_iter();
        match (parts.next(), parts.next(), parts.next()) {
            (Some(table), None, None) => Ok(Self { schema: Identifier("public".to_owned()), table }),
            (Some(schema), Some(table), None) => Ok(Self { schema, table }),
            _ => Err(format!("has more parts than a schema and a table: {text:?}")),
        }
    }

    /// The same with bare names and a dot: for a `regclass` literal, `'"a"."b"'::regclass`.
    pub fn literal(&self) -> String {
        escaped(&self.to_string())
    }
}

impl fmt::Display for TableName {
    /// As it stands in a statement: quoted.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.table)
    }
}

/// The parts of a dotted name.
fn split(text: &str) -> Result<Vec<Identifier>, String> {
    let mut parts = Vec::new();
    let mut rest = text.trim();
    loop {
        let name;
        (name, rest) = match rest.strip_prefix('"') {
            Some(quoted) => read_quoted(quoted).ok_or_else(|| format!("has a quote that is not closed: {text:?}"))?,
            None => read_bare(rest, text)?,
        };
        parts.push(Identifier::new(name)?);
        match rest.strip_prefix('.') {
            Some(more) => rest = more,
            None if rest.is_empty() => return Ok(parts),
            None => return Err(format!("has more behind a name than a dot: {text:?}")),
        }
    }
}

/// The name up to the closing quote, and what follows it. Two quotes are one of the name.
fn read_quoted(text: &str) -> Option<(String, &str)> {
    let mut name = String::new();
    let mut rest = text;
    loop {
        let (before, after) = rest.split_once('"')?;
        name.push_str(before);
        match after.strip_prefix('"') {
            Some(more) => {
                name.push('"');
                rest = more;
            }
            None => return Some((name, after)),
        }
    }
}

/// The name up to the next dot, in lower case: of ASCII letters only, as a server with UTF-8 has it.
fn read_bare<'t>(rest: &'t str, text: &str) -> Result<(String, &'t str), String> {
    let (name, rest) = rest.split_at(rest.find(['.', '"']).unwrap_or(rest.len()));
    let begins = |c: char| c.is_alphabetic() || c == '_' || !c.is_ascii();
    let goes_on = |c: char| begins(c) || c.is_ascii_digit() || c == '$';
    if name.is_empty() {
        return Err(format!("lacks a name: {text:?}"));
    }
    if !name.starts_with(begins) || !name.chars().all(goes_on) {
        return Err(format!("is not a name: put it in double quotes if it is meant: {text:?}"));
    }
    Ok((name.to_ascii_lowercase(), rest))
}

/// `text` as a literal in a statement, whatever the server's `standard_conforming_strings` is: as libpq's
/// `PQescapeLiteral` writes it. A text with U+0000 has no such form.
pub fn quote_literal(text: &str) -> Result<String, String> {
    if text.contains('\0') {
        return Err(format!("has a NUL character, which no text in Postgres can have: {text:?}"));
    }
    Ok(escaped(text))
}

/// As [`quote_literal`], for texts that are checked elsewhere: a NUL stays in it, and the statement with it is refused
/// before it is sent.
pub(super) fn escaped(text: &str) -> String {
    let doubled = text.replace('\'', "''");
    if text.contains('\\') { format!(" E'{}'", doubled.replace('\\', "\\\\")) } else { format!("'{doubled}'") }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn table(text: &str) -> Result<String, String> {
        TableName::parse(text).map(|name| name.to_string())
    }

    #[test]
    fn a_name_is_lower_case_unless_it_is_quoted_and_printed_in_quotes() {
        assert_eq!(table("Telemetry").unwrap(), r#""public"."telemetry""#);
        assert_eq!(table("Plant.Telemetry").unwrap(), r#""plant"."telemetry""#);
        assert_eq!(table(r#"plant."Tele.metry""#).unwrap(), r#""plant"."Tele.metry""#);
        assert_eq!(table(r#""a""b".c"#).unwrap(), r#""a""b"."c""#);
        assert_eq!(table("größe_1$").unwrap(), r#""public"."größe_1$""#);
        assert_eq!(Identifier::parse("\"Offset\"").unwrap().as_str(), "Offset");
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for text in ["", ".", "a.", ".a", "a.b.c", "a b", "1a", "\"a", "\"a\"b", "a;drop", "a-b", "\"\"", "a\0"] {
            assert!(TableName::parse(text).is_err(), "{text:?}");
        }
        assert!(Identifier::parse("a.b").is_err());
        assert!(TableName::parse(&"a".repeat(63)).is_ok());
        assert!(TableName::parse(&"a".repeat(64)).is_err());
    }

    #[test]
    fn a_literal_cannot_be_left() {
        assert_eq!(quote_literal("it's").unwrap(), "'it''s'");
        assert_eq!(quote_literal(r"a\' or 1=1 --").unwrap(), r" E'a\\'' or 1=1 --'");
        assert!(quote_literal("a\0").is_err());
    }

    proptest! {
        #[test]
        fn whatever_is_quoted_is_read_again(name in "[^\0]{1,15}") {
            let name = Identifier::new(name).expect("short and not empty");
            prop_assert_eq!(Identifier::parse(&name.to_string()), Ok(name));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "[a-zA-Z.\" é1$]{0,12}") {
            let _ = TableName::parse(&text);
        }
    }
}
