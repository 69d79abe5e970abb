//! NDJSON files in a directory, holding each event exactly once whatever happens to the process or the power.
//!
//! For a sink called `archive` the directory holds `archive-00000001.ndjson` and so on (`.ndjson.zst` where compressed,
//! a frame for each batch), and `archive.state`. The state names the file that is being written, how much of it is
//! committed, and the checkpoint of every partition. A batch is committed like this ([`writer`]):
//!
//! 1. its lines are written behind the committed length, and synced;
//! 2. a record with the new length and checkpoints is written to the state file, and synced ([`state`]).
//!
//! Until the second is done the lines do not count: whoever opens the files next cuts them off. So the state is the
//! destination's own answer to what it has, moved by compare-and-set like any other. Files other than the newest are
//! complete, and may be taken away at any time.

mod disk;
mod state;
mod writer;

use std::{path::PathBuf, sync::Arc, time::Duration};

use forebay_buffer::clock::Clock;
use tokio::{
    sync::{Mutex, OwnedMutexGuard},
    task::spawn_blocking,
};

use self::{
    disk::RealDisk,
    writer::{Part, Writer},
};
use super::{Format, write_line};
use crate::contract::{
    Batch, BatchLimits, BoxFuture, Destination, Lane, Local, PartitionId, Progress, Resumed, Sink, SinkError,
};

/// What the config says of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The directory. It is created if it is not there.
    pub path: PathBuf,
    /// What the files' names begin with: the sink's name.
    pub name: String,
    /// No file grows larger, but for a single event that is.
    pub max_file_bytes: u64,
    /// A batch that comes so long after a file was begun begins another.
    pub max_file_age: Option<Duration>,
    /// How many files to keep, the one being written included. `None` keeps all.
    pub keep_files: Option<u32>,
    /// How the files are compressed.
    pub compression: Compression,
    /// What a line holds.
    pub format: Format,
    /// Limits of one batch.
    pub batch: BatchLimits,
}

/// How files are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// Zstandard, a frame for each batch: what is committed can be read at any time.
    Zstd,
}

/// The sink. Its lanes share one writer, and take turns.
pub struct File {
    shared: Arc<Shared>,
}

struct Shared {
    settings: Settings,
    clock: Arc<dyn Clock>,
    /// `None` before the first resume, and after a failure: then the next resume opens the files anew.
    writer: Arc<Mutex<Option<Writer<RealDisk>>>>,
}

impl File {
    /// Nothing is opened or created before the first lane resumes.
    pub fn new(
        settings: Settings,
        clock: Arc<dyn Clock>,
        _progress: Arc<crate::progress::Progress>,
    ) -> Result<Self, SinkError> {
        if settings.name.is_empty() || settings.name.contains('/') {
            return Err(SinkError::Stop(format!(
                "{:?} cannot begin a file's name: call the sink something else",
                settings.name
            )));
        }
        if settings.max_file_bytes == 0 {
            return Err(SinkError::Stop("max_file_bytes is 0: no event fits".to_owned()));
        }
        Ok(Self { shared: Arc::new(Shared { settings, clock, writer: Arc::default() }) })
    }
}

impl Sink for File {
    fn lane(&self, partition: Arc<PartitionId>) -> Box<dyn Lane> {
        Box::new(FileLane { partition, shared: Arc::clone(&self.shared) })
    }

    fn window_bytes(&self) -> u64 {
        self.shared.settings.batch.max_bytes as u64
    }

    fn batch_limits(&self) -> BatchLimits {
        self.shared.settings.batch
    }
}

struct FileLane {
    partition: Arc<PartitionId>,
    shared: Arc<Shared>,
}

impl Lane for FileLane {
    fn resume(&mut self, _local: Local) -> BoxFuture<'_, Result<Resumed, SinkError>> {
        Box::pin(async {
            let (shared, partition) = (Arc::clone(&self.shared), Arc::clone(&self.partition));
            let found = self
                .turn(move |writer| {
                    let open = match writer.take() {
                        Some(open) => open,
                        None => Writer::open(RealDisk, shared.settings.clone(), Arc::clone(&shared.clock))?,
                    };
                    Ok(writer.insert(open).checkpoint(&partition))
                })
                .await?;
            Ok(found.map_or(Destination::Nothing, Destination::At).into())
        })
    }

    fn deliver(&mut self, batch: Arc<Batch>) -> BoxFuture<'_, Result<Progress, SinkError>> {
        Box::pin(async move {
            let (partition, format) = (Arc::clone(&self.partition), self.shared.settings.format);
            let part = blocking(move || Ok(render(&partition, format, &batch))).await?;
            let (partition, through) = (Arc::clone(&self.partition), part.through());
            self.turn(move |writer| match writer {
                Some(writer) => writer.commit(&partition, &part),
                None => Err(SinkError::Reconnect("the files are opened anew after a failure".to_owned())),
            })
            .await?;
            Ok(Progress { confirmed: Some(through), ..Progress::default() })
        })
    }

    fn settle(&mut self) -> BoxFuture<'_, Result<Progress, SinkError>> {
        // All is confirmed as it is delivered, so there is never anything to wait for.
        Box::pin(std::future::pending())
    }
}

impl FileLane {
    /// Does `work` when it is this lane's turn. A failure closes the files: what is on disk now is for the next resume
    /// to find out.
    async fn turn<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Option<Writer<RealDisk>>) -> Result<T, SinkError> + Send + 'static,
    ) -> Result<T, SinkError> {
        let mut writer: OwnedMutexGuard<_> = Arc::clone(&self.shared.writer).lock_owned().await;
        blocking(move || {
            let outcome = work(&mut writer);
            if outcome.is_err() {
                *writer = None;
            }
            outcome
        })
        .await
    }
}

fn render(partition: &PartitionId, format: Format, batch: &Batch) -> Part {
    let mut part = Part::new(batch.expected, batch.through);
    for (offset, event) in batch.wanted() {
        part.add(batch.checkpoint_at(*offset), |lines| write_line(lines, format, partition, *offset, event));
    }
    part
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SinkError> + Send + 'static,
) -> Result<T, SinkError> {
    match spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(failed) if failed.is_panic() => std::panic::resume_unwind(failed.into_panic()),
        Err(_) => Err(SinkError::Reconnect("the agent is shutting down".to_owned())),
    }
}
