//! The command line: one definition of each command and option, for its parser, its help, its place in the manual page
//! and its completion. What it means is for the commands.

mod typed;

use std::path::PathBuf;

use argh::{ArgsInfo, CommandInfoWithArgs, FromArgs};

/// What the program is called.
const PROGRAM: &str = "forebay";

/// Where the config is if nothing is said.
pub(super) const DEFAULT_CONFIG: &str = "/etc/forebay/forebay.toml";

/// Takes events in on a gateway, keeps them on disk, and delivers them exactly once.
#[derive(FromArgs, ArgsInfo, Debug, PartialEq)]
#[argh(
    note = "The conf.d/*.toml beside the config file are read too. The config may be named behind the command as well."
)]
#[argh(error_code(0, "it went well"), error_code(1, "it failed"))]
#[argh(error_code(2, "the command line or the config is wrong"))]
#[argh(error_code(75, "it failed now, and the same may work later: the buffer is in use, the disk is full"))]
pub(super) struct Arguments {
    /// the config file (default: /etc/forebay/forebay.toml)
    #[argh(option, arg_name = "path", default = "PathBuf::from(DEFAULT_CONFIG)")]
    pub(super) config: PathBuf,

    /// print the version, and what this build of the program has in it
    #[argh(switch, short = 'V')]
    pub(super) version: bool,

    #[argh(subcommand)]
    pub(super) command: Command,
}

/// All commands and options, as they are defined.
pub(super) fn information() -> CommandInfoWithArgs {
    CommandInfoWithArgs { name: PROGRAM, ..Arguments::get_args_info() }
}

#[derive(FromArgs, ArgsInfo, Debug, PartialEq)]
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
#[derive(FromArgs, ArgsInfo, Debug, PartialEq)]
#[argh(subcommand, name = "run")]
#[argh(
    note = "SIGTERM and SIGINT stop it within agent.shutdown_timeout, a second one at once. SIGHUP reads the config again and restarts only what changed."
)]
pub(super) struct Run {}

/// Look at config, buffer, disk, clock, permissions and certificates, and say what to do about what is wrong.
#[derive(FromArgs, ArgsInfo, Debug, PartialEq)]
#[argh(subcommand, name = "check")]
pub(super) struct Check {
    /// also ask every destination and the control table
    #[argh(switch)]
    pub(super) connect: bool,
    /// print JSON
    #[argh(switch)]
    pub(super) json: bool,
}

/// Create the tables that the config needs: the control table, and those of sinks in databases.
#[derive(FromArgs, ArgsInfo, Debug, PartialEq)]
#[argh(subcommand, name = "setup")]
pub(super) struct Setup {
    /// print the SQL, with the GRANTs, for someone who may create tables; connect to nothing
    #[argh(switch)]
    pub(super) print_sql: bool,
    /// then copy this agent's checkpoints from the control table of the config that was used before; the agent must be
    /// stopped
    #[argh(option, arg_name = "path")]
    pub(super) copy_from: Option<PathBuf>,
}

/// Show what comes in, what is kept, and what goes out; with the agent running or not.
#[derive(FromArgs, ArgsInfo, Debug, PartialEq)]
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
#[derive(FromArgs, ArgsInfo, Debug, PartialEq)]
#[argh(subcommand, name = "peek")]
pub(super) struct Peek {
    /// the stream: the name of its source
    #[argh(positional)]
    pub(super) stream: String,
    /// only this partition
    #[argh(option, arg_name = "name")]
    pub(super) partition: Option<String>,
    /// only events after this offset, as `peek` or `status` prints it; needs --partition
    #[argh(option, arg_name = "offset")]
    pub(super) after: Option<String>,
    /// at most this many events (default: 10)
    #[argh(option, arg_name = "n", default = "10")]
    pub(super) limit: usize,
}

/// Look at events that were refused for good, send them again, or drop them.
#[derive(FromArgs, ArgsInfo, Debug, PartialEq)]
#[argh(subcommand, name = "dead-letter")]
pub(super) struct DeadLetter {
    #[argh(subcommand)]
    pub(super) action: DeadLetterAction,
}

#[derive(FromArgs, ArgsInfo, Debug, PartialEq)]
#[argh(subcommand)]
pub(super) enum DeadLetterAction {
    List(DeadLetterList),
    Show(DeadLetterShow),
    Retry(DeadLetterRetry),
    Discard(DeadLetterDiscard),
}

/// List dead letters with their reasons.
#[derive(FromArgs, ArgsInfo, Debug, PartialEq)]
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

/// Show dead letters in full, each with its event.
#[derive(FromArgs, ArgsInfo, Debug, PartialEq)]
#[argh(subcommand, name = "show")]
pub(super) struct DeadLetterShow {
    /// their ids, as `list` prints them
    #[argh(positional, arg_name = "id")]
    pub(super) ids: Vec<i64>,
}

/// Send dead letters to their sinks again.
#[derive(FromArgs, ArgsInfo, Debug, PartialEq)]
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
    /// also what may overwrite newer rows (mode = "upsert"), or may be there already
    #[argh(switch)]
    pub(super) force: bool,
}

/// Drop dead letters for good, without another question.
#[derive(FromArgs, ArgsInfo, Debug, PartialEq)]
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

/// Check, repair or print the buffer file, take over one from a backup, or drop what is left in it.
#[derive(FromArgs, ArgsInfo, Debug, PartialEq)]
#[argh(subcommand, name = "buffer")]
pub(super) struct Buffer {
    #[argh(subcommand)]
    pub(super) action: BufferAction,
}

#[derive(FromArgs, ArgsInfo, Debug, PartialEq)]
#[argh(subcommand)]
pub(super) enum BufferAction {
    Check(BufferCheck),
    Salvage(BufferSalvage),
    Export(BufferExport),
    Adopt(BufferAdopt),
    Discard(BufferDiscard),
}

/// Read the whole buffer and verify every checksum.
#[derive(FromArgs, ArgsInfo, Debug, PartialEq)]
#[argh(subcommand, name = "check")]
pub(super) struct BufferCheck {
    /// take the report of an earlier salvage as read: health no longer mentions it
    #[argh(switch)]
    pub(super) acknowledge: bool,
}

/// Make a new buffer of what can be read of a damaged one, which is kept. The agent must be stopped.
#[derive(FromArgs, ArgsInfo, Debug, PartialEq)]
#[argh(subcommand, name = "salvage")]
pub(super) struct BufferSalvage {}

/// Print all buffered events and dead letters as NDJSON.
#[derive(FromArgs, ArgsInfo, Debug, PartialEq)]
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
#[derive(FromArgs, ArgsInfo, Debug, PartialEq)]
#[argh(subcommand, name = "adopt")]
pub(super) struct BufferAdopt {
    /// go on although events that were delivered after the backup was made will arrive twice
    #[argh(switch)]
    pub(super) yes: bool,
}

/// Drop a stream or a sink that is no longer in the config, with all events that are still kept for it.
#[derive(FromArgs, ArgsInfo, Debug, PartialEq)]
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

/// Try it without a config: this machine's own load, through the buffer, into files.
#[derive(FromArgs, ArgsInfo, Debug, PartialEq)]
#[argh(subcommand, name = "demo")]
pub(super) struct Demo {
    /// where to keep buffer and files (default: a new directory under the temporary one)
    #[argh(option, arg_name = "directory")]
    pub(super) dir: Option<PathBuf>,
    /// stop after this time, such as 10s or 5m (default: at Ctrl-C)
    #[argh(option, long = "for", arg_name = "time")]
    pub(super) duration: Option<String>,
}
