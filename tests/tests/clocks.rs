//! Wrong clocks: a boot in 1970, a jump of ten years forward and one of an hour back, while events flow. Order, retries,
//! ages and the repaired times are right.

use std::{fs, time::Duration};

use forebay_tests::{
    harness::{Gateway, Jump, Record, WrongClock, now_micros, wait_until},
    load::Gauge,
};

const YEAR: Duration = Duration::from_secs(365 * 86_400);

const CONFIG: &str = r#"
[sources.line]
type = "http"
listen = "{http}"
path = "/events"

[sources.logs]
type = "tail"
include = ["{dir}/logs/*.log"]
start = "beginning"

[buffer]
max_age = "{max_age}"

[sinks.far]
type = "file"
inputs = ["line", "logs"]
path = "{dir}/far/out"
"#;

/// A gateway whose sink is cut off, and its clock.
fn gateway(max_age: &str) -> (Gateway, WrongClock) {
    let mut gateway = Gateway::new();
    gateway.configure(&CONFIG.replace("{max_age}", max_age));
    gateway.cut("far");
    let clock = WrongClock::new(&mut gateway);
    (gateway, clock)
}

fn send(gauge: &mut Gauge, events: usize) {
    for _ in 0..events {
        gauge.send_well();
    }
}

#[test]
fn times_from_before_the_clock_was_set_are_put_right_when_they_are_delivered() {
    let (gateway, mut clock) = gateway("1h");
    clock.boot_in_1970();
    let agent = gateway.start();
    let mut gauge = Gauge::new(&gateway, "/events");
    let begun = now_micros();
    send(&mut gauge, 20);
    clock.set_right();
    send(&mut gauge, 20);
    let ended = now_micros();

    gateway.mend("far");
    let records = gauge.wait_delivered(&gateway, "far/out", "far");
    gauge.judge(&records);
    assert!(agent.terminate().success());
    let (before, after) = records.split_at(20);
    assert!(before.iter().all(|record| record.time_quality.as_deref() == Some("repaired")), "{:?}", before[0]);
    assert!(after.iter().all(|record| record.time_quality.is_none()), "{:?}", after[0]);
    for record in &records {
        let time = micros(record);
        // The file that steers the clock is read anew each time: a second of slack for the offset to be the same.
        assert!((begun - 1_000_000..=ended + 1_000_000).contains(&time), "{} is not when it was sent", record.time);
    }
}

#[test]
fn times_of_a_boot_whose_clock_was_never_set_are_marked() {
    let (gateway, mut clock) = gateway("1h");
    clock.boot_in_1970();
    let agent = gateway.start();
    let mut gauge = Gauge::new(&gateway, "/events");
    send(&mut gauge, 20);
    assert!(agent.terminate().success());
    clock.boot_well();
    let agent = gateway.start();
    send(&mut gauge, 20);

    gateway.mend("far");
    let records = gauge.wait_delivered(&gateway, "far/out", "far");
    gauge.judge(&records);
    assert!(agent.terminate().success());
    assert!(records[..20].iter().all(|record| record.time_quality.as_deref() == Some("untrusted")), "{:?}", records[0]);
    assert!(records[20..].iter().all(|record| record.time_quality.is_none()), "{:?}", records[20]);
}

#[test]
fn jumps_of_the_clock_change_neither_order_nor_ages_nor_retries() {
    let (gateway, mut clock) = gateway("1h");
    let agent = gateway.start();
    let mut gauge = Gauge::new(&gateway, "/events");
    send(&mut gauge, 20);
    clock.jump(Jump::Forward(10 * YEAR));
    send(&mut gauge, 20);
    clock.jump(Jump::Back(Duration::from_secs(3_600)));
    send(&mut gauge, 20);
    let tried = agent.sink_errors();
    wait_until("another attempt after the jumps", || agent.sink_errors() > tried);

    gateway.mend("far");
    gauge.judge(&gauge.wait_delivered(&gateway, "far/out", "far"));
    assert_eq!(agent.lost_events(), 0, "nothing was an hour old");
    assert!(agent.terminate().success());
}

#[test]
fn an_event_that_is_too_old_is_dropped_into_the_ledger_and_one_with_an_untrusted_time_is_kept() {
    let (gateway, mut clock) = gateway("1s");
    clock.boot_in_1970();
    let agent = gateway.start();
    let mut gauge = Gauge::new(&gateway, "/events");
    send(&mut gauge, 10);
    assert!(agent.terminate().success());

    clock.boot_well();
    fs::create_dir(gateway.path("logs")).expect("a directory can be made");
    fs::write(gateway.path("logs/app.log"), "a line\n".repeat(10)).expect("a log can be written");
    let agent = gateway.start();
    wait_until("the lines, whose time is trusted, to be too old", || agent.lost_events() >= 10);

    gateway.mend("far");
    let records = gauge.wait_delivered(&gateway, "far/out", "far");
    gauge.judge(&records);
    assert_eq!(agent.lost_events(), 10, "the ledger holds what is missing, and no more");
    assert!(agent.terminate().success());
}

/// An RFC 3339 time as microseconds since 1970.
fn micros(record: &Record) -> i64 {
    let time: jiff::Timestamp = record.time.parse().expect("the time is RFC 3339");
    time.as_microsecond()
}
