//! Destinations in memory that behave, and misbehave, like the real kinds: a transactional database, and a token service.

mod gateway;
mod spy;
mod token;
mod transactional;

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use forebay::contract::Batch;
use forebay_buffer::{Checkpoint, Offset};
use tokio::sync::watch;

pub use gateway::{Gateway, Image, Running};
pub use spy::{OnStep, spy};
pub use token::TokenService;
pub use transactional::{Database, Fault, Snapshot};

/// Longer than anything here takes, so that what waits in vain fails and says so.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Stream and partition.
pub type Key = (String, String);

/// An event as a destination has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Stream and partition.
    pub key: Key,
    /// Its offset.
    pub offset: Offset,
    /// Its body.
    pub body: Bytes,
}

/// The bodies of each partition's rows, as text, in the order in which they came.
pub fn bodies(rows: &[Row]) -> BTreeMap<Key, Vec<String>> {
    let mut found: BTreeMap<Key, Vec<String>> = BTreeMap::new();
    for row in rows {
        found.entry(row.key.clone()).or_default().push(String::from_utf8_lossy(&row.body).into_owned());
    }
    found
}

/// The rows of a batch's events up to `through`, without the skipped.
fn rows_of(key: &Key, batch: &Batch, through: Offset) -> Vec<Row> {
    let wanted = batch.wanted().filter(|(offset, _)| *offset <= through);
    wanted
        .map(|(offset, event)| Row { key: key.clone(), offset: *offset, body: event.body.clone().unwrap_or_default() })
        .collect()
}

/// A value under a lock whose every change can be waited for.
#[derive(Debug)]
struct Watched<T>(watch::Sender<T>);

impl<T: Send + Sync + 'static> Watched<T> {
    fn new(value: T) -> Self {
        Self(watch::Sender::new(value))
    }

    fn change<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        let mut outcome = None;
        self.0.send_modify(|value| outcome = Some(change(value)));
        outcome.expect("the change was made")
    }

    fn look<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        look(&self.0.borrow())
    }

    async fn until(&self, holds: impl FnMut(&T) -> bool) {
        // The sender is here, so the wait cannot fail.
        let _ = self.0.subscribe().wait_for(holds).await;
    }

    /// Waits as [`Watched::until`] does, and panics with the value when that takes too long.
    async fn expect(&self, what: &str, holds: impl FnMut(&T) -> bool)
    where
        T: std::fmt::Debug,
    {
        if tokio::time::timeout(PATIENCE, self.until(holds)).await.is_err() {
            panic!("{what} did not come: {:#?}", *self.0.borrow());
        }
    }
}

/// Whether a compare-and-set from `expected` to `next` may change `held`: it is what was expected, and does not go back.
fn may_replace(held: Option<Checkpoint>, expected: Option<Checkpoint>, next: Checkpoint) -> bool {
    held == expected && held.is_none_or(|held| held.generation != next.generation || held.offset <= next.offset)
}
