//! What the figures were measured on: they mean little without the cost of one fsync.

use std::{
    fs::{File, read_to_string},
    io::Write,
    thread::available_parallelism,
    time::{Duration, Instant},
};

use crate::options::Options;

/// Prints the machine.
pub(crate) fn describe(options: &Options) {
    let cpu = read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("unknown CPU", |rest| rest.trim_start_matches([' ', '\t', ':']));
    let cores = available_parallelism().map_or(1, usize::from);
    let sync = fdatasync(options);
    println!("{cores} cores ({model}); appending 4 KiB and fdatasync: {} us (median)", sync.as_micros());
}

fn fdatasync(options: &Options) -> Duration {
    let path = options.dir.join(format!("forebay-bench-sync.{}", std::process::id()));
    let mut file = File::create(&path).expect("a file can be made in --dir");
    let mut times: Vec<Duration> = (0..201)
        .map(|_| {
            let begun = Instant::now();
            file.write_all(&[7; 4096]).and_then(|()| file.sync_data()).expect("a file in --dir can be written");
            begun.elapsed()
        })
        .collect();
    std::fs::remove_file(path).expect("an own file can be removed");
    times.sort();
    times[times.len() / 2]
}
