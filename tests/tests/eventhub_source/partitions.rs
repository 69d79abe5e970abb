//! Which partitions are read, from where, as whose reader, and over what.

use std::{thread::sleep, time::Duration};

use forebay_tests::harness::wait_until;
use serde_json::json;

use crate::rig::{Rig, says};

#[test]
fn a_list_of_partitions_is_read_and_nothing_else() {
    let mut rig = Rig::new(4);
    for partition in ["0", "1", "2", "3"] {
        rig.send(partition, 100);
    }
    rig.configure("partitions = [\"1\", \"3\"]");
    let _agent = rig.gateway.start();
    rig.are_read(&["1", "3"]);
    let mut wanted = rig.stored();
    wanted.retain(|event| ["1", "3"].contains(&event.partition.as_str()));
    rig.comes(&wanted);
}

#[test]
fn a_partition_that_is_not_there_is_named_and_the_others_are_read() {
    let mut rig = Rig::new(2);
    rig.send("1", 100);
    rig.configure("partitions = [\"1\", \"7\"]");
    let agent = rig.gateway.spawn();
    says(&agent, &["no partition", "7", "0, 1"]);
    rig.all_comes();
}

#[test]
fn another_consumer_group_reads_for_itself() {
    let mut rig = Rig::with(&json!({ "partitions": 1, "consumer_groups": ["warehouse"] }));
    rig.send("0", 100);
    rig.configure("consumer_group = \"warehouse\"");
    let _agent = rig.gateway.start();
    rig.all_comes();
    let (level, metadata) = rig.checkpoint("0").expect("it is delivered");
    assert_eq!((level, &metadata["consumer_group"]), (99, &json!("warehouse")));
    assert_eq!(metadata["offset_string"], json!(rig.stored()[99].offset));
}

#[test]
fn after_a_start_at_the_end_what_comes_while_the_agent_is_down_is_not_passed_over() {
    let mut rig = Rig::new(2);
    rig.send("0", 50);
    rig.configure("starting_position = \"@latest\"");
    let agent = rig.gateway.start();
    rig.are_read(&["0", "1"]);
    assert!(agent.terminate().success());
    rig.send("0", 10);
    rig.send("1", 10);
    let _agent = rig.gateway.start();
    let mut wanted = rig.stored();
    wanted.retain(|event| event.partition == "1" || event.sequence_number >= 50);
    rig.comes(&wanted);
}

#[test]
fn events_wait_for_company_and_not_for_more_than_they_are_let() {
    let mut rig = Rig::new(1);
    rig.configure("max_wait_time = \"1m\"\nmax_batch_size = 10");
    let agent = rig.gateway.start();
    rig.are_read(&["0"]);
    rig.send("0", 9);
    wait_until("the nine are sent", || rig.consumers().iter().any(|(_, sent)| *sent == 9));
    sleep(Duration::from_millis(300));
    assert_eq!(agent.taken_in(), 0, "they wait for a tenth");
    rig.send("0", 1);
    rig.all_comes();
    // What waits for so long comes all the same, and nobody is waited for who cannot come.
    assert!(agent.terminate().success());
    rig.configure("max_wait_time = \"5s\"\nprefetch = 4");
    rig.send("0", 101);
    let _agent = rig.gateway.start();
    rig.all_comes();
}

#[test]
fn every_transport_brings_the_same() {
    for (transport, scheme) in [("amqp", "amqps"), ("websocket", "ws"), ("websocket", "wss")] {
        let mut rig = Rig::new(1);
        rig.send("0", 100);
        let ports = rig.hubs().ports();
        let (port, emulator) = match scheme {
            "amqps" => (ports.amqps.expect("it speaks TLS"), ""),
            "ws" => (ports.ws, ";UseDevelopmentEmulator=true"),
            _ => (ports.wss.expect("it speaks TLS"), ""),
        };
        let place = format!(
            "connection_string = \"Endpoint=sb://localhost:{port};SharedAccessKeyName=RootManageSharedAccessKey;\
             SharedAccessKey=SAS_KEY_VALUE{emulator}\"\ntransport = \"{transport}\"\n"
        );
        let tls = format!("[sources.hub.tls]\nca_file = \"{}\"\n", rig.space.authority().display());
        rig.configure_at(&place, if scheme == "ws" { "" } else { &tls }, "");
        let _agent = rig.gateway.start();
        rig.all_comes();
    }
}
