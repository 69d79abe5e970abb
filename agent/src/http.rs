//! A small HTTP/1 server: what the `http` source and the status listener have in common.
//!
//! It accepts, limits and times out connections, speaks TLS if asked to, and ends in bounded time. What is answered is
//! its caller's business.

mod connection;

use std::{convert::Infallible, future::Future, io, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
    time::{interval, sleep, timeout},
};

use crate::{contract::Shutdown, tls};
use connection::{Activity, Watched, linger};

/// A request as it comes.
pub type Request = hyper::Request<Incoming>;
/// A response, whole.
pub type Response = hyper::Response<Full<Bytes>>;

/// What one connection may buffer: a request's head must fit.
const BUFFER_BYTES: usize = 64 * 1024;
/// How long to wait where the system has no more file descriptors or memory for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long the rest of a refused request is still read and thrown away.
const LINGER: Duration = Duration::from_secs(2);
/// The same when the agent stops: a client that keeps an idle connection open must not hold that up.
const LINGER_STOPPING: Duration = Duration::from_millis(100);

/// Limits of a listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Connections at a time. More wait in the kernel's queue.
    pub max_connections: usize,
    /// How long a TLS handshake, and the head of a request once it has begun, may take.
    pub header_timeout: Duration,
    /// How long a connection may be open with no request on it.
    pub idle_timeout: Duration,
    /// How long a client may take nothing of a response.
    pub write_timeout: Duration,
    /// How long requests that are being answered may take after shutdown is requested.
    pub drain_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 64,
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            write_timeout: Duration::from_secs(20),
            drain_timeout: Duration::from_secs(5),
        }
    }
}

/// Answers requests with `handler` until shutdown is requested, then ends what is under way, within
/// [`Limits::drain_timeout`].
pub async fn serve<H, F>(
    listener: TcpListener,
    tls: Option<Arc<tls::Server>>,
    limits: Limits,
    handler: H,
    mut shutdown: Shutdown,
) where
    H: Fn(Request) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response> + Send + 'static,
{
    let slots = Arc::new(Semaphore::new(limits.max_connections));
    let mut connections = JoinSet::new();
    let mut failing = false;
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.requested() => break,
            accepted = accept(&listener, &slots) => accepted,
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((stream, slot)) => {
                let (tls, limits, handler) = (tls.clone(), limits.clone(), handler.clone());
                let shutdown = shutdown.clone();
                connections.spawn(async move {
                    converse(stream, tls, limits, handler, shutdown).await;
                    drop(slot);
                });
                failing = false;
            }
            Err(error) => {
                // Out of descriptors, most likely: those that are open may end, and no connection is lost meanwhile.
                if !std::mem::replace(&mut failing, true) {
                    log::warn!("cannot accept a connection: {error}; trying again (see `LimitNOFILE=`)");
                }
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    let ended = async { while connections.join_next().await.is_some() {} };
    let _ = timeout(limits.drain_timeout, ended).await;
    connections.shutdown().await;
}

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> io::Result<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots).acquire_owned().await.expect("this semaphore is never closed");
    let (stream, _) = listener.accept().await?;
    Ok((stream, slot))
}

async fn converse<H, F>(
    stream: TcpStream,
    tls: Option<Arc<tls::Server>>,
    limits: Limits,
    handler: H,
    shutdown: Shutdown,
) where
    H: Fn(Request) -> F + Send + Sync,
    F: Future<Output = Response> + Send,
{
    // Small responses must not wait for company; a socket that is gone says so at the first read.
    let _ = stream.set_nodelay(true);
    match tls {
        None => speak(stream, &limits, handler, shutdown).await,
        Some(tls) => match timeout(limits.header_timeout, tls.acceptor().accept(stream)).await {
            Ok(Ok(stream)) => speak(stream, &limits, handler, shutdown).await,
            Ok(Err(error)) => log::debug!("a TLS handshake failed: {error}"),
            Err(_) => log::debug!("a TLS handshake took too long"),
        },
    }
}

async fn speak<S, H, F>(stream: S, limits: &Limits, handler: H, mut shutdown: Shutdown)
where
    S: AsyncRead + AsyncWrite + Unpin,
    H: Fn(Request) -> F,
    F: Future<Output = Response> + Send,
{
    let activity = Arc::new(Activity::new());
    let service = service_fn(|request| {
        activity.request_begins();
        let (activity, answer) = (Arc::clone(&activity), handler(request));
        Box::pin(async move {
            let response = answer.await;
            activity.request_ends();
            Ok::<_, Infallible>(response)
        })
    });
    let io = TokioIo::new(Watched::new(stream, Arc::clone(&activity)));
    let mut connection = http1::Builder::new()
        .header_read_timeout(None)
        .max_buf_size(BUFFER_BYTES)
        .half_close(true)
        .serve_connection(io, service);

    // One look at the timeouts every so often costs less than a timer for each read.
    let mut look = interval((limits.header_timeout.min(limits.write_timeout) / 4).max(Duration::from_millis(1)));
    let mut stopping = false;
    loop {
        tokio::select! {
            ended = std::future::poll_fn(|context| connection.poll_without_shutdown(context)) => {
                if let Err(error) = ended {
                    log::debug!("a connection ended early: {error}");
                }
                break;
            }
            () = shutdown.requested(), if !stopping => {
                stopping = true;
                std::pin::Pin::new(&mut connection).graceful_shutdown();
            }
            _ = look.tick() => if activity.is_overdue(limits) {
                return;
            }
        }
    }
    linger(connection.into_parts().io.into_inner(), if stopping { LINGER_STOPPING } else { LINGER }).await;
}

#[cfg(test)]
mod tests;
