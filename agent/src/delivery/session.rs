//! One session of a lane: from asking the destination what it has, to the error or the interruption that ends it.

use std::sync::{Arc, atomic::Ordering};

use forebay_buffer::{Checkpoint, Error, Numbering, Offset, Refused, Subscription};

use super::{
    control::Lineage,
    decide::{Decision, Facts, decide},
    feed::{blocking, refused},
    lane::LaneTask,
    window::{Loaded, Window},
};
use crate::{
    contract::{Destination, Lane, Local, Progress, Refusal, Resumed, Shutdown, SinkError},
    fence::Pass,
    progress::Condition,
    retry::Backoff,
};

/// Why a session ended.
pub(super) enum End {
    /// Shutdown, or a fence is being closed. What was in flight has been settled, unless that failed.
    Interrupted,
    /// The destination's doing.
    Sink(SinkError),
    /// The buffer's.
    Buffer(Error),
}

impl From<SinkError> for End {
    fn from(error: SinkError) -> Self {
        Self::Sink(error)
    }
}

impl From<Error> for End {
    fn from(error: Error) -> Self {
        Self::Buffer(error)
    }
}

/// One session's view of the lane.
pub(super) struct Session<'a> {
    pub(super) task: &'a LaneTask,
    pub(super) subscription: &'a Subscription,
    pub(super) lane: &'a mut dyn Lane,
    pub(super) window: &'a mut Window,
    pub(super) pass: &'a Pass,
    pub(super) shutdown: &'a mut Shutdown,
    pub(super) backoff: &'a mut Backoff,
    /// Whether the last session ended with an error: it is over when something has gone well again.
    pub(super) ailing: bool,
    /// The batch after the one that is delivered last, read meanwhile.
    pub(super) ahead: Option<Loaded>,
}

impl Session<'_> {
    /// Runs until something ends it.
    pub(super) async fn run(mut self) -> End {
        match self.resume_and_deliver().await {
            Ok(()) => End::Interrupted,
            Err(end) => end,
        }
    }

    async fn resume_and_deliver(&mut self) -> Result<(), End> {
        let Some((mut after, mut expected)) = self.resume().await? else { return Ok(()) };
        if !self.ailing {
            self.well();
        }
        loop {
            let stopping = self.is_interrupted();
            if stopping && self.window.is_empty() {
                return Ok(());
            }
            if stopping || self.is_window_full() {
                let answer = self.lane.settle().await?;
                self.apply(answer).await?;
                continue;
            }
            // Listening begins before looking, so that a lone event cannot slip in between.
            let news = self.task.partition.listen();
            if let Some(loaded) = self.next(after, expected).await? {
                let through = loaded.batch.through;
                if self.deliver(loaded).await? {
                    (after, expected) = (through.offset, Some(through));
                }
                continue;
            }
            if self.window.is_empty() {
                self.well();
            }
            self.wait(news).await?;
        }
    }

    /// Waits for more to deliver, or for more of what was delivered to be confirmed.
    async fn wait(&mut self, news: impl Future<Output = ()>) -> Result<(), End> {
        let in_flight = !self.window.is_empty();
        let settled = tokio::select! {
            answer = self.lane.settle(), if in_flight => Some(answer?),
            () = news => None,
            () = interrupted(self.shutdown, self.pass) => None,
        };
        match settled {
            Some(answer) => self.apply(answer).await,
            None => Ok(()),
        }
    }

    /// Asks the destination what it has, and settles with the buffer where delivery goes on. `None`: interrupted.
    async fn resume(&mut self) -> Result<Option<(Offset, Option<Checkpoint>)>, End> {
        let local = Local { checkpoint: self.subscription.checkpoint(), note: self.subscription.note() };
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
        if !refusals.is_empty() {
            let refusals = self.task.feed.refused_events(self.subscription, refusals).await?;
            self.record(refusals).await?;
        }
        let found = match destination {
            Destination::At(found) => Some(found.offset),
            _ => None,
        };
        self.tell_the_buffer(destination, after, note).await?;
        self.tell_the_board(local.checkpoint);
        // The outcome of everything that was in flight is known now, to the buffer too: the leases may go.
        let settled = self.window.resolve(found);
        self.task.progress.count(settled.events, settled.bytes);
        Ok(Some((after, expected)))
    }

    /// The buffer learns where delivery goes on: what lies below is confirmed, and what lies above may be dropped.
    async fn tell_the_buffer(&mut self, found: Destination, after: Offset, note: Option<Vec<u8>>) -> Result<(), Error> {
        let (subscription, generation) = (self.subscription.clone(), self.task.buffer.generation());
        let assigned = self.task.id.numbering == Numbering::Assigned;
        blocking(move || match found {
            // It was adopted since, and the destination has it from before.
            Destination::At(found) if found.offset == after => subscription.resume_at(found),
            // Another generation's checkpoint says nothing about this one, until the first batch has replaced it.
            Destination::At(found) if !assigned || found.generation == generation => {
                subscription.resume_after(found.offset)?;
                match subscription.checkpoint() {
                    Some(here) if here.offset == found.offset && note.is_some() => subscription.confirm(here, note),
                    _ => Ok(()),
                }
            }
            _ => subscription.resume_here(),
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
            knows: Arc::new(knows),
        };
        board.stands(&self.task.label, &self.task.id, lineage, self.subscription.checkpoint());
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

    /// The next batch, if there is one and room for it. A lane with something in flight does not wait for room.
    async fn next(&mut self, after: Offset, expected: Option<Checkpoint>) -> Result<Option<Loaded>, End> {
        if let Some(ahead) = self.ahead.take() {
            return Ok(Some(ahead));
        }
        if self.task.partition.high_water() <= after {
            return Ok(None);
        }
        let room = if self.window.is_empty() {
            tokio::select! {
                room = self.task.feed.room() => room,
                () = interrupted(self.shutdown, self.pass) => return Ok(None),
            }
        } else {
            match self.task.feed.room_now() {
                Some(room) => room,
                None => return Ok(None),
            }
        };
        let _working = self.task.progress.working();
        Ok(self.task.feed.next(self.subscription, after, expected, room).await?)
    }

    /// Delivers one batch, again and again as long as it holds refusals that were not recorded. `false`: interrupted
    /// before it was on its way.
    async fn deliver(&mut self, loaded: Loaded) -> Result<bool, End> {
        if let Some(pace) = &self.task.pace {
            tokio::select! {
                () = pace.turn(loaded.size_bytes) => {}
                () = interrupted(self.shutdown, self.pass) => return Ok(false),
            }
        }
        let mut batch = Arc::clone(&loaded.batch);
        self.window.push(loaded);
        loop {
            let (answer, ahead) = match self.ahead {
                Some(_) => (self.lane.deliver(Arc::clone(&batch)).await, Ok(None)),
                None => {
                    let reading = read_ahead(self.task, self.subscription, batch.through);
                    tokio::join!(self.lane.deliver(Arc::clone(&batch)), reading)
                }
            };
            let answer = answer?;
            let refused = answer.refusals.iter().map(|refusal| refusal.offset).max();
            let confirmed = answer.confirmed.map(|checkpoint| checkpoint.offset);
            self.apply(answer).await?;
            self.ahead = self.ahead.take().or(ahead?);
            // Above its confirmation, a lane that refused something of this batch has taken nothing of it.
            let of_this_batch =
                refused.is_some_and(|offset| batch.events.first().is_some_and(|(first, _)| *first <= offset));
            match self.window.last() {
                Some(rest) if of_this_batch && refused > confirmed => batch = Arc::clone(rest),
                _ => return Ok(true),
            }
        }
    }

    /// Takes in what the destination answered: refusals are on disk before any checkpoint passes them (Promise 6), and
    /// no checkpoint moves but to what was delivered (Promise 2).
    async fn apply(&mut self, answer: Progress) -> Result<(), End> {
        let Progress { confirmed, refusals, note } = answer;
        if !refusals.is_empty() {
            let mut records = Vec::with_capacity(refusals.len());
            for refusal in &refusals {
                let Some(event) = self.window.refusable(refusal) else {
                    return Err(self.not_delivered(refusal).into());
                };
                records.push((refusal.offset, refused(refusal, event.clone())));
            }
            self.record(records).await?;
            self.window.skip(refusals.iter().map(|refusal| refusal.offset));
        }
        if let Some(confirmed) = confirmed.filter(|confirmed| self.subscription.checkpoint() != Some(*confirmed)) {
            if !self.window.admits(confirmed) {
                return Err(self.not_ours(confirmed).into());
            }
            let settled = {
                let _working = self.task.progress.working();
                self.subscription.confirm(confirmed, note)?;
                self.window.confirm(confirmed.offset)
            };
            self.task.progress.count(settled.events, settled.bytes);
            if let Some(board) = &self.task.board {
                board.confirmed(&self.task.label, confirmed);
            }
        }
        self.well();
        Ok(())
    }

    /// Puts refused events among the dead letters, durably.
    async fn record(&mut self, refused: Vec<(Offset, Refused)>) -> Result<(), Error> {
        let count = refused.len() as u64;
        let _working = self.task.progress.working();
        self.subscription.refuse(refused).await?;
        self.task.progress.refused.fetch_add(count, Ordering::Relaxed);
        Ok(())
    }

    /// Something has gone well: whatever was wrong is over.
    fn well(&mut self) {
        self.ailing = false;
        self.backoff.reset();
        self.task.progress.enter(&self.task.label, Condition::Running);
    }

    fn is_interrupted(&self) -> bool {
        self.shutdown.is_requested() || self.pass.is_closing()
    }

    fn is_window_full(&self) -> bool {
        self.window.is_full(self.task.sink.window_bytes())
    }

    fn not_delivered(&self, refusal: &Refusal) -> SinkError {
        SinkError::Stop(format!(
            "{}: the destination refuses the event at {} ({}: {}), which is not in flight or was already set aside as \
             refused. This is a fault of the sink: report it; nothing was skipped",
            self.task.label,
            self.show(refusal.offset),
            refusal.code,
            refusal.reason,
        ))
    }

    fn not_ours(&self, confirmed: Checkpoint) -> SinkError {
        SinkError::Stop(format!(
            "{}: the destination confirms {} (buffer {}, tag {}), which is not among what was delivered to it. Look at \
             its checkpoint, and at who else writes there; then restart this agent, which will ask it again",
            self.task.label,
            self.show(confirmed.offset),
            confirmed.generation,
            confirmed.tag,
        ))
    }

    fn show(&self, offset: Offset) -> String {
        self.task.id.numbering.display(offset).to_string()
    }
}

/// Reads what follows a batch while that is on its way, if there is something, and room for it.
async fn read_ahead(
    task: &LaneTask,
    subscription: &Subscription,
    through: Checkpoint,
) -> Result<Option<Loaded>, Error> {
    if task.partition.high_water() <= through.offset {
        return Ok(None);
    }
    let Some(room) = task.feed.room_now() else { return Ok(None) };
    let _working = task.progress.working();
    task.feed.next(subscription, through.offset, Some(through), room).await
}

/// Resolves when the lane should let go: at shutdown, or when its fence is being closed.
pub(super) async fn interrupted(shutdown: &mut Shutdown, pass: &Pass) {
    tokio::select! {
        () = shutdown.requested() => {}
        () = pass.closing() => {}
    }
}
