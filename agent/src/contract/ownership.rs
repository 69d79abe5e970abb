//! Who reads which partition of a hub, where several agents share it out among themselves.
//!
//! A claim is a lease: its owner renews it, and one that was not renewed for too long is anyone's. Each change is a
//! compare-and-set on the etag, so that of two who want the same only one gets it. How old a claim is says the table, by
//! its own clock: those of the agents may differ by years.

use std::time::Duration;

use super::{HubId, Target};

/// What is shared out: the partitions of a hub that one consumer group reads for one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shares {
    /// The hub, and the consumer group.
    pub hub: HubId,
    /// Where the events go.
    pub target: Target,
}

impl Shares {
    /// The columns of the primary key of the table of claims: whose shares, and the partition.
    pub const COLUMNS: [&str; 7] = [
        "fully_qualified_namespace",
        "eventhub_name",
        "consumer_group",
        "target_db",
        "target_schema",
        "target_table",
        "partition_id",
    ];

    /// What is in [`Shares::COLUMNS`], but for the partition.
    pub fn values(&self) -> [&str; 6] {
        let (hub, target) = (&self.hub, &self.target);
        [&hub.namespace, &hub.hub, &hub.consumer_group, &target.database, &target.schema, &target.table]
            .map(String::as_str)
    }
}

/// A claim, as it stands in the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// To which partition.
    pub partition: String,
    /// Whose it is. Empty: nobody's any more.
    pub owner: String,
    /// What it must still be for it to be changed.
    pub etag: String,
    /// Since when it was not renewed.
    pub age: Duration,
}

impl Claim {
    /// The age that a table tells, in seconds. One that is dated ahead, by a clock that was put back since or by another
    /// program, counts as old: else it would stay new for as long as that clock is behind. That it was not renewed meanwhile
    /// must be seen besides.
    pub fn age_of(seconds: &str) -> Duration {
        let age = seconds.parse().ok().and_then(|age: f64| Duration::try_from_secs_f64(age).ok());
        age.unwrap_or(Duration::MAX)
    }
}

/// What a claim is to become.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bid {
    /// To which partition.
    pub partition: String,
    /// The etag of the claim that this takes the place of. `None`: there is none.
    pub over: Option<String>,
    /// Whose it will be. Empty: nobody's.
    pub owner: String,
    /// Its new etag, which no other claim ever had.
    pub etag: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_that_is_dated_ahead_is_old() {
        assert_eq!(Claim::age_of("1.5"), Duration::from_millis(1_500));
        assert_eq!((Claim::age_of("-3600.25"), Claim::age_of("")), (Duration::MAX, Duration::MAX));
    }
}
