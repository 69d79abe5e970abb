//! One definition of each key. Its parser, its default, the text of its errors and its place in the manual page all come
//! from the [`Key`]; nothing about a key is said anywhere else.

use super::{document::Node, reading::Reading, report::Reported};

/// What the value of a key is, and how it is read.
pub(super) trait Kind: Sync {
    /// What reading gives.
    type Value;

    /// What would be right, as the end of "expected ...": for errors and for the manual page.
    fn expected(&self) -> String;

    /// Whether the value is a secret, which no error may show.
    fn is_secret(&self) -> bool {
        false
    }

    /// Reads `node`, or reports what is wrong with it.
    fn read(&self, node: &Node, reading: &mut Reading<'_, '_>) -> Result<Self::Value, Reported>;
}

/// What holds where a key is not given.
#[derive(Debug, Clone, Copy)]
pub enum Fallback {
    /// It must be given.
    Required,
    /// This value, written as in the file. It is read by the key's own parser.
    Value(&'static str),
    /// There is no value then: in words, what happens.
    Otherwise(&'static str),
}

/// A key of a table.
#[derive(Debug)]
pub(super) struct Key<K> {
    pub(super) name: &'static str,
    pub(super) kind: K,
    pub(super) fallback: Fallback,
    /// The environment variable that overrides the file, if there is one.
    pub(super) variable: Option<&'static str>,
    doc: &'static str,
}

impl<K> Key<K> {
    /// A key that must be given.
    pub(super) const fn required(name: &'static str, kind: K, doc: &'static str) -> Self {
        Self { name, kind, fallback: Fallback::Required, variable: None, doc }
    }

    /// A key that has the value `default`, written as in the file, where it is not given.
    pub(super) const fn with_default(name: &'static str, kind: K, default: &'static str, doc: &'static str) -> Self {
        Self { name, kind, fallback: Fallback::Value(default), variable: None, doc }
    }

    /// A key that may be absent; `otherwise` says what happens then.
    pub(super) const fn optional(name: &'static str, kind: K, otherwise: &'static str, doc: &'static str) -> Self {
        Self { name, kind, fallback: Fallback::Otherwise(otherwise), variable: None, doc }
    }

    /// The same, overridden by the environment variable `name` where that is set and not empty.
    pub(super) const fn variable(mut self, name: &'static str) -> Self {
        self.variable = Some(name);
        self
    }
}

/// What the list of a table's keys knows of each of them.
pub(super) trait Described: Sync {
    /// The key's name.
    fn name(&self) -> &'static str;
    /// What would be right.
    fn expected(&self) -> String;
    /// What holds where it is not given.
    fn fallback(&self) -> Fallback;
    /// The environment variable that overrides it.
    fn variable(&self) -> Option<&'static str>;
    /// What it is for: one sentence or two.
    fn doc(&self) -> &'static str;
}

impl<K: Kind> Described for Key<K> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn expected(&self) -> String {
        self.kind.expected()
    }

    fn fallback(&self) -> Fallback {
        self.fallback
    }

    fn variable(&self) -> Option<&'static str> {
        self.variable
    }

    fn doc(&self) -> &'static str {
        self.doc
    }
}

/// The keys of one table.
pub(super) struct Schema {
    /// What stands between the brackets of its header: `agent`, `sources.NAME`, or `tls` for a table within one.
    pub(super) name: &'static str,
    /// The `type` that has these keys. Empty if all have.
    pub(super) variant: &'static str,
    /// What the table is for.
    pub(super) doc: &'static str,
    /// Its keys.
    pub(super) keys: &'static [&'static dyn Described],
    /// The tables within it.
    pub(super) tables: &'static [&'static Schema],
}

impl Schema {
    /// The names of all keys and tables within it.
    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.keys.iter().map(|key| key.name()).chain(self.tables.iter().map(|table| table.name))
    }
}

/// The one of `known` that `name` is most likely a misspelling of, if any is near.
pub(crate) fn nearest<'k>(name: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    let limit = (name.chars().count() / 3).max(1);
    let distance = |known: &str| strsim::osa_distance(&name.to_lowercase(), &known.to_lowercase());
    known.map(|known| (distance(known), known)).filter(|(distance, _)| *distance <= limit).min().map(|(_, known)| known)
}

/// `a, b or c`, each in quotes.
pub(super) fn alternatives<'k>(names: impl Iterator<Item = &'k str>) -> String {
    let quoted: Vec<_> = names.map(|name| format!("\"{name}\"")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => quoted.concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelling_is_told_from_another_word() {
        let known = ["listen", "path", "token", "token_file"];
        let near = |name| nearest(name, known.into_iter());
        assert_eq!(near("lisen"), Some("listen"));
        assert_eq!(near("Listen"), Some("listen"));
        assert_eq!(near("tokenfile"), Some("token_file"));
        assert_eq!(near("colour"), None);
    }

    #[test]
    fn alternatives_read_as_a_sentence() {
        assert_eq!(alternatives(["a", "b", "c"].into_iter()), "\"a\", \"b\" or \"c\"");
        assert_eq!(alternatives(["a"].into_iter()), "\"a\"");
    }
}
