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
            if !force && let Some(refusal) = could_overwrite(buffer, config, &ids)? {
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

/// Why these dead letters are not sent again just so: a sink would take them that replaces rows, and what has come since
/// may be newer.
fn could_overwrite(buffer: &Buffer, config: &Config, ids: &[i64]) -> Result<Option<Answer>, Error> {
    let sinks: Vec<_> = config.sinks.iter().filter(|(_, sink)| sink.kind.overwrites()).collect();
    if sinks.is_empty() {
        return Ok(None);
    }
    let mut inspector = buffer.inspector()?;
    let (mut letters, mut takers) = (Vec::new(), BTreeSet::new());
    for id in ids {
        let filter = DeadLetterFilter { after_id: id.saturating_sub(1), limit: 1, ..DeadLetterFilter::default() };
        let Some(letter) = inspector.dead_letters(&filter)?.pop().filter(|letter| letter.id == *id) else { continue };
        // What was refused at intake goes to every sink of its stream.
        let takes = |name: &str, sink: &SinkConfig| match &letter.sink {
            Some(refuser) => refuser == name,
            None => sink.inputs.contains(&letter.stream),
        };
        let taken_by: Vec<_> = sinks.iter().filter(|(name, sink)| takes(name, sink)).collect();
        if !taken_by.is_empty() {
            letters.push(id.to_string());
            takers.extend(taken_by.iter().map(|(name, _)| name.as_str()));
        }
    }
    if letters.is_empty() {
        return Ok(None);
    }
    let (sinks, count) = (takers.into_iter().collect::<Vec<_>>().join(", "), letters.len());
    let more = if count > SHOWN { ", ..." } else { "" };
    letters.truncate(SHOWN);
    let message = format!(
        "{count} of them ({}{more}) could overwrite newer rows, for {sinks} replaces rows: nothing was sent again; say \
         --force if that is meant, or leave them out",
        letters.join(", "),
    );
    Ok(Some(Answer::failed(2, message)))
}
