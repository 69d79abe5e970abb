//! The way of one stream's partition into the hub: one batch is under way, and the next is encoded meanwhile.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use forebay_buffer::{Checkpoint, Offset};
use futures_util::future::join_all;
use tokio::task::{JoinError, JoinSet, spawn_blocking};

use super::{
    PIECE_BYTES, Shared,
    encode::Encoder,
    pack::{Packed, pack},
    place::{Group, Place},
    senders::Slot,
};
use crate::{
    client::eventhub::{Class, Error},
    contract::{Batch, BoxFuture, Destination, Lane, Local, PartitionId, Progress, Refusal, Resumed, SinkError},
};

/// The pause where only an operator, or a great deal of time, mends it.
const LONG_PAUSE: Duration = Duration::from_secs(30);
/// The codes of refusals, as the service has them.
const TOO_LARGE: &str = "amqp:link:message-size-exceeded";
const REJECTED: &str = "amqp:rejected";

pub(super) struct HubLane {
    partition: Arc<PartitionId>,
    encoder: Arc<Encoder>,
    shared: Arc<Shared>,
    settled: Settled,
    /// The batch that is under way, if one is.
    flight: JoinSet<Landed>,
    /// What the last batch failed of. Nothing goes on before delivery has asked where to resume: its wait for this answer
    /// may have been dropped.
    failure: Option<Error>,
}

/// What has become of events that are not confirmed yet: those of a batch that failed are not all sent again.
#[derive(Default)]
struct Settled {
    /// The hub's partitions: among others it says nothing.
    partitions: Arc<Vec<String>>,
    /// All up to this is in the hub, or refused, by partition.
    through: HashMap<Option<usize>, Offset>,
    refusals: BTreeMap<Offset, Refusal>,
    /// What delivery was told last. When it comes again without asking where to resume, that is on disk.
    told: Option<Offset>,
}

/// A batch of which all is over.
struct Landed {
    through: Checkpoint,
    sent: Vec<(Option<usize>, Sent)>,
}

/// What came of sending to one partition.
#[derive(Default)]
struct Sent {
    /// All up to this is in the hub, or refused.
    through: Option<Offset>,
    refusals: Vec<Refusal>,
    error: Option<Error>,
}

impl Lane for HubLane {
    /// A hub cannot say what it has of a stream. What was under way is awaited; where it failed it may yet be stored, and
    /// bears the same ids as what will be sent again.
    fn resume(&mut self, _local: Local) -> BoxFuture<'_, Result<Resumed, SinkError>> {
        Box::pin(async {
            // What was told last may not be on disk. What failed of what is under way comes again.
            self.settled.told = None;
            let _ = self.land().await;
            (self.failure, self.settled.told) = (None, None);
            let partitions = async {
                self.shared.senders.is_free()?;
                self.shared.senders.partitions().await
            };
            if let Err(error) = partitions.await {
                return Err(self.failed(error).await);
            }
            Ok(Destination::Unknown.into())
        })
    }

    /// Answers with what has become of the batch before, and leaves this one under way.
    fn deliver(&mut self, batch: Arc<Batch>) -> BoxFuture<'_, Result<Progress, SinkError>> {
        Box::pin(async move {
            match self.launch(&batch).await {
                Ok(progress) => Ok(progress),
                Err(error) => Err(self.failed(error).await),
            }
        })
    }

    fn settle(&mut self) -> BoxFuture<'_, Result<Progress, SinkError>> {
        Box::pin(async {
            match self.land().await {
                Ok(progress) => Ok(progress),
                Err(error) => Err(self.failed(error).await),
            }
        })
    }
}

impl HubLane {
    pub(super) fn new(shared: Arc<Shared>, partition: Arc<PartitionId>) -> Self {
        let encoder = Arc::new(Encoder::new(&shared.agent_id, &partition));
        Self { partition, encoder, shared, settled: Settled::default(), flight: JoinSet::new(), failure: None }
    }

    /// Encodes a batch, and sends it as soon as the one before it is in the hub: what fails cannot be overtaken.
    async fn launch(&mut self, batch: &Arc<Batch>) -> Result<Progress, Error> {
        self.shared.senders.is_free()?;
        let partitions = self.shared.senders.partitions().await?;
        let groups = self.encode(batch, &partitions).await?;
        let progress = self.land().await?;
        if self.settled.partitions != partitions {
            self.settled = Settled { partitions, ..Settled::default() };
        }
        self.settled.forget_gone(batch);
        let (shared, partitions) = (Arc::clone(&self.shared), Arc::clone(&self.settled.partitions));
        let through = batch.through;
        self.flight.spawn(async move { Landed { through, sent: shared.send(groups, &partitions).await } });
        Ok(progress)
    }

    /// The messages of all that is wanted of a batch and is not there yet, made on a thread where that holds up nobody.
    async fn encode(&self, batch: &Arc<Batch>, partitions: &Arc<Vec<String>>) -> Result<Vec<Group>, Error> {
        let there = if self.settled.partitions == *partitions { self.settled.through.clone() } else { HashMap::new() };
        let (batch, partitions, partition) = (Arc::clone(batch), Arc::clone(partitions), Arc::clone(&self.partition));
        let (shared, encoder) = (Arc::clone(&self.shared), Arc::clone(&self.encoder));
        let encoding = spawn_blocking(move || {
            let _working = shared.progress.working();
            let place = Place::new(shared.settings.partition, &partition, &partitions);
            let placed = batch.wanted().map(|(offset, event)| (place.of(event), *offset, event));
            let missing = placed.filter(|(at, offset, _)| there.get(at).is_none_or(|there| there < offset));
            place.group(
                missing.map(|(at, offset, event)| (at, offset, encoder.encode(batch.checkpoint_at(offset), event))),
            )
        });
        encoding.await.map_err(shutting_down)
    }

    /// Waits for the batch that is under way, if one is, and says what has become of it.
    async fn land(&mut self) -> Result<Progress, Error> {
        if let Some(error) = &self.failure {
            return Err(error.clone());
        }
        let Some(landed) = self.flight.join_next().await else { return Ok(Progress::default()) };
        let Landed { through, sent } = landed.map_err(shutting_down)?;
        let settled = &mut self.settled;
        settled.forget_told();
        let mut errors = Vec::new();
        for (at, sent) in sent {
            sent.through.map(|through| settled.through.insert(at, through));
            settled.refusals.extend(sent.refusals.into_iter().map(|refusal| (refusal.offset, refusal)));
            errors.extend(sent.error);
        }
        if let Some(error) = errors.into_iter().next() {
            self.failure = Some(error.clone());
            return Err(error);
        }
        settled.told = Some(through.offset);
        let refusals = settled.refusals.range(..=through.offset).map(|(_, refusal)| refusal.clone()).collect();
        Ok(Progress { confirmed: Some(through), refusals, note: None })
    }

    /// What delivery is to do about an error.
    async fn failed(&self, error: Error) -> SinkError {
        let senders = &self.shared.senders;
        senders.leave_alone(&error);
        if matches!(error.class, Class::NotFound | Class::Refused) {
            // The hub may be another one by now.
            senders.forget().await;
        }
        let message = error.message;
        match error.class {
            Class::Lost | Class::Detached => SinkError::Reconnect(message),
            Class::Busy(after) => SinkError::Retry { message, after: Some(after) },
            Class::TooLarge | Class::Rejected => SinkError::Retry { message, after: None },
            Class::Quota
            | Class::Unauthorized
            | Class::Stolen
            | Class::InvalidOffset
            | Class::NotFound
            | Class::Refused => SinkError::Retry { message, after: Some(LONG_PAUSE) },
        }
    }
}

impl Settled {
    /// Forgets what delivery has on disk.
    fn forget_told(&mut self) {
        if let Some(told) = self.told.take() {
            self.through.retain(|_, through| *through > told);
            self.refusals.retain(|offset, _| *offset > told);
        }
    }

    /// Forgets refusals of events that do not come again: they are recorded, or were dropped from the buffer. Those that
    /// delivery was told last may come again all the same.
    fn forget_gone(&mut self, batch: &Batch) {
        let comes = |offset: &Offset| {
            batch.events.binary_search_by_key(offset, |(offset, _)| *offset).is_ok()
                && batch.skipped.binary_search(offset).is_err()
        };
        let (told, through) = (self.told, batch.through.offset);
        self.refusals.retain(|offset, _| Some(*offset) <= told || *offset > through || comes(offset));
    }
}

/// A task that came to no end. A panic there is passed on.
fn shutting_down(error: JoinError) -> Error {
    match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(_) => Error { class: Class::Lost, message: "the agent is shutting down".to_owned() },
    }
}

impl Shared {
    /// Sends what goes to each partition, to all at once.
    async fn send(&self, groups: Vec<Group>, partitions: &[String]) -> Vec<(Option<usize>, Sent)> {
        let send = async |group: Group| {
            let (at, partition) = (group.at, group.at.map(|at| partitions[at].as_str()));
            let failed = |error| Sent { error: Some(error), ..Sent::default() };
            (at, self.send_group(group, partition).await.unwrap_or_else(failed))
        };
        join_all(groups.into_iter().map(send)).await
    }

    /// Sends what goes to one partition. The error is that there is no way to it.
    async fn send_group(&self, group: Group, partition: Option<&str>) -> Result<Sent, Error> {
        self.senders.is_free()?;
        let (slot, sender) = self.senders.slot(partition).await?;
        let limit = sender.max_message_bytes();
        let packed = pack(group.messages, limit);
        if self.settings.ordered {
            let _turn = slot.turn().await;
            return Ok(self.send_in_turn(packed, &slot, limit).await);
        }
        let mut all = Sent::default();
        let sending = packed.into_iter().map(|packed| self.send_in_turn(vec![packed], &slot, limit));
        for sent in join_all(sending).await {
            if all.error.is_none() {
                (all.through, all.error) = (sent.through.or(all.through), sent.error);
            }
            all.refusals.extend(sent.refusals);
        }
        Ok(all)
    }

    /// Sends batches one after the other. One that the service does not take is halved until it is known which event it is.
    /// An event that is larger than `limit` by itself is not sent.
    async fn send_in_turn(&self, packed: Vec<Packed>, slot: &Slot, limit: usize) -> Sent {
        let (mut waiting, mut sent) = (VecDeque::from(packed), Sent::default());
        while let Some(packed) = waiting.pop_front() {
            let size = packed.batch.size_bytes();
            if size > limit {
                let (offset, code) = (packed.last(), TOO_LARGE.to_owned());
                let reason = format!("the event takes {size} bytes as a message, and the hub takes {limit} at most");
                sent.refusals.push(Refusal { offset, code, reason });
                sent.through = Some(offset);
                continue;
            }
            match self.send_packed(&packed, slot).await {
                Ok(()) => sent.through = Some(packed.last()),
                Err(error) if matches!(error.class, Class::TooLarge | Class::Rejected) => match packed.halves() {
                    Ok((first, second)) => {
                        waiting.push_front(second);
                        waiting.push_front(first);
                    }
                    Err(offset) => {
                        let code = if error.class == Class::TooLarge { TOO_LARGE } else { REJECTED }.to_owned();
                        sent.refusals.push(Refusal { offset, code, reason: error.message });
                        sent.through = Some(offset);
                    }
                },
                Err(error) => {
                    sent.error = Some(error);
                    break;
                }
            }
        }
        sent
    }

    /// Sends one batch, and once more by another link if the first was gone: the service detaches those that were idle, and
    /// one on which a batch was too large. All that was under way on it fails then, so that a batch is judged alone.
    async fn send_packed(&self, packed: &Packed, slot: &Slot) -> Result<(), Error> {
        let all = self.settings.max_in_flight_bytes.div_ceil(PIECE_BYTES).max(1);
        let pieces = packed.batch.size_bytes().div_ceil(PIECE_BYTES).clamp(1, all);
        let pieces = u32::try_from(pieces).expect("no batch is larger than 4 TiB");
        let _room = self.in_flight.acquire_many(pieces).await.expect("the semaphore is never closed");
        let send = async || {
            self.senders.is_free()?;
            self.senders.sender(slot).await?.send(&packed.batch).await
        };
        let sent = if self.settings.ordered {
            match send().await {
                Err(error) if error.class == Class::Detached => send().await,
                sent => sent,
            }
        } else {
            let beside_others = slot.beside_others().await;
            let sent = send().await;
            drop(beside_others);
            match sent {
                Err(error) if matches!(error.class, Class::Detached | Class::TooLarge) => {
                    let _turn = slot.turn().await;
                    send().await
                }
                sent => sent,
            }
        };
        sent.inspect_err(|error| self.senders.leave_alone(error))
    }
}
