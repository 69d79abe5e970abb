//! How long it takes at a steady load from an event's intake until its commit is seen: by the agent, when the service has
//! answered it so; by the SDK, when it says so.

use std::{
    thread::{self, sleep},
    time::{Duration, Instant},
};

use forebay_tests::harness::{Client as Producer, now_micros, wait_until};
use serde_json::Value;

use super::{PARTITIONS, STEADY_BATCH, STEADY_TICK, STEADY_TICKS, client::Client, server::Server};
use crate::{options::Options, telemetry::Telemetry};

/// Half of the batches, and all but the hundredth, took so long: the agent's and those of the SDK's two forms.
pub(super) fn run(options: &Options, delay: Duration) -> Vec<String> {
    let agents = agent(options, &Server::start(delay));
    let sdks = ["steadily_waiting", "steadily_pipelined"].map(|form| {
        let server = Server::start(delay);
        let mut client = Client::steady_sdk(form, &server);
        let took = client.said();
        client.end();
        took
    });
    [agents].into_iter().chain(sdks).map(described).collect()
}

fn described(mut millis: Vec<f64>) -> String {
    assert_eq!(millis.len(), STEADY_TICKS * PARTITIONS as usize, "each batch took some time");
    millis.sort_by(f64::total_cmp);
    let at = |share: usize| millis[(millis.len() * share / 100).min(millis.len() - 1)];
    format!("{:.0} / {:.0} ms", at(50), at(99))
}

/// In milliseconds.
fn agent(options: &Options, server: &Server) -> Vec<f64> {
    let (agent, _gateway, ports) = Client::listening_agent(options, server);
    let lanes: Vec<_> = thread::scope(|scope| {
        let lanes: Vec<_> = (0..).zip(ports).map(|(lane, port)| scope.spawn(move || produce(lane, port))).collect();
        lanes.into_iter().map(|lane| lane.join().expect("a producer comes to its end")).collect()
    });
    let all = (STEADY_BATCH * STEADY_TICKS) as u64 * PARTITIONS;
    wait_until("all to be committed", || server.committed() == all);
    let commits = server.commits();
    let last = commits.iter().map(|commit| number(commit, "committed_ms")).max().expect("there are commits");
    wait_until("the last commit to be seen", || server.looks().last() >= Some(&last));
    agent.terminate();
    let looks = server.looks();
    (1..).zip(&lanes).flat_map(|(lane, acknowledged)| took(lane, acknowledged, &commits, &looks)).collect()
}

/// How long each batch of a stream took, from when it was acknowledged to the first look after its last row's commit.
fn took(lane: usize, acknowledged: &[f64], commits: &[Value], looks: &[u64]) -> Vec<f64> {
    let channel = format!("_LINE{lane}_");
    let is_of_lane = |commit: &&Value| commit["channel"].as_str().is_some_and(|name| name.contains(&channel));
    let rows = commits
        .iter()
        .filter(is_of_lane)
        .flat_map(|commit| std::iter::repeat_n(number(commit, "committed_ms"), number(commit, "rows") as usize));
    let last_rows = rows.skip(STEADY_BATCH - 1).step_by(STEADY_BATCH);
    let seen = last_rows.map(|committed| looks[looks.partition_point(|look| *look < committed)]);
    seen.zip(acknowledged).map(|(seen, acknowledged)| seen as f64 - acknowledged).collect()
}

/// Posts a batch at each tick. Returns when each was acknowledged, in milliseconds since 1970.
fn produce(lane: u64, port: u16) -> Vec<f64> {
    let (mut producer, mut telemetry) = (Producer::new(port), Telemetry::new(lane));
    let begun = Instant::now();
    let post = |tick| {
        sleep((begun + STEADY_TICK * tick as u32).saturating_duration_since(Instant::now()));
        let bodies: Vec<_> = (0..STEADY_BATCH).map(|_| telemetry.body()).collect();
        let headers = [("content-type", "application/x-ndjson")];
        let answer = producer.post("/events", &headers, &bodies.join(&b'\n')).expect("the agent answers");
        assert!(answer.status < 300, "{}: {}", answer.status, answer.body);
        now_micros() as f64 / 1e3
    };
    (0..STEADY_TICKS).map(post).collect()
}

fn number(value: &Value, name: &str) -> u64 {
    value[name].as_u64().expect("a number")
}
