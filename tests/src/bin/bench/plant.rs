//! What a plant costs: messages from Mosquitto into Postgres by `forebay run`, in CPU time and memory; and how long it
//! takes until rows come again after an outage.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use forebay_tests::{
    harness::{Agent, Gateway, processor_time, wait_until},
    servers::Mosquitto,
};

use crate::{
    mqtt::{TOPIC, is_on_disk, publish, subscribed},
    options::Options,
    table,
    warehouse::{Warehouse, Watch},
};

const SOURCE: &str = r#"
[sources.line1]
type = "mqtt"
url = "mqtt://127.0.0.1:{port}"
topics = ["{topic}"]
decode = "json"

"#;

const EVENTS: &str = "stream text NOT NULL, partition text NOT NULL, \"offset\" bigint NOT NULL, \
                      time timestamptz NOT NULL, key text, headers jsonb, body jsonb";

/// How often it is asked how far a delivery has come.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Prints the tables.
pub(crate) fn run(options: &Options) {
    let (messages, backlog) = if options.full { (1_000_000, 1_000_000) } else { (200_000, 100_000) };
    let (mosquitto, warehouse) = (Mosquitto::builder().max_inflight_messages(0).start(), Warehouse::with(EVENTS));
    let gateway = Gateway::within(&options.dir);
    let source = SOURCE.replace("{port}", &mosquitto.port().to_string()).replace("{topic}", TOPIC);
    gateway.configure(&(source + &warehouse.sink("")));
    let agent = gateway.start();
    subscribed(&agent);
    sleep(Duration::from_secs(2)); // What a start leaves to be done is no load.
    let (idle, before) = (agent.memory().resident, spent(&agent));

    let mut watch = warehouse.watch();
    let took = publish(mosquitto.port(), messages, || until(&mut watch, |delivered| delivered == messages));
    let (cpu, memory) = (spent(&agent) - before, agent.memory());
    drop(watch);
    table::print(
        "MQTT to Postgres, QoS 1, 256 bytes a message, 4 publishers, one sink that appends",
        &["messages", "messages/s", "CPU time of forebay run, for each million", "resident, idle", "after", "peak"],
        &[vec![
            table::count(messages as f64),
            table::count(table::rate(messages, took)),
            format!("{:.2} s", cpu.as_secs_f64() * 1e6 / messages as f64),
            table::mebibytes(idle),
            table::mebibytes(memory.resident),
            table::mebibytes(memory.peak),
        ]],
    );

    warehouse.postgres.stop_fast();
    publish(mosquitto.port(), backlog, || {
        while !is_on_disk(&gateway, messages + backlog) {
            sleep(LOOK_EVERY);
        }
    });
    let memory = agent.memory();
    warehouse.postgres.start_again();
    let back = Instant::now();
    let mut watch = warehouse.watch();
    until(&mut watch, |delivered| delivered > messages);
    let first = back.elapsed();
    until(&mut watch, |delivered| delivered == messages + backlog);
    let all = back.elapsed();
    table::print(
        "Postgres comes back after an outage",
        &["backlog", "resident before", "peak", "first rows after", "all rows after"],
        &[vec![
            table::count(backlog as f64),
            table::mebibytes(memory.resident),
            table::mebibytes(agent.memory().peak),
            format!("{:.2} s", first.as_secs_f64()),
            format!("{:.2} s", all.as_secs_f64()),
        ]],
    );
    drop(watch);
    wait_until("the agent to know of it", || agent.pending("warehouse") == 0);
    agent.terminate();
}

fn until(watch: &mut Watch, mut enough: impl FnMut(u64) -> bool) {
    while !enough(watch.delivered()) {
        sleep(LOOK_EVERY);
    }
}

fn spent(agent: &Agent) -> Duration {
    processor_time(agent.pid()).expect("the agent is running")
}
