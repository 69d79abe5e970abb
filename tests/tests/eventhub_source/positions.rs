//! Places that are not there any more: a hub that was created anew, and events that expired before they were read.

use forebay_tests::harness::wait_until;
use serde_json::json;

use crate::rig::{Rig, says};

/// One whose agent has read 100 events, and has stopped.
fn read_before(source: &str) -> Rig {
    let mut rig = Rig::new(1);
    rig.send("0", 100);
    rig.configure(source);
    let agent = rig.gateway.start();
    rig.all_comes();
    assert!(agent.terminate().success());
    rig
}

/// The hub forgets the events before this number.
fn expire(rig: &Rig, before: u64) {
    let path = format!("/hubs/{}/partitions/0/events", forebay_tests::judge::HUB);
    rig.hubs().ask("DELETE", &path, &json!({ "before": before }));
}

#[test]
fn a_hub_that_was_created_anew_is_left_alone_until_an_operator_says_what_to_do() {
    let mut rig = read_before("");
    rig.hubs().make_hub(forebay_tests::judge::HUB, &json!({ "partitions": 1 }));
    rig.send("0", 50);
    let agent = rig.gateway.spawn();
    says(&agent, &["stopped", "created anew", "on_invalid_offset"]);
    assert_eq!(rig.count(), 100);
    assert!(agent.source_errors() < 5);
    assert!(agent.terminate().success());
    rig.configure("on_invalid_offset = \"-1\"");
    let agent = rig.gateway.start();
    wait_until("what the new hub has", || rig.count() == 150);
    assert_eq!(agent.taken_in(), 50);
    let (level, _) = rig.checkpoint("0").expect("it is there");
    assert_eq!(level, 49, "the numbers have started again");
}

#[test]
fn a_hub_that_was_created_anew_can_be_read_from_its_end() {
    let mut rig = read_before("on_invalid_offset = \"@latest\"");
    rig.hubs().make_hub(forebay_tests::judge::HUB, &json!({ "partitions": 1 }));
    rig.send("0", 50);
    let _agent = rig.gateway.start();
    rig.are_read(&["0"]);
    rig.send("0", 10);
    wait_until("what is new", || rig.count() == 110);
    assert_eq!(rig.rows().last().expect("a row").offset, 59);
}

#[test]
fn a_hub_that_is_older_than_the_one_before_is_another_and_is_not_read() {
    let mut rig = Rig::new(1);
    rig.send("0", 100);
    rig.configure("on_invalid_offset = \"-1\"");
    rig.postgres.psql("ALTER TABLE events RENAME TO away");
    let agent = rig.gateway.spawn();
    wait_until("all to be in the buffer", || agent.taken_in() == 100);
    agent.kill_9();
    rig.hubs().make_hub(forebay_tests::judge::HUB, &json!({ "partitions": 1, "created": 1_600_000_000_000_u64 }));
    rig.send("0", 50);
    rig.postgres.psql("ALTER TABLE away RENAME TO events");
    let agent = rig.gateway.spawn();
    says(&agent, &["stopped", "another hub", "another name"]);
    wait_until("what the buffer had", || rig.count() == 100);
    assert_eq!(agent.taken_in(), 0);
}

#[test]
fn a_hub_that_is_created_anew_while_it_is_read_is_noticed() {
    let mut rig = Rig::new(1);
    rig.send("0", 100);
    rig.configure("on_invalid_offset = \"-1\"");
    let _agent = rig.gateway.start();
    rig.all_comes();
    rig.hubs().make_hub(forebay_tests::judge::HUB, &json!({ "partitions": 1 }));
    rig.send("0", 30);
    wait_until("what the new hub has", || rig.count() == 130);
}

#[test]
fn events_that_expired_before_they_were_read_are_in_the_loss_ledger() {
    let mut rig = read_before("");
    let before = rig.stored();
    rig.send("0", 100);
    expire(&rig, 150);
    let agent = rig.gateway.start();
    rig.comes(&[before, rig.stored()].concat());
    assert_eq!(agent.lost_events(), 50);
    let said = String::from_utf8_lossy(&rig.gateway.run(&["status"]).stdout).into_owned();
    assert!(said.contains("expired at the hub") && said.contains("50"), "{said}");
    assert!(agent.terminate().success());
    let agent = rig.gateway.start();
    rig.send("0", 1);
    wait_until("the next", || rig.count() == 151);
    assert_eq!(agent.lost_events(), 50, "it is counted once");
}

#[test]
fn a_partition_of_which_all_has_expired_is_a_loss_too() {
    let mut rig = read_before("");
    let before = rig.stored();
    rig.send("0", 100);
    expire(&rig, 200);
    let agent = rig.gateway.start();
    rig.are_read(&["0"]);
    rig.send("0", 10);
    rig.comes(&[before, rig.stored()].concat());
    assert_eq!(agent.lost_events(), 100);
}

#[test]
fn a_number_that_the_hub_has_not_come_to_stops_the_partition_and_is_no_loop() {
    let mut rig = read_before("");
    // As after a failover to a region that had not got everything.
    rig.postgres.psql(
        "UPDATE ingestion_status SET waterlevel = 500, metadata = metadata || '{\"offset\": 500, \"sequence_number\": 500, \
         \"offset_string\": \"99999999\"}'",
    );
    rig.gateway = forebay_tests::harness::Gateway::new();
    rig.configure("");
    rig.send("0", 10);
    let agent = rig.gateway.spawn();
    says(&agent, &["stopped", "500", "on_invalid_offset"]);
    assert!(agent.source_errors() < 5);
    assert_eq!(rig.count(), 100);
}
