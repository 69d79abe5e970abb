//! Durable intake: the buffer's API against the bare loop, taken in turns.

use std::time::Duration;

use forebay_buffer::Batch;

use crate::{
    bare,
    options::Options,
    store::{self, Store},
    table,
    telemetry::Telemetry,
};

/// Turns of each side; the median counts.
const TURNS: usize = 5;

/// What one turn took.
struct Turn {
    forebay: Duration,
    bare: Duration,
    compressing: Duration,
    commits: u64,
    compressed_bytes: usize,
}

/// Prints the table.
pub(crate) fn run(options: &Options) {
    let mut rows = Vec::new();
    for batch in [1, 100, 1_000] {
        for producers in [1, 8, 64] {
            rows.push(measure(options, producers, batch));
        }
    }
    table::print(
        "Durable intake (synchronous=FULL, events of 256 bytes), events/s",
        &[
            "producers x batch",
            "Forebay",
            "events per commit",
            "bare SQLite, given the compressed bytes",
            "ratio",
            "bare SQLite that compresses too",
            "ratio",
            "compressed to",
        ],
        &rows,
    );
}

fn measure(options: &Options, producers: usize, batch: usize) -> Vec<String> {
    let scale = if options.full { 4 } else { 1 };
    let batches_each = scale
        * match (batch, producers) {
            (1, 1) => 3_000,
            (1, _) => 24_000 / producers,
            (100, _) => 3_200 / producers,
            _ => 640 / producers,
        };
    let events = (producers * batches_each * batch) as u64;
    let turns: Vec<Turn> = (0..TURNS).map(|seed| turn(options, producers, batches_each, batch, seed as u64)).collect();
    let rate = |time: fn(&Turn) -> Duration| table::rate(events, table::median(turns.iter().map(time).collect()));
    let (forebay, bare, compressing) = (rate(|t| t.forebay), rate(|t| t.bare), rate(|t| t.compressing));
    let last = turns.last().expect("there is more than one turn");
    vec![
        format!("{producers} x {batch}"),
        table::count(forebay),
        table::count(events as f64 / last.commits as f64),
        table::count(bare),
        table::percent(forebay / bare),
        table::count(compressing),
        table::percent(forebay / compressing),
        table::percent(last.compressed_bytes as f64 / (events as usize * crate::telemetry::BODY_BYTES) as f64),
    ]
}

fn turn(options: &Options, producers: usize, batches_each: usize, batch: usize, seed: u64) -> Turn {
    let dir = tempfile::tempdir_in(&options.dir).expect("a directory can be made in --dir");
    let load: Vec<Vec<Batch>> = (0..producers)
        .map(|producer| {
            let mut telemetry = Telemetry::new(seed * 1_000 + producer as u64);
            (0..batches_each).map(|_| telemetry.batch(batch)).collect()
        })
        .collect();
    let singles = load.iter().flatten().take_while(|_| batch == 1).flat_map(|batch| &batch.events);
    let singles = bare::bodies_of_singles(singles.filter_map(|event| event.body.as_deref()));
    let store = Store::open(dir.path());
    let (forebay, commits) = store.append(load);
    store.close();

    let bodies = if batch == 1 { singles } else { bare::bodies(&store::path(dir.path())) };
    let payloads = bare::payloads(&bodies);
    let sub = |name: &str| {
        let path = dir.path().join(name);
        std::fs::create_dir(&path).expect("a directory can be made");
        path
    };
    let bare = bare::insert(&sub("given"), &bodies, commits);
    let compressing = bare::compress_and_insert(&sub("compressing"), &payloads, commits);
    Turn { forebay, bare, compressing, commits, compressed_bytes: bodies.iter().map(Vec::len).sum() }
}
