//! One sink with its delivery.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use forebay_buffer::{Buffer, Error, clock::Clock};
use tokio::sync::mpsc;

#[cfg(feature = "eventhub")]
use crate::sink::eventhub::EventHub;
#[cfg(feature = "postgres")]
use crate::sink::postgres::Postgres;
#[cfg(feature = "snowpipe")]
use crate::sink::snowpipe::Snowpipe;
use crate::{
    config::{ControlConfig, SinkConfig, SinkKind},
    contract::{HubId, Shutdown, Sink, SinkError},
    delivery::{ControlTable, Delivery},
    fence::Fences,
    progress::{Condition, Progress},
    retry::Backoff,
    sink::{file::File, stdout::Stdout},
};

const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// What a sink's unit is made of.
pub(super) struct SinkUnit {
    pub(super) name: String,
    pub(super) agent_id: String,
    /// Where a sink that keeps its checkpoints with its data has them.
    pub(super) rows: ControlConfig,
    pub(super) config: SinkConfig,
    /// What each renamed stream was called before.
    pub(super) renamed_from: BTreeMap<String, String>,
    /// The hubs that streams come from.
    pub(super) hubs: BTreeMap<String, Arc<HubId>>,
    /// The control table, where delivery is to write this sink's rows of it.
    pub(super) control: Option<ControlTable>,
    pub(super) buffer: Buffer,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) progress: Arc<Progress>,
    pub(super) fences: Fences,
    /// Where to say that the buffer failed.
    pub(super) troubles: mpsc::Sender<Error>,
}

impl SinkUnit {
    /// Delivers until told to stop.
    pub(super) async fn run(self, mut shutdown: Shutdown) {
        let Some(sink) = self.built(&mut shutdown).await else { return };
        debug_assert_eq!(sink.window_bytes(), window_bytes(&self.config.kind), "the buffer guards what is in flight");
        let delivery = Delivery {
            name: self.name,
            sink,
            buffer: self.buffer,
            streams: self.config.inputs,
            renamed_from: self.renamed_from,
            hubs: self.hubs,
            control: self.control,
            max_bytes_per_second: self.config.max_bytes_per_second,
            progress: self.progress,
            fences: self.fences,
        };
        if let Err(error) = delivery.run(shutdown.clone()).await {
            let _ = self.troubles.try_send(error);
            shutdown.requested().await;
        }
    }

    /// The sink, as soon as it can be built. `None`: told to stop before that.
    async fn built(&self, shutdown: &mut Shutdown) -> Option<Arc<dyn Sink>> {
        let mut backoff = Backoff::new(Duration::from_millis(500), LONGEST_PAUSE);
        loop {
            let pause = match build(&self.config.kind, &self.agent_id, &self.rows, &self.clock, &self.progress) {
                Ok(sink) => return Some(sink),
                Err(SinkError::Retry { message, after }) => {
                    self.progress.enter("", Condition::Waiting(message));
                    after.unwrap_or_else(|| backoff.next())
                }
                Err(SinkError::Reconnect(message)) => {
                    self.progress.enter("", Condition::Waiting(message));
                    backoff.next()
                }
                Err(SinkError::Stop(message) | SinkError::Fenced(message)) => {
                    self.progress.enter("", Condition::Stopped(message));
                    shutdown.requested().await;
                    return None;
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = shutdown.requested() => return None,
            }
        }
    }
}

/// The sink that a config describes, of the agent called `agent_id`. `rows` says where it keeps its checkpoints if it is
/// one that does so.
#[cfg_attr(
    not(feature = "postgres"),
    expect(unused_variables, reason = "of those that remain, none keeps checkpoints")
)]
pub(crate) fn build(
    kind: &SinkKind,
    agent_id: &str,
    rows: &ControlConfig,
    clock: &Arc<dyn Clock>,
    progress: &Arc<Progress>,
) -> Result<Arc<dyn Sink>, SinkError> {
    let (clock, progress) = (Arc::clone(clock), Arc::clone(progress));
    Ok(match kind.clone() {
        #[cfg(feature = "eventhub")]
        SinkKind::EventHub(settings) => Arc::new(EventHub::new(*settings, agent_id, clock, progress)?),
        SinkKind::File(settings) => Arc::new(File::new(settings, clock, progress)?),
        #[cfg(feature = "postgres")]
        SinkKind::Postgres(settings) => {
            Arc::new(Postgres::new(*settings, agent_id, rows.table.clone(), clock, progress))
        }
        #[cfg(feature = "snowpipe")]
        SinkKind::Snowpipe(settings) => Arc::new(Snowpipe::new(*settings, agent_id, clock, progress)?),
        SinkKind::Stdout(settings) => Arc::new(Stdout::new(settings, clock, progress)),
    })
}

/// The name of a sink's type, as in the config.
pub(super) fn kind(kind: &SinkKind) -> &'static str {
    match kind {
        #[cfg(feature = "eventhub")]
        SinkKind::EventHub(_) => "eventhub",
        SinkKind::File(_) => "file",
        #[cfg(feature = "postgres")]
        SinkKind::Postgres(_) => "postgres",
        #[cfg(feature = "snowpipe")]
        SinkKind::Snowpipe(_) => "snowpipe",
        SinkKind::Stdout(_) => "stdout",
    }
}

/// Bytes that one lane of such a sink may have in flight. Known before the sink can be built: what was in flight when
/// the agent died must not be dropped before the destination has been asked.
pub(super) fn window_bytes(kind: &SinkKind) -> u64 {
    match kind {
        #[cfg(feature = "eventhub")]
        SinkKind::EventHub(settings) => settings.window_bytes(),
        SinkKind::File(settings) => settings.batch.max_bytes as u64,
        #[cfg(feature = "postgres")]
        SinkKind::Postgres(settings) => settings.batch.max_bytes as u64,
        #[cfg(feature = "snowpipe")]
        SinkKind::Snowpipe(settings) => settings.window_bytes(),
        SinkKind::Stdout(settings) => settings.batch.max_bytes as u64,
    }
}
