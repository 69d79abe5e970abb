//! Which claims to make: how the agents that read one hub come to an even share without talking to each other.
//!
//! Each looks at the table of claims from time to time, and takes what is nobody's up to its share. Where there is nothing
//! left to take and somebody has two or more above ours, one of them is taken over. So an agent more or less is a few moves,
//! and when all shares are within one of each other nothing moves any more.

use std::collections::{BTreeMap, BTreeSet};

use crate::contract::Claim;

/// How fast an agent comes to its share. The names are those of the vendor's SDKs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// One partition at each look: claims settle without being taken to and fro.
    Balanced,
    /// The whole share at once.
    Greedy,
}

/// What an agent sees when it looks.
pub(super) struct View<'a> {
    /// The table.
    pub(super) claims: &'a [Claim],
    /// The partitions of the hub.
    pub(super) partitions: &'a [String],
    /// What it holds.
    pub(super) held: &'a BTreeSet<String>,
    /// What it must not take just now.
    pub(super) barred: &'a BTreeSet<String>,
    /// Those whose claims are nobody's any more.
    pub(super) expired: &'a BTreeSet<String>,
}

/// The partitions to take, each nobody's or the worthiest to be taken over. `seed` is a random number, so that agents that
/// look at the same moment do not all go for the same ones.
pub(super) fn wanted(view: &View<'_>, strategy: Strategy, seed: u32) -> Vec<String> {
    let mut owners: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut free: Vec<&str> = Vec::new();
    for partition in view.partitions.iter().filter(|partition| !view.held.contains(*partition)) {
        let claim = view.claims.iter().find(|claim| claim.partition == *partition);
        match claim.filter(|claim| !claim.owner.is_empty() && !view.expired.contains(partition.as_str())) {
            Some(claim) => owners.entry(&claim.owner).or_default().push(partition),
            None => free.push(partition),
        }
    }
    let share = view.partitions.len().div_ceil(owners.len() + 1);
    free.retain(|partition| !view.barred.contains(*partition));
    for partitions in owners.values_mut() {
        partitions.retain(|partition| !view.barred.contains(*partition));
    }
    let mut wanted = Vec::new();
    let enough = |wanted: &Vec<String>| strategy == Strategy::Balanced && !wanted.is_empty();
    while !enough(&wanted) {
        let ours = view.held.len() + wanted.len();
        let taken = if !free.is_empty() && ours < share {
            take(&mut free, seed)
        } else if free.is_empty()
            && let Some(largest) = owners.values_mut().max_by_key(|partitions| partitions.len())
            && largest.len() > ours + 1
        {
            take(largest, seed)
        } else {
            break;
        };
        wanted.push(taken);
    }
    wanted
}

fn take(from: &mut Vec<&str>, seed: u32) -> String {
    from.swap_remove(seed as usize % from.len()).to_owned()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::{arbitrary::any, prelude::prop, prop_assert, prop_assert_eq, proptest};

    use super::*;

    const EXPIRATION: Duration = Duration::from_secs(60);

    fn expired(claims: &[Claim]) -> BTreeSet<String> {
        claims.iter().filter(|claim| claim.age > EXPIRATION).map(|claim| claim.partition.clone()).collect()
    }

    fn partitions(count: usize) -> Vec<String> {
        (0..count).map(|id| id.to_string()).collect()
    }

    fn claim(partition: &str, owner: &str, age_secs: u64) -> Claim {
        let (partition, owner) = (partition.to_owned(), owner.to_owned());
        Claim { partition, owner, etag: String::new(), age: Duration::from_secs(age_secs) }
    }

    fn look(claims: &[Claim], count: usize, held: &[&str], strategy: Strategy, seed: u32) -> Vec<String> {
        let held = held.iter().map(|partition| (*partition).to_owned()).collect();
        let (partitions, barred, expired) = (partitions(count), BTreeSet::new(), expired(claims));
        let view = View { claims, partitions: &partitions, held: &held, barred: &barred, expired: &expired };
        wanted(&view, strategy, seed)
    }

    #[test]
    fn an_agent_alone_takes_everything_at_once_or_one_by_one() {
        assert_eq!(look(&[], 4, &[], Strategy::Greedy, 0).len(), 4);
        assert_eq!(look(&[], 4, &[], Strategy::Balanced, 7).len(), 1);
    }

    #[test]
    fn what_was_given_up_or_not_renewed_is_nobodys() {
        let claims = [claim("0", "", 1), claim("1", "other", 61), claim("2", "other", 60)];
        let mut taken = look(&claims, 3, &[], Strategy::Greedy, 0);
        taken.sort();
        assert_eq!(taken, ["0", "1"]);
    }

    #[test]
    fn nothing_is_taken_over_where_the_shares_are_even() {
        let claims = [claim("0", "a", 1), claim("1", "a", 1), claim("2", "me", 1)];
        assert_eq!(look(&claims, 3, &["2"], Strategy::Greedy, 0), Vec::<String>::new());
        assert_eq!(look(&claims, 3, &[], Strategy::Greedy, 0).len(), 1, "who has none takes one of two");
    }

    #[test]
    fn the_greatest_owner_is_taken_from() {
        let claims: Vec<_> = (0..6).map(|id| claim(&id.to_string(), if id < 4 { "a" } else { "b" }, 1)).collect();
        for seed in 0..20 {
            let taken = look(&claims, 6, &[], Strategy::Balanced, seed);
            assert!(taken[0].parse::<u32>().expect("a number") < 4, "{taken:?}");
        }
    }

    #[test]
    fn what_is_barred_is_left() {
        let (partitions, held) = (partitions(2), BTreeSet::new());
        let (barred, expired) = (BTreeSet::from(["1".to_owned()]), BTreeSet::new());
        let view = View { claims: &[], partitions: &partitions, held: &held, barred: &barred, expired: &expired };
        assert_eq!(wanted(&view, Strategy::Greedy, 0), ["0"]);
    }

    proptest! {
        /// Agents that come and go, and look one after the other: the shares come to be even, and then nothing moves.
        #[test]
        fn any_number_of_agents_comes_to_even_shares(
            count in 1..40_usize,
            agents in 1..7_usize,
            owners in prop::collection::vec(0..9_usize, 40),
            seeds in prop::collection::vec(any::<u32>(), 16),
            greedy in any::<bool>(),
        ) {
            let strategy = if greedy { Strategy::Greedy } else { Strategy::Balanced };
            // Whoever is not among the agents is gone, and its claims have expired.
            let mut claims: Vec<_> = (0..count)
                .map(|id| claim(&id.to_string(), &owners[id].to_string(), if owners[id] < agents { 1 } else { 99 }))
                .collect();
            let (all, barred) = (partitions(count), BTreeSet::new());
            let mut moves = 0;
            for round in 0..count + 2 {
                moves = 0;
                for agent in 0..agents {
                    let me = agent.to_string();
                    let held = claims.iter().filter(|claim| claim.owner == me && claim.age <= EXPIRATION);
                    let held: BTreeSet<_> = held.map(|claim| claim.partition.clone()).collect();
                    let expired = expired(&claims);
                    let view =
                        View { claims: &claims, partitions: &all, held: &held, barred: &barred, expired: &expired };
                    for partition in wanted(&view, strategy, seeds[round % seeds.len()]) {
                        let taken = claims.iter_mut().find(|claim| claim.partition == partition).expect("of the hub");
                        *taken = claim(&partition, &me, 1);
                        moves += 1;
                    }
                }
            }
            prop_assert_eq!(moves, 0, "it settles");
            let shares: Vec<_> =
                (0..agents).map(|agent| claims.iter().filter(|claim| claim.owner == agent.to_string()).count()).collect();
            let (least, most) = (shares.iter().min().expect("one"), shares.iter().max().expect("one"));
            prop_assert!(most - least <= 1, "{:?}", shares);
            prop_assert_eq!(shares.iter().sum::<usize>(), count);
        }
    }
}
