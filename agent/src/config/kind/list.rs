//! Lists.

use crate::config::{
    document::Node,
    key::Kind,
    kind::{Choice, Name},
    reading::Reading,
    report::Reported,
};

/// No list is longer.
const MAX_ITEMS: usize = 1_000;

/// Patterns of paths, made absolute, at least one.
#[derive(Debug)]
pub(in crate::config) struct Globs;

/// Patterns of paths, made absolute, and of file names, which have no slash. There may be none.
#[derive(Debug)]
pub(in crate::config) struct Exclusions;

/// Names, each once, at least one. Whether they name anything is for others to find out.
#[derive(Debug)]
pub(in crate::config) struct Names;

/// Some of a few words, each once, at least one.
#[derive(Debug)]
pub(in crate::config) struct Choices<T: 'static>(pub(in crate::config) Choice<T>);

impl Kind for Globs {
    type Value = Vec<String>;

    fn expected(&self) -> String {
        "a list of patterns such as [\"/var/log/app/*.log\"], at least one; \"**\" stands for any directories"
            .to_owned()
    }

    fn read(&self, node: &Node, reading: &mut Reading<'_, '_>) -> Result<Vec<String>, Reported> {
        let patterns = items(node, reading, |item, reading| {
            let pattern = read_pattern(item, reading)?;
            Ok(absolute(pattern, reading))
        })?;
        if patterns.is_empty() { Err(reading.wrong(node, "is empty")) } else { Ok(patterns) }
    }
}

impl Kind for Exclusions {
    type Value = Vec<String>;

    fn expected(&self) -> String {
        "a list of patterns of paths, or of file names, such as [\"/var/log/app/debug/*\", \"*.gz\"]".to_owned()
    }

    fn read(&self, node: &Node, reading: &mut Reading<'_, '_>) -> Result<Vec<String>, Reported> {
        items(node, reading, |item, reading| {
            let pattern = read_pattern(item, reading)?;
            Ok(if pattern.contains('/') { absolute(pattern, reading) } else { pattern })
        })
    }
}

fn read_pattern(item: &Node, reading: &mut Reading<'_, '_>) -> Result<String, Reported> {
    let text = reading.text(item)?;
    match glob::Pattern::new(&text) {
        Ok(_) if text.is_empty() => Err(reading.wrong(item, "is empty")),
        Ok(_) => Ok(text),
        Err(error) => {
            let problem = format!("is not a pattern: {} (at character {})", error.msg, error.pos + 1);
            Err(reading.wrong(item, problem))
        }
    }
}

/// `pattern`, which may be relative, as an absolute one.
fn absolute(pattern: String, reading: &Reading<'_, '_>) -> String {
    if pattern.starts_with('/') {
        return pattern;
    }
    let base = glob::Pattern::escape(&reading.absolute("").to_string_lossy());
    format!("{}/{pattern}", base.trim_end_matches('/'))
}

impl Kind for Names {
    type Value = Vec<String>;

    fn expected(&self) -> String {
        "a list of names, such as [\"line1\", \"line2\"], at least one".to_owned()
    }

    fn read(&self, node: &Node, reading: &mut Reading<'_, '_>) -> Result<Vec<String>, Reported> {
        let name = Name { dots: false };
        let names = items(node, reading, |item, reading| name.read(item, reading))?;
        each_once(node, names, reading)
    }
}

impl<T: Copy + PartialEq + Sync> Kind for Choices<T> {
    type Value = Vec<T>;

    fn expected(&self) -> String {
        format!("a list of some of {}", self.0.expected().replace(" or ", " and "))
    }

    fn read(&self, node: &Node, reading: &mut Reading<'_, '_>) -> Result<Vec<T>, Reported> {
        let chosen = items(node, reading, |item, reading| self.0.read(item, reading))?;
        each_once(node, chosen, reading)
    }
}

/// Reads each item, and reports all that are wrong.
fn items<T>(
    node: &Node,
    reading: &mut Reading<'_, '_>,
    mut read: impl FnMut(&Node, &mut Reading<'_, '_>) -> Result<T, Reported>,
) -> Result<Vec<T>, Reported> {
    let items = reading.list(node)?;
    if items.len() > MAX_ITEMS {
        return Err(reading.wrong(node, format!("has {} items, more than {MAX_ITEMS}", items.len())));
    }
    let read: Vec<_> = items.iter().map(|item| read(item, reading)).collect();
    read.into_iter().collect()
}

/// Reports an empty list, and each item that an earlier one equals.
fn each_once<T: PartialEq>(node: &Node, read: Vec<T>, reading: &mut Reading<'_, '_>) -> Result<Vec<T>, Reported> {
    if read.is_empty() {
        return Err(reading.wrong(node, "is empty"));
    }
    let nodes = reading.list(node)?;
    let mut again = (1..read.len()).filter(|at| read[..*at].contains(&read[*at]));
    match again.next() {
        Some(at) => Err(reading.wrong(&nodes[at], "names the same twice")),
        None => Ok(read),
    }
}
