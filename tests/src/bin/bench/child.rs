//! Child processes: each does one thing, and says what the kernel counted for it.

use std::{
    collections::BTreeMap,
    path::Path,
    process::{Command, Stdio},
};

use forebay_tests::harness::{memory, written_bytes};

use crate::{depth, eventhub, snowflake, wear};

/// Named numbers, as a child prints them.
pub(crate) type Figures = BTreeMap<String, f64>;

/// Runs this program as a child that does `task` in `dir`.
pub(crate) fn ask(task: &str, dir: &Path, numbers: &[u64]) -> Figures {
    let output = command(task, dir, numbers).stderr(Stdio::inherit()).output().expect("this program can be started");
    assert!(output.status.success(), "the child for {task} failed");
    let text = String::from_utf8(output.stdout).expect("a child prints text");
    text.lines()
        .filter_map(|line| line.split_once('='))
        .map(|(k, v)| (k.to_owned(), v.parse().unwrap_or(0.0)))
        .collect()
}

/// This program, as a child that does `task` in `dir`.
pub(crate) fn command(task: &str, dir: &Path, numbers: &[u64]) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("a running program has an executable"));
    command.args(["--child", task]).arg(dir).args(numbers.iter().map(u64::to_string));
    command
}

/// Does what the parent asked for.
pub(crate) fn answer(arguments: &[String]) {
    let [task, dir, numbers @ ..] = arguments else { panic!("a child is told a task and a directory") };
    let numbers: Vec<u64> = numbers.iter().map(|text| text.parse().expect("a number")).collect();
    let figures = match (task.as_str(), numbers.as_slice()) {
        ("append", [port, events]) => snowflake::append(*port, *events),
        ("fill", [events]) => depth::fill(Path::new(dir), *events),
        ("serve", [events]) => depth::serve(Path::new(dir), *events),
        ("send", [port, events, batch, in_flight]) => eventhub::send(*port, *events, *batch, *in_flight),
        ("receive", [port, events]) => eventhub::receive(*port, *events),
        ("wear", [events, batch]) => wear::write(Path::new(dir), *events, *batch as usize),
        _ => panic!("no task is called {task}"),
    };
    for (name, figure) in figures {
        println!("{name}={figure}");
    }
}

/// Bytes this process has caused to be written so far.
pub(crate) fn own_written_bytes() -> f64 {
    written_bytes(std::process::id()).unwrap_or(0) as f64
}

/// This process's resident memory: now, and at its highest.
pub(crate) fn own_memory() -> (f64, f64) {
    memory(std::process::id()).map_or((0.0, 0.0), |memory| (memory.resident as f64, memory.peak as f64))
}
