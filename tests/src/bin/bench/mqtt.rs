//! MQTT to disk: `forebay run` against a bare subscriber that throws away what comes, at the same broker and under the
//! same load.

mod bare;
mod flow;
mod stub;

use std::{
    net::TcpStream,
    sync::Arc,
    thread::{self, sleep},
    time::{Duration, Instant},
};

use forebay::clock::SystemClock;
use forebay_buffer::{Inspector, Offset};
use forebay_tests::{
    harness::{Agent, Gateway, wait_until},
    servers::Mosquitto,
};

use self::{
    bare::Bare,
    flow::{Load, Peer, kind},
    stub::Stub,
};
use crate::{options::Options, table};

/// Turns of each side; the median counts.
const TURNS: usize = 3;
/// What everything is published to.
pub(crate) const TOPIC: &str = "plant/line1/telemetry";
const PUBLISHERS: u64 = 4;
/// Messages that a publisher leaves unacknowledged.
const PUBLISHER_WINDOW: u64 = 500;
/// Messages that a subscriber may leave unacknowledged: the default of `receive_maximum`.
const WINDOW: u64 = 2_000;

/// No file can be written: what comes in stays in the buffer.
const CONFIG: &str = r#"
[sources.line1]
type = "mqtt"
url = "mqtt://127.0.0.1:{port}"
topics = ["{topic}"]
receive_maximum = {window}

{dedupe}

[sinks.files]
type = "file"
inputs = ["line1"]
path = "{dir}/out/files"
"#;

/// Identities are those of the messages that are made, which come again long after this many.
const DEDUPE: &str = "[sources.line1.dedupe]\nby = \"$.raw\"\nwindow = 10000\n";

/// Prints the table.
pub(crate) fn run(options: &Options) {
    let scale = if options.full { 10 } else { 1 };
    let (through_mosquitto, from_stub) = (100_000 * scale, 300_000 * scale);
    let rows = vec![
        row("Mosquitto, 4 publishers", through_mosquitto, "", |config| match config {
            Some(config) => mosquitto_to_disk(options, config, through_mosquitto),
            None => mosquitto_to_nowhere(through_mosquitto),
        }),
        row("a stub that only sends", from_stub, "", |config| match config {
            Some(config) => stub_to_disk(options, config, from_stub),
            None => stub_to_nowhere(from_stub),
        }),
        row("the same, dedupe by a field of the payload", from_stub, DEDUPE, |config| match config {
            Some(config) => stub_to_disk(options, config, from_stub),
            None => stub_to_nowhere(from_stub),
        }),
    ];
    table::print(
        "MQTT to disk (QoS 1, MQTT 5, 256 bytes a message, 2000 unacknowledged), messages/s",
        &["broker", "forebay run, on disk", "bare rumqttc, thrown away", "ratio"],
        &rows,
    );
}

/// Takes both sides in turns: `measure` is given the settings of a source, or nothing for the bare side.
fn row(broker: &str, count: u64, dedupe: &str, mut measure: impl FnMut(Option<&str>) -> Duration) -> Vec<String> {
    let turns: Vec<(Duration, Duration)> = (0..TURNS).map(|_| (measure(Some(dedupe)), measure(None))).collect();
    let rate = |side: fn(&(Duration, Duration)) -> Duration| {
        table::rate(count, table::median(turns.iter().map(side).collect()))
    };
    let (forebay, bare) = (rate(|turn| turn.0), rate(|turn| turn.1));
    vec![broker.to_owned(), table::count(forebay), table::count(bare), table::percent(forebay / bare)]
}

fn configured(options: &Options, port: u16, dedupe: &str) -> Gateway {
    let gateway = Gateway::within(&options.dir);
    let config = CONFIG.replace("{port}", &port.to_string()).replace("{topic}", TOPIC);
    gateway.configure(&config.replace("{window}", &WINDOW.to_string()).replace("{dedupe}", dedupe));
    gateway.cut("out");
    gateway
}

/// Waits until the source has subscribed.
pub(crate) fn subscribed(agent: &Agent) {
    wait_until("the agent to subscribe", || agent.status()["sources"][0]["condition"]["state"] == "running");
}

fn mosquitto_to_disk(options: &Options, dedupe: &str, count: u64) -> Duration {
    let mosquitto = broker();
    let gateway = configured(options, mosquitto.port(), dedupe);
    let agent = gateway.start();
    subscribed(&agent);
    let took = publish(mosquitto.port(), count, || {
        while !is_on_disk(&gateway, count) {
            sleep(Duration::from_millis(5));
        }
    });
    agent.terminate();
    took
}

/// Whether event number `count` of a new buffer is there. The agent's own figures may be a second old.
pub(crate) fn is_on_disk(gateway: &Gateway, count: u64) -> bool {
    let path = gateway.path("data").join("buffer.db");
    let mut inspector = Inspector::open(&path, Arc::new(SystemClock::new())).expect("the buffer can be read");
    let before = Offset::assigned(1, count - 2);
    inspector.peek("line1", Some("0"), Some(before), 1).is_ok_and(|found| !found.is_empty())
}

fn mosquitto_to_nowhere(count: u64) -> Duration {
    let mosquitto = broker();
    let bare = Bare::subscribe(mosquitto.port(), TOPIC, count, WINDOW);
    publish(mosquitto.port(), count, || bare.wait())
}

/// One whose subscribers and publishers have a window of their own choice.
fn broker() -> Mosquitto {
    Mosquitto::builder().max_inflight_messages(0).start()
}

/// Publishes `count` messages, and waits until they have `arrived`.
pub(crate) fn publish(port: u16, count: u64, arrived: impl FnOnce()) -> Duration {
    let loads: Vec<Load> = (0..PUBLISHERS).map(|seed| Load::new(TOPIC, seed)).collect();
    let begun = Instant::now();
    thread::scope(|scope| {
        for (number, load) in loads.iter().enumerate() {
            scope.spawn(move || publisher(port, number).publish(load, count / PUBLISHERS, PUBLISHER_WINDOW));
        }
        arrived();
        begun.elapsed()
    })
}

fn publisher(port: u16, number: usize) -> Peer {
    let mut peer = Peer::new(TcpStream::connect(("127.0.0.1", port)).expect("the broker listens"));
    let name = format!("publisher{number}");
    // CONNECT (section 3.1): version 5, a clean start, no keep-alive, no properties.
    let mut connect =
        vec![0x10, 13 + name.len() as u8, 0, 4, b'M', b'Q', b'T', b'T', 5, 2, 0, 0, 0, 0, name.len() as u8];
    connect.extend(name.as_bytes());
    peer.write(&connect);
    peer.expect(kind::CONNACK);
    peer
}

fn stub_to_disk(options: &Options, dedupe: &str, count: u64) -> Duration {
    let (stub, load) = (Stub::new(), Load::new(TOPIC, 0));
    let gateway = configured(options, stub.port(), dedupe);
    thread::scope(|scope| {
        let served = scope.spawn(|| stub.serve(&load, count, WINDOW));
        // It may be through before anybody has seen that it is ready.
        let agent = gateway.spawn();
        let took = served.join().expect("the agent acknowledges everything");
        assert!(is_on_disk(&gateway, count), "what is acknowledged is on disk");
        agent.terminate();
        took
    })
}

fn stub_to_nowhere(count: u64) -> Duration {
    let (stub, load) = (Stub::new(), Load::new(TOPIC, 0));
    thread::scope(|scope| {
        let served = scope.spawn(|| stub.serve(&load, count, WINDOW));
        let _bare = Bare::subscribe(stub.port(), TOPIC, count, WINDOW);
        served.join().expect("the subscriber acknowledges everything")
    })
}
