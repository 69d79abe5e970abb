//! A token at hand: asked for once for all who wait, and renewed before it ends.

use std::{
    fmt,
    future::Future,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use tokio::{
    sync::OwnedMutexGuard,
    task::{JoinError, JoinHandle},
    time::Instant,
};

use super::token::Token;

/// Between two attempts at renewing a token that still holds.
const RENEW_AGAIN: Duration = Duration::from_secs(30);
/// A token this near its end is not handed out: it could end on the way.
const LEEWAY: Duration = Duration::from_secs(10);

/// The place of one token. It is wiped when the last that has it drops it.
#[derive(Default)]
pub(super) struct Slot {
    token: Mutex<Option<Token>>,
    /// Held by the one request that may be under way.
    request: Arc<tokio::sync::Mutex<()>>,
}

impl Slot {
    /// The token at hand, or the one that `ask` gets. `what` is how the log calls it. Given up before, the request goes on,
    /// and the next call has its token. Nobody waits for a renewal: the old one is handed out as long as it holds.
    pub(super) async fn token<E>(
        self: &Arc<Self>,
        what: &str,
        ask: impl Future<Output = Result<Token, E>> + Send + 'static,
    ) -> Result<Token, E>
    where
        E: fmt::Display + From<JoinError> + Send + 'static,
    {
        if let Some(token) = self.valid() {
            if Instant::now() >= token.refresh_at
                && let Ok(turn) = Arc::clone(&self.request).try_lock_owned()
            {
                self.renew(what.to_owned(), ask, turn);
            }
            return Ok(token);
        }
        let turn = Arc::clone(&self.request).lock_owned().await;
        match self.valid() {
            Some(token) => Ok(token),
            None => self.request(ask, turn).await?,
        }
    }

    /// Hands `refused` out no more.
    pub(super) fn forget(&self, refused: &Token) {
        self.held().take_if(|token| token.secret == refused.secret);
    }

    /// Puts a new token in the place of the one at hand, or has it tried again a while later.
    fn renew<E: fmt::Display + Send + 'static>(
        self: &Arc<Self>,
        what: String,
        ask: impl Future<Output = Result<Token, E>> + Send + 'static,
        turn: OwnedMutexGuard<()>,
    ) {
        let slot = Arc::clone(self);
        tokio::spawn(async move {
            let asked = ask.await;
            let mut held = slot.held();
            match asked {
                Ok(token) => *held = Some(token),
                Err(error) => {
                    log::warn!("the token for {what} is not renewed, and holds a while: {error:#}");
                    // If it is refused by now, it is not put back.
                    held.iter_mut().for_each(|token| token.refresh_at = Instant::now() + RENEW_AGAIN);
                }
            }
            drop(turn);
        });
    }

    /// Keeps what `ask` gets, whether anybody waits for it or not.
    fn request<E: Send + 'static>(
        self: &Arc<Self>,
        ask: impl Future<Output = Result<Token, E>> + Send + 'static,
        turn: OwnedMutexGuard<()>,
    ) -> JoinHandle<Result<Token, E>> {
        let slot = Arc::clone(self);
        tokio::spawn(async move {
            let token = ask.await?;
            *slot.held() = Some(token.clone());
            drop(turn);
            Ok(token)
        })
    }

    fn held(&self) -> MutexGuard<'_, Option<Token>> {
        self.token.lock().expect("no holder of this lock panics")
    }

    fn valid(&self) -> Option<Token> {
        self.held().clone().filter(|token| Instant::now() + LEEWAY < token.expires)
    }
}
