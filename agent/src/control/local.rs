//! Claims that are kept in memory, beside checkpoints in a table: for trying an account out that has no hybrid tables. It
//! looks to the source as if it shared partitions out, and shares with nobody.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use forebay_buffer::clock::Clock;

use crate::contract::{
    Bid, BoxFuture, CheckpointKey, CheckpointMove, Claim, Control, ControlError, ControlRow, Shares,
};

/// What there is to say of it.
pub const SMOKE: &str = "is a diagnostic mode: claims to partitions are kept in memory, and no other agent knows of them, so \
                         that a second one that reads the hub for the same target delivers every event again";

/// A control table without its claims.
pub struct Local {
    checkpoints: Arc<dyn Control>,
    clock: Arc<dyn Clock>,
    /// By partition: the owner, the etag, and when that was made, by the time since boot. There is one consumer, so that
    /// there are only one's shares.
    claims: Mutex<BTreeMap<String, (String, String, Duration)>>,
}

impl Local {
    /// With the checkpoints of another.
    pub fn new(checkpoints: Arc<dyn Control>, clock: Arc<dyn Clock>) -> Self {
        Self { checkpoints, clock, claims: Mutex::default() }
    }

    fn make(&self, bids: &[Bid]) -> Vec<String> {
        let now = self.clock.now().since_boot;
        let mut claims = self.claims.lock().expect("no holder of this lock panics");
        let mut won = Vec::new();
        for Bid { partition, over, owner, etag } in bids {
            if claims.get(partition).map(|(_, etag, _)| etag) == over.as_ref() {
                claims.insert(partition.clone(), (owner.clone(), etag.clone(), now));
                won.push(partition.clone());
            }
        }
        won
    }
}

impl Control for Local {
    fn place(&self) -> &str {
        self.checkpoints.place()
    }

    fn load<'a>(&'a self, keys: &'a [CheckpointKey]) -> BoxFuture<'a, Result<Vec<ControlRow>, ControlError>> {
        self.checkpoints.load(keys)
    }

    fn save<'a>(&'a self, moves: &'a [CheckpointMove]) -> BoxFuture<'a, Result<(), ControlError>> {
        self.checkpoints.save(moves)
    }

    fn claims<'a>(&'a self, _: &'a Shares) -> BoxFuture<'a, Result<Vec<Claim>, ControlError>> {
        let now = self.clock.now().since_boot;
        let claims = self.claims.lock().expect("no holder of this lock panics");
        let claims = claims.iter().map(|(partition, (owner, etag, made))| Claim {
            partition: partition.clone(),
            owner: owner.clone(),
            etag: etag.clone(),
            age: now.saturating_sub(*made),
        });
        let claims = claims.collect();
        Box::pin(async { Ok(claims) })
    }

    fn bid<'a>(&'a self, _: &'a Shares, bids: &'a [Bid]) -> BoxFuture<'a, Result<Vec<String>, ControlError>> {
        let won = self.make(bids);
        Box::pin(async { Ok(won) })
    }

    fn list<'a>(&'a self, namespace: &'a str) -> BoxFuture<'a, Result<Vec<ControlRow>, ControlError>> {
        self.checkpoints.list(namespace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::ManualClock,
        contract::{HubId, Target},
    };

    /// Without rows.
    struct Nothing;

    impl Control for Nothing {
        fn place(&self) -> &str {
            "nowhere"
        }

        fn load<'a>(&'a self, _: &'a [CheckpointKey]) -> BoxFuture<'a, Result<Vec<ControlRow>, ControlError>> {
            Box::pin(async { Ok(Vec::new()) })
        }

        fn save<'a>(&'a self, _: &'a [CheckpointMove]) -> BoxFuture<'a, Result<(), ControlError>> {
            Box::pin(async { Ok(()) })
        }

        fn claims<'a>(&'a self, _: &'a Shares) -> BoxFuture<'a, Result<Vec<Claim>, ControlError>> {
            unreachable!("claims are kept in memory")
        }

        fn bid<'a>(&'a self, _: &'a Shares, _: &'a [Bid]) -> BoxFuture<'a, Result<Vec<String>, ControlError>> {
            unreachable!("claims are kept in memory")
        }

        fn list<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Vec<ControlRow>, ControlError>> {
            Box::pin(async { Ok(Vec::new()) })
        }
    }

    #[tokio::test]
    async fn claims_change_only_from_what_they_must_be() {
        let local = Local::new(Arc::new(Nothing), Arc::new(ManualClock::new(forebay_buffer::Timestamp(0))));
        let hub = HubId { namespace: "ns".into(), hub: "h".into(), consumer_group: "$Default".into(), is_shared: true };
        let target = Target { database: "D".into(), schema: "S".into(), table: "T".into() };
        let shares = Shares { hub, target };
        let bid = |over: Option<&str>, etag: &str| {
            [Bid { partition: "0".into(), over: over.map(str::to_owned), owner: "gw".into(), etag: etag.to_owned() }]
        };
        let won = vec!["0".to_owned()];
        assert_eq!(local.bid(&shares, &bid(None, "a")).await, Ok(won.clone()));
        assert_eq!(local.bid(&shares, &bid(None, "b")).await, Ok(Vec::new()));
        assert_eq!(local.bid(&shares, &bid(Some("a"), "c")).await, Ok(won));
        let claims = local.claims(&shares).await.expect("they are in memory");
        assert_eq!((claims.len(), claims[0].etag.as_str(), claims[0].owner.as_str()), (1, "c", "gw"));
    }
}
