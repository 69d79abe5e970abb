//! Writes the manual pages and the shell completions from the definitions that the program itself is parsed by, so that
//! they cannot say anything else. What is no definition's to say stands in `pages/`.
//!
//! The completions are not made by the crate `argh_complete` (tried: 0.1.19). Its bash function knows a command by its
//! last word alone, so that `buffer check` gets the options of `check`; its fish script needs fish 4; and no shell is told
//! of `--config` behind a command, nor where a file is meant.

mod bash;
mod commands;
mod fish;
mod program;
mod roff;
mod settings;
mod zsh;

use std::{fs, path::PathBuf, process::ExitCode};

fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    let (Some(directory), None) = (words.next().map(PathBuf::from), words.next()) else {
        eprintln!("usage: forebay-manual DIRECTORY\nwrites the manual pages and the completions into DIRECTORY");
        return ExitCode::from(2);
    };
    let commands = commands::all(forebay::command::information());
    for (name, text) in [
        ("forebay.1", program::page(&commands)),
        ("forebay.toml.5", settings::page()),
        ("forebay.bash", bash::completion(&commands)),
        ("_forebay", zsh::completion(&commands)),
        ("forebay.fish", fish::completion(&commands)),
    ] {
        let path = directory.join(name);
        if let Err(error) = fs::create_dir_all(&directory).and_then(|()| fs::write(&path, text)) {
            eprintln!("cannot write {}: {error}", path.display());
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
