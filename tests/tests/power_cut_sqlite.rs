//! The power-cut disk, judged with SQLite alone: what SQLite promises must hold on it, and what it does not promise must
//! be seen to fail, or the harness proves nothing.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
};

use forebay_tests::{
    random::Random,
    vfs::{Failure, Image, Operation, PowerCut},
};
use rusqlite::{Connection, OpenFlags};

/// What a table holds.
type Rows = BTreeMap<i64, Vec<u8>>;

/// What the outside knows of a run: the states that SQLite may come back with.
#[derive(Default)]
struct Oracle {
    /// Every state that a commit has acknowledged, oldest first.
    committed: Vec<Rows>,
    /// What the commit under way would make of it.
    attempted: Option<Rows>,
}

impl Oracle {
    fn new() -> Self {
        Self { committed: vec![Rows::new()], attempted: None }
    }

    fn last(&self) -> &Rows {
        self.committed.last().expect("it begins with the empty state")
    }
}

/// What a run came to after its power cut.
#[derive(Debug, PartialEq)]
enum Verdict {
    Kept,
    /// It went back to an earlier commit.
    FellBack,
    Corrupt(String),
}

fn disk() -> PowerCut {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    PowerCut::register(&format!("power-cut-sqlite-{}", NUMBER.fetch_add(1, Ordering::Relaxed)))
}

/// The switch to WAL goes through a rollback journal, whose deletion SQLite makes durable only with EXTRA. Should it come
/// back, it undoes everything, the WAL's commits included.
fn open(disk: &PowerCut, synchronous: &str) -> rusqlite::Result<Connection> {
    let db = Connection::open_with_flags_and_vfs("/disk/test.db", OpenFlags::default(), disk.name())?;
    db.execute_batch(&format!(
        "PRAGMA synchronous=EXTRA; PRAGMA journal_mode=WAL; PRAGMA synchronous={synchronous}; PRAGMA wal_autocheckpoint=12;
         PRAGMA journal_size_limit=8192; PRAGMA cache_size=8; PRAGMA temp_store=memory;"
    ))?;
    Ok(db)
}

/// Random transactions until the power goes or `transactions` are done.
fn work(disk: &PowerCut, synchronous: &str, seed: u64, transactions: u64, oracle: &mut Oracle) -> rusqlite::Result<()> {
    let mut random = Random::new(seed);
    let mut db = open(disk, synchronous)?;
    let reader = open(disk, synchronous)?;
    db.execute_batch("CREATE TABLE IF NOT EXISTS rows (id INTEGER PRIMARY KEY, body BLOB)")?;
    for _ in 0..transactions {
        let mut rows = oracle.last().clone();
        let transaction = db.transaction()?;
        for _ in 0..random.between(1, 4) {
            let id = random.between(1, 30) as i64;
            if random.one_in(3) {
                transaction.execute("DELETE FROM rows WHERE id = ?1", [id])?;
                rows.remove(&id);
            } else {
                let length = random.between(1, 6_000) as usize;
                let body = random.bytes(length);
                transaction.execute("REPLACE INTO rows VALUES (?1, ?2)", rusqlite::params![id, body])?;
                rows.insert(id, body);
            }
        }
        oracle.attempted = Some(rows.clone());
        transaction.commit()?;
        oracle.attempted = None;
        oracle.committed.push(rows);
        match random.below(10) {
            0 => checkpoint(&db, "PASSIVE")?,
            1 => checkpoint(&db, "TRUNCATE")?,
            2 => assert_eq!(&read(&reader)?, oracle.last(), "a second connection must see what was committed"),
            3 => {
                db.close().map_err(|(_, error)| error)?;
                db = open(disk, synchronous)?;
            }
            _ => {}
        }
    }
    Ok(())
}

fn checkpoint(db: &Connection, mode: &str) -> rusqlite::Result<()> {
    db.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |_| Ok(()))
}

fn read(db: &Connection) -> rusqlite::Result<Rows> {
    let tables: i64 = db.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if tables == 0 {
        return Ok(Rows::new());
    }
    db.prepare("SELECT id, body FROM rows")?.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

fn judge(disk: &PowerCut, oracle: &Oracle) -> Verdict {
    let looked = open(disk, "FULL").and_then(|db| {
        let found: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
        Ok((found, read(&db)?))
    });
    match looked {
        Err(error) => Verdict::Corrupt(error.to_string()),
        Ok((found, _)) if found != "ok" => Verdict::Corrupt(found),
        Ok((_, rows)) if &rows == oracle.last() || Some(&rows) == oracle.attempted.as_ref() => Verdict::Kept,
        Ok((_, rows)) if oracle.committed.contains(&rows) => Verdict::FellBack,
        Ok(_) => Verdict::Corrupt("rows that were never committed together".to_owned()),
    }
}

/// One run with one cut, at a random operation and with a random image.
fn run(disk: &PowerCut, synchronous: &str, seed: u64) -> Verdict {
    disk.wipe();
    let mut random = Random::new(seed);
    let mut oracle = Oracle::new();
    disk.cut_after(random.below(160));
    let _cut_or_done = work(disk, synchronous, seed, 12, &mut oracle);
    disk.restart(Image::seeded(random.bits()));
    judge(disk, &oracle)
}

/// Opens again after failures, as often as it takes, and reads what is there.
///
/// What the WAL says now need not be on the disk: Linux never writes again what a failed fsync gave up. A checkpoint
/// puts it into the database by another way.
fn recover(disk: &PowerCut) -> Rows {
    let attempt = |_| {
        let db = open(disk, "FULL")?;
        checkpoint(&db, "TRUNCATE")?;
        read(&db)
    };
    (0..10).find_map(|n| attempt(n).ok()).expect("failures end after three")
}

#[test]
fn with_full_no_cut_point_of_a_workload_loses_a_commit() {
    let disk = disk();
    let mut counted = Oracle::new();
    work(&disk, "FULL", 7, 12, &mut counted).expect("without a cut all goes well");
    let operations = disk.operations();
    assert!(operations > 100, "a workload of {operations} operations has too few cut points");
    for cut in 0..operations {
        for (n, image) in [Image::Nothing, Image::Everything, Image::Prefix(cut), Image::Subset(cut), Image::Torn(cut)]
            .into_iter()
            .enumerate()
        {
            disk.wipe();
            disk.cut_after(cut);
            let mut oracle = Oracle::new();
            let _cut_or_done = work(&disk, "FULL", 7, 12, &mut oracle);
            assert!(disk.is_cut(), "operation {cut} was not reached");
            disk.restart(image);
            assert_eq!(judge(&disk, &oracle), Verdict::Kept, "cut at operation {cut}, image {n}: {image:?}");
        }
    }
}

#[test]
fn with_full_two_thousand_random_cuts_lose_no_commit() {
    let disk = disk();
    for seed in 0..2_000 {
        assert_eq!(run(&disk, "FULL", seed), Verdict::Kept, "seed {seed}");
    }
}

#[test]
fn with_normal_a_commit_is_lost_and_nothing_is_corrupt() {
    let disk = disk();
    let verdicts: Vec<Verdict> = (0..300).map(|seed| run(&disk, "NORMAL", seed)).collect();
    assert!(verdicts.contains(&Verdict::FellBack), "NORMAL must lose commits, or the harness finds nothing");
    assert!(!verdicts.iter().any(|verdict| matches!(verdict, Verdict::Corrupt(_))), "{verdicts:?}");
}

#[test]
fn with_off_a_file_is_corrupt() {
    let disk = disk();
    let is_corrupt = |seed| matches!(run(&disk, "OFF", seed), Verdict::Corrupt(_));
    assert!((0..2_000).any(is_corrupt), "OFF must corrupt a file, or the harness finds nothing");
}

#[test]
fn a_disk_that_lies_about_syncs_loses_commits_and_corrupts_files() {
    let disk = disk();
    disk.lie_about_syncs(true);
    let verdicts: Vec<Verdict> = (0..1_000).map(|seed| run(&disk, "FULL", seed)).collect();
    assert!(verdicts.contains(&Verdict::FellBack));
    assert!(verdicts.iter().any(|verdict| matches!(verdict, Verdict::Corrupt(_))));
}

#[test]
fn a_failed_operation_never_loses_a_commit() {
    let disk = disk();
    for seed in 0..500 {
        disk.wipe();
        let mut random = Random::new(seed);
        let mut oracle = Oracle::new();
        let operation = [None, Some(Operation::Sync), Some(Operation::Write)][random.below(3) as usize];
        disk.fail(Failure { operation, after: random.below(100), times: random.between(1, 3) });
        for part in 0..3 {
            if work(&disk, "FULL", seed + part, 6, &mut oracle).is_err() {
                let rows = recover(&disk);
                assert!(&rows == oracle.last() || Some(&rows) == oracle.attempted.as_ref(), "seed {seed}");
                oracle.committed.push(rows);
                oracle.attempted = None;
            }
        }
        disk.restart(Image::seeded(random.bits()));
        assert_eq!(judge(&disk, &oracle), Verdict::Kept, "seed {seed}");
    }
}

#[test]
fn a_full_disk_refuses_to_grow_and_loses_nothing() {
    let disk = disk();
    for seed in 0..100 {
        disk.wipe();
        let mut random = Random::new(seed);
        let capacity = random.between(20_000, 80_000);
        disk.set_capacity(Some(capacity));
        let mut oracle = Oracle::new();
        let full = work(&disk, "FULL", seed, 40, &mut oracle).expect_err("40 transactions are more than fit");
        assert_eq!(full.sqlite_error_code(), Some(rusqlite::ErrorCode::DiskFull), "{full}");
        assert!(disk.used_bytes() <= capacity);
        disk.set_capacity(None);
        disk.restart(Image::seeded(random.bits()));
        assert_eq!(judge(&disk, &oracle), Verdict::Kept, "seed {seed}");
    }
}
