//! What commands ask of a running agent, and what it answers.

use serde::{Deserialize, Serialize};

/// No request is longer. An answer is as long as the status is.
pub const MAX_LINE_BYTES: u64 = 1 << 20;

/// What a command asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// What `/api/status` says.
    Status,
    /// Send dead letters again.
    RetryDeadLetters {
        /// Which.
        ids: Vec<i64>,
        /// Even where they may overwrite newer rows, or may be there already.
        force: bool,
    },
    /// Drop dead letters.
    DiscardDeadLetters {
        /// Which.
        ids: Vec<i64>,
    },
    /// Drop a stream that is not in the config, and what is kept of it.
    DiscardStream {
        /// Which.
        name: String,
    },
    /// Drop a sink that is not in the config, and what is kept for it.
    DiscardSink {
        /// Which.
        name: String,
    },
    /// Take the report of a salvage as read.
    AcknowledgeSalvage,
    /// Give the buffer a new generation.
    Adopt,
}

/// What the agent answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum Answer {
    /// It is done.
    Done {
        /// What was done, for the operator.
        message: String,
    },
    /// The status.
    Status {
        /// As `/api/status` has it.
        report: serde_json::Value,
    },
    /// It is not done.
    Failed {
        /// The exit code for it.
        code: u8,
        /// Why, and what to do.
        message: String,
    },
}

impl Answer {
    /// Not done.
    pub fn failed(code: u8, message: impl Into<String>) -> Self {
        Self::Failed { code, message: message.into() }
    }
}
