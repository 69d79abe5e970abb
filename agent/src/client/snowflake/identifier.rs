//! Names of things in the service ("Identifier requirements" in the vendor's reference).

use std::fmt;

/// The service takes no longer ones.
const MAX_CHARS: usize = 255;

/// The name of a database, a schema, a table, a pipe, a column, a role, a warehouse or a user, as the service has it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identifier(String);

impl Identifier {
    /// Reads a name as it is written in SQL: upper case unless it stands in double quotes. The error says what is wrong
    /// with it.
    pub fn new(text: &str) -> Result<Self, String> {
        if let Some(rest) = text.strip_prefix('"') {
            let name = rest.strip_suffix('"').ok_or_else(|| format!("has a quote that is not closed: {text:?}"))?;
            let bare = name.replace("\"\"", "");
            return match bare.contains('"') {
                true => Err(format!("has a quote in it that is not doubled: {text:?}")),
                false => Self::exact(name.replace("\"\"", "\"")),
            };
        }
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '$');
        if let Some(other) = text.chars().find(|c| !fits(*c)) {
            return Err(format!("has {other:?} in it: put the name in double quotes if that is what it is: {text:?}"));
        }
        match text.starts_with(|c: char| c.is_ascii_digit() || c == '$') {
            true => Err(format!("begins with no letter: put the name in double quotes if it does: {text:?}")),
            false => Self::exact(text.to_ascii_uppercase()),
        }
    }

    /// The name exactly as it is.
    pub fn exact(name: impl Into<String>) -> Result<Self, String> {
        let name = name.into();
        match () {
            () if name.is_empty() => Err("is empty".to_owned()),
            () if name.contains(char::is_control) => Err(format!("has a control character: {name:?}")),
            () if name.chars().count() > MAX_CHARS => Err(format!("is longer than {MAX_CHARS} characters: {name:?}")),
            () => Ok(Self(name)),
        }
    }

    /// The bare name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As it stands in a path, before it is encoded: what is not quoted there is in upper case.
    pub(super) fn in_path(&self) -> String {
        match self.0.contains(char::is_lowercase) || self.0.contains('"') {
            true => self.to_string(),
            false => self.0.clone(),
        }
    }
}

impl fmt::Display for Identifier {
    /// As it stands in a statement: quoted.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.replace('"', "\"\""))
    }
}

/// The name of a table, with its database and schema.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TableName {
    /// The database.
    pub database: Identifier,
    /// The schema.
    pub schema: Identifier,
    /// The table.
    pub table: Identifier,
}

impl fmt::Display for TableName {
    /// As it stands in a statement: quoted.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.database, self.schema, self.table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_sql_reads_them_and_written_so_that_they_are_read_alike() {
        for (text, name, path) in [
            ("events", "EVENTS", "EVENTS"),
            ("_e$1", "_E$1", "_E$1"),
            ("\"My table\"", "My table", "\"My table\""),
            ("\"EVENTS-STREAMING\"", "EVENTS-STREAMING", "EVENTS-STREAMING"),
            ("\"a\"\"b\"", "a\"b", "\"a\"\"b\""),
        ] {
            let identifier = Identifier::new(text).unwrap();
            assert_eq!((identifier.as_str(), identifier.in_path().as_str()), (name, path));
            assert_eq!(Identifier::new(&identifier.to_string()), Ok(identifier));
        }
    }

    #[test]
    fn what_is_no_name_is_told_what_it_is() {
        let long = "x".repeat(256);
        for (text, words) in [
            ("", "is empty"),
            ("\"\"", "is empty"),
            ("\"", "not closed"),
            ("\"a", "not closed"),
            ("\"a\"b\"", "not doubled"),
            ("a.b", "has '.'"),
            ("a b; drop", "has ' '"),
            ("ä", "has 'ä'"),
            ("1a", "begins with no letter"),
            ("\"a\nb\"", "control character"),
            (&long, "longer than 255"),
        ] {
            let problem = Identifier::new(text).unwrap_err();
            assert!(problem.contains(words), "{text}: {problem}");
        }
        assert!(Identifier::new(&long[1..]).is_ok());
    }
}
