//! What an operator may do to an agent: a broken config, a read-only disk, a second instance, another program's file, a
//! hostile body. Each ends in a clear message and an exit code, and nothing is harmed.

use std::{fs, process::Output};

use forebay_tests::{
    harness::{Gateway, Mount, skip},
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
"#;

fn gateway() -> Gateway {
    let gateway = Gateway::new();
    gateway.configure(CONFIG);
    gateway
}

/// What a command that failed told the operator; never a panic.
fn message(output: &Output, code: i32) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert!(!text.contains("panicked"), "{text}");
    text
}

#[test]
fn a_misspelled_key_is_refused_with_its_place_and_the_nearest_key() {
    let gateway = gateway();
    gateway.configure(&CONFIG.replace("listen", "lisen"));
    for command in ["run", "check"] {
        let text = message(&gateway.run(&[command]), 2);
        assert!(text.contains("forebay.toml:"), "file and line are named: {text}");
        assert!(text.contains("listen"), "the nearest key is named: {text}");
    }
}

#[test]
fn a_config_that_is_not_toml_is_refused_with_its_place() {
    let gateway = gateway();
    gateway.configure("[sources.line\ntype = ");
    let text = message(&gateway.run(&["run"]), 2);
    assert!(text.contains("forebay.toml:"), "file and line are named: {text}");
}

#[test]
fn a_config_that_is_not_there_is_named() {
    let gateway = gateway();
    fs::remove_file(gateway.config_path()).expect("the config is there");
    let text = message(&gateway.run(&["run"]), 2);
    assert!(text.contains(gateway.config_path().to_str().expect("a plain name")), "{text}");
}

#[test]
fn a_read_only_data_directory_ends_the_start_with_its_name() {
    let gateway = gateway();
    let Some(disk) = Mount::tmpfs(gateway.path("data"), "size=16m") else {
        return skip("a_read_only_data_directory_ends_the_start_with_its_name", "mounting is not allowed here");
    };
    disk.make_read_only();
    let text = message(&gateway.run(&["run"]), 1);
    assert!(text.contains(disk.path().to_str().expect("a plain name")), "{text}");
    let check = gateway.run(&["check"]);
    assert_eq!(check.status.code(), Some(1), "check finds it too");
}

#[test]
fn a_second_instance_ends_with_the_first_ones_process_id_and_does_it_no_harm() {
    let gateway = gateway();
    let agent = gateway.start();
    let mut gauge = Gauge::new(&gateway, "/events");
    gauge.send_well();
    let text = message(&gateway.run(&["run"]), 75);
    assert!(text.contains(&agent.pid().to_string()), "{text}");

    gauge.send_well();
    gauge.judge(&gauge.wait_delivered(&gateway, "near", "near"));
    assert!(agent.terminate().success());
}

#[test]
fn another_programs_database_is_refused_and_not_touched() {
    let gateway = gateway();
    fs::create_dir(gateway.path("data")).expect("a directory can be made");
    let path = gateway.path("data/buffer.db");
    let db = rusqlite::Connection::open(&path).expect("a database can be made");
    db.execute_batch("CREATE TABLE photos(id INTEGER PRIMARY KEY, name TEXT); INSERT INTO photos VALUES (1, 'cat')")
        .expect("SQL");
    drop(db);
    let before = fs::read(&path).expect("the database is there");
    let text = message(&gateway.run(&["run"]), 1);
    assert!(text.contains("buffer.db"), "{text}");
    assert!(fs::read(&path).expect("the database is still there") == before, "not a byte of it is changed");
}

#[test]
fn a_file_that_is_no_database_is_refused_and_not_touched() {
    let gateway = gateway();
    fs::create_dir(gateway.path("data")).expect("a directory can be made");
    let path = gateway.path("data/buffer.db");
    fs::write(&path, "not a database, but somebody's only copy of it\n".repeat(100)).expect("a file can be written");
    let before = fs::read(&path).expect("the file is there");
    let text = message(&gateway.run(&["run"]), 1);
    assert!(text.contains("buffer.db"), "{text}");
    assert!(fs::read(&path).expect("the file is still there") == before, "not a byte of it is changed");
}

#[test]
fn ten_megabytes_of_brackets_are_refused_in_bounded_memory() {
    const BOUND_BYTES: u64 = 64 << 20;
    let gateway = gateway();
    let agent = gateway.start();
    let body = vec![b'['; 10 << 20];
    for content_type in ["application/json", "application/x-ndjson"] {
        let answer = gateway.producer().post("/events", &[("content-type", content_type)], &body);
        let status = answer.expect("the agent answers").status;
        assert!(status == 400 || status == 413, "{content_type}: {status}");
    }
    let mut gauge = Gauge::new(&gateway, "/events");
    gauge.send_well();
    gauge.judge(&gauge.wait_delivered(&gateway, "near", "near"));
    assert!(agent.memory().peak < BOUND_BYTES, "{:?}", agent.memory());
    assert!(agent.terminate().success());
}

#[test]
fn a_request_with_one_wrong_line_is_refused_with_its_number_and_nothing_of_it_is_kept() {
    let gateway = gateway();
    let agent = gateway.start();
    let body = b"{\"id\":\"x:1\"}\n{\"id\":\"x:2\"\n{\"id\":\"x:3\"}\n";
    let answer = gateway.producer().post("/events", &[("content-type", "application/x-ndjson")], body);
    let answer = answer.expect("the agent answers");
    assert_eq!(answer.status, 400);
    assert!(answer.body.contains("line 2"), "{}", answer.body);
    let mut gauge = Gauge::new(&gateway, "/events");
    gauge.send_well();
    gauge.judge(&gauge.wait_delivered(&gateway, "near", "near"));
    assert!(agent.terminate().success());
}
