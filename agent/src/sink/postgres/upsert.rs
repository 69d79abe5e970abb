//! Statements that put rows in, or in the place of those that have the same key.
//!
//! The rows of a batch are copied into a temporary table that goes with the transaction, and from there into the target.
//! Of several rows with one key the last wins: that is left to the server (`DISTINCT ON`), for only it knows what is
//! equal. `numeric` 1.0 and 1.00, `-0` and `0`, `char(n)` with and without its blanks, and texts under a collation that
//! does not tell capitals apart are equal, and their bytes are not.

use super::target::Target;

/// Where rows wait. It is in the session's own schema, so its name meets no other.
pub(super) const STAGING: &str = "pg_temp.forebay_staging";
/// The column that numbers them. A column of the target may be called so, but for the blank.
const NUMBER: &str = "\"forebay row\"";

/// How rows meet those that are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meeting {
    /// By a unique index on the key.
    OnConflict,
    /// By `MERGE`, under a lock that keeps a second writer from inserting the same key at the same time.
    Merge,
}

/// Creates the staging table.
pub(super) fn create_staging(target: &Target) -> String {
    let columns: String = target
        .encoder
        .columns
        .iter()
        .map(|column| {
            let collation =
                column.collation.as_ref().map(|collation| format!(" COLLATE {collation}")).unwrap_or_default();
            format!(", {} {}{collation}", column.name, column.shown_type)
        })
        .collect();
    format!("CREATE TEMPORARY TABLE {STAGING} ({NUMBER} integer{columns}) ON COMMIT DROP")
}

/// The columns of a COPY into the staging table.
pub(super) fn staged_columns(target: &Target) -> String {
    format!("{NUMBER}, {}", target.column_list())
}

/// Moves what is staged into the target.
pub(super) fn apply(target: &Target, meeting: Meeting) -> String {
    let (table, columns) = (&target.name, target.column_list());
    let of = |is_key: bool| target.encoder.columns.iter().filter(move |column| column.is_key == is_key);
    let names = |is_key: bool| of(is_key).map(|column| column.name.to_string()).collect::<Vec<_>>();
    let (key, others) = (names(true), names(false));
    let joined = key.join(", ");
    let staged = format!("SELECT DISTINCT ON ({joined}) {columns} FROM {STAGING} ORDER BY {joined}, {NUMBER} DESC");
    let overriding = if target.overrides_identity { " OVERRIDING SYSTEM VALUE" } else { "" };
    let assigned =
        |from: &str| others.iter().map(|name| format!("{name} = {from}.{name}")).collect::<Vec<_>>().join(", ");
    match meeting {
        Meeting::OnConflict => {
            let action = match others.is_empty() {
                true => "NOTHING".to_owned(),
                false => format!("UPDATE SET {}", assigned("EXCLUDED")),
            };
            format!("INSERT INTO {table} ({columns}){overriding} {staged} ON CONFLICT ({joined}) DO {action}")
        }
        Meeting::Merge => {
            let on = key.iter().map(|name| format!("t.{name} = s.{name}")).collect::<Vec<_>>().join(" AND ");
            let matched = match others.is_empty() {
                true => String::new(),
                false => format!(" WHEN MATCHED THEN UPDATE SET {}", assigned("s")),
            };
            let values: Vec<_> = target.encoder.columns.iter().map(|column| format!("s.{}", column.name)).collect();
            format!(
                "MERGE INTO {table} AS t USING ({staged}) AS s ON {on}{matched} WHEN NOT MATCHED THEN INSERT \
                 ({columns}){overriding} VALUES ({})",
                values.join(", ")
            )
        }
    }
}
