//! Promise 5: a full buffer holds the hub back, and what is under way is bounded in bytes.

use std::collections::BTreeMap;

use forebay_tests::{
    harness::{Agent, wait_until},
    judge::HUB,
    servers::{Cut, Proxy},
};
use serde_json::json;

use crate::rig::{Rig, config, says};

const MIB: u64 = 1 << 20;
/// Just below what an event may have.
const LARGE: usize = 1_000_000;
/// So many in each of the two partitions.
const EACH: u64 = 30;

/// Lets no rows in after those of the first transaction until the gate is open.
const GATE: &str = "CREATE TABLE gate (is_open boolean); INSERT INTO gate VALUES (false); \
    CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
      WHILE EXISTS (SELECT FROM events WHERE xmin <> pg_current_xact_id()::xid) AND NOT (SELECT is_open FROM gate) LOOP \
        PERFORM pg_sleep(0.05); END LOOP; RETURN NEW; END $$; \
    CREATE TRIGGER wait BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION wait()";

/// One whose hub has events of a megabyte, whose way to Postgres is cut, and whose buffer has room for a few of them.
fn held_back() -> (Rig, Proxy, Agent) {
    let mut rig = Rig::new(2);
    let way = Proxy::new(rig.postgres.port());
    let place = format!("connection_string = \"{}\"", rig.hubs().connection_string());
    let rest = "[buffer]\nmax_bytes = \"16MiB\"\nmin_free_disk = \"0B\"\n";
    rig.gateway.configure(&config(&place, "", way.port(), rest));
    let agent = rig.gateway.start();
    rig.are_read(&["0", "1"]);
    way.refuse();
    way.cut(Cut::Reset);
    for _ in 0..EACH {
        rig.send_large("0", LARGE);
        rig.send_large("1", LARGE);
    }
    says(&agent, &["held", "full"]);
    (rig, way, agent)
}

/// Waits until the hub has sent all that it is asked for, and says how many events that is.
fn sent(rig: &Rig) -> u64 {
    let mut before = BTreeMap::new();
    let mut same = 0;
    wait_until("the hub to be held back", || {
        let now: BTreeMap<String, u64> = rig.consumers().into_iter().collect();
        same = if now == before && !now.is_empty() { same + 1 } else { 0 };
        before = now;
        same > 50
    });
    before.values().sum()
}

/// How many events of a partition the hub has sent over the links that it has now.
fn sent_of(rig: &Rig, partition: &str) -> u64 {
    rig.consumers().into_iter().filter(|(name, _)| name == partition).map(|(_, events)| events).sum()
}

#[test]
fn a_full_buffer_holds_the_hub_back_and_memory_stays_bounded() {
    let (rig, way, agent) = held_back();
    let sent = sent(&rig);
    assert!(sent < 2 * EACH, "all of it was sent");
    way.accept();
    rig.all_comes();
    // Without a bound there would be 300 events under way from each partition.
    let peak = agent.memory().peak / MIB;
    println!("{sent} events of {LARGE} bytes were sent to a buffer of 16 MiB; at most {peak} MiB were resident");
    assert!(peak < 60, "{peak} MiB were resident");
}

#[test]
fn events_that_expire_while_the_hub_is_held_back_are_in_the_loss_ledger() {
    let (rig, way, agent) = held_back();
    sent(&rig);
    let had: BTreeMap<String, u64> = rig.consumers().into_iter().collect();
    let mut there = rig.stored();
    let kept = EACH - 1;
    rig.hubs().ask("DELETE", &format!("/hubs/{HUB}/partitions/0/events"), &json!({ "before": kept }));
    way.accept();
    there.retain(|event| {
        let number = event.sequence_number as u64;
        event.partition == "1" || number == kept || number < had["0"]
    });
    let lost = 2 * EACH - there.len() as u64;
    assert!(lost > 0, "nothing expired before it was sent");
    rig.comes(&there);
    assert_eq!(agent.lost_events(), lost);
}

/// Promise 6.
#[test]
fn what_expired_is_counted_once_though_the_agent_is_killed_before_what_came_after_it_is_on_disk() {
    let (rig, way, agent) = held_back();
    sent(&rig);
    rig.postgres.psql(GATE);
    let sent_before = sent_of(&rig, "0");
    rig.hubs().ask("DELETE", &format!("/hubs/{HUB}/partitions/0/events"), &json!({ "before": EACH - 1 }));
    let questions = rig.questions();
    way.accept();
    // There is room for some of what waits, and then none again.
    wait_until("an event behind the gap to be sent", || sent_of(&rig, "0") > sent_before);
    wait_until("the hub to be asked what has expired", || rig.questions() > questions);
    agent.lost_events();
    agent.kill_9();
    rig.postgres.psql("UPDATE gate SET is_open = true");
    let agent = rig.gateway.start();
    let last = format!("SELECT count(*) FROM events WHERE \"offset\" = {}", EACH - 1);
    wait_until("the last of each partition", || rig.postgres.psql(&last) == "2");
    assert_eq!(rig.count() as u64 + agent.lost_events(), 2 * EACH, "each is a row, or in the ledger, once");
}
