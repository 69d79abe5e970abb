//! Events from an event hub, as one reader of a consumer group among several agents, or alone.
//!
//! Each partition of the hub that is read is a partition here, numbered as the hub numbers it, so that whoever reads it next
//! can go on from what the sinks have: the control table says how far that is, and moves only when they have confirmed
//! (Promise 2). [`begin`] finds the place, [`lane`] reads one partition.
//!
//! Where partitions are shared out ([`claims`]), none is read or delivered without a claim. One that may be another's is
//! left at once; one that is another's is taken back out of the buffer. Whatever is wrong with the claims, no event is
//! confirmed twice: that is for the compare-and-set of the checkpoints.

mod balance;
mod begin;
mod check;
mod claims;
mod created;
mod event;
mod lane;
mod position;
mod serve;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use forebay_buffer::clock::Clock;
use tokio::time::{Instant, sleep};

pub use self::{balance::Strategy, begin::Checkpoints, check::check, claims::Balance};
use self::{
    claims::Claims,
    position::Position,
    serve::{Session, Standing, elapsed, suspend},
};
use crate::{
    client::eventhub::{self as client, Class, Connection, Hub},
    contract::{BoxFuture, HubId, Intake, IntakeError, Shares, Shutdown, Source, SourceError},
    progress::{Condition, Progress},
    retry::Backoff,
};

/// The pause where only an operator, or a great deal of time, mends it.
const LONG_PAUSE: Duration = Duration::from_secs(30);
/// A connection, or a link, that lasted so long was a good one.
const RAN_WELL: Duration = Duration::from_secs(10);

/// What the config says of an event hub as a source.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// How to reach it.
    pub connection: client::Settings,
    /// What checkpoints call it.
    pub hub: HubId,
    /// Which of its partitions are read.
    pub partitions: Partitions,
    /// Where to begin in a partition that was never read.
    pub starting_position: Elsewhere,
    /// What to do where reading cannot go on from where it stopped.
    pub on_invalid_offset: OnInvalidOffset,
    /// Events of one partition that may be under way and not on disk.
    pub prefetch: u32,
    /// The same in bytes, roughly.
    pub prefetch_bytes: usize,
    /// Events in one batch at most.
    pub max_batch_events: u32,
    /// How long the first event of a batch waits for company. Zero: what is there goes at once.
    pub max_wait: Duration,
    /// Whether the hub says how far its partitions are.
    pub track_last_enqueued: bool,
    /// Above whom the hub puts this reader. Without it several may read the same partition.
    pub owner_level: Option<i64>,
    /// The longest first pause before something that failed is tried again.
    pub retry_backoff: Duration,
    /// The longest pause of all. It never gives up.
    pub retry_backoff_max: Duration,
}

/// Which partitions are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Partitions {
    /// All of them, by this agent alone.
    All,
    /// These, by this agent alone.
    These(BTreeSet<String>),
    /// A share of them.
    Balanced(Balance),
}

/// Where to begin that is no event's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Elsewhere {
    /// With the oldest event.
    Oldest,
    /// With the next that comes.
    Latest,
}

/// What to do where the hub does not know the place any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnInvalidOffset {
    /// Wait for an operator.
    Stop,
    /// Go on there.
    Go(Elsewhere),
}

impl Settings {
    fn balance(&self) -> Option<Balance> {
        match self.partitions {
            Partitions::Balanced(balance) => Some(balance),
            Partitions::All | Partitions::These(_) => None,
        }
    }

    /// The pauses between attempts.
    fn backoff(&self) -> Backoff {
        Backoff::new(self.retry_backoff, self.retry_backoff_max)
    }

    /// Of readers at level 0 the last to come has the partition: whoever claims it.
    fn owner_level(&self) -> Option<i64> {
        self.owner_level.or(self.balance().map(|_| 0))
    }

    /// Whether other agents may have the partitions.
    pub fn is_shared(&self) -> bool {
        self.balance().is_some()
    }
}

/// The source. See the module.
pub struct EventHub {
    settings: Arc<Settings>,
    agent_id: String,
    checkpoints: Checkpoints,
    clock: Arc<dyn Clock>,
    progress: Arc<Progress>,
}

/// How the time with one connection ended.
enum End {
    /// Told to stop.
    Told,
    /// The connection is dead, or the hub does not answer as it should.
    Lost(client::Error),
    /// The buffer's doing.
    Intake(IntakeError),
}

impl From<client::Error> for End {
    fn from(error: client::Error) -> Self {
        Self::Lost(error)
    }
}

impl EventHub {
    /// Connects to nothing before it runs. `checkpoints` are those of the stream's sinks.
    pub fn new(
        settings: Settings,
        agent_id: String,
        checkpoints: Checkpoints,
        clock: Arc<dyn Clock>,
        progress: Arc<Progress>,
    ) -> Self {
        Self { settings: Arc::new(settings), agent_id, checkpoints, clock, progress }
    }

    /// The claims, where partitions are shared out.
    fn claims(&self) -> Result<Option<Claims>, SourceError> {
        let Some(balance) = self.settings.balance() else { return Ok(None) };
        let (Some(control), [target]) = (&self.checkpoints.control, &self.checkpoints.targets[..]) else {
            return Err(SourceError::Stop(
                "partitions can be shared out only with a control table, and for one sink: see the config".to_owned(),
            ));
        };
        let shares = Shares { hub: self.settings.hub.clone(), target: target.clone() };
        let (owner, clock) = (self.agent_id.clone(), Arc::clone(&self.clock));
        Ok(Some(Claims::new(Arc::clone(control), shares, owner, balance, clock)))
    }

    /// Runs, and leaves what may be another's after that, however it ended.
    async fn run(&self, intake: Intake, shutdown: Shutdown) -> Result<(), SourceError> {
        let mut standing = Standing { claims: self.claims()?, ..Standing::default() };
        let is_shared = standing.claims.is_some();
        if is_shared {
            // Of an earlier run: whatever is here is nobody's before it is claimed.
            suspend_all(&intake).await.map_err(retry)?;
        }
        let ended = self.read(&mut standing, &intake, shutdown).await;
        if is_shared {
            suspend_all(&intake).await.map_err(retry)?;
        }
        if let Some(claims) = &mut standing.claims {
            claims.release().await;
        }
        ended
    }

    /// Reads over one connection after another.
    async fn read(&self, standing: &mut Standing, intake: &Intake, mut shutdown: Shutdown) -> Result<(), SourceError> {
        let hub = Hub::new(self.settings.connection.clone(), Arc::clone(&self.clock)).map_err(SourceError::Retry)?;
        let mut backoff = self.settings.backoff();
        loop {
            let ended = tokio::select! {
                connection = hub.connection() => match connection {
                    Ok(connection) => self.serve(&connection, standing, intake, &mut shutdown, &mut backoff).await,
                    Err(error) => End::Lost(error),
                },
                () = shutdown.requested() => End::Told,
                error = expire(standing, intake) => End::Intake(error),
            };
            let error = match ended {
                End::Told => return Ok(()),
                End::Intake(error) => return Err(retry(error)),
                End::Lost(error) => error,
            };
            self.progress.errors.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let pause = match error.class {
                Class::Refused => return Err(SourceError::Stop(error.message)),
                Class::Busy(wait) => wait + backoff.next(),
                Class::Quota | Class::Unauthorized | Class::NotFound => LONG_PAUSE,
                _ => backoff.next(),
            };
            self.progress.enter("", Condition::Waiting(error.message));
            tokio::select! {
                () = sleep(pause) => {}
                () = shutdown.requested() => return Ok(()),
                error = expire(standing, intake) => return Err(retry(error)),
            }
        }
    }

    /// Reads over one connection until it ends.
    async fn serve(
        &self,
        connection: &Connection,
        standing: &mut Standing,
        intake: &Intake,
        shutdown: &mut Shutdown,
        backoff: &mut Backoff,
    ) -> End {
        let started = Instant::now();
        let mut session = Session::new(self, connection, standing, intake);
        let outcome = session.run(shutdown).await;
        // One partition may end each connection as soon as it is there.
        if started.elapsed() > RAN_WELL {
            backoff.reset();
        }
        session.stop().await;
        outcome.err().unwrap_or(End::Told)
    }
}

fn retry(error: IntakeError) -> SourceError {
    SourceError::Retry(error.to_string())
}

/// Keeps delivery away from every partition.
async fn suspend_all(intake: &Intake) -> Result<(), IntakeError> {
    let mut names: Vec<_> = intake.partitions().await?.into_iter().map(|(name, _)| name).collect();
    // One that was numbered anew is there twice.
    names.sort_unstable();
    names.dedup();
    suspend(intake, &names).await.map(drop)
}

/// Leaves the partitions whose claims have become too old, when they have. Ends only with an error.
async fn expire(standing: &mut Standing, intake: &Intake) -> IntakeError {
    loop {
        let claims = standing.claims.as_mut();
        elapsed(claims.as_deref().and_then(Claims::next_expiry)).await;
        let expired = standing.claims.as_mut().map(Claims::expire).unwrap_or_default();
        if let Err(error) = suspend(intake, &expired).await {
            return error;
        }
    }
}

impl Source for EventHub {
    fn run<'a>(&'a mut self, intake: Intake, shutdown: Shutdown) -> BoxFuture<'a, Result<(), SourceError>> {
        Box::pin(EventHub::run(self, intake, shutdown))
    }
}
