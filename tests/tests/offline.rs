//! Promises 1, 5 and 7: a day without the destination, in miniature. The buffer fills to its quota, the broker keeps the
//! rest, memory stays flat, and when Postgres is back everything drains.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Instant,
};

use forebay_tests::{
    harness::{self, Agent, wait_until},
    mqtt::{Frames, Quality, Version, kind},
    plant::{Judge, Lane, Pace, Plant, Sensor},
    servers::{Direction, Mosquitto, Verdict},
};

const LANES: u64 = 2;
/// What the source may take of the buffer.
const QUOTA: &str = "8MiB";
/// What memory may grow by while the buffer fills and waits. It holds many times as much.
const GROWTH_BYTES: u64 = 4 << 20;

#[test]
fn without_postgres_the_buffer_fills_to_its_quota_memory_stays_flat_and_all_drains_when_it_is_back() {
    let messages = harness::size("FOREBAY_OFFLINE_MESSAGES", 24_000);
    let plant = Plant::new(Version::V5, Mosquitto::builder());
    plant.configure(
        &format!(
            "keep_alive = \"5s\"\nmax_unacknowledged_bytes = \"1MiB\"\nreceive_maximum = 500\n\
             buffer = {{ max_bytes = \"{QUOTA}\" }}"
        ),
        "",
    );
    let pings = count_pings(&plant);
    plant.postgres.stop_fast();
    let agent = plant.gateway.spawn();
    wait_until("the agent to subscribe", || plant.manners.subscriptions() > 0);

    let lane = |lane| Lane { pad: 1_000, ..Lane::new(format!("lane{lane}"), messages / LANES) };
    let lanes: Vec<Lane> = (0..LANES).map(lane).collect();
    let fresh = thread::scope(|scope| {
        for lane in &lanes {
            let sensor = Sensor::new(lane, plant.from_sensors.port(), Quality::AtLeastOnce);
            scope.spawn(|| sensor.run(Pace::UNBOUNDED));
        }
        wait_until("the first events to be on disk", || agent.taken_in() > 1_000);
        agent.memory().resident
    });
    let held_back = |agent: &Agent| agent.log().iter().any(|line| line.contains("held back"));
    wait_until("the buffer to be full", || held_back(&agent));
    let (full, begun) = (agent.memory().resident, pings.load(Ordering::Relaxed));
    wait_until("the connection to be kept alive twice", || pings.load(Ordering::Relaxed) >= begun + 2);
    let (taken_in, waited) = (agent.taken_in(), agent.memory().resident);
    assert!(taken_in < messages, "the buffer took everything, so that nothing was held back");
    let log = plant.mosquitto.log();
    assert!(!log.contains("Client gw-test-line"), "the broker has lost the agent: {log}");
    let attempts = agent.log().iter().filter(|line| line.contains("sink warehouse")).count();

    plant.postgres.start_again();
    let back = Instant::now();
    wait_until("the first row", || plant.arrived() > 0);
    println!("the first row is there {:.3} s after Postgres answers again", back.elapsed().as_secs_f64());
    wait_until("every row", || plant.arrived() >= messages);
    println!(
        "all {messages} rows are there after {:.1} s; {taken_in} had been in the buffer",
        back.elapsed().as_secs_f64()
    );
    let memory = agent.memory();
    println!(
        "resident: {} KiB with the first events, {} with the buffer full, {} after waiting, {} drained; at most {}",
        fresh >> 10,
        full >> 10,
        waited >> 10,
        memory.resident >> 10,
        memory.peak >> 10
    );
    assert!(waited < fresh + GROWTH_BYTES, "memory grew with the backlog");
    assert_eq!(plant.to_broker.made(), 1, "the connection to the broker was lost");
    assert!(attempts <= 2, "being cut off is one line: {:#?}", agent.log());
    assert!(agent.terminate().success());
    let judge = Judge { lanes: &lanes, delivered: plant.deliveries.by_lane(), dedupe: true };
    assert_eq!(judge.rows(&plant.rows()), Vec::<String>::new());
}

/// The agent's pings. Their answers are not counted: they may be stuck behind messages, for the agent reads no more than
/// it may keep in memory.
fn count_pings(plant: &Plant) -> Arc<AtomicU64> {
    let count = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&count);
    plant.to_broker.tap(Direction::ToServer, move |_| {
        let (mut frames, counted) = (Frames::default(), Arc::clone(&counted));
        Box::new(move |bytes: &[u8]| {
            frames.push(bytes);
            let pings = frames.by_ref().filter(|frame| frame.kind == kind::PINGREQ).count();
            counted.fetch_add(pings as u64, Ordering::Relaxed);
            Verdict::Forward
        })
    });
    count
}
