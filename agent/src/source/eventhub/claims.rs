//! The claims of this agent: made, renewed, lost and given up.
//!
//! A claim that could not be renewed in time is another's for the asking, and that is counted from before the last renewal
//! was sent, by the time since boot: neither a wrong clock nor a table that is out of reach keeps a partition here.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use forebay_buffer::clock::Clock;

use super::balance::{self, Strategy, View};
use crate::contract::{Bid, Claim, Control, ControlError, Shares};

/// How partitions are shared out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Balance {
    /// How often the table is looked at, and the claims renewed.
    pub interval: Duration,
    /// A claim that was not renewed for so long is nobody's. More than the interval.
    pub expiration: Duration,
    /// How fast an agent comes to its share.
    pub strategy: Strategy,
}

/// What this agent has claimed.
pub(super) struct Claims {
    control: Arc<dyn Control>,
    shares: Shares,
    /// Under which name: the agent's id.
    owner: String,
    /// What every etag of this process begins with.
    mark: String,
    balance: Balance,
    clock: Arc<dyn Clock>,
    held: BTreeMap<String, Held>,
    /// What another has taken without a claim, and until when it is left to it.
    barred: BTreeMap<String, Duration>,
    /// What is another's, or was meanwhile, and is still to be left.
    lost: BTreeSet<String>,
    /// What is known to be another's.
    foreign: BTreeSet<String>,
    /// The claims as they were seen, and since when they are the same.
    seen: BTreeMap<String, (String, Duration)>,
    /// When the last look was over that the table had answered to the end.
    looked: Option<Duration>,
    /// Whether claims of this name are from before this agent started, and so ours still.
    starting: bool,
}

struct Held {
    etag: String,
    /// By the time since boot.
    until: Duration,
    /// It was too old: what it was for has been left.
    suspended: bool,
}

impl Claims {
    pub(super) fn new(
        control: Arc<dyn Control>,
        shares: Shares,
        owner: String,
        balance: Balance,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            control,
            shares,
            owner,
            mark: random(),
            balance,
            clock,
            held: BTreeMap::new(),
            barred: BTreeMap::new(),
            lost: BTreeSet::new(),
            foreign: BTreeSet::new(),
            seen: BTreeMap::new(),
            looked: None,
            starting: true,
        }
    }

    /// Looks at the table, renews what is ours, and takes what should be. Whether another agent makes claims under our
    /// name. Can be dropped: what it was in the middle of is found out by the next.
    pub(super) async fn turn(&mut self, partitions: &[String]) -> Result<bool, ControlError> {
        let asked = self.now();
        let claims = self.control.claims(&self.shares).await?;
        let expired = self.observe(&claims, asked);
        let has_double = self.compare(&claims, &expired);
        self.barred.retain(|_, until| *until > asked);
        let held: BTreeSet<String> = self.held.keys().cloned().collect();
        let barred = self.barred.keys().cloned().collect();
        let view = View { claims: &claims, partitions, held: &held, barred: &barred, expired: &expired };
        let seed = getrandom::u32().unwrap_or_default();
        let wanted = balance::wanted(&view, self.balance.strategy, seed).into_iter().chain(held.iter().cloned());
        let wanted: BTreeSet<String> = wanted.collect();
        let mut bids: Vec<_> = wanted.iter().map(|partition| self.bid(partition, &claims)).collect();
        // What another took at the hub.
        let given_up = claims.iter().filter(|claim| self.is_own(claim) && self.barred.contains_key(&claim.partition));
        bids.extend(given_up.map(|claim| self.farewell(claim.partition.clone(), claim.etag.clone())));
        // Before the bids are sent: the table counts from when they come to it.
        let until = self.now() + self.balance.expiration;
        let won = if bids.is_empty() { Vec::new() } else { self.control.bid(&self.shares, &bids).await? };
        let won: BTreeSet<_> = won.into_iter().collect();
        for Bid { partition, etag, .. } in bids.into_iter().filter(|bid| bid.owner == self.owner) {
            // One that is held and was not won may have been renewed all the same, or may be the next time: the next look
            // tells that from another's, and until then it is as old as it was.
            if won.contains(&partition) {
                self.foreign.remove(&partition);
                self.held.insert(partition, Held { etag, until, suspended: false });
            }
        }
        self.starting = false;
        self.looked = Some(self.now());
        Ok(has_double)
    }

    /// The partitions whose claims are nobody's any more. By the table's clock alone a claim would seem old that could only
    /// not be renewed, for the table was away, or whose clock has jumped: it must have been the same for as long here too.
    fn observe(&mut self, claims: &[Claim], now: Duration) -> BTreeSet<String> {
        let Balance { interval, expiration, .. } = self.balance;
        // In a gap as long as this nobody may have been able to renew. A table that is slow is there all the same.
        if self.looked.is_some_and(|before| now - before > expiration - interval) {
            self.seen.clear();
        }
        self.seen.retain(|partition, _| claims.iter().any(|claim| claim.partition == *partition));
        let mut expired = BTreeSet::new();
        for claim in claims {
            let seen = self.seen.entry(claim.partition.clone()).or_insert_with(|| (claim.etag.clone(), now));
            if seen.0 != claim.etag {
                *seen = (claim.etag.clone(), now);
            }
            // It was renewed up to an interval before it was first seen so.
            if claim.age > expiration && now - seen.1 + interval >= expiration {
                expired.insert(claim.partition.clone());
            }
        }
        expired
    }

    /// What the table says of what is held. Whether another goes by our name.
    fn compare(&mut self, claims: &[Claim], expired: &BTreeSet<String>) -> bool {
        let mut has_double = false;
        for claim in claims {
            let Claim { partition, owner, etag, .. } = claim;
            let is_active = !owner.is_empty() && !expired.contains(partition);
            let (is_own, is_barred) = (self.is_own(claim), self.barred.contains_key(partition));
            match self.held.get_mut(partition) {
                Some(held) if held.etag == *etag => {}
                Some(held) if is_own => held.etag.clone_from(etag),
                Some(_) => {
                    self.held.remove(partition);
                    has_double |= *owner == self.owner;
                    self.lost.insert(partition.clone());
                    self.foreign.insert(partition.clone());
                }
                None if !is_barred && (is_own || (*owner == self.owner && self.starting)) => {
                    // It is not in use before it is renewed.
                    let held = Held { etag: etag.clone(), until: Duration::ZERO, suspended: true };
                    self.held.insert(partition.clone(), held);
                }
                None if is_active && (*owner != self.owner || !is_barred) => {
                    // Who took it has claimed it: from now on that claim counts.
                    self.barred.remove(partition);
                    has_double |= *owner == self.owner;
                    if self.foreign.insert(partition.clone()) {
                        self.lost.insert(partition.clone());
                    }
                }
                None => {}
            }
        }
        has_double
    }

    /// Whether this process has made it: also by a bid whose outcome was not known, or which came late.
    fn is_own(&self, claim: &Claim) -> bool {
        claim.owner == self.owner && claim.etag.starts_with(&self.mark)
    }

    fn bid(&self, partition: &str, claims: &[Claim]) -> Bid {
        let over = claims.iter().find(|claim| claim.partition == partition).map(|claim| claim.etag.clone());
        Bid { partition: partition.to_owned(), over, owner: self.owner.clone(), etag: self.etag() }
    }

    /// What gives a claim up.
    fn farewell(&self, partition: String, etag: String) -> Bid {
        Bid { partition, over: Some(etag), owner: String::new(), etag: self.etag() }
    }

    /// What no other claim ever had.
    fn etag(&self) -> String {
        format!("{}-{}", self.mark, random())
    }

    /// What is another's, or was meanwhile, and has not been left yet.
    pub(super) fn lost(&self) -> Vec<String> {
        self.lost.iter().cloned().collect()
    }

    /// It has been left, and taken back.
    pub(super) fn left(&mut self, partition: &str) {
        self.lost.remove(partition);
    }

    /// The partitions that are ours.
    pub(super) fn ours(&self) -> Vec<String> {
        let in_use = self.held.iter().filter(|(partition, held)| !held.suspended && !self.lost.contains(*partition));
        in_use.map(|(partition, _)| partition.clone()).collect()
    }

    /// Whether another took the partition at the hub, and has made no claim since.
    pub(super) fn is_barred(&self, partition: &str) -> bool {
        self.barred.contains_key(partition)
    }

    /// When a claim will have been too old for the first time, unless it is renewed: from now on.
    pub(super) fn next_expiry(&self) -> Option<Duration> {
        let in_use = self.held.values().filter(|held| !held.suspended);
        in_use.map(|held| held.until.saturating_sub(self.now())).min()
    }

    /// The claims that are too old by now. They are still ours if nobody takes them.
    pub(super) fn expire(&mut self) -> Vec<String> {
        let now = self.now();
        let expired = self.held.iter_mut().filter(|(_, held)| !held.suspended && held.until <= now);
        expired
            .map(|(partition, held)| {
                held.suspended = true;
                partition.clone()
            })
            .collect()
    }

    /// Another took the partition at the hub, and may have made no claim: it is left alone for as long as a claim lasts. The
    /// next look gives ours up: to wait for the table here would keep the others from being renewed.
    pub(super) fn yield_up(&mut self, partition: &str) {
        self.barred.insert(partition.to_owned(), self.now() + self.balance.expiration);
        self.held.remove(partition);
    }

    /// Gives up everything.
    pub(super) async fn release(&mut self) {
        let held = std::mem::take(&mut self.held);
        let bids: Vec<_> = held.into_iter().map(|(partition, held)| self.farewell(partition, held.etag)).collect();
        // What cannot be given up expires.
        if !bids.is_empty()
            && let Err(error) = self.control.bid(&self.shares, &bids).await
        {
            log::debug!("giving up claims: {error}");
        }
    }

    fn now(&self) -> Duration {
        self.clock.now().since_boot
    }
}

fn random() -> String {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).expect("a Linux kernel always has random bytes for a running process");
    format!("{:016x}", u64::from_ne_bytes(bytes))
}

#[cfg(test)]
mod tests;
