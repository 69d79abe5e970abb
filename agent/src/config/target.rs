//! How checkpoints name where the events of a sink go. With the agent's id, the stream and the partition that is the
//! primary key of a row of the control table (see [`CheckpointKey`](crate::contract::CheckpointKey)).
//!
//! The namespace is the agent's id, the hub is the stream, and the partition is the stream's, whatever the source: `0`
//! where there is only one, the path of a tailed file, what the topic's level says for MQTT. Of an event hub they are its
//! own, which are the same for every agent that reads it, unless the sink is on this machine: then it is this agent's own,
//! as for any other source. What a single sink is to get again (`dead-letter retry`) has a partition of its own, whose name
//! ends in `/sink`.

use std::{collections::BTreeMap, sync::Arc};

use super::{Config, SinkKind};
#[cfg(feature = "eventhub")]
use super::{SourceConfig, SourceKind};
use crate::contract::{HubId, Target};

impl Config {
    /// The hubs that streams come from, whose partitions other agents know by the same names.
    pub fn hubs(&self) -> BTreeMap<String, Arc<HubId>> {
        #[cfg(feature = "eventhub")]
        {
            let hub_of = |(name, source): (&String, &SourceConfig)| match &source.kind {
                SourceKind::EventHub(settings) => Some((name.clone(), Arc::new(settings.hub.clone()))),
                _ => None,
            };
            self.sources.iter().filter_map(hub_of).collect()
        }
        #[cfg(not(feature = "eventhub"))]
        BTreeMap::new()
    }
}

impl Config {
    /// Where the sinks of the source called `name` take its events that are not on this machine.
    pub fn targets_of(&self, name: &str) -> Vec<Target> {
        self.all_targets_of(name).filter(|target| !target.is_local()).collect()
    }

    /// Whether a sink of the source called `name` is on this machine, and has what no other agent has.
    pub fn has_local_sink(&self, name: &str) -> bool {
        self.all_targets_of(name).any(|target| target.is_local())
    }

    fn all_targets_of(&self, name: &str) -> impl Iterator<Item = Target> {
        let takes = self.sinks.iter().filter(move |(_, sink)| sink.inputs.iter().any(|input| input == name));
        takes.map(|(name, sink)| sink.kind.target(name))
    }

    /// Whether partitions of a hub are shared out with other agents, and claims are needed for that.
    pub fn shares_out(&self) -> bool {
        #[cfg(feature = "eventhub")]
        let shares = |source: &SourceConfig| matches!(&source.kind, SourceKind::EventHub(hub) if hub.is_shared());
        #[cfg(not(feature = "eventhub"))]
        let shares = |_: &super::SourceConfig| false;
        self.sources.values().any(shares)
    }
}

impl SinkKind {
    /// Whether an event that comes late can take the place of a newer one there.
    pub fn overwrites(&self) -> bool {
        match self {
            #[cfg(feature = "postgres")]
            Self::Postgres(settings) => !settings.key.is_empty(),
            #[cfg(feature = "eventhub")]
            Self::EventHub(_) => false,
            #[cfg(feature = "snowpipe")]
            Self::Snowpipe(_) => false,
            Self::File(_) | Self::Stdout(_) => false,
        }
    }

    /// The target of the sink called `name`.
    pub fn target(&self, name: &str) -> Target {
        match self {
            #[cfg(feature = "eventhub")]
            Self::EventHub(settings) => settings.target(),
            Self::File(_) => Target::local("file", name),
            #[cfg(feature = "postgres")]
            Self::Postgres(settings) => settings.target(),
            #[cfg(feature = "snowpipe")]
            Self::Snowpipe(settings) => settings.target(),
            Self::Stdout(_) => Target::local("stdout", name),
        }
    }
}
