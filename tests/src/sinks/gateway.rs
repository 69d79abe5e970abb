//! A gateway without sources: a buffer in a directory of its own, and deliveries from it. Its files can be copied at any
//! moment, as a kill, a backup or a lying disk would leave them.

use std::{
    collections::BTreeMap,
    fs,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    sync::Arc,
};

use forebay::{
    contract::{HubId, Shutdown, Sink},
    delivery::{ControlTable, Delivery},
    fence::Fences,
    progress::{Condition, Progress},
};
use forebay_buffer::{
    AppendError, Appended, Batch, Buffer, DeadLetter, DeadLetterFilter, Durability, Error, Event, Loss, Numbering,
    Offset, Options, Start, StreamLimits, Timestamp, WhenFull,
    clock::{Clock, Reading},
};
use tempfile::TempDir;
use tokio::{sync::watch, task::JoinHandle};

use super::PATIENCE;

const FILE: &str = "buffer.db";

/// No test here is about time.
#[derive(Debug)]
struct StoppedClock;

impl Clock for StoppedClock {
    fn now(&self) -> Reading {
        Reading { wall: Timestamp(0), since_boot: std::time::Duration::from_secs(1), synchronised: false }
    }
    fn boot_id(&self) -> u128 {
        1
    }
}

/// The gateway. Dropping it is a kill.
pub struct Gateway {
    /// The buffer, open.
    pub buffer: Buffer,
    /// Shared by its deliveries.
    pub fences: Fences,
    /// The hubs that streams come from, whose partitions other gateways deliver too.
    pub hubs: BTreeMap<String, Arc<HubId>>,
    /// Where its deliveries say how far they are, if anywhere.
    pub control: Option<ControlTable>,
    directory: TempDir,
}

/// The buffer's files at one moment.
#[derive(Clone)]
pub struct Image(BTreeMap<String, Vec<u8>>);

impl Image {
    /// What is in `directory` now.
    pub fn of(directory: &Path) -> Self {
        let entries = fs::read_dir(directory).expect("the directory can be read");
        let names = entries.map(|entry| entry.expect("the directory can be read").file_name());
        let names = names.filter_map(|name| name.into_string().ok()).filter(|name| !name.ends_with("-shm"));
        Self(names.filter_map(|name| Some((name.clone(), fs::read(directory.join(name)).ok()?))).collect())
    }
}

impl Default for Gateway {
    fn default() -> Self {
        Self::from_image(&Image(BTreeMap::new()))
    }
}

impl Gateway {
    /// A gateway that finds these files when it starts.
    pub fn from_image(image: &Image) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        for (name, bytes) in &image.0 {
            fs::write(directory.path().join(name), bytes).expect("there is room");
        }
        let mut options = Options::new(directory.path().join(FILE), Arc::new(StoppedClock));
        options.durability = Durability::ProcessCrash;
        let buffer = options.open().expect("the buffer opens");
        Self { buffer, fences: Fences::default(), hubs: BTreeMap::new(), control: None, directory }
    }

    /// Where the buffer's files are.
    pub fn directory(&self) -> PathBuf {
        self.directory.path().to_owned()
    }

    /// Its files as they are now.
    pub fn image(&self) -> Image {
        Image::of(self.directory.path())
    }

    /// Closes the buffer in order, and opens it again.
    pub fn reopen(self) -> Self {
        self.buffer.close();
        Self::from_image(&self.image())
    }

    /// Killed, and started again.
    pub fn kill(self) -> Self {
        Self::from_image(&self.image())
    }

    /// A stream that holds as much as there is room for.
    pub fn stream(&self, name: &str) {
        let limits = StreamLimits { max_bytes: 64 << 20, max_age: None, when_full: WhenFull::Backpressure };
        self.buffer.declare_stream(name, limits).expect("the stream is declared");
    }

    /// A sink of these streams, from the oldest event on.
    pub fn sink(&self, name: &str, streams: &[&str]) {
        self.sink_from(name, streams, Start::Oldest);
    }

    /// A sink of these streams.
    pub fn sink_from(&self, name: &str, streams: &[&str], start: Start) {
        self.buffer.declare_sink(name, streams, start, 64 * 1024).expect("the sink is declared");
    }

    /// Appends events whose bodies are these numbers to partition `0`.
    pub fn append(&self, stream: &str, numbers: RangeInclusive<u64>) {
        self.append_to(stream, "0", numbers.map(|number| number.to_string()));
    }

    /// Appends events with these bodies, as one batch.
    pub fn append_to(&self, stream: &str, partition: &str, bodies: impl IntoIterator<Item = String>) -> Appended {
        let partition = self.buffer.partition(stream, partition, Numbering::Assigned).expect("the partition opens");
        let events = bodies.into_iter().map(|body| Event::new(Timestamp(1), body)).collect();
        let encoded = partition.encode(Batch { events, ..Batch::default() }).expect("it can be encoded");
        partition.append(encoded).wait().expect("it is on disk")
    }

    /// Appends events of shared offsets, whose bodies are the offsets.
    pub fn append_shared(&self, stream: &str, created: i64, offsets: RangeInclusive<i64>) {
        assert!(self.try_append_shared(stream, created, offsets), "there is room");
    }

    /// The same, if there is room.
    pub fn try_append_shared(&self, stream: &str, created: i64, offsets: RangeInclusive<i64>) -> bool {
        let partition = self.buffer.partition(stream, "0", Numbering::Shared { created }).expect("the partition opens");
        let events = offsets.clone().map(|offset| Event::new(Timestamp(1), offset.to_string())).collect();
        let batch = Batch { events, offsets: offsets.map(Offset).collect(), ..Batch::default() };
        match partition.append(partition.encode(batch).expect("it can be encoded")).wait() {
            Err(AppendError::Full(_)) => false,
            outcome => outcome.map(|_| true).expect("it is on disk"),
        }
    }

    /// Begins to deliver.
    pub fn deliver(&self, sink: &str, streams: &[&str], destination: Arc<dyn Sink>) -> Running {
        self.deliver_renamed(sink, streams, destination, &[])
    }

    /// Begins to deliver streams, some of which had another name before.
    pub fn deliver_renamed(
        &self,
        sink: &str,
        streams: &[&str],
        destination: Arc<dyn Sink>,
        renamed: &[(&str, &str)],
    ) -> Running {
        let progress = Progress::new(format!("sink {sink}"));
        let delivery = Delivery {
            name: sink.to_owned(),
            sink: destination,
            buffer: self.buffer.clone(),
            streams: streams.iter().map(|stream| (*stream).to_owned()).collect(),
            renamed_from: renamed.iter().map(|(now, before)| ((*now).to_owned(), (*before).to_owned())).collect(),
            hubs: self.hubs.clone(),
            control: self.control.clone(),
            max_bytes_per_second: None,
            progress: Arc::clone(&progress),
            fences: self.fences.clone(),
        };
        let (switch, shutdown) = Shutdown::new();
        Running { switch, task: tokio::spawn(delivery.run(shutdown)), progress }
    }

    /// All dead letters.
    pub fn dead_letters(&self) -> Vec<DeadLetter> {
        let filter = DeadLetterFilter { limit: usize::MAX, ..DeadLetterFilter::default() };
        let mut inspector = self.buffer.inspector().expect("the file can be read");
        inspector.dead_letters(&filter).expect("the file can be read")
    }

    /// The loss ledger.
    pub fn losses(&self) -> Vec<Loss> {
        self.buffer.inspector().and_then(|mut inspector| inspector.losses()).expect("the file can be read")
    }
}

/// A delivery at work. Dropping it is a kill.
pub struct Running {
    switch: watch::Sender<bool>,
    task: JoinHandle<Result<(), Error>>,
    /// How it is getting on.
    pub progress: Arc<Progress>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Running {
    /// Stops it in order.
    pub async fn stop(mut self) {
        let _ = self.switch.send(true);
        let ended = tokio::time::timeout(PATIENCE, &mut self.task).await.expect("it stops");
        ended.expect("it does not panic").expect("the buffer is whole");
    }

    /// Kills it, and returns when nothing of it runs any more.
    pub async fn kill(mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
    }

    /// Waits until a lane is in a condition for which `is` has words, and returns them.
    pub async fn until(&self, lane: &str, is: impl Fn(&Condition) -> Option<String>) -> String {
        let wait = async {
            loop {
                let lanes = self.progress.lanes();
                if let Some(words) = lanes.get(lane).and_then(|since| is(&since.condition)) {
                    return words;
                }
                assert!(!self.task.is_finished(), "the delivery has ended: {lanes:?}");
                tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            }
        };
        match tokio::time::timeout(PATIENCE, wait).await {
            Ok(words) => words,
            Err(_) => panic!("{lane} never came there: {:?}", self.progress.lanes()),
        }
    }

    /// Waits until a lane has stopped for good, and returns what it says.
    pub async fn stopped(&self, lane: &str) -> String {
        self.until(lane, |condition| match condition {
            Condition::Stopped(why) => Some(why.clone()),
            _ => None,
        })
        .await
    }

    /// Waits until a lane waits for something outside, and returns what it says.
    pub async fn waiting(&self, lane: &str) -> String {
        self.waiting_for(lane, "").await
    }

    /// The same, until it says these words.
    pub async fn waiting_for(&self, lane: &str, words: &str) -> String {
        self.until(lane, |condition| match condition {
            Condition::Waiting(why) if why.contains(words) => Some(why.clone()),
            _ => None,
        })
        .await
    }
}
