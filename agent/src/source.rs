//! Where events come from: one module for each kind of source.
//!
//! What they share is here and in [`lines`] and [`batch`]: how bytes become lines, lines become batches, and how many
//! batches may be on their way to disk at once. None of them retries or keeps a checkpoint of its own.

mod batch;
#[cfg(feature = "eventhub")]
pub mod eventhub;
pub mod host;
pub mod http;
pub mod lines;
#[cfg(feature = "mqtt")]
pub mod mqtt;
pub mod stdin;
pub mod tail;
#[cfg(test)]
mod testing;

/// What a line of text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LineFormat {
    /// Each line is an event, whatever is in it.
    #[default]
    Lines,
    /// Each line is a JSON value. Blank lines are passed over, other lines are refused.
    Ndjson,
}
