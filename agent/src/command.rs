//! The commands: one file for each, and what they share.

mod arguments;
mod buffer;
mod check;
mod dead_letter;
mod demo;
mod event;
mod failure;
mod output;
mod peek;
mod remote;
mod run;
mod setting;
mod setup;
mod status;
mod table;
mod units;
mod version;

use std::{ffi::OsString, process::ExitCode};

use argh::CommandInfoWithArgs;

use self::{
    arguments::{Arguments, Command},
    failure::Outcome,
    setting::Setting,
};

/// Runs the command that `typed` (the words behind the program's name) asks for.
pub fn main(typed: impl IntoIterator<Item = OsString>) -> ExitCode {
    match Arguments::parse(typed).and_then(|arguments| arguments.map_or(Ok(()), dispatch)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

/// All commands and options, as they are defined: for the manual page and the completions.
pub fn information() -> CommandInfoWithArgs {
    arguments::information()
}

fn dispatch(arguments: Arguments) -> Outcome {
    let setting = Setting::new(arguments.config);
    match arguments.command {
        Command::Run(_) => run::run(setting),
        Command::Check(options) => check::run(&setting, &options),
        Command::Setup(options) => setup::run(&setting, &options),
        Command::Status(options) => status::run(&setting, &options),
        Command::Peek(options) => peek::run(&setting, &options),
        Command::DeadLetter(options) => dead_letter::run(&setting, options.action),
        Command::Buffer(options) => buffer::run(&setting, options.action),
        Command::Demo(options) => demo::run(setting, &options),
    }
}
