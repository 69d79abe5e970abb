//! Two agents share a hub out among themselves, whatever goes wrong: each event is a row once and in order, no checkpoint
//! is ever ahead of what is committed, and shares come to be even (Promises 2, 3 and 4).
//!
//! `FOREBAY_EVENTS` says how many events (50,000), `FOREBAY_SEED` repeats the choices of a run. How long it takes until all
//! is read again after an agent has come or gone is printed.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Instant,
};

use forebay_tests::{
    harness::{self, wait_until},
    hub::Producer,
    judge::HUB,
    plant::Pace,
    random::Random,
};

use crate::{chaos::Chaos, rig::Rig, site::Site, watcher};

const PARTITIONS: u64 = 16;
/// Events that are sent together.
const BATCH: u64 = 25;
/// What is sent in a second, at least.
const RATE: f64 = 600.0;
/// How long that takes, at most, as far as it is let.
const SECONDS: f64 = 1_000.0;

#[test]
fn each_event_is_there_once_while_two_agents_come_and_go_and_everything_fails() {
    let mut random = Random::new(harness::seed());
    let events = harness::size("FOREBAY_EVENTS", 50_000);
    let rig = Rig::new(u32::try_from(PARTITIONS).expect("it is small"));
    watcher::keep_moves(&rig.postgres);
    let mut sites = [Site::new(&rig, "gw-a"), Site::new(&rig, "gw-b")];
    sites.iter_mut().for_each(Site::start);
    are_shared(&rig, &[8, 8]);
    let (stop, sending) = (AtomicBool::new(false), AtomicBool::new(true));
    thread::scope(|scope| {
        let watching = scope.spawn(|| watcher::watch(&rig.postgres, &stop));
        let end = Set(&stop, true);
        let produced = scope.spawn(|| {
            let _end = Set(&sending, false);
            produce(&rig, events)
        });
        let mut chaos = Chaos::new(&rig, &mut sites, Random::new(random.bits()));
        while sending.load(Ordering::Relaxed) {
            chaos.strike();
        }
        chaos.end();
        let repeated = produced.join().expect("the hub takes everything");
        let stored = rig.stored();
        println!("{events} events sent, {repeated} batches again; the hub has {}", stored.len());
        rig.comes(&stored);
        rebalance(&rig, &mut sites);
        drop(end);
        println!("the watcher looked {} times", watching.join().expect("no checkpoint is ahead"));
    });
    rig.all_comes();
    let handovers = watcher::judge_moves(&rig.postgres);
    println!("partitions went from one agent to the other {handovers} times");
    assert!(handovers > 0, "no partition was ever taken over");
    sites.iter_mut().for_each(Site::terminate);
    are_shared(&rig, &[]);
}

/// Sends so many events, in turn to each partition. Returns how often a batch was sent again.
fn produce(rig: &Rig, events: u64) -> u64 {
    let mut producer = Producer::new(&rig.hubs().connection_string(), HUB);
    let pace = Pace::new((events as f64 / SECONDS).max(RATE));
    for first in (0..events).step_by(BATCH as usize) {
        pace.wait(first);
        let partition = (first / BATCH % PARTITIONS).to_string();
        producer.send(&partition, (first..events.min(first + BATCH)).map(|number| number.to_string()));
    }
    producer.repeated()
}

/// Waits until the claims that hold are so many of each agent.
fn are_shared(rig: &Rig, shares: &[u64]) {
    wait_until("the shares to be even", || {
        let claims = rig.postgres.psql(
            "SELECT count(*) FROM ingestion_status_ownership WHERE owner_id <> '' AND extract(epoch FROM \
             clock_timestamp()) - last_modified_time < 3 GROUP BY owner_id",
        );
        claims.lines().map(|count| count.parse().expect("a count")).collect::<Vec<u64>>() == shares
    });
}

/// Waits until every claim has been renewed twice: each agent has looked at the claims since the last of them was made.
fn are_renewed(rig: &Rig) {
    let etags = || -> BTreeSet<String> {
        let etags = rig.postgres.psql("SELECT etag FROM ingestion_status_ownership");
        etags.lines().map(str::to_owned).collect()
    };
    for _ in 0..2 {
        let before = etags();
        wait_until("every claim to be renewed", || etags().is_disjoint(&before));
    }
}

/// What is done to an agent, how that is called, and the shares that follow from it.
type Change = (&'static str, fn(&mut Site), &'static [u64]);

/// Has agents come and go while nothing else is wrong, and says how long it takes until an event of each partition comes
/// through, and until the shares are what they should be.
fn rebalance(rig: &Rig, sites: &mut [Site; 2]) {
    let mut producer = Producer::new(&rig.hubs().connection_string(), HUB);
    let [site, _] = sites;
    let changes: [Change; 4] = [
        ("kill -9", Site::kill_9, &[16]),
        ("a start", Site::start, &[8, 8]),
        ("SIGTERM", Site::terminate, &[16]),
        ("another start", Site::start, &[8, 8]),
    ];
    are_shared(rig, &[8, 8]);
    for (what, change, shares) in changes {
        are_renewed(rig);
        change(site);
        let begun = Instant::now();
        (0..PARTITIONS).for_each(|partition| producer.send(&partition.to_string(), ["1"]));
        let sent = rig.stored().len();
        wait_until("an event of each partition", || rig.count() == sent);
        let through = begun.elapsed();
        are_shared(rig, shares);
        println!(
            "after {what}: all is read again after {through:.1?}, and shared {shares:?} after {:.1?}",
            begun.elapsed()
        );
    }
}

/// Sets a switch in the end, also when something fails, so that the failure is seen.
struct Set<'a>(&'a AtomicBool, bool);

impl Drop for Set<'_> {
    fn drop(&mut self) {
        self.0.store(self.1, Ordering::Relaxed);
    }
}
