//! The bytes below AMQP, with an end that can be put to them.
//!
//! fe2o3-amqp reads and writes in turn, in one task: while it waits for a peer that does not read, it sees neither its
//! own idle timeout nor anything that it is told. So a write that comes no further ends the stream here, and so does who
//! wants the connection gone.

use std::{
    fmt, io,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};

use super::end::End;

/// What can be read and written.
pub(super) trait Bytes: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Bytes for T {}

/// See the module.
pub(super) struct Stream {
    bytes: Box<dyn Bytes>,
    ended: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// Whether `ended` has resolved: it must not be polled then.
    is_over: bool,
    patience: Duration,
    /// Running while a write waits for the peer.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Stream {
    /// Ends when `end` does, and when the peer takes nothing for `patience`.
    pub(super) fn new(bytes: Box<dyn Bytes>, end: Arc<End>, patience: Duration) -> Self {
        let ended = Box::pin(async move { drop(end.wait().await) });
        Self { bytes, ended, is_over: false, patience, stalled: None }
    }

    fn poll_ended(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        if !self.is_over {
            ready!(self.ended.as_mut().poll(context));
            self.is_over = true;
        }
        Poll::Ready(io::ErrorKind::ConnectionAborted.into())
    }

    /// What comes of a write: `written`, unless it has waited too long.
    fn watched<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        if let Poll::Ready(error) = self.poll_ended(context) {
            return Poll::Ready(Err(error));
        }
        let patience = self.patience;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(patience)));
        stalled.as_mut().poll(context).map(|()| {
            let why = format!("the peer has taken nothing for {} s", patience.as_secs_f32());
            Err(io::Error::new(io::ErrorKind::TimedOut, why))
        })
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since = self.stalled.as_ref().map(|stalled| Instant::now() + self.patience - stalled.deadline());
        f.debug_struct("Stream").field("stalled_for", &since).finish_non_exhaustive()
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match pin!(&mut this.bytes).poll_read(context, buffer) {
            Poll::Pending => this.poll_ended(context).map(Err),
            read => read,
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = pin!(&mut this.bytes).poll_write(context, bytes);
        this.watched(context, written)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = pin!(&mut this.bytes).poll_flush(context);
        this.watched(context, flushed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let shut_down = pin!(&mut this.bytes).poll_shutdown(context);
        this.watched(context, shut_down)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::client::eventhub::Error;

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_does_not_read_ends_the_stream() {
        let (ours, _theirs) = tokio::io::duplex(8);
        let mut stream = Stream::new(Box::new(ours), Arc::default(), Duration::from_secs(7));
        let error = stream.write_all(&[0; 9]).await.unwrap_err();
        assert_eq!(error.to_string(), "the peer has taken nothing for 7 s");
    }

    #[tokio::test]
    async fn who_wants_it_gone_ends_a_stream_that_reads_and_one_that_writes() {
        let end = Arc::new(End::default());
        for write in [false, true] {
            let (ours, _theirs) = tokio::io::duplex(8);
            let mut stream = Stream::new(Box::new(ours), Arc::clone(&end), Duration::from_secs(3600));
            let waiting =
                async { if write { stream.write_all(&[0; 9]).await } else { stream.read_u8().await.map(drop) } };
            let (ended, ()) = tokio::join!(waiting, async { end.set(Error::lost("enough")) });
            assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
            // Whoever closes it flushes it first.
            let again = if write { stream.write_all(&[0; 9]).await } else { stream.read_u8().await.map(drop) };
            assert_eq!(again.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
        }
    }
}
