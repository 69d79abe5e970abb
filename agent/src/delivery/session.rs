//! One session of a lane: from asking the destination what it has, to the error or the interruption that ends it.

mod resume;

use std::{
    borrow::Cow,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use forebay_buffer::{Checkpoint, Error, Event, Offset, Refused, Subscription};
use tokio::time::{Instant, sleep_until};

use super::{
    feed::{Feed, Loaded},
    lane::LaneTask,
    window::Window,
};
use crate::{
    contract::{Batch, Lane, Progress, Refusal, Shutdown, SinkError, upstream_offset},
    fence::Pass,
    progress::Condition,
    retry::Backoff,
};

/// How long to wait for what is on its way or in flight, when the lane should let go.
const LEAVE_PATIENCE: Duration = Duration::from_secs(10);

/// Why a session ended.
pub(super) enum End {
    /// Shutdown, or a fence is being closed. What was in flight has been settled, unless that failed or took too long.
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
    /// When nothing more is waited for, once it was interrupted.
    pub(super) leave_by: Option<Instant>,
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
            if self.is_interrupted() {
                if self.window.is_empty() {
                    return Ok(());
                }
                // What is not confirmed by then may be there all the same: whoever comes next asks.
                let answer = tokio::select! {
                    answer = self.lane.settle() => answer?,
                    () = overdue(self.shutdown, self.pass, &mut self.leave_by) => return Ok(()),
                };
                self.apply(answer, None).await?;
                continue;
            }
            self.leave_by = None;
            if self.is_window_full() {
                // The destination may take its time, and others have use for the room.
                self.ahead = None;
                self.wait(std::future::pending()).await?;
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
            Some(answer) => self.apply(answer, None).await,
            None => Ok(()),
        }
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
    /// before it was on its way. [`End::Interrupted`]: it was, and has taken too long since.
    async fn deliver(&mut self, loaded: Loaded) -> Result<bool, End> {
        if let Some(pace) = &self.task.pace {
            tokio::select! {
                () = pace.turn(loaded.size_bytes) => {}
                () = interrupted(self.shutdown, self.pass) => return Ok(false),
            }
        }
        let Loaded { mut batch, lease, room, .. } = loaded;
        let last = batch.events.last().filter(|_| self.tells_upstream());
        let upstream = last.and_then(|(_, event)| upstream_offset(event)).map(str::to_owned);
        self.window.push(&batch, lease, upstream);
        loop {
            // What would have to wait for earlier batches is read when they are confirmed, unless a sink awaits those first.
            let is_early = !self.task.sink.keeps_batches() && self.window.has_earlier() && self.is_window_full();
            let is_read = self.ahead.is_some() || is_early;
            let reading = async {
                if is_read { Ok(None) } else { read_ahead(self.task, self.subscription, batch.through).await }
            };
            let delivering = async { tokio::join!(self.lane.deliver(Arc::clone(&batch)), reading) };
            // Where it takes too long, whoever comes next asks what has become of it.
            let (answer, ahead) = tokio::select! {
                done = delivering => done,
                () = overdue(self.shutdown, self.pass, &mut self.leave_by) => return Err(End::Interrupted),
            };
            let answer = answer?;
            let refused: Vec<Offset> = answer.refusals.iter().map(|refusal| refusal.offset).collect();
            let confirmed = answer.confirmed.map(|checkpoint| checkpoint.offset);
            self.apply(answer, Some(&batch)).await?;
            self.ahead = self.ahead.take().or(ahead?);
            // Above its confirmation, a lane that refused something of this batch has taken nothing of it.
            let last = refused.iter().max().copied().filter(|last| batch.holds(*last));
            if last.is_none_or(|last| Some(last) <= confirmed) {
                self.window.taken(room, self.task.sink.keeps_batches());
                return Ok(true);
            }
            batch = Arc::new(batch.rest(confirmed, &refused));
        }
    }

    /// Takes in what the destination answered, to `batch` if one is on its way: refusals are on disk before any checkpoint
    /// passes them (Promise 6), and no checkpoint moves but to what was delivered (Promise 2).
    async fn apply(&mut self, answer: Progress, batch: Option<&Batch>) -> Result<(), End> {
        let Progress { confirmed, refusals, note } = answer;
        // That something was taken says nothing yet, where it is confirmed later.
        let is_well = confirmed.is_some() || !refusals.is_empty();
        self.refuse(refusals, batch).await?;
        if let Some(confirmed) = confirmed.filter(|confirmed| self.subscription.checkpoint() != Some(*confirmed)) {
            let admitted =
                self.subscription.checkpoint_at(confirmed.offset).filter(|_| self.window.holds(confirmed.offset));
            if admitted != Some(confirmed) {
                return Err(self.not_ours(confirmed).into());
            }
            // What it shows of earlier batches was told with these.
            let shown = self.lane.shown(confirmed).filter(|shown| self.window.holds(shown.offset));
            let upstream = match shown {
                Some(shown) => self.upstream_offset(shown.offset, batch).await?,
                None => None,
            };
            let settled = {
                let _working = self.task.progress.working();
                self.subscription.confirm(confirmed, note)?;
                self.window.confirm(confirmed.offset)
            };
            self.task.progress.count(settled.events, settled.bytes);
            if let (Some(board), Some(shown)) = (&self.task.board, shown) {
                board.confirmed(&self.task.label, shown, upstream);
            }
        }
        if is_well {
            self.well();
        }
        Ok(())
    }

    /// Whether anybody is to be told where events stand upstream.
    fn tells_upstream(&self) -> bool {
        self.task.board.is_some() && self.task.id.hub.is_some()
    }

    /// Where the event at `offset`, one in flight, stands upstream, if its source has said so and anybody is to be told.
    async fn upstream_offset(&mut self, offset: Offset, batch: Option<&Batch>) -> Result<Option<String>, Error> {
        if !self.tells_upstream() {
            return Ok(None);
        }
        if let Some(known) = self.window.upstream_offset(offset) {
            return Ok(Some(known.to_owned()));
        }
        let events = events_at(&self.task.feed, self.subscription, batch, offset, 1).await?;
        Ok(find(&events, offset).and_then(upstream_offset).map(str::to_owned))
    }

    /// Puts events in flight among the dead letters, durably.
    async fn refuse(&mut self, mut refusals: Vec<Refusal>, batch: Option<&Batch>) -> Result<(), End> {
        if let Some(alien) = refusals.iter().find(|refusal| !self.window.is_refusable(refusal.offset)) {
            return Err(self.not_delivered(alien).into());
        }
        let is_here = |refusal: &Refusal| batch.is_some_and(|batch| batch.holds(refusal.offset));
        let _turn = match refusals.iter().all(is_here) {
            true => None,
            false => Some(self.task.feed.turn().await),
        };
        refusals.sort_by_key(|refusal| refusal.offset);
        let mut rest = &refusals[..];
        while let Some(next) = rest.first() {
            let events = events_at(&self.task.feed, self.subscription, batch, next.offset, usize::MAX).await?;
            let end = events.last().map(|(offset, _)| *offset);
            let (here, later) = rest.split_at(rest.partition_point(|refusal| Some(refusal.offset) <= end).max(1));
            // One that is gone is in the loss ledger.
            let size_bytes = |offset| find(&events, offset).map_or(0, Event::size_bytes);
            let refused = here.iter().filter_map(|Refusal { offset, code, reason }| {
                let event = find(&events, *offset)?.clone();
                Some((*offset, Refused { event, code: code.clone(), reason: reason.clone() }))
            });
            self.record(refused.collect()).await?;
            here.iter().for_each(|refusal| self.window.refuse(refusal.offset, size_bytes(refusal.offset)));
            rest = later;
        }
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

impl Batch {
    pub(super) fn holds(&self, offset: Offset) -> bool {
        find(&self.events, offset).is_some()
    }

    /// What comes after `confirmed`, which may be one of its own, with the `refused` among the skipped.
    fn rest(&self, confirmed: Option<Offset>, refused: &[Offset]) -> Self {
        let confirmed = confirmed.filter(|confirmed| self.holds(*confirmed));
        let passed = self.events.partition_point(|(offset, _)| Some(*offset) <= confirmed);
        let events = self.events[passed..].to_vec();
        let mut skipped = [&self.skipped, refused].concat();
        skipped.retain(|offset| Some(*offset) > confirmed && self.holds(*offset));
        skipped.sort_unstable();
        skipped.dedup();
        let expected = confirmed.map(|confirmed| self.checkpoint_at(confirmed)).or(self.expected);
        Self { events, skipped, expected, through: self.through, tags: self.tags.clone() }
    }
}

/// Events in flight, that at `offset` among them: those of `batch`, which is on its way; or that and at most so many in all, of
/// earlier ones, which the sink has taken and the buffer still has.
async fn events_at<'b>(
    feed: &Feed,
    subscription: &Subscription,
    batch: Option<&'b Batch>,
    offset: Offset,
    max_events: usize,
) -> Result<Cow<'b, [(Offset, Event)]>, Error> {
    match batch.filter(|batch| batch.holds(offset)) {
        Some(batch) => Ok(Cow::Borrowed(&batch.events)),
        None => Ok(Cow::Owned(feed.events(subscription, Offset(offset.0 - 1), max_events).await?)),
    }
}

fn find(events: &[(Offset, Event)], offset: Offset) -> Option<&Event> {
    let at = events.binary_search_by_key(&offset, |(held, _)| *held).ok()?;
    Some(&events[at].1)
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

/// Resolves when the lane should have let go by now.
async fn overdue(shutdown: &mut Shutdown, pass: &Pass, leave_by: &mut Option<Instant>) {
    interrupted(shutdown, pass).await;
    sleep_until(*leave_by.get_or_insert_with(|| Instant::now() + LEAVE_PATIENCE)).await;
}
