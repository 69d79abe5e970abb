//! The command line.

use std::path::PathBuf;

/// What to do.
#[derive(Debug, PartialEq)]
pub(crate) enum Mode {
    /// Run benchmarks.
    Benchmarks(Options),
    /// This process is a child of a benchmark: do what the arguments say.
    Child(Vec<String>),
}

/// What to measure, and where.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Options {
    /// The sizes of the full run.
    pub full: bool,
    /// Files are made below this directory: both sides of a ratio write to the same filesystem.
    pub dir: PathBuf,
    only: Vec<String>,
}

impl Options {
    /// Whether the benchmark `name` is wanted.
    pub(crate) fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|wanted| wanted == name)
    }
}

/// Reads the arguments.
pub(crate) fn parse(arguments: impl Iterator<Item = String>, names: &[&str]) -> Result<Mode, String> {
    let usage = || format!("usage: bench [--full] [--dir PATH] [--only NAME]...\nNAME is one of: {}", names.join(", "));
    let mut options = Options { full: false, dir: std::env::temp_dir(), only: Vec::new() };
    let mut arguments = arguments.peekable();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--child" => return Ok(Mode::Child(arguments.collect())),
            "--full" => options.full = true,
            "--dir" => options.dir = arguments.next().ok_or_else(usage)?.into(),
            "--only" => {
                let name = arguments.next().filter(|name| names.contains(&name.as_str())).ok_or_else(usage)?;
                options.only.push(name);
            }
            _ => return Err(usage()),
        }
    }
    Ok(Mode::Benchmarks(options))
}
