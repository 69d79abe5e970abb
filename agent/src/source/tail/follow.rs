//! Following one path: through growth, truncation, rotation and disappearance.

use std::{
    collections::VecDeque,
    fs::File,
    io,
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use bytes::Bytes;
use forebay_buffer::clock::Clock;
use tokio::{sync::Notify, time};

use super::{
    Settings,
    file::{self, FileId, Look},
    locate::{Located, Origin, locate},
    patterns::Patterns,
    position::{self, Identity},
    reader::{OwnLook, Reader},
    registry::Registry,
    rotation::{self, Rotated},
    slots::{Slot, Slots},
};
use crate::{
    contract::{Intake, IntakeError, Shutdown, SourceBatch},
    progress::{Condition, Progress},
    source::batch::{LineBatch, Window},
};

/// Chunks that one file may take before the next has its turn.
const TURN_CHUNKS: usize = 16;
/// What counts as a few lines.
const TRICKLE_BYTES: u64 = 4 * 1024;
/// When a follower looks at a file that has not changed, as far as anyone has said.
const OWN_LOOK_AFTER: Duration = Duration::from_secs(5);
/// Looks for which a rotated file must have stayed at its end before it counts as finished: whoever writes to it is
/// told of the rotation after it has happened.
const QUIET_LOOKS: u32 = 4;
/// Time between these looks, at most.
const QUIET_PAUSE: Duration = Duration::from_millis(250);

/// How long a rotated file is watched after it counted as finished.
const WATCH_FINISHED: Duration = Duration::from_secs(60);
/// Rotated files of one path that are watched at the same time.
const MAX_WATCHED: usize = 4;

/// What all followers of a source share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) settings: Settings,
    pub(super) patterns: Patterns,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) progress: Arc<Progress>,
    pub(super) registry: Registry,
    /// For reading. A slot is held until what was read is on disk, so that there are never more batches in memory than
    /// slots times window, however many files there are (Promise 5).
    pub(super) reads: Slots,
    /// For reading a few lines, which would else wait long for their turn where a disk is slow to sync.
    pub(super) trickles: Slots,
    /// For everything quick.
    pub(super) looks: Slots,
}

/// Follows one path.
pub(super) struct Follower {
    shared: Arc<Shared>,
    intake: Intake,
    path: PathBuf,
    /// The partition, and what the path is called in log lines.
    name: String,
    /// Says that what is at the path has changed since it last said so.
    changed: Arc<Notify>,
    state: State,
    lines: LineBatch,
    window: Window,
    /// Files read to their end that a pattern still matches under another name.
    finished: Vec<Identity>,
    /// Files that count as finished, the latest last, watched for what is written to them still.
    left: VecDeque<Left>,
    quiet_looks: u32,
    /// Whether a file was read to its end, so that the stored position is in one that is done with.
    has_finished: bool,
    is_troubled: bool,
}

/// A file that counts as finished.
struct Left {
    file: Arc<File>,
    /// What it is called now.
    name: String,
    /// The byte after the last one that was taken, or reported.
    end: u64,
    since: Instant,
}

enum State {
    Closed(Origin),
    Open(Box<Reader>),
    /// The file was read to its end: these came after it, oldest first, and then what is at the path.
    Between(VecDeque<PathBuf>),
}

/// What a step has brought.
enum Step {
    /// There may be more at once.
    More,
    /// Nothing to do for a while.
    Idle,
    /// The file may be finished: that is known soon.
    Quiet,
    /// Nothing to do until what is at the path changes.
    Settled,
    /// There is nothing to follow at the path, or what is there (this file) is another follower's.
    Over(Option<FileId>),
}

impl Follower {
    /// Of `path`, from `origin` on. `finished` is what the stored position remembers.
    pub(super) fn new(
        shared: Arc<Shared>,
        intake: Intake,
        path: PathBuf,
        name: String,
        changed: Arc<Notify>,
        origin: Origin,
        finished: Vec<Identity>,
    ) -> Self {
        let headers = vec![("path".to_owned(), path.to_string_lossy().as_ref().into())];
        let lines = LineBatch::new(shared.settings.format, headers);
        let (state, window) = (State::Closed(origin), Window::default());
        Self {
            shared,
            intake,
            path,
            name,
            changed,
            state,
            lines,
            window,
            finished,
            left: VecDeque::new(),
            quiet_looks: 0,
            has_finished: false,
            is_troubled: false,
        }
    }

    /// Follows until shutdown, or until there is nothing to follow: then the answer is the file at the path that is
    /// another follower's, if that is why. What was handed over is on disk when this returns.
    pub(super) async fn run(mut self, mut shutdown: Shutdown) -> Result<Option<FileId>, IntakeError> {
        let outcome = tokio::select! {
            biased;
            () = shutdown.requested() => Ok(None),
            outcome = self.follow() => outcome,
        };
        let settled = self.window.settle().await;
        if let State::Open(reader) = &self.state {
            self.shared.registry.release(reader.id());
        }
        self.recovered();
        settled.and(outcome)
    }

    async fn follow(&mut self) -> Result<Option<FileId>, IntakeError> {
        loop {
            let step = match &mut self.state {
                State::Closed(_) => self.open().await?,
                State::Between(_) => self.open_next().await?,
                State::Open(_) => self.look().await?,
            };
            if !matches!(step, Step::More) {
                self.report_late_writes().await;
            }
            match step {
                Step::More => {}
                Step::Idle => time::sleep(self.shared.settings.poll_interval).await,
                Step::Quiet => time::sleep(self.shared.settings.poll_interval.min(QUIET_PAUSE)).await,
                // Whoever says so may hang with another file: then this one looks for itself.
                Step::Settled => drop(time::timeout(OWN_LOOK_AFTER, self.changed.notified()).await),
                Step::Over(file) => return Ok(file),
            }
        }
    }

    async fn open(&mut self) -> Result<Step, IntakeError> {
        let State::Closed(origin) = &self.state else { unreachable!("only called when closed") };
        let (path, origin) = (self.path.clone(), origin.clone());
        // Without a stored position a restart before the first line would begin at a later end.
        let must_store = matches!(origin, Origin::End { .. });
        let may_be_elsewhere = matches!(origin, Origin::Stored(_));
        let located = self.quick(move || locate(&path, &origin)).await;
        match located {
            Err(error) => Ok(self.trouble("open", &error)),
            Ok(None) => Ok(Step::Over(None)),
            Ok(Some(located)) => {
                let id = located.id;
                if self.adopt(located, must_store).await? {
                    return Ok(Step::More);
                }
                if may_be_elsewhere {
                    self.has_finished = true;
                    self.state = State::Closed(Origin::Beginning);
                    return Ok(Step::More);
                }
                Ok(Step::Over(Some(id)))
            }
        }
    }

    async fn open_next(&mut self) -> Result<Step, IntakeError> {
        let State::Between(candidates) = &self.state else { unreachable!("only called between files") };
        let Some(next) = candidates.front().cloned() else {
            self.state = State::Closed(Origin::Beginning);
            return Ok(Step::More);
        };
        match self.quick(move || locate(&next, &Origin::Beginning)).await {
            Err(error) => return Ok(self.trouble("open a rotated file of", &error)),
            Ok(Some(located)) => {
                if self.adopt(located, true).await? {
                    return Ok(Step::More);
                }
            }
            Ok(None) => {}
        }
        if let State::Between(candidates) = &mut self.state {
            candidates.pop_front();
        }
        Ok(Step::More)
    }

    /// Begins with a file, unless it is another follower's.
    async fn adopt(&mut self, located: Located, must_store: bool) -> Result<bool, IntakeError> {
        if !self.shared.registry.claim(located.id, &located.head, &self.path) {
            return Ok(false);
        }
        if let Some(warning) = &located.warning {
            log::warn!("{}: {warning}", self.shared.progress.subject());
        }
        self.recovered();
        self.quiet_looks = 0;
        // Whatever had its inode number is gone.
        self.finished.retain(|file| file.inode != located.id.inode);
        self.state = State::Open(Box::new(Reader::new(located, self.shared.settings.max_event_bytes)));
        if must_store || self.has_finished {
            self.hand_over().await?;
            self.has_finished = false;
        }
        Ok(true)
    }

    async fn look(&mut self) -> Result<Step, IntakeError> {
        let (own, path) = (self.reader().look(), self.path.clone());
        let looks = self.quick(move || Ok::<_, io::Error>((own()?, file::look(&path)?))).await;
        let (OwnLook { look, is_rewritten }, at_path) = match looks {
            Ok(looks) => looks,
            Err(error) => return Ok(self.reopen(&error)),
        };
        self.recovered();
        let reader = self.reader();
        reader.note(look);
        if is_rewritten {
            let lost = reader.restart();
            let unfinished =
                if lost > 0 { format!(" ({lost} bytes of an unfinished line are gone)") } else { String::new() };
            log::info!(
                "{}: {} was truncated: from its beginning{unfinished}",
                self.shared.progress.subject(),
                self.name
            );
        }
        if self.reader().unread_bytes() > 0 {
            self.quiet_looks = 0;
            return self.take_turn().await;
        }
        self.at_end(look, at_path).await
    }

    /// Reads on, up to the end or until it is another file's turn.
    async fn take_turn(&mut self) -> Result<Step, IntakeError> {
        let is_trickle = self.reader().unread_bytes() <= TRICKLE_BYTES;
        let slots = if is_trickle { &self.shared.trickles } else { &self.shared.reads };
        let mut slot = slots.clone().take().await;
        for _ in 0..TURN_CHUNKS {
            let read = self.reader().read();
            let chunk = match self.in_slot(&mut slot, read).await {
                Ok(read) => self.reader().take(read),
                Err(error) => {
                    self.hand_over_lines().await?;
                    self.window.settle().await?;
                    return Ok(self.reopen(&error));
                }
            };
            if chunk.is_empty() {
                break;
            }
            self.take_lines(chunk).await?;
            if self.reader().unread_bytes() == 0 {
                break;
            }
        }
        self.hand_over_lines().await?;
        self.window.settle().await?;
        self.reader().park();
        // A pause at the end gives a busy writer time to fill the next batch: fewer syncs, less wear.
        Ok(if self.reader().unread_bytes() > 0 { Step::More } else { Step::Idle })
    }

    async fn take_lines(&mut self, mut chunk: Bytes) -> Result<(), IntakeError> {
        let now = self.shared.clock.now().wall;
        while let Some(line) = self.reader().next_line(&mut chunk) {
            self.lines.push(line, now);
            if self.lines.is_full() {
                self.hand_over().await?;
            }
        }
        Ok(())
    }

    async fn hand_over_lines(&mut self) -> Result<(), IntakeError> {
        if self.lines.is_empty() { Ok(()) } else { self.hand_over().await }
    }

    /// Hands over what was gathered, with the position behind it: they are stored together, or not at all (Promise 2).
    async fn hand_over(&mut self) -> Result<(), IntakeError> {
        let State::Open(reader) = &self.state else { unreachable!("lines come from an open file") };
        let position = reader.position(&self.finished).encode();
        let batch: SourceBatch = self.lines.take(Some(position));
        self.window.submit(&self.intake, &self.name, batch).await
    }

    /// At the end of the file: waits for more, or moves on to what came after it.
    async fn at_end(&mut self, own: Look, at_path: Option<Look>) -> Result<Step, IntakeError> {
        let successor = at_path.filter(|look| look.id != own.id);
        let is_deleted = own.links == 0 && at_path.is_none();
        if successor.is_none() && !is_deleted {
            self.quiet_looks = 0;
            return Ok(if at_path.is_some() { Step::Settled } else { Step::Idle });
        }
        let (path, id) = (self.path.clone(), own.id);
        let rotated = match self.quick(move || rotation::trace(&path, id)).await {
            Ok(rotated) => rotated,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Rotated::default(),
            Err(error) => return Ok(self.trouble("look for rotated files of", &error)),
        };
        // While what came after it is empty, its writer has not moved on.
        let moved_on = is_deleted || !rotated.newer.is_empty() || successor.is_some_and(|look| look.size_bytes > 0);
        self.quiet_looks = if moved_on { self.quiet_looks + 1 } else { 0 };
        if !moved_on {
            return Ok(Step::Idle);
        }
        // What was rotated twice has no writer any more.
        let needed = if rotated.newer.is_empty() { QUIET_LOOKS } else { 1 };
        if self.quiet_looks <= needed {
            return Ok(Step::Quiet);
        }
        self.finish(own, rotated).await
    }

    /// Takes a last line that has no end, and goes on to the next file.
    async fn finish(&mut self, own: Look, rotated: Rotated) -> Result<Step, IntakeError> {
        if self.reader().is_parked() {
            let mut slot = self.shared.reads.clone().take().await;
            let read = self.reader().read();
            match self.in_slot(&mut slot, read).await {
                Ok(read) => drop(self.reader().take(read)),
                Err(error) => return Ok(self.reopen(&error)),
            }
        }
        if let Some(line) = self.reader().finish() {
            self.lines.push(line, self.shared.clock.now().wall);
            self.hand_over_lines().await?;
        }
        let identity = self.reader().identity();
        // If it has gone to another folder, it may be followed there.
        if rotated.now_at.as_ref().map_or(own.links > 0, |path| self.shared.patterns.matches(path)) {
            self.finished.push(identity);
        }
        if !rotated.inodes.is_empty() {
            position::forget_gone(&mut self.finished, &rotated.inodes);
        }
        let name = rotated.now_at.as_deref().unwrap_or(&self.path).display().to_string();
        let (file, end) = (self.reader().file(), self.reader().position(&[]).offset);
        if self.left.len() == MAX_WATCHED {
            self.left.pop_front();
        }
        self.left.push_back(Left { file, name, end, since: Instant::now() });
        self.shared.registry.finish(identity, &self.path);
        self.has_finished = true;
        self.state = State::Between(rotated.newer.into());
        Ok(Step::More)
    }

    /// Says what was written to a file after it counted as finished: those lines are not taken.
    async fn report_late_writes(&mut self) {
        if self.left.is_empty() {
            return;
        }
        let files: Vec<_> = self.left.iter().map(|left| left.file.clone()).collect();
        let look = move |file: Arc<File>| file::look_at(&file).map_or(0, |look| look.size_bytes);
        let sizes = self.quick(move || files.into_iter().map(look).collect::<Vec<_>>()).await;
        for (left, size_bytes) in self.left.iter_mut().zip(sizes) {
            let late_bytes = size_bytes.saturating_sub(left.end);
            if late_bytes > 0 {
                log::warn!(
                    "{}: {late_bytes} bytes were written to {} from byte {} on, after it was rotated and its successor \
                     begun: they are not read (whoever writes must open the new file sooner)",
                    self.shared.progress.subject(),
                    left.name,
                    left.end
                );
                self.shared.progress.errors.fetch_add(1, Ordering::Relaxed);
                left.end = size_bytes;
            }
        }
        self.left.retain(|left| left.since.elapsed() < WATCH_FINISHED);
    }

    fn reader(&mut self) -> &mut Reader {
        match &mut self.state {
            State::Open(reader) => reader,
            _ => unreachable!("only called with an open file"),
        }
    }

    async fn quick<T: Send + 'static>(&mut self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let mut slot = self.shared.looks.clone().take().await;
        self.in_slot(&mut slot, work).await
    }

    async fn in_slot<T: Send + 'static>(&mut self, slot: &mut Slot, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (progress, name, is_troubled) = (&self.shared.progress, &self.name, &mut self.is_troubled);
        let hung = || {
            *is_troubled = true;
            let why = "the file does not answer: is its file system mounted, and its server up?";
            progress.enter(name, Condition::Waiting(why.to_owned()));
        };
        slot.run(work, hung).await
    }

    /// Gives the open file up after an error, to go on from the last line taken when it can be read again.
    fn reopen(&mut self, error: &io::Error) -> Step {
        if let State::Open(reader) = &self.state {
            let position = reader.position(&self.finished);
            self.shared.registry.release(reader.id());
            self.state = State::Closed(Origin::Stored(position));
        }
        self.trouble("read", error)
    }

    fn trouble(&mut self, doing: &str, error: &io::Error) -> Step {
        let remedy = match error.kind() {
            io::ErrorKind::PermissionDenied => "let the agent's user or group read it and its folder",
            _ => "look at its file system",
        };
        let why = format!("cannot {doing} {}: {error}; {remedy}", self.path.display());
        if !self.is_troubled {
            self.shared.progress.errors.fetch_add(1, Ordering::Relaxed);
        }
        self.shared.progress.enter(&self.name, Condition::Waiting(why));
        self.is_troubled = true;
        Step::Idle
    }

    fn recovered(&mut self) {
        if std::mem::take(&mut self.is_troubled) {
            self.shared.progress.enter(&self.name, Condition::Running);
            self.shared.progress.leave(&self.name);
        }
    }
}
