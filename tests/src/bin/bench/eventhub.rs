//! Event Hubs, both ways: `forebay run` against the vendor's SDK for Python and against bare fe2o3-amqp, at the same server.
//!
//! A server is the emulator, which unpacks and keeps every event and is the limit itself, or a peer that does next to
//! nothing. What a client spends is its process's, so each is a process of its own.

mod bare;
mod client;
mod peer;
mod server;

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use forebay_tests::harness::{memory, processor_time};

pub(crate) use self::bare::{receive, send};
use self::{
    client::{Client, idle},
    server::Server,
};
use crate::{options::Options, table};

/// The hub.
const HUB: &str = "plant";
/// Its partitions.
const PARTITIONS: usize = 4;
/// Turns of each client; the median counts.
const TURNS: usize = 3;
/// How often it is asked how far a client has come.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Events of a batch as the agent's defaults make it: a MiB of events, over all partitions.
const BATCH: u64 = (1 << 20) / crate::telemetry::BODY_BYTES as u64 / PARTITIONS as u64;
/// Events of a batch that is nearly as large as a hub takes.
const FULL_BATCH: u64 = 2_300;
/// Batches that keep a connection full.
const PIPELINED: u64 = 8;

/// What was seen of a client.
struct Turn {
    /// Events a second.
    rate: f64,
    /// Processor time for each event, in microseconds.
    micros: f64,
    /// The most memory that was resident.
    peak: u64,
}

/// Who is measured, and with how many events: slow ones get fewer.
struct Contender<'a> {
    events: u64,
    start: &'a dyn Fn(&Server, u64) -> Client,
}

/// Prints the tables.
pub(crate) fn run(options: &Options) {
    let scale = if options.full { 5 } else { 1 };
    let peaks = [produce(options, scale), consume(options, scale)];
    let rows = [("buffer to hub", peaks[0]), ("hub to buffer", peaks[1])];
    let rows = rows.map(|(way, peak)| {
        vec![way.to_owned(), table::mebibytes(idle(options, way == "buffer to hub")), table::mebibytes(peak)]
    });
    table::print(
        "Resident memory of forebay run, one way at a time",
        &["", "idle", "peak under load, at the peer"],
        &rows,
    );
}

/// Prints how fast events come from the buffer into a hub. Returns the agent's peak of memory.
fn produce(options: &Options, scale: u64) -> u64 {
    let agent = |server: &Server, events| Client::sending_agent(options, server, events);
    let sdk = |server: &Server, events| Client::sdk("send", server, events);
    let sdk_at_once = |server: &Server, events| Client::sdk("send_async", server, events);
    let one = |server: &Server, events| Client::bare("send", server, &[events, BATCH, 1]);
    let full = |server: &Server, events| Client::bare("send", server, &[events, FULL_BATCH, PIPELINED]);
    let (mut rows, mut costs, mut peak) = (Vec::new(), Vec::new(), 0);
    for (name, delay, many) in
        [("the emulator", 0, 2), ("the emulator", 30, 2), ("the peer", 0, 20), ("the peer", 30, 20)]
    {
        let few = 50_000 * scale;
        let contenders = [
            Contender { events: few * many, start: &agent },
            Contender { events: few, start: &sdk },
            Contender { events: few, start: &sdk_at_once },
            Contender { events: few * many, start: &one },
            Contender { events: few * many, start: &full },
        ];
        let server = |_: u64| Server::start(name == "the emulator", Duration::from_millis(delay), 0);
        let turns = contend(&contenders, server, |server, client, events| {
            pace(client, events, || server.taken(), |_| server.taken() == events)
        });
        peak = turns[0].peak;
        let place = format!("{name}, {delay} ms");
        rows.push(rates(&place, &turns, &[1, 2, 3, 4]));
        costs.push(micros(&place, &turns));
    }
    let columns = [
        "hub, delay of its acknowledgements",
        "forebay run",
        "SDK",
        "SDK, asyncio",
        "bare, the same batches",
        "bare, full batches, 8 at once",
    ];
    print("Buffer to Event Hubs", &columns, &["to SDK", "to SDK, asyncio", "to bare", "to bare, full"], &rows, &costs);
    peak
}

/// Prints how fast events come from a hub to disk. Returns the agent's peak of memory.
fn consume(options: &Options, scale: u64) -> u64 {
    let agent = |server: &Server, events| Client::receiving_agent(options, server, events);
    let sdk = |server: &Server, events| Client::sdk("receive", server, events);
    let sdk_at_once = |server: &Server, events| Client::sdk("receive_async", server, events);
    let bare = |server: &Server, events| Client::bare("receive", server, &[events / PARTITIONS as u64]);
    let (mut rows, mut costs, mut peak) = (Vec::new(), Vec::new(), 0);
    for (name, few, many) in [("the emulator", 20_000, 5), ("the peer", 20_000, 20)] {
        let contenders = [
            Contender { events: few * many * scale, start: &agent },
            Contender { events: few * scale, start: &sdk },
            Contender { events: few * scale, start: &sdk_at_once },
            Contender { events: few * many * scale, start: &bare },
        ];
        let server = |events| Server::start(name == "the emulator", Duration::ZERO, events);
        let turns = contend(&contenders, server, |server, client, events| {
            pace(client, events, || server.given(), Client::is_done)
        });
        peak = turns[0].peak;
        rows.push(rates(name, &turns, &[1, 2, 3]));
        costs.push(micros(name, &turns));
    }
    let columns = ["hub", "forebay run, on disk", "SDK", "SDK, asyncio", "bare, thrown away"];
    print("Event Hubs to disk", &columns, &["to SDK", "to SDK, asyncio", "to bare"], &rows, &costs);
    peak
}

/// Measures each contender in turn, [`TURNS`] times, each at a server of its own.
fn contend(
    contenders: &[Contender<'_>],
    server: impl Fn(u64) -> Server,
    measure: impl Fn(&Server, &mut Client, u64) -> Turn,
) -> Vec<Turn> {
    let mut turns: Vec<Vec<Turn>> = contenders.iter().map(|_| Vec::new()).collect();
    for _ in 0..TURNS {
        for (contender, turns) in contenders.iter().zip(&mut turns) {
            let server = server(contender.events);
            let mut client = (contender.start)(&server, contender.events);
            turns.push(measure(&server, &mut client, contender.events));
            client.end();
        }
    }
    let middle = |mut turns: Vec<Turn>| {
        turns.sort_by(|one, other| one.rate.total_cmp(&other.rate));
        turns.swap_remove(TURNS / 2)
    };
    turns.into_iter().map(middle).collect()
}

/// Watches a client from the first look that sees events `handled` by the server to the one that sees it done.
fn pace(
    client: &mut Client,
    events: u64,
    handled: impl Fn() -> u64,
    mut done: impl FnMut(&mut Client) -> bool,
) -> Turn {
    let spent = |client: &Client| processor_time(client.pid()).expect("the client is running");
    let before = loop {
        match handled() {
            0 => sleep(LOOK_EVERY),
            some => break some,
        }
    };
    let (begun, cpu) = (Instant::now(), spent(client));
    while !done(client) {
        sleep(LOOK_EVERY);
    }
    let (took, cpu) = (begun.elapsed(), spent(client) - cpu);
    let peak = memory(client.pid()).expect("the client is running").peak;
    let counted = events - before;
    Turn { rate: table::rate(counted, took), micros: cpu.as_secs_f64() * 1e6 / counted as f64, peak }
}

/// A row of rates, and of the agent's to those of `others`.
fn rates(place: &str, turns: &[Turn], others: &[usize]) -> Vec<String> {
    let rates = turns.iter().map(|turn| table::count(turn.rate));
    let ratios = others.iter().map(|other| match turns[0].rate / turns[*other].rate {
        ratio if ratio > 2.0 => format!("{ratio:.1} x"),
        ratio => table::percent(ratio),
    });
    std::iter::once(place.to_owned()).chain(rates).chain(ratios).collect()
}

fn micros(place: &str, turns: &[Turn]) -> Vec<String> {
    let costs = turns.iter().map(|turn| format!("{:.2} us", turn.micros));
    std::iter::once(place.to_owned()).chain(costs).collect()
}

fn print(way: &str, columns: &[&str], ratios: &[&str], rates: &[Vec<String>], costs: &[Vec<String>]) {
    let with_ratios = [columns, ratios].concat();
    table::print(&format!("{way}, {PARTITIONS} partitions, events of 256 bytes, events/s"), &with_ratios, rates);
    table::print(&format!("{way}: processor time of the client for each event"), columns, costs);
}
