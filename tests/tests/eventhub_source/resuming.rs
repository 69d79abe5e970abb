//! Where reading goes on after a restart, a crash, and on another machine.

use forebay_tests::{
    harness::{Gateway, wait_until, well},
    judge::HUB,
};
use serde_json::json;

use crate::rig::{Rig, says};

#[test]
fn every_event_is_there_once_through_restarts_and_kill_9() {
    const EACH: u64 = 5_000;
    const LIVES: u64 = 6;
    let mut rig = Rig::new(4);
    rig.configure("max_batch_size = 50");
    let mut agent = rig.gateway.spawn();
    for life in 1..=LIVES {
        for partition in ["0", "1", "2", "3"] {
            rig.send(partition, EACH / LIVES);
        }
        let some = life * EACH / LIVES * 4 - EACH / LIVES;
        wait_until("some of it to be there", || rig.count() as u64 >= some);
        if life % 3 == 0 {
            assert!(agent.terminate().success());
        } else {
            agent.kill_9();
        }
        agent = rig.gateway.spawn();
    }
    rig.all_comes();
}

#[test]
fn an_opaque_offset_is_kept_and_resumed_by_on_an_empty_disk() {
    let mut rig = Rig::with(&json!({ "partitions": 1, "opaque_offsets": true }));
    rig.send("0", 100);
    rig.configure("");
    let agent = rig.gateway.start();
    rig.all_comes();
    assert!(agent.terminate().success());
    let (_, metadata) = rig.checkpoint("0").expect("it is delivered");
    assert_eq!(metadata["offset_string"], json!(rig.stored()[99].offset));
    rig.send("0", 100);
    rig.gateway = Gateway::new();
    rig.configure("");
    let agent = rig.gateway.start();
    rig.all_comes();
    assert_eq!(agent.taken_in(), 100, "what Postgres has is not read again");
}

/// One whose agent has read 100 events into Postgres, and whose next has an empty disk, and a sink of its own besides.
fn beside_a_new_sink(source: &str) -> Rig {
    let mut rig = Rig::new(1);
    rig.configure(source);
    let agent = rig.gateway.start();
    rig.are_read(&["0"]);
    rig.send("0", 100);
    rig.all_comes();
    assert!(agent.terminate().success());
    rig.gateway = Gateway::new();
    let place = format!("connection_string = \"{}\"\n", rig.hubs().connection_string());
    let path = rig.gateway.path("out");
    let sink = format!("[sinks.files]\ntype = \"file\"\ninputs = [\"hub\"]\npath = \"{}\"\n", path.display());
    rig.configure_at(&place, source, &sink);
    rig
}

#[test]
fn what_a_sink_has_not_had_is_not_passed_over_for_a_new_one_that_begins_at_the_end() {
    let mut rig = beside_a_new_sink("starting_position = \"@latest\"");
    rig.send("0", 400);
    let agent = rig.gateway.start();
    rig.all_comes();
    assert_eq!(agent.taken_in(), 400);
}

#[test]
fn what_has_expired_before_a_sink_had_it_is_lost_also_where_a_new_one_begins_with_the_oldest() {
    let mut rig = beside_a_new_sink("");
    let before = rig.stored();
    rig.send("0", 300);
    rig.hubs().ask("DELETE", &format!("/hubs/{HUB}/partitions/0/events"), &json!({ "before": 300 }));
    let agent = rig.gateway.start();
    rig.comes(&[before, rig.stored()].concat());
    assert_eq!(agent.lost_events(), 200);
}

#[test]
fn an_offset_that_the_hub_does_not_know_gives_way_to_the_sequence_number() {
    for opaque in [false, true] {
        let mut rig = Rig::with(&json!({ "partitions": 1, "opaque_offsets": opaque }));
        rig.send("0", 100);
        rig.configure("");
        assert!({
            let agent = rig.gateway.start();
            rig.all_comes();
            agent.terminate().success()
        });
        rig.postgres
            .psql("UPDATE ingestion_status SET metadata = jsonb_set(metadata, '{offset_string}', '\"r9:0:zzzzzz\"')");
        rig.send("0", 100);
        rig.gateway = Gateway::new();
        rig.configure("");
        let agent = rig.gateway.start();
        rig.all_comes();
        assert_eq!(agent.taken_in(), 100, "what Postgres has is not read again");
        assert!(agent.source_errors() < 5);
    }
}

#[test]
fn a_garbled_row_of_the_control_table_stops_its_partition_and_no_other() {
    let mut rig = Rig::new(2);
    rig.send("0", 50);
    rig.send("1", 50);
    rig.configure("");
    let agent = rig.gateway.start();
    rig.all_comes();
    assert!(agent.terminate().success());
    let before = rig.stored();
    rig.postgres.psql("UPDATE ingestion_status SET metadata = '{\"generation\": 7}' WHERE partition_id = '0'");
    rig.send("0", 50);
    rig.send("1", 50);
    let agent = rig.gateway.spawn();
    says(&agent, &["stopped", "metadata", "/0"]);
    let mut wanted = rig.stored();
    wanted.retain(|event| event.partition == "1" || event.sequence_number < 50);
    assert!(wanted.len() > before.len());
    rig.comes(&wanted);
}

#[test]
fn an_agent_that_starts_offline_reads_its_partitions_when_the_hub_is_there() {
    let mut rig = Rig::new(2);
    rig.hubs().network("down");
    rig.postgres.stop_fast();
    rig.configure("partitions = [\"0\", \"1\"]");
    let agent = rig.gateway.spawn();
    says(&agent, &["waiting"]);
    rig.hubs().network("up");
    rig.send("0", 100);
    // A partition that was never read may have a checkpoint: without the table nothing is known of it.
    says(&agent, &["waiting"]);
    rig.postgres.start_again();
    rig.all_comes();
}

#[test]
fn a_partition_that_is_known_here_is_read_while_postgres_is_away() {
    let mut rig = Rig::new(1);
    rig.send("0", 100);
    rig.configure("");
    let agent = rig.gateway.start();
    rig.all_comes();
    assert!(agent.terminate().success());
    rig.postgres.stop_fast();
    rig.send("0", 100);
    let agent = rig.gateway.start();
    wait_until("the events to be on disk", || agent.pending("warehouse") == 100);
    rig.postgres.start_again();
    rig.all_comes();
}

/// Nor does it end the agent, however deep it goes.
#[test]
fn an_event_that_is_nested_beyond_measure_is_passed_and_a_dead_letter() {
    let mut rig = Rig::new(1);
    rig.send("0", 10);
    rig.send_nested("0", 1_000);
    rig.configure("");
    let agent = rig.gateway.start();
    let letters = || well(rig.gateway.run(&["dead-letter", "list", "--json"]));
    wait_until("the dead letter", || letters().lines().count() == 1);
    assert!(letters().contains("malformed") && letters().contains("64 deep"), "{}", letters());
    assert!(agent.terminate().success());
    let agent = rig.gateway.start();
    rig.are_read(&["0"]);
    rig.send("0", 10);
    wait_until("what came after it", || rig.count() == 20);
    assert_eq!(well(rig.gateway.run(&["dead-letter", "list", "--json"])).lines().count(), 1, "it was read again");
    assert!(agent.terminate().success());
}
