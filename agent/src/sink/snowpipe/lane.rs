//! The way of one partition into its channel.

mod opening;
mod row_errors;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use forebay_buffer::{Checkpoint, Numbering, Offset};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::{
    Shared,
    encode::{Encoded, MAX_REQUEST_BYTES, TOO_LARGE, encode},
    flights::Flights,
    name,
    note::Note,
    pack::Request,
    poll::Watch,
    token::Token,
};
use crate::{
    client::snowflake::{Error, Status},
    contract::{Batch, BoxFuture, Lane, Local, PartitionId, Progress, Refusal, Resumed, SinkError},
};

/// The service takes ten appends a second to a channel, unless it was talked into more; and they take more and less time on
/// their way.
const BETWEEN_APPENDS: Duration = Duration::from_millis(110);
/// It is no use to try with less, but with each event by itself.
const MIN_REQUEST_BYTES: usize = 64 << 10;
/// The pause where only an operator, or a great deal of time, mends it.
const LONG_PAUSE: Duration = Duration::from_secs(30);
/// What is appended is committed within seconds: after so long without news the channel is opened again, which tells.
const COMMIT_PATIENCE: Duration = Duration::from_secs(300);
/// So often in a row, with nothing committed in between, another writer may take the channel from us.
const MAX_CONTESTS: u32 = 3;
/// So much of the service's words is quoted.
const MAX_QUOTED: usize = 300;

pub(super) struct SnowpipeLane {
    shared: Arc<Shared>,
    partition: Arc<PartitionId>,
    channel: String,
    open: Option<Open>,
    /// Bytes of one request at most: fewer once the service has said that one is too large, and more again as it commits.
    limit: usize,
    /// Events that it has said that of, though they were alone.
    too_large: Vec<Refusal>,
    /// What was committed when the channel was opened last.
    committed: Option<Token>,
    /// What was committed when the service said so last.
    seen: Option<Token>,
    /// How often another writer has taken the channel since something of ours was committed.
    contests: u32,
    /// What the channel was to be opened again for, since something was committed.
    refused: Option<String>,
    /// Since when the channel has something to commit that another opening of it has appended.
    uncommitted_since: Option<Instant>,
    /// The channel that the partition had before its stream was renamed, until it is let go.
    former: Option<String>,
}

/// A channel that is ours.
struct Open {
    /// What the next append shows.
    continuation: String,
    watch: Watch,
    flights: Flights,
    known: Note,
    /// Row errors whose refusals delivery has recorded: what tokens may say is dealt with.
    recorded_errors: u64,
    /// What [`Note::token`] says.
    committed: Option<Token>,
    /// The service takes the next append from now on.
    free_at: Instant,
    /// What is in flight should have been committed by then, or some of it.
    impatient_at: Instant,
}

impl Lane for SnowpipeLane {
    fn resume(&mut self, local: Local) -> BoxFuture<'_, Result<Resumed, SinkError>> {
        Box::pin(async move {
            self.open = None;
            self.reopen(local).await
        })
    }

    fn deliver(&mut self, batch: Arc<Batch>) -> BoxFuture<'_, Result<Progress, SinkError>> {
        Box::pin(async move {
            self.is_recorded();
            let outcome = self.append(&batch).await;
            self.shut_if_failed(outcome)
        })
    }

    fn settle(&mut self) -> BoxFuture<'_, Result<Progress, SinkError>> {
        Box::pin(async move {
            self.is_recorded();
            let outcome = self.next_progress().await;
            self.shut_if_failed(outcome)
        })
    }

    /// What is refused behind the last row moves no token.
    fn shown(&self, confirmed: Checkpoint) -> Option<Checkpoint> {
        let token = self.open.as_ref()?.committed?.checkpoint;
        let is_of_it = are_comparable(self.partition.numbering, token, confirmed) && token.offset <= confirmed.offset;
        is_of_it.then_some(Checkpoint { generation: confirmed.generation, ..token })
    }
}

impl SnowpipeLane {
    pub(super) fn new(shared: Arc<Shared>, partition: Arc<PartitionId>) -> Self {
        let channel = name::channel(shared.prefix(), &partition);
        let (open, too_large, committed, seen, refused) = (None, Vec::new(), None, None, None);
        let (limit, contests) = (MAX_REQUEST_BYTES, 0);
        let (uncommitted_since, former) = (None, name::former_channel(shared.prefix(), &partition));
        Self {
            shared,
            partition,
            channel,
            open,
            limit,
            too_large,
            committed,
            seen,
            contests,
            refused,
            uncommitted_since,
            former,
        }
    }

    fn shut_if_failed<T>(&mut self, outcome: Result<T, SinkError>) -> Result<T, SinkError> {
        if outcome.is_err() {
            self.open = None;
        }
        outcome
    }

    fn opened(&mut self) -> Result<&mut Open, SinkError> {
        self.open.as_mut().ok_or_else(|| SinkError::Reconnect("the channel is not open".to_owned()))
    }

    /// Delivery has come again: what it was told before, it has recorded. (Promise 6)
    fn is_recorded(&mut self) {
        if let Some(open) = &mut self.open {
            open.recorded_errors = open.known.errors;
        }
    }

    /// What the channel's token stands for.
    fn parse(&self, status: &Status) -> Result<Option<Token>, SinkError> {
        let Some(text) = &status.committed else { return Ok(None) };
        Token::parse(text).map(Some).ok_or_else(|| {
            SinkError::Stop(format!(
                "{}: channel {} of {} has the offset token {:?}, which is none of this program: another program writes \
                 there. If it has ended, and this agent should begin there with what is in its buffer, drop the channel \
                 (its rows stay) or set another name with channel; then reload or restart the agent",
                self.partition,
                self.channel,
                self.shared.pipe,
                quoted(text),
            ))
        })
    }

    /// Appends what is wanted of a batch.
    async fn append(&mut self, batch: &Arc<Batch>) -> Result<Progress, SinkError> {
        // What was told meanwhile: the channel may be another's by now.
        let mut progress = self.news()?.unwrap_or_default();
        let Encoded { requests, mut refusals } = encode(&self.shared, &self.partition, batch, self.limit).await?;
        let is_wanted = |offset: Offset| batch.wanted().any(|(wanted, _)| *wanted == offset);
        refusals.extend(self.too_large.iter().filter(|refusal| is_wanted(refusal.offset)).cloned());
        if !refusals.is_empty() {
            // The rest comes again without them.
            progress.refusals.extend(refusals);
            return Ok(progress);
        }
        let count = requests.len();
        for (number, request) in (1..).zip(requests) {
            // What is refused at the end of the batch is passed with its last row.
            let last = request.last();
            let through = if number == count { batch.through } else { batch.checkpoint_at(last) };
            self.send(request, batch, through).await?;
            // There may be many of them.
            progress.absorb(self.news()?.unwrap_or_default());
        }
        if count == 0 {
            // All of it is refused. The local checkpoint passes it; an owner that does not know that refuses it again at
            // worst, for an offset token that is set from here could take back what another has committed.
            self.opened()?.flights.push(batch.through, Vec::new());
            progress.absorb(self.news()?.unwrap_or_default());
        }
        Ok(progress)
    }

    async fn send(&mut self, request: Request, batch: &Batch, through: Checkpoint) -> Result<(), SinkError> {
        let (shared, channel) = (Arc::clone(&self.shared), self.channel.clone());
        let open = self.opened()?;
        sleep_until(open.free_at).await;
        open.free_at = Instant::now() + BETWEEN_APPENDS;
        let token = |checkpoint| Token { checkpoint, errors: open.recorded_errors }.to_string();
        let (start, end) = (token(batch.checkpoint_at(request.first())), token(through));
        let Request { body, offsets } = request;
        let size = body.len();
        match shared.pipe.append(&channel, &open.continuation, &start, &end, Bytes::from(body)).await {
            Ok(next) => {
                open.continuation = next;
                if !open.flights.has_rows() {
                    open.impatient_at = Instant::now() + COMMIT_PATIENCE;
                }
                open.flights.push(through, offsets);
                open.watch.wait();
                Ok(())
            }
            Err(Error::TooLarge(message)) => Err(self.with_less(offsets, size, message)),
            Err(error) => Err(self.failed(error)),
        }
    }

    /// The service takes no request of that size: smaller ones next time, or without the event that it is.
    fn with_less(&mut self, offsets: Vec<Offset>, size: usize, message: String) -> SinkError {
        match offsets[..] {
            [_] if size <= MIN_REQUEST_BYTES => {
                let message = format!(
                    "{message}. That was one event, of {size} bytes with all that is around it, which the service takes: \
                     look at what stands between, such as a proxy; trying again"
                );
                return SinkError::Retry { message, after: Some(LONG_PAUSE) };
            }
            [offset] => self.too_large.push(Refusal { offset, code: TOO_LARGE.to_owned(), reason: message.clone() }),
            _ if self.limit > MIN_REQUEST_BYTES => self.limit = (size / 2).max(MIN_REQUEST_BYTES),
            _ => self.limit = 1,
        }
        SinkError::Reconnect(message)
    }

    /// Waits until more is committed.
    async fn next_progress(&mut self) -> Result<Progress, SinkError> {
        loop {
            if let Some(progress) = self.news()? {
                return Ok(progress);
            }
            let open = self.opened()?;
            if timeout_at(open.impatient_at, open.watch.changed()).await.is_err() {
                let message = format!(
                    "nothing of what was appended to channel {} has been committed for {} s: opening it again",
                    self.channel,
                    COMMIT_PATIENCE.as_secs(),
                );
                return Err(SinkError::Reconnect(message));
            }
        }
    }

    /// What is committed by now that was not before.
    fn news(&mut self) -> Result<Option<Progress>, SinkError> {
        let mut refusals = Vec::new();
        match self.opened()?.watch.news() {
            None => {}
            Some(Err(error)) => return Err(self.failed(error)),
            Some(Ok(None)) => {
                let message = format!(
                    "the service does not know channel {} any more: making it anew, and going on from the local \
                     checkpoint (what it had committed a moment before is sent again)",
                    self.channel
                );
                return Err(SinkError::Reconnect(message));
            }
            Some(Ok(Some(status))) => match self.take_in(&status)? {
                Some(refused) => refusals = refused,
                None => return Ok(None),
            },
        }
        let open = self.opened()?;
        let confirmed = open.flights.commit(open.committed.map(|token| token.checkpoint));
        if !open.flights.has_rows() {
            open.watch.rest();
        }
        if confirmed.is_none() {
            return Ok(None);
        }
        let note = Some(open.known.to_bytes());
        open.impatient_at = Instant::now() + COMMIT_PATIENCE;
        (self.contests, self.refused) = (0, None);
        self.limit = (2 * self.limit).clamp(MIN_REQUEST_BYTES, MAX_REQUEST_BYTES);
        self.let_former_go();
        self.too_large.retain(|refusal| confirmed.is_some_and(|confirmed| refusal.offset > confirmed.offset));
        Ok(Some(Progress { confirmed, refusals, note }))
    }

    /// Takes in what the service says: which events are refused. `None`: it is not known yet what all of them are.
    fn take_in(&mut self, status: &Status) -> Result<Option<Vec<Refusal>>, SinkError> {
        if let Some(problem) = status.problem() {
            return Err(self.failed(problem));
        }
        let committed = self.parse(status)?;
        let open = self.opened()?;
        let is_older = committed.zip(open.committed).is_some_and(|(now, before)| now.is_before(&before));
        let is_known =
            committed == open.committed || committed.is_some_and(|token| open.flights.holds(token.checkpoint));
        if !is_known && !is_older {
            let message = format!(
                "channel {} has come to {:?}, which is not among what was appended to it here: opening it again",
                self.channel,
                status.committed.as_deref().map(quoted).unwrap_or_default(),
            );
            return Err(SinkError::Reconnect(message));
        }
        // Where it is not said, it is not known to be another.
        let errors = status.rows_error_count.unwrap_or(open.known.errors);
        if is_older || errors < open.known.errors {
            // It was asked of a server that is not up to date.
            return Ok(Some(Vec::new()));
        }
        let new = errors - open.known.errors;
        let refusals = if new == 0 { Some(Vec::new()) } else { self.refused_among(status, new, committed)? };
        if refusals.is_some() {
            let open = self.opened()?;
            open.committed = committed;
            open.known.errors = errors;
            open.known.token.clone_from(&status.committed);
            self.seen = committed;
        }
        Ok(refusals)
    }

    /// What delivery is to do about an error.
    fn failed(&mut self, error: Error) -> SinkError {
        match error {
            Error::Retry { message, after } => SinkError::Retry { message, after },
            Error::Uncommitted(message) => SinkError::Retry { message, after: None },
            Error::Unknown(message) => SinkError::Reconnect(message),
            // What is refused in the same words again is refused for long: it is not sent every second.
            Error::Reopen(message) if self.refused.as_ref() == Some(&message) => {
                SinkError::Retry { message, after: Some(LONG_PAUSE) }
            }
            Error::Reopen(message) => {
                self.refused = Some(message.clone());
                SinkError::Reconnect(message)
            }
            Error::Superseded(message) => self.contested(message),
            Error::Unauthorized(message)
            | Error::Missing(message)
            | Error::TooLarge(message)
            | Error::Confused(message) => SinkError::Retry { message, after: Some(LONG_PAUSE) },
            Error::Statement(error) => SinkError::Retry { message: error.to_string(), after: Some(LONG_PAUSE) },
        }
    }

    /// Somebody else has opened the channel. Where partitions are shared out, it may be its owner now.
    fn contested(&mut self, message: String) -> SinkError {
        if self.partition.hub.as_ref().is_some_and(|hub| hub.is_shared) {
            return SinkError::Fenced(message);
        }
        self.contests += 1;
        if self.contests < MAX_CONTESTS {
            return SinkError::Reconnect(message);
        }
        let (whom, remedy) = match &self.partition.hub {
            Some(hub) => (format!("another agent that takes {hub} here"), "or have both say partitions = \"balanced\""),
            None => (
                format!("another agent with the id {:?} (or the same channel)", self.shared.prefix()),
                "or give one another id",
            ),
        };
        let message = format!(
            "{message}. So it was {} times, with nothing of ours committed in between: it seems that another writer opens the \
             channel. Look for {whom}; end one of the two, {remedy}",
            self.contests,
        );
        SinkError::Retry { message, after: Some(LONG_PAUSE) }
    }
}

impl Open {
    /// How far the channel is committed, by the numbers of what is in flight: those of another buffer say nothing of it.
    fn committed(&self, numbering: Numbering) -> Option<Offset> {
        let last = self.flights.last()?;
        let committed = self.committed.map(|token| token.checkpoint);
        committed.filter(|committed| are_comparable(numbering, *committed, last)).map(|committed| committed.offset)
    }
}

/// Whether both are numbered alike.
fn are_comparable(numbering: Numbering, one: Checkpoint, other: Checkpoint) -> bool {
    match numbering {
        Numbering::Assigned => one.generation == other.generation,
        Numbering::Shared { .. } => one.tag == other.tag,
    }
}

impl Progress {
    /// Adds what came later.
    fn absorb(&mut self, later: Self) {
        self.confirmed = later.confirmed.or(self.confirmed);
        self.refusals.extend(later.refusals);
        self.note = later.note.or(self.note.take());
    }
}

fn quoted(words: &str) -> String {
    let quoted: String = words.chars().take(MAX_QUOTED).collect();
    if quoted.len() < words.len() { format!("{quoted}…") } else { quoted }
}
