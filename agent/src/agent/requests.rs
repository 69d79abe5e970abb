//! What a running agent does for the commands.

use std::sync::Arc;

use forebay_buffer::{Buffer, Error};
use tokio::sync::oneshot;

use super::{
    AgentError,
    plant::Plant,
    socket::{Answer, Request},
};
use crate::observe::status::Report;

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
        let buffer = self.buffer.clone();
        tokio::task::spawn_blocking(move || {
            let answer = perform(&buffer, request).unwrap_or_else(|error| {
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
pub fn perform(buffer: &Buffer, request: Request) -> Result<Answer, Error> {
    let message = match request {
        Request::Status => unreachable!("the plant answers this itself"),
        Request::RetryDeadLetters { ids, force: _ } => {
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
