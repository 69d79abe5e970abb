//! Promises 1, 3 and 4, with the real binary: it is killed with SIGKILL at random moments under HTTP and tail load, and
//! in the end the file sink holds every acknowledged event exactly once, in order.
//!
//! `FOREBAY_KILLS` says how often (25); `FOREBAY_SEED` repeats the choices of a run.

use std::{
    collections::HashSet,
    fs,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use forebay_tests::{
    harness::{self, Gateway, Ledger, Output, Record, comes_true, contains, read_output, wait_until},
    load::{LogWriter, Producer, Rotation},
    plant::Pace,
    random::Random,
};

const CONFIG: &str = r#"
[sources.line]
type = "http"
listen = "{http}"
path = "/events"

[sources.logs]
type = "tail"
# The copy that copy-truncate makes is left out, for it would be taken for a new file.
include = ["{dir}/logs/counted.log*", "{dir}/logs/dated.log*", "{dir}/logs/cut.log"]
format = "ndjson"
start = "beginning"
poll_interval = "20ms"

[sinks.plain]
type = "file"
inputs = ["line", "logs"]
path = "{dir}/plain"
max_file_bytes = "1MiB"

[sinks.packed]
type = "file"
inputs = ["line", "logs"]
path = "{dir}/packed"
max_file_bytes = "256KiB"
compression = "zstd"

[sinks.logged]
type = "file"
inputs = ["logs"]
path = "{dir}/logged"
max_file_bytes = "64KiB"
"#;

#[test]
fn every_acknowledged_event_is_delivered_exactly_once_and_in_order_through_kill_9() {
    let mut random = Random::new(harness::seed());
    let gateway = Gateway::new();
    gateway.configure(CONFIG);
    fs::create_dir(gateway.path("logs")).expect("a directory can be made");
    let (http, logs) = (Ledger::default(), Ledger::default());
    let stop = AtomicBool::new(false);
    let delivered = |id: &str| contains(&gateway.path("logged"), "logged", id);

    thread::scope(|scope| {
        let _stop = StopOnDrop(&stop);
        let mut load = Vec::new();
        for lane in 0..4 {
            let (lane, client) = (format!("http{lane}"), gateway.producer());
            let random = Random::new(random.bits());
            let producer = Producer { lane, path: "/events", client, ledger: &http, pace: Pace::UNBOUNDED, random };
            load.push(scope.spawn(|| producer.run(&stop)));
        }
        let rotations = [("counted", Rotation::Count), ("dated", Rotation::Date), ("cut", Rotation::CopyTruncate)];
        for (lane, rotation) in rotations {
            let (path, random) = (gateway.path("logs").join(lane).with_extension("log"), Random::new(random.bits()));
            let writer = LogWriter { path, lane: lane.into(), rotation, ledger: &logs, random, delivered: &delivered };
            load.push(scope.spawn(|| writer.run(&stop)));
        }
        for _ in 0..harness::size("FOREBAY_KILLS", 25) {
            live_and_be_killed(&gateway, &http, &mut random);
        }
        // The log that is cut waits for a delivery now and then: it may need a living agent to come to its end.
        let agent = gateway.start();
        stop.store(true, Ordering::Relaxed);
        for thread in load {
            thread.join().expect("the load met nothing that it did not expect");
        }
        let owed = [("plain", &http), ("plain", &logs), ("packed", &http), ("packed", &logs), ("logged", &logs)];
        // If it does not, the judgement has more to say.
        comes_true(|| all_delivered(&gateway, &owed));
        assert!(agent.terminate().success(), "the agent ends well when asked to");
    });

    println!("{} events over HTTP and {} lines of logs", http.acknowledged(), logs.acknowledged());
    assert!(http.acknowledged() > 0 && logs.acknowledged() > 0, "nothing was acknowledged, so nothing was tested");
    judge(&gateway, "plain", &[("line", &http), ("logs", &logs)]);
    judge(&gateway, "packed", &[("line", &http), ("logs", &logs)]);
    judge(&gateway, "logged", &[("logs", &logs)]);
}

/// One life of the agent. Half of them last until something was acknowledged in them, so that there is progress; the
/// others may end before the agent was ready.
fn live_and_be_killed(gateway: &Gateway, ledger: &Ledger, random: &mut Random) {
    let before = ledger.acknowledged();
    let mut agent = gateway.spawn();
    if random.one_in(2) {
        wait_until("an acknowledgement", || {
            assert_eq!(agent.exited(), None, "the agent ended by itself");
            ledger.acknowledged() > before
        });
    }
    thread::sleep(Duration::from_millis(random.below(600)));
    assert_eq!(agent.exited(), None, "the agent ended by itself");
    agent.kill_9();
}

fn all_delivered(gateway: &Gateway, owed: &[(&str, &Ledger)]) -> bool {
    thread::sleep(Duration::from_millis(200));
    owed.iter().all(|(sink, ledger)| {
        let output = read_output(&gateway.path(sink), sink);
        let there: HashSet<String> = output.records.iter().filter_map(id).collect();
        ledger.owed().iter().all(|id| there.contains(id))
    })
}

fn judge(gateway: &Gateway, sink: &str, ledgers: &[(&str, &Ledger)]) {
    let Output { records, torn } = read_output(&gateway.path(sink), sink);
    assert!(torn.is_empty(), "after the end of the agent there are torn files: {torn:?}");
    for (stream, ledger) in ledgers {
        let of_stream: Vec<Record> = records.iter().filter(|record| record.stream == *stream).cloned().collect();
        let faults = ledger.judge(&of_stream, id);
        assert!(
            faults.is_empty(),
            "{sink} is wrong about {stream} ({}): {:#?}",
            faults.len(),
            &faults[..faults.len().min(20)]
        );
    }
    let known: HashSet<&str> = ledgers.iter().map(|(stream, _)| *stream).collect();
    assert!(records.iter().all(|record| known.contains(record.stream.as_str())), "{sink} holds other streams");
}

fn id(record: &Record) -> Option<String> {
    Some(record.body.as_ref()?.get("id")?.as_str()?.to_owned())
}

/// Ends the load when the test fails, so that the failure is seen.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
