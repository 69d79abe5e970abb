//! One source with its intake: started, started again when that may help, and drained when it stops.

use std::{path::PathBuf, sync::Arc, time::Duration};

use forebay_buffer::{Buffer, Error, clock::Clock};
use tokio::sync::{mpsc, watch};

use crate::{
    config::{SourceConfig, SourceKind},
    contract::{Intake, Shutdown, Source, SourceError},
    fence::Fences,
    intake::IntakeLoop,
    progress::{Condition, Progress},
    retry::Backoff,
    source::{host::Host, http::Http, stdin::Stdin, tail::Tail},
};

#[cfg(feature = "eventhub")]
use crate::source::eventhub::{Checkpoints, EventHub};
#[cfg(feature = "mqtt")]
use crate::source::mqtt::Mqtt;

/// How long a source may take to stop after its intake failed.
const PATIENCE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A source that ran this long before it failed starts with a short pause again.
const RAN_WELL: Duration = Duration::from_secs(60);

/// What a source's unit is made of.
pub(super) struct SourceUnit {
    #[cfg(any(feature = "eventhub", feature = "mqtt"))]
    pub(super) agent_id: String,
    /// How far its sinks have come, for a source that others read too.
    #[cfg(feature = "eventhub")]
    pub(super) checkpoints: Checkpoints,
    pub(super) name: String,
    pub(super) config: SourceConfig,
    pub(super) buffer: Buffer,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) progress: Arc<Progress>,
    pub(super) fences: Fences,
    /// Where to say that the buffer failed.
    pub(super) troubles: mpsc::Sender<Error>,
}

/// How one run of a source ended.
enum End {
    Source(Result<(), SourceError>),
    Intake(Error),
}

impl SourceUnit {
    /// Runs until told to stop, or until there is no more to do.
    pub(super) async fn run(self, mut shutdown: Shutdown) {
        let mut backoff = Backoff::new(Duration::from_millis(500), LONGEST_PAUSE);
        loop {
            let started = tokio::time::Instant::now();
            let end = self.run_once(shutdown.clone()).await;
            if started.elapsed() > RAN_WELL {
                backoff.reset();
            }
            match end {
                _ if shutdown.is_requested() => return,
                End::Source(Ok(())) => return self.progress.enter("", Condition::Finished),
                End::Source(Err(SourceError::Stop(message))) => {
                    return self.progress.enter("", Condition::Stopped(message));
                }
                End::Source(Err(SourceError::Retry(message))) => {
                    self.progress.errors.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    self.progress.enter("", Condition::Waiting(message));
                }
                End::Intake(error) => {
                    // The whole plant is built anew; this unit is stopped with it. One word of it is enough.
                    let _ = self.troubles.try_send(error);
                    return shutdown.requested().await;
                }
            }
            tokio::select! {
                () = tokio::time::sleep(backoff.next()) => {}
                () = shutdown.requested() => return,
            }
        }
    }

    /// One run of source and intake, until both have ended.
    async fn run_once(&self, shutdown: Shutdown) -> End {
        let (full, is_full) = watch::channel(false);
        let (intake, requests) = Intake::new(is_full);
        let intake_loop = IntakeLoop {
            stream: self.name.clone(),
            max_bytes: self.config.limits.max_bytes,
            buffer: self.buffer.clone(),
            requests,
            full,
            progress: Arc::clone(&self.progress),
            fences: self.fences.clone(),
        };
        let (switch, source_shutdown) = Shutdown::new();
        let mut source = self.build();
        let mut source = std::pin::pin!(async move { source.run(intake, source_shutdown).await });
        let mut taking_in = std::pin::pin!(intake_loop.run(shutdown.clone()));

        let mut told = shutdown;
        let outcome = tokio::select! {
            outcome = &mut source => outcome,
            intake = &mut taking_in => return self.intake_ended(intake, &switch, source).await,
            () = told.requested() => {
                switch.send_replace(true);
                tokio::select! {
                    outcome = &mut source => outcome,
                    intake = &mut taking_in => return self.intake_ended(intake, &switch, source).await,
                }
            }
        };
        // What it handed over is still on its way.
        match taking_in.await {
            Ok(()) => End::Source(outcome),
            Err(error) => End::Intake(error),
        }
    }

    /// The intake ends before its source only if it failed, or if the source let go of it early.
    async fn intake_ended(
        &self,
        intake: Result<(), Error>,
        switch: &watch::Sender<bool>,
        source: impl Future<Output = Result<(), SourceError>>,
    ) -> End {
        let Err(error) = intake else { return End::Source(source.await) };
        switch.send_replace(true);
        if tokio::time::timeout(PATIENCE, source).await.is_err() {
            log::debug!("{}: dropped, for it did not stop after the buffer failed", self.progress.subject());
        }
        End::Intake(error)
    }

    fn build(&self) -> Box<dyn Source> {
        let (clock, progress) = (Arc::clone(&self.clock), Arc::clone(&self.progress));
        match self.config.kind.clone() {
            SourceKind::Stdin(settings) => Box::new(Stdin::new(settings, clock, progress)),
            SourceKind::Tail(settings) => Box::new(Tail::new(settings, clock, progress)),
            SourceKind::Http(settings) => Box::new(Http::new(settings, clock, progress)),
            #[cfg(feature = "mqtt")]
            SourceKind::Mqtt(settings) => {
                Box::new(Mqtt::new(*settings, self.agent_id.clone(), self.name.clone(), clock, progress))
            }
            #[cfg(feature = "eventhub")]
            SourceKind::EventHub(settings) => {
                let checkpoints = self.checkpoints.clone();
                Box::new(EventHub::new(*settings, self.agent_id.clone(), checkpoints, clock, progress))
            }
            SourceKind::Host(settings) => Box::new(Host::new(settings, clock, progress)),
        }
    }
}

/// The name of a source's type, as in the config, and the TLS certificate that it shows.
pub(super) fn kind(kind: &SourceKind) -> (&'static str, Option<PathBuf>) {
    match kind {
        SourceKind::Stdin(_) => ("stdin", None),
        SourceKind::Tail(_) => ("tail", None),
        SourceKind::Http(settings) => ("http", settings.tls.as_ref().map(|tls| tls.certificate_file.clone())),
        #[cfg(feature = "mqtt")]
        SourceKind::Mqtt(settings) => ("mqtt", settings.tls.certificate_file.clone()),
        #[cfg(feature = "eventhub")]
        SourceKind::EventHub(settings) => ("eventhub", settings.connection.tls.certificate_file.clone()),
        SourceKind::Host(_) => ("host", None),
    }
}
