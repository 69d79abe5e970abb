//! Events from HTTP producers: POST in, 202 when they are on disk.
//!
//! The events of one request are one batch: all of them are kept, or none, and the answer says which. It takes JSON
//! values, JSON arrays, NDJSON and raw bytes ([`body`]), and holds producers back with 429 where the buffer is full.

pub mod body;
mod decode;
mod endpoint;
mod memory;
mod receive;
mod rejection;
mod request;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use forebay_buffer::clock::Clock;
use tokio::{net::TcpListener, sync::watch};

use crate::{
    contract::{BoxFuture, Intake, Shutdown, Source, SourceError},
    http::{self, Limits},
    progress::{Condition, Progress},
    secret::SecretSource,
    tls,
};
use endpoint::Endpoint;

/// What the `http` source needs.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Where to listen.
    pub listen: SocketAddr,
    /// The one path that takes events.
    pub path: String,
    /// If given, producers must present it as a bearer token.
    pub token: Option<SecretSource>,
    /// If given, TLS.
    pub tls: Option<tls::ServerSettings>,
    /// The largest body, as it comes.
    pub max_body_bytes: usize,
    /// The largest body, after decompression.
    pub max_decompressed_bytes: usize,
    /// Connections at a time.
    pub max_connections: usize,
    /// The largest event: its body, its key and its header.
    pub max_event_bytes: usize,
}

/// How long a producer may take over a body.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Patience {
    /// Without a byte.
    silence: Duration,
    /// In all.
    whole: Duration,
    /// Until there is memory for it.
    memory: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { silence: Duration::from_secs(15), whole: Duration::from_secs(120), memory: Duration::from_secs(10) }
    }
}

/// The source. See the module.
pub struct Http {
    settings: Settings,
    clock: Arc<dyn Clock>,
    progress: Arc<Progress>,
    limits: Limits,
    patience: Patience,
    address: watch::Sender<Option<SocketAddr>>,
}

impl Http {
    /// A source that listens when it is run.
    pub fn new(settings: Settings, clock: Arc<dyn Clock>, progress: Arc<Progress>) -> Self {
        let limits = Limits { max_connections: settings.max_connections, ..Limits::default() };
        let (address, _) = watch::channel(None);
        Self { settings, clock, progress, limits, patience: Patience::default(), address }
    }

    /// Where it listens, once it does: with port 0 the system chooses.
    pub fn address(&self) -> watch::Receiver<Option<SocketAddr>> {
        self.address.subscribe()
    }

    async fn listen(&self, intake: Intake, shutdown: Shutdown) -> Result<(), SourceError> {
        let settings = &self.settings;
        let subject = self.progress.subject();
        let failed = |what: String| SourceError::Retry(format!("{subject}: {what}"));
        let token = settings.token.as_ref().map(SecretSource::watch).transpose().map_err(failed)?;
        let tls = settings.tls.as_ref().map(|tls| tls::Server::new(tls, Arc::clone(&self.clock))).transpose();
        let tls = tls.map_err(failed)?.map(Arc::new);
        let listener = TcpListener::bind(settings.listen).await.map_err(|error| {
            let listen = settings.listen;
            failed(format!("cannot listen on {listen}: {error}; set `listen` to a free address of this machine"))
        })?;
        let address = listener.local_addr().ok();
        self.address.send_replace(address);

        let endpoint = Arc::new(Endpoint::new(
            settings,
            self.patience.clone(),
            token,
            intake,
            Arc::clone(&self.clock),
            Arc::clone(&self.progress),
            shutdown.clone(),
        ));
        self.progress.enter("", Condition::Running);
        log::info!("{subject}: listening on {}", address.unwrap_or(settings.listen));
        let handler = move |request| {
            let endpoint = Arc::clone(&endpoint);
            async move { endpoint.answer(request).await }
        };
        http::serve(listener, tls, self.limits.clone(), handler, shutdown).await;
        self.address.send_replace(None);
        Ok(())
    }
}

impl Source for Http {
    fn run<'a>(&'a mut self, intake: Intake, shutdown: Shutdown) -> BoxFuture<'a, Result<(), SourceError>> {
        Box::pin(self.listen(intake, shutdown))
    }
}

#[cfg(test)]
mod tests;
