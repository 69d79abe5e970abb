//! From the words that were typed to [`Arguments`]; where they are wrong, to what was probably meant.

use std::ffi::OsString;

use argh::{CommandInfo, EarlyExit, FromArgs, SubCommands};

use super::{Arguments, BufferAction, Command, DeadLetterAction, PROGRAM};
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
        let typed: Vec<&str> = global.iter().chain(&words).map(String::as_str).collect();
        match Self::from_args(&[PROGRAM], &typed) {
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
///
/// What there is to choose from is taken from the lists of commands and the texts of help that the program has in it
/// already: the descriptions for the manual page ([`ArgsInfo`](argh::ArgsInfo)) would be there a second time.
fn explain(error: &str, words: &[String]) -> String {
    let path = path_of(words);
    let shown = path.join(" ");
    if error.starts_with("One of the following subcommands must be present") {
        return output::wrap_lines(&help(&path));
    }
    let Some(unknown) = error.strip_prefix("Unrecognized argument: ").map(str::trim_end) else {
        return format!("{}\n{shown} --help says more", error.trim_end());
    };
    let inner = commands_within(&path);
    let (what, near) = if unknown.starts_with('-') {
        let help = help(&path) + &help(&[PROGRAM]);
        ("option", nearest(unknown, options(&help)).map(str::to_owned))
    } else if inner.is_empty() {
        ("argument", None)
    } else {
        ("command", nearest(unknown, inner.iter().map(|command| command.name)).map(str::to_owned))
    };
    let meant = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
    format!("{shown} has no {what} {unknown:?}{meant}\n{shown} --help says more")
}

/// The name of the command that words lead to, behind those of the ones that it is within.
fn path_of(words: &[String]) -> Vec<&'static str> {
    let mut path = vec![PROGRAM];
    for word in words.iter().filter(|word| !matches!(word.as_str(), "help" | "--help")) {
        let Some(inner) = commands_within(&path).iter().find(|command| command.name == word) else { break };
        path.push(inner.name);
    }
    path
}

fn commands_within(path: &[&str]) -> &'static [&'static CommandInfo] {
    match path {
        [_] => Command::COMMANDS,
        [_, "dead-letter"] => DeadLetterAction::COMMANDS,
        [_, "buffer"] => BufferAction::COMMANDS,
        _ => &[],
    }
}

fn help(path: &[&str]) -> String {
    let answer = Arguments::from_args(&[PROGRAM], &[&path[1..], &["--help"]].concat());
    answer.err().map(|exit| exit.output).unwrap_or_default()
}

/// The options that a text of help lists, each at the beginning of its line: `  -V, --version     print ...`.
fn options(help: &str) -> impl Iterator<Item = &str> {
    let lines = help.lines().filter_map(|line| line.strip_prefix("  ")).filter(|line| line.starts_with('-'));
    lines.flat_map(|line| {
        line.split([' ', ',']).filter(|word| !word.is_empty()).take_while(|word| word.starts_with('-'))
    })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::command::arguments::{DEFAULT_CONFIG, DeadLetter, DeadLetterList, Peek, information};

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
    fn each_command_and_option_is_found_by_a_slip_of_the_hand() {
        let mut commands = vec![(String::new(), information())];
        while let Some((path, command)) = commands.pop() {
            for flag in command.flags {
                let refused = refused(&format!("{path}{}x", flag.long));
                assert!(refused.contains(&format!("did you mean {}?", flag.long)), "{refused}");
            }
            for inner in &command.commands {
                let refused = refused(&format!("{path}{}x", inner.name));
                assert!(refused.contains(&format!("did you mean {}?", inner.name)), "{refused}");
                commands.push((format!("{path}{} ", inner.name), inner.command.clone()));
            }
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
