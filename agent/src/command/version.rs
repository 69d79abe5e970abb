//! `forebay --version`: what this binary is, a fact to a line, for people and for package scripts.

use forebay_buffer::SCHEMA_VERSION;

/// The parts that may be left out of a build, and are in this one.
const FEATURES: &[&str] = &[
    #[cfg(feature = "eventhub")]
    "eventhub",
    #[cfg(feature = "mqtt")]
    "mqtt",
    #[cfg(feature = "postgres")]
    "postgres",
    #[cfg(feature = "snowpipe")]
    "snowpipe",
];

/// Its version, the schema of the buffers that it writes (one with a higher number is refused), its parts and its target.
pub(super) fn version() -> String {
    format!(
        "forebay {}\nbuffer schema {SCHEMA_VERSION}\nfeatures {}\ntarget {}\n",
        env!("CARGO_PKG_VERSION"),
        FEATURES.join(" "),
        env!("FOREBAY_TARGET"),
    )
}
