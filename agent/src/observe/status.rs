//! The state of an agent and its buffer as data: what `/api/status` sends, what `forebay status` prints, and what
//! metrics, health and the status page are made of.

use std::collections::BTreeMap;

use forebay_buffer::{Status, clock::Reading};
use serde::{Deserialize, Serialize};

use super::{gather, health};

/// Everything there is to see at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// When it was taken, as RFC 3339.
    pub time: String,
    /// Whether the kernel calls the clock synchronised.
    pub clock_synchronised: bool,
    /// The running agent. `None`: none runs, and the buffer is looked at alone.
    pub agent: Option<AgentReport>,
    /// The buffer file.
    pub buffer: BufferReport,
    /// The streams, and the sources that fill them.
    pub sources: Vec<SourceReport>,
    /// The sinks.
    pub sinks: Vec<SinkReport>,
    /// What needs looking at, the worst first.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Of a buffer that no agent has open.
    pub fn of_buffer(status: &Status, now: Reading) -> Self {
        let mut report = gather::report(status, now, &gather::Running::default());
        report.findings = health::findings(&report);
        report
    }

    /// Whether nothing is wrong. A warning is not.
    pub fn is_healthy(&self) -> bool {
        self.findings.iter().all(|finding| finding.severity != Severity::Error)
    }
}

/// The running process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AgentReport {
    /// The agent's id.
    pub id: String,
    /// Its version.
    pub version: String,
    /// Its process id.
    pub process_id: u32,
    /// How long it runs.
    pub uptime_seconds: u64,
    /// Its resident memory.
    pub resident_bytes: Option<u64>,
    /// What it has caused to be written to storage.
    pub written_bytes: Option<u64>,
}

/// The buffer file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BufferReport {
    /// Its generation.
    pub generation: String,
    /// The epoch of its present or last opening.
    pub epoch: u32,
    /// Database, write-ahead log and reserve, on disk.
    pub file_bytes: u64,
    /// What of it is in use.
    pub used_bytes: u64,
    /// What it may grow to; 0 if no agent has it open.
    pub max_bytes: u64,
    /// What the filesystem has left.
    pub free_disk_bytes: Option<u64>,
    /// Why producers are held back, if they are.
    pub full: Option<String>,
    /// For how long.
    pub full_for_seconds: Option<u64>,
    /// Dead letters kept.
    pub dead_letters: u64,
    /// Events in the loss ledger, by reason.
    pub lost_events: BTreeMap<String, u64>,
    /// What was lost when a damaged file was salvaged, until an operator has taken note of it.
    pub salvage: Option<SalvageReport>,
}

/// A salvage that nobody has taken note of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SalvageReport {
    /// What was wrong with the file.
    pub reason: String,
    /// Where it is now.
    pub set_aside: String,
    /// Events that were saved.
    pub events_kept: u64,
    /// Events that were not, as far as they could be counted.
    pub events_lost: u64,
}

/// A stream, and its source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SourceReport {
    /// Its name.
    pub name: String,
    /// The source's type. `None`: the stream is in the buffer and its source does not run.
    pub kind: Option<String>,
    /// What the source is doing.
    pub condition: Option<ConditionReport>,
    /// What it has done since the agent started.
    pub counters: Option<Counters>,
    /// Until when its TLS certificate is valid, as RFC 3339.
    pub certificate_expires: Option<String>,
    /// How long that is from now. Negative: it has expired.
    pub certificate_expires_in_seconds: Option<i64>,
    /// Why its TLS certificate cannot be read.
    pub certificate_error: Option<String>,
    /// Events in the buffer.
    pub buffered_events: u64,
    /// Their bytes on disk.
    pub buffered_bytes: u64,
    /// What they may be.
    pub max_bytes: u64,
    /// Whether its producers are held back.
    pub full: bool,
    /// Its partitions.
    pub partitions: Vec<PartitionReport>,
    /// Events that are upstream and not here yet, by partition, where the upstream says so.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub lag_events: BTreeMap<String, u64>,
}

/// A partition of a stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PartitionReport {
    /// Its name.
    pub name: String,
    /// The sink whose retried dead letters it holds.
    pub for_sink: Option<String>,
    /// The offset of its last event.
    pub high_water: String,
    /// Its events in the buffer.
    pub events: u64,
    /// Their bytes on disk.
    pub bytes: u64,
    /// The age of the oldest.
    pub oldest_age_seconds: Option<f64>,
}

/// A sink.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SinkReport {
    /// Its name.
    pub name: String,
    /// Its type. `None`: the buffer keeps events for it and it does not run.
    pub kind: Option<String>,
    /// The streams it takes.
    pub inputs: Vec<String>,
    /// What the sink as a whole is doing, beside its lanes.
    pub condition: Option<ConditionReport>,
    /// What it has done since the agent started.
    pub counters: Option<Counters>,
    /// Events that it has still to get.
    pub pending_events: u64,
    /// The age of the oldest of them.
    pub oldest_age_seconds: Option<f64>,
    /// Events that it refused.
    pub dead_letters: u64,
    /// Events that a policy dropped before it had them.
    pub lost_events: u64,
    /// Its place in each partition.
    pub lanes: Vec<LaneReport>,
}

/// A sink's place in a partition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LaneReport {
    /// The stream.
    pub stream: String,
    /// The partition.
    pub partition: String,
    /// What the lane is doing.
    pub condition: Option<ConditionReport>,
    /// The last offset that the destination confirmed.
    pub confirmed: Option<String>,
    /// Events that it has still to get.
    pub pending_events: u64,
    /// The age of the oldest of them.
    pub oldest_age_seconds: Option<f64>,
    /// How long nothing was confirmed while something was pending.
    pub no_progress_seconds: Option<u64>,
}

/// What a source or a lane is doing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConditionReport {
    /// Which.
    pub state: State,
    /// Why, where that is not plain.
    pub reason: Option<String>,
    /// For how long.
    pub for_seconds: u64,
}

/// The conditions there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Not heard from yet.
    Starting,
    /// Doing its work, or ready for it.
    Running,
    /// Waiting for something outside to come back.
    Waiting,
    /// Held back because the buffer is full.
    HeldBack,
    /// Stopped until an operator acts.
    Stopped,
    /// Done.
    Finished,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Starting, Self::Running, Self::Waiting, Self::HeldBack, Self::Stopped, Self::Finished];

    /// As metrics name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::HeldBack => "held_back",
            Self::Stopped => "stopped",
            Self::Finished => "finished",
        }
    }
}

/// What a source or sink has done since the agent started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Events taken in durably, or confirmed.
    pub events: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Errors that were met and waited out.
    pub errors: u64,
    /// Events refused: by the destination, or at intake.
    pub refused: u64,
    /// Events that a policy dropped before they were stored.
    pub dropped: u64,
    /// Events left out at intake, for they had come before.
    pub duplicates: u64,
}

/// Something to look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What it is about: `buffer`, `source line1`, `sink warehouse (line1/0)`.
    pub subject: String,
    /// What is the matter.
    pub message: String,
    /// For how long, where that is known.
    pub for_seconds: Option<u64>,
    /// What to do.
    pub remedy: String,
}

/// How bad a [`Finding`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It does not work: `/health` says 503.
    Error,
    /// It works, but look at it.
    Warning,
}

/// What the health pages say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Whether there is no error among the findings.
    pub healthy: bool,
    /// What needs looking at, the worst first.
    pub findings: Vec<Finding>,
}

impl Health {
    pub(super) fn new(findings: Vec<Finding>) -> Self {
        Self { healthy: findings.iter().all(|finding| finding.severity != Severity::Error), findings }
    }

    pub(super) fn of(report: &Report) -> Self {
        Self::new(report.findings.clone())
    }

    /// Where the buffer itself cannot be asked.
    pub(super) fn broken(message: String) -> Self {
        Self::new(vec![Finding {
            severity: Severity::Error,
            subject: "buffer".to_owned(),
            message,
            for_seconds: None,
            remedy: "look at the log, and run `forebay check`".to_owned(),
        }])
    }
}
