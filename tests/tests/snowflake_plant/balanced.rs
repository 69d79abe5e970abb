//! Two agents share a hub out among themselves by claims in Snowflake, and stream it there.

use std::{
    collections::BTreeMap,
    sync::{Mutex, atomic::AtomicBool},
    thread::{self, sleep},
    time::Duration,
};

use forebay_tests::{
    harness::{self, comes_true, wait_until},
    hub::Producer,
    judge::{HUB, Namespace},
    plant::Pace,
    random::Random,
    servers::Snowflake,
};
use rustix::process::Signal;
use serde_json::json;

use crate::{
    committed::{Committed, Numbers},
    site::{SetOnDrop, Site, account, gateway},
    watcher::Watcher,
};

const PARTITIONS: u64 = 4;
/// Events that are sent together.
const BATCH: u64 = 20;
/// What is sent in a second, at least.
const RATE: f64 = 250.0;
/// How long that takes, at most, as far as it is let.
const SECONDS: f64 = 300.0;
/// Claims are looked at every second, and are anyone's after three.
const SHARED: &str = "partitions = \"balanced\"\nload_balancing_interval = \"1s\"\n\
                      partition_ownership_expiration_interval = \"3s\"";

#[test]
fn each_event_of_a_hub_is_committed_once_while_two_agents_come_and_go() {
    let mut random = Random::new(harness::seed());
    let events = harness::size("FOREBAY_HUB_EVENTS", 10_000);
    let space = Namespace::with(&json!({ "partitions": PARTITIONS }));
    let account = account();
    let source = format!(
        "type = \"eventhub\"\nhub = \"{HUB}\"\nconnection_string = \"{}\"\n{SHARED}",
        space.hubs.connection_string()
    );
    let sources = [(HUB.to_owned(), source)];
    let [one, other] = ["gw-a", "gw-b"].map(|id| gateway(&account, id, &sources));
    let mut sites = [Site::new(&one), Site::new(&other)];
    for site in &mut sites {
        site.start();
    }
    are_shared(&account, &[2, 2]);
    let stop = AtomicBool::new(false);
    let committed = Mutex::new(Committed::new(Numbers::OfHub));
    thread::scope(|scope| {
        let end = SetOnDrop(&stop);
        let watching = scope.spawn(|| Watcher::new(&account, &[&one, &other], &committed).watch(&stop));
        let produced = scope.spawn(|| produce(&space, events));
        while !(produced.is_finished() || watching.is_finished()) {
            let at = random.below(2) as usize;
            strike(&mut sites[at], &account, &mut random);
        }
        produced.join().expect("the hub takes everything");
        // Whatever happened before: now one takes over from the other.
        let [first, second] = &mut sites;
        first.kill_9();
        are_shared(&account, &[4]);
        produce(&space, events / 10);
        second.terminate();
        first.start();
        comes_true(|| count(&account) >= space.hubs.all_stored(HUB).len());
        drop(end);
        watching.join().expect("no checkpoint is ahead");
    });
    let committed = committed.into_inner().expect("no holder of this lock panics");
    sites[0].terminate();
    println!(
        "{} rows; channels went from one agent to another {} times",
        committed.records.len(),
        committed.handovers()
    );
    assert!(committed.handovers() > 0, "no partition was ever taken over");
    judge(&space, &committed);
}

/// Lets something go wrong with an agent, or on its way, and right again.
fn strike(site: &mut Site<'_>, account: &Snowflake, random: &mut Random) {
    sleep(Duration::from_millis(random.below(1_000)));
    // Sometimes long enough for the other one to take over, and sometimes not.
    let meanwhile = Duration::from_millis(random.below(6_000));
    match random.below(6) {
        0 | 1 => {
            site.kill_9();
            sleep(meanwhile);
        }
        2 => {
            site.terminate();
            sleep(meanwhile);
        }
        // It sleeps through its own replacement.
        3 => {
            site.signal(Signal::STOP);
            sleep(meanwhile);
            site.signal(Signal::CONT);
        }
        4 => {
            account.set(&json!({ "hold_commits": true }));
            sleep(meanwhile / 3);
            account.set(&json!({ "hold_commits": false }));
        }
        _ => {
            let operation = ["append", "status", "open", "statement"][random.below(4) as usize];
            let phase = ["request", "answer"][random.below(2) as usize];
            account.arm(&json!({ "operation": operation, "phase": phase, "action": "drop", "times": 3 }));
        }
    }
    site.start();
}

/// Sends so many events, in turn to each partition.
fn produce(space: &Namespace, events: u64) {
    let mut producer = Producer::new(&space.hubs.connection_string(), HUB);
    let pace = Pace::new((events as f64 / SECONDS).max(RATE));
    for first in (0..events).step_by(BATCH as usize) {
        pace.wait(first);
        let partition = (first / BATCH % PARTITIONS).to_string();
        producer.send(&partition, (first..events.min(first + BATCH)).map(|number| number.to_string()));
    }
}

/// Waits until the claims that hold are so many of each agent.
fn are_shared(account: &Snowflake, shares: &[u64]) {
    wait_until("the partitions to be shared out", || {
        let claims = account.sql(
            "SELECT COUNT(*) FROM PLANT.PUBLIC.INGESTION_STATUS_OWNERSHIP WHERE OWNER_ID <> '' AND \
             DATE_PART(EPOCH_MILLISECOND, CURRENT_TIMESTAMP()) / 1000 - LAST_MODIFIED_TIME < 3 GROUP BY OWNER_ID",
        );
        let number = |row: &Vec<Option<String>>| row[0].as_deref().and_then(|count| count.parse::<u64>().ok());
        claims.iter().filter_map(number).collect::<Vec<_>>() == shares
    });
}

fn count(account: &Snowflake) -> usize {
    let count = account.sql("SELECT COUNT(*) FROM PLANT.PUBLIC.EVENTS").remove(0).remove(0);
    count.and_then(|count| count.parse().ok()).expect("a count is a number")
}

/// Each event that the hub has stored is there, once, in the order of its partition, and nothing else is.
fn judge(space: &Namespace, committed: &Committed) {
    let (mut wanted, mut there) = (BTreeMap::<String, Vec<i64>>::new(), BTreeMap::<String, Vec<i64>>::new());
    for event in space.hubs.all_stored(HUB) {
        wanted.entry(event.partition).or_default().push(event.sequence_number);
    }
    for record in &committed.records {
        there.entry(record.partition.clone()).or_default().push(record.offset);
    }
    for (partition, wanted) in &wanted {
        let there = there.get(partition).map_or(&[][..], Vec::as_slice);
        let differs = wanted.iter().zip(there).position(|(wanted, there)| wanted != there);
        assert!(
            wanted == there,
            "partition {partition}: {} rows of {} events; they differ from row {:?} on",
            there.len(),
            wanted.len(),
            differs.unwrap_or_else(|| wanted.len().min(there.len())),
        );
    }
    assert_eq!(there.len(), wanted.len(), "there are rows of partitions that the hub has not");
}
