//! Promise 5 on a log file that is larger than the memory, the buffer, or both. `FOREBAY_LOG_MIB` is its size (300).

use std::{
    fs::File,
    io::{BufWriter, Seek, SeekFrom, Write},
};

use forebay_tests::harness::{self, Gateway, contains, scan, wait_until};

/// Resident memory that the agent must stay below, an unoptimised build included: far below the file and the buffer.
const BOUND_BYTES: u64 = 96 << 20;

const CONFIG: &str = r#"
[buffer]
max_bytes = "64MiB"

[sources.logs]
type = "tail"
include = ["{dir}/logs/*.log"]
start = "beginning"
format = "ndjson"

[sinks.packed]
type = "file"
inputs = ["logs"]
path = "{dir}/out"
max_file_bytes = "64MiB"
compression = "zstd"
"#;

#[test]
fn a_log_larger_than_the_buffer_is_delivered_whole_in_bounded_memory() {
    let gateway = Gateway::new();
    gateway.configure(CONFIG);
    std::fs::create_dir(gateway.path("logs")).expect("a directory can be made");
    let lines = write_log(&gateway, harness::size("FOREBAY_LOG_MIB", 300) << 20);

    let agent = gateway.start();
    wait_until("every line to be taken in", || agent.taken_in() >= lines);
    wait_until("every line to be delivered", || agent.confirmed() >= lines);
    let memory = agent.memory();
    assert!(agent.terminate().success());
    assert!(memory.peak < BOUND_BYTES, "{memory:?}");

    let mut next = 0;
    let torn = scan(&gateway.path("out"), "packed", |record| {
        let line = record.body.as_ref().and_then(|body| body["line"].as_u64());
        assert_eq!(line, Some(next), "line {next} is next");
        next += 1;
    });
    assert_eq!((next, torn.len()), (lines, 0));
}

#[test]
fn a_line_of_a_gibibyte_is_refused_in_bounded_memory_and_the_next_one_is_delivered() {
    let gateway = Gateway::new();
    gateway.configure(CONFIG);
    std::fs::create_dir(gateway.path("logs")).expect("a directory can be made");
    let mut log = File::create(gateway.path("logs/sparse.log")).expect("a file can be made");
    log.seek(SeekFrom::Start(1 << 30)).expect("a file can have a hole");
    log.write_all(b"\n{\"line\":\"after the hole\"}\n").expect("the log can be written");

    let agent = gateway.start();
    wait_until("the next line to be taken in", || agent.taken_in() >= 1);
    wait_until("the next line to be delivered", || agent.confirmed() >= 1);
    let memory = agent.memory();
    assert!(memory.peak < BOUND_BYTES, "{memory:?}");
    assert!(agent.terminate().success());
    assert!(contains(&gateway.path("out"), "packed", "after the hole"));
    // Promise 6: what was refused is not lost in silence.
    let list = gateway.run(&["dead-letter", "list"]);
    assert!(String::from_utf8_lossy(&list.stdout).contains("logs"), "{list:?}");
}

/// Writes numbered lines until the log has `size_bytes`, and returns how many.
fn write_log(gateway: &Gateway, size_bytes: u64) -> u64 {
    let mut log = BufWriter::new(File::create(gateway.path("logs/big.log")).expect("a file can be made"));
    let (mut written, mut lines) = (0, 0);
    while written < size_bytes {
        let line = format!(
            "{{\"line\":{lines},\"level\":\"info\",\"at\":{},\"message\":\"request {:016x} served in {} us\"}}\n",
            1_767_225_600_000_000_u64 + lines * 137,
            lines.wrapping_mul(0x9e37_79b9_7f4a_7c15),
            lines % 9_973
        );
        log.write_all(line.as_bytes()).expect("the log can be written");
        written += line.len() as u64;
        lines += 1;
    }
    log.flush().expect("the log can be written");
    lines
}
