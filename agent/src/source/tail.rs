//! Files that grow: each line an event, each path a partition.
//!
//! Files are found by patterns and looked at again and again; nothing depends on notifications, which network file
//! systems do not send. With each batch of lines goes the position behind it, so that lines and position are on disk
//! together: after any crash each line is there once (Promise 3).
//!
//! A file is an inode and its first bytes. Rotated by renaming, it is read to its end before the next one is begun,
//! after a restart too; files that were rotated in between come in their order. Truncated (`copytruncate`), it is read
//! from its beginning. Compressed files are never read: a file that was rotated and compressed while the agent was
//! down leaves a warning.
//!
//! Where a pattern matches rotated names too, a file that turns up under one is not new: each position also names the
//! files that were read to their end by its path, for as long as they are there ([`registry`]). Relied on: a rotation
//! renames a file once, and the next one comes later than it takes to look through the folder twice.
//!
//! One follower reads each path ([`follow`]); a few of them at a time, whatever else hangs ([`slots`]).

mod file;
mod follow;
mod locate;
mod patterns;
mod position;
mod reader;
mod registry;
mod rotation;
mod slots;
#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use forebay_buffer::{Numbering, clock::Clock};
use tokio::{
    sync::Notify,
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};

use self::{
    file::{FileId, Look},
    follow::{Follower, Shared},
    locate::Origin,
    patterns::{Found, Patterns, partition_name},
    position::Position,
    registry::Registry,
    slots::Slots,
};
use super::LineFormat;
use crate::{
    contract::{BoxFuture, Intake, IntakeError, Shutdown, Source, SourceBatch, SourceError},
    progress::{Condition, Progress},
};

/// Files that are read at the same time.
const READERS: usize = 4;
/// Files of which a few lines are read at the same time.
const TRICKLERS: usize = 32;
/// Quick looks at files at the same time.
const LOOKERS: usize = 4;
/// Holds no events, only the mark that the files of the first start were seen: with [`StartAt::End`] a later file is
/// read from its beginning.
const MARK_PARTITION: &str = "0";

/// What the config says of the files.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Patterns of paths, as a shell has them, and `**`.
    pub include: Vec<String>,
    /// Patterns of what to leave out. Without a slash: of file names.
    pub exclude: Vec<String>,
    /// What a line is.
    pub format: LineFormat,
    /// Where to begin with the files that are there when the source is started for the first time.
    pub start: StartAt,
    /// How often to look for more lines and for new files.
    pub poll_interval: Duration,
    /// Files that are followed at once.
    pub max_files: usize,
    /// A longer line is refused.
    pub max_event_bytes: usize,
}

/// Where to begin with a file that was there before the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StartAt {
    /// With its first line.
    #[default]
    Beginning,
    /// With the lines that are written from now on.
    End,
}

/// The source that follows files.
pub struct Tail {
    settings: Settings,
    clock: Arc<dyn Clock>,
    progress: Arc<Progress>,
}

impl Tail {
    /// Follows the files of `settings`.
    pub fn new(settings: Settings, clock: Arc<dyn Clock>, progress: Arc<Progress>) -> Self {
        Self { settings, clock, progress }
    }

    fn followers(&self, intake: Intake, shutdown: Shutdown) -> Result<Followers, SourceError> {
        let patterns = Patterns::new(&self.settings.include, &self.settings.exclude).map_err(SourceError::Stop)?;
        let shared = Arc::new(Shared {
            settings: self.settings.clone(),
            patterns,
            clock: self.clock.clone(),
            progress: self.progress.clone(),
            registry: Registry::default(),
            reads: Slots::new(READERS),
            trickles: Slots::new(TRICKLERS),
            looks: Slots::new(LOOKERS),
        });
        Ok(Followers {
            shared,
            intake,
            shutdown,
            stored: Vec::new(),
            following: HashMap::new(),
            passed_over: HashMap::new(),
            tasks: JoinSet::new(),
        })
    }

    async fn run(&mut self, intake: Intake, shutdown: Shutdown) -> Result<(), SourceError> {
        let mut followers = self.followers(intake, shutdown)?;
        self.progress.enter("", Condition::Running);
        followers.run().await
    }
}

impl Source for Tail {
    fn run<'a>(&'a mut self, intake: Intake, shutdown: Shutdown) -> BoxFuture<'a, Result<(), SourceError>> {
        Box::pin(self.run(intake, shutdown))
    }
}

/// Everything that is being followed.
struct Followers {
    shared: Arc<Shared>,
    intake: Intake,
    shutdown: Shutdown,
    /// Paths that have a position from an earlier run.
    stored: Vec<PathBuf>,
    following: HashMap<PathBuf, Watched>,
    /// Paths with nothing to follow: what is there (if it is a file at all) is read as another path.
    passed_over: HashMap<PathBuf, Option<FileId>>,
    tasks: JoinSet<(PathBuf, Result<Option<FileId>, IntakeError>)>,
}

/// A path that is followed, as the last search found it.
#[derive(Debug, Default)]
struct Watched {
    look: Option<Look>,
    /// Wakes the follower when something is different.
    changed: Arc<Notify>,
}

impl Watched {
    fn compare(&mut self, path: &Path) {
        let look = file::look(path).ok().flatten();
        if look != self.look {
            self.look = look;
            self.changed.notify_one();
        }
    }
}

impl Followers {
    async fn run(&mut self) -> Result<(), SourceError> {
        let mut shutdown = self.shutdown.clone();
        let mut from_end = self.is_first_start().await?;
        self.recall().await?;
        let mut ticks = interval(self.shared.settings.poll_interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = shutdown.requested() => break,
                Some(ended) = self.tasks.join_next() => self.forget(ended.expect("followers do not panic"))?,
                _ = ticks.tick() => {
                    let paths = tokio::select! {
                        () = shutdown.requested() => break,
                        paths = self.search() => paths,
                    };
                    self.start(paths, from_end).await?;
                    if from_end {
                        self.mark().await?;
                        from_end = false;
                    }
                }
            }
        }
        while let Some(ended) = self.tasks.join_next().await {
            self.forget(ended.expect("followers do not panic"))?;
        }
        Ok(())
    }

    /// Whether files are to be begun at their end: only those that are there when everything begins.
    async fn is_first_start(&self) -> Result<bool, SourceError> {
        if self.shared.settings.start == StartAt::Beginning {
            return Ok(false);
        }
        let resume = self.intake.resume(MARK_PARTITION, Numbering::Assigned).await.map_err(not_taken)?;
        Ok(resume.position.is_none())
    }

    /// Learns which paths have a position. (A path too long to be a partition's name is known when it is found.)
    async fn recall(&mut self) -> Result<(), SourceError> {
        let partitions = self.intake.partitions().await.map_err(not_taken)?;
        let paths = partitions.into_iter().map(|(name, _)| PathBuf::from(name));
        self.stored = paths.filter(|path| self.shared.patterns.matches(path)).collect();
        Ok(())
    }

    async fn mark(&self) -> Result<(), SourceError> {
        let batch = SourceBatch { position: Some(b"{\"v\":1,\"started\":true}".to_vec()), ..SourceBatch::default() };
        let receipt = self.intake.submit(MARK_PARTITION, batch).await.map_err(not_taken)?;
        receipt.await.map(drop).map_err(not_taken)
    }

    /// Looks for paths that are not followed yet and should be, and wakes the followers of those that have changed.
    async fn search(&mut self) -> Vec<PathBuf> {
        let shared = self.shared.clone();
        let (mut passed_over, mut following) =
            (std::mem::take(&mut self.passed_over), std::mem::take(&mut self.following));
        let (progress, lane) = (self.shared.progress.clone(), "search");
        let hung = || {
            let why = "a folder does not answer: is its file system mounted, and its server up?";
            progress.enter(lane, Condition::Waiting(why.to_owned()));
        };
        let work = move || {
            let found = shared.patterns.search();
            passed_over.retain(|path, id| {
                found.paths.contains(path) && file::look(path).is_ok_and(|look| look.map(|look| look.id) == *id)
            });
            following.iter_mut().for_each(|(path, watched)| watched.compare(path));
            (found, passed_over, following)
        };
        let (Found { mut paths, trouble }, passed_over, following) =
            self.shared.looks.take().await.run(work, hung).await;
        match trouble {
            Some(why) => progress.enter(lane, Condition::Waiting(format!("{why}; let the agent's user read it"))),
            None if progress.lanes().contains_key(lane) => {
                progress.enter(lane, Condition::Running);
                progress.leave(lane);
            }
            None => {}
        }
        (self.passed_over, self.following) = (passed_over, following);
        paths.retain(|path| !self.following.contains_key(path) && !self.passed_over.contains_key(path));
        self.keep_within_limit(paths.into_iter().collect())
    }

    fn keep_within_limit(&self, mut paths: Vec<PathBuf>) -> Vec<PathBuf> {
        let (limit, progress) = (self.shared.settings.max_files, &self.shared.progress);
        let asked = self.following.len() + paths.len();
        let lane = "max_files";
        if asked > limit {
            paths.truncate(limit.saturating_sub(self.following.len()));
            let why = format!(
                "{asked} files match, and only the first {limit} are followed: raise max_files or exclude some"
            );
            progress.enter(lane, Condition::Waiting(why));
        } else if progress.lanes().contains_key(lane) {
            progress.enter(lane, Condition::Running);
            progress.leave(lane);
        }
        paths
    }

    /// Paths that were followed before, where nothing is just now, of the logs to which `found` belong by their names:
    /// whoever starts while the next file is not there yet would else take the last one for new.
    fn absent(&self, found: &[PathBuf]) -> Vec<PathBuf> {
        let logs: HashSet<_> = found.iter().map(|path| rotation::log(path)).collect();
        let is_absent = |path: &&PathBuf| {
            logs.contains(&rotation::log(path)) && !self.following.contains_key(*path) && !found.contains(path)
        };
        self.stored.iter().filter(is_absent).cloned().collect()
    }

    /// Starts following `paths`, and what is absent of their logs. All stored positions of these are known before the
    /// first file is opened, so that a rotated file is never taken for a new one.
    async fn start(&mut self, paths: Vec<PathBuf>, from_end: bool) -> Result<(), SourceError> {
        let mut ready = Vec::with_capacity(paths.len());
        for path in self.absent(&paths).into_iter().chain(paths) {
            let name = partition_name(&path);
            let stored = self.intake.resume(&name, Numbering::Assigned).await.map_err(not_taken)?.position;
            let position = stored.map(|stored| Position::decode(&stored)).transpose().map_err(|why| {
                SourceError::Stop(format!(
                    "the stored position of {name} cannot be understood: {why}; use the version that wrote it"
                ))
            })?;
            if let Some(position) = &position
                && !self.shared.registry.is_finished(&position.file, &path)
            {
                self.shared.registry.expect(position, &path);
            }
            ready.push((path, name, position));
        }
        for (path, name, position) in ready {
            self.follow(path, name, position, from_end);
        }
        Ok(())
    }

    fn follow(&mut self, path: PathBuf, name: String, position: Option<Position>, from_end: bool) {
        let mut finished = position.as_ref().map(|position| position.finished.clone()).unwrap_or_default();
        let origin = match position {
            Some(position) if self.shared.registry.is_finished(&position.file, &path) => {
                // The position moves on to another file, and has to say so of this one from then on.
                finished.push(position.file);
                Origin::Beginning
            }
            Some(position) => Origin::Stored(position),
            None if from_end => Origin::End { reach_bytes: self.shared.settings.max_event_bytes },
            None => Origin::Beginning,
        };
        let (shared, intake, shutdown) = (self.shared.clone(), self.intake.clone(), self.shutdown.clone());
        let watched = Watched::default();
        let changed = watched.changed.clone();
        let follower = Follower::new(shared, intake, path.clone(), name, changed, origin, finished);
        self.following.insert(path.clone(), watched);
        self.tasks.spawn(async move { (path, follower.run(shutdown).await) });
    }

    fn forget(&mut self, ended: (PathBuf, Result<Option<FileId>, IntakeError>)) -> Result<(), SourceError> {
        let (path, outcome) = ended;
        let file = outcome.map_err(not_taken)?;
        self.following.remove(&path);
        self.passed_over.insert(path, file);
        Ok(())
    }
}

fn not_taken(error: IntakeError) -> SourceError {
    SourceError::Retry(format!("handing over lines: {error}"))
}
