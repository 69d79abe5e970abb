//! Standard output: a line for each event. It cannot say what it has had, so a crash may repeat the last batch.

use std::{
    io::{self, Write},
    sync::Arc,
};

use forebay_buffer::clock::Clock;
use tokio::task::spawn_blocking;

use super::{Format, write_line};
use crate::contract::{
    Batch, BatchLimits, BoxFuture, Destination, Lane, Local, PartitionId, Progress, Resumed, Sink, SinkError,
};

/// What the config says of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// What a line holds.
    pub format: Format,
    /// Limits of one batch.
    pub batch: BatchLimits,
}

type Output = Arc<tokio::sync::Mutex<dyn Write + Send>>;

/// Writes to standard output. Lanes take turns, a batch at a time.
pub struct Stdout {
    settings: Settings,
    output: Output,
}

impl Stdout {
    /// Writes to the standard output of this process.
    pub fn new(settings: Settings, _clock: Arc<dyn Clock>, _progress: Arc<crate::progress::Progress>) -> Self {
        Self::writing_to(settings, io::stdout())
    }

    /// Writes to `output` instead.
    fn writing_to(settings: Settings, output: impl Write + Send + 'static) -> Self {
        Self { settings, output: Arc::new(tokio::sync::Mutex::new(output)) }
    }
}

impl Sink for Stdout {
    fn lane(&self, partition: Arc<PartitionId>) -> Box<dyn Lane> {
        Box::new(StdoutLane { partition, format: self.settings.format, output: Arc::clone(&self.output) })
    }

    fn window_bytes(&self) -> u64 {
        self.settings.batch.max_bytes as u64
    }

    fn batch_limits(&self) -> BatchLimits {
        self.settings.batch
    }
}

struct StdoutLane {
    partition: Arc<PartitionId>,
    format: Format,
    output: Output,
}

impl Lane for StdoutLane {
    fn resume(&mut self, _local: Local) -> BoxFuture<'_, Result<Resumed, SinkError>> {
        Box::pin(async { Ok(Destination::Unknown.into()) })
    }

    fn deliver(&mut self, batch: Arc<Batch>) -> BoxFuture<'_, Result<Progress, SinkError>> {
        let (partition, format, output) = (Arc::clone(&self.partition), self.format, Arc::clone(&self.output));
        Box::pin(async move {
            // One turn at a time, so that a reader who does not read blocks one thread and not one for each lane.
            let mut output = output.lock_owned().await;
            let written = spawn_blocking(move || {
                let mut lines = Vec::new();
                for (offset, event) in batch.wanted() {
                    write_line(&mut lines, format, &partition, *offset, event);
                }
                output.write_all(&lines)?;
                output.flush()?;
                Ok(batch.through)
            });
            match written.await.unwrap_or_else(|failed| Err(io::Error::other(failed))) {
                Ok(through) => Ok(Progress { confirmed: Some(through), ..Progress::default() }),
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(SinkError::Stop(
                    "nobody reads standard output any more: start forebay again with a reader behind it".to_owned(),
                )),
                Err(error) => {
                    Err(SinkError::Retry { message: format!("writing to standard output: {error}"), after: None })
                }
            }
        })
    }

    fn settle(&mut self) -> BoxFuture<'_, Result<Progress, SinkError>> {
        // All is confirmed as it is delivered, so there is never anything to wait for.
        Box::pin(std::future::pending())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use forebay_buffer::{Checkpoint, Event, Generation, Numbering, Offset, Tag, Timestamp};

    use super::*;

    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().map_or(Ok(0), |mut held| held.write(bytes))
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Broken;

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn lane(output: impl Write + Send + 'static) -> Box<dyn Lane> {
        let batch = BatchLimits { max_events: 10, max_bytes: 1000 };
        let numbering = Numbering::Assigned;
        let partition = PartitionId { stream: "s".into(), renamed_from: None, name: "0".into(), numbering, hub: None };
        Stdout::writing_to(Settings { format: Format::Body, batch }, output).lane(Arc::new(partition))
    }

    fn batch(skipped: Vec<Offset>) -> Arc<Batch> {
        let events = (1..=3).map(|n| (Offset(n), Event::new(Timestamp(0), n.to_string()))).collect();
        let through = Checkpoint { generation: Generation(1), tag: Tag(1), offset: Offset(3) };
        Arc::new(Batch { events, skipped, expected: None, through, tags: Vec::new() })
    }

    #[tokio::test]
    async fn a_batch_is_written_without_what_is_skipped_and_confirmed_at_once() {
        let output = Arc::new(Mutex::new(Vec::new()));
        let batch = batch(vec![Offset(2)]);
        let progress = lane(Shared(Arc::clone(&output))).deliver(Arc::clone(&batch)).await;
        assert_eq!(progress, Ok(Progress { confirmed: Some(batch.through), ..Progress::default() }));
        assert_eq!(*output.lock().expect("nobody panicked"), b"1\n3\n");
    }

    #[tokio::test]
    async fn a_reader_that_went_away_stops_the_lane() {
        assert!(matches!(lane(Broken).deliver(batch(Vec::new())).await, Err(SinkError::Stop(_))));
    }
}
