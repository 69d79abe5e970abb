//! Where the hub does not let the agent read, or not any more.

use std::{collections::BTreeSet, fs};

use forebay_tests::{
    harness::wait_until,
    judge::{HUB, Sdk},
};
use serde_json::json;

use crate::rig::{Rig, says};

#[test]
fn a_wrong_key_is_said_and_the_right_one_is_taken_up() {
    let mut rig = Rig::new(1);
    rig.send("0", 10);
    let file = rig.gateway.path("hub");
    let right = rig.hubs().connection_string();
    fs::write(&file, right.replace("SAS_KEY_VALUE", "TELL_NOBODY")).expect("a file can be written");
    let place = format!("connection_string_file = \"{}\"\nnamespace = \"localhost\"\n", file.display());
    rig.configure_at(&place, "", "");
    let agent = rig.gateway.spawn();
    says(&agent, &["waiting", "signature"]);
    assert!(agent.log().iter().all(|line| !line.contains("TELL_NOBODY")));
    fs::write(&file, right).expect("a file can be written");
    rig.all_comes();
}

#[test]
fn a_hub_that_is_not_there_is_named_and_read_when_it_is() {
    let mut rig = Rig::new(1);
    rig.hubs().ask("DELETE", &format!("/hubs/{HUB}"), &json!(null));
    rig.configure("");
    let agent = rig.gateway.spawn();
    says(&agent, &["waiting", HUB, "not-found"]);
    rig.hubs().make_hub(HUB, &json!({ "partitions": 1 }));
    rig.send("0", 10);
    rig.all_comes();
}

#[test]
fn a_reader_that_is_put_above_the_others_takes_the_partition_and_is_not_fought() {
    let mut rig = Rig::new(1);
    rig.send("0", 10);
    rig.configure("owner_level = 1");
    let agent = rig.gateway.start();
    rig.all_comes();
    // The SDK reads the partition at level 5, and lets it go.
    Sdk::Python.run(&rig.space, "amqp", &["usurp", "0", "5"]);
    says(&agent, &["stopped", "another receiver", "balanced"]);
    rig.send("0", 10);
    assert_eq!(rig.consumers(), []);
    assert!(agent.terminate().success());
    let _agent = rig.gateway.start();
    rig.all_comes();
}

#[test]
fn a_partition_that_a_reader_without_a_claim_has_is_named_until_it_is_read_again() {
    let mut rig = Rig::new(1);
    rig.send("0", 10);
    rig.configure(
        "partitions = \"balanced\"\nload_balancing_interval = \"1s\"\npartition_ownership_expiration_interval = \"9s\"",
    );
    let agent = rig.gateway.start();
    rig.all_comes();
    Sdk::Python.run(&rig.space, "amqp", &["usurp", "0", "5"]);
    says(&agent, &["waiting", "another reader", "no agent of this table"]);
    rig.send("0", 10);
    rig.all_comes();
    says(&agent, &["running"]);
}

#[test]
fn what_is_not_delivered_of_a_partition_that_a_reader_without_a_claim_takes_stays_here() {
    let mut rig = Rig::new(1);
    rig.configure(
        "partitions = \"balanced\"\nload_balancing_interval = \"1s\"\npartition_ownership_expiration_interval = \"9s\"",
    );
    rig.postgres.psql("ALTER TABLE events RENAME TO away");
    let agent = rig.gateway.spawn();
    rig.send("0", 10);
    let sent = rig.stored();
    wait_until("all to be in the buffer", || agent.taken_in() == 10);
    Sdk::Python.run(&rig.space, "amqp", &["usurp", "0", "5"]);
    says(&agent, &["waiting", "another reader", "no agent of this table"]);
    rig.hubs().ask("DELETE", &format!("/hubs/{HUB}/partitions/0/events"), &json!({ "before": 10 }));
    rig.postgres.psql("ALTER TABLE away RENAME TO events");
    rig.comes(&sent);
    assert_eq!(agent.lost_events(), 0);
}

#[test]
fn a_quiet_partition_is_read_on_though_the_hub_does_not_say_why_it_is_quiet() {
    let mut rig = Rig::new(1);
    rig.configure("");
    let agent = rig.gateway.start();
    rig.are_read(&["0"]);
    let fault = rig.hubs().arm(&json!({ "phase": "management", "action": "refuse", "times": 1_000 }));
    // After a minute it is asked for the partition, and for all of them.
    wait_until("the hub to be asked", || rig.hubs().happened(fault) >= 2);
    rig.send("0", 10);
    rig.all_comes();
    assert_eq!(agent.source_errors(), 0);
}

#[test]
fn claims_are_renewed_though_the_hub_does_not_answer_what_partitions_it_has() {
    let mut rig = Rig::new(1);
    rig.configure(
        "partitions = \"balanced\"\nload_balancing_interval = \"1s\"\npartition_ownership_expiration_interval = \"9s\"",
    );
    let agent = rig.gateway.start();
    rig.are_read(&["0"]);
    rig.hubs().arm(&json!({ "phase": "management", "action": "swallow", "times": 1_000 }));
    let mut etags = BTreeSet::new();
    wait_until("the claim to be renewed for longer than it lasts", || {
        etags.insert(rig.postgres.psql("SELECT etag FROM ingestion_status_ownership"));
        etags.len() > 12
    });
    rig.send("0", 10);
    rig.all_comes();
    assert!(agent.log().iter().all(|line| !line.contains("could not be renewed")));
}

/// Promise 6.
#[test]
fn what_another_agent_takes_stays_here_until_the_hub_says_whether_it_can_be_read_there() {
    let mut rig = Rig::new(1);
    rig.configure(
        "partitions = \"balanced\"\nload_balancing_interval = \"1s\"\npartition_ownership_expiration_interval = \"9s\"",
    );
    rig.postgres.psql("ALTER TABLE events RENAME TO away");
    let agent = rig.gateway.spawn();
    rig.send("0", 10);
    wait_until("all to be in the buffer", || agent.taken_in() == 10);
    let fault = rig.hubs().arm(&json!({ "phase": "management", "action": "swallow", "times": 1_000 }));
    rig.postgres.psql(
        "UPDATE ingestion_status_ownership SET owner_id = 'gw-b', etag = 'b', last_modified_time = EXTRACT(EPOCH FROM \
         clock_timestamp())",
    );
    wait_until("the partition to be left", || rig.consumers().is_empty());
    let asked = rig.hubs().happened(fault);
    wait_until("the hub to be asked again and again", || rig.hubs().happened(fault) >= asked + 4);
    assert_eq!(agent.pending("warehouse"), 10);
    rig.hubs().ask("DELETE", &format!("/hubs/{HUB}/partitions/0/events"), &json!({ "before": 10 }));
    rig.hubs().ask("DELETE", "/faults", &json!(null));
    wait_until("what expired to be in the ledger", || agent.lost_events() == 10);
    assert_eq!(agent.pending("warehouse"), 0);
}

#[test]
fn a_token_that_expires_and_links_that_are_detached_are_no_more_than_a_pause() {
    let mut rig = Rig::new(2);
    rig.configure("");
    let agent = rig.gateway.start();
    rig.are_read(&["0", "1"]);
    for condition in
        ["amqp:link:detach-forced", "amqp:internal-error", "com.microsoft:timeout", "com.microsoft:server-busy"]
    {
        rig.send("0", 10);
        rig.hubs().ask("POST", "/detach", &json!({ "hub": HUB, "role": "consumer", "condition": condition }));
        rig.send("1", 10);
        rig.all_comes();
    }
    rig.hubs().ask("POST", "/expire-tokens", &json!({}));
    rig.send("0", 10);
    rig.hubs().ask("POST", "/disconnect", &json!({ "how": "reset" }));
    rig.send("1", 10);
    rig.all_comes();
    assert!(agent.source_errors() > 0);
}
