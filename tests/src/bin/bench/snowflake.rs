//! Snowpipe Streaming: `forebay run` against the vendor's SDK for Python and against bare requests, at the same emulator.
//!
//! The emulator reads every row, and says itself how much of a processor that takes. What a client spends is its process's,
//! so each is a process of its own. The agent and the SDK speak TLS, for the SDK speaks nothing else.

mod bare;
mod client;
mod server;
mod steady;

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use forebay_tests::harness::{memory, processor_time};

pub(crate) use self::bare::append;
use self::{client::Client, server::Server};
use crate::{options::Options, table};

/// Partitions, each with a channel.
const PARTITIONS: u64 = 4;
/// Events of a batch as the agent's defaults make it: a MiB of events.
const BATCH: u64 = (1 << 20) / crate::telemetry::BODY_BYTES as u64;
/// Turns of each client; the median counts.
const TURNS: usize = 3;
/// How often it is asked how far a client has come.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Events that come to each partition at a tick, while it is measured how long they take.
const STEADY_BATCH: usize = 50;
const STEADY_TICK: Duration = Duration::from_millis(100);
const STEADY_TICKS: usize = 100;
/// From here on the emulator is what is measured.
const BUSY: f64 = 0.9;
const CLIENTS: [&str; 4] =
    ["forebay run", "SDK, a commit for each batch", "SDK, pipelined", "bare, the same batches, no TLS"];

/// Starts a client that sends so many events.
type Start<'a> = &'a dyn Fn(&Server, u64) -> Client;

/// What was seen of a client.
struct Turn {
    /// Events a second.
    rate: f64,
    /// Processor time for each event, in microseconds.
    micros: f64,
    /// The most memory that was resident.
    peak: u64,
    /// Processors that the emulator kept busy.
    server: f64,
}

/// Prints the tables.
pub(crate) fn run(options: &Options) {
    let scale = if options.full { 5 } else { 1 };
    let (mut rates, mut costs, mut peaks, mut busy, mut took) = (vec![], vec![], vec![], vec![], vec![]);
    for delay in [100, 1_000].map(Duration::from_millis) {
        let place = format!("{} ms", delay.as_millis());
        let turns = contend(options, delay, scale);
        let row = |cell: fn(&Turn) -> String| [vec![place.clone()], turns.iter().map(cell).collect()].concat();
        let ratios = turns[1..].iter().map(|turn| ratio(turns[0].rate / turn.rate));
        rates.push(row(|turn| table::count(turn.rate)).into_iter().chain(ratios).collect());
        costs.push(row(|turn| format!("{:.2} us", turn.micros)));
        peaks.push(row(|turn| table::mebibytes(turn.peak)));
        busy.push(row(|turn| match turn.server {
            busy if busy < BUSY => table::percent(busy),
            busy => format!("{}: this is its limit", table::percent(busy)),
        }));
        took.push([vec![place.clone()], steady::run(options, delay)].concat());
    }
    let columns = [&["committed after"], &CLIENTS[..]].concat();
    let what = format!("Buffer to Snowpipe, {PARTITIONS} partitions, events of 256 bytes");
    let with_ratios = [&columns[..], &["to SDK", "to SDK, pipelined", "to bare"]].concat();
    table::print(&format!("{what}, events/s"), &with_ratios, &rates);
    table::print("Processor time of the client for each event", &columns, &costs);
    table::print("Peak of resident memory", &columns, &peaks);
    table::print("Of one core, what the emulator takes meanwhile", &columns, &busy);
    let a_second = STEADY_BATCH as u64 * PARTITIONS * 1_000 / STEADY_TICK.as_millis() as u64;
    table::print(
        &format!("At {a_second} events/s, from intake until the commit is seen, p50 / p99"),
        &columns[..4],
        &took,
    );
}

/// Measures each client in turn, [`TURNS`] times, each with an account of its own.
fn contend(options: &Options, delay: Duration, scale: u64) -> Vec<Turn> {
    let (few, many) = (20_000 * scale, 400_000 * scale);
    let clients: [(u64, Start<'_>); 4] = [
        (many, &|server, events| Client::agent(options, server, events)),
        (few, &|server, events| Client::sdk("waiting", server, events)),
        (many, &|server, events| Client::sdk("pipelined", server, events)),
        (many, &Client::bare),
    ];
    let mut turns = clients.map(|_| Vec::new());
    for _ in 0..TURNS {
        for ((events, start), turns) in clients.iter().zip(&mut turns) {
            let server = Server::start(delay);
            let client = start(&server, *events);
            turns.push(pace(&server, &client, *events));
            client.end();
        }
    }
    let middle = |mut turns: Vec<Turn>| {
        turns.sort_by(|one, other| one.rate.total_cmp(&other.rate));
        turns.swap_remove(TURNS / 2)
    };
    turns.into_iter().map(middle).collect()
}

/// Watches a client from the first look that finds it logged in to the one that finds all of `events` committed.
fn pace(server: &Server, client: &Client, events: u64) -> Turn {
    let spent = || (processor_time(client.pid()).expect("the client is running"), server.spent());
    while server.snowflake.channels().is_empty() {
        sleep(LOOK_EVERY);
    }
    let (begun, before) = (Instant::now(), spent());
    while server.committed() < events {
        sleep(LOOK_EVERY);
    }
    let (took, after) = (begun.elapsed(), spent());
    Turn {
        rate: table::rate(events, took),
        micros: (after.0 - before.0).as_secs_f64() * 1e6 / events as f64,
        peak: memory(client.pid()).expect("the client is running").peak,
        server: (after.1 - before.1).as_secs_f64() / took.as_secs_f64(),
    }
}

fn ratio(ratio: f64) -> String {
    if ratio > 2.0 { format!("{ratio:.1} x") } else { table::percent(ratio) }
}
