//! One connection: which partitions are read over it, from look to look.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use forebay_buffer::Offset;
use futures_util::{
    future::{join_all, try_join_all},
    stream::{FuturesUnordered, StreamExt},
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{
    End, EventHub, Partitions,
    begin::Preloaded,
    claims::Claims,
    created::Created,
    lane::{self, Lane, Trust},
};
use crate::{
    client::eventhub::{self as client, Class, Connection},
    contract::{Intake, IntakeError, Shutdown},
    progress::Condition,
};

/// How often it is looked whether the hub has more partitions, where none are shared out.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// Looks are spread by up to one part in so many of the interval, so that agents do not come to look together.
const JITTER: u32 = 5;
/// How long the goodbyes of links may take: they are a courtesy.
const GOODBYE: Duration = Duration::from_secs(2);
/// What [`crate::progress::Progress`] calls the claims.
const CLAIMS: &str = "claims";

/// What outlives a connection.
#[derive(Default)]
pub(super) struct Standing {
    /// The claims, where partitions are shared out.
    pub(super) claims: Option<Claims>,
    /// The partitions of the hub, as they were last seen.
    pub(super) partitions: Vec<String>,
    /// What no lane is started for any more: an operator must act.
    pub(super) stopped: BTreeSet<String>,
    /// What another took at the hub, and the hub's words, as long as no claim explains it.
    pub(super) disputed: BTreeMap<String, String>,
}

/// See the module.
pub(super) struct Session<'a> {
    source: &'a EventHub,
    connection: &'a Connection,
    standing: &'a mut Standing,
    intake: &'a Intake,
    created: Arc<Created>,
    lanes: BTreeMap<String, Running>,
    /// When the claims are renewed next, and it is seen what should be read.
    next_look: Instant,
    /// How many lanes were started: each has a number, for the end of one may be told when another is there.
    started: u64,
    ended: (mpsc::UnboundedSender<Ended>, mpsc::UnboundedReceiver<Ended>),
}

/// A lane's partition and number, and why it has ended.
type Ended = (String, u64, lane::End);

struct Running {
    number: u64,
    switch: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl<'a> Session<'a> {
    pub(super) fn new(
        source: &'a EventHub,
        connection: &'a Connection,
        standing: &'a mut Standing,
        intake: &'a Intake,
    ) -> Self {
        let (created, lanes, next_look) = (Arc::default(), BTreeMap::new(), Instant::now());
        let ended = mpsc::unbounded_channel();
        Self { source, connection, standing, intake, created, lanes, next_look, started: 0, ended }
    }

    /// Reads until told to stop, or until the connection ends.
    pub(super) async fn run(&mut self, shutdown: &mut Shutdown) -> Result<(), End> {
        loop {
            let expiry = self.expiry();
            tokio::select! {
                biased;
                () = shutdown.requested() => return Ok(()),
                error = self.connection.ended() => return Err(End::Lost(error)),
                () = elapsed(expiry) => self.leave_expired().await?,
                Some((partition, number, end)) = self.ended.1.recv() => {
                    if self.lanes.get(&partition).is_some_and(|lane| lane.number == number) {
                        self.lane_ended(&partition, end).await?;
                    }
                }
                () = sleep_until(self.next_look) => {
                    self.next_look = Instant::now() + self.interval();
                    self.look(shutdown).await?;
                }
            }
        }
    }

    /// Ends every lane.
    pub(super) async fn stop(self) {
        for lane in self.lanes.values() {
            lane.switch.send_replace(true);
        }
        join_all(self.lanes.into_values().map(await_end)).await;
    }

    fn interval(&self) -> Duration {
        let interval = self.source.settings.balance().map_or(LOOK_EVERY, |balance| balance.interval);
        let random = f64::from(getrandom::u32().unwrap_or_default()) / f64::from(u32::MAX);
        interval + (interval / JITTER).mul_f64(random)
    }

    fn expiry(&self) -> Option<Duration> {
        self.standing.claims.as_ref().and_then(Claims::next_expiry)
    }

    /// Sees to it that those partitions are read that should be. Claims are renewed before the hub is asked for anything.
    async fn look(&mut self, shutdown: &mut Shutdown) -> Result<(), End> {
        let is_known = !self.standing.partitions.is_empty();
        if is_known {
            self.read(shutdown).await?;
        }
        let expiry = self.expiry();
        let asked = tokio::select! {
            asked = self.connection.properties() => asked,
            () = elapsed(expiry) => return self.leave_expired().await,
            // A hub that takes its time is asked again: the claims are not to wait for it.
            () = sleep_until(self.next_look), if is_known => return Ok(()),
            () = shutdown.requested() => return Ok(()),
        };
        match asked {
            Ok(properties) => {
                self.created.set(properties.created.0);
                self.source.progress.enter("", Condition::Running);
                let is_news = self.standing.partitions != properties.partition_ids;
                self.standing.partitions = properties.partition_ids;
                if is_news { self.read(shutdown).await } else { Ok(()) }
            }
            // What is read goes on being read: it is asked again at the next look.
            Err(error) if is_known && error.class != Class::Lost => {
                log::debug!("{}: {error}", self.source.progress.subject());
                Ok(())
            }
            Err(error) => Err(End::Lost(error)),
        }
    }

    /// Reads what should be read of the partitions that are known.
    async fn read(&mut self, shutdown: &mut Shutdown) -> Result<(), End> {
        match &self.source.settings.partitions {
            Partitions::All => self.start(self.standing.partitions.clone()),
            Partitions::These(these) => {
                let partitions = &self.standing.partitions;
                let (there, missing): (Vec<_>, Vec<_>) =
                    these.iter().cloned().partition(|one| partitions.contains(one));
                for partition in missing {
                    let names = partitions.join(", ");
                    let message = format!("the hub has no partition {partition:?}: its partitions are {names}");
                    self.source.progress.enter(&partition, Condition::Stopped(message));
                }
                self.start(there);
            }
            Partitions::Balanced(_) => return self.balance(shutdown).await,
        }
        let ours = self.lanes.keys().cloned().collect();
        self.affirm(ours).await
    }

    /// What a sink took for another owner's was not, or is ours again.
    async fn affirm(&self, ours: Vec<String>) -> Result<(), End> {
        for partition in ours {
            self.intake.affirm(&partition).await.map_err(End::Intake)?;
        }
        Ok(())
    }

    /// Renews and makes claims, and starts and leaves partitions accordingly.
    async fn balance(&mut self, shutdown: &mut Shutdown) -> Result<(), End> {
        let expiry = self.expiry();
        let Standing { claims: Some(claims), partitions, .. } = &mut *self.standing else { return Ok(()) };
        let turn = tokio::select! {
            turn = claims.turn(partitions) => turn,
            // The table takes its time, and our claims get old meanwhile.
            () = elapsed(expiry) => return self.leave_expired().await,
            error = self.connection.ended() => return Err(End::Lost(error)),
            () = shutdown.requested() => return Ok(()),
        };
        let lost = claims.lost();
        // That may have taken long.
        self.next_look = Instant::now() + self.interval();
        let (progress, is_certain) = (&self.source.progress, turn.is_ok());
        match turn {
            Err(error) => progress.enter(CLAIMS, Condition::Waiting(error.to_string())),
            Ok(true) => {
                let message = format!(
                    "another agent goes by the id {:?} too, and takes this one's partitions: give one of the two another id",
                    self.source.agent_id
                );
                progress.enter(CLAIMS, Condition::Stopped(message));
            }
            Ok(false) => progress.leave(CLAIMS),
        }
        self.lose(&lost, shutdown).await?;
        // So may that.
        let ours = self.standing.claims.as_ref().map(Claims::ours).unwrap_or_default();
        if is_certain {
            self.explain(&ours);
        }
        self.start(ours.clone());
        if is_certain { self.affirm(ours).await } else { Ok(()) }
    }

    /// Says which partitions nobody reads here, for another has them at the hub without a claim.
    fn explain(&mut self, ours: &[String]) {
        let Standing { claims: Some(claims), disputed, .. } = &mut *self.standing else { return };
        let progress = &self.source.progress;
        disputed.retain(|partition, message| {
            let is_barred = claims.is_barred(partition);
            if is_barred {
                let message = format!("another reader, which is no agent of this table, has it at the hub: {message}");
                progress.enter(partition, Condition::Waiting(message));
            } else if !ours.contains(partition) {
                progress.leave(partition);
            }
            is_barred
        });
    }

    /// Starts reading what is not read yet.
    fn start(&mut self, partitions: Vec<String>) {
        let is_new = |one: &String| !self.lanes.contains_key(one) && !self.standing.stopped.contains(one);
        let partitions: Vec<_> = partitions.into_iter().filter(is_new).collect();
        let source = self.source;
        let rows = Arc::new(Preloaded::new(&source.checkpoints, &source.settings.hub, &partitions));
        for partition in partitions {
            let (switch, shutdown) = Shutdown::new();
            self.started += 1;
            let lane = Lane {
                partition: partition.clone(),
                settings: Arc::clone(&source.settings),
                name: source.agent_id.clone(),
                checkpoints: source.checkpoints.clone(),
                rows: Some(Arc::clone(&rows)),
                connection: self.connection.clone(),
                created: Arc::clone(&self.created),
                intake: self.intake.clone(),
                progress: Arc::clone(&source.progress),
                shutdown,
                trust: Trust::default(),
                next: None,
            };
            let (ended, name, number) = (self.ended.0.clone(), partition.clone(), self.started);
            let task = tokio::spawn(async move {
                let end = lane.run().await;
                // Nobody listens any more where all are being ended.
                let _ = ended.send((name, number, end));
            });
            self.lanes.insert(partition, Running { number, switch, task });
        }
    }

    async fn lane_ended(&mut self, partition: &str, end: lane::End) -> Result<(), End> {
        self.lanes.remove(partition);
        match end {
            lane::End::Told | lane::End::Intake(IntakeError::Fenced) => Ok(()),
            lane::End::Lost(error) => Err(End::Lost(error)),
            lane::End::Intake(error) => Err(End::Intake(error)),
            lane::End::Stopped(message) => {
                self.standing.stopped.insert(partition.to_owned());
                self.source.progress.enter(partition, Condition::Stopped(message));
                Ok(())
            }
            lane::End::Stolen(message) => self.stolen(partition, message).await,
        }
    }

    /// Another receiver took the partition. There is no fight over it. Whether that is an agent, so that what is here is for it to
    /// read, its claim says.
    async fn stolen(&mut self, partition: &str, message: String) -> Result<(), End> {
        if self.standing.claims.is_some() {
            log::info!("{} ({partition}): taken by another receiver: {message}", self.source.progress.subject());
            self.leave(&[partition.to_owned()]).await?;
            if let Some(claims) = self.standing.claims.as_mut() {
                claims.yield_up(partition);
            }
            self.next_look = Instant::now();
            self.standing.disputed.insert(partition.to_owned(), message);
            return Ok(());
        }
        let message = format!(
            "another receiver has taken the partition ({message}): end it, or let both share the hub with partitions = \
             \"balanced\"; then reload or restart the agent"
        );
        self.standing.stopped.insert(partition.to_owned());
        self.source.progress.enter(partition, Condition::Stopped(message));
        Ok(())
    }

    /// Leaves what may be another's by now.
    async fn leave_expired(&mut self) -> Result<(), End> {
        let expired = self.expired();
        self.leave(&expired).await.map(drop)
    }

    /// What may be another's by now.
    fn expired(&mut self) -> Vec<String> {
        let expired = self.standing.claims.as_mut().map(Claims::expire).unwrap_or_default();
        if !expired.is_empty() {
            let (subject, names) = (self.source.progress.subject(), expired.join(", "));
            log::warn!("{subject}: the claims to {names} could not be renewed in time");
        }
        expired
    }

    /// Takes back what is another's. What may be nowhere else any more stays until the hub has said whether it is: the next
    /// look asks again.
    async fn lose(&mut self, partitions: &[String], shutdown: &mut Shutdown) -> Result<(), End> {
        let undelivered = self.leave(partitions).await?;
        let (created, oldest) = self.look_back(&undelivered, shutdown).await;
        let is_clear = |partition: &&String| !undelivered.contains(*partition) || oldest.contains_key(*partition);
        let clear: Vec<_> = partitions.iter().filter(is_clear).collect();
        let lost = clear.iter().map(|partition| self.intake.lost(partition, created, oldest.get(*partition).copied()));
        try_join_all(lost).await.map_err(End::Intake)?;
        if let Some(claims) = self.standing.claims.as_mut() {
            clear.iter().for_each(|partition| claims.left(partition));
        }
        Ok(())
    }

    /// When the hub was created, and the oldest event that it has of each partition, as far as it says so before the claims
    /// are to be renewed.
    async fn look_back(
        &self,
        partitions: &[String],
        shutdown: &mut Shutdown,
    ) -> (Option<i64>, BTreeMap<String, Offset>) {
        let (mut created, mut oldest) = (self.created.known(), BTreeMap::new());
        if partitions.is_empty() {
            return (created, oldest);
        }
        let subject = self.source.progress.subject();
        let asked = async {
            created = Some(self.connection.properties().await?.created.0);
            for (asked, partition) in partitions.iter().enumerate() {
                // One of which the hub says nothing leaves time for the others.
                let left = self.next_look.saturating_duration_since(Instant::now());
                let patience = left / u32::try_from(partitions.len() - asked).unwrap_or(u32::MAX);
                match timeout(patience, self.connection.partition_properties(partition)).await {
                    Ok(Ok(properties)) => drop(oldest.insert(partition.clone(), Offset(lane::oldest(&properties)))),
                    Ok(Err(error)) => log::debug!("{subject} ({partition}): what the hub still has of it: {error}"),
                    Err(_) => log::debug!("{subject} ({partition}): the hub does not say what it still has of it"),
                }
            }
            Ok::<(), client::Error>(())
        };
        tokio::select! {
            asked = asked => {
                if let Err(error) = asked {
                    log::debug!("{subject}: what the hub still has of what is another's: {error}");
                }
            }
            () = sleep_until(self.next_look) => {}
            () = elapsed(self.expiry()) => {}
            () = shutdown.requested() => {}
        }
        (created, oldest)
    }

    /// Ends the reading of partitions, and keeps delivery away from them: from all at once, for each may take long. The other
    /// claims are renewed meanwhile, and what they are for is left too if that fails. Of which something is here that was
    /// not delivered.
    async fn leave(&mut self, partitions: &[String]) -> Result<Vec<String>, End> {
        let mut undelivered = Vec::new();
        let mut leaving = FuturesUnordered::new();
        leaving.push(self.begin_to_leave(partitions.to_vec()));
        loop {
            let (expiry, next_look) = (self.expiry(), self.next_look);
            let Standing { claims, partitions: all, .. } = &mut *self.standing;
            let renewed = async {
                sleep_until(next_look).await;
                match claims {
                    // What has come of it is seen at the next look.
                    Some(claims) => drop(claims.turn(all).await),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                left = leaving.next() => match left {
                    Some(left) => undelivered.extend(left.map_err(End::Intake)?),
                    None => break,
                },
                () = elapsed(expiry) => {
                    let expired = self.expired();
                    leaving.push(self.begin_to_leave(expired));
                }
                () = renewed => self.next_look = Instant::now() + self.interval(),
            }
        }
        undelivered.retain(|partition| partitions.contains(partition));
        Ok(undelivered)
    }

    /// Has lanes end, and forgets them. The rest takes its time.
    fn begin_to_leave(
        &mut self,
        partitions: Vec<String>,
    ) -> impl Future<Output = Result<Vec<String>, IntakeError>> + use<'a> {
        let lanes: Vec<_> = partitions.iter().filter_map(|partition| self.lanes.remove(partition)).collect();
        for lane in &lanes {
            lane.switch.send_replace(true);
        }
        for partition in &partitions {
            self.standing.stopped.remove(partition);
        }
        let (intake, progress) = (self.intake, &self.source.progress);
        async move {
            // What a lane has handed over may wait for room, and would never be answered; and it may just be asking where
            // to resume, so that this comes first and last.
            let mut undelivered = suspend(intake, &partitions).await?;
            if !lanes.is_empty() {
                join_all(lanes.into_iter().map(await_end)).await;
                undelivered = suspend(intake, &partitions).await?;
            }
            partitions.iter().for_each(|partition| progress.leave(partition));
            Ok(undelivered)
        }
    }
}

/// Keeps delivery away from all of them. Of which something is here that was not delivered.
pub(super) async fn suspend(intake: &Intake, partitions: &[String]) -> Result<Vec<String>, IntakeError> {
    let suspended = try_join_all(partitions.iter().map(|partition| intake.suspend(partition))).await?;
    Ok(partitions.iter().zip(suspended).filter(|(_, has_more)| *has_more).map(|(name, _)| name.clone()).collect())
}

/// Resolves after `time`, if there is one.
pub(super) async fn elapsed(time: Option<Duration>) {
    match time {
        Some(time) => sleep(time).await,
        None => std::future::pending().await,
    }
}

/// Waits for a lane that was told to end. Only its goodbye can take long.
async fn await_end(mut lane: Running) {
    if timeout(GOODBYE, &mut lane.task).await.is_err() {
        lane.task.abort();
        let _ = lane.task.await;
    }
}
