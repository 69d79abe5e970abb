//! Runs the real binary the way an operator's machine would, and judges what it wrote.
//!
//! A [`Gateway`] is a directory with a config, a buffer and an output; an [`Agent`] is one process running on it, which
//! tests kill, stop and start again. The [`Ledger`] lives in the test process, out of reach of the faults: it knows what
//! was acknowledged to whom, and judges what the file sink holds against that.

mod agent;
mod binary;
mod client;
mod gateway;
mod ledger;
mod mount;
mod output;
mod process;
mod said;
mod view;
mod wait;
mod wrong_clock;

use std::io::Write;

pub use agent::Agent;
pub use binary::binary;
pub use client::{Client, NoAnswer, Response};
pub use gateway::{Gateway, free_port};
pub use ledger::{Ledger, Outcome};
pub use mount::Mount;
pub use output::{Output, Record, contains, read_output, scan};
pub use process::{Memory, memory, processor_time, written_bytes};
pub use said::{errors, text, well};
pub use wait::{DEADLINE, comes_true, in_time, wait_for, wait_until};
pub use wrong_clock::{Jump, WrongClock, now_micros};

/// The number in the environment variable `name`, or `default`: how a test is made larger than it is in CI.
pub fn size(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} must be a whole number, and is {text:?}")),
        Err(_) => default,
    }
}

/// The seed of a run's random choices: `FOREBAY_SEED`, or one from the clock. It is printed, so that a failure can be
/// repeated.
pub fn seed() -> u64 {
    let seed = size("FOREBAY_SEED", now_micros() as u64);
    println!("seed: FOREBAY_SEED={seed}");
    seed
}

/// Says, past the capturing of a test's output, that a test is left out and why.
pub fn skip(test: &str, why: &str) {
    // Nothing is lost if nobody listens.
    let _ = writeln!(std::io::stderr(), "skipped: {test}: {why}");
}
