//! The loss ledger: what a policy dropped, so that what is missing at a sink equals what stands here (Promise 6).

use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::{
    Error, Numbering, Offset, Timestamp,
    catalog::{created, damaged},
    seal::Seal,
    txn::Txn,
};

/// The reasons that the buffer itself has.
pub(crate) const DROP_OLDEST: &str = "drop-oldest";
pub(crate) const DROP_NEWEST: &str = "drop-newest";
pub(crate) const MAX_AGE: &str = "max-age";
pub(crate) const DISCARDED: &str = "discarded";
pub(crate) const DAMAGED: &str = "damaged";

/// One entry of the loss ledger: a contiguous range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// Who misses it. `None`: every sink of the stream.
    pub sink: Option<String>,
    /// The stream.
    pub stream: String,
    /// The partition.
    pub partition: String,
    /// How its offsets come about.
    pub numbering: Numbering,
    /// The first offset dropped. Events that never got an offset stand at the one before them.
    pub first: Offset,
    /// The last offset dropped.
    pub last: Offset,
    /// How many events.
    pub events: u64,
    /// Their bytes, as [`crate::Event::size_bytes`] counts.
    pub bytes: u64,
    /// Which policy: `drop-oldest`, `drop-newest`, `max-age`, `discarded`, `damaged`, or the source's own words.
    pub reason: String,
    /// When the last of it was dropped, by the gateway's clock.
    pub when: Timestamp,
}

/// A range that goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Dropped {
    /// The last offset before it.
    pub(crate) after: Offset,
    pub(crate) first: Offset,
    pub(crate) last: Offset,
    pub(crate) events: u64,
    pub(crate) size: u64,
}

/// Adds a range. It joins the latest entry of the same sink, partition and reason if it follows right after it.
pub(crate) fn record(
    txn: &mut Txn<'_>,
    sink: Option<i64>,
    lane: i64,
    dropped: Dropped,
    reason: &str,
) -> Result<(), Error> {
    let gone = |sink| format!("sink {sink}, which is gone");
    let sink = sink.map(|sink| txn.catalog.sinks.get(&sink).map_or_else(|| gone(sink), |sink| sink.name.to_string()));
    let lane = txn.lane(lane);
    let mut row = LossRow {
        id: None,
        partition: lane.id,
        loss: Loss {
            sink,
            stream: txn.catalog.streams[&lane.stream].name.to_string(),
            partition: lane.name.to_string(),
            numbering: lane.numbering,
            first: dropped.first,
            last: dropped.last,
            events: dropped.events,
            bytes: dropped.size,
            reason: reason.to_owned(),
            when: txn.now.wall,
        },
    };
    if let Some(latest) =
        latest(txn.db, &row)?.filter(|latest| latest.loss.last >= dropped.after && latest.loss.last <= dropped.last)
    {
        row.id = latest.id;
        row.loss.first = latest.loss.first;
        row.loss.events += latest.loss.events;
        row.loss.bytes += latest.loss.bytes;
    }
    row.store(txn.db)
}

/// Adds an entry as it is.
pub(crate) fn append(db: &Connection, partition: i64, loss: Loss) -> Result<(), Error> {
    LossRow { id: None, partition, loss }.store(db)
}

struct LossRow {
    id: Option<i64>,
    partition: i64,
    loss: Loss,
}

const COLUMNS: &str =
    "id, sink, stream, partition_name, created, partition, first, last, events, size, reason, at_us, seal";

fn latest(db: &Connection, like: &LossRow) -> Result<Option<LossRow>, Error> {
    let sql = format!(
        "SELECT {COLUMNS} FROM loss WHERE partition = ? AND sink IS ? AND reason = ? AND stream = ?
         AND partition_name = ? ORDER BY id DESC LIMIT 1"
    );
    db.prepare_cached(&sql)?
        .query_row(
            params![like.partition, like.loss.sink, like.loss.reason, like.loss.stream, like.loss.partition],
            |row| Ok(LossRow::read(row)),
        )
        .optional()?
        .transpose()
}

/// Every entry, oldest first.
pub(crate) fn all(db: &Connection) -> Result<Vec<Loss>, Error> {
    let mut statement = db.prepare_cached(&format!("SELECT {COLUMNS} FROM loss ORDER BY id"))?;
    let mut rows = statement.query([])?;
    let mut losses = Vec::new();
    while let Some(row) = rows.next()? {
        losses.push(LossRow::read(row)?.loss);
    }
    Ok(losses)
}

/// Whether the ledger explains that a hole in a partition ends at `through`: a segment names the last offset of the one
/// before it, so a hole ends exactly where something was dropped.
pub(crate) fn explains(db: &Connection, partition: i64, through: Offset) -> Result<bool, Error> {
    let found = db
        .prepare_cached(
            "SELECT 1 FROM loss WHERE partition = ? AND first <= ? AND last >= ? AND reason IN (?, ?, ?) LIMIT 1",
        )?
        .query_row(params![partition, through.0, through.0, DROP_OLDEST, MAX_AGE, DAMAGED], |_| Ok(()))
        .optional()?;
    Ok(found.is_some())
}

impl LossRow {
    fn read(row: &Row<'_>) -> Result<Self, Error> {
        let created: Option<i64> = row.get(4)?;
        let read = Self {
            id: row.get(0)?,
            partition: row.get(5)?,
            loss: Loss {
                sink: row.get(1)?,
                stream: row.get(2)?,
                partition: row.get(3)?,
                numbering: created.map_or(Numbering::Assigned, |created| Numbering::Shared { created }),
                first: Offset(row.get(6)?),
                last: Offset(row.get(7)?),
                events: row.get::<_, i64>(8)? as u64,
                bytes: row.get::<_, i64>(9)? as u64,
                reason: row.get(10)?,
                when: Timestamp(row.get(11)?),
            },
        };
        if read.seal() != row.get::<_, i64>(12)? {
            return Err(damaged("a row of the loss ledger does not match its seal"));
        }
        Ok(read)
    }

    fn store(&self, db: &Connection) -> Result<(), Error> {
        let loss = &self.loss;
        let sql = format!("INSERT OR REPLACE INTO loss({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)");
        db.prepare_cached(&sql)?.execute(params![
            self.id,
            loss.sink,
            loss.stream,
            loss.partition,
            created(loss.numbering),
            self.partition,
            loss.first.0,
            loss.last.0,
            loss.events as i64,
            loss.bytes as i64,
            loss.reason,
            loss.when.0,
            self.seal()
        ])?;
        Ok(())
    }

    fn seal(&self) -> i64 {
        let loss = &self.loss;
        Seal::of("loss")
            .optional_bytes(loss.sink.as_deref().map(str::as_bytes))
            .bytes(loss.stream.as_bytes())
            .bytes(loss.partition.as_bytes())
            .optional_int(created(loss.numbering))
            .int(self.partition)
            .int(loss.first.0)
            .int(loss.last.0)
            .int(loss.events as i64)
            .int(loss.bytes as i64)
            .bytes(loss.reason.as_bytes())
            .int(loss.when.0)
            .finish()
    }
}
