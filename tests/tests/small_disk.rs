//! A gateway whose filesystem is 16 MB, or full: it stays up, holds producers back, drains when the sink is back, loses
//! nothing, and says so in health.

use std::{fs::File, io::Write};

use forebay_tests::{
    harness::{Agent, Gateway, Mount, skip, wait_until},
    load::Gauge,
};

const CONFIG: &str = r#"
[sources.line]
type = "http"
listen = "{http}"
path = "/events"

[sinks.far]
type = "file"
inputs = ["line"]
path = "{dir}/far/out"
"#;

const WHY: &str = "mounting a small filesystem is not allowed here";

#[test]
fn a_filesystem_of_16_mb_that_fills_up_holds_producers_back_and_drains() {
    let gateway = Gateway::new();
    gateway.configure(CONFIG);
    gateway.cut("far");
    let Some(_disk) = Mount::tmpfs(gateway.path("data"), "size=16m") else {
        return skip("a_filesystem_of_16_mb_that_fills_up_holds_producers_back_and_drains", WHY);
    };
    let mut agent = gateway.start();
    let mut gauge = Gauge::new(&gateway, "/events");
    fill_up(&mut gauge);
    for _ in 0..100 {
        gauge.send(8_192);
    }
    assert_eq!(agent.exited(), None, "a full disk is no reason to stop");
    assert_held_back(&agent);

    gateway.mend("far");
    wait_until("producers to be let in again", || gauge.send(8_192) == 202);
    gauge.judge(&gauge.wait_delivered(&gateway, "far/out", "far"));
    wait_until("health to be well again", || agent.get("/health").status == 200);
    assert!(agent.terminate().success());
}

#[test]
fn a_disk_that_others_fill_holds_producers_back_until_there_is_room() {
    let gateway = Gateway::new();
    gateway.configure(CONFIG);
    gateway.cut("far");
    let Some(disk) = Mount::tmpfs(gateway.path("data"), "size=16m") else {
        return skip("a_disk_that_others_fill_holds_producers_back_until_there_is_room", WHY);
    };
    let agent = gateway.start();
    let mut gauge = Gauge::new(&gateway, "/events");
    for _ in 0..100 {
        assert_eq!(gauge.send(8_192), 202);
    }
    let hog = disk.path().join("core");
    let mut file = File::create(&hog).expect("a file can be made");
    while file.write_all(&[1; 4096]).is_ok() {}
    fill_up(&mut gauge);
    assert_held_back(&agent);

    // The disk stays full: what is there drains all the same.
    gateway.mend("far");
    gauge.judge(&gauge.wait_delivered(&gateway, "far/out", "far"));
    std::fs::remove_file(hog).expect("the file is there");
    drop(file);
    wait_until("producers to be let in again", || gauge.send(8_192) == 202);
    gauge.judge(&gauge.wait_delivered(&gateway, "far/out", "far"));
    assert!(agent.terminate().success());
}

/// Sends until the buffer holds back.
fn fill_up(gauge: &mut Gauge) {
    wait_until("producers to be held back", || match gauge.send(65_536) {
        202 => false,
        429 => true,
        status => panic!("a full buffer answers 429, not {status}"),
    });
}

fn assert_held_back(agent: &Agent) {
    wait_until("health to say that the buffer is full", || {
        let health = agent.get("/health");
        health.body.contains("full") || health.body.contains("held back")
    });
    assert_eq!(agent.get("/health/live").status, 200, "a full disk is no reason to be restarted");
}
