//! From a path to a buffer that can be trusted.
//!
//! The order matters: the lock before anything is read; a look at the header before SQLite may touch a file that is not
//! ours; the tables before the segments; and a new epoch, durable, before the first append.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

use rusqlite::{Connection, OpenFlags, wal::CheckpointMode};

use crate::{
    Buffer, Durability, Error, Offset, OpenError, Options, Recovery, Tag,
    catalog::{self, Catalog, damaged, insert_epoch, read_meta, write_meta},
    check, identity,
    lock::Lock,
    places::Places,
    places_table, salvage,
    schema::{self, Found},
    shared::Shared,
    space::{self, Space},
    txn::Txn,
    writer::Writer,
};

/// How long a connection waits for another's lock: a checkpoint, or an inspector.
pub(crate) const BUSY: Duration = Duration::from_secs(10);

/// No later version of this crate will be beyond this one: a header that says so is damaged.
const PLAUSIBLE_VERSION: u32 = 10_000;

const SQLITE_MAGIC: &[u8] = b"SQLite format 3\0";

/// A file beside the database: its name, with something after it.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// See [`Options::open`].
pub(crate) fn open(options: Options) -> Result<Buffer, OpenError> {
    if options.max_bytes < Options::MIN_MAX_BYTES {
        let least = Options::MIN_MAX_BYTES;
        return Err(OpenError::Unfit(format!("max_bytes = {} is too small: at least {least}", options.max_bytes)));
    }
    let lock = Lock::take(&options.path)?;
    refuse_newer(&options.path)?;
    if salvage::is_under_way(&options.path) {
        salvage::set_aside(&options, "a salvage was cut short")?;
    }
    let (db, catalog, places, recovery) = match load_for_writing(&options) {
        Err(Trouble::Damage(found)) => {
            let report = salvage::set_aside(&options, &found)?;
            let (db, catalog, places, _) = load_for_writing(&options).map_err(|trouble| trouble.into_open(&options))?;
            (db, catalog, places, Recovery::Salvaged(report))
        }
        other => other.map_err(|trouble| trouble.into_open(&options))?,
    };
    start(options, db, catalog, places, recovery, lock)
}

/// Why a file could not be loaded.
enum Trouble {
    /// Salvaging helps.
    Damage(String),
    /// It does not.
    Open(OpenError),
}

impl Trouble {
    fn into_open(self, options: &Options) -> OpenError {
        match self {
            Self::Damage(found) => OpenError::Damaged { path: options.path.clone(), found },
            Self::Open(error) => error,
        }
    }

    fn of(error: Error, options: &Options, doing: &'static str) -> Self {
        match error {
            Error::Damaged(found) => Self::Damage(found),
            other => Self::Open(OpenError::Io {
                path: options.path.clone(),
                doing,
                error: std::io::Error::other(other.to_string()),
            }),
        }
    }
}

type Loaded = (Connection, Catalog, Places, Recovery);

fn load_for_writing(options: &Options) -> Result<Loaded, Trouble> {
    let path = &options.path;
    let in_sqlite = |doing| {
        move |error: rusqlite::Error| match Error::from(error) {
            Error::Damaged(found) => Trouble::Damage(found),
            other => Trouble::of(other, options, doing),
        }
    };
    if options.vfs.is_none() {
        refuse_foreign(path).map_err(Trouble::Open)?;
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut db = connect(path, flags, options.vfs.as_deref()).map_err(in_sqlite("opening the buffer"))?;
    let created = match schema::identify(&db).map_err(in_sqlite("reading the buffer"))? {
        Found::Empty => {
            create(&mut db, options).map_err(in_sqlite("creating the buffer"))?;
            true
        }
        Found::Buffer(version) => {
            configure(&db, options).map_err(in_sqlite("configuring the buffer"))?;
            schema::migrate(&mut db, version).map_err(in_sqlite("migrating the buffer"))?;
            false
        }
        Found::Newer(found) => {
            if is_ours(&db) && found > PLAUSIBLE_VERSION {
                return Err(Trouble::Damage(format!("its header names schema version {found}")));
            }
            return Err(Trouble::Open(OpenError::Newer { path: path.clone(), found, known: schema::VERSION }));
        }
        Found::Foreign(id) => {
            if is_ours(&db) {
                return Err(Trouble::Damage(format!("its header names application {id:#x}")));
            }
            let found = format!("an SQLite database of another program, application id {id:#x}");
            return Err(Trouble::Open(OpenError::NotABuffer { path: path.clone(), found }));
        }
    };
    let load = || -> Result<(Catalog, Places, bool), Error> {
        let marker = beside(path, ".damaged");
        if let Ok(found) = std::fs::read_to_string(&marker) {
            if let Some(problem) = check::everything(&db)?.into_iter().next() {
                return Err(damaged(&format!("{found}; {problem}")));
            }
            log::warn!("damage was reported ({found}), and a check of the whole buffer finds none");
            let _ = std::fs::remove_file(marker);
        }
        ensure_generation(&db)?;
        let mut catalog = Catalog::load(&db, options.clock.boot_id())?;
        let clean = read_meta(&db, "clean")?.is_some_and(|clean| clean == [1]);
        check::count_segments(&db, &mut catalog, clean)?;
        identity::count(&db, &mut catalog)?;
        let places = places_table::load(&db, &catalog)?;
        Ok((catalog, places, clean))
    };
    let (catalog, places, clean) = load().map_err(|error| Trouble::of(error, options, "reading the buffer"))?;
    let recovery = match (created, clean) {
        (true, _) => Recovery::Created,
        (false, true) => Recovery::Clean,
        (false, false) => Recovery::Unclean,
    };
    Ok((db, catalog, places, recovery))
}

fn start(
    options: Options,
    db: Connection,
    mut catalog: Catalog,
    places: Places,
    recovery: Recovery,
    lock: Lock,
) -> Result<Buffer, OpenError> {
    let failed = |error: Error| OpenError::Io {
        path: options.path.clone(),
        doing: "beginning an epoch in",
        error: std::io::Error::other(error.to_string()),
    };
    if recovery != Recovery::Created {
        settle_wal(&db, &options.path).map_err(failed)?;
    }
    let recovery = match begin_epoch(&db, &mut catalog, recovery.clone()) {
        // A disk that is full at start is no reason not to drain: the reserve makes room for the new epoch.
        Err(Error::Full(_)) if space::give_up_reserve(&options.path) => begin_epoch(&db, &mut catalog, recovery),
        begun => begun,
    };
    let recovery = recovery.map_err(failed)?;
    let mut space = Space::new(&options.path, options.max_bytes, options.min_free_disk);
    let limit = |error| OpenError::Sqlite { path: options.path.clone(), doing: "limiting the size of", error };
    space.measure(&db).map_err(limit)?;
    let pages = space.max_pages().max(space.pages());
    db.pragma_update(None, "max_page_count", pages as i64).map_err(limit)?;
    db.pragma_update(None, "journal_size_limit", space.wal_budget_bytes as i64).map_err(limit)?;
    space.look_at_disk();
    let path = options.path.clone();
    let shared = Arc::new(Shared::new(options, catalog.clone(), places, recovery));
    shared.set_space(space.view());
    let writer = Writer::new(db, catalog, shared.clone(), space, lock);
    thread::Builder::new()
        .name("buffer-writer".to_owned())
        .spawn(move || writer.run())
        .map_err(|error| OpenError::Io { path, doing: "starting the writer thread for", error })?;
    Ok(Buffer::new(shared))
}

/// Looks at the first bytes of a file before SQLite may: it would roll another program's journal back.
pub(crate) fn refuse_foreign(path: &Path) -> Result<(), OpenError> {
    let io = |doing| move |error| OpenError::Io { path: path.to_owned(), doing, error };
    let mut header = [0; 16];
    let length = match File::open(path) {
        Ok(mut file) => {
            let length = file.metadata().map_err(io("looking at"))?.len();
            if length >= 16 {
                file.read_exact(&mut header).map_err(io("reading"))?;
            }
            length
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io("opening")(error)),
    };
    // A buffer that lost its header is damaged and no stranger: what stands beside it says whose it was.
    let ours = [".damaged", "-wal", ".reserve"].iter().any(|suffix| beside(path, suffix).exists());
    if length == 0 || header == SQLITE_MAGIC || ours {
        return Ok(());
    }
    Err(OpenError::NotABuffer { path: path.to_owned(), found: "not an SQLite database".to_owned() })
}

/// Refuses what a later version wrote, before anything is done with it: even closing a connection that may write changes
/// the file, and a salvage would leave out all that is not known here.
pub(crate) fn refuse_newer(path: &Path) -> Result<(), OpenError> {
    let mut header = [0; 72];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut header));
    if read.is_err() || !header.starts_with(SQLITE_MAGIC) || header[68..] != schema::APPLICATION_ID.to_be_bytes() {
        return Ok(()); // Whoever opens it next says what it is.
    }
    // The version may be in the WAL still.
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    match connect(path, flags, None).and_then(|db| schema::identify(&db)) {
        Ok(Found::Newer(found)) if found <= PLAUSIBLE_VERSION => {
            Err(OpenError::Newer { path: path.to_owned(), found, known: schema::VERSION })
        }
        _ => Ok(()),
    }
}

/// Whether a database with a strange header is a buffer all the same.
fn is_ours(db: &Connection) -> bool {
    read_meta(db, "generation").is_ok_and(|generation| generation.is_some())
}

pub(crate) fn connect(path: &Path, flags: OpenFlags, vfs: Option<&str>) -> rusqlite::Result<Connection> {
    let db = match vfs {
        Some(vfs) => Connection::open_with_flags_and_vfs(path, flags, vfs)?,
        None => Connection::open_with_flags(path, flags)?,
    };
    db.busy_timeout(BUSY)?;
    db.set_prepared_statement_cache_capacity(64);
    Ok(db)
}

/// Makes a new buffer where there is no file.
pub(crate) fn create_at(options: &Options) -> Result<Connection, OpenError> {
    let failed = |error| OpenError::Sqlite { path: options.path.clone(), doing: "creating", error };
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut db = connect(&options.path, flags, options.vfs.as_deref()).map_err(failed)?;
    create(&mut db, options).map_err(failed)?;
    Ok(db)
}

/// Makes an empty file a buffer.
fn create(db: &mut Connection, options: &Options) -> rusqlite::Result<()> {
    db.pragma_update(None, "page_size", schema::PAGE_BYTES as i64)?;
    db.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    sync_journal_deletions(db)?;
    schema::migrate(db, 0)?;
    configure(db, options)?;
    // SQLite syncs the directory for its journals, and not for the database itself.
    let directory = options.path.parent().filter(|directory| !directory.as_os_str().is_empty());
    let sync = File::open(directory.unwrap_or(Path::new("."))).and_then(|directory| directory.sync_all());
    sync.map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
}

/// Gives a new file its generation: also one whose creation was cut short.
pub(crate) fn ensure_generation(db: &Connection) -> Result<(), Error> {
    let epochs: i64 = db.query_row("SELECT count(*) FROM epoch", [], |row| row.get(0))?;
    if epochs == 0 && read_meta(db, "generation")?.is_none() {
        let mut generation = [0; 16];
        fill_random(&mut generation);
        write_meta(db, "generation", &generation)?;
    }
    Ok(())
}

/// Until the file is in WAL mode: a rollback journal whose deletion is not synced may come back with a power cut, and undo
/// all that was committed since, in the WAL too.
fn sync_journal_deletions(db: &Connection) -> rusqlite::Result<()> {
    db.pragma_update(None, "synchronous", "EXTRA")
}

/// The settings of a writing connection.
fn configure(db: &Connection, options: &Options) -> rusqlite::Result<()> {
    let synchronous = match options.durability {
        Durability::PowerLoss => "FULL",
        Durability::ProcessCrash => "NORMAL",
        Durability::None => "OFF",
    };
    sync_journal_deletions(db)?;
    db.pragma_update(None, "journal_mode", "WAL")?;
    // The pragma answers before it commits the switch. Where that fails nobody says so, and in the mode that it stays in a
    // power cut may undo what was committed: so ask again, once a read has found out.
    db.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
    let mode: String = db.pragma_query_value(None, "journal_mode", |row| row.get(0))?;
    if mode != "wal" {
        let failed = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_IOERR);
        return Err(rusqlite::Error::SqliteFailure(failed, Some(format!("it stays in journal mode {mode}"))));
    }
    db.pragma_update(None, "synchronous", synchronous)?;
    db.pragma_update(None, "wal_autocheckpoint", 0)?;
    db.pragma_update(None, "cache_size", -1024)?;
    db.pragma_update(None, "temp_store", "MEMORY")?;
    db.pragma_update(None, "cell_size_check", true)
}

/// Copies what an earlier process left in the WAL into the database, and begins a new one.
///
/// That process may have died because an fsync failed, even that of a clean close. Linux never writes again what that
/// fsync gave up, though it is still read back from the cache: what is appended to such a WAL can be cut off from its
/// beginning by the next power cut.
fn settle_wal(db: &Connection, path: &Path) -> Result<(), Error> {
    let settle = || db.wal_checkpoint_v2(None::<&str>, CheckpointMode::TRUNCATE).map_err(Error::from);
    let settled = match settle() {
        Err(Error::Full(_)) if space::give_up_reserve(path) => settle(),
        settled => settled,
    };
    match settled {
        Err(Error::Full(why)) => {
            log::warn!("what the WAL of {} holds cannot be copied into it yet: {why}", path.display());
            Ok(())
        }
        settled => settled.map(|_| ()),
    }
}

/// Adds the epoch of this opening, and marks the file as open. Durable when it returns.
fn begin_epoch(db: &Connection, catalog: &mut Catalog, recovery: Recovery) -> Result<Recovery, Error> {
    let number = catalog.epochs.last_key_value().map_or(1, |(number, _)| number + 1);
    if number > Offset::MAX_EPOCH {
        return Err(Error::Refused("the file has been opened so often that its epochs are used up".to_owned()));
    }
    let tag = random_tag();
    db.execute_batch("BEGIN IMMEDIATE")?;
    let begin = || {
        insert_epoch(db, number, tag)?;
        write_meta(db, "clean", &[0])?;
        salvage::remember(db, &recovery)
    };
    match begin() {
        Ok(recovery) => {
            db.execute_batch("COMMIT")?;
            catalog.epochs.insert(number, tag);
            Ok(recovery)
        }
        Err(error) => {
            db.execute_batch("ROLLBACK")?;
            Err(error)
        }
    }
}

/// Leaves what the next opening would otherwise have to count.
pub(crate) fn mark_clean(txn: &mut Txn<'_>) -> Result<(), Error> {
    check::store_counts(txn.db, txn.catalog)?;
    catalog::write_meta(txn.db, "clean", &[1])
}

pub(crate) fn random_tag() -> Tag {
    let mut bytes = [0; 8];
    fill_random(&mut bytes);
    Tag(u64::from_le_bytes(bytes))
}

/// Random bytes from the kernel. Without them no tag can be trusted.
pub(crate) fn fill_random(bytes: &mut [u8]) {
    getrandom::fill(bytes).expect("the kernel gives random bytes");
}
