//! Bytes written to disk for each byte of event body, while a sink drains what is appended.

use std::{path::Path, thread};

use crate::{
    bare,
    child::{self, Figures},
    options::Options,
    store::{self, Store},
    table,
    telemetry::{BODY_BYTES, Telemetry},
};

/// Prints the table.
pub(crate) fn run(options: &Options) {
    let scale = if options.full { 10 } else { 1 };
    let rows = [(1, 5_000), (100, 400_000), (1_000, 1_000_000)].map(|(batch, events): (u64, u64)| {
        let dir = tempfile::tempdir_in(&options.dir).expect("a directory can be made in --dir");
        let figures = child::ask("wear", dir.path(), &[events * scale, batch]);
        vec![
            if batch == 1 { "single events, one after another".to_owned() } else { format!("batches of {batch}") },
            format!("{:.2}", figures["forebay"]),
            format!("{:.2}", figures["bare"]),
            format!("{:.2}", figures["forebay"] / figures["bare"]),
        ]
    });
    table::print(
        "Bytes written to disk per byte of event body, WAL, checkpoints and deletes included",
        &[
            "intake",
            "Forebay, drained as it fills",
            "bare SQLite, the same blobs and commits, nothing deleted",
            "ratio",
        ],
        &rows,
    );
}

/// The child: appends from one producer, drains beside it, and closes; then the bare loop.
pub(crate) fn write(dir: &Path, events: u64, batch: usize) -> Figures {
    let mut telemetry = Telemetry::new(1);
    let load: Vec<_> = (0..events as usize / batch).map(|_| telemetry.batch(batch)).collect();
    let copy = load.clone();
    let before = child::own_written_bytes();
    let store = Store::open(dir);
    thread::scope(|scope| {
        scope.spawn(|| store.drain(events));
        store.append(vec![load]);
    });
    store.close();
    let forebay = child::own_written_bytes() - before;

    let commits = copy.len() as u64;
    let bodies = if batch == 1 {
        let events = copy.iter().flat_map(|batch| &batch.events);
        bare::bodies_of_singles(events.filter_map(|event| event.body.as_deref()))
    } else {
        // The bodies in a buffer that nothing drains: they are all there to be read.
        let aside = dir.join("aside");
        std::fs::create_dir(&aside).expect("a directory can be made");
        let store = Store::open(&aside);
        store.append(vec![copy]);
        store.close();
        bare::bodies(&store::path(&aside))
    };
    let before = child::own_written_bytes();
    bare::insert(dir, &bodies, commits);
    let bare = child::own_written_bytes() - before;
    let total = (events as usize * BODY_BYTES) as f64;
    Figures::from([("forebay".into(), forebay / total), ("bare".into(), bare / total)])
}
