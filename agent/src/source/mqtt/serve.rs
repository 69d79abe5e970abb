//! One connection at a time: messages in, acknowledgements out.

use std::{future::pending, pin::pin, sync::Arc, time::Duration};

use forebay_buffer::{Timestamp, clock::Clock};
use tokio::time::{Instant, sleep_until};

use super::{
    End, Settings,
    acknowledge::Acknowledgements,
    gather::{Gather, Mark},
    losses::Losses,
    status::Status,
};
use crate::{
    client::mqtt::{Acknowledgement, Connection, Error, Incoming, Publish, Qos, Version, Will},
    contract::{Intake, IntakeError, Shutdown},
    progress::{Condition, Progress},
};

/// What goes on from one connection to the next.
pub(super) struct Service<'s> {
    settings: &'s Settings,
    status: Status,
    gather: Gather,
    losses: Losses,
    intake: Intake,
    clock: Arc<dyn Clock>,
    progress: Arc<Progress>,
    /// Whether the broker has taken the subscription in this run, and the session that it belongs to is there.
    subscribed: bool,
    /// The same, before the broker was asked for the session.
    had_subscribed: bool,
    /// Whether the last connection came as far as that.
    has_run: bool,
    /// How long a connection must last before it counts as running.
    probation: Duration,
    /// When it has.
    runs_from: Option<Instant>,
    /// Whether what is held is let go of, on disk too, before anything new is stored.
    forgets: bool,
    /// Whether a message that must be kept was taken above the limit.
    is_over: bool,
    warned: Warned,
}

/// What is said once in a run.
#[derive(Default)]
struct Warned {
    of_qos: bool,
    of_expiry: bool,
}

impl<'s> Service<'s> {
    pub(super) fn new(
        settings: &'s Settings,
        status: Status,
        gather: Gather,
        intake: Intake,
        clock: Arc<dyn Clock>,
        progress: Arc<Progress>,
    ) -> Self {
        Self {
            settings,
            status,
            gather,
            losses: Losses::default(),
            intake,
            clock,
            progress,
            subscribed: false,
            had_subscribed: false,
            has_run: false,
            probation: Duration::ZERO,
            runs_from: None,
            forgets: false,
            is_over: false,
            warned: Warned::default(),
        }
    }

    /// The broker is asked for the session. Until it has answered nobody knows whether that is a new one, without the
    /// subscription: its answer may get lost, and the next one will say that there is a session.
    pub(super) fn asks(&mut self) {
        self.had_subscribed = std::mem::take(&mut self.subscribed);
    }

    /// From now on a connection must last so long before it is said to run.
    pub(super) fn set_probation(&mut self, probation: Duration) {
        self.probation = probation;
    }

    /// What the broker is to say when the connection is lost.
    pub(super) fn will(&self) -> Option<Will> {
        self.status.will()
    }

    /// Whether the last connection came as far as a subscription. Asked once for each.
    pub(super) fn has_run(&mut self) -> bool {
        std::mem::take(&mut self.has_run)
    }

    /// Serves a connection until it ends.
    pub(super) async fn serve(&mut self, mut connection: Connection, shutdown: &mut Shutdown) -> End {
        let mut acknowledgements = Acknowledgements::default();
        let Err(end) = self.work(&mut connection, &mut acknowledgements, shutdown).await;
        self.runs_from = None;
        match end {
            End::Shutdown => match self.settle(Some((connection, acknowledgements))).await {
                Ok(()) => End::Shutdown,
                Err(error) => End::Intake(error),
            },
            End::Lost(error) => {
                if !self.settings.session_expiry.is_zero() {
                    self.gather.set_aside();
                }
                End::Lost(error)
            }
            End::Intake(error) => {
                self.give_up(&error).await;
                End::Intake(error)
            }
        }
    }

    async fn work(
        &mut self,
        connection: &mut Connection,
        acknowledgements: &mut Acknowledgements,
        shutdown: &mut Shutdown,
    ) -> Result<std::convert::Infallible, End> {
        self.begin(connection, shutdown).await?;
        loop {
            let now = self.clock.now().wall;
            while self.has_room() {
                let Some(incoming) = connection.next()? else { break };
                self.take(incoming, now, connection, acknowledgements)?;
            }
            self.gather.hand_over(&self.intake).await?;
            acknowledgements.give(&self.gather, connection);
            let (read, full, runs_from) = (self.has_room(), self.intake.is_full(), self.runs_from);
            let runs = async {
                match runs_from {
                    Some(at) => sleep_until(at).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                biased;
                () = shutdown.requested() => return Err(End::Shutdown),
                settled = self.gather.settle() => settled?,
                written = self.losses.write(&self.intake) => written?,
                () = self.intake.is_no_longer(full) => {}
                () = runs => self.runs(),
                progress = connection.progress(read) => progress?,
            }
        }
    }

    /// Subscribes, where the broker does not know what to send. A broker that has forgotten the session makes us forget
    /// it too, on disk, before anything new of it is stored.
    async fn begin(&mut self, connection: &mut Connection, shutdown: &mut Shutdown) -> Result<(), End> {
        if connection.session_present() {
            self.gather.forget_aside();
        } else {
            self.gather.take_back_aside();
            self.forgets |= self.gather.release_all();
        }
        self.warn_of_expiry(connection.session_expiry());
        self.subscribed = connection.session_present() && self.had_subscribed;
        if self.subscribed && self.settings.version == Version::V3 {
            // It would send again what it keeps for new subscribers.
            self.subscribed(connection)?;
        } else {
            connection.subscribe(&self.settings.topics, self.settings.qos)?;
        }
        while self.forgets && !self.gather.is_settled() {
            self.gather.hand_over(&self.intake).await?;
            tokio::select! {
                biased;
                () = shutdown.requested() => return Err(End::Shutdown),
                settled = self.gather.settle() => settled?,
                progress = connection.progress(false) => progress?,
            }
        }
        self.forgets = false;
        Ok(())
    }

    /// Whether more may be read (Promise 5). While the buffer is full messages of QoS 0 are dropped and counted, and
    /// take up no room: what comes is read until there is one that must be kept. So there is one above the limit.
    fn has_room(&mut self) -> bool {
        if self.gather.bytes() < self.settings.max_unacknowledged_bytes {
            self.is_over = false;
            return true;
        }
        self.intake.is_full() && !self.is_over
    }

    fn take(
        &mut self,
        incoming: Incoming,
        now: Timestamp,
        connection: &mut Connection,
        acknowledgements: &mut Acknowledgements,
    ) -> Result<(), Error> {
        match incoming {
            Incoming::Publish(publish) => self.take_message(publish, now, acknowledgements)?,
            Incoming::Release(packet_id) => match self.gather.release(packet_id) {
                Some(mark) => acknowledgements.push(Acknowledgement::PubComp, packet_id, mark)?,
                None => acknowledgements.push(Acknowledgement::PubCompUnknown, packet_id, Mark::PAST)?,
            },
            Incoming::Subscribed(granted) => {
                self.check(&granted)?;
                self.subscribed(connection)?;
            }
        }
        Ok(())
    }

    fn take_message(
        &mut self,
        publish: Publish,
        now: Timestamp,
        acknowledgements: &mut Acknowledgements,
    ) -> Result<(), Error> {
        let (qos, packet_id) = (publish.qos, publish.packet_id);
        if qos == Qos::ExactlyOnce
            && let Some(mark) = self.gather.held(packet_id)
        {
            if publish.again {
                return acknowledgements.push(Acknowledgement::PubRec, packet_id, mark);
            }
            // Another message: the broker has forgotten that one.
            self.gather.release(packet_id);
        }
        // What is no topic names no partition.
        let topic = if publish.malformed.is_some() { "" } else { &publish.topic };
        let partition = self.gather.partition_of(topic);
        let shaped = self.settings.shape.shape(publish, now);
        if qos == Qos::AtMostOnce && self.intake.is_full() {
            self.losses.count(self.gather.name_of(partition), shaped.event.size_bytes());
            return Ok(());
        }
        let comes_again = qos != Qos::AtMostOnce && !self.settings.session_expiry.is_zero();
        self.is_over = self.gather.bytes() >= self.settings.max_unacknowledged_bytes;
        let held_as = (qos == Qos::ExactlyOnce).then_some(packet_id);
        let mark = self.gather.push(partition, shaped, comes_again, held_as);
        match qos {
            Qos::AtMostOnce => Ok(()),
            Qos::AtLeastOnce => acknowledgements.push(Acknowledgement::PubAck, packet_id, mark),
            Qos::ExactlyOnce => acknowledgements.push(Acknowledgement::PubRec, packet_id, mark),
        }
    }

    /// All that is subscribed to must be granted: a topic that is missing would be missed by nobody.
    fn check(&mut self, granted: &[Result<Qos, String>]) -> Result<(), Error> {
        let topics = &self.settings.topics;
        if granted.len() != topics.len() {
            let (answers, topics) = (granted.len(), topics.len());
            return Err(Error::Lost(format!("the broker gave {answers} answers to {topics} subscriptions")));
        }
        let refusals = topics
            .iter()
            .zip(granted)
            .filter_map(|(topic, granted)| granted.as_ref().err().map(|why| format!("\"{topic}\": {why}")));
        let refusals: Vec<_> = refusals.collect();
        if !refusals.is_empty() {
            return Err(Error::Refused(format!("the broker refuses to subscribe to {}", refusals.join(", "))));
        }
        for (topic, granted) in topics.iter().zip(granted) {
            if let Ok(granted) = granted
                && *granted < self.settings.qos
                && !self.warned.of_qos
            {
                let subject = self.progress.subject();
                log::warn!("{subject}: the broker grants only QoS {} for \"{topic}\"", *granted as u8);
            }
        }
        self.warned.of_qos = true;
        Ok(())
    }

    fn warn_of_expiry(&mut self, kept: Option<Duration>) {
        if let Some(kept) = kept
            && !std::mem::replace(&mut self.warned.of_expiry, true)
        {
            let (subject, wanted) = (self.progress.subject(), self.settings.session_expiry);
            log::warn!(
                "{subject}: the broker keeps the session for {} s only, not for the {} s of session_expiry: what comes \
                 while the agent is away for longer is lost; let the broker keep sessions for longer",
                kept.as_secs(),
                wanted.as_secs()
            );
        }
    }

    fn subscribed(&mut self, connection: &mut Connection) -> Result<(), Error> {
        (self.subscribed, self.has_run) = (true, true);
        if self.probation.is_zero() {
            self.runs();
        } else {
            self.runs_from = Some(Instant::now() + self.probation);
        }
        match self.status.online() {
            Some((topic, payload)) => connection.publish(topic, payload),
            None => Ok(()),
        }
    }

    fn runs(&mut self) {
        self.runs_from = None;
        self.progress.enter("", Condition::Running);
    }

    /// Waits for something while there is no connection, and meanwhile brings to disk what is on its way.
    pub(super) async fn meanwhile<T>(
        &mut self,
        awaited: impl Future<Output = T>,
        shutdown: &mut Shutdown,
    ) -> Result<T, End> {
        let mut awaited = pin!(awaited);
        let error = loop {
            if let Err(error) = self.gather.hand_over(&self.intake).await {
                break error;
            }
            tokio::select! {
                biased;
                () = shutdown.requested() => return Err(End::Shutdown),
                outcome = &mut awaited => return Ok(outcome),
                settled = self.gather.settle() => if let Err(error) = settled { break error },
                written = self.losses.write(&self.intake) => if let Err(error) = written { break error },
            }
        };
        self.give_up(&error).await;
        Err(End::Intake(error))
    }

    /// Counts what the intake did not take and nobody sends again, and waits until that is in the ledger (Promise 6).
    async fn give_up(&mut self, error: &IntakeError) {
        self.gather.abandon(error, &mut self.losses).await;
        while !self.losses.are_settled() {
            if let Err(error) = self.losses.write(&self.intake).await {
                let (subject, unwritten) = (self.progress.subject(), self.losses.unwritten());
                log::error!("{subject}: {unwritten} messages are lost and not in the loss ledger: {error}");
                return;
            }
        }
    }

    /// Brings to disk what is on its way, acknowledges it, and says goodbye.
    pub(super) async fn settle(&mut self, mut open: Option<(Connection, Acknowledgements)>) -> Result<(), IntakeError> {
        let outcome = loop {
            if let Err(error) = self.gather.hand_over(&self.intake).await {
                break Err(error);
            }
            if let Some((connection, acknowledgements)) = &mut open {
                acknowledgements.give(&self.gather, connection);
            }
            if self.gather.is_settled() && self.losses.are_settled() {
                break Ok(());
            }
            let progress = async {
                match &mut open {
                    Some((connection, _)) => connection.progress(false).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                settled = self.gather.settle() => if let Err(error) = settled { break Err(error) },
                written = self.losses.write(&self.intake) => if let Err(error) = written { break Err(error) },
                lost = progress => if lost.is_err() { open = None },
            }
        };
        if let Err(error) = &outcome {
            self.give_up(error).await;
        }
        if let Some((mut connection, _)) = open {
            if let Some((topic, payload)) = self.status.offline() {
                // It is a courtesy: the session ends well without it.
                let _ = connection.publish(topic, payload);
            }
            connection.close().await;
        }
        outcome
    }
}
