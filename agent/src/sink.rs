//! Where events go. Each sink is a module of its own; what they share is what a body is, and how an
//! event becomes a line of JSON.

pub mod body;
#[cfg(feature = "eventhub")]
pub mod eventhub;
pub mod file;
pub mod line;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "snowpipe")]
pub mod snowpipe;
#[cfg(any(feature = "postgres", feature = "snowpipe"))]
pub mod source;
pub mod stdout;
#[cfg(any(feature = "postgres", feature = "snowpipe"))]
mod value;

pub use line::write_line;

/// What a line holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// A JSON object: stream, partition, offset, time, and whatever the event has of key, headers, body and table.
    #[default]
    Envelope,
    /// The body alone, as JSON: as it came if it is JSON, else as a string; `{"body_base64": …}` if it is not text, and
    /// `null` if there is none.
    Body,
}
