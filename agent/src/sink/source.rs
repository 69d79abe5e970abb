//! What a column of a table is filled with.

use std::fmt;

use crate::json_path::JsonPath;

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
}
