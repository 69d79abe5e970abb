//! The beginning of a session: what the destination has, where to go on, and what it has refused meanwhile.

use std::sync::Arc;

use forebay_buffer::{Checkpoint, Error, Numbering, Offset, Refused};

use super::{End, Session, interrupted};
use crate::{
    contract::{Destination, Local, RefusedRange, Resumed, SinkError},
    delivery::{
        control::Lineage,
        decide::{Decision, Facts, decide},
        feed::blocking,
    },
    progress::Condition,
};

impl Session<'_> {
    /// Asks the destination what it has, and settles with the buffer where delivery goes on. `None`: interrupted.
    pub(super) async fn resume(&mut self) -> Result<Option<(Offset, Option<Checkpoint>)>, End> {
        let (checkpoint, note) = (self.subscription.checkpoint(), self.subscription.note());
        let local = Local { generation: self.task.buffer.generation(), checkpoint, note };
        let resumed = tokio::select! {
            resumed = self.lane.resume(local.clone()) => resumed?,
            () = interrupted(self.shutdown, self.pass) => return Ok(None),
        };
        let (after, expected) = match self.decide(local.checkpoint, &resumed).await? {
            Decision::ResumeAfter { after, expected } => (after, expected),
            Decision::Stop(message) => {
                if let Some(board) = &self.task.board {
                    board.withdraw(&self.task.label);
                }
                return Err(SinkError::Stop(message).into());
            }
        };
        let Resumed { destination, refusals, note } = resumed;
        // Where delivery does not go on after what was found, that is of other events than those here.
        let is_ours = matches!(destination, Destination::At(found) if found.offset == after);
        for range in refusals.into_iter().filter(|_| is_ours) {
            if !self.refuse_range(range).await? {
                return Ok(None);
            }
        }
        let found = match destination {
            Destination::At(found) if self.is_comparable(found) => Some(found.offset),
            _ => None,
        };
        self.tell_the_buffer(destination, after, note).await?;
        self.tell_the_board(local.checkpoint);
        // The outcome of everything that was in flight is known now, to the buffer too: the leases may go.
        let settled = self.window.resolve(found);
        self.task.progress.count(settled.events, settled.bytes);
        Ok(Some((after, expected)))
    }

    /// Puts a range of refused events among the dead letters. What another owner of a hub's partition has sent is here only when
    /// its source has read it again, piece by piece: a buffer may be too small for all of it. What lies below the beginning
    /// never comes. `false`: interrupted.
    async fn refuse_range(&mut self, mut range: RefusedRange) -> Result<bool, End> {
        loop {
            // Listening begins before looking.
            let news = self.task.partition.listen();
            let here = self.task.partition.high_water();
            let is_all = self.task.id.numbering == Numbering::Assigned
                || here >= range.through
                || self.subscription.beginning() >= range.through;
            if is_all {
                self.record_range(range).await?;
                return Ok(true);
            }
            if here > self.subscription.beginning()
                && let Some(passed) = self.subscription.checkpoint_at(here)
            {
                self.record_range(RefusedRange { through: here, ..range.clone() }).await?;
                // The note stays as it was: what is left of the range is still to be seen to, after a restart too.
                self.subscription.confirm(passed, None)?;
                range.after = here;
            }
            let message = format!(
                "another owner has sent events through {}, and the destination has refused some of them: waiting until they \
                 come from the hub again, to put them among the dead letters",
                self.show(range.through),
            );
            self.task.progress.enter(&self.task.label, Condition::Waiting(message));
            tokio::select! {
                () = news => {}
                () = interrupted(self.shutdown, self.pass) => return Ok(false),
            }
        }
    }

    /// Whether the offset that the destination has is numbered as those here: a hub that was created anew starts again.
    fn is_comparable(&self, found: Checkpoint) -> bool {
        let numbering = self.task.id.numbering;
        numbering == Numbering::Assigned || self.task.buffer.knows_tag(numbering, found.tag)
    }

    /// The buffer learns where delivery goes on: what lies below is confirmed, and what lies above may be dropped.
    async fn tell_the_buffer(&mut self, found: Destination, after: Offset, note: Option<Vec<u8>>) -> Result<(), Error> {
        let (subscription, generation) = (self.subscription.clone(), self.task.buffer.generation());
        let assigned = self.task.id.numbering == Numbering::Assigned;
        let found = match found {
            Destination::At(found) if !self.is_comparable(found) => Destination::Unknown,
            found => found,
        };
        blocking(move || {
            let offset = match found {
                // It was adopted since, and the destination has it from before.
                Destination::At(found) if found.offset == after => {
                    subscription.resume_at(found)?;
                    found.offset
                }
                // Another generation's checkpoint says nothing about this one, until the first batch has replaced it: only
                // what the sink keeps for itself does.
                Destination::At(found) if !assigned || found.generation == generation => {
                    subscription.resume_after(found.offset)?;
                    found.offset
                }
                _ => {
                    subscription.resume_here()?;
                    return note.filter(|_| assigned).map_or(Ok(()), |note| subscription.keep(note));
                }
            };
            match subscription.checkpoint() {
                Some(here) if here.offset == offset && note.is_some() => subscription.confirm(here, note),
                _ => Ok(()),
            }
        })
        .await
    }

    /// The control table learns where this stands, and what `local` had been before, to tell a clone by.
    fn tell_the_board(&self, local: Option<Checkpoint>) {
        let Some(board) = &self.task.board else { return };
        let (subscription, buffer) = (self.subscription.clone(), self.task.buffer.clone());
        let numbering = self.task.id.numbering;
        let knows = move |found: Checkpoint| {
            buffer.knows_tag(numbering, found.tag)
                && subscription.checkpoint_at(found.offset).is_some_and(|here| here.tag == found.tag)
        };
        let lineage = Lineage {
            numbering,
            generation: self.task.buffer.generation(),
            delivered: local.map(|local| local.generation),
            consumer_group: self.task.id.hub.as_ref().map(|hub| hub.consumer_group.clone()),
            knows: Arc::new(knows),
        };
        let shown = self.subscription.checkpoint().and_then(|checkpoint| self.lane.shown(checkpoint));
        board.stands(&self.task.label, &self.task.id, lineage, shown);
    }

    async fn decide(&mut self, local: Option<Checkpoint>, resumed: &Resumed) -> Result<Decision, Error> {
        let (subscription, buffer) = (self.subscription.clone(), self.task.buffer.clone());
        let (partition, destination) = (self.task.label.clone(), resumed.destination.clone());
        blocking(move || {
            let numbering = subscription.partition().numbering();
            let (tag_known, missing) = match &destination {
                Destination::At(found) => {
                    let ours = subscription.checkpoint_at(found.offset);
                    let tag_known = buffer.knows_tag(numbering, found.tag) && ours.is_some_and(|c| c.tag == found.tag);
                    (tag_known, if tag_known { subscription.missing_after(found.offset)? } else { None })
                }
                _ => (false, None),
            };
            Ok(decide(&Facts {
                partition: &partition,
                numbering,
                generation: buffer.generation(),
                epoch: buffer.epoch(),
                high_water: subscription.partition().high_water(),
                beginning: subscription.beginning(),
                local,
                destination,
                tag_known,
                missing,
            }))
        })
        .await
    }

    /// Puts all that is here of a range of refused events among the dead letters.
    async fn record_range(&mut self, mut range: RefusedRange) -> Result<(), Error> {
        let _turn = self.task.feed.turn().await;
        loop {
            let events = self.task.feed.events(self.subscription, range.after, usize::MAX).await?;
            let within = events.into_iter().take_while(|(offset, _)| *offset <= range.through);
            let refused = |event| Refused { event, code: range.code.clone(), reason: range.reason.clone() };
            let refused: Vec<_> = within.map(|(offset, event)| (offset, refused(event))).collect();
            let Some((last, _)) = refused.last() else { return Ok(()) };
            range.after = *last;
            refused.iter().for_each(|(offset, refused)| self.window.refuse(*offset, refused.event.size_bytes()));
            self.record(refused).await?;
        }
    }
}
