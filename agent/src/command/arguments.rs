//! The command line: what was typed, parsed. What it means is for the commands.

use std::{ffi::OsString, path::PathBuf};

use argh::{EarlyExit, FromArgs};

use super::{
    failure::{Failure, Outcome},
    output,
};

/// Takes events in on a gateway, keeps them on disk, and delivers them exactly once.
#[derive(FromArgs, Debug, PartialEq)]
#[argh(
    note = "The config is /etc/forebay/forebay.toml and the conf.d/*.toml beside it, unless --config says otherwise."
)]
#[argh(note = "forebay --version prints the version.")]
#[argh(error_code(0, "it went well"), error_code(1, "it failed"))]
#[argh(error_code(2, "the command line or the config is wrong"))]
#[argh(error_code(75, "it failed now, and the same may work later: the buffer is in use, the disk is full"))]
pub(super) struct Arguments {
    /// the config file
    #[argh(option, arg_name = "path", default = "PathBuf::from(DEFAULT_CONFIG)")]
    pub(super) config: PathBuf,

    #[argh(subcommand)]
    pub(super) command: Command,
}

/// Where the config is if nothing is said.
pub(super) const DEFAULT_CONFIG: &str = "/etc/forebay/forebay.toml";

#[derive(FromArgs, Debug, PartialEq)]
#[argh(subcommand)]
pub(super) enum Command {
    Run(Run),
    Check(Check),
    Setup(Setup),
    Status(Status),
    Peek(Peek),
    DeadLetter(DeadLetter),
    Buffer(Buffer),
    Demo(Demo),
}

/// Run the agent: take events in and deliver them until told to stop.
#[derive(FromArgs, Debug, PartialEq)]
#[argh(subcommand, name = "run")]
#[argh(
    note = "SIGTERM and SIGINT stop it within agent.shutdown_timeout, a second one at once. SIGHUP reads the config again and restarts only what changed."
)]
pub(super) struct Run {}

/// Look at config, buffer, disk, clock, permissions and certificates, and say what to do about what is wrong.
#[derive(FromArgs, Debug, PartialEq)]
#[argh(subcommand, name = "check")]
pub(super) struct Check {
    /// also ask every destination
    #[argh(switch)]
    pub(super) connect: bool,
    /// print JSON
    #[argh(switch)]
    pub(super) json: bool,
}

/// Create the tables that the config needs: the control table, and those of sinks in databases.
#[derive(FromArgs, Debug, PartialEq)]
#[argh(subcommand, name = "setup")]
pub(super) struct Setup {
    /// print the statements and the GRANTs for someone who may create tables, and connect to nothing
    #[argh(switch)]
    pub(super) print_sql: bool,
    /// then copy this agent's rows from the control table of this other config, the one that was used before
    #[argh(option, arg_name = "path")]
    pub(super) copy_from: Option<PathBuf>,
}

/// Show what comes in, what is kept, and what goes out; with the agent running or not.
#[derive(FromArgs, Debug, PartialEq)]
#[argh(subcommand, name = "status")]
pub(super) struct Status {
    /// draw it again every second, with rates, until Ctrl-C
    #[argh(switch)]
    pub(super) watch: bool,
    /// print JSON
    #[argh(switch)]
    pub(super) json: bool,
}

/// Print buffered events as NDJSON, and leave them where they are.
#[derive(FromArgs, Debug, PartialEq)]
#[argh(subcommand, name = "peek")]
pub(super) struct Peek {
    /// the stream: the name of its source
    #[argh(positional)]
    pub(super) stream: String,
    /// only this partition
    #[argh(option, arg_name = "name")]
    pub(super) partition: Option<String>,
    /// only events after this offset, as `peek` and `status` print it
    #[argh(option, arg_name = "offset")]
    pub(super) after: Option<String>,
    /// at most this many events (default: 10)
    #[argh(option, arg_name = "n", default = "10")]
    pub(super) limit: usize,
}

/// Look at events that were refused for good, send them again, or drop them.
#[derive(FromArgs, Debug, PartialEq)]
#[argh(subcommand, name = "dead-letter")]
pub(super) struct DeadLetter {
    #[argh(subcommand)]
    pub(super) action: DeadLetterAction,
}

#[derive(FromArgs, Debug, PartialEq)]
#[argh(subcommand)]
pub(super) enum DeadLetterAction {
    List(DeadLetterList),
    Show(DeadLetterShow),
    Retry(DeadLetterRetry),
    Discard(DeadLetterDiscard),
}

/// List dead letters with their reasons.
#[derive(FromArgs, Debug, PartialEq)]
#[argh(subcommand, name = "list")]
pub(super) struct DeadLetterList {
    /// only those that this sink refused
    #[argh(option, arg_name = "name")]
    pub(super) sink: Option<String>,
    /// only those of this stream
    #[argh(option, arg_name = "name")]
    pub(super) stream: Option<String>,
    /// at most this many (default: 50)
    #[argh(option, arg_name = "n", default = "50")]
    pub(super) limit: usize,
    /// print NDJSON
    #[argh(switch)]
    pub(super) json: bool,
}

/// Show dead letters whole.
#[derive(FromArgs, Debug, PartialEq)]
#[argh(subcommand, name = "show")]
pub(super) struct DeadLetterShow {
    /// their ids, as `list` prints them
    #[argh(positional, arg_name = "id")]
    pub(super) ids: Vec<i64>,
}

/// Send dead letters to their sinks again.
#[derive(FromArgs, Debug, PartialEq)]
#[argh(subcommand, name = "retry")]
pub(super) struct DeadLetterRetry {
    /// their ids, as `list` prints them
    #[argh(positional, arg_name = "id")]
    pub(super) ids: Vec<i64>,
    /// all of them, or all that --sink and --stream choose
    #[argh(switch)]
    pub(super) all: bool,
    /// with --all: only those that this sink refused
    #[argh(option, arg_name = "name")]
    pub(super) sink: Option<String>,
    /// with --all: only those of this stream
    #[argh(option, arg_name = "name")]
    pub(super) stream: Option<String>,
    /// even where they may overwrite newer rows
    #[argh(switch)]
    pub(super) force: bool,
}

/// Drop dead letters for good.
#[derive(FromArgs, Debug, PartialEq)]
#[argh(subcommand, name = "discard")]
pub(super) struct DeadLetterDiscard {
    /// their ids, as `list` prints them
    #[argh(positional, arg_name = "id")]
    pub(super) ids: Vec<i64>,
    /// all of them, or all that --sink and --stream choose
    #[argh(switch)]
    pub(super) all: bool,
    /// with --all: only those that this sink refused
    #[argh(option, arg_name = "name")]
    pub(super) sink: Option<String>,
    /// with --all: only those of this stream
    #[argh(option, arg_name = "name")]
    pub(super) stream: Option<String>,
}

/// Look after the buffer file.
#[derive(FromArgs, Debug, PartialEq)]
#[argh(subcommand, name = "buffer")]
pub(super) struct Buffer {
    #[argh(subcommand)]
    pub(super) action: BufferAction,
}

#[derive(FromArgs, Debug, PartialEq)]
#[argh(subcommand)]
pub(super) enum BufferAction {
    Check(BufferCheck),
    Salvage(BufferSalvage),
    Export(BufferExport),
    Adopt(BufferAdopt),
    Discard(BufferDiscard),
}

/// Read the whole buffer and verify every checksum.
#[derive(FromArgs, Debug, PartialEq)]
#[argh(subcommand, name = "check")]
pub(super) struct BufferCheck {
    /// take the report of an earlier salvage as read: health no longer mentions it
    #[argh(switch)]
    pub(super) acknowledge: bool,
}

/// Set a damaged buffer file aside and make a new one of what can be read.
#[derive(FromArgs, Debug, PartialEq)]
#[argh(subcommand, name = "salvage")]
pub(super) struct BufferSalvage {}

/// Print all buffered events and dead letters as NDJSON.
#[derive(FromArgs, Debug, PartialEq)]
#[argh(subcommand, name = "export")]
pub(super) struct BufferExport {
    /// only this stream
    #[argh(option, arg_name = "name")]
    pub(super) stream: Option<String>,
    /// write to this file, which must not exist yet, instead of standard output
    #[argh(option, arg_name = "path")]
    pub(super) output: Option<PathBuf>,
}

/// Take over a buffer file that was restored from a backup or cloned: what is in it goes out under a new generation.
#[derive(FromArgs, Debug, PartialEq)]
#[argh(subcommand, name = "adopt")]
pub(super) struct BufferAdopt {
    /// go on although events that were delivered after the backup was made will arrive twice
    #[argh(switch)]
    pub(super) yes: bool,
}

/// Drop a stream or a sink that is no longer in the config, with all events that are still kept for it.
#[derive(FromArgs, Debug, PartialEq)]
#[argh(subcommand, name = "discard")]
#[argh(note = "What is dropped goes into the loss ledger.")]
pub(super) struct BufferDiscard {
    /// the name of the stream
    #[argh(option, arg_name = "name")]
    pub(super) stream: Option<String>,
    /// the name of the sink
    #[argh(option, arg_name = "name")]
    pub(super) sink: Option<String>,
}

/// Run the main job without a config: this machine's own figures, through the buffer, into files.
#[derive(FromArgs, Debug, PartialEq)]
#[argh(subcommand, name = "demo")]
pub(super) struct Demo {
    /// where to keep buffer and files (default: a new directory under the temporary one)
    #[argh(option, arg_name = "path")]
    pub(super) dir: Option<PathBuf>,
    /// stop after this time, such as 10s or 5m (default: at Ctrl-C)
    #[argh(option, long = "for", arg_name = "time")]
    pub(super) duration: Option<String>,
}

impl Arguments {
    /// Parses what was typed. Help and version are printed here, and end the program well.
    ///
    /// `None`: there is nothing more to do.
    pub(super) fn parse(typed: impl IntoIterator<Item = OsString>) -> Outcome<Option<Self>> {
        let mut words = Vec::new();
        for word in typed {
            let word = word.into_string();
            words.push(word.map_err(|word| Failure::usage(format_args!("{} is not UTF-8", word.display())))?);
        }
        let (global, words) = normalise(words);
        if words.first().is_some_and(|word| word == "--version" || word == "-V") {
            output::print(&format!("forebay {}\n", env!("CARGO_PKG_VERSION")))?;
            return Ok(None);
        }
        let words: Vec<&str> = global.iter().chain(&words).map(String::as_str).collect();
        match Self::from_args(&["forebay"], &words) {
            Ok(arguments) => Ok(Some(arguments)),
            Err(EarlyExit { output: help, status: Ok(()) }) => {
                output::print(&help)?;
                Ok(None)
            }
            Err(EarlyExit { output: error, status: Err(()) }) => {
                Err(Failure::usage(format_args!("{}\nforebay --help says more", error.trim_end())))
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(typed: &[&str]) -> Outcome<Option<Arguments>> {
        Arguments::parse(typed.iter().map(OsString::from))
    }

    fn parsed(typed: &[&str]) -> Arguments {
        parse(typed).expect("the words are right").expect("there is something to do")
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
    fn bad_usage_has_its_own_exit_code() {
        for typed in [[].as_slice(), &["fly"], &["peek"], &["run", "--fast"], &["peek", "x", "--limit", "many"]] {
            assert_eq!(parse(typed).expect_err("this is no usage").code(), 2, "{typed:?}");
        }
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
}
