//! A read-only view of a buffer file: beside a running agent, and without one.

use std::{path::Path, sync::Arc};

use rusqlite::{Connection, OpenFlags};

use crate::{
    DeadLetter, DeadLetterFilter, Error, Event, Loss, Numbering, Offset, OpenError, ReadLimits, Reader, Status,
    catalog::Catalog,
    check,
    clock::Clock,
    dead_letter, ledger, open, places_table,
    schema::{self, Found},
    shared::Shared,
    status,
};

/// A read-only view of a buffer file. It takes no lock and changes nothing.
pub struct Inspector {
    pub(crate) reader: Reader,
    clock: Arc<dyn Clock>,
    path: std::path::PathBuf,
}

/// An event that was looked at and stays where it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Peeked {
    /// The partition it is in.
    pub partition: String,
    /// How that partition's offsets come about.
    pub numbering: Numbering,
    /// Its offset.
    pub offset: Offset,
    /// The event.
    pub event: Event,
}

impl Inspector {
    /// Opens the file at `path`, whoever else has it open.
    pub fn open(path: &Path, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        let sqlite = |doing| move |error| OpenError::Sqlite { path: path.to_owned(), doing, error };
        if let Err(error) = std::fs::metadata(path) {
            return Err(OpenError::Io { path: path.to_owned(), doing: "opening the buffer", error });
        }
        open::refuse_foreign(path)?;
        let db = connect(path).map_err(sqlite("opening the buffer"))?;
        match schema::identify(&db).map_err(sqlite("reading the buffer"))? {
            Found::Buffer(schema::VERSION) => {}
            Found::Buffer(old) => {
                let why = format!("{} has the older schema {old}: run the agent once to migrate it", path.display());
                return Err(OpenError::Unfit(why));
            }
            Found::Newer(found) => {
                return Err(OpenError::Newer { path: path.to_owned(), found, known: schema::VERSION });
            }
            Found::Empty => return Err(OpenError::Unfit(format!("{} is empty", path.display()))),
            Found::Foreign(id) => {
                let found = format!("an SQLite database of another program, application id {id:#x}");
                return Err(OpenError::NotABuffer { path: path.to_owned(), found });
            }
        }
        let reader =
            Reader::on(db).map_err(|error| OpenError::Damaged { path: path.to_owned(), found: error.to_string() })?;
        Ok(Self { reader, clock, path: path.to_owned() })
    }

    pub(crate) fn of(shared: &Shared) -> Result<Self, Error> {
        Ok(Self { reader: Reader::open(shared)?, clock: shared.options.clock.clone(), path: shared.path.clone() })
    }

    /// What the file says about itself. What only a running agent knows is missing or zero: limits of the file and
    /// whether it is full.
    pub fn status(&mut self) -> Result<Status, Error> {
        self.in_one_snapshot(|inspector| {
            let db = &inspector.reader.db;
            let mut catalog = Catalog::load(db, inspector.clock.boot_id())?;
            check::count_segments(db, &mut catalog, false)?;
            let places = places_table::load(db, &catalog)?;
            status::of_file(&inspector.reader, &inspector.path, &catalog, &places, inspector.clock.now())
        })
    }

    /// Events of a stream, without consuming them: of one partition or of all, after an offset, in order of partition
    /// and offset.
    pub fn peek(
        &mut self,
        stream: &str,
        partition: Option<&str>,
        after: Option<Offset>,
        limit: usize,
    ) -> Result<Vec<Peeked>, Error> {
        self.in_one_snapshot(|inspector| inspector.peek_now(stream, partition, after, limit))
    }

    fn peek_now(
        &mut self,
        stream: &str,
        partition: Option<&str>,
        after: Option<Offset>,
        limit: usize,
    ) -> Result<Vec<Peeked>, Error> {
        let mut catalog = Catalog::load(&self.reader.db, self.clock.boot_id())?;
        for lane in catalog.lanes.values_mut() {
            check::find_end(&self.reader.db, lane)?;
        }
        let (id, _) = catalog.stream_named(stream).ok_or_else(|| Error::Unknown(format!("stream {stream:?}")))?;
        let lanes: Vec<_> =
            catalog.lanes_of(id).filter(|lane| partition.is_none_or(|wanted| *lane.name == *wanted)).collect();
        if let (true, Some(partition)) = (lanes.is_empty(), partition) {
            return Err(Error::Unknown(format!("partition {partition:?} in stream {stream:?}")));
        }
        let mut peeked = Vec::new();
        for lane in lanes {
            let limits = ReadLimits { max_events: limit.saturating_sub(peeked.len()), max_bytes: 16 * 1024 * 1024 };
            if limits.max_events == 0 {
                break;
            }
            let events = self.reader.read(lane, &catalog.timeline, after.unwrap_or(Offset::BEFORE_ALL), limits)?;
            peeked.extend(events.into_iter().map(|(offset, event)| Peeked {
                partition: lane.name.to_string(),
                numbering: lane.numbering,
                offset,
                event,
            }));
        }
        Ok(peeked)
    }

    /// Dead letters, oldest first.
    pub fn dead_letters(&mut self, filter: &DeadLetterFilter) -> Result<Vec<DeadLetter>, Error> {
        let catalog = Catalog::load(&self.reader.db, self.clock.boot_id())?;
        dead_letter::list(&self.reader.db, &catalog, filter)
    }

    /// The loss ledger, oldest entry first.
    pub fn losses(&mut self) -> Result<Vec<Loss>, Error> {
        ledger::all(&self.reader.db)
    }

    /// Looks everything over and says what is wrong; nothing, if the list is empty. Reads the whole file.
    pub fn check(&mut self) -> Result<Vec<String>, Error> {
        self.in_one_snapshot(|inspector| check::everything(&inspector.reader.db))
    }

    /// Runs within one read transaction, so that rows belong together while an agent writes.
    fn in_one_snapshot<T>(&mut self, look: impl FnOnce(&mut Self) -> Result<T, Error>) -> Result<T, Error> {
        self.reader.db.execute_batch("BEGIN")?;
        let found = look(self);
        self.reader.db.execute_batch("ROLLBACK")?;
        found
    }
}

/// Read-only. A file that was closed cleanly on a filesystem that may not be written has no WAL, and can get none: then it
/// cannot change either.
fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let looked = open::connect(path, flags, None).and_then(|db| schema::identify(&db).map(|_| db));
    match looked {
        Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::CannotOpen) => {
            let mut uri = String::from("file:");
            for byte in path.as_os_str().as_encoded_bytes() {
                match byte {
                    b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => uri.push(char::from(*byte)),
                    other => uri.push_str(&format!("%{other:02X}")),
                }
            }
            uri.push_str("?immutable=1");
            open::connect(Path::new(&uri), flags | OpenFlags::SQLITE_OPEN_URI, None)
        }
        other => other,
    }
}
