//! The real binary: events in over HTTP, out into files.

use std::{
    thread::{self, sleep},
    time::{Duration, Instant},
};

use forebay_tests::harness::{Agent, Gateway, wait_until};

use crate::{options::Options, store::Store, table, telemetry::Telemetry};

const CONNECTIONS: usize = 8;
const BATCH: usize = 100;

const CONFIG: &str = r#"
[sources.line1]
type = "http"
listen = "{http}"
path = "/events"

[sinks.files]
type = "file"
inputs = ["line1"]
path = "{dir}/out"
max_file_bytes = "64MiB"
"#;

/// Prints the table.
pub(crate) fn run(options: &Options) {
    let requests_each = if options.full { 5_000 } else { 500 };
    let gateway = Gateway::within(&options.dir);
    gateway.configure(CONFIG);
    let agent = gateway.start();
    let idle = settled(&agent);
    let load = bodies(requests_each);
    let events = (CONNECTIONS * requests_each * BATCH) as u64;

    let begun = Instant::now();
    let acknowledged = post(&gateway, load);
    wait_until("everything to be delivered", || agent.pending("files") == 0);
    let delivered = begun.elapsed();
    let memory = agent.memory();
    agent.terminate();

    let limit = table::rate(events, buffer_alone(options, requests_each));
    let rows = [("HTTP in, acknowledged", acknowledged), ("HTTP in, file out", delivered)].map(|(what, took)| {
        let rate = table::rate(events, took);
        vec![what.to_owned(), table::count(rate), table::count(limit), table::percent(rate / limit)]
    });
    table::print(
        "End to end, 8 connections, 100 events of 256 bytes a request, events/s",
        &["", "forebay run", "the buffer's API alone, same batches", "ratio"],
        &rows,
    );
    table::print(
        "Resident memory of forebay run, one HTTP source and one file sink",
        &["idle", "after the load", "peak"],
        &[vec![table::mebibytes(idle), table::mebibytes(memory.resident), table::mebibytes(memory.peak)]],
    );
}

/// Resident memory once it no longer grows.
fn settled(agent: &Agent) -> u64 {
    let mut before = 0;
    loop {
        let now = agent.memory().resident;
        if now == before {
            return now;
        }
        before = now;
        sleep(Duration::from_secs(1));
    }
}

fn bodies(requests_each: usize) -> Vec<Vec<String>> {
    (0..CONNECTIONS)
        .map(|connection| {
            let mut telemetry = Telemetry::new(connection as u64);
            let mut request = || {
                let lines: Vec<String> =
                    (0..BATCH).map(|_| String::from_utf8_lossy(&telemetry.body()).into_owned()).collect();
                lines.join("\n")
            };
            (0..requests_each).map(|_| request()).collect()
        })
        .collect()
}

fn post(gateway: &Gateway, load: Vec<Vec<String>>) -> Duration {
    let begun = Instant::now();
    thread::scope(|scope| {
        for requests in load {
            scope.spawn(move || {
                let mut client = gateway.producer();
                for request in requests {
                    let headers = [("content-type", "application/x-ndjson")];
                    let answer = client.post("/events", &headers, request.as_bytes()).expect("the agent answers");
                    assert_eq!(answer.status, 202, "{}", answer.body);
                }
            });
        }
    });
    begun.elapsed()
}

fn buffer_alone(options: &Options, requests_each: usize) -> Duration {
    let dir = tempfile::tempdir_in(&options.dir).expect("a directory can be made in --dir");
    let store = Store::open(dir.path());
    let load = (0..CONNECTIONS).map(|producer| {
        let mut telemetry = Telemetry::new(producer as u64);
        (0..requests_each).map(|_| telemetry.batch(BATCH)).collect::<Vec<_>>()
    });
    let (took, _) = store.append(load.collect());
    store.close();
    took
}
