//! What an event costs, and how much memory the process holds, with few and with many events in the buffer.

use std::{path::Path, time::Duration};

use crate::{
    bare,
    child::{self, Figures},
    options::Options,
    store::{self, Store},
    table,
    telemetry::Telemetry,
};

/// Events appended on top of the backlog to see what an append costs there.
const APPENDED: u64 = 80_000;
const PRODUCERS: usize = 8;
const BATCH: usize = 100;

/// Prints the tables.
pub(crate) fn run(options: &Options) {
    let depths: &[u64] = if options.full { &[10_000, 1_000_000, 10_000_000] } else { &[10_000, 1_000_000] };
    let measured: Vec<(u64, Figures)> = depths.iter().map(|depth| (*depth, measure(options, *depth))).collect();
    let first = &measured[0].1;
    let rows: Vec<Vec<String>> = measured
        .iter()
        .map(|(depth, figures)| {
            let cost = |name: &str| format!("{:.2} us", figures[name]);
            let against_first = |name: &str| format!("{:.2}", figures[name] / first[name]);
            vec![
                table::count(*depth as f64),
                cost("append"),
                against_first("append"),
                cost("drain"),
                against_first("drain"),
                table::count(1e6 / figures["drain"]),
                table::count(1e6 / figures["bare_drain"]),
                table::percent(figures["bare_drain"] / figures["drain"]),
                table::mebibytes(figures["resident"] as u64),
                table::mebibytes(figures["peak"] as u64),
                table::mebibytes(figures["file"] as u64),
            ]
        })
        .collect();
    table::print(
        "Cost per event and memory by events buffered",
        &[
            "buffered",
            "append (8 x 100)",
            "to 10 k",
            "drain",
            "to 10 k",
            "drained/s",
            "bare SQLite: select, decompress, delete",
            "ratio",
            "resident after open and append",
            "peak with the drain",
            "file",
        ],
        &rows,
    );
}

fn measure(options: &Options, depth: u64) -> Figures {
    let dir = tempfile::tempdir_in(&options.dir).expect("a directory can be made in --dir");
    child::ask("fill", dir.path(), &[depth]);
    let file = std::fs::metadata(store::path(dir.path())).expect("the buffer is there").len();
    let bodies = bare::bodies(&store::path(dir.path()));
    bare::insert(dir.path(), &bodies, bodies.len().div_ceil(100) as u64);
    drop(bodies);
    let bare_drain = micros_per_event(bare::drain(dir.path()), depth);
    let mut figures = child::ask("serve", dir.path(), &[depth]);
    figures.extend([("bare_drain".into(), bare_drain), ("file".into(), file as f64)]);
    figures
}

/// The child that makes the backlog.
pub(crate) fn fill(dir: &Path, events: u64) -> Figures {
    const AT_ONCE: u64 = 100_000;
    let store = Store::open(dir);
    let mut telemetry = Telemetry::new(1);
    let mut left = events;
    while left > 0 {
        let now = left.min(AT_ONCE);
        let load = (0..now / 1_000).map(|_| telemetry.batch(1_000)).collect::<Vec<_>>();
        store.append(load.chunks((now / 8_000).max(1) as usize).map(<[_]>::to_vec).collect());
        left -= now;
    }
    store.close();
    Figures::new()
}

/// The child that works on the backlog, with memory of its own.
pub(crate) fn serve(dir: &Path, events: u64) -> Figures {
    let store = Store::open(dir);
    // Few batches, again and again: the memory of this process should be the buffer's, not the load's.
    let mut telemetry = Telemetry::new(2);
    let pools = [(); PRODUCERS].map(|()| [(); 4].map(|()| telemetry.batch(BATCH)));
    let load = pools.iter().map(|pool| pool.iter().cycle().take(APPENDED as usize / BATCH / PRODUCERS).cloned());
    let (append, _) = store.append(load.collect());
    let (resident, _) = child::own_memory();
    let drain = store.drain(events + APPENDED);
    let (_, peak) = child::own_memory();
    store.close();
    Figures::from([
        ("append".into(), micros_per_event(append, APPENDED)),
        ("drain".into(), micros_per_event(drain, events + APPENDED)),
        ("resident".into(), resident),
        ("peak".into(), peak),
    ])
}

fn micros_per_event(took: Duration, events: u64) -> f64 {
    took.as_secs_f64() * 1e6 / events as f64
}
