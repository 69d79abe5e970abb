//! What a column is filled with, and what columns can take it.

use super::types::ColumnType;
use crate::{client::postgres::Identifier, sink::source::Source};

/// Columns, and what each is filled with.
pub type Mapping = Vec<(Identifier, Source)>;

/// What is filled where the config does not say.
pub fn default_mapping() -> Mapping {
    let sources =
        [Source::Stream, Source::Partition, Source::Offset, Source::Time, Source::Key, Source::Headers, Source::Body];
    let name = |source: &Source| Identifier::new(source.to_string()).expect("a word is a name");
    sources.into_iter().map(|source| (name(&source), source)).collect()
}

/// The type that `setup` gives a column filled with `source`. A part of a body may be anything, and `jsonb` takes all of
/// it; a column of another type, made by hand, gets it converted.
pub(super) fn default_type(source: &Source) -> &'static str {
    match source {
        Source::Stream | Source::Partition => "text NOT NULL",
        Source::Offset => "bigint NOT NULL",
        Source::Time => "timestamptz NOT NULL",
        Source::Key | Source::Table | Source::Header(_) => "text",
        Source::Headers | Source::Body | Source::Path(_) => "jsonb",
    }
}

/// Whether `source` can go into a column of such a type at all. Of what may be anything, each value is converted or
/// refused.
pub(super) fn fits(source: &Source, column: ColumnType) -> bool {
    use ColumnType as T;
    let is_text = matches!(column, T::Text | T::Name | T::Json | T::Jsonb);
    match source {
        Source::Stream | Source::Table | Source::Headers => is_text,
        Source::Partition => is_text || matches!(column, T::Int2 | T::Int4 | T::Int8),
        Source::Offset => is_text || matches!(column, T::Int8 | T::Numeric),
        Source::Time => is_text || matches!(column, T::Timestamptz | T::Timestamp | T::Date | T::Time),
        Source::Key | Source::Header(_) | Source::Body | Source::Path(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json_path::JsonPath;

    #[test]
    fn a_time_does_not_go_into_an_integer_nor_an_offset_where_it_would_not_fit() {
        assert!(!fits(&Source::Time, ColumnType::Int8));
        assert!(!fits(&Source::Offset, ColumnType::Int4));
        assert!(fits(&Source::Offset, ColumnType::Int8));
        assert!(fits(&Source::Path(JsonPath::parse("$.a").expect("a path")), ColumnType::Uuid));
    }
}
