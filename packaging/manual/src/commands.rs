//! The commands in one list, those within others included.

use std::collections::{BTreeMap, BTreeSet};

use argh::{CommandInfoWithArgs, FlagInfo, FlagInfoKind, Optionality};

/// A command, or the program itself.
pub(crate) struct Command {
    /// How it is called behind the program's name: `dead-letter retry`. Empty for the program itself.
    pub(crate) path: String,
    pub(crate) info: CommandInfoWithArgs,
}

/// What stands behind an option, for a shell that completes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Value {
    /// Nothing: it is a switch.
    None,
    File,
    Directory,
    /// What no shell knows.
    Other,
}

/// The program itself, and each command behind the one that it is within.
pub(crate) fn all(program: CommandInfoWithArgs) -> Vec<Command> {
    let mut commands = Vec::new();
    add(&mut commands, program, String::new());
    commands
}

fn add(commands: &mut Vec<Command>, info: CommandInfoWithArgs, path: String) {
    let inner: Vec<_> = info.commands.iter().map(|inner| (inner.command.clone(), join(&path, inner.name))).collect();
    commands.push(Command { path, info });
    for (info, path) in inner {
        add(commands, info, path);
    }
}

fn join(path: &str, name: &str) -> String {
    format!("{path} {name}").trim_start().to_owned()
}

impl Command {
    /// The names and descriptions of the commands within it, and of the word that asks for help with them.
    pub(crate) fn inner(&self) -> Vec<(&str, &str)> {
        let inner = self.info.commands.iter().map(|inner| (inner.name, inner.command.description));
        let help = (!self.info.commands.is_empty()).then_some(("help", "Explain a command."));
        inner.chain(help).collect()
    }

    /// Its own options and those that stand behind every command.
    pub(crate) fn options<'c>(&'c self, commands: &'c [Self]) -> impl Iterator<Item = &'c FlagInfo<'static>> {
        let common = commands[0].info.flags.iter().filter(|flag| !self.path.is_empty() && flag.long == "--config");
        self.info.flags.iter().chain(common)
    }

    /// Whether any number of its last argument may follow.
    pub(crate) fn takes_many(&self) -> bool {
        self.info.positionals.last().is_some_and(|last| last.optionality == Optionality::Repeating)
    }
}

/// The letter of an option that has one. The definitions do not tell of `-h`.
pub(crate) fn short(flag: &FlagInfo<'_>) -> Option<char> {
    flag.short.or((flag.long == "--help").then_some('h'))
}

/// The names of an option: the long one, and the short one if it has one.
pub(crate) fn names(flag: &FlagInfo<'_>) -> impl Iterator<Item = String> {
    [Some(flag.long.to_owned()), short(flag).map(|short| format!("-{short}"))].into_iter().flatten()
}

/// What stands behind an option.
pub(crate) fn value(flag: &FlagInfo<'_>) -> Value {
    match flag.kind {
        FlagInfoKind::Switch => Value::None,
        FlagInfoKind::Option { arg_name: "path" } => Value::File,
        FlagInfoKind::Option { arg_name: "directory" } => Value::Directory,
        FlagInfoKind::Option { .. } => Value::Other,
    }
}

/// What a shell has to know to find the command that a line is at.
pub(crate) struct Way {
    /// `command:word`, and the command that the word leads to from there.
    pub(crate) steps: Vec<(String, String)>,
    /// The options that another word follows, by what that is.
    pub(crate) values: BTreeMap<Value, BTreeSet<String>>,
}

/// The way through all commands.
pub(crate) fn way(commands: &[Command]) -> Way {
    let mut way = Way { steps: Vec::new(), values: BTreeMap::new() };
    for Command { path, info } in commands {
        let steps = info.commands.iter().map(|inner| (format!("{path}:{}", inner.name), join(path, inner.name)));
        way.steps.extend(steps);
        for flag in info.flags.iter().filter(|flag| value(flag) != Value::None) {
            way.values.entry(value(flag)).or_default().extend(names(flag));
        }
    }
    way
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_takes_the_same_kind_of_value_in_every_command() {
        let commands = all(forebay::command::information());
        let mut kinds = BTreeMap::new();
        for (name, kind) in commands.iter().flat_map(|command| command.info.flags).map(|flag| (flag.long, value(flag)))
        {
            assert_eq!(*kinds.entry(name).or_insert(kind), kind, "shells find the command of a line by this: {name}");
        }
    }
}
