//! Buffer to Postgres: what lies in a buffer when `forebay run` starts, against `psql` with the same rows.

use std::{
    fs::{File, create_dir},
    io::Write,
    path::Path,
    process::Stdio,
    thread::sleep,
    time::{Duration, Instant},
};

use forebay_buffer::Batch;
use forebay_tests::harness::Gateway;

use crate::{options::Options, store::Store, table, telemetry::Telemetry, warehouse::Warehouse};

/// Turns of each side; the median counts.
const TURNS: usize = 3;
/// Events of an append to the buffer.
const APPENDED_TOGETHER: u64 = 100;
/// Rows of an upsert's transaction, on both sides.
const UPSERTED_TOGETHER: usize = 2_000;
/// Machines whose last reading an upsert keeps.
const MACHINES: u64 = 5_000;
/// How often it is asked how far a delivery has come.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// What `forebay setup` makes for events as they are.
const EVENTS: &str = "stream text NOT NULL, partition text NOT NULL, \"offset\" bigint NOT NULL, \
                      time timestamptz NOT NULL, key text, headers jsonb, body jsonb";
/// The last reading of each machine.
const LATEST: &str = "key text PRIMARY KEY, \"offset\" bigint NOT NULL, time timestamptz NOT NULL, body jsonb";
const UPSERT: &str = r#"
mode = "upsert"
key_columns = ["key"]
columns = { key = "key", offset = "offset", time = "time", body = "body" }
"#;

const SOURCE: &str = "[sources.line1]\ntype = \"http\"\nlisten = \"{http}\"\n\n";

/// Rows a second.
struct Turn {
    forebay: f64,
    psql: f64,
}

/// Prints the table.
pub(crate) fn run(options: &Options) {
    let events = if options.full { 2_000_000 } else { 200_000 };
    let rows = vec![
        row("append, against `\\copy`", || append(options, events)),
        row("upsert of 5,000 keys, against staging and `INSERT ... ON CONFLICT`", || upsert(options, events)),
    ];
    table::print(
        "Buffer to Postgres, events of 256 bytes, rows/s",
        &["", "forebay run", "psql, the same rows", "ratio"],
        &rows,
    );
}

fn row(what: &str, measure: impl Fn() -> Turn) -> Vec<String> {
    let turns: Vec<Turn> = (0..TURNS).map(|_| measure()).collect();
    let middle = |side: fn(&Turn) -> f64| {
        let mut rates: Vec<f64> = turns.iter().map(side).collect();
        rates.sort_by(f64::total_cmp);
        rates[TURNS / 2]
    };
    let (forebay, psql) = (middle(|turn| turn.forebay), middle(|turn| turn.psql));
    vec![what.to_owned(), table::count(forebay), table::count(psql), table::percent(forebay / psql)]
}

fn append(options: &Options, events: u64) -> Turn {
    let warehouse = Warehouse::with(EVENTS);
    let mut telemetry = Telemetry::new(1);
    let batches = (0..events / APPENDED_TOGETHER).map(|_| telemetry.batch(APPENDED_TOGETHER as usize));
    let forebay = deliver(options, &warehouse, "", batches.collect(), events);
    let count = warehouse.postgres.psql("SELECT count(*) FROM readings");
    assert_eq!(count, events.to_string(), "each event is a row");

    let file = tempfile::NamedTempFile::new_in(&options.dir).expect("a file can be made in --dir");
    let path = file.path().display();
    psql(&warehouse, &["-c", &format!("\\copy readings TO '{path}'")]);
    warehouse.postgres.psql("CREATE TABLE again (LIKE readings); CHECKPOINT");
    let took = psql(&warehouse, &["-c", &format!("\\copy again FROM '{path}'")]);
    Turn { forebay, psql: table::rate(events, took) }
}

fn upsert(options: &Options, events: u64) -> Turn {
    let warehouse = Warehouse::with(LATEST);
    let mut telemetry = Telemetry::new(1);
    let mut machine = 0;
    let mut batch = || {
        let mut batch = telemetry.batch(APPENDED_TOGETHER as usize);
        for event in &mut batch.events {
            // Every machine in turn, by strides, so that they are not in the order of the index.
            machine = (machine + 1_237) % MACHINES;
            event.key = Some(format!("machine {machine}").into());
        }
        batch
    };
    let batches: Vec<Batch> = (0..events / APPENDED_TOGETHER).map(|_| batch()).collect();
    let dir = tempfile::tempdir_in(&options.dir).expect("a directory can be made in --dir");
    let script = write_script(dir.path(), &batches);
    let settings = format!("{UPSERT}max_batch_events = {UPSERTED_TOGETHER}\n");
    let forebay = deliver(options, &warehouse, &settings, batches, events);
    let found = latest(&warehouse);

    warehouse.postgres.psql("TRUNCATE readings; CHECKPOINT");
    let took = psql(&warehouse, &["-f", &script]);
    assert_eq!(latest(&warehouse), found, "both sides keep the same readings");
    Turn { forebay, psql: table::rate(events, took) }
}

fn latest(warehouse: &Warehouse) -> String {
    warehouse.postgres.psql("SELECT count(*), md5(string_agg(key || body::text, ',' ORDER BY key)) FROM readings")
}

/// What someone writes by hand who knows Postgres: each batch is copied into a temporary table, and from there its last
/// row of each key is upserted.
fn write_script(dir: &Path, batches: &[Batch]) -> String {
    let path = dir.join("upsert.sql");
    let mut script = File::create(&path).expect("a file can be made");
    writeln!(script, "CREATE TEMP TABLE staging (LIKE readings) ON COMMIT DELETE ROWS;").expect("there is room");
    let events: Vec<_> = batches.iter().flat_map(|batch| &batch.events).collect();
    for (number, part) in events.chunks(UPSERTED_TOGETHER).enumerate() {
        let rows = dir.join(format!("{number}.rows"));
        let mut file = std::io::BufWriter::new(File::create(&rows).expect("a file can be made"));
        for (index, event) in part.iter().enumerate() {
            let text = |bytes: &Option<bytes::Bytes>| {
                let bytes = bytes.as_deref().expect("telemetry of machines has both");
                String::from_utf8_lossy(bytes).into_owned()
            };
            let offset = number * UPSERTED_TOGETHER + index;
            let time = jiff::Timestamp::from_microsecond(event.time.0).expect("a time of this century");
            let (key, body) = (text(&event.key), text(&event.body));
            writeln!(file, "{key}\t{offset}\t{time}\t{body}").expect("there is room");
        }
        writeln!(
            script,
            "BEGIN;\n\\copy staging FROM '{}'\nINSERT INTO readings SELECT DISTINCT ON (key) * FROM staging ORDER BY \
             key, \"offset\" DESC ON CONFLICT (key) DO UPDATE SET \"offset\" = excluded.\"offset\", time = \
             excluded.time, body = excluded.body;\nCOMMIT;",
            rows.display()
        )
        .expect("there is room");
    }
    path.display().to_string()
}

/// Puts `batches` into a buffer, lets the agent deliver it, and returns rows a second: between the first look that sees
/// some and the one that sees all.
fn deliver(options: &Options, warehouse: &Warehouse, settings: &str, batches: Vec<Batch>, events: u64) -> f64 {
    let gateway = Gateway::within(&options.dir);
    gateway.configure(&(SOURCE.to_owned() + &warehouse.sink(settings)));
    create_dir(gateway.path("data")).expect("a directory can be made");
    let store = Store::open(&gateway.path("data"));
    store.append(vec![batches]);
    store.close();
    warehouse.postgres.psql("CHECKPOINT");

    let mut watch = warehouse.watch();
    let agent = gateway.spawn();
    let mut first = None;
    loop {
        let (now, delivered) = (Instant::now(), watch.delivered());
        let (begun, before) = *first.get_or_insert((now, delivered));
        if before == 0 {
            first = None;
        }
        if delivered == events {
            agent.terminate();
            return table::rate(events - before, now - begun);
        }
        sleep(LOOK_EVERY);
    }
}

/// Runs `psql` to its end.
fn psql(warehouse: &Warehouse, arguments: &[&str]) -> Duration {
    let mut psql = warehouse.postgres.psql_command(&warehouse.postgres.url());
    psql.args(arguments).stdout(Stdio::null());
    let begun = Instant::now();
    let status = psql.status().expect("psql can be run");
    let took = begun.elapsed();
    assert!(status.success(), "psql failed");
    took
}
