//! forebay(1).

use argh::{FlagInfo, FlagInfoKind, Optionality};

use crate::{
    commands::{Command, names},
    roff::{date, fill, literal, prose, sentence},
};

const PAGE: &str = include_str!("../pages/forebay.1.in");

/// The page.
pub(crate) fn page(commands: &[Command]) -> String {
    let (program, commands) = commands.split_first().expect("the program itself comes first");
    let version = format!(".Os Forebay {}\n", env!("CARGO_PKG_VERSION"));
    let filled = fill(
        PAGE,
        &[
            ("VERSION", version),
            ("DESCRIPTION", prose(&format!("`forebay` {}", lower(program.info.description)))),
            ("NOTES", program.info.notes.iter().map(|note| prose(note)).collect()),
            ("OPTIONS", program.info.flags.iter().map(option).collect()),
            ("COMMANDS", commands.iter().map(command).collect()),
            ("EXIT STATUS", exit_status(program)),
        ],
    );
    date() + &filled
}

/// A sentence to stand behind its subject.
fn lower(sentence: &str) -> String {
    let mut rest = sentence.chars();
    let first = rest.next().map(|first| first.to_lowercase().to_string());
    first.unwrap_or_default() + rest.as_str()
}

fn command(command: &Command) -> String {
    let info = &command.info;
    let mut out = format!(".Ss {}\n", literal(&command.path));
    if info.commands.is_empty() {
        out += &format!(".Nm forebay Cm {}\n", literal(&command.path));
        for flag in own_options(command) {
            out += &format!(".Op {}\n", usage(flag));
        }
        for positional in info.positionals {
            let name = literal(positional.name);
            out.push_str(&match positional.optionality {
                Optionality::Required => format!(".Ar {name}\n"),
                Optionality::Optional => format!(".Op Ar {name}\n"),
                Optionality::Repeating | Optionality::Greedy => format!(".Op Ar {name} ...\n"),
            });
        }
        out.push_str(".Pp\n");
    }
    out.push_str(&prose(info.description));
    out.extend(info.notes.iter().map(|note| prose(note)));
    let positionals = info
        .positionals
        .iter()
        .map(|positional| format!(".It Ar {}\n{}", literal(positional.name), sentence(positional.description)));
    let items: String = positionals.chain(own_options(command).map(option)).collect();
    if !items.is_empty() {
        out += &format!(".Bl -tag -width Ds\n{items}.El\n");
    }
    out
}

/// The options that the page tells of at the command: help, which each has, is told of once.
fn own_options(command: &Command) -> impl Iterator<Item = &FlagInfo<'static>> {
    command.info.flags.iter().filter(|flag| flag.long != "--help")
}

fn option(flag: &FlagInfo<'_>) -> String {
    let name = names(flag).map(|name| format!("Fl {}", literal(&name[1..]))).collect::<Vec<_>>().join(" , ");
    format!(".It {name}{}\n{}", argument(flag), sentence(flag.description))
}

fn usage(flag: &FlagInfo<'_>) -> String {
    format!("Fl {}{}", literal(&flag.long[1..]), argument(flag))
}

fn argument(flag: &FlagInfo<'_>) -> String {
    match flag.kind {
        FlagInfoKind::Switch => String::new(),
        FlagInfoKind::Option { arg_name } => format!(" Ar {}", literal(arg_name)),
    }
}

fn exit_status(program: &Command) -> String {
    let codes = program.info.error_codes.iter();
    codes.map(|error| format!(".It {}\n{}", error.code, sentence(error.description))).collect()
}
