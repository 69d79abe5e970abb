//! Answers that come when something is durable: to be awaited, or waited for.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use crate::{AppendError, Error, shared::Task, txn::Txn};

/// Resolves when what was asked for is durable, or failed. It is a future of no particular runtime; [`Receipt::wait`]
/// blocks instead. Dropping it changes nothing about what was asked for.
#[must_use = "without the receipt nobody knows whether it is durable"]
pub struct Receipt<T, E = Error>(State<Result<T, E>>);

enum State<R> {
    Known(Option<R>),
    Blocking(oneshot::Receiver<R>),
    Async(oneshot::AsyncReceiver<R>),
    Between,
}

/// An error that can also say that the buffer was closed.
pub(crate) trait Closable {
    fn closed() -> Self;
}

impl Closable for Error {
    fn closed() -> Self {
        Self::Closed
    }
}

impl Closable for AppendError {
    fn closed() -> Self {
        Self::Failed(Error::Closed)
    }
}

#[expect(private_bounds, reason = "only this crate makes receipts, of its own two errors")]
impl<T, E: Closable> Receipt<T, E> {
    pub(crate) fn new(receiver: oneshot::Receiver<Result<T, E>>) -> Self {
        Self(State::Blocking(receiver))
    }

    pub(crate) fn known(outcome: Result<T, E>) -> Self {
        Self(State::Known(Some(outcome)))
    }

    /// Blocks until the outcome is known.
    pub fn wait(self) -> Result<T, E> {
        match self.0 {
            State::Known(outcome) => outcome.unwrap_or_else(|| Err(E::closed())),
            State::Blocking(receiver) => receiver.recv().unwrap_or_else(|_| Err(E::closed())),
            State::Async(_) | State::Between => unreachable!("a receipt is either polled or waited for"),
        }
    }
}

impl<T: Unpin, E: Closable + Unpin> Future for Receipt<T, E> {
    type Output = Result<T, E>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let State::Blocking(_) = self.0
            && let State::Blocking(receiver) = std::mem::replace(&mut self.0, State::Between)
        {
            self.0 = State::Async(receiver.into_future());
        }
        match &mut self.0 {
            State::Known(outcome) => Poll::Ready(outcome.take().expect("a receipt resolves once")),
            State::Async(receiver) => {
                let outcome = ready!(Pin::new(receiver).poll(context));
                Poll::Ready(outcome.unwrap_or_else(|_| Err(E::closed())))
            }
            State::Blocking(_) | State::Between => unreachable!("a polled receipt is an async one"),
        }
    }
}

/// A task made of a closure.
struct Closure<F, T> {
    work: F,
    value: Option<T>,
    reply: oneshot::Sender<Result<T, Error>>,
}

impl<F, T> Task for Closure<F, T>
where
    F: FnMut(&mut Txn<'_>) -> Result<T, Error> + Send,
    T: Send,
{
    fn apply(&mut self, txn: &mut Txn<'_>) -> Result<(), Error> {
        self.value = Some((self.work)(txn)?);
        Ok(())
    }

    fn finish(self: Box<Self>, outcome: Result<(), Error>) {
        let Self { value, reply, .. } = *self;
        // Nobody may wait any more: that is no error.
        let _ = reply.send(outcome.and_then(|()| value.ok_or(Error::Closed)));
    }
}

/// A task, and the receipt for what it returns.
pub(crate) fn task<T: Send + 'static>(
    work: impl FnMut(&mut Txn<'_>) -> Result<T, Error> + Send + 'static,
) -> (Box<dyn Task>, Receipt<T>) {
    let (reply, receiver) = oneshot::channel();
    (Box::new(Closure { work, value: None, reply }), Receipt::new(receiver))
}
