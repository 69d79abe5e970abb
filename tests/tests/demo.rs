//! The README's first command, and what an operator looks at.

use std::{
    io::Write,
    process::{Command, Stdio},
};

use forebay_tests::{
    harness::{Gateway, binary, read_output, wait_until},
    load::Gauge,
};

#[test]
fn the_demo_delivers_this_machines_figures_into_files() {
    let dir = tempfile::tempdir().expect("a directory can be made");
    let mut demo = Command::new(binary());
    demo.args(["demo", "--for", "5s", "--dir"]).arg(dir.path()).stdin(Stdio::null()).env_remove("NOTIFY_SOCKET");
    let output = demo.output().expect("the binary can be run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let files = walk(dir.path());
    let lines = files.iter().filter(|path| path.to_string_lossy().contains(".ndjson")).map(std::fs::read);
    let bytes: usize = lines.map(|bytes| bytes.expect("a file can be read").len()).sum();
    assert!(bytes > 0, "there are events in files: {files:?}");
}

fn walk(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(dir).expect("a directory can be read").filter_map(Result::ok);
    entries.flat_map(|entry| if entry.path().is_dir() { walk(&entry.path()) } else { vec![entry.path()] }).collect()
}

#[test]
fn lines_on_standard_input_are_delivered_once_each() {
    let gateway = Gateway::new();
    gateway.configure(
        "[sources.pipe]\ntype = \"stdin\"\nformat = \"lines\"\n\n\
         [sinks.near]\ntype = \"file\"\ninputs = [\"pipe\"]\npath = \"{dir}/near\"\n",
    );
    let mut command = gateway.command(&["run"]);
    command.stdin(Stdio::piped()).stderr(Stdio::null());
    let mut agent = command.spawn().expect("the binary can be started");
    let mut stdin = agent.stdin.take().expect("standard input is piped");
    let lines: Vec<String> = (0..1_000).map(|number| format!("line {number}")).collect();
    stdin.write_all((lines.join("\n") + "\n").as_bytes()).expect("the agent reads");
    drop(stdin);
    let bodies = || {
        let records = read_output(&gateway.path("near"), "near").records;
        records.iter().filter_map(|record| Some(record.body.as_ref()?.as_str()?.to_owned())).collect::<Vec<_>>()
    };
    wait_until("every line to be delivered", || bodies().len() >= lines.len());
    agent.kill().expect("the agent can be killed");
    agent.wait().expect("the agent can be waited for");
    assert_eq!(bodies(), lines);
}

#[test]
fn status_and_peek_work_with_the_agent_running_and_without() {
    let gateway = Gateway::new();
    gateway.configure(
        "[sources.line]\ntype = \"http\"\nlisten = \"{http}\"\npath = \"/events\"\n\n\
         [sinks.far]\ntype = \"file\"\ninputs = [\"line\"]\npath = \"{dir}/far/out\"\n",
    );
    gateway.cut("far");
    let agent = gateway.start();
    let mut gauge = Gauge::new(&gateway, "/events");
    for _ in 0..3 {
        gauge.send_well();
    }
    let look = || {
        // A running agent looks at its buffer once a second.
        wait_until("the status to be of now", || {
            let status = gateway.run(&["status", "--json"]);
            assert!(status.status.success(), "{status:?}");
            let status: serde_json::Value = serde_json::from_slice(&status.stdout).expect("the status is JSON");
            status["sinks"][0]["pending_events"] == 3
        });
        let peek = gateway.run(&["peek", "line"]);
        let text = String::from_utf8_lossy(&peek.stdout);
        assert_eq!(text.lines().filter(|line| line.contains("\"gauge:")).count(), 3, "{peek:?}");
    };
    look();
    assert!(agent.terminate().success());
    look();
}
