//! Tokens at hand: cached for each scope, and renewed before they end.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex},
};

use forebay_buffer::clock::Clock;

use super::{Error, Settings, Token, sources::Sources};
use crate::client::slot::Slot;

/// An identity, and its tokens. They are wiped when the last that has it drops it.
pub struct Credential {
    sources: Arc<Sources>,
    /// One for each scope that was asked for: the program knows two.
    slots: Mutex<HashMap<String, Arc<Slot>>>,
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential").field("settings", &self.sources.settings).finish_non_exhaustive()
    }
}

impl Credential {
    /// Asks nobody yet.
    pub fn new(settings: Settings, clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self { sources: Arc::new(Sources::new(settings, clock)), slots: Mutex::default() })
    }

    /// A token for `scope`, such as [`POSTGRES`](super::POSTGRES): the one at hand, or a new one. It takes as long as the
    /// sources do, at most about a minute for each. Given up before, the request goes on, and the next call has its token.
    pub async fn token(&self, scope: &str) -> Result<Token, Error> {
        let (sources, owned) = (Arc::clone(&self.sources), scope.to_owned());
        self.slot(scope).token(scope, async move { sources.find(&owned).await }).await
    }

    /// A token for `scope` in place of `refused`, which the service would not have. If there is another by now, it is
    /// that.
    pub async fn fresh(&self, scope: &str, refused: &Token) -> Result<Token, Error> {
        self.forget(scope, refused);
        self.token(scope).await
    }

    /// Hands `refused` out no more.
    pub fn forget(&self, scope: &str, refused: &Token) {
        self.slot(scope).forget(refused);
    }

    fn slot(&self, scope: &str) -> Arc<Slot> {
        let mut slots = self.slots.lock().expect("no holder of this lock panics");
        Arc::clone(slots.entry(scope.to_owned()).or_default())
    }
}
