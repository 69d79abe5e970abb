//! Where to resume: the table of the design (section 4, "Checkpoints, epochs, and where to resume") as a function.
//!
//! Offsets are never compared without their tags. Whatever the table does not allow stops the lane, and the message
//! says what to do (Promise 2).

use forebay_buffer::{Checkpoint, Generation, Numbering, Offset};

use crate::contract::Destination;

/// What is known of one partition when a lane resumes.
#[derive(Debug, Clone)]
pub(super) struct Facts<'a> {
    /// The partition, as messages name it.
    pub(super) partition: &'a str,
    /// How its offsets come about.
    pub(super) numbering: Numbering,
    /// The buffer file's generation now.
    pub(super) generation: Generation,
    /// The epoch of this opening of the file.
    pub(super) epoch: u32,
    /// The last durable event here.
    pub(super) high_water: Offset,
    /// Where to begin when nothing was delivered: `start`, as the buffer keeps it.
    pub(super) beginning: Offset,
    /// What the buffer remembers of the last confirmation. Its generation is an older one after `adopt`.
    pub(super) local: Option<Checkpoint>,
    /// What the destination answered.
    pub(super) destination: Destination,
    /// Whether the tag that the destination named is the one that this file has for that offset.
    pub(super) tag_known: bool,
    /// What should follow the destination's offset and is neither here nor in the loss ledger: after which offset, and
    /// through which.
    pub(super) missing: Option<(Offset, Offset)>,
}

/// What follows from them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Decision {
    /// Go on after `after`; the destination's checkpoint is `expected` until the first batch replaces it.
    ResumeAfter {
        /// The last event not to deliver.
        after: Offset,
        /// What to compare-and-set against.
        expected: Option<Checkpoint>,
    },
    /// Only an operator can go on. What to do.
    Stop(String),
}

/// Decides where to resume.
pub(super) fn decide(facts: &Facts<'_>) -> Decision {
    match &facts.destination {
        Destination::At(found) => match facts.numbering {
            Numbering::Assigned => assigned(facts, *found),
            Numbering::Shared { created } => shared(facts, created, *found),
        },
        Destination::Nothing if facts.has_delivered() => stop(format!(
            "{}: this sink has delivered up to {}, and the destination has no checkpoint of it any more: someone deleted \
             it, or this is not the destination it was. Put the checkpoint back, or run `forebay buffer adopt` to go \
             on without it under a new generation",
            facts.partition,
            facts.local.map_or_else(String::new, |local| facts.show(local.offset)),
        )),
        Destination::Nothing => facts.start(None),
        Destination::Forgotten | Destination::Unknown => facts.start(None),
    }
}

fn assigned(facts: &Facts<'_>, found: Checkpoint) -> Decision {
    // After `adopt`, the local checkpoint still bears the generation that the file had before.
    let former =
        facts.local.is_some_and(|local| local.generation != facts.generation && local.generation == found.generation);
    if found.generation != facts.generation && !former {
        if facts.has_delivered() {
            return stop(format!(
                "{}: another gateway with the same id took over: the destination's checkpoint is of buffer {}, and this \
                 one is {}. Give one of the two another id, or run `forebay buffer adopt` to take the partition back \
                 (events may arrive twice)",
                facts.partition, found.generation, facts.generation,
            ));
        }
        return facts.start(Some(found));
    }
    if !facts.tag_known {
        if former {
            return facts.start(Some(found));
        }
        return stop(format!(
            "{}: forked or restored: the destination is at {}, written by an opening of this buffer (tag {}) that this \
             file knows nothing of, so this file was restored from a backup or cloned to another gateway. Run `forebay \
             buffer adopt` to take over (what is here goes out under a new generation, and may arrive twice), or discard \
             this file",
            facts.partition,
            facts.show(found.offset),
            found.tag,
        ));
    }
    if found.offset.epoch() >= facts.epoch && found.offset > facts.high_water {
        return stop(format!(
            "{}: the destination says that it has everything up to {}, and this buffer has only come to {}: its \
             checkpoint was changed by hand or is damaged. Set it to what the destination really has",
            facts.partition,
            facts.show(found.offset),
            facts.show(facts.high_water),
        ));
    }
    match facts.missing {
        Some(_) if former => facts.start(Some(found)),
        Some(missing) => lost_commits(facts, found, missing),
        None => Decision::ResumeAfter { after: found.offset, expected: Some(found) },
    }
}

fn shared(facts: &Facts<'_>, created: i64, found: Checkpoint) -> Decision {
    if !facts.tag_known {
        // The source lets nothing of a hub that was created anew into the buffer unless its `on_invalid_offset` says so.
        if (found.tag.0 as i64) < created {
            return facts.start(Some(found));
        }
        return stop(format!(
            "{}: the destination's checkpoint {} is of a later creation of the hub (tag {}) than what is here: another \
             agent reads the hub as it is now, and what is here is of a hub that is no more. To let it go, take the source \
             out of the config and run `forebay buffer discard --stream` with its name",
            facts.partition,
            facts.show(found.offset),
            found.tag,
        ));
    }
    match facts.missing {
        Some(missing) => lost_commits(facts, found, missing),
        None => Decision::ResumeAfter { after: found.offset, expected: Some(found) },
    }
}

fn lost_commits(facts: &Facts<'_>, found: Checkpoint, (after, through): (Offset, Offset)) -> Decision {
    stop(format!(
        "{}: the destination has gone back to {} (a failover, or a restore to an earlier time), and the events after {} \
         through {} that it lost are not in the buffer any more. Bring them back at the destination and set its \
         checkpoint to the last of them, or run `forebay buffer adopt` to go on with what is here",
        facts.partition,
        facts.show(found.offset),
        facts.show(after),
        facts.show(through),
    ))
}

fn stop(message: String) -> Decision {
    Decision::Stop(message)
}

impl Facts<'_> {
    /// Whether this file, under its present generation, has delivered to the sink.
    fn has_delivered(&self) -> bool {
        self.local.is_some_and(|local| local.generation == self.generation)
    }

    /// Goes on from what is known here: after the local checkpoint, else at the beginning.
    fn start(&self, expected: Option<Checkpoint>) -> Decision {
        let after = self.local.map_or(self.beginning, |local| local.offset.max(self.beginning));
        Decision::ResumeAfter { after, expected }
    }

    fn show(&self, offset: Offset) -> String {
        self.numbering.display(offset).to_string()
    }
}

#[cfg(test)]
mod tests;
