//! What a control table promises: where each stream stands, for operators and for whoever takes over.
//!
//! A sink that keeps the checkpoint in the transaction of its data does so by itself, in a row of the same form. For all
//! others delivery writes the control table after the destination has confirmed, at most once in an interval.

use std::fmt;

use forebay_buffer::Checkpoint;

use super::{Bid, BoxFuture, Claim, HubId, PartitionId, Shares};

/// Where the events of a sink go, as checkpoints name it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Target {
    /// The database; for what is none, the type of the sink.
    pub database: String,
    /// The schema; for what has none, `local`.
    pub schema: String,
    /// The table; for what has none, the name of the sink.
    pub table: String,
}

impl Target {
    /// The schema of what has none: it is on this machine.
    const LOCAL: &str = "local";

    /// That of the sink called `name` on this machine.
    pub fn local(kind: &str, name: &str) -> Self {
        Self { database: kind.to_owned(), schema: Self::LOCAL.to_owned(), table: name.to_owned() }
    }

    /// Whether it is on this machine, so that another agent's of the same name is another one.
    pub fn is_local(&self) -> bool {
        self.schema == Self::LOCAL && ["file", "stdout"].contains(&self.database.as_str())
    }
}

/// The primary key of a row of the control table: whose events, and where they go.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CheckpointKey {
    /// Of an Event Hub whose events do not stay on this machine, its namespace; else the agent's id.
    pub namespace: String,
    /// The same Event Hub; else the stream.
    pub hub: String,
    /// Where they go.
    pub target: Target,
    /// The partition.
    pub partition: String,
}

impl CheckpointKey {
    /// The columns of the primary key.
    pub const COLUMNS: [&str; 6] =
        ["eventhub_namespace", "eventhub", "target_db", "target_schema", "target_table", "partition_id"];

    /// What is in [`CheckpointKey::COLUMNS`].
    pub fn values(&self) -> [&str; 6] {
        let Target { database, schema, table } = &self.target;
        [&self.namespace, &self.hub, database, schema, table, &self.partition].map(String::as_str)
    }

    /// The key with these values of [`CheckpointKey::COLUMNS`].
    pub fn of_values([namespace, hub, database, schema, table, partition]: [String; 6]) -> Self {
        Self { namespace, hub, target: Target { database, schema, table }, partition }
    }

    /// The key of `partition` on its way from the agent called `agent_id` to `target`.
    pub fn new(agent_id: &str, partition: &PartitionId, target: &Target) -> Self {
        if let Some(hub) = partition.hub.as_ref().filter(|_| !target.is_local()) {
            return Self::of_hub(hub, &partition.name, target);
        }
        Self {
            namespace: agent_id.to_owned(),
            hub: partition.stream.clone(),
            target: target.clone(),
            partition: partition.name.clone(),
        }
    }

    /// The key of a partition of a hub on its way to `target`, by whichever agent.
    pub fn of_hub(hub: &HubId, partition: &str, target: &Target) -> Self {
        let HubId { namespace, hub, .. } = hub.clone();
        Self { namespace, hub, target: target.clone(), partition: partition.to_owned() }
    }

    /// The key under which the stream's checkpoint was kept before it was renamed. One that other agents have too bears no
    /// name of ours.
    pub fn former(&self, partition: &PartitionId) -> Option<Self> {
        let is_ours = partition.hub.is_none() || self.target.is_local();
        let former = partition.renamed_from.clone().filter(|_| is_ours)?;
        Some(Self { hub: former, ..self.clone() })
    }
}

impl fmt::Display for CheckpointKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Target { database, schema, table } = &self.target;
        write!(f, "{}/{}/{} -> {database}.{schema}.{table}", self.namespace, self.hub, self.partition)
    }
}

/// Who keeps a row: nobody else moves it, and nobody else takes it for the truth.
///
/// A table may be reached by two names (a pooler's and the server's own), so that it cannot be told from a config that
/// the control table and a sink's own are one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeptBy {
    /// The sink, in the transaction of its data: it is the truth about them.
    Sink,
    /// Delivery, some time after the sink has confirmed.
    Delivery,
}

impl KeptBy {
    /// How rows call it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Sink => "sink",
            Self::Delivery => "delivery",
        }
    }
}

/// A control table. Every call ends by itself, with an error if it must: nobody need guard it with a timeout.
pub trait Control: Send + Sync {
    /// Where it is, for messages: server, database, table.
    fn place(&self) -> &str;

    /// The rows of `keys` that are there, all asked for at once.
    fn load<'a>(&'a self, keys: &'a [CheckpointKey]) -> BoxFuture<'a, Result<Vec<ControlRow>, ControlError>>;

    /// Moves the rows, each from what it must be now (`None`: not there) to what it will be, by compare-and-set. Where one
    /// was not what it must be, each of the others has moved or has not.
    fn save<'a>(&'a self, moves: &'a [CheckpointMove]) -> BoxFuture<'a, Result<(), ControlError>>;

    /// The claims to the partitions that are shared out.
    fn claims<'a>(&'a self, of: &'a Shares) -> BoxFuture<'a, Result<Vec<Claim>, ControlError>>;

    /// Makes, renews or gives up claims, each by itself, and says to which partitions that has succeeded. Of the others
    /// somebody else's claim may be there by now, or what is there is as it was, or even what was bid: the next look tells.
    fn bid<'a>(&'a self, of: &'a Shares, bids: &'a [Bid]) -> BoxFuture<'a, Result<Vec<String>, ControlError>>;

    /// Every row of `namespace`, in the order of their keys.
    fn list<'a>(&'a self, namespace: &'a str) -> BoxFuture<'a, Result<Vec<ControlRow>, ControlError>>;
}

/// A row as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlRow {
    /// Which.
    pub key: CheckpointKey,
    /// Who keeps it, if it says so.
    pub kept_by: Option<KeptBy>,
    /// What is in it; or why that cannot be read: it is no checkpoint of this program, and is never written over. The
    /// message names the row and what is wrong with it.
    pub checkpoint: Result<Checkpoint, String>,
    /// Of a partition of a hub: where it stands there.
    pub upstream: Option<Upstream>,
}

/// Where a partition of a hub stands, besides its sequence number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// As whose reader.
    pub consumer_group: String,
    /// The hub's offset of the last event, an opaque string, where it is known.
    pub offset: Option<String>,
}

/// One row's move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointMove {
    /// Which row.
    pub key: CheckpointKey,
    /// What it must be now.
    pub from: Option<Checkpoint>,
    /// What it will be.
    pub to: Checkpoint,
    /// Of a partition of a hub: where [`CheckpointMove::to`] is there.
    pub upstream: Option<Upstream>,
}

/// Why the control table could not be read or written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ControlError {
    /// Try again later: it cannot be reached, or is busy.
    Retry(String),
    /// A row is not what it must be: someone else has written it. Look again at the truth.
    Moved(CheckpointKey),
    /// Only an operator can mend this: the message says what to do.
    Stop(String),
}

impl fmt::Display for ControlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Retry(message) | Self::Stop(message) => f.write_str(message),
            Self::Moved(key) => write!(f, "another writer has moved the control table's row of {key}"),
        }
    }
}

impl std::error::Error for ControlError {}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use forebay_buffer::Numbering;

    use super::*;

    #[test]
    fn what_stays_on_a_machine_has_rows_of_its_agent_also_where_it_comes_from_a_hub() {
        let hub =
            HubId { namespace: "ns".into(), hub: "eh".into(), consumer_group: "$Default".into(), is_shared: false };
        let partition = PartitionId {
            stream: "line1".into(),
            renamed_from: Some("line0".into()),
            name: "3".into(),
            numbering: Numbering::Shared { created: 7 },
            hub: Some(Arc::new(hub.clone())),
        };
        let (files, table) =
            (Target::local("file", "files"), Target { database: "d".into(), ..Target::local("", "t") });
        let key = |agent, target| CheckpointKey::new(agent, &partition, target);
        assert_eq!(key("gw-1", &files).values(), ["gw-1", "line1", "file", "local", "files", "3"]);
        assert_eq!(key("gw-1", &files).former(&partition).map(|key| key.hub), Some("line0".to_owned()));
        assert_eq!(key("gw-1", &table), key("gw-2", &table));
        assert_eq!(key("gw-1", &table), CheckpointKey::of_hub(&hub, "3", &table));
        assert_eq!(key("gw-1", &table).former(&partition), None);
    }
}
