//! How checkpoints name where the events of a sink go. With the agent's id, the stream and the partition that is the
//! primary key of a row of the control table (see [`CheckpointKey`](crate::contract::CheckpointKey)).
//!
//! The namespace is the agent's id, the hub is the stream, and the partition is the stream's, whatever the source: `0`
//! where there is only one, the path of a tailed file, what the topic's level says for MQTT. What a single sink is to get
//! again (`dead-letter retry`) has a partition of its own, whose name ends in `/sink`.

use super::SinkKind;
use crate::contract::Target;

/// The schema of what has none: it is on this machine.
const LOCAL: &str = "local";

impl SinkKind {
    /// Whether an event that comes late can take the place of a newer one there.
    pub fn overwrites(&self) -> bool {
        match self {
            #[cfg(feature = "postgres")]
            Self::Postgres(settings) => !settings.key.is_empty(),
            Self::File(_) | Self::Stdout(_) => false,
        }
    }

    /// The target of the sink called `name`.
    pub fn target(&self, name: &str) -> Target {
        match self {
            Self::File(_) => local("file", name),
            #[cfg(feature = "postgres")]
            Self::Postgres(settings) => settings.target(),
            Self::Stdout(_) => local("stdout", name),
        }
    }
}

fn local(kind: &str, name: &str) -> Target {
    Target { database: kind.to_owned(), schema: LOCAL.to_owned(), table: name.to_owned() }
}
