//! What goes on on one connection: enough to tell a slow client from a silent one, and to part in good order.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    time::timeout,
};

use super::Limits;

/// What a connection is doing, and since when.
pub(super) struct Activity(Mutex<State>);

struct State {
    phase: Phase,
    since: Instant,
    /// Since when the client takes nothing of what is written to it.
    blocked: Option<Instant>,
}

#[derive(PartialEq)]
enum Phase {
    /// Nothing is asked.
    Idle,
    /// The head of a request is coming in.
    Head,
    /// A request is being read further and answered: whoever does that keeps its own time.
    Request,
}

impl Activity {
    pub(super) fn new() -> Self {
        Self(Mutex::new(State { phase: Phase::Idle, since: Instant::now(), blocked: None }))
    }

    pub(super) fn request_begins(&self) {
        self.enter(Phase::Request);
    }

    pub(super) fn request_ends(&self) {
        self.enter(Phase::Idle);
    }

    /// Whether the client has taken longer than it may.
    pub(super) fn is_overdue(&self, limits: &Limits) -> bool {
        let state = self.lock();
        let overdue = match state.phase {
            Phase::Idle => state.since.elapsed() >= limits.idle_timeout,
            Phase::Head => state.since.elapsed() >= limits.header_timeout,
            Phase::Request => false,
        };
        overdue || state.blocked.is_some_and(|since| since.elapsed() >= limits.write_timeout)
    }

    fn enter(&self, phase: Phase) {
        let mut state = self.lock();
        state.phase = phase;
        state.since = Instant::now();
    }

    fn read(&self) {
        let mut state = self.lock();
        if state.phase == Phase::Idle {
            state.phase = Phase::Head;
            state.since = Instant::now();
        }
    }

    fn wrote<T>(&self, written: &Poll<T>) {
        let mut state = self.lock();
        match written {
            Poll::Ready(_) => state.blocked = None,
            Poll::Pending => _ = state.blocked.get_or_insert_with(Instant::now),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().expect("no holder of this lock panics")
    }
}

/// A stream that tells its [`Activity`] what passes through it.
pub(super) struct Watched<S> {
    stream: S,
    activity: Arc<Activity>,
}

impl<S> Watched<S> {
    pub(super) fn new(stream: S, activity: Arc<Activity>) -> Self {
        Self { stream, activity }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.activity.read();
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.activity.wrote(&written);
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.activity.wrote(&flushed);
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Closes our side, then reads on until the client closes its own, for `at_most` so long. A socket that is closed with something unread in it
/// resets the connection, and the client may never see the answer that told it to send less.
pub(super) async fn linger<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, at_most: Duration) {
    let parted = async {
        stream.shutdown().await?;
        let mut ignored = [0; 4096];
        while stream.read(&mut ignored).await? > 0 {}
        io::Result::Ok(())
    };
    let _ = timeout(at_most, parted).await;
}
