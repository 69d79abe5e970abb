//! MQTT and HTTP into eight channels, while the agent is killed and everything on the way to Snowflake fails.

use std::{
    sync::{Mutex, atomic::AtomicBool},
    thread,
};

use forebay_tests::{
    harness::{self, Client, Ledger, Outcome, free_port, wait_until},
    load::Producer,
    mqtt::{Manners, Quality, Version},
    plant::{Lane, Pace, Sensor},
    random::Random,
    servers::{Mosquitto, Proxy},
};
use serde_json::json;

use crate::{
    committed::{Committed, Numbers, id},
    faults::Faults,
    site::{SetOnDrop, Site, account, gateway, http, post},
    watcher::Watcher,
};

/// Of each of the two protocols.
const LANES: u64 = 4;
/// What they send in a second together, at least.
const RATE: f64 = 900.0;
/// How long they take, at most, as far as they are let.
const SECONDS: f64 = 500.0;

#[test]
fn every_acknowledged_event_is_committed_once_and_in_order_whatever_fails() {
    let mut random = Random::new(harness::seed());
    let events = harness::size("FOREBAY_EVENTS", 50_000);
    let (account, mosquitto, ledger) = (account(), Mosquitto::start(), Ledger::default());
    let to_broker = Proxy::new(mosquitto.port());
    let manners = Manners::watch(&to_broker, Version::V5);
    let ports: Vec<u16> = (0..LANES).map(|_| free_port()).collect();
    let mut sources = vec![("line".to_owned(), mqtt(to_broker.port()))];
    sources.extend(
        ports.iter().enumerate().map(|(lane, port)| (format!("http{lane}"), http(&format!("127.0.0.1:{port}")))),
    );
    let gateway = gateway(&account, "gw-1", &sources);
    let mut site = Site::new(&gateway);
    site.start();
    wait_until("the agent to subscribe", || manners.subscriptions() > 0);

    let pace = Pace::new((events as f64 / SECONDS).max(RATE) / (2 * LANES) as f64);
    let lanes: Vec<Lane> = (0..LANES).map(|lane| Lane::new(format!("lane{lane}"), events / (2 * LANES))).collect();
    let (stop, halt) = (AtomicBool::new(false), AtomicBool::new(false));
    let committed = Mutex::new(Committed::new(Numbers::OfBuffer));
    thread::scope(|scope| {
        let end = SetOnDrop(&stop);
        let watching = scope.spawn(|| Watcher::new(&account, &[&gateway], &committed).watch(&stop));
        let ended = SetOnDrop(&halt);
        let producers: Vec<_> = (0..)
            .zip(&ports)
            .map(|(lane, port)| {
                let (client, random) = (Client::new(*port), Random::new(random.bits()));
                let lane = format!("http{lane}");
                let producer = Producer { lane, path: "/events", client, ledger: &ledger, pace, random };
                scope.spawn(|| producer.run(&halt))
            })
            .collect();
        let port = mosquitto.port();
        let sensors: Vec<_> = lanes
            .iter()
            .map(|lane| scope.spawn(move || Sensor::new(lane, port, Quality::AtLeastOnce).run(pace)))
            .collect();
        let mut faults = Faults::new(&account, &mut site, Random::new(random.bits()));
        let are_sent =
            || sensors.iter().all(|sensor| sensor.is_finished()) && ledger.acknowledged() as u64 >= events / 2;
        while !(are_sent() || watching.is_finished()) {
            faults.strike();
        }
        faults.end();
        drop(ended);
        producers.into_iter().for_each(|producer| producer.join().expect("good requests are well answered"));
        for sensor in sensors {
            sensor.join().expect("the broker acknowledges everything");
        }
        // Whatever is behind something in its lane is there when that is.
        let mut last: Vec<String> = lanes.iter().map(|lane| format!("{}:{}", lane.name, lane.count - 1)).collect();
        last.extend(post_to_each(&ports, "last", &ledger));
        let mut watcher = Watcher::new(&account, &[&gateway], &committed);
        watcher.await_events(&last);
        watcher.await_confirmation();
        // Channels that have been idle for too long: the local checkpoints are right then.
        account.ask("POST", "/channels/forget", &json!({}));
        watcher.await_events(&post_to_each(&ports, "later", &ledger));
        drop(end);
        watching.join().expect("no checkpoint is ahead");
    });
    for lane in &lanes {
        let ids = (0..lane.count).map(|number| format!("{}:{number}", lane.name));
        ids.for_each(|id| ledger.enter(vec![id], Outcome::Acknowledged));
    }
    site.terminate();
    assert_eq!(manners.faults(), Vec::<String>::new(), "the agent acknowledged what it should not");
    judge(&ledger, &committed.into_inner().expect("no holder of this lock panics"));
}

/// Posts an event to each port, and returns their ids.
fn post_to_each(ports: &[u16], lane: &str, ledger: &Ledger) -> Vec<String> {
    let ids: Vec<String> = (0_u64..).zip(ports).flat_map(|(nr, port)| post(*port, &format!("{lane}{nr}"), 1)).collect();
    ids.iter().for_each(|id| ledger.enter(vec![id.clone()], Outcome::Acknowledged));
    ids
}

fn judge(ledger: &Ledger, committed: &Committed) {
    let (owed, rows) = (ledger.acknowledged(), committed.records.len());
    println!("{owed} events were acknowledged; {rows} are committed");
    let faults = ledger.judge(&committed.records, id);
    assert!(faults.is_empty(), "{} faults: {:#?}", faults.len(), &faults[..faults.len().min(20)]);
}

fn mqtt(port: u16) -> String {
    format!(
        "type = \"mqtt\"\nurl = \"mqtt://127.0.0.1:{port}\"\nversion = \"5\"\ntopics = [\"plant/+/telemetry\"]\n\
         partition_level = 2\ndecode = \"json\"\ndedupe = {{ by = \"$.id\" }}"
    )
}
