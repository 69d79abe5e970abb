//! The program as an operator meets it: exit codes, messages, signals.

mod support;

use std::{fs, net::TcpListener, os::unix::net::UnixListener};

use support::{Site, stderr, stdout};

const HTTP_TO_FILES: &str = r#"
[sources.web]
type = "http"
listen = "127.0.0.1:0"
path = "/events"

[sinks.files]
type = "file"
inputs = ["web"]
path = "out"
"#;

const TAIL_TO_FILES: &str = r#"
[sources.log]
type = "tail"
include = ["app.log"]
start = "beginning"
poll_interval = "50ms"

[sinks.files]
type = "file"
inputs = ["log"]
path = "out"
"#;

#[test]
fn help_is_printed_for_every_command_and_is_no_error() {
    let site = Site::new("");
    for words in [
        "",
        "run",
        "check",
        "setup",
        "status",
        "peek",
        "dead-letter",
        "dead-letter list",
        "dead-letter show",
        "dead-letter retry",
        "dead-letter discard",
        "buffer",
        "buffer check",
        "buffer salvage",
        "buffer export",
        "buffer adopt",
        "buffer discard",
        "demo",
    ] {
        let output = site.run(words.split_whitespace().chain(["--help"]));
        assert_eq!(output.status.code(), Some(0), "{words}");
        assert!(stdout(&output).starts_with(format!("Usage: forebay {words}").trim_end()), "{}", stdout(&output));
        assert!(stdout(&output).lines().all(|line| line.len() <= 80), "{}", stdout(&output));
        assert!(stderr(&output).is_empty());
    }
}

#[test]
fn the_version_is_printed() {
    let output = Site::new("").run(["--version"]);
    assert_eq!(output.status.code(), Some(0));
    let output = stdout(&output);
    let lines: Vec<_> = output.lines().map(|line| line.split_once(' ').expect("a name and a fact")).collect();
    let [("forebay", version), ("buffer", schema), ("features", _), ("target", target)] = lines[..] else {
        panic!("{output}")
    };
    assert_eq!(version, env!("CARGO_PKG_VERSION"));
    assert_eq!(schema, format!("schema {}", forebay_buffer::SCHEMA_VERSION));
    assert!(target.starts_with(std::env::consts::ARCH) && target.contains("linux"), "{target}");
}

#[test]
fn bad_usage_is_exit_code_2_and_says_where_help_is() {
    let site = Site::new("");
    for words in
        ["", "fly", "peek", "run --fast", "demo --for ever", "dead-letter retry", "buffer adopt", "buffer discard"]
    {
        let output = site.run(words.split_whitespace());
        assert_eq!(output.status.code(), Some(2), "{words}: {}", stderr(&output));
        assert!(stdout(&output).is_empty() && !stderr(&output).is_empty(), "{words}");
    }
}

#[test]
fn a_broken_config_is_exit_code_2_for_every_command_and_names_the_place() {
    let site = Site::new("[sources.web]\ntype = \"http\"\nlisen = \"127.0.0.1:0\"\n");
    for words in ["run", "check", "status", "peek web", "dead-letter list", "buffer check"] {
        let output = site.run(words.split_whitespace());
        assert_eq!(output.status.code(), Some(2), "{words}");
        assert!(stderr(&output).contains("forebay.toml:3"), "{words}: {}", stderr(&output));
    }
}

#[test]
fn commands_about_a_buffer_that_is_not_there_say_so_and_make_none() {
    let site = Site::new(HTTP_TO_FILES);
    for words in
        ["status", "peek web", "dead-letter list", "buffer check", "buffer export", "buffer discard --sink gone"]
    {
        let output = site.run(words.split_whitespace());
        assert_eq!(output.status.code(), Some(1), "{words}");
        assert!(stderr(&output).contains("buffer.db"), "{words}: {}", stderr(&output));
    }
    assert!(!site.path("data").exists());
}

#[test]
fn a_second_instance_is_told_who_has_the_buffer_and_may_come_again() {
    let site = Site::new(HTTP_TO_FILES);
    let agent = site.start();
    let output = site.run(["run"]);
    assert_eq!(output.status.code(), Some(75), "{}", stderr(&output));
    assert!(stderr(&output).contains(&agent.pid().to_string()), "{}", stderr(&output));
    let status = site.run(["status"]);
    assert!(stdout(&status).contains(&format!("pid {}", agent.pid())), "the first one still answers");
    assert!(agent.terminate().success());
}

#[test]
fn another_programs_file_is_left_alone() {
    let site = Site::new(HTTP_TO_FILES);
    fs::create_dir(site.path("data")).expect("the directory is writable");
    fs::write(site.path("data/buffer.db"), "somebody's only copy\n".repeat(100)).expect("the directory is writable");
    let before = fs::read(site.path("data/buffer.db")).expect("it was just written");
    for words in ["run", "check", "status", "buffer check", "buffer salvage"] {
        let output = site.run(words.split_whitespace());
        assert_eq!(output.status.code(), Some(1), "{words}: {}{}", stdout(&output), stderr(&output));
        let said = stdout(&output) + &stderr(&output);
        assert!(said.contains("buffer.db"), "{words}: {said}");
    }
    assert_eq!(fs::read(site.path("data/buffer.db")).expect("it is still there"), before);
}

#[test]
fn a_data_directory_that_cannot_be_made_is_named_with_a_remedy() {
    let site = Site::new(HTTP_TO_FILES);
    fs::write(site.path("data"), "a file stands in the way").expect("the directory is writable");
    let output = site.run(["run"]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains(site.path("data").to_str().expect("a plain name")), "{}", stderr(&output));
    assert_eq!(site.run(["check"]).status.code(), Some(1), "check finds it too");
}

#[test]
fn sigterm_ends_the_agent_well_and_leaves_a_clean_buffer() {
    let site = Site::new(TAIL_TO_FILES);
    fs::write(site.path("app.log"), "one\ntwo\n").expect("the directory is writable");
    let agent = site.start();
    site.wait_delivered(2);
    assert!(agent.terminate().success());
    let output = site.run(["check", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", stdout(&output));
    assert!(!stdout(&output).contains("unclean"));
    let status = site.run(["status"]);
    assert!(stdout(&status).starts_with("agent   not running"), "{}", stdout(&status));
}

#[test]
fn an_agent_that_is_held_back_stops_all_the_same_and_loses_nothing() {
    const LINES: usize = 4_000;
    let share = "[sources.log.buffer]\nmax_bytes = \"1536KiB\"\n\n[sinks.files]";
    let site =
        Site::new(&TAIL_TO_FILES.replace("[sinks.files]", share).replace("path = \"out\"", "path = \"file/out\""));
    fs::write(site.path("file"), "").expect("the directory is writable");
    let lines: String = (0..LINES).map(|number| format!("{number} {}\n", support::hexadecimal(1_000))).collect();
    fs::write(site.path("app.log"), &lines).expect("the directory is writable");
    let agent = site.start();
    site.wait_status("the source is held back", |status| status["sources"][0]["condition"]["state"] == "held_back");
    assert!(agent.terminate().success());

    fs::remove_file(site.path("file")).expect("the file is there");
    let agent = site.start();
    site.wait_lines("file/out", LINES);
    assert!(agent.terminate().success());
    assert_eq!(support::bodies_below(&site.path("file/out")), lines.lines().collect::<Vec<_>>(), "once each, in order");
}

#[test]
fn standard_input_that_stays_open_does_not_keep_the_agent_from_stopping() {
    let site = Site::new(
        "[sources.line]\ntype = \"stdin\"\n\n[sinks.files]\ntype = \"file\"\ninputs = [\"line\"]\npath = \"out\"\n",
    );
    let mut agent = site.start_piped();
    agent.type_line("hello");
    site.wait_delivered(1);
    assert!(agent.terminate().success());
}

#[test]
fn a_request_that_never_ends_is_cut_off_when_the_agent_stops_or_at_once_when_told_twice() {
    let site = Site::new("");
    let port = support::free_port();
    site.configure(&HTTP_TO_FILES.replace("127.0.0.1:0", &format!("127.0.0.1:{port}")));
    for told_twice in [false, true] {
        let agent = site.start();
        let _request = support::post_in_part(port, "/events");
        agent.send_terminate();
        agent.wait_log("told to stop");
        if told_twice {
            assert_eq!(agent.terminate().code(), Some(1), "it says that it did not take its time");
        } else {
            assert!(agent.wait_exit().success());
        }
    }
}

#[test]
fn what_is_buffered_can_be_peeked_at_and_exported_and_stays() {
    let site = Site::new(&TAIL_TO_FILES.replace("path = \"out\"", "path = \"file/out\""));
    // A file where the sink wants a directory: nothing is delivered.
    fs::write(site.path("file"), "").expect("the directory is writable");
    fs::write(site.path("app.log"), "one\ntwo\nthree\n").expect("the directory is writable");
    let agent = site.start();
    site.wait_status("three events are buffered", |status| status["sources"][0]["buffered_events"] == 3);
    let peek = |words: &str| {
        let output = site.run(words.split_whitespace());
        assert_eq!(output.status.code(), Some(0), "{words}: {}", stderr(&output));
        stdout(&output)
            .lines()
            .map(|line| serde_json::from_str(line).expect("NDJSON"))
            .collect::<Vec<serde_json::Value>>()
    };
    let all = peek("peek log");
    assert_eq!(
        all.iter().map(|event| event["body"].as_str().unwrap_or("")).collect::<Vec<_>>(),
        ["one", "two", "three"]
    );
    assert_eq!(peek("peek log --limit 2").len(), 2);
    let partition = all[0]["partition"].as_str().expect("a partition has a name");
    let after = format!("peek log --partition {partition} --after {}", all[0]["offset"]);
    assert_eq!(peek(&after)[0]["body"], "two");
    assert_eq!(peek("buffer export").len(), 3);
    assert!(agent.terminate().success());
    assert_eq!(peek("peek log").len(), 3, "it works without the agent too");

    let output = site.run(["peek", "nothing"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("nothing"), "{}", stderr(&output));
}

#[test]
fn sighup_starts_what_is_new_and_leaves_the_rest_running() {
    let site = Site::new(TAIL_TO_FILES);
    fs::write(site.path("app.log"), "one\n").expect("the directory is writable");
    let agent = site.start();
    site.wait_delivered(1);
    fs::write(site.path("new.log"), "two\n").expect("the directory is writable");
    site.configure(&TAIL_TO_FILES.replace("inputs = [\"log\"]", "inputs = [\"log\", \"new\"]").replace(
        "[sinks.files]",
        "[sources.new]\ntype = \"tail\"\ninclude = [\"new.log\"]\nstart = \"beginning\"\n\n[sinks.files]",
    ));
    agent.hang_up();
    site.wait_delivered(2);
    assert!(!agent.log().contains("source log: stopped"), "{}", agent.log());
    assert!(agent.terminate().success());
}

#[test]
fn sighup_with_a_broken_config_changes_nothing() {
    let site = Site::new(TAIL_TO_FILES);
    fs::write(site.path("app.log"), "one\n").expect("the directory is writable");
    let agent = site.start();
    site.wait_delivered(1);
    site.configure("nonsense");
    agent.hang_up();
    agent.wait_log("the old one goes on");
    support::append(&site.path("app.log"), "two\n");
    site.wait_delivered(2);
    assert!(agent.terminate().success());
}

#[test]
fn sighup_that_would_strand_events_changes_nothing() {
    let far = "\n[sinks.far]\ntype = \"file\"\ninputs = [\"log\"]\npath = \"file/far\"\n";
    let site = Site::new(&(TAIL_TO_FILES.to_owned() + far));
    fs::write(site.path("file"), "").expect("the directory is writable");
    fs::write(site.path("app.log"), "one\n").expect("the directory is writable");
    let agent = site.start();
    site.wait_delivered(1);
    site.configure(TAIL_TO_FILES);
    agent.hang_up();
    agent.wait_log("the old one goes on");
    fs::remove_file(site.path("file")).expect("the file is there");
    site.wait_lines("file/far", 1);
    support::append(&site.path("app.log"), "two\n");
    site.wait_lines("file/far", 2);
    site.wait_delivered(2);
    assert!(agent.terminate().success());
}

#[test]
fn an_address_that_is_taken_is_waited_for() {
    let site = Site::new("");
    let taken = TcpListener::bind("127.0.0.1:0").expect("some port is free");
    let port = taken.local_addr().expect("a listener has an address").port();
    site.configure(&HTTP_TO_FILES.replace("127.0.0.1:0", &format!("127.0.0.1:{port}")));
    let check = site.run(["check"]);
    assert_eq!(check.status.code(), Some(1), "check finds it before the start");
    assert!(stdout(&check).contains(&port.to_string()), "{}", stdout(&check));
    let agent = site.start();
    site.wait_status("the source waits", |status| status["sources"][0]["condition"]["state"] == "waiting");
    drop(taken);
    support::post(port, "/events", b"at last");
    site.wait_delivered(1);
    assert!(agent.terminate().success());
}

#[test]
fn a_stream_with_undelivered_events_cannot_just_be_left_out() {
    let stuck = TAIL_TO_FILES.replace("path = \"out\"", "path = \"file/out\"");
    let site = Site::new(&stuck);
    fs::write(site.path("file"), "").expect("the directory is writable");
    fs::write(site.path("app.log"), "one\n").expect("the directory is writable");
    let agent = site.start();
    site.wait_status("the event is buffered", |status| status["sources"][0]["buffered_events"] == 1);
    assert!(agent.terminate().success());

    let renamed = stuck.replace("sources.log", "sources.journal").replace("[\"log\"]", "[\"journal\"]");
    site.configure(&renamed);
    let output = site.run(["run"]);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    for remedy in ["[sources.log]", "renamed_from = \"log\"", "forebay buffer discard --stream log"] {
        assert!(stderr(&output).contains(remedy), "{remedy}: {}", stderr(&output));
    }

    site.configure(&renamed.replace("[sources.journal]", "[sources.journal]\nrenamed_from = \"log\""));
    let agent = site.start();
    site.wait_status("the stream has its new name", |status| {
        status["sources"][0]["name"] == "journal" && status["sources"][0]["buffered_events"] == 1
    });
    assert!(agent.terminate().success());
}

#[test]
fn a_discarded_sink_lets_the_agent_start_again() {
    let two = TAIL_TO_FILES.to_owned() + "\n[sinks.far]\ntype = \"file\"\ninputs = [\"log\"]\npath = \"file/far\"\n";
    let site = Site::new(&two);
    fs::write(site.path("file"), "").expect("the directory is writable");
    fs::write(site.path("app.log"), "one\n").expect("the directory is writable");
    let agent = site.start();
    site.wait_delivered(1);
    let refused = site.run(["buffer", "discard", "--sink", "far"]);
    assert_eq!(refused.status.code(), Some(2), "it is in use: {}", stderr(&refused));
    assert!(agent.terminate().success());

    site.configure(TAIL_TO_FILES);
    let output = site.run(["run"]);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(stderr(&output).contains("forebay buffer discard --sink far"), "{}", stderr(&output));
    let output = site.run(["buffer", "discard", "--sink", "far"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(site.start().terminate().success());
}

#[test]
fn the_buffer_is_adopted_while_the_agent_runs() {
    let site = Site::new(HTTP_TO_FILES);
    let agent = site.start();
    let generation = site.status()["buffer"]["generation"].clone();
    let output = site.run(["buffer", "adopt", "--yes"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    site.wait_status("the generation is another", |status| status["buffer"]["generation"] != generation);
    assert!(agent.terminate().success());
}

#[test]
fn dead_letters_are_listed_shown_sent_again_and_dropped() {
    let site = Site::new(&TAIL_TO_FILES.replace("type = \"tail\"", "type = \"tail\"\nformat = \"ndjson\""));
    fs::write(site.path("app.log"), "{\"a\":1}\nno json\nnor this\n{\"a\":2}\n").expect("the directory is writable");
    let agent = site.start();
    site.wait_delivered(2);
    site.wait_status("two lines are refused", |status| status["buffer"]["dead_letters"] == 2);
    let well = |words: &str| {
        let output = site.run(words.split_whitespace());
        assert_eq!(output.status.code(), Some(0), "{words}: {}", stderr(&output));
        stdout(&output)
    };
    let letters: Vec<serde_json::Value> =
        well("dead-letter list --json").lines().map(|line| serde_json::from_str(line).expect("NDJSON")).collect();
    assert_eq!(letters.len(), 2);
    assert!(letters.iter().all(|letter| letter["stream"] == "log" && letter["sink"].is_null()), "{letters:?}");
    assert!(well("dead-letter list").lines().all(|line| line.chars().count() <= 80));
    assert!(well("dead-letter list --limit 1").contains("there are more"));
    let (first, second) = (&letters[0]["id"], &letters[1]["id"]);
    assert!(well(&format!("dead-letter show {first}")).contains("no json"));

    well(&format!("dead-letter retry {first}"));
    site.wait_delivered(3);
    assert!(agent.terminate().success());
    assert!(well("dead-letter discard --all --stream log").contains("1 of 1"), "without the agent it works too");
    assert!(well("dead-letter list").contains("no dead letters"));
    let output = site.run(["dead-letter", "show", &second.to_string()]);
    assert_eq!(output.status.code(), Some(1), "it is gone");
}

#[test]
fn a_file_found_damaged_while_the_agent_runs_is_salvaged_and_health_says_so() {
    let site = Site::new("");
    let port = support::free_port();
    let config = HTTP_TO_FILES.replace("127.0.0.1:0", &format!("127.0.0.1:{port}"));
    site.configure(&config.replace("path = \"out\"", "path = \"file/out\""));
    fs::write(site.path("file"), "").expect("the directory is writable");
    let agent = site.start();
    // Bodies that no compression changes can be found in the file.
    let bodies: Vec<Vec<u8>> = (0..3).map(|_| support::noise(4096)).collect();
    for body in &bodies {
        support::post(port, "/events", body);
    }
    assert!(agent.terminate().success());

    let path = site.path("data/buffer.db");
    let mut file = fs::read(&path).expect("the buffer is there");
    // Not in one piece: pages are smaller than that.
    let at = bodies[1].chunks(32).find_map(|part| file.windows(32).position(|found| found == part));
    let at = at.expect("the body is in the file");
    file[at] ^= 0x01;
    fs::write(&path, file).expect("the buffer can be written");

    fs::remove_file(site.path("file")).expect("the file is there");
    let agent = site.start();
    site.wait_status("the salvage is reported", |status| !status["buffer"]["salvage"].is_null());
    site.wait_lines("file/out", 2);
    support::post(port, "/events", b"after it");
    site.wait_lines("file/out", 3);
    let check = site.run(["check"]);
    assert!(stdout(&check).contains("salvaged"), "{}", stdout(&check));
    let output = site.run(["buffer", "check", "--acknowledge"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    site.wait_status("the salvage is acknowledged", |status| status["buffer"]["salvage"].is_null());
    assert!(agent.terminate().success());
}

#[test]
fn the_service_manager_hears_of_start_reload_progress_and_end() {
    let site = Site::new(HTTP_TO_FILES);
    let manager = support::Manager::new(site.path("notify"));
    let agent = site.start_with(&[
        ("NOTIFY_SOCKET", site.path("notify").to_str().expect("a plain name")),
        ("WATCHDOG_USEC", "300000"),
    ]);
    manager.wait("READY=1");
    manager.wait("STATUS=1 sources, 1 sinks, all well");
    manager.wait("WATCHDOG=1");
    manager.wait("WATCHDOG=1");
    agent.hang_up();
    manager.wait("RELOADING=1");
    manager.wait("READY=1");
    assert!(agent.terminate().success());
    manager.wait("STOPPING=1");
}

#[test]
fn a_socket_left_by_an_agent_that_was_killed_is_no_agent() {
    let site = Site::new(HTTP_TO_FILES);
    assert!(site.start().terminate().success());
    drop(UnixListener::bind(site.path("data/forebay.sock")).expect("the path is short"));
    let status = site.run(["status"]);
    assert!(stdout(&status).starts_with("agent   not running"), "{}{}", stdout(&status), stderr(&status));
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let site = Site::new(HTTP_TO_FILES);
    let output = site.run_unread(["--help"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stderr(&output).is_empty(), "{}", stderr(&output));
}

#[test]
fn the_demo_brings_events_into_files_and_leaves_them() {
    let site = Site::new("");
    let directory = site.path("demo");
    let output = site.run(["demo", "--for", "3s", "--dir", directory.to_str().expect("a plain name")]);
    assert_eq!(output.status.code(), Some(0), "{}{}", stdout(&output), stderr(&output));
    assert!(stdout(&output).contains(directory.to_str().expect("a plain name")));
    assert!(support::lines_below(&directory.join("events")) > 0, "{}", stdout(&output));
}
