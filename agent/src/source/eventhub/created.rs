//! When the hub was created, as all lanes of a connection know it.

use tokio::sync::Mutex;

use crate::client::eventhub::{Connection, Error};

/// When the hub was created, where that is known: all lanes ask for it together.
#[derive(Default)]
pub(super) struct Created(Mutex<Option<i64>>);

impl Created {
    /// The hub has said so.
    pub(super) fn set(&self, created: i64) {
        // Who holds it is asking, and will know.
        if let Ok(mut known) = self.0.try_lock() {
            *known = Some(created);
        }
    }

    /// `None`: it is not known, or is being asked for.
    pub(super) fn known(&self) -> Option<i64> {
        self.0.try_lock().ok().and_then(|known| *known)
    }

    pub(super) async fn get(&self, connection: &Connection) -> Result<i64, Error> {
        let mut known = self.0.lock().await;
        match *known {
            Some(created) => Ok(created),
            None => Ok(*known.insert(connection.properties().await?.created.0)),
        }
    }

    /// The hub may be another one by now.
    pub(super) async fn forget(&self) {
        *self.0.lock().await = None;
    }
}
