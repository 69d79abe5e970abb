//! Flipped bytes at random places of the real file: it opens or is salvaged, says so, never panics, and never returns a
//! wrong event. A failing seed is printed, and `FOREBAY_CORRUPTION_SEED=<n>` repeats it.

use std::{
    collections::BTreeMap,
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use forebay_buffer::{
    Batch, Buffer, Error, Event, Inspector, Numbering, Offset, OpenError, Options, ReadLimits, Recovery, Refused,
    Start, StreamLimits, Timestamp,
};
use forebay_tests::{clock::StillClock, random::Random};
use tempfile::TempDir;

/// Damaged files in CI.
const SEEDS: u64 = 2_000;
const SHARED: Numbering = Numbering::Shared { created: 1_700_000_000_000_000 };
/// Stream, partition, numbering.
const LANES: [(&str, &str, Numbering); 3] =
    [("line", "0", Numbering::Assigned), ("line", "1", Numbering::Assigned), ("hub", "0", SHARED)];
const SINK: &str = "lake";

/// A file as it was when it was whole, and every event that was acknowledged in it, by lane.
struct Whole {
    closed: bool,
    files: BTreeMap<&'static str, Vec<u8>>,
    events: Vec<BTreeMap<Offset, Event>>,
    /// By lane: the source positions that came with batches, and the last offset of each batch.
    positions: Vec<BTreeMap<Vec<u8>, Offset>>,
    /// By lane: the offset of every event that has an identity.
    identities: Vec<BTreeMap<u128, Offset>>,
    /// Up to where the sink had confirmed each lane when the file was copied.
    confirmed: Vec<Offset>,
}

fn options(path: &Path) -> Options {
    let mut options = Options::new(path, Arc::new(StillClock::default()));
    options.max_bytes = 4 * 1024 * 1024;
    options.min_free_disk = Some(0);
    options
}

fn temporary() -> TempDir {
    let memory = PathBuf::from("/dev/shm");
    let parent = if memory.is_dir() { memory } else { std::env::temp_dir() };
    TempDir::with_prefix_in("forebay-", parent).expect("a directory for temporary files")
}

fn declare(buffer: &Buffer) -> Result<(), Error> {
    for stream in ["line", "hub"] {
        buffer.declare_stream(stream, StreamLimits { max_bytes: 4 << 20, ..StreamLimits::default() })?;
    }
    buffer.declare_sink(SINK, &["line", "hub"], Start::Oldest, 1 << 20)
}

/// A buffer with a few hundred events, some of them confirmed, one dead-lettered; copied after a clean close, or live with
/// its WAL.
fn whole(closed: bool) -> Whole {
    let directory = temporary();
    let path = directory.path().join("buffer.db");
    let buffer = options(&path).open().expect("a new buffer opens");
    declare(&buffer).expect("streams and sinks are declared");
    let mut random = Random::new(1);
    let mut events = vec![BTreeMap::new(); LANES.len()];
    let mut positions = vec![BTreeMap::new(); LANES.len()];
    let mut identities = vec![BTreeMap::new(); LANES.len()];
    let partitions =
        LANES.map(|(stream, name, numbering)| buffer.partition(stream, name, numbering).expect("it opens"));
    for n in 0..90_i64 {
        let lane = (n % 3) as usize;
        let batch: Vec<Event> = (0..random.between(1, 6))
            .map(|_| {
                let length = random.between(20, 800) as usize;
                Event::new(Timestamp(n), random.bytes(length))
            })
            .collect();
        let offsets = (0..batch.len() as i64).map(|i| Offset(n * 100 + i)).filter(|_| lane == 2).collect();
        let position = (lane != 1).then(|| n.to_be_bytes().to_vec());
        let ids: Vec<u128> = (0..batch.len() as u128).map(|i| n as u128 * 100 + i).filter(|_| lane != 1).collect();
        let encoded = partitions[lane].encode(Batch {
            events: batch.clone(),
            offsets,
            position: position.clone(),
            identities: ids.clone(),
            window: 1000,
            ..Batch::default()
        });
        let receipt = partitions[lane].append(encoded.expect("a batch can be encoded"));
        let high_water = receipt.wait().expect("there is room").high_water;
        let first = high_water.0 + 1 - batch.len() as i64;
        if let Some(position) = position {
            positions[lane].insert(position, high_water);
        }
        identities[lane].extend(ids.into_iter().zip((first..).map(Offset)));
        events[lane].extend((first..).map(Offset).zip(batch));
    }
    let mut reader = buffer.reader().expect("a reader opens");
    let mut confirmed = vec![Offset::BEFORE_ALL; LANES.len()];
    let subscription = buffer.subscription(SINK, &partitions[0]).expect("the sink takes it");
    subscription.resume_here().expect("nothing was delivered");
    let limits = ReadLimits { max_events: 20, max_bytes: 1 << 20 };
    let read = subscription.read(&mut reader, subscription.beginning(), limits).expect("it is readable");
    let (through, refused) = read.events.last().cloned().expect("there are events");
    let refused = Refused { event: refused, code: "no".to_owned(), reason: "not this one".to_owned() };
    subscription.refuse(vec![(through, refused)]).wait().expect("there is room");
    let checkpoint = subscription.checkpoint_at(through).expect("it was just read");
    subscription.confirm(checkpoint, None).expect("it was just read");
    confirmed[0] = through;
    drop((read, reader));
    if closed {
        buffer.close();
    }
    let beside = |suffix: &str| fs::read(format!("{}{suffix}", path.display()));
    let files = ["", "-wal"].into_iter().filter_map(|suffix| Some((suffix, beside(suffix).ok()?))).collect();
    Whole { closed, files, events, positions, identities, confirmed }
}

/// Damages bytes somewhere: a bit, a byte, a run of bytes, a zeroed page.
fn damage(random: &mut Random, bytes: &mut [u8]) -> String {
    let at = random.below(bytes.len() as u64) as usize;
    match random.below(4) {
        0 => {
            bytes[at] ^= 1 << random.below(8);
            format!("a bit flipped in byte {at}")
        }
        1 => {
            bytes[at] = bytes[at].wrapping_add(random.between(1, 255) as u8);
            format!("byte {at} changed")
        }
        2 => {
            let end = bytes.len().min(at + random.between(2, 64) as usize);
            bytes[at..end].fill_with(|| random.bits() as u8);
            format!("bytes {at}..{end} overwritten")
        }
        _ => {
            let page = at / 1024 * 1024;
            let end = bytes.len().min(page + 1024);
            bytes[page..end].fill(0);
            format!("bytes {page}..{end} zeroed")
        }
    }
}

/// What one look at a file found.
struct Look {
    recovery: Recovery,
    /// What a read or a command said of the damage, if one did.
    damage: Option<String>,
    /// By lane: whether the file still knows it.
    is_known: Vec<bool>,
    read: Vec<BTreeMap<Offset, Event>>,
    /// What was found in streams that a salvage named, for want of their own names.
    elsewhere: Vec<(Offset, Event)>,
    /// By lane: where the source is told to go on reading.
    positions: Vec<Option<Vec<u8>>>,
    /// By lane: the identities that are remembered.
    remembered: Vec<Vec<u128>>,
    /// By lane: the ranges that the ledger says are lost.
    ledger: Vec<Vec<(Offset, Offset)>>,
}

/// Opens, reads everything from where the sink stands, and closes.
fn look(path: &Path) -> Result<Look, OpenError> {
    let buffer = options(path).open()?;
    let mut look = Look {
        recovery: buffer.recovery(),
        damage: None,
        is_known: vec![false; LANES.len()],
        read: vec![BTreeMap::new(); LANES.len()],
        elsewhere: Vec::new(),
        positions: vec![None; LANES.len()],
        remembered: vec![Vec::new(); LANES.len()],
        ledger: vec![Vec::new(); LANES.len()],
    };
    if let Err(error) = examine(&buffer, &mut look) {
        assert!(matches!(error, Error::Damaged(_)), "damage is called something else: {error:?}");
        look.damage = Some(error.to_string());
    }
    buffer.close();
    Ok(look)
}

fn examine(buffer: &Buffer, look: &mut Look) -> Result<(), Error> {
    for (lane, (stream, name, _)) in LANES.into_iter().enumerate() {
        let partitions = buffer.partitions(stream).unwrap_or_default();
        look.is_known[lane] = partitions.iter().any(|partition| partition.name() == name);
    }
    rename_salvaged(buffer)?;
    declare(buffer)?;
    let mut reader = buffer.reader()?;
    for (lane, (stream, name, numbering)) in LANES.into_iter().enumerate() {
        let partition = buffer.partition(stream, name, numbering)?;
        look.positions[lane] = partition.position();
        look.remembered[lane] = partition.identities()?;
        let subscription = buffer.subscription(SINK, &partition)?;
        let mut after = subscription.checkpoint().map_or(subscription.beginning(), |checkpoint| checkpoint.offset);
        loop {
            let read = subscription.read(&mut reader, after, ReadLimits { max_events: 30, max_bytes: 1 << 20 })?;
            let Some((last, _)) = read.events.last() else { break };
            after = *last;
            look.read[lane].extend(read.events);
        }
    }
    // An inspector finds damage and says so, and leaves it to the operator what follows.
    let _damage = inspect(buffer, look);
    Ok(())
}

/// What an operator does with `renamed_from` when a salvage could not read what a stream was called: the sink takes its
/// events only under a name that it knows.
fn rename_salvaged(buffer: &Buffer) -> Result<(), Error> {
    let missing = ["line", "hub"].into_iter().filter(|name| buffer.partitions(name).is_err());
    let salvaged = ["salvaged-1", "salvaged-2"].into_iter().filter(|name| buffer.partitions(name).is_ok());
    // Streams are numbered in the order in which they were declared.
    salvaged.zip(missing).try_for_each(|(from, to)| buffer.rename_stream(from, to))
}

fn inspect(buffer: &Buffer, look: &mut Look) -> Result<(), Error> {
    let mut inspector = buffer.inspector()?;
    for stream in inspector.status()?.streams.iter().filter(|stream| LANES.iter().all(|lane| lane.0 != stream.name)) {
        let found = inspector.peek(&stream.name, None, None, usize::MAX)?;
        look.elsewhere.extend(found.into_iter().map(|peeked| (peeked.offset, peeked.event)));
    }
    for loss in inspector.losses()? {
        let is_its = |(stream, name, _): &(&str, &str, Numbering)| loss.stream == *stream && loss.partition == *name;
        if let Some(lane) = LANES.iter().position(is_its) {
            look.ledger[lane].push((loss.first, loss.last));
        }
    }
    Ok(())
}

/// One damaged file, opened and opened again.
fn run(seed: u64, wholes: &[Whole]) -> Result<(), String> {
    let mut random = Random::new(seed);
    let whole = &wholes[random.below(wholes.len() as u64) as usize];
    let suffix = *whole.files.keys().nth(random.below(whole.files.len() as u64) as usize).expect("there are files");
    let directory = temporary();
    let path = directory.path().join("buffer.db");
    let mut what = String::new();
    for (name, bytes) in &whole.files {
        let mut bytes = bytes.clone();
        if *name == suffix {
            what = format!("{} in `{name}` of {}", damage(&mut random, &mut bytes), bytes.len());
        }
        fs::write(format!("{}{name}", path.display()), bytes).map_err(|error| error.to_string())?;
    }
    // As beside every buffer: what says that a file without a header was one.
    fs::write(format!("{}.reserve", path.display()), b"").map_err(|error| error.to_string())?;
    let in_wal = suffix == "-wal";
    let first = look(&path).map_err(|error| format!("{what}: {error}"))?;
    judge(whole, &first, in_wal).map_err(|problem| format!("{what}: {problem}"))?;
    let mut second = look(&path).map_err(|error| format!("{what}, opened again: {error}"))?;
    second.is_known.iter_mut().zip(&first.is_known).for_each(|(second, first)| *second &= first);
    judge(whole, &second, in_wal).map_err(|problem| format!("{what}, opened again: {problem}"))?;
    match (first.damage, second.damage) {
        (Some(first), Some(second)) => Err(format!("{what}: {first}; and opened again: {second}")),
        _ => Ok(()),
    }
}

fn judge(whole: &Whole, look: &Look, in_wal: bool) -> Result<(), String> {
    let is_reported = matches!(&look.recovery, Recovery::Salvaged(report) if report.rows_lost > 0);
    for (lane, written) in whole.events.iter().enumerate() {
        for (offset, event) in &look.read[lane] {
            if written.get(offset) != Some(event) {
                return Err(format!("{:?} has a wrong event at {offset:?}", LANES[lane]));
            }
        }
        // What is remembered would be left out if it came again.
        let is_here = |offset: &Offset| *offset <= whole.confirmed[lane] || look.read[lane].contains_key(offset);
        let known = look.remembered[lane].iter().map(|id| (id, whole.identities[lane].get(id)));
        let forgotten = |(_, offset): &(&u128, Option<&Offset>)| !offset.is_some_and(is_here);
        if let Some((id, offset)) = known.clone().find(forgotten).filter(|_| look.damage.is_none()) {
            return Err(format!("{:?} remembers {id} at {offset:?}, and has no such event", LANES[lane]));
        }
        // What lies after the stored position is read again from the source.
        let positions = &whole.positions[lane];
        let covered = look.positions[lane].as_ref().and_then(|position| positions.get(position));
        let through = if positions.is_empty() { Offset(i64::MAX) } else { *covered.unwrap_or(&Offset::BEFORE_ALL) };
        let is_missing = |offset: &&Offset| {
            (whole.confirmed[lane].0 + 1..=through.0).contains(&offset.0)
                && !look.read[lane].contains_key(offset)
                && !look.elsewhere.iter().any(|(at, event)| at == *offset && written.get(offset) == Some(event))
                && !look.ledger[lane].iter().any(|(first, last)| first <= *offset && *offset <= last)
        };
        let missing = written.keys().find(is_missing);
        // A WAL ends where its checksums do: what came after is as a power cut would have left it.
        let is_the_rest = written.keys().skip_while(|offset| !is_missing(offset)).all(|offset| is_missing(&offset));
        let is_a_shorter_log = in_wal && is_the_rest;
        // Of a lane that is lost itself no ledger can say what it had, nor of the end of one whose row does not say how far
        // it reached, for the file was not closed: the report has to do.
        let is_reported = is_reported && (!look.is_known[lane] || is_the_rest && !whole.closed);
        if let Some(missing) = missing.filter(|_| !is_reported && look.damage.is_none() && !is_a_shorter_log) {
            return Err(format!("{:?}: {missing:?} is missing in silence ({:?})", LANES[lane], look.recovery));
        }
    }
    Ok(())
}

#[test]
fn damage_never_makes_a_wrong_event_nor_loses_one_in_silence() {
    let wholes = [whole(true), whole(false)];
    assert!(wholes[1].files["-wal"].len() > 1024, "the live copy has events in its WAL");
    let one = std::env::var("FOREBAY_CORRUPTION_SEED").ok().map(|seed| seed.parse::<u64>().expect("a number"));
    let next = AtomicU64::new(one.unwrap_or(0));
    let end = one.map_or(SEEDS, |seed| seed + 1);
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        break;
                    }
                    let verdict = catch_unwind(AssertUnwindSafe(|| run(seed, &wholes)));
                    let verdict = verdict.unwrap_or_else(|_| Err("it panicked: see above".to_owned()));
                    if let Err(problem) = verdict {
                        failures.lock().expect("nothing panics while it is held").push((seed, problem));
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().expect("nothing panics while it is held");
    assert!(failures.is_empty(), "by FOREBAY_CORRUPTION_SEED: {failures:#?}");
}

#[test]
fn a_file_of_another_program_is_left_alone() {
    let directory = temporary();
    for (name, bytes) in [("text", b"not a database, and longer than a header".to_vec()), ("zeros", vec![0; 8192])] {
        let path = directory.path().join(name);
        fs::write(&path, &bytes).expect("the directory is ours");
        let refused = options(&path).open().err();
        assert!(matches!(refused, Some(OpenError::NotABuffer { .. })), "{name}: {refused:?}");
        assert_eq!(fs::read(&path).expect("it is still there"), bytes, "{name} was changed");
    }
    let path = directory.path().join("other.db");
    let other = rusqlite::Connection::open(&path).expect("SQLite opens it");
    other.execute_batch("CREATE TABLE other(x); INSERT INTO other VALUES (1)").expect("SQLite writes it");
    drop(other);
    let before = fs::read(&path).expect("it is there");
    let refused = options(&path).open().err();
    assert!(matches!(refused, Some(OpenError::NotABuffer { .. })), "{refused:?}");
    assert_eq!(fs::read(&path).expect("it is still there"), before, "another program's database was changed");
}

#[test]
fn an_empty_file_becomes_a_buffer() {
    let directory = temporary();
    let path = directory.path().join("buffer.db");
    fs::write(&path, b"").expect("the directory is ours");
    let buffer = options(&path).open().expect("an empty file is as good as none");
    assert_eq!(buffer.recovery(), Recovery::Created);
    buffer.close();
}

#[test]
fn a_truncated_file_is_salvaged_or_read_in_part_and_says_so() {
    let whole = whole(true);
    let directory = temporary();
    for part in 1..12 {
        let path = directory.path().join(format!("{part}.db"));
        let bytes = &whole.files[""];
        fs::write(&path, &bytes[..bytes.len() * part / 12]).expect("the directory is ours");
        let look = look(&path).unwrap_or_else(|error| panic!("{part}/12 of the file: {error}"));
        judge(&whole, &look, false).unwrap_or_else(|problem| panic!("{part}/12 of the file: {problem}"));
        let is_told = look.damage.is_some() || matches!(look.recovery, Recovery::Salvaged(_));
        assert!(is_told, "{part}/12 of the file: {:?}", look.recovery);
    }
}

#[test]
fn a_damaged_schema_costs_no_event() {
    let whole = whole(true);
    let bytes = &whole.files[""];
    let holds_schema = |page: &[u8]| page.windows(12).any(|text| text == b"CREATE TABLE");
    let pages: Vec<usize> = (0..bytes.len() / 1024).filter(|n| holds_schema(&bytes[n * 1024..][..1024])).collect();
    assert!(pages.len() > 2, "the schema is in pages {pages:?}");
    for page in pages.into_iter().chain([0]) {
        let directory = temporary();
        let path = directory.path().join("buffer.db");
        let mut bytes = bytes.clone();
        bytes[page * 1024..][..1024].fill(0);
        fs::write(&path, bytes).expect("the directory is ours");
        fs::write(format!("{}.reserve", path.display()), b"").expect("the directory is ours");
        let look = look(&path).unwrap_or_else(|error| panic!("page {page}: {error}"));
        assert!(look.is_known.iter().all(|known| *known), "page {page}: {:?}", look.recovery);
        judge(&whole, &look, false).unwrap_or_else(|problem| panic!("page {page}: {problem}"));
    }
}

#[test]
fn a_salvage_that_was_cut_short_is_done_again() {
    let whole = whole(false);
    let mut damaged = whole.files[""].clone();
    let middle = damaged.len() / 2;
    damaged[middle..middle + 1024].fill(0);
    let note = b"1\ndamage".to_vec();
    // Which files there were when it was cut short, beside the note that it was under way.
    let moments: [&[(&str, &[u8])]; 4] = [
        &[("", &damaged), ("-wal", &whole.files["-wal"])],
        &[("", &damaged), (".damaged-1-wal", &whole.files["-wal"])],
        &[(".damaged-1", &damaged), (".damaged-1-wal", &whole.files["-wal"])],
        &[(".damaged-1", &damaged), (".damaged-1-wal", &whole.files["-wal"]), (".salvaging", b"half a file")],
    ];
    for (n, files) in moments.into_iter().enumerate() {
        let directory = temporary();
        let path = directory.path().join("buffer.db");
        for (suffix, bytes) in files.iter().copied().chain([(".salvage", &note[..])]) {
            fs::write(format!("{}{suffix}", path.display()), bytes).expect("the directory is ours");
        }
        let first = look(&path).unwrap_or_else(|error| panic!("moment {n}: {error}"));
        assert!(matches!(first.recovery, Recovery::Salvaged(_)), "moment {n}: {:?}", first.recovery);
        judge(&whole, &first, false).unwrap_or_else(|problem| panic!("moment {n}: {problem}"));
        assert!(first.read.iter().map(BTreeMap::len).sum::<usize>() > 100, "moment {n}: most events are here");
        let second = look(&path).unwrap_or_else(|error| panic!("moment {n}, opened again: {error}"));
        assert_eq!(second.read, first.read, "moment {n}: done once, it is not done again");
    }
}

#[test]
fn most_damage_is_found_by_an_inspector_and_none_makes_it_panic() {
    let whole = whole(true);
    let directory = temporary();
    let path = directory.path().join("buffer.db");
    let notices = |seed: &u64| {
        let mut bytes = whole.files[""].clone();
        damage(&mut Random::new(*seed), &mut bytes);
        fs::write(&path, bytes).expect("the directory is ours");
        let found = Inspector::open(&path, Arc::new(StillClock::default())).map(|mut inspector| inspector.check());
        found.is_err() || found.is_ok_and(|found| found.is_err() || found.is_ok_and(|found| !found.is_empty()))
    };
    let noticed = (0..50).filter(notices).count();
    assert!(noticed > 30, "{noticed} of 50");
}
