//! The connection of the sink, and its senders: one for each of the hub's partitions that something goes to.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex as SyncMutex},
};

use tokio::{
    sync::{Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::Instant,
};

use crate::client::eventhub::{Class, Connection, Error, Hub, Sender};

/// See the module.
pub(super) struct Senders {
    hub: Hub,
    known: Mutex<Known>,
    slots: SyncMutex<HashMap<Option<String>, Arc<Slot>>>,
    /// Until when the hub wants to be left alone, and its words.
    busy: SyncMutex<Option<(Instant, String)>>,
}

/// The hub's partitions: asked of each connection anew, for a hub may get more of them.
#[derive(Default)]
struct Known {
    live: Option<(Connection, Arc<Vec<String>>)>,
    /// When they could not be had, and why.
    failed: Option<(Instant, Error)>,
}

/// What goes to one partition, or to whichever the hub chooses.
pub(super) struct Slot {
    partition: Option<String>,
    sender: Mutex<Option<Arc<Sender>>>,
    turn: RwLock<()>,
}

impl Slot {
    /// Waits until nothing else is under way there.
    pub(super) async fn turn(&self) -> RwLockWriteGuard<'_, ()> {
        self.turn.write().await
    }

    /// Waits until nobody has the turn.
    pub(super) async fn beside_others(&self) -> RwLockReadGuard<'_, ()> {
        self.turn.read().await
    }
}

impl Senders {
    pub(super) fn new(hub: Hub) -> Self {
        Self { hub, known: Mutex::default(), slots: SyncMutex::default(), busy: SyncMutex::default() }
    }

    /// `HOST/HUB`.
    pub(super) fn place(&self) -> &str {
        self.hub.place()
    }

    /// The hub's partitions, as the live connection knows them. Who came while they were asked for in vain shares the
    /// error.
    pub(super) async fn partitions(&self) -> Result<Arc<Vec<String>>, Error> {
        let asked = Instant::now();
        let mut known = self.known.lock().await;
        if let Some((connection, partitions)) = &known.live
            && connection.is_alive()
        {
            return Ok(Arc::clone(partitions));
        }
        if let Some((at, error)) = &known.failed
            && *at >= asked
        {
            return Err(error.clone());
        }
        *known = Known::default();
        let found = async {
            let connection = self.hub.connection().await?;
            let partitions = Arc::new(connection.properties().await?.partition_ids);
            Ok((connection, partitions))
        };
        match found.await {
            Ok(live) => Ok(Arc::clone(&known.live.insert(live).1)),
            Err(error) => {
                known.failed = Some((Instant::now(), Error::clone(&error)));
                Err(error)
            }
        }
    }

    /// The hub may be another one by now.
    pub(super) async fn forget(&self) {
        self.known.lock().await.live = None;
        self.slots.lock().expect("no holder of this lock panics").clear();
    }

    /// Leaves the hub alone for as long as it asks, if it does.
    pub(super) fn leave_alone(&self, error: &Error) {
        if let Class::Busy(after) = error.class {
            let until = Instant::now() + after;
            let mut busy = self.busy.lock().expect("no holder of this lock panics");
            if busy.as_ref().is_none_or(|(held, _)| *held < until) {
                *busy = Some((until, error.message.clone()));
            }
        }
    }

    /// Whether the hub may be sent to; else the error says for how long it may not.
    pub(super) fn is_free(&self) -> Result<(), Error> {
        let busy = self.busy.lock().expect("no holder of this lock panics");
        match &*busy {
            Some((until, words)) if *until > Instant::now() => {
                Err(Error { class: Class::Busy(*until - Instant::now()), message: words.clone() })
            }
            _ => Ok(()),
        }
    }

    /// What leads to one partition, and its sender.
    pub(super) async fn slot(&self, partition: Option<&str>) -> Result<(Arc<Slot>, Arc<Sender>), Error> {
        let partition = partition.map(str::to_owned);
        let slot = {
            let mut slots = self.slots.lock().expect("no holder of this lock panics");
            let new =
                || Arc::new(Slot { partition: partition.clone(), sender: Mutex::default(), turn: RwLock::default() });
            Arc::clone(slots.entry(partition.clone()).or_insert_with(new))
        };
        let sender = self.sender(&slot).await?;
        Ok((slot, sender))
    }

    /// The sender to a partition: the one that is there, if it is alive.
    pub(super) async fn sender(&self, slot: &Slot) -> Result<Arc<Sender>, Error> {
        let mut place = slot.sender.lock().await;
        if let Some(sender) = &*place
            && sender.is_alive()
        {
            return Ok(Arc::clone(sender));
        }
        *place = None;
        let sender = Arc::new(self.hub.connection().await?.sender(slot.partition.as_deref()).await?);
        *place = Some(Arc::clone(&sender));
        Ok(sender)
    }
}
