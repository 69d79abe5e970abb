//! Sending: batches, each of which is stored whole or not at all.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use fe2o3_amqp::{
    Sender as AmqpSender,
    link::SendError,
    types::{
        definitions,
        messaging::{Outcome, Source},
    },
};
use tokio::{sync::Mutex, time::sleep};

use super::{Batch, Class, Error, amqp::condition, connection::Inner, link::Session};

/// Sends to a hub or to one of its partitions. May be shared: what is sent at the same time is under way at the same time.
pub struct Sender {
    /// Dropped before the session, so that nothing waits for it.
    link: Mutex<AmqpSender>,
    session: Session,
    max_message_bytes: usize,
    what: String,
    connection: Arc<Inner>,
}

/// Between two looks at whether the link is still attached.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

impl Sender {
    pub(super) async fn attach(connection: &Arc<Inner>, partition: Option<&str>) -> Result<Self, Error> {
        let target = match partition {
            None => connection.hub.clone(),
            Some(partition) => format!("{}/Partitions/{partition}", connection.hub),
        };
        let what = format!("a sender to {target}");
        let (session, link) = Session::attach(connection, &what, async |session| {
            let name = format!("sender-{:08x}", getrandom::u32().unwrap_or_default());
            let source = Source::builder().address(name.clone()).build();
            AmqpSender::builder().name(name).source(source).target(target.as_str()).attach(session).await
        })
        .await?;
        let limit = link.max_message_size().unwrap_or(DEFAULT_MAX_MESSAGE_BYTES);
        let max_message_bytes = usize::try_from(limit).unwrap_or(usize::MAX);
        let link = Mutex::new(link);
        Ok(Self { link, session, max_message_bytes, what, connection: Arc::clone(connection) })
    }

    /// The largest message that the service takes: the size of a batch, as [`Batch::size_bytes`] counts.
    pub fn max_message_bytes(&self) -> usize {
        self.max_message_bytes
    }

    /// Whether it has not ended yet, as far as is known.
    pub fn is_alive(&self) -> bool {
        self.session.end.get().is_none()
    }

    /// Sends a batch. Resolves when the service has accepted it, and else within the timeout: then it may have stored it
    /// or not. Where one batch is sent before another is accepted, an error of the first says nothing of the second.
    pub async fn send(&self, batch: &Batch) -> Result<(), Error> {
        let line = &self.connection.line;
        let _under_way = line.carry(batch.size_bytes());
        let patience = line.patience();
        let is_sent = AtomicBool::new(false);
        let work = async {
            // Credit is waited for under the lock, so that batches go in the order in which they came.
            let sent = self.link.lock().await.send_batchable_ref(batch.sendable()).await;
            is_sent.store(true, Ordering::Relaxed);
            let acknowledged = sent.map_err(|error| self.broken(error))?;
            let outcome = tokio::select! {
                biased;
                outcome = acknowledged => outcome.map_err(|error| self.broken(error))?,
                error = self.detached() => return Err(self.session.broken(error)),
            };
            match outcome {
                Outcome::Accepted(_) => Ok(()),
                Outcome::Rejected(rejected) => {
                    let error = match &rejected.error {
                        Some(error) => of_rejection(error),
                        None => Error::new(Class::Rejected, "the service rejects the batch, and does not say why"),
                    };
                    Err(line.judged(error))
                }
                Outcome::Released(_) | Outcome::Modified(_) => {
                    Err(Error::new(Class::Detached, "the service gives the batch back"))
                }
            }
        };
        let waiting = || match is_sent.load(Ordering::Relaxed) {
            true => "waiting for the acknowledgement",
            false => "waiting for credit",
        };
        let sent = match self.session.within_for(patience, work).await {
            Some(sent) => sent,
            None => Err(self.overdue(waiting(), patience)),
        };
        sent.map_err(|error| error.while_doing(format_args!("sending by {}", self.what)))
    }

    /// Nothing came in time.
    fn overdue(&self, what: &str, patience: Duration) -> Error {
        let silent = || Error { class: Class::Detached, ..Error::silent(what, patience) };
        self.session.broken(self.detach().unwrap_or_else(silent))
    }

    /// Waits for a detach that is no close, which does not fail what is under way. It is looked for now and then: waiting
    /// for it would keep the link from whoever sends next.
    async fn detached(&self) -> Error {
        loop {
            sleep(LOOK_AGAIN).await;
            if let Some(error) = self.detach() {
                return error;
            }
        }
    }

    /// Why the link was detached, if it was. Who waits for credit finds out by itself.
    fn detach(&self) -> Option<Error> {
        let mut link = self.link.try_lock().ok()?;
        match pin!(link.on_detach()).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(error) => Some(error.into()),
            Poll::Pending => None,
        }
    }

    /// An error of the link, after which it is of no use; but for a batch that was not sent, for it is too large.
    fn broken(&self, error: SendError) -> Error {
        match error {
            SendError::MessageSizeExceeded(_) => error.into(),
            error => self.session.broken(error.into()),
        }
    }
}

/// What is wrong with a batch is wrong with it for good; other conditions are about the hub, or about what lets us in.
fn of_rejection(rejected: &definitions::Error) -> Error {
    let error = Error::from(rejected);
    match condition(&rejected.condition).as_str() {
        "com.microsoft:argument-error"
        | "com.microsoft:argument-out-of-range"
        | "amqp:decode-error"
        | "amqp:invalid-field" => Error { class: Class::Rejected, ..error },
        _ => error,
    }
}

/// What all tiers but the basic one take.
const DEFAULT_MAX_MESSAGE_BYTES: u64 = 1 << 20;
