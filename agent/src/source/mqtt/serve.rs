//! One connection at a time: messages in, acknowledgements out.

use std::{sync::Arc, time::Duration};

use forebay_buffer::clock::Clock;
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
    /// Whether the broker has taken the subscription in this run.
    subscribed: bool,
    /// Whether the last connection came as far as that.
    has_run: bool,
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
        let losses = Losses::default();
        Self { settings, status, gather, losses, intake, clock, progress, subscribed: false, has_run: false }
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
            End::Intake(error) => End::Intake(error),
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
            while self.gather.bytes() < self.settings.max_unacknowledged_bytes || self.reads_to_drop() {
                let Some(incoming) = connection.next()? else { break };
                self.take(incoming, connection, acknowledgements)?;
            }
            self.gather.hand_over(&self.intake).await?;
            acknowledgements.give(&self.gather, connection);
            let read = self.gather.bytes() < self.settings.max_unacknowledged_bytes || self.reads_to_drop();
            tokio::select! {
                biased;
                () = shutdown.requested() => return Err(End::Shutdown),
                settled = self.gather.settle() => settled?,
                written = self.losses.write(&self.intake) => written?,
                progress = connection.progress(read) => progress?,
            }
        }
    }

    /// Subscribes, where the broker does not know what to send. A broker that has forgotten the session makes us forget
    /// it too, on disk, before anything new of it is stored.
    async fn begin(&mut self, connection: &mut Connection, shutdown: &mut Shutdown) -> Result<(), End> {
        let must_settle = if connection.session_present() {
            self.gather.forget_aside();
            false
        } else {
            self.gather.take_back_aside();
            self.gather.release_all()
        };
        let knows = connection.session_present() && self.subscribed;
        if knows && self.settings.version == Version::V3 {
            // It would send again what it keeps for new subscribers.
            self.subscribed(connection)?;
        } else {
            connection.subscribe(&self.settings.topics, self.settings.qos)?;
        }
        while must_settle && !self.gather.is_settled() {
            self.gather.hand_over(&self.intake).await?;
            tokio::select! {
                biased;
                () = shutdown.requested() => return Err(End::Shutdown),
                settled = self.gather.settle() => settled?,
                progress = connection.progress(false) => progress?,
            }
        }
        Ok(())
    }

    /// Where nothing but QoS 0 is sent and the buffer is full, what comes is dropped, and takes up no room.
    fn reads_to_drop(&self) -> bool {
        self.settings.qos == Qos::AtMostOnce && self.intake.is_full()
    }

    fn take(
        &mut self,
        incoming: Incoming,
        connection: &mut Connection,
        acknowledgements: &mut Acknowledgements,
    ) -> Result<(), Error> {
        match incoming {
            Incoming::Publish(publish) => self.take_message(publish, acknowledgements),
            Incoming::Release(packet_id) => match self.gather.release(packet_id) {
                Some(mark) => acknowledgements.push(Acknowledgement::PubComp, packet_id, mark),
                None => acknowledgements.push(Acknowledgement::PubCompUnknown, packet_id, Mark::PAST),
            },
            Incoming::Subscribed(granted) => {
                self.check(&granted)?;
                self.subscribed(connection)?;
            }
        }
        Ok(())
    }

    fn take_message(&mut self, publish: Publish, acknowledgements: &mut Acknowledgements) {
        let (qos, packet_id) = (publish.qos, publish.packet_id);
        if let Some(mark) = self.gather.held(packet_id).filter(|_| qos == Qos::ExactlyOnce) {
            return acknowledgements.push(Acknowledgement::PubRec, packet_id, mark);
        }
        let partition = self.gather.partition_of(&publish.topic);
        let shaped = self.settings.shape.shape(publish, self.clock.now().wall);
        if qos == Qos::AtMostOnce && self.intake.is_full() {
            return self.losses.count(self.gather.name_of(partition), shaped.event.size_bytes());
        }
        let comes_again = qos != Qos::AtMostOnce && !self.settings.session_expiry.is_zero();
        let held_as = (qos == Qos::ExactlyOnce).then_some(packet_id);
        let mark = self.gather.push(partition, shaped, comes_again, held_as);
        match qos {
            Qos::AtMostOnce => {}
            Qos::AtLeastOnce => acknowledgements.push(Acknowledgement::PubAck, packet_id, mark),
            Qos::ExactlyOnce => acknowledgements.push(Acknowledgement::PubRec, packet_id, mark),
        }
    }

    /// All that is subscribed to must be granted: a topic that is missing would be missed by nobody.
    fn check(&self, granted: &[Result<Qos, String>]) -> Result<(), Error> {
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
                && !self.subscribed
            {
                let subject = self.progress.subject();
                log::warn!("{subject}: the broker grants only QoS {} for \"{topic}\"", *granted as u8);
            }
        }
        Ok(())
    }

    fn subscribed(&mut self, connection: &mut Connection) -> Result<(), Error> {
        (self.subscribed, self.has_run) = (true, true);
        self.progress.enter("", Condition::Running);
        match self.status.online() {
            Some((topic, payload)) => connection.publish(topic, payload),
            None => Ok(()),
        }
    }

    /// Waits before the next attempt to connect, and meanwhile brings to disk what is on its way.
    pub(super) async fn wait(&mut self, pause: Duration, shutdown: &mut Shutdown) -> Option<End> {
        let until = Instant::now() + pause;
        loop {
            if let Err(error) = self.gather.hand_over(&self.intake).await {
                return Some(End::Intake(error));
            }
            let outcome = tokio::select! {
                biased;
                () = shutdown.requested() => return Some(End::Shutdown),
                () = sleep_until(until) => return None,
                settled = self.gather.settle() => settled,
                written = self.losses.write(&self.intake) => written,
            };
            if let Err(error) = outcome {
                return Some(End::Intake(error));
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
