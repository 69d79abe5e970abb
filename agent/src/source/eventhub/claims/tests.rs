use std::sync::Mutex;

use forebay_buffer::Timestamp;

use super::*;
use crate::{
    clock::ManualClock,
    contract::{BoxFuture, CheckpointKey, CheckpointMove, ControlRow, HubId, Target},
};

const EXPIRATION: Duration = Duration::from_secs(60);

/// A table of claims in memory, with a clock of its own.
#[derive(Default)]
struct Table(Mutex<State>);

#[derive(Default, Clone)]
struct State {
    claims: Vec<Claim>,
    /// Bids are carried out, and the answer is lost.
    loses_answers: bool,
    /// Bids do not come through.
    loses_bids: bool,
    /// How long it takes to tell the claims, by this clock.
    slowness: Option<(Arc<ManualClock>, Duration)>,
    /// Bids are carried out, and the answer is that they were not.
    denies: bool,
    /// Bids are not carried out, and the answer says so.
    refuses: bool,
}

impl Table {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().expect("no test panics while it holds this lock")
    }

    fn ages(&self, by: Duration) {
        self.state().claims.iter_mut().for_each(|claim| claim.age += by);
    }

    fn owner(&self, partition: &str) -> String {
        let state = self.state();
        state.claims.iter().find(|claim| claim.partition == partition).map_or_else(String::new, |c| c.owner.clone())
    }
}

fn away() -> ControlError {
    ControlError::Retry("the table is away".to_owned())
}

impl Control for Table {
    fn place(&self) -> &str {
        "the table"
    }

    fn load<'a>(&'a self, _: &'a [CheckpointKey]) -> BoxFuture<'a, Result<Vec<ControlRow>, ControlError>> {
        unreachable!("claims load no checkpoints")
    }

    fn save<'a>(&'a self, _: &'a [CheckpointMove]) -> BoxFuture<'a, Result<(), ControlError>> {
        unreachable!("claims move no checkpoints")
    }

    fn list<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Vec<ControlRow>, ControlError>> {
        unreachable!("claims list no checkpoints")
    }

    fn claims<'a>(&'a self, _: &'a Shares) -> BoxFuture<'a, Result<Vec<Claim>, ControlError>> {
        Box::pin(async {
            let State { claims, slowness, .. } = self.state().clone();
            if let Some((clock, slowness)) = slowness {
                clock.advance(slowness);
                self.ages(slowness);
            }
            Ok(claims)
        })
    }

    fn bid<'a>(&'a self, _: &'a Shares, bids: &'a [Bid]) -> BoxFuture<'a, Result<Vec<String>, ControlError>> {
        Box::pin(async move {
            let mut state = self.state();
            if state.loses_bids {
                return Err(away());
            }
            let mut won = Vec::new();
            if state.refuses {
                return Ok(won);
            }
            for Bid { partition, over, owner, etag } in bids.iter().cloned() {
                let at = state.claims.iter().position(|claim| claim.partition == partition);
                if at.map(|at| &state.claims[at].etag) == over.as_ref() {
                    state.claims.retain(|claim| claim.partition != partition);
                    state.claims.push(Claim { partition: partition.clone(), owner, etag, age: Duration::ZERO });
                    won.push(partition);
                }
            }
            if state.denies {
                won.clear();
            }
            if state.loses_answers { Err(away()) } else { Ok(won) }
        })
    }
}

struct Rig {
    table: Arc<Table>,
    clock: Arc<ManualClock>,
    partitions: Vec<String>,
}

impl Rig {
    fn new(partitions: usize) -> Self {
        let clock = Arc::new(ManualClock::new(Timestamp(0)));
        Self { table: Arc::default(), clock, partitions: (0..partitions).map(|id| id.to_string()).collect() }
    }

    fn agent(&self, owner: &str) -> Claims {
        let hub =
            HubId { namespace: "ns".into(), hub: "eh".into(), consumer_group: "$Default".into(), is_shared: true };
        let target = Target { database: "d".into(), schema: "s".into(), table: "t".into() };
        let balance = Balance { interval: Duration::from_secs(10), expiration: EXPIRATION, strategy: Strategy::Greedy };
        let (table, clock) = (Arc::clone(&self.table), Arc::clone(&self.clock));
        Claims::new(table, Shares { hub, target }, owner.to_owned(), balance, clock)
    }

    /// How many partitions an agent has after a look.
    async fn ours(&self, claims: &mut Claims) -> usize {
        self.turn(claims).await;
        claims.ours().len()
    }

    /// A look, and what is to be left after it.
    async fn turn(&self, claims: &mut Claims) -> Vec<String> {
        claims.turn(&self.partitions).await.expect("the table is there");
        let lost = claims.lost();
        lost.iter().for_each(|partition| claims.left(partition));
        lost
    }

    /// Another agent looks for as long as a claim lasts, and so knows that those which stay the same are nobody's.
    async fn looks_on(&self, claims: &mut Claims) {
        for _ in 0..7 {
            self.passes(Duration::from_secs(10));
            self.turn(claims).await;
        }
    }

    fn passes(&self, time: Duration) {
        self.clock.advance(time);
        self.table.ages(time);
    }
}

const NONE: [String; 0] = [];

#[tokio::test]
async fn two_agents_share_and_each_learns_what_it_has_lost() {
    let rig = Rig::new(4);
    let (mut one, mut other) = (rig.agent("one"), rig.agent("other"));
    assert_eq!(rig.ours(&mut one).await, 4);
    assert_eq!((rig.turn(&mut one).await, one.ours().len()), (NONE.to_vec(), 4), "what is renewed is no news");
    assert_eq!(rig.turn(&mut other).await, rig.partitions, "what another delivers is to be taken back");
    assert_eq!((rig.turn(&mut one).await, one.ours().len()), (other.ours(), 2));
    assert_eq!((rig.turn(&mut one).await, rig.turn(&mut other).await), (NONE.to_vec(), NONE.to_vec()));
}

#[tokio::test]
async fn what_is_lost_is_said_until_it_has_been_left() {
    let rig = Rig::new(2);
    let (mut one, mut other) = (rig.agent("one"), rig.agent("other"));
    rig.turn(&mut one).await;
    rig.turn(&mut other).await;
    // The bid of this turn fails after the table was seen.
    rig.table.state().loses_bids = true;
    assert!(one.turn(&rig.partitions).await.is_err());
    assert_eq!((one.lost(), one.ours().len()), (other.ours(), 1));
    rig.table.state().loses_bids = false;
    one.turn(&rig.partitions).await.expect("the table is there");
    assert_eq!(one.lost(), other.ours());
    one.left(&other.ours()[0]);
    assert_eq!(one.lost(), NONE);
}

#[tokio::test]
async fn a_claim_that_could_not_be_renewed_is_left_in_time_and_lost_if_somebody_took_it() {
    let rig = Rig::new(2);
    let mut one = rig.agent("one");
    rig.turn(&mut one).await;
    rig.passes(Duration::from_secs(59));
    assert_eq!((one.next_expiry(), one.expire()), (Some(Duration::from_secs(1)), NONE.to_vec()));
    // A wrong wall clock changes nothing.
    rig.clock.set_wall(Timestamp(-1));
    rig.passes(Duration::from_secs(1));
    assert_eq!(one.expire(), ["0", "1"]);
    assert_eq!((one.next_expiry(), one.expire(), one.ours()), (None, NONE.to_vec(), NONE.to_vec()), "it is said once");
    let mut other = rig.agent("other");
    rig.looks_on(&mut other).await;
    assert_eq!(other.ours().len(), 2, "all had expired");
    assert_eq!((rig.turn(&mut one).await.len(), one.ours().len()), (2, 1), "and then the shares are evened out");
}

#[tokio::test]
async fn after_an_outage_of_the_table_the_first_agent_back_leaves_the_others_what_is_theirs() {
    let rig = Rig::new(4);
    let (mut one, mut other) = (rig.agent("one"), rig.agent("other"));
    for _ in 0..2 {
        rig.turn(&mut one).await;
        rig.turn(&mut other).await;
    }
    let theirs = other.ours();
    rig.passes(Duration::from_secs(90));
    assert_eq!((one.expire().len(), other.expire().len()), (2, 2));
    assert_eq!((rig.turn(&mut one).await, one.ours().len()), (NONE.to_vec(), 2));
    assert_eq!((rig.turn(&mut other).await, other.ours()), (NONE.to_vec(), theirs));
}

#[tokio::test]
async fn a_table_that_is_slow_lets_claims_expire_all_the_same() {
    let rig = Rig::new(2);
    let mut other = rig.agent("other");
    rig.turn(&mut rig.agent("one")).await;
    rig.table.state().slowness = Some((Arc::clone(&rig.clock), Duration::from_secs(45)));
    for _ in 0..3 {
        rig.turn(&mut other).await;
        rig.passes(Duration::from_secs(10));
    }
    assert_eq!(other.ours().len(), 2);
}

#[tokio::test]
async fn a_table_whose_clock_has_jumped_makes_no_claim_old() {
    let rig = Rig::new(4);
    let (mut one, mut other) = (rig.agent("one"), rig.agent("other"));
    for _ in 0..2 {
        rig.turn(&mut one).await;
        rig.turn(&mut other).await;
    }
    rig.table.ages(Duration::from_secs(3_600));
    assert_eq!((rig.turn(&mut one).await, one.ours().len()), (NONE.to_vec(), 2));
}

#[tokio::test]
async fn what_nobody_took_meanwhile_is_ours_again() {
    let rig = Rig::new(2);
    let mut one = rig.agent("one");
    rig.turn(&mut one).await;
    rig.passes(Duration::from_secs(61));
    assert_eq!(one.expire().len(), 2);
    assert_eq!((rig.turn(&mut one).await, one.ours().len()), (NONE.to_vec(), 2));
}

#[tokio::test]
async fn a_bid_whose_answer_was_lost_is_found_out() {
    let rig = Rig::new(2);
    let mut one = rig.agent("one");
    for _ in 0..2 {
        rig.table.state().loses_answers = true;
        assert!(one.turn(&rig.partitions).await.is_err());
        rig.table.state().loses_answers = false;
        assert_eq!((rig.turn(&mut one).await, one.ours().len()), (NONE.to_vec(), 2));
    }
}

#[tokio::test]
async fn a_renewal_that_is_said_not_to_have_been_made_costs_no_partition() {
    let rig = Rig::new(2);
    let mut one = rig.agent("one");
    rig.turn(&mut one).await;
    for set in [|state: &mut State, on| state.denies = on, |state: &mut State, on| state.refuses = on] {
        set(&mut rig.table.state(), true);
        rig.passes(Duration::from_secs(10));
        assert_eq!((rig.turn(&mut one).await, one.ours().len()), (NONE.to_vec(), 2));
        assert_eq!(one.next_expiry(), Some(Duration::from_secs(50)), "it was not renewed, as far as is known");
        set(&mut rig.table.state(), false);
        assert_eq!((rig.turn(&mut one).await, one.ours().len()), (NONE.to_vec(), 2));
        assert_eq!(one.next_expiry(), Some(EXPIRATION));
    }
    rig.table.state().refuses = true;
    rig.passes(EXPIRATION);
    rig.turn(&mut one).await;
    assert_eq!(one.expire(), ["0", "1"], "it is left in time all the same");
}

#[tokio::test]
async fn an_agent_that_was_killed_goes_on_with_its_claims_at_once() {
    let rig = Rig::new(4);
    rig.turn(&mut rig.agent("one")).await;
    let mut again = rig.agent("one");
    assert_eq!((rig.turn(&mut again).await, again.ours().len()), (NONE.to_vec(), 4));
}

#[tokio::test]
async fn two_agents_of_one_name_are_told_of_each_other() {
    let rig = Rig::new(2);
    let (mut one, mut double) = (rig.agent("one"), rig.agent("one"));
    rig.turn(&mut one).await;
    rig.turn(&mut double).await;
    assert_eq!(one.turn(&rig.partitions).await, Ok(true));
    assert_eq!(one.lost().len(), 2);
    assert_eq!(one.turn(&rig.partitions).await, Ok(true), "as long as it is so");
}

#[tokio::test]
async fn what_was_stolen_at_the_hub_is_given_up_and_left_alone_for_a_while() {
    let rig = Rig::new(1);
    let mut one = rig.agent("one");
    rig.turn(&mut one).await;
    one.yield_up("0");
    assert_eq!((one.ours(), one.is_barred("0")), (NONE.to_vec(), true));
    assert_eq!((rig.turn(&mut one).await, rig.table.owner("0")), (NONE.to_vec(), String::new()));
    assert_eq!((one.ours(), one.is_barred("0")), (NONE.to_vec(), true));
    rig.passes(Duration::from_secs(61));
    assert_eq!(rig.ours(&mut one).await, 1);
}

#[tokio::test]
async fn what_was_stolen_and_could_not_be_given_up_is_not_fought_for_either() {
    let rig = Rig::new(1);
    let mut one = rig.agent("one");
    rig.turn(&mut one).await;
    one.yield_up("0");
    rig.table.state().loses_bids = true;
    assert!(one.turn(&rig.partitions).await.is_err());
    rig.table.state().loses_bids = false;
    assert_eq!(
        (rig.turn(&mut one).await, one.ours(), rig.table.owner("0")),
        (NONE.to_vec(), NONE.to_vec(), String::new())
    );
    rig.passes(Duration::from_secs(61));
    assert_eq!(rig.ours(&mut one).await, 1);
}

#[tokio::test]
async fn what_was_stolen_by_an_agent_with_a_claim_is_free_as_soon_as_that_gives_it_up() {
    let rig = Rig::new(1);
    let (mut one, mut other) = (rig.agent("one"), rig.agent("other"));
    rig.turn(&mut one).await;
    one.yield_up("0");
    assert_eq!(rig.ours(&mut one).await, 0);
    assert_eq!(rig.ours(&mut other).await, 1);
    assert_eq!((rig.ours(&mut one).await, one.is_barred("0")), (0, false));
    other.release().await;
    assert_eq!(rig.ours(&mut one).await, 1);
}

#[tokio::test]
async fn what_is_released_is_anyones_at_once() {
    let rig = Rig::new(3);
    let mut one = rig.agent("one");
    rig.turn(&mut one).await;
    one.release().await;
    assert_eq!(rig.ours(&mut rig.agent("other")).await, 3);
}
