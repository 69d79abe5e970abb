//! A token service like Snowpipe Streaming: appends are accepted, and committed later, in pieces.
//!
//! The committed token is all it answers to "what do you have". Opening a channel again discards what is accepted and
//! not committed, and shuts out whoever had it open. A row that it cannot take is dropped when it is committed: only a
//! count of errors grows, and a table of errors says which.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use forebay::contract::{
    Batch, BatchLimits, BoxFuture, Destination, Lane, Local, PartitionId, Progress, Refusal, RefusedRange, Resumed,
    Sink, SinkError,
};
use forebay_buffer::{Checkpoint, Offset};

use super::{Key, Row, Watched, rows_of};

/// The service. Clones are the same one.
#[derive(Debug, Clone)]
pub struct TokenService(Arc<Watched<Service>>);

#[derive(Debug, Clone, Default)]
struct Service {
    rows: Vec<Row>,
    channels: BTreeMap<Key, Channel>,
    /// Bodies that no row may have.
    forbidden: BTreeSet<String>,
    /// Whether appends are committed as soon as somebody asks.
    commits: bool,
}

#[derive(Debug, Clone, Default)]
struct Channel {
    token: Option<Checkpoint>,
    /// Grows with each opening: appends of an earlier one are turned away.
    opening: u64,
    accepted: VecDeque<(Row, Checkpoint)>,
    errors: Vec<Offset>,
}

impl Default for TokenService {
    fn default() -> Self {
        Self(Arc::new(Watched::new(Service { commits: true, ..Service::default() })))
    }
}

impl TokenService {
    /// A sink into it. At most `window_bytes` of a partition's events are accepted and not committed.
    pub fn sink(&self, max_events: usize, window_bytes: u64) -> Arc<dyn Sink> {
        Arc::new(TokenSink { service: self.clone(), max_events, window_bytes })
    }

    /// Another service, that is what this one is now.
    pub fn copy(&self) -> Self {
        Self(Arc::new(Watched::new(self.0.look(Service::clone))))
    }

    /// All rows, in the order in which they were committed.
    pub fn rows(&self) -> Vec<Row> {
        self.0.look(|service| service.rows.clone())
    }

    /// Whether appends are committed by themselves (they are, unless told otherwise).
    pub fn commit_by_itself(&self, commits: bool) {
        self.0.change(|service| service.commits = commits);
    }

    /// Commits the next `events` of what is accepted in a channel.
    pub fn commit(&self, stream: &str, partition: &str, events: usize) {
        self.0.change(|service| service.commit(&(stream.to_owned(), partition.to_owned()), events));
    }

    /// Drops rows with one of these bodies when they are committed.
    pub fn forbid(&self, bodies: &[&str]) {
        self.0.change(|service| service.forbidden.extend(bodies.iter().map(|body| (*body).to_owned())));
    }

    /// Deletes a channel: it was idle for 30 days.
    pub fn expire(&self, stream: &str, partition: &str) {
        self.0.change(|service| service.channels.remove(&(stream.to_owned(), partition.to_owned())));
    }

    /// Somebody else opens a channel: what is accepted is discarded, and the lane that had it open is shut out.
    pub fn open_elsewhere(&self, stream: &str, partition: &str) {
        self.0.change(|service| service.open(&(stream.to_owned(), partition.to_owned())));
    }

    /// A channel's committed token.
    pub fn token(&self, stream: &str, partition: &str) -> Option<Checkpoint> {
        let key = (stream.to_owned(), partition.to_owned());
        self.0.look(|service| service.channels.get(&key).and_then(|channel| channel.token))
    }

    /// Events accepted and not committed, over all channels.
    pub fn accepted(&self) -> usize {
        self.0.look(Service::accepted)
    }

    /// Waits until `count` rows are committed.
    pub async fn until_rows(&self, count: usize) {
        self.0.expect(&format!("row {count}"), |service| service.rows.len() >= count).await;
    }

    /// Waits until `count` events are accepted and not committed.
    pub async fn until_accepted(&self, count: usize) {
        self.0.expect(&format!("{count} accepted"), |service| service.accepted() >= count).await;
    }
}

impl Service {
    fn open(&mut self, key: &Key) -> u64 {
        let channel = self.channels.entry(key.clone()).or_default();
        channel.opening += 1;
        channel.accepted.clear();
        channel.opening
    }

    fn commit(&mut self, key: &Key, events: usize) {
        let Some(channel) = self.channels.get_mut(key) else { return };
        for _ in 0..events {
            let Some((row, checkpoint)) = channel.accepted.pop_front() else { return };
            channel.token = Some(checkpoint);
            if self.forbidden.contains(&*String::from_utf8_lossy(&row.body)) {
                channel.errors.push(row.offset);
            } else {
                self.rows.push(row);
            }
        }
    }

    fn accepted(&self) -> usize {
        self.channels.values().map(|channel| channel.accepted.len()).sum()
    }
}

struct TokenSink {
    service: TokenService,
    max_events: usize,
    window_bytes: u64,
}

impl Sink for TokenSink {
    fn lane(&self, partition: Arc<PartitionId>) -> Box<dyn Lane> {
        let key = (partition.stream.clone(), partition.name.clone());
        Box::new(TokenLane { service: self.service.clone(), key, opening: 0, errors: 0, through: None, last: None })
    }

    fn window_bytes(&self) -> u64 {
        self.window_bytes
    }

    fn batch_limits(&self) -> BatchLimits {
        BatchLimits { max_events: self.max_events, max_bytes: 64 * 1024 }
    }
}

struct TokenLane {
    service: TokenService,
    key: Key,
    opening: u64,
    /// Errors of the channel that have been reported.
    errors: usize,
    /// The end of the last batch. Behind its last row there may be skipped events, which move no token.
    through: Option<Checkpoint>,
    /// What was reported as confirmed last.
    last: Option<Checkpoint>,
}

impl TokenLane {
    /// What is new since the last report. `None`: nothing.
    fn progress(&mut self, service: &mut Service) -> Option<Result<Progress, SinkError>> {
        if service.commits {
            service.commit(&self.key, usize::MAX);
        }
        let channel = match service.channels.get(&self.key) {
            Some(channel) if channel.opening == self.opening => channel,
            _ => return Some(Err(SinkError::Reconnect("STALE_CONTINUATION_TOKEN_SEQUENCER".to_owned()))),
        };
        let confirmed = if channel.accepted.is_empty() { self.through } else { channel.token };
        // Behind a token there may be skipped events that were confirmed with it.
        if confirmed.map(|checkpoint| checkpoint.offset) <= self.last.map(|checkpoint| checkpoint.offset) {
            return None;
        }
        self.last = confirmed;
        let refusals = refusals(&channel.errors[self.errors..]);
        self.errors = channel.errors.len();
        Some(Ok(Progress { confirmed, refusals, note: Some(Note::of(channel).to_bytes()) }))
    }
}

fn refusals(errors: &[Offset]) -> Vec<Refusal> {
    let refusal =
        |offset: &Offset| Refusal { offset: *offset, code: "row error".into(), reason: "it is forbidden".into() };
    errors.iter().map(refusal).collect()
}

/// What is kept with the local checkpoint: the errors that have been dealt with, and the token that came with it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Note {
    errors: usize,
    token: Option<i64>,
}

impl Note {
    fn of(channel: &Channel) -> Self {
        Self { errors: channel.errors.len(), token: channel.token.map(|token| token.offset.0) }
    }

    fn to_bytes(&self) -> Vec<u8> {
        format!("{} {}", self.errors, self.token.map_or_else(String::new, |token| token.to_string())).into_bytes()
    }

    fn from_bytes(bytes: Option<Vec<u8>>) -> Self {
        let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default();
        let (errors, token) = text.split_once(' ').unwrap_or_default();
        Self { errors: errors.parse().unwrap_or_default(), token: token.parse().ok() }
    }
}

impl Lane for TokenLane {
    fn resume(&mut self, local: Local) -> BoxFuture<'_, Result<Resumed, SinkError>> {
        Box::pin(async move {
            self.service.0.change(|service| {
                self.opening = service.open(&self.key);
                let channel = &service.channels[&self.key];
                let (now, kept) = (Note::of(channel), Note::from_bytes(local.note));
                self.errors = now.errors;
                // If the token is the one that came with the local checkpoint, that checkpoint is what it stands for.
                let found = if now.token == kept.token { local.checkpoint.or(channel.token) } else { channel.token };
                (self.last, self.through) = (found, found);
                let Some(found) = found.filter(|_| now.token.is_some()) else {
                    return Ok(Destination::Forgotten.into());
                };
                Ok(Resumed {
                    destination: Destination::At(found),
                    refusals: refusals(channel.errors.get(kept.errors..).unwrap_or_default())
                        .into_iter()
                        .map(|Refusal { offset, code, reason }| RefusedRange {
                            after: Offset(offset.0 - 1),
                            through: offset,
                            code,
                            reason,
                        })
                        .collect(),
                    note: Some(now.to_bytes()),
                })
            })
        })
    }

    fn deliver(&mut self, batch: Arc<Batch>) -> BoxFuture<'_, Result<Progress, SinkError>> {
        Box::pin(async move {
            let service = self.service.clone();
            service.0.change(|service| {
                if let Some(channel) = service.channels.get_mut(&self.key).filter(|open| open.opening == self.opening) {
                    self.through = Some(batch.through);
                    let rows = rows_of(&self.key, &batch, batch.through.offset);
                    channel.accepted.extend(rows.into_iter().map(|row| {
                        let token = batch.checkpoint_at(row.offset);
                        (row, token)
                    }));
                }
                self.progress(service).unwrap_or_else(|| Ok(Progress::default()))
            })
        })
    }

    fn settle(&mut self) -> BoxFuture<'_, Result<Progress, SinkError>> {
        Box::pin(async move {
            let service = self.service.clone();
            loop {
                let key = self.key.clone();
                let channel = |service: &Service| service.channels.get(&key).map(|open| (open.opening, open.token));
                let before = service.0.look(channel);
                if let Some(progress) = service.0.change(|service| self.progress(service)) {
                    return progress;
                }
                service.0.until(|service| service.commits || channel(service) != before).await;
            }
        })
    }
}
