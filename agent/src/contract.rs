//! What a source, a sink, a control table and the loops between them promise each other.
//!
//! The way of the data is a straight line: source, intake, buffer, delivery, sink. A source hands batches to its
//! [`Intake`] and awaits receipts; a sink gives a [`Lane`] for each partition, which the delivery loop drives. Neither
//! retries, checkpoints or keeps order on its own: the two loops do, and these types are all they share.

mod control;
mod ownership;
mod row;
mod sink;
mod source;

use std::pin::Pin;

use tokio::sync::watch;

pub use self::{control::*, ownership::*, row::Stored, sink::*, source::*};

/// A boxed future, as the traits here must stay usable as trait objects.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Says when to stop. Cloned into everything that runs.
#[derive(Debug, Clone)]
pub struct Shutdown(watch::Receiver<bool>);

impl Shutdown {
    /// The switch (send `true` to stop) and what it switches.
    pub fn new() -> (watch::Sender<bool>, Self) {
        let (switch, watched) = watch::channel(false);
        (switch, Self(watched))
    }

    /// Resolves when it is time to stop.
    pub async fn requested(&mut self) {
        // An error means that the switch is gone, and whoever held it with it.
        let _ = self.0.wait_for(|stop| *stop).await;
    }

    /// Whether it is time to stop.
    pub fn is_requested(&self) -> bool {
        *self.0.borrow()
    }
}
