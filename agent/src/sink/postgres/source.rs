//! What a column is filled with.

use std::fmt;

use super::types::ColumnType;
use crate::{client::postgres::Identifier, json_path::JsonPath};

/// A part of an event, or of where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The stream's name.
    Stream,
    /// The partition's name.
    Partition,
    /// The offset.
    Offset,
    /// When it happened.
    Time,
    /// The key.
    Key,
    /// All headers, as a JSON object.
    Headers,
    /// One header.
    Header(String),
    /// The body.
    Body,
    /// The target table that the source named.
    Table,
    /// A part of a body that is JSON.
    Path(JsonPath),
}

/// The sources that are words.
const WORDS: [(&str, Source); 8] = [
    ("stream", Source::Stream),
    ("partition", Source::Partition),
    ("offset", Source::Offset),
    ("time", Source::Time),
    ("key", Source::Key),
    ("headers", Source::Headers),
    ("body", Source::Body),
    ("table", Source::Table),
];

impl Source {
    /// Reads one as the config has it.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.starts_with('$') {
            return JsonPath::parse(text).map(Self::Path).map_err(|problem| format!("is no path: it {problem}"));
        }
        if let Some(name) = text.strip_prefix("headers.").filter(|name| !name.is_empty()) {
            return Ok(Self::Header(name.to_owned()));
        }
        WORDS.iter().find(|(word, _)| *word == text).map(|(_, source)| source.clone()).ok_or_else(|| {
            let words = WORDS.map(|(word, _)| word).join(", ");
            format!("is none of {words}, headers.NAME, or a path such as $.device.id")
        })
    }

    /// The type that `setup` gives a column filled with it. A part of a body may be anything, and `jsonb` takes all of it;
    /// a column of another type, made by hand, gets it converted.
    pub fn default_type(&self) -> &'static str {
        match self {
            Self::Stream | Self::Partition => "text NOT NULL",
            Self::Offset => "bigint NOT NULL",
            Self::Time => "timestamptz NOT NULL",
            Self::Key | Self::Table | Self::Header(_) => "text",
            Self::Headers | Self::Body | Self::Path(_) => "jsonb",
        }
    }

    /// Whether it can go into a column of such a type at all. Of what may be anything, each value is converted or
    /// refused.
    pub(super) fn fits(&self, column: ColumnType) -> bool {
        use ColumnType as T;
        let is_text = matches!(column, T::Text | T::Name | T::Json | T::Jsonb);
        match self {
            Self::Stream | Self::Table | Self::Headers => is_text,
            Self::Partition => is_text || matches!(column, T::Int2 | T::Int4 | T::Int8),
            Self::Offset => is_text || matches!(column, T::Int8 | T::Numeric),
            Self::Time => is_text || matches!(column, T::Timestamptz | T::Timestamp | T::Date | T::Time),
            Self::Key | Self::Header(_) | Self::Body | Self::Path(_) => true,
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(name) => write!(f, "headers.{name}"),
            Self::Path(path) => path.fmt(f),
            word => f.write_str(WORDS.iter().find(|(_, source)| source == word).map_or("", |(word, _)| word)),
        }
    }
}

/// A column, and what it is filled with.
pub type Mapping = Vec<(Identifier, Source)>;

/// What is filled where the config does not say.
pub fn default_mapping() -> Mapping {
    let sources =
        [Source::Stream, Source::Partition, Source::Offset, Source::Time, Source::Key, Source::Headers, Source::Body];
    let name = |source: &Source| Identifier::new(source.to_string()).expect("a word is a name");
    sources.into_iter().map(|source| (name(&source), source)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_read_as_it_is_shown() {
        for text in
            ["stream", "partition", "offset", "time", "key", "headers", "headers.x.y", "body", "table", "$.a[0]"]
        {
            assert_eq!(Source::parse(text).expect(text).to_string(), text);
        }
    }

    #[test]
    fn what_is_no_source_is_refused() {
        for text in ["", "header", "headers.", "Time", "$.a..b", "a.b"] {
            assert!(Source::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_time_does_not_go_into_an_integer_nor_an_offset_where_it_would_not_fit() {
        assert!(!Source::Time.fits(ColumnType::Int8));
        assert!(!Source::Offset.fits(ColumnType::Int4));
        assert!(Source::Offset.fits(ColumnType::Int8));
        assert!(Source::Path(JsonPath::parse("$.a").expect("a path")).fits(ColumnType::Uuid));
    }
}
