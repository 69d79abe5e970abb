//! What the service says of all channels together where something waits to be committed: asked soon, and often.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use tokio::{
    sync::{Notify, watch},
    task::JoinHandle,
    time::{Instant, sleep_until},
};

use crate::client::snowflake::{Error, Pipe, Status};

/// The first look comes so long after something has begun to wait, and after each look that brought news.
const SOON: Duration = Duration::from_millis(100);

/// What was seen of a channel. `None`: the service does not know it.
pub(super) type Seen = Result<Option<Status>, Error>;

/// Asks for all lanes of a sink. Ends when it is dropped.
pub(super) struct Poller {
    board: Arc<Board>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Board {
    channels: Mutex<HashMap<String, Entry>>,
    /// Something has begun to wait.
    begun: Notify,
}

struct Entry {
    waits: bool,
    seen: watch::Sender<Option<Seen>>,
}

/// One lane's view of its channel. What was asked before it was made never comes to it.
pub(super) struct Watch {
    board: Arc<Board>,
    channel: String,
    seen: watch::Receiver<Option<Seen>>,
}

impl Poller {
    /// While something waits it looks at least once in `longest`. Must be made where there is a runtime.
    pub(super) fn new(pipe: Pipe, longest: Duration) -> Self {
        let board = Arc::<Board>::default();
        let task = tokio::spawn(run(pipe, Arc::clone(&board), longest));
        Self { board, task }
    }

    /// Begins to look at a channel that has just been opened, in place of whoever did before.
    pub(super) fn watch(&self, channel: &str) -> Watch {
        let (sender, seen) = watch::channel(None);
        self.board.channels().insert(channel.to_owned(), Entry { waits: false, seen: sender });
        Watch { board: Arc::clone(&self.board), channel: channel.to_owned(), seen }
    }
}

impl Drop for Poller {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Board {
    fn channels(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.channels.lock().expect("no holder of this lock panics")
    }

    /// The channels that wait.
    fn wanted(&self) -> Vec<String> {
        self.channels().iter().filter(|(_, entry)| entry.waits).map(|(name, _)| name.clone()).collect()
    }

    fn waits(&self) -> bool {
        self.channels().values().any(|entry| entry.waits)
    }
}

impl Watch {
    /// Something waits to be committed.
    pub(super) fn wait(&self) {
        self.set(true);
    }

    /// Nothing does any more.
    pub(super) fn rest(&self) {
        self.set(false);
    }

    fn set(&self, waits: bool) {
        let mut channels = self.board.channels();
        let Some(entry) = channels.get_mut(&self.channel).filter(|entry| self.is_of(entry)) else { return };
        if waits && !entry.waits {
            self.board.begun.notify_one();
        }
        entry.waits = waits;
    }

    fn is_of(&self, entry: &Entry) -> bool {
        self.seen.same_channel(&entry.seen.subscribe())
    }

    /// What has been seen since this was asked last, if anything has.
    pub(super) fn news(&mut self) -> Option<Seen> {
        if self.seen.has_changed().unwrap_or_default() { self.seen.borrow_and_update().clone() } else { None }
    }

    /// Resolves when there is news.
    pub(super) async fn changed(&mut self) {
        if self.seen.has_changed().is_ok_and(|changed| changed) {
            return;
        }
        let mut other = self.seen.clone();
        if other.changed().await.is_err() {
            // Another lane looks at the channel: this one is being dropped.
            std::future::pending().await
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut channels = self.board.channels();
        if channels.get(&self.channel).is_some_and(|entry| self.is_of(entry)) {
            channels.remove(&self.channel);
        }
    }
}

async fn run(pipe: Pipe, board: Arc<Board>, longest: Duration) {
    let mut pause = SOON.min(longest);
    let mut not_before = Instant::now();
    loop {
        let (mut waits, mut next) = (board.waits(), Instant::now() + pause);
        loop {
            tokio::select! {
                () = sleep_until(next.max(not_before)), if waits => break,
                () = board.begun.notified() => {
                    pause = SOON.min(longest);
                    let soon = Instant::now() + pause;
                    (waits, next) = (true, if waits { next.min(soon) } else { soon });
                }
            }
        }
        let looked = look(&pipe, &board).await;
        pause = if looked.is_ok_and(|is_news| is_news) { SOON } else { pause.mul_f32(1.5) }.min(longest);
        not_before = Instant::now() + looked.err().unwrap_or_default();
    }
}

/// Asks once, and tells all that were asked for. Whether any of it is new. The error says how long the service wants to be
/// left alone: what it has not answered is asked again, and no lane need begin anew for it.
async fn look(pipe: &Pipe, board: &Board) -> Result<bool, Duration> {
    let wanted = board.wanted();
    if wanted.is_empty() {
        return Ok(false);
    }
    let names: Vec<&str> = wanted.iter().map(String::as_str).collect();
    let senders: Vec<_> = {
        let channels = board.channels();
        wanted.iter().map(|name| channels.get(name).map(|entry| entry.seen.clone())).collect()
    };
    let mut answer = match pipe.statuses(&names).await {
        Err(Error::Retry { after, .. }) => return Err(after.unwrap_or_default()),
        Err(Error::Unknown(_)) => return Err(Duration::ZERO),
        answer => answer,
    };
    let mut is_news = false;
    for (name, sender) in names.into_iter().zip(senders) {
        let Some(sender) = sender else { continue };
        let seen = answer.as_mut().map(|statuses| statuses.remove(name)).map_err(|error| error.clone());
        is_news |= sender.send_if_modified(|held| {
            let is_new = held.as_ref() != Some(&seen);
            *held = Some(seen);
            is_new
        });
    }
    Ok(is_news)
}
