//! One row of the control table: what is known of it, and what may be written over what.
//!
//! Every write is a compare-and-set on what was read. Within one generation a row never goes back, and another
//! generation's row is replaced only by a file that had delivered nothing before: else another gateway goes by the same
//! id, and the one that finds it out leaves the row alone and says so. A row that a sink keeps for itself is never written.

use std::sync::Arc;

use forebay_buffer::{Checkpoint, Generation, Numbering};
use tokio::time::Instant;

use super::RECHECK;
use crate::contract::{CheckpointKey, CheckpointMove, Upstream};

/// What there is to know of a partition's past, to tell a clone by.
#[derive(Clone)]
pub(in crate::delivery) struct Lineage {
    /// How its offsets come about.
    pub(in crate::delivery) numbering: Numbering,
    /// The buffer file's generation.
    pub(in crate::delivery) generation: Generation,
    /// The generation of the local checkpoint, when the lane first asked its destination. It is another than the
    /// file's where that was adopted since.
    pub(in crate::delivery) delivered: Option<Generation>,
    /// As whose reader, of a hub.
    pub(in crate::delivery) consumer_group: Option<String>,
    /// Whether this file knows the tag under which it would have assigned the checkpoint's offset.
    pub(in crate::delivery) knows: Arc<dyn Fn(Checkpoint) -> bool + Send + Sync>,
}

/// A row, and what is to be in it.
pub(super) struct Row {
    pub(super) key: CheckpointKey,
    /// The row under the stream's former name.
    pub(super) former: Option<CheckpointKey>,
    lineage: Lineage,
    /// How far the destination has confirmed, and where that is upstream if that is known.
    latest: Option<(Checkpoint, Option<String>)>,
    found: Found,
    /// Whether the row was ever seen to be this file's.
    ours: bool,
}

/// What is known of the row as it is.
enum Found {
    /// Nothing: it must be loaded.
    Unknown,
    /// This is in it.
    Is(Option<Checkpoint>),
    /// Something that must not be written over. Not looked at again before this.
    Foreign(Instant),
    /// A sink's own checkpoint. Never looked at again.
    TheSinks,
}

impl Row {
    pub(super) fn new(key: CheckpointKey, former: Option<CheckpointKey>, lineage: Lineage) -> Self {
        Self { key, former, lineage, latest: None, found: Found::Unknown, ours: false }
    }

    /// Whether the hub was created anew since, and `lineage` is of the later one.
    pub(super) fn is_of_an_earlier_hub(&self, lineage: &Lineage) -> bool {
        match (self.lineage.numbering, lineage.numbering) {
            (Numbering::Shared { created }, Numbering::Shared { created: later }) => created < later,
            _ => false,
        }
    }

    /// The destination has confirmed this. A checkpoint from before an adoption is not for this row.
    pub(super) fn stands(&mut self, at: Option<Checkpoint>, upstream: Option<String>) {
        if let Some(at) = at.filter(|at| at.generation == self.lineage.generation) {
            self.latest = Some((at, upstream));
        }
    }

    /// Nothing of what was confirmed is sure any more.
    pub(super) fn withdraw(&mut self) {
        self.latest = None;
    }

    /// When there will be something to do. `None`: not before there is news.
    pub(super) fn next_turn(&self) -> Option<Instant> {
        match self.found {
            Found::Unknown => self.latest.as_ref().map(|_| Instant::now()),
            Found::Is(_) => self.due().map(|_| Instant::now()),
            Found::Foreign(until) => self.latest.as_ref().map(|_| until),
            Found::TheSinks => None,
        }
    }

    /// Whether what was confirmed may not be in the row yet.
    pub(super) fn is_pending(&self) -> bool {
        match self.found {
            Found::Unknown => self.latest.is_some(),
            Found::Is(_) => self.due().is_some(),
            Found::Foreign(_) | Found::TheSinks => false,
        }
    }

    pub(super) fn is_to_be_loaded(&self) -> bool {
        self.latest.is_some()
            && match self.found {
                Found::Unknown => true,
                Found::Is(_) | Found::TheSinks => false,
                Found::Foreign(until) => until <= Instant::now(),
            }
    }

    /// The row's next move, if it has one.
    pub(super) fn due(&self) -> Option<CheckpointMove> {
        let (Found::Is(from), Some((to, offset))) = (&self.found, &self.latest) else { return None };
        let is_due = from.is_none_or(|from| !self.is_comparable(from, *to) || from.offset < to.offset);
        let upstream = self.lineage.consumer_group.clone();
        let upstream = upstream.map(|consumer_group| Upstream { consumer_group, offset: offset.clone() });
        is_due.then(|| CheckpointMove { key: self.key.clone(), from: *from, to: *to, upstream })
    }

    fn is_comparable(&self, from: Checkpoint, to: Checkpoint) -> bool {
        match self.lineage.numbering {
            Numbering::Assigned => from.generation == to.generation,
            Numbering::Shared { .. } => from.tag == to.tag,
        }
    }

    /// This was read, from the row itself or from the one under the former name. The error says why that stays as it is.
    pub(super) fn judge(&mut self, found: Option<Checkpoint>, is_former: bool, place: &str) -> Result<(), String> {
        if let Some(found) = found
            && let Err(why) = self.is_ours_to_replace(found)
        {
            let key = if is_former { self.former.as_ref().unwrap_or(&self.key) } else { &self.key };
            return self.stop(format!("the row of {key} in {place} {why}"));
        }
        self.ours |= found.is_some_and(|found| found.generation == self.lineage.generation);
        // Where the row under the present name is not there, that is what it must be, whatever the former one says.
        self.found = Found::Is(found.filter(|_| !is_former));
        Ok(())
    }

    fn is_ours_to_replace(&self, found: Checkpoint) -> Result<(), String> {
        let Lineage { numbering, generation, delivered, knows, .. } = &self.lineage;
        if let Numbering::Shared { created } = *numbering {
            if found.tag.0 as i64 > created {
                return Err(format!(
                    "is of a later creation of the hub (tag {}) than this agent reads from: look whether another agent \
                     with the same id reads there; then delete the row, and it is written anew",
                    found.tag
                ));
            }
            return Ok(());
        }
        let has_delivered = self.ours || *delivered == Some(*generation);
        if found.generation == *generation && !knows(found) {
            return Err(format!(
                "is at {}, written by an opening of this buffer (tag {}) that this file knows nothing of, so this file was \
                 restored from a backup or cloned to another gateway. If it was restored, delete the row, and it is written \
                 anew; if it was cloned, give one of the two gateways another id and run `forebay buffer adopt` there",
                numbering.display(found.offset),
                found.tag
            ));
        }
        if found.generation != *generation && *delivered != Some(found.generation) && has_delivered {
            return Err(format!(
                "is of buffer {}, and this one is {generation}: another gateway with the same id writes there. Give one of \
                 the two another id; if the other one is gone, delete the row, and it is written anew",
                found.generation
            ));
        }
        Ok(())
    }

    /// Leaves the row alone for now.
    pub(super) fn stop(&mut self, why: String) -> Result<(), String> {
        self.found = Found::Foreign(Instant::now() + RECHECK);
        Err(why)
    }

    /// Leaves the row alone for good.
    pub(super) fn leave_to_the_sink(&mut self) {
        self.found = Found::TheSinks;
    }

    pub(super) fn is_the_sinks(&self) -> bool {
        matches!(self.found, Found::TheSinks)
    }

    /// A write is on its way: what is in the row is unknown until its answer is there.
    pub(super) fn forget(&mut self) {
        self.found = Found::Unknown;
    }

    /// A write has landed.
    pub(super) fn written(&mut self, to: Checkpoint) {
        self.found = Found::Is(Some(to));
        self.ours = true;
    }
}
