//! What a running agent does for the commands.

use std::{collections::BTreeSet, sync::Arc};

use forebay_buffer::{Buffer, DeadLetterFilter, Error};
use tokio::sync::oneshot;

use super::{
    AgentError,
    plant::Plant,
    socket::{Answer, Request},
};
use crate::{
    config::{Config, SinkConfig},
    contract::POSSIBLY_DELIVERED,
    observe::status::Report,
};

/// How many dead letters a message names.
const SHOWN: usize = 10;

impl Plant {
    /// Sees to a request beside everything else.
    pub(super) fn serve(&self, request: Request, reply: oneshot::Sender<Answer>) {
        if let Some(refusal) = self.refusal(&request) {
            let _ = reply.send(refusal);
            return;
        }
        if request == Request::Status {
            let view = Arc::clone(&self.view);
            tokio::spawn(async move {
                let _ = reply.send(match view.report().await {
                    Ok(report) => Answer::Status { report: as_value(&report) },
                    Err(message) => Answer::failed(1, message),
                });
            });
            return;
        }
        let (buffer, config) = (self.buffer.clone(), self.config.clone());
        tokio::task::spawn_blocking(move || {
            let answer = perform(&buffer, &config, request).unwrap_or_else(|error| {
                let error = AgentError::buffer("the buffer did not do it", &error);
                Answer::failed(error.kind.code(), error.message)
            });
            let _ = reply.send(answer);
        });
    }

    /// What is in use cannot be dropped.
    fn refusal(&self, request: &Request) -> Option<Answer> {
        let (what, table, name, used) = match request {
            Request::DiscardStream { name } => ("source", "sources", name, self.config.sources.contains_key(name)),
            Request::DiscardSink { name } => ("sink", "sinks", name, self.config.sinks.contains_key(name)),
            _ => return None,
        };
        used.then(|| {
            Answer::failed(
                2,
                format!("the {what} {name} is in the config: take [{table}.{name}] out of it, stop the agent, and discard it then"),
            )
        })
    }
}

fn as_value(report: &Report) -> serde_json::Value {
    serde_json::to_value(report).expect("numbers and text always serialize")
}

/// What a command may change, in an agent's buffer or, when none runs, in one that the command has opened. Blocks.
pub fn perform(buffer: &Buffer, config: &Config, request: Request) -> Result<Answer, Error> {
    let message = match request {
        Request::Status => unreachable!("the plant answers this itself"),
        Request::RetryDeadLetters { ids, force } => {
            if !force && let Some(refusal) = does_harm(buffer, config, &ids)? {
                return Ok(refusal);
            }
            format!("{} of {} dead letters are on their way again", buffer.retry_dead_letters(&ids)?, ids.len())
        }
        Request::DiscardDeadLetters { ids } => {
            format!("{} of {} dead letters discarded", buffer.discard_dead_letters(&ids)?, ids.len())
        }
        Request::DiscardStream { name } => {
            buffer.discard_stream(&name)?;
            format!("the stream {name} is discarded; what was not delivered is in the loss ledger")
        }
        Request::DiscardSink { name } => {
            buffer.discard_sink(&name)?;
            format!("the sink {name} is discarded; what was not delivered is in the loss ledger")
        }
        Request::AcknowledgeSalvage => {
            buffer.clear_recovery()?;
            "the report of the salvage is taken as read".to_owned()
        }
        Request::Adopt => format!("adopted as generation {}", buffer.adopt()?),
    };
    Ok(Answer::Done { message })
}

/// Why these dead letters are not sent again just so. Some may be at their destination already; and a sink that replaces
/// rows would put what is old in the place of what has come since.
fn does_harm(buffer: &Buffer, config: &Config, ids: &[i64]) -> Result<Option<Answer>, Error> {
    let mut inspector = buffer.inspector()?;
    let (mut delivered, mut overwriting, mut takers) = (Vec::new(), Vec::new(), BTreeSet::new());
    for id in ids {
        let filter = DeadLetterFilter { after_id: id.saturating_sub(1), limit: 1, ..DeadLetterFilter::default() };
        let Some(letter) = inspector.dead_letters(&filter)?.pop().filter(|letter| letter.id == *id) else { continue };
        if letter.code == POSSIBLY_DELIVERED {
            delivered.push(*id);
        }
        // What was refused at intake goes to every sink of its stream.
        let takes = |name: &str, sink: &SinkConfig| match &letter.sink {
            Some(refuser) => refuser == name,
            None => sink.inputs.contains(&letter.stream),
        };
        let replaces = |(name, sink): &(&String, &SinkConfig)| sink.kind.overwrites() && takes(name, sink);
        let taken_by: Vec<_> = config.sinks.iter().filter(replaces).map(|(name, _)| name.as_str()).collect();
        if !taken_by.is_empty() {
            overwriting.push(*id);
            takers.extend(taken_by);
        }
    }
    let mut problems = Vec::new();
    if !delivered.is_empty() {
        problems.push(format!("{} may have been delivered already, and would be there twice", listed(&delivered)));
    }
    if !overwriting.is_empty() {
        let sinks = takers.into_iter().collect::<Vec<_>>().join(", ");
        problems.push(format!("{} could overwrite newer rows, for {sinks} replaces rows", listed(&overwriting)));
    }
    if problems.is_empty() {
        return Ok(None);
    }
    let message =
        format!("{}: nothing was sent again; say --force if that is meant, or leave them out", problems.join("; "));
    Ok(Some(Answer::failed(2, message)))
}

/// `2 of them (3, 7)`.
fn listed(ids: &[i64]) -> String {
    let shown: Vec<_> = ids.iter().take(SHOWN).map(i64::to_string).collect();
    let more = if ids.len() > SHOWN { ", ..." } else { "" };
    format!("{} of them ({}{more})", ids.len(), shown.join(", "))
}
