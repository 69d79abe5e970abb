//! One partition: found, opened, received, and handed to the intake. What is on disk gives credit back, and nothing else
//! does, so a full buffer holds the hub back.

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use forebay_buffer::Offset;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::{
    Elsewhere, OnInvalidOffset, Position, RAN_WELL, Settings,
    begin::{self, Beginning, Checkpoints, Preloaded},
    created::Created,
    event::event_of,
};
use crate::{
    client::eventhub::{Class, Connection, Error, PartitionProperties, Received, Receiver, ReceiverOptions, Start},
    contract::{ControlError, Intake, IntakeError, Receipt, Shutdown, SourceBatch},
    progress::{Condition, Progress},
};

/// No batch has more bytes, besides its last event.
const BATCH_BYTES: usize = 256 << 10;
/// Batches that wait for the disk at most.
const MAX_WAITING: usize = 16;
/// The pause where only an operator, or a great deal of time, mends it.
const LONG_PAUSE: Duration = Duration::from_secs(30);
/// When nothing has come for so long it is looked whether there is something.
const QUIET: Duration = Duration::from_secs(60);
/// Why events are in the loss ledger that never came.
const EXPIRED: &str = "expired at the hub before it was read";
/// Where only an operator can say how to go on.
const CREATED_ANEW: &str = "the hub was created anew, and its numbers have started again: what was read before is of an \
                            earlier one. Set on_invalid_offset of the source to \"-1\" (all that is there) or \"@latest\" to \
                            go on";

/// What reads one partition, as long as one connection lasts.
pub(super) struct Lane {
    pub(super) partition: String,
    pub(super) settings: Arc<Settings>,
    /// What the service calls the receiver.
    pub(super) name: String,
    pub(super) checkpoints: Checkpoints,
    /// What the control table said of all that began together, until it is used.
    pub(super) rows: Option<Arc<Preloaded>>,
    pub(super) connection: Connection,
    pub(super) created: Arc<Created>,
    pub(super) intake: Intake,
    pub(super) progress: Arc<Progress>,
    pub(super) shutdown: Shutdown,
    /// What the hub still knows of where reading stopped.
    pub(super) trust: Trust,
    /// The number of the next event, once it is attached.
    pub(super) next: Option<i64>,
}

/// By what the hub may know where reading stopped, the best first. It takes a step down each time that the hub does not,
/// and never goes round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Trust {
    /// The offset.
    #[default]
    Offset,
    /// The sequence number: after a failover of a geo-replicated namespace the offsets are others.
    Number,
    /// Nothing: what `on_invalid_offset` says is to be done.
    Nothing,
    /// That has been tried.
    Exhausted,
}

/// Why a partition is not read any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    /// It was told to stop.
    Told,
    /// The connection is dead.
    Lost(Error),
    /// Another receiver took the partition.
    Stolen(String),
    /// Only an operator can mend this.
    Stopped(String),
    /// The buffer's doing.
    Intake(IntakeError),
}

impl From<IntakeError> for End {
    fn from(error: IntakeError) -> Self {
        Self::Intake(error)
    }
}

/// Batches on their way to disk, oldest first, with the number of events that each gives credit back for.
type Waiting = VecDeque<(Receipt, u32)>;

impl Lane {
    /// Reads until something ends it. What was handed over is on disk by then, or is refused.
    pub(super) async fn run(mut self) -> End {
        let mut backoff = self.settings.backoff();
        loop {
            let started = Instant::now();
            let end = match self.read().await {
                Ok(()) => return End::Told,
                Err(end) => end,
            };
            if started.elapsed() > RAN_WELL {
                backoff.reset();
            }
            let (message, pause) = match end {
                Trouble::End(end) => return end,
                Trouble::Control(message) => (message, backoff.next()),
                Trouble::Hub(error) => match error.class {
                    Class::NotFound | Class::InvalidOffset | Class::Detached => {
                        self.created.forget().await;
                        match error.class {
                            Class::InvalidOffset if self.trust_less() == Trust::Exhausted => {
                                return End::Stopped(error.message);
                            }
                            Class::NotFound => (error.message, LONG_PAUSE),
                            _ => (error.message, backoff.next()),
                        }
                    }
                    Class::Lost => return End::Lost(error),
                    Class::Stolen => return End::Stolen(error.message),
                    Class::Refused | Class::Rejected | Class::TooLarge => return End::Stopped(error.message),
                    Class::Busy(wait) => (error.message, wait + backoff.next()),
                    Class::Quota | Class::Unauthorized => (error.message, LONG_PAUSE),
                },
            };
            self.progress.errors.fetch_add(1, Ordering::Relaxed);
            self.progress.enter(&self.partition, Condition::Waiting(message));
            tokio::select! {
                () = sleep(pause) => {}
                error = self.connection.ended() => return End::Lost(error),
                () = self.shutdown.requested() => return End::Told,
            }
        }
    }

    /// One link, until it ends. `Ok`: told to stop.
    async fn read(&mut self) -> Result<(), Trouble> {
        let mut shutdown = self.shutdown.clone();
        let mut receiver = tokio::select! {
            biased;
            () = shutdown.requested() => return Ok(()),
            begun = self.begin() => begun?,
        };
        self.progress.enter(&self.partition, Condition::Running);
        let mut waiting = Waiting::new();
        let outcome = self.receive(&mut receiver, &mut waiting).await;
        // Nothing more is asked for; what was handed over is awaited, so that the next look at the buffer sees it.
        while let Some((receipt, _)) = waiting.pop_front() {
            receipt.await.map_err(End::from)?;
        }
        if outcome.is_ok() {
            receiver.close().await;
        }
        outcome
    }

    /// Finds out where to begin, and attaches there.
    async fn begin(&mut self) -> Result<Receiver, Trouble> {
        let created = self.created.get(&self.connection).await?;
        let preloaded = self.rows.take();
        let rows = self.checkpoints.rows(&self.settings.hub, &self.partition, created, preloaded.as_deref());
        let rows = match rows.await {
            Ok(rows) => rows,
            Err(ControlError::Stop(message)) => return Err(End::Stopped(message).into()),
            // What is here is enough to go on with: what a sink has had, it will not be sent again.
            Err(_) if self.is_alone() && self.is_known_here().await? => begin::Rows::default(),
            Err(error) => return Err(Trouble::Control(error.to_string())),
        };
        let beginning = begin::open(&self.intake, &self.partition, created, rows).await.map_err(End::from)?;
        match beginning.map_err(End::Stopped)? {
            Beginning::After(position) => self.go_on(position).await,
            Beginning::Fresh(least) => self.begin_at(self.settings.starting_position, least).await,
            Beginning::Recreated(least) => match self.settings.on_invalid_offset {
                OnInvalidOffset::Stop => Err(End::Stopped(CREATED_ANEW.to_owned()).into()),
                OnInvalidOffset::Go(elsewhere) => {
                    let message = "the hub was created anew; going on there as on_invalid_offset says";
                    log::warn!("{} ({}): {message}", self.progress.subject(), self.partition);
                    self.begin_at(elsewhere, least).await
                }
            },
        }
    }

    /// Whether no other agent reads for the same sink.
    fn is_alone(&self) -> bool {
        self.settings.balance().is_none()
    }

    /// Whether what is here says where to go on. Of a partition without a position nothing is passed over only where all of it
    /// is read.
    async fn is_known_here(&self) -> Result<bool, End> {
        let is_all_read = self.settings.starting_position == Elsewhere::Oldest;
        let known = self.intake.partitions().await?;
        Ok(known.iter().any(|(name, position)| *name == self.partition && (position.is_some() || is_all_read)))
    }

    /// Begins where the config says. What comes after the place of a sink that has one is not passed over for another that
    /// has none; where it has expired, it is lost.
    async fn begin_at(&mut self, elsewhere: Elsewhere, least: Option<Position>) -> Result<Receiver, Trouble> {
        if let Some(least) = least {
            let oldest = oldest(&self.connection.partition_properties(&self.partition).await?);
            if elsewhere == Elsewhere::Latest || oldest > least.sequence_number + 1 {
                self.keep(&least).await?;
                return self.go_on(least).await;
            }
        }
        self.attach_elsewhere(elsewhere).await
    }

    /// Attaches after `position`; where the hub does not know that any more, as the config says.
    async fn go_on(&mut self, position: Position) -> Result<Receiver, Trouble> {
        let properties = self.connection.partition_properties(&self.partition).await?;
        let (oldest, next) = (oldest(&properties), position.sequence_number + 1);
        if oldest > next {
            let position = self.lose(oldest - next, oldest).await?;
            return self.attach(position.start(), oldest).await;
        }
        match (self.trust, self.settings.on_invalid_offset) {
            (Trust::Offset, _) => self.attach(position.start(), next).await,
            (Trust::Number, _) => self.attach(Position { offset: None, ..position }.start(), next).await,
            (Trust::Nothing | Trust::Exhausted, OnInvalidOffset::Go(_))
                if properties.last_sequence_number < position.sequence_number =>
            {
                Err(End::Stopped(gone_back(properties.last_sequence_number, position.sequence_number)).into())
            }
            (Trust::Nothing | Trust::Exhausted, OnInvalidOffset::Go(elsewhere)) => self.attach_elsewhere(elsewhere).await,
            (Trust::Nothing | Trust::Exhausted, OnInvalidOffset::Stop) => Err(End::Stopped(format!(
                "the hub knows neither the offset nor the sequence number ({}) where reading stopped. Set on_invalid_offset \
                 of the source to \"-1\" (all that is there) or \"@latest\" to go on",
                position.sequence_number
            ))
            .into()),
        }
    }

    /// The hub does not know where reading stopped: the next attempt goes by something else.
    fn trust_less(&mut self) -> Trust {
        let (next, what) = match self.trust {
            Trust::Offset => (Trust::Number, "its offset; trying its sequence number"),
            Trust::Number => (Trust::Nothing, "its sequence number; doing what on_invalid_offset says"),
            Trust::Nothing | Trust::Exhausted => (Trust::Exhausted, "where on_invalid_offset says"),
        };
        log::warn!("{} ({}): the hub does not know the last event by {what}", self.progress.subject(), self.partition);
        self.trust = next;
        next
    }

    /// What the hub let go before it was read here is lost, and in the loss ledger (Promise 6), together with where reading
    /// goes on: so it is counted once. That is with the event `next`.
    async fn lose(&self, expired: i64, next: i64) -> Result<Position, End> {
        let position = Position { offset: None, sequence_number: next - 1 };
        self.intake.lose_before(position.encode(), &self.partition, expired.unsigned_abs(), EXPIRED).await?;
        log::error!(
            "{} ({}): {expired} events had expired at the hub before they were read here; they are in the loss ledger",
            self.progress.subject(),
            self.partition
        );
        Ok(position)
    }

    /// Numbers follow each other. Those that do not come have expired while nothing was asked for, or the hub has compacted
    /// the partition: only what is older than its oldest event is a loss. What came before that is on disk before it is
    /// recorded; what came after it is left in the batch. For how many events that are on disk credit is still to be given.
    async fn count_missing(&mut self, batch: &mut SourceBatch, waiting: &mut Waiting) -> Result<u32, Trouble> {
        let mut gaps = Vec::new();
        for (index, Offset(number)) in batch.offsets.iter().enumerate() {
            gaps.extend(self.next.filter(|next| next < number).map(|next| (index, next..*number)));
            self.next = Some(number + 1);
        }
        if gaps.is_empty() {
            return Ok(0);
        }
        let oldest = oldest(&self.connection.partition_properties(&self.partition).await?);
        let (mut passed, mut stored) = (0, 0);
        for (index, gap) in gaps {
            let expired = gap.end.min(oldest) - gap.start;
            if expired <= 0 {
                continue;
            }
            let mut before = std::mem::take(batch);
            batch.events = before.events.split_off(index - passed);
            batch.offsets = before.offsets.split_off(index - passed);
            batch.position = before.position.take();
            // Nor is what is refused stored before the position that passes it.
            batch.refused = std::mem::take(&mut before.refused);
            passed = index;
            waiting.push_back((self.intake.submit(&self.partition, before).await.map_err(End::from)?, 0));
            while let Some((receipt, count)) = waiting.pop_front() {
                receipt.await.map_err(End::from)?;
                stored += count;
            }
            self.lose(expired, gap.end).await?;
        }
        Ok(stored)
    }

    /// Attaches where the config says. The end of the partition is a place from now on: what comes while the agent is
    /// down is not passed over.
    async fn attach_elsewhere(&mut self, elsewhere: Elsewhere) -> Result<Receiver, Trouble> {
        let properties = self.connection.partition_properties(&self.partition).await?;
        if elsewhere == Elsewhere::Oldest {
            return self.attach(Start::Oldest, oldest(&properties)).await;
        }
        let position = Position { offset: None, sequence_number: properties.last_sequence_number };
        self.keep(&position).await?;
        self.attach(position.start(), position.sequence_number + 1).await
    }

    /// Stores a position without events.
    async fn keep(&self, position: &Position) -> Result<(), End> {
        let batch = SourceBatch { position: Some(position.encode()), ..SourceBatch::default() };
        self.intake.submit(&self.partition, batch).await?.await?;
        Ok(())
    }

    /// Attaches at `start`, after which comes the event with the number `next`.
    async fn attach(&mut self, start: Start, next: i64) -> Result<Receiver, Trouble> {
        self.next = Some(next);
        let settings = &self.settings;
        let options = ReceiverOptions {
            consumer_group: settings.hub.consumer_group.clone(),
            partition: self.partition.clone(),
            start,
            owner_level: settings.owner_level(),
            name: self.name.clone(),
            prefetch: settings.prefetch,
            prefetch_bytes: settings.prefetch_bytes,
            track_last_enqueued: settings.track_last_enqueued,
        };
        Ok(self.connection.receiver(&options).await?)
    }

    /// Receives until told to stop.
    async fn receive(&mut self, receiver: &mut Receiver, waiting: &mut Waiting) -> Result<(), Trouble> {
        let mut shutdown = self.shutdown.clone();
        let mut quiet_until = Instant::now() + QUIET;
        loop {
            let has_room = waiting.len() < MAX_WAITING;
            let first = tokio::select! {
                biased;
                () = shutdown.requested() => return Ok(()),
                outcome = async { (&mut waiting[0].0).await }, if !waiting.is_empty() => {
                    outcome.map_err(End::from)?;
                    let (_, count) = waiting.pop_front().expect("its receipt was awaited");
                    receiver.accept(count).await?;
                    continue;
                }
                received = receiver.receive(), if has_room => received?,
                looked = self.look_why_quiet(quiet_until), if waiting.is_empty() => {
                    looked?;
                    quiet_until = Instant::now() + QUIET;
                    continue;
                }
            };
            self.trust = Trust::Offset;
            let (mut batch, count, broken) = self.gather(receiver, first).await;
            let stored = self.count_missing(&mut batch, waiting).await?;
            let receipt = self.intake.submit(&self.partition, batch).await.map_err(End::from)?;
            waiting.push_back((receipt, stored + count));
            if let Some(error) = broken {
                return Err(error.into());
            }
            quiet_until = Instant::now() + QUIET;
        }
    }

    /// Nothing has come until then: there is nothing, or the link is dead and does not say so. It is not dead because the
    /// question has no answer.
    async fn look_why_quiet(&self, quiet_until: Instant) -> Result<(), Error> {
        sleep_until(quiet_until).await;
        let last = match self.connection.partition_properties(&self.partition).await {
            Ok(properties) => properties.last_sequence_number,
            Err(error) => {
                log::debug!("{} ({}): {error}", self.progress.subject(), self.partition);
                return Ok(());
            }
        };
        let Some(next) = self.next else { return Ok(()) };
        self.progress.lags(&self.partition, (last + 1 - next).max(0).unsigned_abs());
        if last < next {
            return Ok(());
        }
        let message = format!("the hub has events up to {last}, and {next} does not come: attaching anew");
        Err(Error { class: Class::Detached, message })
    }

    /// What is there already, and what comes within the time that the config gives it; how many events that is, and what
    /// ended the link behind them.
    async fn gather(&self, receiver: &mut Receiver, first: Received) -> (SourceBatch, u32, Option<Error>) {
        let deadline = Instant::now() + self.settings.max_wait;
        let (mut gathered, mut broken) = (Gathered::default(), None);
        gathered.add(first);
        while gathered.count < self.settings.max_batch_events && gathered.size_bytes < BATCH_BYTES {
            let next = match receiver.try_receive() {
                Some(next) => next,
                None if self.settings.max_wait.is_zero() || receiver.is_full() => break,
                None => match timeout_at(deadline, receiver.receive()).await {
                    Ok(next) => next,
                    Err(_) => break,
                },
            };
            match next {
                Ok(received) => gathered.add(received),
                // What came before it is good.
                Err(error) => {
                    broken = Some(error);
                    break;
                }
            }
        }
        if let Some(events) = gathered.behind() {
            self.progress.lags(&self.partition, events);
        }
        let (batch, count) = gathered.finish();
        (batch, count, broken)
    }
}

/// Events with numbers that came before would be taken for those.
fn gone_back(last: i64, read: i64) -> String {
    format!(
        "the hub has only come to {last}, and {read} was read from it before: it has gone back (a failover that lost events), and \
         gives numbers again that are taken here already. To begin anew, take the source out of the config, run `forebay \
         buffer discard --stream` with its name, delete its rows of the control table, and put it back"
    )
}

/// The number of the oldest event that the hub has, or would have.
pub(super) fn oldest(properties: &PartitionProperties) -> i64 {
    if properties.is_empty { properties.last_sequence_number + 1 } else { properties.begin_sequence_number }
}

/// Events that are handed over together.
#[derive(Default)]
struct Gathered {
    batch: SourceBatch,
    count: u32,
    size_bytes: usize,
    /// The last one that has a number, be it refused.
    last: Option<Position>,
    /// The number of the last event in the partition, when the last one here was sent.
    last_enqueued: Option<i64>,
}

impl Gathered {
    fn add(&mut self, received: Received) {
        self.count += 1;
        self.size_bytes += received.size_bytes;
        self.last_enqueued = received.last_enqueued.as_ref().map(|last| last.sequence_number).or(self.last_enqueued);
        if let Some(sequence_number @ 0..) = received.sequence_number {
            self.last = Some(Position { offset: received.offset.clone(), sequence_number });
        }
        match event_of(received) {
            Ok((number, event)) => {
                self.batch.offsets.push(number);
                self.batch.events.push(event);
            }
            Err(refused) => self.batch.refused.push(*refused),
        }
    }

    /// The batch, with where to resume after it, and how many events came.
    fn finish(mut self) -> (SourceBatch, u32) {
        self.batch.position = self.last.as_ref().map(Position::encode);
        (self.batch, self.count)
    }

    /// How many events come after the last one here.
    fn behind(&self) -> Option<u64> {
        u64::try_from(self.last_enqueued? - self.last.as_ref()?.sequence_number).ok()
    }
}

/// Why a link ended, or did not come about.
enum Trouble {
    /// The partition is done with.
    End(End),
    /// The control table is out of reach.
    Control(String),
    /// The hub's doing.
    Hub(Error),
}

impl From<End> for Trouble {
    fn from(end: End) -> Self {
        Self::End(end)
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Hub(error)
    }
}
