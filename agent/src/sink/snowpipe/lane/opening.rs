//! Opening a channel: what is committed there, and what may become of the rest; and the channel that a partition had before
//! its stream was renamed.

use std::time::Duration;

use forebay_buffer::{Checkpoint, Numbering};
use tokio::time::{Instant, sleep};

use super::{COMMIT_PATIENCE, Open, SnowpipeLane, are_comparable};
use crate::{
    client::snowflake::{Error, Opened, Pipe, Status},
    contract::{Destination, Local, RefusedRange, Resumed, SinkError},
    sink::snowpipe::{flights::Flights, name, note::Note, token::Token},
};

/// What is appended to a channel by then is waited for before it is opened again, which discards it: it would have to be
/// sent anew. What cannot be has the time of [`COMMIT_PATIENCE`].
const UNCOMMITTED_PATIENCE: Duration = Duration::from_secs(10);
/// Between two attempts to open a channel that has something to commit.
const UNCOMMITTED_PAUSE: Duration = Duration::from_millis(250);

/// What an opened channel has.
struct Examined {
    committed: Option<Token>,
    /// Its row errors: with the refusals here, all have been dealt with.
    errors: u64,
    /// What that is to the buffer.
    found: Option<Checkpoint>,
    refusals: Vec<RefusedRange>,
}

impl SnowpipeLane {
    /// Makes the channel ours, and looks at what is committed there.
    pub(super) async fn reopen(&mut self, local: Local) -> Result<Resumed, SinkError> {
        let mut opened = self.open_channel(&self.channel.clone(), None, &local).await?;
        let mut examined = self.examine(&opened.status, &local)?;
        let former = name::former_channel(self.shared.prefix(), &self.partition);
        if let (None, Some(former)) = (examined.committed, former)
            && let Some(carried_on) = self.take_over(&former, &local).await?
        {
            (opened, examined) = carried_on;
        }
        let Examined { committed, errors, found, refusals } = examined;
        let is_further = |now: Token| self.seen.is_none_or(|before| before.is_before(&now));
        if committed.is_some_and(is_further) {
            (self.contests, self.refused) = (0, None);
        }
        (self.committed, self.seen, self.uncommitted_since) = (committed, committed, None);
        let known = Note { created_on_ms: opened.status.created_on_ms, errors, token: opened.status.committed };
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
        let dealt_with = Note::errors_known(note.as_ref(), status, committed.map_or(0, |token| token.errors));
        let errors = status.rows_error_count.unwrap_or(dealt_with);
        let dealt_with = match found {
            Some(found) if self.is_of_another_buffer(found, local) => {
                if errors > 0 {
                    log::warn!(
                        "{} ({}: channel {} is of another buffer, lost or elsewhere: {} rows that were left out of it before now \
                         are none of those here)",
                        self.shared.progress.subject(),
                        self.partition,
                        self.channel,
                        errors,
                    );
                }
                errors
            }
            _ => dealt_with,
        };
        if let (Some(token), Some(here)) = (found, local.checkpoint)
            && note.as_ref().is_some_and(|note| note.token == status.committed)
            && (here.generation == local.generation || are_comparable(self.partition.numbering, token, here))
        {
            // Beyond what the token says lie only events that were refused.
            found = Some(here);
        }
        let new = errors.saturating_sub(dealt_with);
        // Where partitions are shared out, the latest owner has dealt with what it has confirmed. What comes to light once its
        // token was taken over here is news.
        let is_anothers = |token: Token| token.checkpoint.generation != local.generation;
        let is_new_here = note.is_none_or(|note| note.token != status.committed);
        let is_shared = self.partition.hub.as_ref().is_some_and(|hub| hub.is_shared);
        let is_seen_to = is_shared && is_new_here && committed.is_some_and(is_anothers);
        let refusals = self.refused_before(status, new, local.checkpoint, found, is_seen_to)?;
        Ok(Examined { committed, errors, found, refusals })
    }

    /// Whether `found` says nothing about what is here. (Numbers of a hub are the same for all.)
    fn is_of_another_buffer(&self, found: Checkpoint, local: &Local) -> bool {
        let delivered = local.checkpoint.map(|checkpoint| checkpoint.generation);
        self.partition.numbering == Numbering::Assigned
            && found.generation != local.generation
            && delivered != Some(found.generation)
    }

    /// Opens a channel, once what was appended to it is committed, or has had its time.
    async fn open_channel(&mut self, channel: &str, token: Option<&str>, local: &Local) -> Result<Opened, SinkError> {
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
        let status = known.get(channel);
        // It was opened from here with the same token, and nothing was left in it that others had appended.
        let is_as_noted = Note::from_bytes(local.note.as_deref()).zip(status).is_some_and(|(note, status)| {
            (note.created_on_ms, &note.token) == (status.created_on_ms, &status.committed)
        });
        Ok(match status.and_then(|status| status.committed.as_deref()) {
            _ if is_as_noted => true,
            Some(token) => Token::parse(token).is_some_and(|token| !self.is_of_another_buffer(token.checkpoint, local)),
            None => local.checkpoint.is_some_and(|checkpoint| checkpoint.generation == local.generation),
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
        // It counts for itself.
        let errors = opened.status.rows_error_count.unwrap_or_default();
        Ok(Some((opened, Examined { errors, ..examined })))
    }

    /// The service counts a channel for 30 idle days: the one that was carried on here is dropped once more is committed here.
    pub(super) fn let_former_go(&mut self) {
        let committed =
            self.open.as_ref().and_then(|open| open.committed).filter(|token| Some(*token) != self.committed);
        let Some(Token { checkpoint, .. }) = committed else { return };
        let Some(former) = self.former.take() else { return };
        let (pipe, numbering) = (self.shared.pipe.clone(), self.partition.numbering);
        tokio::spawn(async move {
            if let Err(error) = drop_if_passed(&pipe, &former, checkpoint, numbering).await {
                log::debug!("{error}");
            }
        });
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
