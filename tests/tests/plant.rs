//! Promises 1, 3, 4 and 6 from end to end, with real servers: sensors publish through Mosquitto into Postgres while the
//! agent is killed with SIGKILL, the servers go down and the network fails, also between COMMIT and its reply.
//!
//! `FOREBAY_MESSAGES` says how many messages (20,000); `FOREBAY_SEED` repeats the choices of a run.
//!
//! What Mosquitto is held to: it acknowledges a message when it has it in memory, and is therefore only ever stopped in
//! good order, so that it saves its sessions; a sensor sends what was not acknowledged again, so that one message may
//! come to the broker twice and is then two to it, which the agent gets both. First arrivals are in the order of sending.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use forebay_buffer::DeadLetter;
use forebay_tests::{
    harness::{self, comes_true, wait_until},
    mqtt::{Quality, Version},
    plant::{Bad, Faults, Judge, Lane, Pace, Plant, Sensor},
    random::Random,
    servers::Mosquitto,
};
use serde_json::Value;

const LANES: u64 = 4;
/// Of each lane.
const BAD: usize = 10;
/// What the sensors together send in a second, at least.
const RATE: f64 = 800.0;
/// How long they take, at most, as far as they are let.
const SECONDS: f64 = 400.0;

const DEDUPE: &str = "dedupe = { by = \"$.id\" }";

#[test]
fn with_dedupe_every_acknowledged_message_is_there_once_and_in_order() {
    run(Version::V5, true);
}

#[test]
fn without_dedupe_only_what_the_broker_sent_twice_is_there_twice() {
    run(Version::V3, false);
}

fn run(version: Version, dedupe: bool) {
    let mut random = Random::new(harness::seed());
    let messages = harness::size("FOREBAY_MESSAGES", 20_000);
    let lanes: Vec<Lane> = (0..LANES).map(|lane| plan(lane, messages / LANES, &mut random)).collect();
    let plant = Plant::new(version, Mosquitto::builder());
    plant.configure(if dedupe { DEDUPE } else { "" }, "");
    let agent = plant.gateway.start();
    wait_until("the agent to subscribe", || plant.manners.subscriptions() > 0);

    // However short the run: this one is never left out.
    plant.commit_reply.arm();
    let pace = Pace::new((messages as f64 / SECONDS).max(RATE) / LANES as f64);
    let sending = AtomicUsize::new(lanes.len());
    let mut faults = Faults::new(&plant, agent, Random::new(random.bits()));
    let repeated: u64 = thread::scope(|scope| {
        let sensors = lanes.iter().map(|lane| {
            let (sensor, sending) = (Sensor::new(lane, plant.from_sensors.port(), Quality::AtLeastOnce), &sending);
            scope.spawn(move || {
                let _leave = Leave(sending);
                sensor.run(pace)
            })
        });
        let sensors: Vec<_> = sensors.collect();
        while sending.load(Ordering::Relaxed) > 0 {
            faults.strike();
        }
        sensors.into_iter().map(|sensor| sensor.join().expect("the broker acknowledges everything")).sum()
    });
    let agent = faults.end();
    let bad: u64 = lanes.iter().map(|lane| lane.bad.len() as u64).sum();
    // If it does not, the judgement has more to say.
    comes_true(|| plant.arrived() >= messages - bad && agent.pending("warehouse") == 0);
    assert!(agent.terminate().success(), "the agent ends well when asked to");

    let rows = plant.rows();
    println!(
        "{messages} messages, {repeated} sent again by the sensors, {} delivered by the broker, {} rows",
        plant.deliveries.messages(),
        rows.len()
    );
    assert!(plant.commit_reply.sprung() > 0, "no reply to COMMIT was lost");
    assert_eq!(plant.manners.faults(), Vec::<String>::new(), "the agent acknowledged what it should not");
    let judge = Judge { lanes: &lanes, delivered: plant.deliveries.by_lane(), dedupe };
    let faults = judge.rows(&rows);
    assert!(faults.is_empty(), "{faults:#?}");
    let refused: Vec<String> = plant.dead_letters().iter().map(id).collect();
    let faults = judge.dead_letters(&refused);
    assert!(faults.is_empty(), "{faults:#?}");
}

/// A lane with every kind of bad reading in it, at random places.
fn plan(lane: u64, count: u64, random: &mut Random) -> Lane {
    let mut bad = BTreeMap::new();
    while bad.len() < BAD {
        let kind = Bad::ALL[bad.len() % Bad::ALL.len()];
        bad.entry(random.below(count)).or_insert(kind);
    }
    Lane { bad, ..Lane::new(format!("lane{lane}"), count) }
}

fn id(letter: &DeadLetter) -> String {
    let body = letter.event.body.as_deref().and_then(|body| serde_json::from_slice::<Value>(body).ok());
    let id = body.as_ref().and_then(|body| body["id"].as_str());
    id.map_or_else(|| format!("{letter:?}"), str::to_owned)
}

/// Counts a sensor out, also when it fails, so that the failure is seen.
struct Leave<'a>(&'a AtomicUsize);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
