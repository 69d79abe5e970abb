//! Reading tables by their schemas: what is asked for is typed, and what is wrong is reported with the key's full path.
//!
//! A getter that fails has reported why, and says so with [`Reported`]: ask for all keys of a table first, then use
//! `?`, and all that is wrong with it is reported together.

use std::{collections::BTreeMap, path::PathBuf};

use super::{
    document::{self, Node, Table, Value},
    environment::{Environment, NoVariable},
    files::{Files, Place},
    key::{Fallback, Key, Kind, Schema, alternatives, nearest},
    kind::FilePath,
    report::{Fault, Report, Reported},
    substitute::substitute,
};
use crate::secret::{Secret, SecretSource};

/// What is wrong with `node` where the table at `path` should be.
pub(super) fn not_a_table(node: &Node, path: &str) -> Fault {
    let fault =
        Fault::new(node.place, path, format!("is {}", node.value.kind())).expected(format!("a table, [{path}]"));
    match &node.value {
        Value::List(_) => fault.help("write it with single brackets, once for each name"),
        _ => fault,
    }
}

/// A table that is not there: all defaults.
pub(super) static EMPTY: Table = Table(BTreeMap::new());

/// What every part of reading needs.
pub(super) struct Reader<'e> {
    pub(super) files: &'e Files,
    pub(super) environment: &'e Environment,
    /// What relative paths are relative to.
    pub(super) base: PathBuf,
    pub(super) report: Report,
}

/// One table, and the keys that it may have.
pub(super) struct Section<'r, 'e, 't> {
    pub(super) reader: &'r mut Reader<'e>,
    path: String,
    header: Place,
    table: &'t Table,
    schemas: Vec<&'static Schema>,
}

impl<'r, 'e, 't> Section<'r, 'e, 't> {
    /// The table at `path`, whose keys are those of `schemas`. Reports keys that are not.
    pub(super) fn open(
        reader: &'r mut Reader<'e>,
        path: impl Into<String>,
        header: Place,
        table: &'t Table,
        schemas: Vec<&'static Schema>,
    ) -> Self {
        let section = Self { reader, path: path.into(), header, table, schemas };
        section.refuse_unknown_keys()
    }

    /// The same table, with only the keys that all its variants have, and silent about others: for a look at its type.
    pub(super) fn peek(
        reader: &'r mut Reader<'e>,
        path: impl Into<String>,
        header: Place,
        table: &'t Table,
        schema: &'static Schema,
    ) -> Self {
        Self { reader, path: path.into(), header, table, schemas: vec![schema] }
    }

    /// The value of a key that is required or has a default.
    pub(super) fn value<K: Kind>(&mut self, key: &Key<K>) -> Result<K::Value, Reported> {
        if let Some(value) = self.given(key)? {
            return Ok(value);
        }
        match key.fallback {
            Fallback::Value(default) => self.read(key, &document::literal(default)),
            Fallback::Required | Fallback::Otherwise(_) => {
                let path = self.path_of(key.name);
                let fault = Fault::new(self.header, path, "is missing").expected(key.kind.expected());
                Err(self.reader.report.error(fault))
            }
        }
    }

    /// The value of a key that may be absent.
    pub(super) fn given<K: Kind>(&mut self, key: &Key<K>) -> Result<Option<K::Value>, Reported> {
        debug_assert!(self.knows(key.name), "{} is not in the list of keys of {}", key.name, self.path);
        if let Some(name) = key.variable
            && let Some(value) = self.variable(name)?
        {
            let node = Node { place: Place::whole(0), value: Value::Text(value) };
            return self.read_from(key, &node, Some(name)).map(Some);
        }
        self.table.0.get(key.name).map(|entry| self.read(key, &entry.node)).transpose()
    }

    /// The value of an environment variable. An empty one counts as unset.
    fn variable(&mut self, name: &'static str) -> Result<Option<String>, Reported> {
        match self.reader.environment.variable(name) {
            Ok("") | Err(NoVariable::Undefined) => Ok(None),
            Ok(value) => Ok(Some(value.to_owned())),
            Err(NoVariable::NotText) => {
                let fault = Fault::new(Place::whole(0), "", "is not UTF-8 text").of_variable(name, None);
                Err(self.reader.report.error(fault))
            }
        }
    }

    /// The table within this one that `schema` describes, if it is there.
    pub(super) fn table(&mut self, schema: &'static Schema) -> Result<Option<Section<'_, 'e, 't>>, Reported> {
        debug_assert!(self.knows(schema.name), "{} is not in the list of tables of {}", schema.name, self.path);
        let Some(entry) = self.table.0.get(schema.name) else { return Ok(None) };
        let path = self.path_of(schema.name);
        match &entry.node.value {
            Value::Table(table) => Ok(Some(Section::open(self.reader, path, entry.key, table, vec![schema]))),
            _ => Err(self.reader.report.error(not_a_table(&entry.node, &path))),
        }
    }

    /// The same; if it is not there, all of its keys have their defaults.
    #[cfg(any(feature = "eventhub", feature = "postgres"))]
    pub(super) fn table_or_defaults(&mut self, schema: &'static Schema) -> Result<Section<'_, 'e, 't>, Reported> {
        if self.table.0.contains_key(schema.name) {
            return self.table(schema).map(|section| section.expect("the table is there"));
        }
        let path = self.path_of(schema.name);
        Ok(Section::open(self.reader, path, self.header, &EMPTY, vec![schema]))
    }

    /// Reports an error about the value of `key`, or about the table where it has none.
    pub(super) fn error(&mut self, key: &str, problem: impl Into<String>, help: impl Into<String>) -> Reported {
        let fault = self.fault(key, problem).help(help);
        self.reader.report.error(fault)
    }

    /// Reports a warning about the value of `key`, or about the table where it has none.
    pub(super) fn warning(&mut self, key: &str, problem: impl Into<String>, help: impl Into<String>) {
        let fault = self.fault(key, problem).help(help);
        self.reader.report.warning(fault);
    }

    /// Whether the file or the environment gives `key`, rightly or not.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.0.contains_key(key) || self.set_variable_of(key).is_some()
    }

    /// The secret that stands at `inline`, or in the file that `file` names. That of the environment overrides a file named
    /// in the config, as every variable.
    pub(super) fn secret(
        &mut self,
        inline: &Key<impl Kind<Value = Secret>>,
        file: &Key<FilePath>,
    ) -> Result<Option<SecretSource>, Reported> {
        let (secret, path) = (self.given(inline), self.given(file));
        match (secret?, path?) {
            (Some(_), Some(_)) if self.set_variable_of(inline.name).is_none() => {
                let problem = format!("is given beside {}", inline.name);
                Err(self.error(file.name, problem, "keep one of the two: the file is the better"))
            }
            (Some(secret), _) => Ok(Some(SecretSource::Inline(secret))),
            (None, path) => Ok(path.map(SecretSource::File)),
        }
    }

    /// The environment variable that gives `key`, if one does.
    fn set_variable_of(&self, key: &str) -> Option<&'static str> {
        let keys = self.schemas.iter().flat_map(|schema| schema.keys);
        let variable = keys.filter(|described| described.name() == key).find_map(|described| described.variable())?;
        self.reader.environment.variable(variable).is_ok_and(|value| !value.is_empty()).then_some(variable)
    }

    fn fault(&self, key: &str, problem: impl Into<String>) -> Fault {
        if let Some(variable) = self.set_variable_of(key) {
            return Fault::new(Place::whole(0), "", problem).of_variable(variable, None);
        }
        let place = self.table.0.get(key).map_or(self.header, |entry| entry.node.place);
        Fault::new(place, self.path_of(key), problem)
    }

    fn path_of(&self, key: &str) -> String {
        if key.is_empty() { self.path.clone() } else { format!("{}.{key}", self.path) }
    }

    fn knows(&self, name: &str) -> bool {
        self.schemas.iter().flat_map(|schema| schema.names()).any(|known| known == name)
    }

    fn read<K: Kind>(&mut self, key: &Key<K>, node: &Node) -> Result<K::Value, Reported> {
        self.read_from(key, node, None)
    }

    fn read_from<K: Kind>(
        &mut self,
        key: &Key<K>,
        node: &Node,
        variable: Option<&'static str>,
    ) -> Result<K::Value, Reported> {
        let (path, expected) = (self.path_of(key.name), key.kind.expected());
        let is_secret = key.kind.is_secret();
        let mut reading = Reading { reader: self.reader, path, expected, substituted: false, variable, is_secret };
        key.kind.read(node, &mut reading)
    }

    fn refuse_unknown_keys(self) -> Self {
        let known: Vec<_> = self.schemas.iter().flat_map(|schema| schema.names()).collect();
        for (name, entry) in self.table.0.iter().filter(|(name, _)| !known.contains(&name.as_str())) {
            let mut fault = Fault::new(entry.key, self.path_of(name), format!("is not a key of [{}]", self.path));
            if let Some(near) = nearest(name, known.iter().copied()) {
                fault = fault.help(format!("did you mean \"{near}\"?"));
            }
            let fault = fault.expected(alternatives(known.iter().copied())).masked();
            self.reader.report.error(fault);
        }
        self
    }
}

/// One value, and what its kind needs for reading it.
pub(super) struct Reading<'r, 'e> {
    reader: &'r mut Reader<'e>,
    path: String,
    expected: String,
    substituted: bool,
    /// The environment variable that the value comes from, in place of the file.
    variable: Option<&'static str>,
    is_secret: bool,
}

impl Reading<'_, '_> {
    /// The text that `node` is, with its environment variables put in.
    pub(super) fn text(&mut self, node: &Node) -> Result<String, Reported> {
        let Value::Text(text) = &node.value else {
            return Err(self.wrong(node, format!("is {}", node.value.kind())));
        };
        self.substituted = false;
        if self.variable.is_some() {
            return Ok(text.clone());
        }
        match substitute(text, self.reader.environment) {
            Ok(substituted) => {
                self.substituted = substituted.changed;
                Ok(substituted.text)
            }
            Err(why) => {
                let fault = Fault::new(node.place, self.path.clone(), why.problem).help(why.help);
                Err(self.reader.report.error(fault))
            }
        }
    }

    /// The items that `node` lists.
    pub(super) fn list<'n>(&mut self, node: &'n Node) -> Result<&'n [Node], Reported> {
        match &node.value {
            Value::List(items) => Ok(items),
            other => Err(self.wrong(node, format!("is {}", other.kind()))),
        }
    }

    /// Reports that `node` is not what is expected.
    pub(super) fn wrong(&mut self, node: &Node, problem: impl Into<String>) -> Reported {
        self.wrong_with_help(node, problem, "")
    }

    /// Reports that `node` is not what is expected, and what to do.
    pub(super) fn wrong_with_help(
        &mut self,
        node: &Node,
        problem: impl Into<String>,
        help: impl Into<String>,
    ) -> Reported {
        let fault = Fault::new(node.place, self.path.clone(), problem).expected(self.expected.clone()).help(help);
        let fault = if let Some(variable) = self.variable {
            let shown = match &node.value {
                Value::Text(text) if !self.is_secret => Some(text.as_str()),
                _ => None,
            };
            fault.of_variable(variable, shown)
        } else if self.substituted {
            // What is wrong may quote the value, and the value may be a secret.
            let problem = "is not right once its environment variables are put in; their values are not shown";
            Fault { problem: problem.to_owned(), help: String::new(), ..fault }
        } else {
            fault
        };
        self.reader.report.error(fault)
    }

    /// Reports a warning about `node`.
    pub(super) fn warn(&mut self, node: &Node, problem: &str, help: &str) {
        self.reader.report.warning(Fault::new(node.place, self.path.clone(), problem).help(help));
    }

    /// Whether the last text came from environment variables, as a whole or in part.
    pub(super) fn was_substituted(&self) -> bool {
        self.substituted || self.is_of_variable()
    }

    /// Whether the value is that of an environment variable, where numbers are texts too.
    pub(super) fn is_of_variable(&self) -> bool {
        self.variable.is_some()
    }

    /// `path`, which may be relative, as an absolute one.
    pub(super) fn absolute(&self, path: &str) -> PathBuf {
        self.reader.base.join(path)
    }
}
