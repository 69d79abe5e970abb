//! The way of one partition into its channel.

mod row_errors;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use forebay_buffer::{Checkpoint, Numbering, Offset};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

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
    client::snowflake::{Error, Opened, Pipe, Status},
    contract::{
        Batch, BoxFuture, Destination, Lane, Local, PartitionId, Progress, Refusal, RefusedRange, Resumed, SinkError,
    },
};

/// The service takes ten appends a second to a channel, unless it was talked into more; and they take more and less time on
/// their way.
const BETWEEN_APPENDS: Duration = Duration::from_millis(110);
/// It is no use to try with less, but with each event by itself.
const MIN_REQUEST_BYTES: usize = 64 << 10;
/// What is appended to a channel by then is waited for before it is opened again, which discards it: it would have to be
/// sent anew. What cannot be has the time of [`COMMIT_PATIENCE`].
const UNCOMMITTED_PATIENCE: Duration = Duration::from_secs(10);
/// Between two attempts to open a channel that has something to commit.
const UNCOMMITTED_PAUSE: Duration = Duration::from_millis(250);
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

/// What an opened channel has.
struct Examined {
    committed: Option<Token>,
    /// What that is to the buffer.
    found: Option<Checkpoint>,
    refusals: Vec<RefusedRange>,
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
}

impl SnowpipeLane {
    pub(super) fn new(shared: Arc<Shared>, partition: Arc<PartitionId>) -> Self {
        let channel = name::channel(shared.prefix(), &partition);
        let (open, too_large, committed, refused) = (None, Vec::new(), None, None);
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

    /// Makes the channel ours, and looks at what is committed there.
    async fn reopen(&mut self, local: Local) -> Result<Resumed, SinkError> {
        let mut opened = self.open_channel(&self.channel.clone(), None, &local).await?;
        let mut examined = self.examine(&opened.status, &local)?;
        let former = name::former_channel(self.shared.prefix(), &self.partition);
        if let (None, Some(former)) = (examined.committed, former)
            && let Some(carried_on) = self.take_over(&former, &local).await?
        {
            (opened, examined) = carried_on;
        }
        let Examined { committed, found, refusals } = examined;
        if self.committed.zip(committed).is_some_and(|(before, now)| before.is_before(&now)) {
            (self.contests, self.refused) = (0, None);
        }
        (self.committed, self.uncommitted_since) = (committed, None);
        let known = Note {
            created_on_ms: opened.status.created_on_ms,
            errors: opened.status.rows_error_count,
            token: opened.status.committed,
        };
        let note = known.to_bytes();
        self.open = Some(Open {
            watch: self.shared.poller().watch(&self.channel),
            continuation: opened.continuation,
            flights: Flights::default(),
            recorded_errors: known.errors,
            known,
            committed,
            free_at: Instant::now(),
            impatient_at: Instant::now() + COMMIT_PATIENCE,
        });
        let destination = found.map_or(Destination::Forgotten, Destination::At);
        Ok(Resumed { destination, refusals, note: Some(note) })
    }

    /// What a channel's status means for where to go on.
    fn examine(&self, status: &Status, local: &Local) -> Result<Examined, SinkError> {
        let committed = self.parse(status)?;
        let note = Note::from_bytes(local.note.as_deref());
        let mut found = committed.map(|token| token.checkpoint);
        let errors = match found {
            Some(found) if self.is_of_another_buffer(found, local) => {
                if status.rows_error_count > 0 {
                    log::warn!(
                        "{} ({}: channel {} is of another buffer, lost or elsewhere: {} rows that were left out of it before now \
                         are none of those here)",
                        self.shared.progress.subject(),
                        self.partition,
                        self.channel,
                        status.rows_error_count,
                    );
                }
                status.rows_error_count
            }
            _ => Note::errors_known(note.as_ref(), status, committed.map_or(0, |token| token.errors)),
        };
        if found.is_some() && note.is_some_and(|note| note.token == status.committed) {
            // Beyond what the token says lie only events that were refused.
            found = local.checkpoint.or(found);
        }
        let refusals = self.refused_before(status, errors, local.checkpoint, found)?;
        Ok(Examined { committed, found, refusals })
    }

    /// Whether `found` says nothing about what is here. (Numbers of a hub are the same for all.)
    fn is_of_another_buffer(&self, found: Checkpoint, local: &Local) -> bool {
        let delivered = local.checkpoint.map(|checkpoint| checkpoint.generation);
        self.partition.numbering == Numbering::Assigned
            && found.generation != local.generation
            && delivered != Some(found.generation)
    }

    /// Opens a channel, once what was appended to it is committed, or has had its time.
    async fn open_channel(
        &mut self,
        channel: &str,
        token: Option<&str>,
        local: &Local,
    ) -> Result<Opened, SinkError> {
        loop {
            let waited = self.uncommitted_since.map_or(Duration::ZERO, |since| since.elapsed());
            let is_short = waited < UNCOMMITTED_PATIENCE;
            let is_patient = is_short || waited < COMMIT_PATIENCE && !self.can_replay(channel, local).await?;
            match self.shared.pipe.open(channel, is_patient, token).await {
                Err(Error::Uncommitted(message)) if is_patient => {
                    self.uncommitted_since.get_or_insert_with(Instant::now);
                    if !is_short {
                        let message = format!(
                            "{message}. It is nowhere else, for another buffer has sent it: it has up to {} s to be committed",
                            COMMIT_PATIENCE.as_secs(),
                        );
                        return Err(SinkError::Retry { message, after: None });
                    }
                    sleep(UNCOMMITTED_PAUSE).await;
                }
                Err(error) => return Err(self.failed(error)),
                Ok(opened) => match opened.status.problem() {
                    Some(problem) => return Err(self.failed(problem)),
                    None => return Ok(opened),
                },
            }
        }
    }

    /// Whether what the channel would discard can be sent again: it is in the buffer here, or in the hub that it came from.
    async fn can_replay(&mut self, channel: &str, local: &Local) -> Result<bool, SinkError> {
        if self.partition.numbering != Numbering::Assigned {
            return Ok(true);
        }
        let known = self.shared.pipe.statuses(&[channel]).await.map_err(|error| self.failed(error))?;
        Ok(match known.get(channel).and_then(|status| status.committed.as_deref()) {
            Some(token) => Token::parse(token).is_some_and(|token| !self.is_of_another_buffer(token.checkpoint, local)),
            None => local.checkpoint.is_some(),
        })
    }

    /// Carries on what the channel has that the partition had before its stream was renamed. `None`: nothing.
    async fn take_over(&mut self, former: &str, local: &Local) -> Result<Option<(Opened, Examined)>, SinkError> {
        let known = self.shared.pipe.statuses(&[former]).await.map_err(|error| self.failed(error))?;
        let Some(known) = known.get(former) else { return Ok(None) };
        // What is beyond its token was confirmed of another channel: it was carried on before, by one that was dropped since
        // or forgotten. (Of this one, only events that were refused may be.)
        let note = Note::from_bytes(local.note.as_deref());
        if note.is_some_and(|note| note.created_on_ms != known.created_on_ms)
            && let (Some(token), Some(here)) = (self.parse(known)?, local.checkpoint)
            && are_comparable(self.partition.numbering, token.checkpoint, here)
            && token.checkpoint.offset < here.offset
        {
            return Ok(None);
        }
        // What is on its way there must come to an end first, and what it says must be seen to before it is let go.
        let before = self.open_channel(former, None, local).await?.status;
        let examined = self.examine(&before, local)?;
        let Some(token) = &before.committed else { return Ok(None) };
        let opened = self.open_channel(&self.channel.clone(), Some(token), local).await?;
        Ok(Some((opened, examined)))
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
            // All of it is refused. The local checkpoint and the control table pass it; an owner that knows neither refuses it
            // again at worst, for an offset token that is set from here could take back what another has committed.
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

    /// The service counts a channel for 30 idle days: the one that was carried on here is dropped once more is committed here.
    fn let_former_go(&mut self) {
        let committed = self.open.as_ref().and_then(|open| open.committed).filter(|token| Some(*token) != self.committed);
        let Some(Token { checkpoint, .. }) = committed else { return };
        let Some(former) = self.former.take() else { return };
        let (pipe, numbering) = (self.shared.pipe.clone(), self.partition.numbering);
        tokio::spawn(async move {
            if let Err(error) = drop_if_passed(&pipe, &former, checkpoint, numbering).await {
                log::debug!("{error}");
            }
        });
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
        if is_older || status.rows_error_count < open.known.errors {
            // It was asked of a server that is not up to date.
            return Ok(Some(Vec::new()));
        }
        let new = status.rows_error_count - open.known.errors;
        let refusals = if new == 0 { Some(Vec::new()) } else { self.refused_among(status, new, committed)? };
        if refusals.is_some() {
            let open = self.opened()?;
            open.committed = committed;
            open.known.errors = status.rows_error_count;
            open.known.token.clone_from(&status.committed);
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
        if self.partition.hub.is_some() {
            return SinkError::Fenced(message);
        }
        self.contests += 1;
        if self.contests < MAX_CONTESTS {
            return SinkError::Reconnect(message);
        }
        let message = format!(
            "{message}. So it was {} times, with nothing of ours committed in between: it seems that another writer opens the \
             channel. Look for another agent with the id {:?} (or the same channel); end one of the two, or give one another \
             id",
            self.contests,
            self.shared.prefix(),
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

/// Drops a channel if what is committed there is of this buffer, and passed by `committed`.
async fn drop_if_passed(pipe: &Pipe, channel: &str, committed: Checkpoint, numbering: Numbering) -> Result<(), Error> {
    let known = pipe.statuses(&[channel]).await?;
    let token = known.get(channel).and_then(|status| Token::parse(status.committed.as_deref()?));
    match token.map(|token| token.checkpoint) {
        Some(there) if are_comparable(numbering, there, committed) && there.offset < committed.offset => {
            pipe.drop_channel(channel).await
        }
        _ => Ok(()),
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
