//! Standard input: each line an event.
//!
//! There is no position, for what was read cannot be read again: what is in flight when the process dies is for
//! whoever writes into the pipe to send again. Short of that nothing is lost: what was read and is not on disk outlives
//! the source, and is handed over again by the next one. Reading stops while the buffer holds back, and the pipe fills
//! up.

use std::{
    collections::VecDeque,
    io::{self, Read},
    sync::{Arc, LazyLock, Mutex},
};

use bytes::Bytes;
use forebay_buffer::{Timestamp, clock::Clock};
use tokio::sync::mpsc;

use super::{
    LineFormat,
    batch::{LineBatch, Window},
    lines::LineSplitter,
};
use crate::{
    contract::{BoxFuture, Intake, IntakeError, Shutdown, Source, SourceBatch, SourceError},
    progress::{Condition, Progress},
};

/// The partition of everything that comes this way.
const PARTITION: &str = "0";
const CHUNK_BYTES: usize = 64 * 1024;

/// What the config says of standard input.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// What a line is.
    pub format: LineFormat,
    /// A longer line is refused.
    pub max_event_bytes: usize,
}

/// The source that reads standard input to its end.
pub struct Stdin {
    settings: Settings,
    clock: Arc<dyn Clock>,
    progress: Arc<Progress>,
    input: Arc<Mutex<Option<Input>>>,
}

/// The reading end, and what was read and is not yet an event.
///
/// A blocked read cannot be called off, so a thread reads, and what it has read must outlive the source: after a
/// reload the next source takes it up where this one stopped.
struct Input {
    chunks: mpsc::Receiver<io::Result<Bytes>>,
    rest: Bytes,
    splitter: LineSplitter,
    /// Handed over, and not on disk as far as we know: a window's worth at most.
    unacknowledged: VecDeque<SourceBatch>,
}

/// The process has one standard input.
static PROCESS_INPUT: LazyLock<Arc<Mutex<Option<Input>>>> =
    LazyLock::new(|| Arc::new(Mutex::new(Some(Input::start(io::stdin())))));

impl Stdin {
    /// Reads the process's standard input.
    pub fn new(settings: Settings, clock: Arc<dyn Clock>, progress: Arc<Progress>) -> Self {
        Self { settings, clock, progress, input: PROCESS_INPUT.clone() }
    }

    async fn run(&mut self, intake: Intake, mut shutdown: Shutdown) -> Result<(), SourceError> {
        let taken = self.input.lock().expect("no holder of this lock panics").take();
        let input = taken.ok_or_else(|| {
            SourceError::Stop("standard input is read by another source: keep one stdin source".to_owned())
        })?;
        let mut input = Lent { input: Some(input), home: self.input.clone() };
        let input = input.input.as_mut().expect("it is taken out when it is dropped");
        input.splitter.set_max_line_bytes(self.settings.max_event_bytes);
        self.progress.enter("", Condition::Running);

        let mut reading = Reading::new(intake, self.settings.format);
        reading.hand_over_again(input).await.map_err(not_taken)?;
        loop {
            reading.take_lines(input, self.clock.now().wall).await.map_err(not_taken)?;
            let chunk = tokio::select! {
                biased;
                () = shutdown.requested() => break,
                chunk = input.chunks.recv() => chunk,
            };
            match chunk {
                Some(Ok(chunk)) => input.rest = chunk,
                Some(Err(error)) => {
                    reading.settle(input).await.map_err(not_taken)?;
                    return Err(SourceError::Stop(format!("reading standard input: {error}; restart the agent")));
                }
                None => {
                    reading.finish(input, self.clock.now().wall).await.map_err(not_taken)?;
                    self.progress.enter("", Condition::Finished);
                    return Ok(());
                }
            }
        }
        reading.settle(input).await.map_err(not_taken)
    }
}

impl Source for Stdin {
    fn run<'a>(&'a mut self, intake: Intake, shutdown: Shutdown) -> BoxFuture<'a, Result<(), SourceError>> {
        Box::pin(self.run(intake, shutdown))
    }
}

fn not_taken(error: IntakeError) -> SourceError {
    SourceError::Retry(format!("handing over lines of standard input: {error}"))
}

/// One run's way into the buffer.
struct Reading {
    intake: Intake,
    window: Window,
    lines: LineBatch,
    /// Acknowledged batches that the input no longer remembers.
    forgotten: usize,
}

impl Reading {
    fn new(intake: Intake, format: LineFormat) -> Self {
        Self { intake, window: Window::default(), lines: LineBatch::new(format, Vec::new()), forgotten: 0 }
    }

    /// Begins with what the run before could not bring to disk.
    async fn hand_over_again(&mut self, input: &mut Input) -> Result<(), IntakeError> {
        for batch in input.unacknowledged.clone() {
            let outcome = self.window.submit(&self.intake, PARTITION, batch).await;
            self.forget(input, outcome)?;
        }
        Ok(())
    }

    /// Hands over every line that ends in what was read.
    async fn take_lines(&mut self, input: &mut Input, now: Timestamp) -> Result<(), IntakeError> {
        while let Some(line) = input.splitter.next_line(&mut input.rest) {
            self.lines.push(line, now);
            if self.lines.is_full() {
                self.hand_over(input).await?;
            }
        }
        self.hand_over(input).await
    }

    /// Hands over the last line, which may have no end, and waits until all is on disk.
    async fn finish(&mut self, input: &mut Input, now: Timestamp) -> Result<(), IntakeError> {
        if let Some(line) = input.splitter.finish() {
            self.lines.push(line, now);
            self.hand_over(input).await?;
        }
        self.settle(input).await
    }

    async fn hand_over(&mut self, input: &mut Input) -> Result<(), IntakeError> {
        if self.lines.is_empty() {
            return Ok(());
        }
        let batch = self.lines.take(None);
        input.unacknowledged.push_back(batch.clone());
        let outcome = self.window.submit(&self.intake, PARTITION, batch).await;
        self.forget(input, outcome)
    }

    async fn settle(&mut self, input: &mut Input) -> Result<(), IntakeError> {
        let outcome = self.window.settle().await;
        self.forget(input, outcome)
    }

    /// Lets go of what is on disk.
    fn forget(&mut self, input: &mut Input, outcome: Result<(), IntakeError>) -> Result<(), IntakeError> {
        input.unacknowledged.drain(..self.window.acknowledged() - self.forgotten);
        self.forgotten = self.window.acknowledged();
        outcome
    }
}

/// Brings the input home when the source stops, however it stops.
struct Lent {
    input: Option<Input>,
    home: Arc<Mutex<Option<Input>>>,
}

impl Drop for Lent {
    fn drop(&mut self) {
        *self.home.lock().expect("no holder of this lock panics") = self.input.take();
    }
}

impl Input {
    /// Starts the thread that reads. It ends with the input; a read that blocks keeps no process alive.
    fn start(mut from: impl Read + Send + 'static) -> Self {
        let (sender, chunks) = mpsc::channel(1);
        let read = move || {
            let mut buffer = vec![0; CHUNK_BYTES];
            loop {
                let chunk = match from.read(&mut buffer) {
                    Ok(0) => return,
                    Ok(size) => Ok(Bytes::copy_from_slice(&buffer[..size])),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => Err(error),
                };
                let failed = chunk.is_err();
                if sender.blocking_send(chunk).is_err() || failed {
                    return;
                }
            }
        };
        std::thread::Builder::new().name("stdin".to_owned()).spawn(read).expect("the system can start one thread");
        Self { chunks, rest: Bytes::new(), splitter: LineSplitter::new(0), unacknowledged: VecDeque::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::testing::{Behaviour, FakeIntake, clock};

    fn stdin(input: impl Read + Send + 'static, format: LineFormat) -> Stdin {
        let settings = Settings { format, max_event_bytes: 100 };
        let input = Arc::new(Mutex::new(Some(Input::start(input))));
        Stdin { settings, clock: clock(), progress: Progress::new("source stdin"), input }
    }

    #[tokio::test]
    async fn every_line_is_on_disk_when_it_finishes() {
        let text: String = (0..2_500).map(|n| format!("line {n}\n")).collect::<String>() + "the last";
        let mut source = stdin(io::Cursor::new(text.clone()), LineFormat::Lines);
        let fake = FakeIntake::start(Behaviour::Accept);
        let (_switch, shutdown) = Shutdown::new();
        source.run(fake.intake(), shutdown).await.expect("it finishes");
        // Promise 1: it finished, so all of it was acknowledged.
        assert_eq!(fake.acknowledged(PARTITION), text.lines().map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(source.progress.lanes()[""].condition, Condition::Finished);
    }

    #[tokio::test]
    async fn bad_json_and_long_lines_are_refused_and_reading_goes_on() {
        let text = format!("{{\"a\":1}}\r\nnope\n\"{}\"\n\n2\n", "x".repeat(200));
        let mut source = stdin(io::Cursor::new(text), LineFormat::Ndjson);
        let fake = FakeIntake::start(Behaviour::Accept);
        let (_switch, shutdown) = Shutdown::new();
        source.run(fake.intake(), shutdown).await.expect("it finishes");
        assert_eq!(fake.acknowledged(PARTITION), ["{\"a\":1}", "2"]);
        let refused = fake.refused(PARTITION);
        assert_eq!(refused[0].code, "malformed");
        assert_eq!(
            (refused[1].code.as_str(), refused[1].event.body.as_ref().map(Bytes::len)),
            ("too_large", Some(100))
        );
        assert!(refused[1].reason.contains("202 bytes"), "{}", refused[1].reason);
    }

    #[tokio::test]
    async fn it_stops_reading_while_the_buffer_holds_back() {
        let text = "x\n".repeat(1_000_000);
        let mut source = stdin(io::Cursor::new(text), LineFormat::Lines);
        let fake = FakeIntake::start(Behaviour::Withhold);
        let (_switch, shutdown) = Shutdown::new();
        let intake = fake.intake();
        let run = tokio::spawn(async move { source.run(intake, shutdown).await });
        fake.wait_for(|seen| seen.withheld() == Window::LIMIT).await;
        assert!(!run.is_finished());
        // Promise 5: the window is full, and letting one batch through brings exactly one more.
        fake.release(1);
        fake.wait_for(|seen| seen.withheld() == Window::LIMIT && seen.batches() == Window::LIMIT + 1).await;
        fake.behave(Behaviour::Accept);
        run.await.expect("no panic").expect("it finishes");
        assert_eq!(fake.acknowledged(PARTITION).len(), 1_000_000);
    }

    #[tokio::test]
    async fn the_next_source_goes_on_where_a_reload_stopped_the_last() {
        let (reader, mut writer) = io::pipe().expect("a pipe");
        let mut source = stdin(reader, LineFormat::Lines);
        let fake = FakeIntake::start(Behaviour::Accept);
        io::Write::write_all(&mut writer, b"one\nhalf of").expect("a write");
        let (switch, shutdown) = Shutdown::new();
        let first = source.run(fake.intake(), shutdown);
        let stop = async {
            fake.wait_for(|seen| seen.batches() == 1).await;
            switch.send(true).expect("the source listens");
        };
        tokio::join!(first, stop).0.expect("it stops");
        io::Write::write_all(&mut writer, b" two\n").expect("a write");
        drop(writer);
        let (_switch, shutdown) = Shutdown::new();
        source.run(fake.intake(), shutdown).await.expect("it finishes");
        assert_eq!(fake.acknowledged(PARTITION), ["one", "half of two"]);
    }

    #[tokio::test]
    async fn what_a_closed_buffer_did_not_take_is_handed_over_by_the_next_run() {
        let text: String = (0..5_000).map(|n| format!("line {n}\n")).collect();
        let mut source = stdin(io::Cursor::new(text.clone()), LineFormat::Lines);
        let fake = FakeIntake::start(Behaviour::Close);
        let (_switch, shutdown) = Shutdown::new();
        for _ in 0..3 {
            let outcome = source.run(fake.intake(), shutdown.clone()).await;
            assert!(matches!(outcome, Err(SourceError::Retry(_))), "{outcome:?}");
        }
        fake.behave(Behaviour::Accept);
        source.run(fake.intake(), shutdown).await.expect("it finishes");
        assert_eq!(fake.acknowledged(PARTITION), text.lines().map(str::to_owned).collect::<Vec<_>>());
    }
}
