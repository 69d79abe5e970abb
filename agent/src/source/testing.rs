//! An intake loop that tests can see into and hold back.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use forebay_buffer::{Appended, Offset, Refused, Timestamp, clock::Clock};
use tokio::sync::{Notify, oneshot, watch};

use crate::{
    clock::ManualClock,
    contract::{
        Creation, Intake, IntakeError, IntakeRequest, IntakeRequests, LossRequest, PartitionRequest, Resume,
        SourceBatch,
    },
};

/// A clock for tests that do not look at it.
pub(super) fn clock() -> Arc<dyn Clock> {
    Arc::new(ManualClock::new(Timestamp(1_700_000_000_000_000)))
}

/// What the fake does with a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Behaviour {
    /// It is on disk at once.
    Accept,
    /// The receipt waits, as it does while the buffer is full.
    Withhold,
    /// The buffer is closed.
    Close,
}

/// What the fake has seen.
#[derive(Default)]
pub(super) struct Seen {
    behaviour: Option<Behaviour>,
    /// On disk, in order.
    partitions: BTreeMap<String, Vec<SourceBatch>>,
    withheld: VecDeque<(String, SourceBatch, Reply)>,
    batches: usize,
    most_withheld: usize,
    /// What was counted as lost: partition, events, bytes.
    losses: Vec<(String, u64, u64)>,
}

type Reply = oneshot::Sender<Result<Appended, IntakeError>>;

impl Seen {
    /// Batches that were handed over, on disk or not.
    pub(super) fn batches(&self) -> usize {
        self.batches
    }

    /// Batches whose receipts wait.
    pub(super) fn withheld(&self) -> usize {
        self.withheld.len()
    }

    /// The most that ever waited at once.
    pub(super) fn most_withheld(&self) -> usize {
        self.most_withheld
    }

    /// Messages that were counted as lost.
    #[cfg(feature = "mqtt")]
    pub(super) fn lost(&self) -> u64 {
        self.losses.iter().map(|(_, events, _)| events).sum()
    }

    /// Bodies on disk in one partition, as text.
    pub(super) fn lines(&self, partition: &str) -> Vec<String> {
        let batches = self.partitions.get(partition).map(Vec::as_slice).unwrap_or_default();
        let bodies = batches.iter().flat_map(|batch| &batch.events).filter_map(|event| event.body.as_deref());
        bodies.map(|body| String::from_utf8_lossy(body).into_owned()).collect()
    }

    /// Bodies on disk, of all partitions.
    pub(super) fn events(&self) -> usize {
        self.partitions.values().flatten().map(|batch| batch.events.len()).sum()
    }

    fn store(&mut self, partition: String, batch: SourceBatch, reply: Reply) {
        let appended = Appended { high_water: Offset(0), events: batch.events.len() as u64, dropped: 0 };
        self.partitions.entry(partition).or_default().push(batch);
        // The source may be gone, as in life.
        let _ = reply.send(Ok(appended));
    }

    fn position(&self, partition: &str) -> Option<Vec<u8>> {
        self.partitions.get(partition)?.iter().rev().find_map(|batch| batch.position.clone())
    }
}

/// The fake. What it holds survives the source, as the buffer does.
#[derive(Clone)]
pub(super) struct FakeIntake {
    seen: Arc<Mutex<Seen>>,
    changed: Arc<Notify>,
    full: watch::Sender<bool>,
}

impl FakeIntake {
    /// With nothing stored.
    pub(super) fn start(behaviour: Behaviour) -> Self {
        let seen = Seen { behaviour: Some(behaviour), ..Seen::default() };
        Self { seen: Arc::new(Mutex::new(seen)), changed: Arc::default(), full: watch::Sender::new(false) }
    }

    /// A handle for one run of a source.
    pub(super) fn intake(&self) -> Intake {
        let (intake, requests) = Intake::new(self.full.subscribe());
        tokio::spawn(self.clone().serve(requests));
        intake
    }

    /// From now on it behaves otherwise; what it withheld until now it lets through.
    pub(super) fn behave(&self, behaviour: Behaviour) {
        self.seen().behaviour = Some(behaviour);
        if behaviour == Behaviour::Accept {
            self.release(usize::MAX);
        }
    }

    /// From now on the buffer is full, or is not.
    #[cfg(feature = "mqtt")]
    pub(super) fn set_full(&self, full: bool) {
        self.full.send_replace(full);
    }

    /// What was counted as lost: partition, events, bytes.
    #[cfg(feature = "mqtt")]
    pub(super) fn losses(&self) -> Vec<(String, u64, u64)> {
        self.seen().losses.clone()
    }

    /// The position on disk of one partition.
    #[cfg(feature = "mqtt")]
    pub(super) fn position(&self, partition: &str) -> Option<Vec<u8>> {
        self.seen().position(partition)
    }

    /// Lets so many of the withheld batches through.
    pub(super) fn release(&self, count: usize) {
        let mut seen = self.seen();
        for _ in 0..count {
            let Some((partition, batch, reply)) = seen.withheld.pop_front() else { break };
            seen.store(partition, batch, reply);
        }
        drop(seen);
        self.changed.notify_waiters();
    }

    /// Forgets what is withheld, as a crash does.
    pub(super) fn crash(&self) {
        self.seen().withheld.clear();
    }

    /// Batches that were handed over, on disk or not.
    pub(super) fn batches(&self) -> usize {
        self.seen().batches
    }

    /// Lines on disk in one partition.
    pub(super) fn acknowledged(&self, partition: &str) -> Vec<String> {
        self.seen().lines(partition)
    }

    /// Refusals on disk in one partition.
    pub(super) fn refused(&self, partition: &str) -> Vec<Refused> {
        let seen = self.seen();
        let batches = seen.partitions.get(partition).map(Vec::as_slice).unwrap_or_default();
        batches.iter().flat_map(|batch| batch.refused.clone()).collect()
    }

    /// Batches on disk in one partition.
    pub(super) fn stored(&self, partition: &str) -> Vec<SourceBatch> {
        self.seen().partitions.get(partition).cloned().unwrap_or_default()
    }

    /// Waits for a condition, and gives up loudly if it does not come.
    pub(super) async fn wait_for(&self, condition: impl Fn(&Seen) -> bool) {
        let wait = async {
            loop {
                let changed = self.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if condition(&self.seen()) {
                    return;
                }
                changed.await;
            }
        };
        let patience = Duration::from_secs(20);
        if tokio::time::timeout(patience, wait).await.is_err() {
            let seen = self.seen();
            let partitions: Vec<_> =
                seen.partitions.keys().map(|name| (name.clone(), seen.lines(name).len())).collect();
            panic!("the condition never came; stored {partitions:?}, withheld {}", seen.withheld());
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().expect("no holder of this lock panics")
    }

    async fn serve(self, requests: IntakeRequests) {
        let IntakeRequests { mut queue, mut losses, .. } = requests;
        loop {
            let request = tokio::select! {
                biased;
                Some(LossRequest { partition, events, bytes, reply, .. }) = losses.recv() => {
                    self.seen().losses.push((partition, events, bytes));
                    let _ = reply.send(Ok(()));
                    self.changed.notify_waiters();
                    continue;
                }
                request = queue.recv() => request,
            };
            let Some(request) = request else { return };
            let (partition, request) = match request {
                IntakeRequest::Of { partition, request } => (partition, request),
                IntakeRequest::Partitions { reply } => {
                    let seen = self.seen();
                    let names = seen.partitions.keys();
                    let _ = reply.send(Ok(names.map(|name| (name.clone(), seen.position(name))).collect()));
                    continue;
                }
            };
            match request {
                PartitionRequest::Append { batch, reply, .. } => self.append(partition, batch, reply),
                PartitionRequest::Resume { reply, .. } => {
                    let position = self.seen().position(&partition);
                    let _ =
                        reply.send(Ok(Resume { high_water: Offset::BEFORE_ALL, position, creation: Creation::Same }));
                }
                _ => panic!("no source that is tested with this asks for it"),
            }
        }
    }

    fn append(&self, partition: String, batch: SourceBatch, reply: Reply) {
        let mut seen = self.seen();
        seen.batches += 1;
        match seen.behaviour {
            Some(Behaviour::Withhold) => seen.withheld.push_back((partition, batch, reply)),
            Some(Behaviour::Close) => drop(reply.send(Err(IntakeError::Closed("closed by the test".to_owned())))),
            _ => seen.store(partition, batch, reply),
        }
        seen.most_withheld = seen.most_withheld.max(seen.withheld.len());
        drop(seen);
        self.changed.notify_waiters();
    }
}
