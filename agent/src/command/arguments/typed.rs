//! From the words that were typed to [`Arguments`]; where they are wrong, to what was probably meant.

use std::ffi::OsString;

use argh::{CommandInfoWithArgs, EarlyExit, FlagInfoKind, FromArgs};

use super::{Arguments, PROGRAM, information};
use crate::{
    command::{
        failure::{Failure, Outcome},
        output,
        version::version,
    },
    config::nearest,
};

impl Arguments {
    /// Parses what was typed. Help and version are printed here, and end the program well.
    ///
    /// `None`: there is nothing more to do.
    pub(in crate::command) fn parse(typed: impl IntoIterator<Item = OsString>) -> Outcome<Option<Self>> {
        let mut words = Vec::new();
        for word in typed {
            let word = word.into_string();
            words.push(word.map_err(|word| Failure::usage(format_args!("{} is not UTF-8", word.display())))?);
        }
        let (global, words) = normalise(words);
        if words.first().is_some_and(|word| word == "--version" || word == "-V") {
            output::print(&version())?;
            return Ok(None);
        }
        let words: Vec<&str> = global.iter().chain(&words).map(String::as_str).collect();
        match Self::from_args(&[PROGRAM], &words) {
            Ok(arguments) => Ok(Some(arguments)),
            Err(EarlyExit { output: help, status: Ok(()) }) => {
                output::print(&output::wrap_lines(&help))?;
                Ok(None)
            }
            Err(EarlyExit { output: error, status: Err(()) }) => Err(Failure::usage(explain(&error, &words))),
        }
    }
}

/// Makes of what people type what argh understands: `--key=value` becomes two words, `-h` is `--help`, and the options
/// that stand for every command may stand behind it too. Returns these, and the others.
fn normalise(typed: Vec<String>) -> (Vec<String>, Vec<String>) {
    let (mut global, mut words) = (Vec::new(), Vec::new());
    let mut typed = typed.into_iter();
    while let Some(word) = typed.next() {
        if word == "--" {
            words.push(word);
            break;
        }
        let (name, value) = match word.split_once('=') {
            Some((name, value)) if name.starts_with("--") => (name.to_owned(), Some(value.to_owned())),
            _ => (word, None),
        };
        match name.as_str() {
            "--config" => {
                global.push(name);
                global.extend(value.or_else(|| typed.next()));
            }
            "-h" => words.push("--help".to_owned()),
            _ => {
                words.push(name);
                words.extend(value);
            }
        }
    }
    words.extend(typed);
    (global, words)
}

/// What to say of `words`, which argh refused with `error`: what was probably meant, and where help is. Where only the
/// command is missing, its help is the answer.
fn explain(error: &str, words: &[&str]) -> String {
    let all = information();
    let Place { path, command, unknown } = Place::of(words, &all);
    let shown = path.join(" ");
    let Some(unknown) = unknown else {
        if !command.commands.is_empty() && error.starts_with("One of the following subcommands") {
            let help = Arguments::from_args(&[PROGRAM], &[&path[1..], &["--help"]].concat());
            return output::wrap_lines(&help.err().map(|exit| exit.output).unwrap_or_default());
        }
        return format!("{}\n{shown} --help says more", error.trim_end());
    };
    let options = command.flags.iter().chain(all.flags).map(|flag| flag.long);
    let (what, near) = if unknown.starts_with('-') {
        ("option", nearest(unknown, options))
    } else if command.commands.is_empty() {
        ("argument", None)
    } else {
        ("command", nearest(unknown, command.commands.iter().map(|command| command.name)))
    };
    let meant = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
    format!("{shown} has no {what} {unknown:?}{meant}\n{shown} --help says more")
}

/// The command that words lead to.
struct Place<'w> {
    /// Its name, behind those of the commands that it is in.
    path: Vec<&'w str>,
    command: &'w CommandInfoWithArgs,
    /// The first word that has no place there.
    unknown: Option<&'w str>,
}

impl<'w> Place<'w> {
    fn of(words: &[&'w str], all: &'w CommandInfoWithArgs) -> Self {
        let (mut path, mut command, mut positionals) = (vec![all.name], all, 0);
        let mut rest = words.iter().copied();
        while let Some(word) = rest.next() {
            let inner = command.commands.iter().find(|inner| inner.name == word);
            let flag = command.flags.iter().find(|flag| flag.long == word);
            match (inner, flag) {
                (Some(inner), _) => {
                    path.push(inner.name);
                    command = &inner.command;
                }
                (None, Some(flag)) => {
                    if let FlagInfoKind::Option { .. } = flag.kind {
                        rest.next();
                    }
                }
                (None, None) if word == "--" => break,
                (None, None) if word == "help" => {}
                (None, None) if word.starts_with('-') || positionals == command.positionals.len() => {
                    return Self { path, command, unknown: Some(word) };
                }
                (None, None) => positionals += usize::from(!is_last_repeated(command)),
            }
        }
        Self { path, command, unknown: None }
    }
}

/// Whether any number of words may stand behind the options.
fn is_last_repeated(command: &CommandInfoWithArgs) -> bool {
    command.positionals.last().is_some_and(|last| last.optionality == argh::Optionality::Repeating)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::command::arguments::{Command, DEFAULT_CONFIG, DeadLetter, DeadLetterAction, DeadLetterList, Peek};

    fn parse(typed: &[&str]) -> Outcome<Option<Arguments>> {
        Arguments::parse(typed.iter().map(OsString::from))
    }

    fn parsed(typed: &[&str]) -> Arguments {
        parse(typed).expect("the words are right").expect("there is something to do")
    }

    fn refused(typed: &str) -> String {
        let words: Vec<_> = typed.split_whitespace().collect();
        let failure = parse(&words).expect_err("this is no usage");
        assert_eq!(failure.code(), 2, "{typed}");
        failure.to_string()
    }

    #[test]
    fn the_config_may_be_named_before_and_behind_the_command() {
        for typed in [
            ["--config", "a.toml", "peek", "line1"].as_slice(),
            &["peek", "--config", "a.toml", "line1"],
            &["peek", "line1", "--config=a.toml"],
        ] {
            let arguments = parsed(typed);
            assert_eq!(arguments.config, PathBuf::from("a.toml"));
            assert!(matches!(arguments.command, Command::Peek(Peek { stream, .. }) if stream == "line1"));
        }
        assert_eq!(parsed(&["run"]).config, PathBuf::from(DEFAULT_CONFIG));
    }

    #[test]
    fn an_option_and_its_value_may_be_one_word() {
        let Command::Demo(demo) = parsed(&["demo", "--for=5s"]).command else { panic!("it is the demo") };
        assert_eq!(demo.duration.as_deref(), Some("5s"));
    }

    #[test]
    fn what_follows_two_dashes_is_left_as_it_is() {
        let Command::Peek(peek) = parsed(&["peek", "--", "--odd=name"]).command else { panic!("it is a peek") };
        assert_eq!(peek.stream, "--odd=name");
    }

    #[test]
    fn dead_letters_are_chosen_by_their_ids() {
        let Command::DeadLetter(DeadLetter { action: DeadLetterAction::Retry(retry) }) =
            parsed(&["dead-letter", "retry", "3", "7", "--force"]).command
        else {
            panic!("it is a retry")
        };
        assert_eq!((retry.ids, retry.force, retry.all), (vec![3, 7], true, false));
    }

    #[test]
    fn a_misspelt_command_or_option_is_answered_with_the_nearest() {
        for (typed, said) in [
            ("chekc", "forebay has no command \"chekc\"; did you mean check?\nforebay --help says more"),
            ("--config a.toml stauts", "forebay has no command \"stauts\"; did you mean status?"),
            ("help chekc", "did you mean check?"),
            ("dead-leter list", "did you mean dead-letter?"),
            (
                "dead-letter retyr 3",
                "forebay dead-letter has no command \"retyr\"; did you mean retry?\nforebay dead-letter --help",
            ),
            (
                "check --conect",
                "forebay check has no option \"--conect\"; did you mean --connect?\nforebay check --help",
            ),
            ("check --confg=a.toml", "did you mean --config?"),
            ("--verison", "did you mean --version?"),
            ("peek --limit 3 line1 --partitoin 0", "did you mean --partition?"),
        ] {
            let refused = refused(typed);
            assert!(refused.contains(said), "{typed}: {refused}");
        }
    }

    #[test]
    fn what_resembles_nothing_is_not_taken_for_anything() {
        for typed in ["fly", "buffer fly", "run --fast", "run now", "peek line1 line2", "check --json=yes"] {
            let refused = refused(typed);
            assert!(refused.contains(" has no ") && !refused.contains("did you mean"), "{typed}: {refused}");
        }
    }

    #[test]
    fn what_is_missing_is_said_with_the_help_of_the_command_that_lacks_it() {
        assert!(refused("peek").ends_with("stream\nforebay peek --help says more"), "{}", refused("peek"));
        let many = refused("dead-letter list --limit many");
        assert!(many.contains("--limit") && many.ends_with("forebay dead-letter list --help says more"), "{many}");
        for (typed, usage, command) in [
            ("", "Usage: forebay [--config <path>]", "\n  dead-letter "),
            ("--config a.toml", "Usage: forebay [--config <path>]", "\n  run "),
            ("dead-letter", "Usage: forebay dead-letter <command>", "\n  retry "),
            ("buffer", "Usage: forebay buffer <command>", "\n  salvage "),
        ] {
            let help = refused(typed);
            assert!(help.starts_with(usage) && help.contains(command), "{typed}: {help}");
        }
    }

    #[test]
    fn the_defaults_that_help_names_are_those_that_hold() {
        let all = information();
        let says = |path: &[&str], option: &str, default: &str| {
            let command = path.iter().fold(&all, |command, name| {
                &command.commands.iter().find(|inner| inner.name == *name).expect("there is such a command").command
            });
            let flag = command.flags.iter().find(|flag| flag.long == option).expect("there is such an option");
            assert!(flag.description.ends_with(&format!("(default: {default})")), "{}", flag.description);
        };
        says(&[], "--config", &parsed(&["run"]).config.display().to_string());
        let Command::Peek(Peek { limit, .. }) = parsed(&["peek", "x"]).command else { panic!("it is a peek") };
        says(&["peek"], "--limit", &limit.to_string());
        let Command::DeadLetter(DeadLetter { action: DeadLetterAction::List(DeadLetterList { limit, .. }) }) =
            parsed(&["dead-letter", "list"]).command
        else {
            panic!("it is a list")
        };
        says(&["dead-letter", "list"], "--limit", &limit.to_string());
    }
}
