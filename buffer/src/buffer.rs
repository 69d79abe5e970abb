//! The handle to an open buffer.

use std::sync::Arc;

use event_listener::EventListener;

use crate::{
    Error, Generation, Inspector, Numbering, Offset, Partition, Reader, Receipt, Recovery, Start, Status, StreamLimits,
    Subscription, Tag, append, dead_letter, ledger, manage, receipt, salvage,
    shared::{Job, Shared},
    status,
    txn::Txn,
};

/// An open buffer. Cheap to clone; all clones are one buffer. [`Buffer::close`] ends it, as does the end of the process
/// at whatever moment: what was answered is there afterwards.
#[derive(Clone)]
pub struct Buffer {
    shared: Arc<Shared>,
}

/// Whether the writer thread is getting on: see [`Buffer::heartbeat`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heartbeat {
    /// Grows with each round of the writer.
    pub beats: u64,
    /// Whether a round is under way. Busy with the same number of beats for long means stuck.
    pub busy: bool,
}

impl Buffer {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// The random id of the file, until it is adopted.
    pub fn generation(&self) -> Generation {
        self.shared.catalog().generation
    }

    /// The epoch of this opening: offsets that are assigned now are of this one.
    pub fn epoch(&self) -> u32 {
        self.shared.catalog().epoch()
    }

    /// How the file was found when it was opened. A salvage is reported until [`Buffer::clear_recovery`].
    pub fn recovery(&self) -> Recovery {
        self.shared.recovery.lock().expect("no holder of this lock panics").clone()
    }

    /// An operator has seen the report of a salvage.
    pub fn clear_recovery(&self) -> Result<(), Error> {
        self.run(|txn| salvage::forget(txn.db))?;
        *self.shared.recovery.lock().expect("no holder of this lock panics") = Recovery::Clean;
        Ok(())
    }

    /// Creates a stream, or changes its limits.
    pub fn declare_stream(&self, name: &str, limits: StreamLimits) -> Result<(), Error> {
        let name = name.to_owned();
        self.run(move |txn| manage::declare_stream(txn, &name, limits))
    }

    /// Creates a sink, or changes which streams it takes; these must exist.
    ///
    /// `start` says where it begins in streams that have events already. `in_flight_bytes` is the most it ever has
    /// delivered and not confirmed, in bytes of events: after a crash so many are not dropped by a policy until
    /// [`Subscription::resume_after`] has been told what the destination has.
    pub fn declare_sink(&self, name: &str, streams: &[&str], start: Start, in_flight_bytes: u64) -> Result<(), Error> {
        let name = name.to_owned();
        let streams: Vec<String> = streams.iter().map(|&stream| stream.to_owned()).collect();
        self.run(move |txn| manage::declare_sink(txn, &name, &streams, start, in_flight_bytes))
    }

    /// Gives a stream another name; all that belongs to it stays.
    pub fn rename_stream(&self, from: &str, to: &str) -> Result<(), Error> {
        let (from, to) = (from.to_owned(), to.to_owned());
        self.run(move |txn| manage::rename_stream(txn, &from, &to))
    }

    /// Gives a sink another name; its checkpoints stay.
    pub fn rename_sink(&self, from: &str, to: &str) -> Result<(), Error> {
        let (from, to) = (from.to_owned(), to.to_owned());
        self.run(move |txn| manage::rename_sink(txn, &from, &to))
    }

    /// Deletes a stream with all its events. What was not confirmed goes into the loss ledger. Refused while it has dead
    /// letters.
    pub fn discard_stream(&self, name: &str) -> Result<(), Error> {
        let name = name.to_owned();
        self.run(move |txn| manage::discard_stream(txn, &name))
    }

    /// Forgets a sink. What it had not confirmed goes into the loss ledger.
    pub fn discard_sink(&self, name: &str) -> Result<(), Error> {
        let name = name.to_owned();
        self.run(move |txn| manage::discard_sink(txn, &name))
    }

    /// Opens a partition, or creates it.
    pub fn partition(&self, stream: &str, name: &str, numbering: Numbering) -> Result<Partition, Error> {
        let found = {
            let catalog = self.shared.catalog();
            let (stream, _) = catalog.stream_named(stream).ok_or_else(|| no_stream(stream))?;
            let found = catalog
                .lanes_of(stream)
                .find(|lane| &*lane.name == name && lane.numbering == numbering && lane.for_sink.is_none());
            found.map(|lane| lane.id)
        };
        let id = match found {
            Some(id) => id,
            None => {
                let (stream, name) = (stream.to_owned(), name.to_owned());
                self.run(move |txn| {
                    let (stream, _) = txn.catalog.stream_named(&stream).ok_or_else(|| no_stream(&stream))?;
                    manage::open_lane(txn, stream, &name, numbering, None)
                })?
            }
        };
        Partition::new(self.shared.clone(), id)
    }

    /// Every partition of a stream, those for retried dead letters included.
    pub fn partitions(&self, stream: &str) -> Result<Vec<Partition>, Error> {
        let ids: Vec<i64> = {
            let catalog = self.shared.catalog();
            let (stream, _) = catalog.stream_named(stream).ok_or_else(|| no_stream(stream))?;
            catalog.lanes_of(stream).map(|lane| lane.id).collect()
        };
        ids.into_iter().map(|id| Partition::new(self.shared.clone(), id)).collect()
    }

    /// A sink's place in a partition.
    pub fn subscription(&self, sink: &str, partition: &Partition) -> Result<Subscription, Error> {
        let id = {
            let catalog = self.shared.catalog();
            let (id, _) = catalog.sink_named(sink).ok_or_else(|| Error::Unknown(format!("sink {sink:?}")))?;
            id
        };
        Subscription::new(self.shared.clone(), partition.clone(), id, sink)
    }

    /// A connection to read with.
    pub fn reader(&self) -> Result<Reader, Error> {
        self.shared.undamaged()?;
        Reader::open(&self.shared)
    }

    /// Whether this file ever had an epoch with this tag; for shared offsets, whether it is the tag of that creation.
    pub fn knows_tag(&self, numbering: Numbering, tag: Tag) -> bool {
        match numbering {
            Numbering::Assigned => self.shared.catalog().epochs.values().any(|known| *known == tag),
            Numbering::Shared { created } => tag == Tag(created as u64),
        }
    }

    /// Puts events that came and could not be kept into the loss ledger, with the position where the source resumes after
    /// them, if it has one: both are durable, or neither.
    pub fn record_loss(
        &self,
        partition: &Partition,
        events: u64,
        bytes: u64,
        reason: &str,
        position: Option<Vec<u8>>,
    ) -> Receipt<()> {
        let (lane, reason) = (partition.id(), reason.to_owned());
        let position: Option<Arc<[u8]>> = position.map(Arc::from);
        self.submit(move |txn| {
            let at = txn.catalog.lanes.get(&lane).ok_or_else(|| Error::Unknown("such partition any more".into()))?;
            let at = at.high_water;
            let lost = ledger::Dropped { after: at, first: at, last: at, events, size: bytes };
            ledger::record(txn, None, lane, lost, &reason)?;
            position.as_ref().map_or(Ok(()), |position| append::move_position(txn, lane, position))
        })
    }

    /// Moves dead letters, all or none of them, into their stream's `retry` partition: for the sink that refused them,
    /// or for every sink if intake did.
    pub fn retry_dead_letters(&self, ids: &[i64]) -> Result<u64, Error> {
        let ids = ids.to_vec();
        let options = self.shared.options.clone();
        self.run(move |txn| dead_letter::retry(txn, &ids, options.max_event_bytes, &*options.clock))
    }

    /// Deletes dead letters, all or none of them; the loss ledger says so.
    pub fn discard_dead_letters(&self, ids: &[i64]) -> Result<u64, Error> {
        let ids = ids.to_vec();
        self.run(move |txn| dead_letter::discard(txn, &ids))
    }

    /// Gives the file a new generation: what is here is delivered as that of another gateway, also what a destination may
    /// have from before. For a file restored from a backup, or a clone of another's.
    pub fn adopt(&self) -> Result<Generation, Error> {
        self.run(manage::adopt)
    }

    /// Everything an operator wants to know. Blocking: it reads a few rows.
    pub fn status(&self) -> Result<Status, Error> {
        status::of_buffer(&self.shared)
    }

    /// Notified when a stream, sink or partition comes, goes or changes. Listen before looking.
    pub fn partitions_changed(&self) -> EventListener {
        self.shared.partitions_changed.listen()
    }

    /// Notified when room is made. Listen before looking. Not every kind of room announces itself (another program may
    /// free the disk): look again from time to time.
    pub fn room_made(&self) -> EventListener {
        self.shared.room_made.listen()
    }

    /// Whether an append of a typical batch to this stream would be held back just now.
    pub fn is_full(&self, stream: &str) -> bool {
        status::is_full(&self.shared, stream)
    }

    /// A read-only view of the same file, on a connection of its own.
    pub fn inspector(&self) -> Result<Inspector, Error> {
        Inspector::of(&self.shared)
    }

    /// For a watchdog: whether the writer thread is getting on.
    pub fn heartbeat(&self) -> Heartbeat {
        let (beats, busy) = self.shared.heartbeat();
        Heartbeat { beats, busy }
    }

    /// Writes what waits, marks the file as closed cleanly and gives the lock up. Blocking. Everything fails after that.
    pub fn close(&self) {
        self.shared.save(true);
        self.shared.begin_closing();
        self.shared.wait_closed();
    }

    /// Queues a command for the writer.
    pub(crate) fn submit<T: Send + 'static>(
        &self,
        work: impl FnMut(&mut Txn<'_>) -> Result<T, Error> + Send + 'static,
    ) -> Receipt<T> {
        submit(&self.shared, work)
    }

    fn run<T: Send + 'static>(
        &self,
        work: impl FnMut(&mut Txn<'_>) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.submit(work).wait()
    }
}

/// Queues a command for the writer.
pub(crate) fn submit<T: Send + 'static>(
    shared: &Shared,
    work: impl FnMut(&mut Txn<'_>) -> Result<T, Error> + Send + 'static,
) -> Receipt<T> {
    let (task, receipt) = receipt::task(work);
    match shared.push(Job::Task(task)) {
        Ok(()) => receipt,
        Err(error) => Receipt::known(Err(error)),
    }
}

fn no_stream(name: &str) -> Error {
    Error::Unknown(format!("stream {name:?}"))
}

/// The last offset that was confirmed by every sink, for handles that need it without a transaction.
pub(crate) fn delivered(shared: &Shared, lane: i64) -> Option<Offset> {
    crate::places::delivered(&shared.places(), lane)
}
