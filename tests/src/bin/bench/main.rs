//! The benchmarks: one command, one table for each budget, each figure beside a limit measured in the same run.
//!
//! ```text
//! cargo run --release -p forebay-tests --bin bench -- [--full] [--dir PATH] [--only NAME]...
//! ```
//!
//! Nothing here is asserted. Memory and bytes written are those of child processes that do one thing each.

mod bare;
mod child;
mod depth;
mod end_to_end;
mod eventhub;
mod intake;
mod machine;
mod mqtt;
mod options;
mod plant;
mod postgres;
mod snowflake;
mod store;
mod table;
mod telemetry;
mod warehouse;
mod wear;

use options::{Mode, Options};

type Benchmark = fn(&Options);

const BENCHMARKS: [(&str, Benchmark); 9] = [
    ("intake", intake::run),
    ("wear", wear::run),
    ("depth", depth::run),
    ("end-to-end", end_to_end::run),
    ("mqtt", mqtt::run),
    ("postgres", postgres::run),
    ("plant", plant::run),
    ("eventhub", eventhub::run),
    ("snowflake", snowflake::run),
];

fn main() {
    let names = BENCHMARKS.map(|(name, _)| name);
    let options = match options::parse(std::env::args().skip(1), &names) {
        Ok(Mode::Child(arguments)) => return child::answer(&arguments),
        Ok(Mode::Benchmarks(options)) => options,
        Err(message) => {
            eprintln!("{message}");
            std::process::exit(2);
        }
    };
    machine::describe(&options);
    for (name, run) in BENCHMARKS {
        if options.wants(name) {
            run(&options);
        }
    }
}
