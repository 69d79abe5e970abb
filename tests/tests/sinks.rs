//! Promise 7, and that sinks do not hang together: one is cut off, and the other does not notice.

use forebay_tests::{
    harness::{Agent, Gateway, wait_until},
    load::Gauge,
};

const CONFIG: &str = r#"
[sources.line]
type = "http"
listen = "{http}"
path = "/events"

[sinks.near]
type = "file"
inputs = ["line"]
path = "{dir}/near"

[sinks.far]
type = "file"
inputs = ["line"]
path = "{dir}/far/out"
"#;

#[test]
fn a_sink_that_is_down_holds_up_no_other_and_gets_everything_later() {
    let gateway = Gateway::new();
    gateway.configure(CONFIG);
    gateway.cut("far");
    let agent = gateway.start();
    let mut gauge = Gauge::new(&gateway, "/events");
    for _ in 0..50 {
        gauge.send_well();
    }
    gauge.judge(&gauge.wait_delivered(&gateway, "near", "near"));
    wait_until("the status to say what the other has to get", || agent.pending("far") == 50);

    gateway.mend("far");
    gauge.judge(&gauge.wait_delivered(&gateway, "far/out", "far"));
    assert!(agent.terminate().success());
}

#[test]
fn being_cut_off_is_one_line_in_the_log_when_it_begins_and_one_when_it_ends() {
    let gateway = Gateway::new();
    gateway.configure(CONFIG);
    gateway.cut("far");
    let agent = gateway.start();
    let mut gauge = Gauge::new(&gateway, "/events");
    gauge.send_well();
    let lines = |agent: &Agent| agent.log().into_iter().filter(|line| line.contains("sink far")).collect::<Vec<_>>();
    wait_until("a few attempts", || agent.sink_errors() >= 4);
    let cut = lines(&agent);
    assert_eq!(cut.iter().filter(|line| line.contains("waiting")).count(), 1, "{cut:#?}");

    gateway.mend("far");
    gauge.wait_delivered(&gateway, "far/out", "far");
    wait_until("the end to be logged", || lines(&agent).len() > cut.len());
    assert_eq!(lines(&agent).len(), cut.len() + 1, "{:#?}", lines(&agent));
    assert!(agent.terminate().success());
}

#[test]
fn a_lone_event_is_delivered_with_nothing_following_it() {
    let gateway = Gateway::new();
    gateway.configure(CONFIG);
    let agent = gateway.start();
    let mut gauge = Gauge::new(&gateway, "/events");
    for _ in 0..3 {
        gauge.send_well();
        gauge.judge(&gauge.wait_delivered(&gateway, "near", "near"));
        gauge.judge(&gauge.wait_delivered(&gateway, "far/out", "far"));
        wait_until("nothing to be left", || agent.pending("near") + agent.pending("far") == 0);
    }
    assert!(agent.terminate().success());
}

#[test]
fn sigterm_ends_the_agent_although_a_sink_is_down_and_nothing_is_lost() {
    let gateway = Gateway::new();
    gateway.configure(CONFIG);
    gateway.cut("far");
    let agent = gateway.start();
    let mut gauge = Gauge::new(&gateway, "/events");
    for _ in 0..20 {
        gauge.send_well();
    }
    assert!(agent.terminate().success(), "being cut off is no failure");

    gateway.mend("far");
    let agent = gateway.start();
    gauge.judge(&gauge.wait_delivered(&gateway, "far/out", "far"));
    gauge.judge(&gauge.wait_delivered(&gateway, "near", "near"));
    assert!(agent.terminate().success());
}
