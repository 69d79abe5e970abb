//! The types of columns, as far as they can be filled.

/// How a column's values go over the line, in binary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ColumnType {
    Bool,
    Int2,
    Int4,
    Int8,
    Float4,
    Float8,
    Numeric,
    /// Text, `varchar`, `char(n)`, `citext`, and the labels of an enum: the server checks lengths and labels.
    Text,
    /// A text that the server does not cut off, but fails at.
    Name,
    Json,
    Jsonb,
    Bytea,
    Timestamptz,
    Timestamp,
    Date,
    Time,
    Uuid,
}

/// What was found in the catalogue of a column's type, below any domains over it.
#[derive(Debug, Clone, Copy)]
pub(super) struct CatalogueType<'a> {
    /// `pg_type.oid`.
    pub(super) oid: u32,
    /// `pg_type.typtype`: `b` base, `e` enum, `c` composite and so on.
    pub(super) kind: &'a str,
    /// `pg_type.typname`.
    pub(super) name: &'a str,
}

impl ColumnType {
    /// Of a type in the catalogue, if its values can be written. The numbers of built-in types are fixed
    /// (`src/include/catalog/pg_type.dat`); those of extensions are not, so `citext` goes by its name.
    pub(super) fn of(found: CatalogueType<'_>) -> Option<Self> {
        Some(match found.oid {
            16 => Self::Bool,
            17 => Self::Bytea,
            19 => Self::Name,
            20 => Self::Int8,
            21 => Self::Int2,
            23 => Self::Int4,
            25 | 1042 | 1043 => Self::Text,
            114 => Self::Json,
            700 => Self::Float4,
            701 => Self::Float8,
            1082 => Self::Date,
            1083 => Self::Time,
            1114 => Self::Timestamp,
            1184 => Self::Timestamptz,
            1700 => Self::Numeric,
            2950 => Self::Uuid,
            3802 => Self::Jsonb,
            _ if found.kind == "e" || (found.kind == "b" && found.name == "citext") => Self::Text,
            _ => return None,
        })
    }

    /// Whether values can be told apart by the server, as those of a key must be.
    pub(super) fn can_be_key(self) -> bool {
        !matches!(self, Self::Json)
    }
}
