//! The handle to one ordered lane of a stream.

use std::sync::Arc;

use event_listener::EventListener;

use crate::{
    AppendError, Appended, Batch, Encoded, Error, Numbering, Offset, Reader, Receipt, append, buffer,
    catalog::Lane,
    identity, places, retention,
    shared::{Job, Shared},
};

/// One ordered lane of a stream: the unit of order and of checkpoints. Cheap to clone.
#[derive(Clone)]
pub struct Partition {
    shared: Arc<Shared>,
    id: i64,
    stream: Arc<str>,
    name: Arc<str>,
    numbering: Numbering,
    for_sink: Option<Arc<str>>,
    changed: Arc<event_listener::Event>,
}

impl Partition {
    pub(crate) fn new(shared: Arc<Shared>, id: i64) -> Result<Self, Error> {
        let catalog = shared.catalog();
        let lane = catalog.lanes.get(&id).ok_or_else(gone)?;
        let stream = catalog.streams.get(&lane.stream).ok_or_else(gone)?;
        let for_sink = lane.for_sink.and_then(|sink| catalog.sinks.get(&sink)).map(|sink| sink.name.clone());
        let partition = Self {
            shared: shared.clone(),
            id,
            stream: stream.name.clone(),
            name: lane.name.clone(),
            numbering: lane.numbering,
            for_sink,
            changed: lane.changed.clone(),
        };
        drop(catalog);
        Ok(partition)
    }

    pub(crate) fn id(&self) -> i64 {
        self.id
    }

    pub(crate) fn lane(&self) -> Result<Lane, Error> {
        self.shared.catalog().lanes.get(&self.id).cloned().ok_or_else(gone)
    }

    /// The stream's name.
    pub fn stream(&self) -> &str {
        &self.stream
    }

    /// The partition's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How its offsets come about.
    pub fn numbering(&self) -> Numbering {
        self.numbering
    }

    /// The only sink that its events are for: of a partition of dead letters that this sink had refused.
    pub fn for_sink(&self) -> Option<&str> {
        self.for_sink.as_deref()
    }

    /// The last durable offset; [`Offset::BEFORE_ALL`] if there never was one.
    pub fn high_water(&self) -> Offset {
        self.lane().map_or(Offset::BEFORE_ALL, |lane| lane.high_water)
    }

    /// Where the source resumes reading: what came with the last batch that had a position.
    pub fn position(&self) -> Option<Vec<u8>> {
        self.lane().ok()?.position.as_deref().map(<[u8]>::to_vec)
    }

    /// What it remembers of the events that it took, the oldest first: at least the last [`Batch::window`] identities that
    /// came with its batches, and a few more. Blocking: to be read once, when nothing is being appended.
    pub fn identities(&self) -> Result<Vec<u128>, Error> {
        let lane = self.lane()?;
        if lane.remembered == 0 {
            return Ok(Vec::new());
        }
        self.shared.undamaged()?;
        let read = Reader::open(&self.shared).and_then(|reader| identity::read(&reader.db, &lane));
        self.shared.note_damage(read)
    }

    /// Encodes and compresses a batch, on the calling thread. Events that are too large join the refused; with shared
    /// offsets, events at or below the high water are left out.
    pub fn encode(&self, batch: Batch) -> Result<Encoded, Error> {
        let options = &self.shared.options;
        append::encode(batch, self.numbering, self.high_water(), options.max_event_bytes, &*options.clock)
    }

    /// Queues a batch for writing. Batches are written in the order of these calls. Blocks the caller while 8 MiB wait.
    pub fn append(&self, encoded: Encoded) -> Receipt<Appended, AppendError> {
        let (reply, receiver) = oneshot::channel();
        match self.shared.push(Job::Append { lane: self.id, encoded: Box::new(encoded), reply }) {
            Ok(()) => Receipt::new(receiver),
            Err(error) => Receipt::known(Err(AppendError::Failed(error))),
        }
    }

    /// The last offset that every sink has confirmed, and the last position at or below it.
    pub fn delivered(&self) -> (Offset, Option<Vec<u8>>) {
        let Ok(lane) = self.lane() else { return (Offset::BEFORE_ALL, None) };
        let delivered = buffer::delivered(&self.shared, self.id).unwrap_or(lane.floor).max(lane.floor);
        let position = if delivered >= lane.high_water { lane.position } else { lane.floor_position };
        (delivered, position.as_deref().map(<[u8]>::to_vec))
    }

    /// Takes out again what no sink has confirmed: another owner reads it upstream. High water and position go back to
    /// the last confirmed event. Blocking. Refused while anything is in flight, and for assigned offsets.
    ///
    /// Returns the number of events taken out.
    pub fn take_back(&self) -> Result<u64, Error> {
        let id = self.id;
        buffer::submit(&self.shared, move |txn| retention::take_back(txn, id, None)).wait().map(|back| back.taken)
    }

    /// As [`Partition::take_back`], where `oldest` is the first that can still be read upstream. What lies below is lost to
    /// the sinks that have no checkpoint, and in the loss ledger with this reason. One that has a checkpoint goes on after
    /// that elsewhere, where what is missing is seen, and counted. Blocking.
    pub fn take_back_from(&self, oldest: Offset, reason: &'static str) -> Result<TakenBack, Error> {
        let id = self.id;
        buffer::submit(&self.shared, move |txn| retention::take_back(txn, id, Some((oldest, reason)))).wait()
    }

    /// Passes over everything up to `to`: another owner has read it upstream, and delivered it to every sink of this one.
    /// What of it is here counts as confirmed. Where `to` is above the high water, that becomes the high water, and
    /// `position` where reading goes on. Blocking. Refused while anything is in flight, and for assigned offsets.
    pub fn pass_over(&self, to: Offset, position: Option<Vec<u8>>) -> Result<(), Error> {
        let id = self.id;
        buffer::submit(&self.shared, move |txn| retention::pass_over(txn, id, to, position.clone())).wait()
    }

    /// Takes out what is left: no sink will get it, and it is in the loss ledger with this reason. Blocking. Refused while
    /// anything is in flight. Returns the number of events.
    pub fn give_up(&self, reason: &'static str) -> Result<u64, Error> {
        let id = self.id;
        buffer::submit(&self.shared, move |txn| retention::give_up(txn, id, reason)).wait()
    }

    /// Whether any sink has events of it in flight.
    pub fn in_flight(&self) -> bool {
        places::of_lane(&self.shared.places(), self.id).any(|(_, place)| place.is_pinned())
    }

    /// Notified when something was appended, confirmed or taken out. Listen before looking.
    pub fn listen(&self) -> EventListener {
        self.changed.listen()
    }
}

/// The events that were taken out of a partition which another owner has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TakenBack {
    /// How many are for the new owner to read.
    pub taken: u64,
    /// How many went into the loss ledger.
    pub lost: u64,
}

fn gone() -> Error {
    Error::Unknown("such partition any more".to_owned())
}
