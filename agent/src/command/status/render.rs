//! A report as text for a terminal of 80 columns.

use std::time::Duration;

use super::rates::History;
use crate::{
    command::{table::Table, units},
    observe::status::{ConditionReport, Report, Severity, SinkReport, State},
};

/// What stands where nothing is known.
const UNKNOWN: &str = "-";

/// Draws a report. What is wrong comes last, next to the prompt.
pub(in crate::command) fn render(report: &Report, history: &History) -> String {
    let mut text = head(report);
    text.push('\n');
    text += &sources(report, history);
    text.push('\n');
    text += &sinks(report, history);
    let lanes = lanes(report);
    if !lanes.is_empty() {
        text.push('\n');
        text += &lanes;
    }
    for finding in &report.findings {
        let severity = match finding.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let since = finding.for_seconds.map(|seconds| format!(" (for {})", seconds_of(seconds))).unwrap_or_default();
        text += &format!("\n{severity}: {}: {}{since}\n", finding.subject, finding.message);
        if !finding.remedy.is_empty() {
            text += &format!("  -> {}\n", finding.remedy);
        }
    }
    text
}

fn head(report: &Report) -> String {
    let buffer = &report.buffer;
    let agent = match &report.agent {
        None => "not running".to_owned(),
        Some(agent) => {
            let memory = agent.resident_bytes.map(|bytes| format!(", {} of memory", units::bytes(bytes)));
            let uptime = seconds_of(agent.uptime_seconds);
            format!("{}, running for {uptime}{} (pid {})", agent.id, memory.unwrap_or_default(), agent.process_id)
        }
    };
    let clock = if report.clock_synchronised { "" } else { ", not synchronised" };
    let free = buffer.free_disk_bytes.map(|bytes| format!(", {} free on its disk", units::bytes(bytes)));
    let mut text = format!(
        "agent   {agent}\nclock   {}{clock}\nbuffer  {} of {} used{}\n",
        report.time,
        units::bytes(buffer.used_bytes),
        units::bytes(buffer.max_bytes),
        free.unwrap_or_default(),
    );
    if buffer.dead_letters > 0 {
        text += &format!("        {} dead letters\n", units::count(buffer.dead_letters));
    }
    for (reason, events) in &buffer.lost_events {
        text += &format!("        {} events lost: {reason}\n", units::count(*events));
    }
    text
}

fn sources(report: &Report, history: &History) -> String {
    let mut table = Table::new(&["source", "state", ">taken in", ">rate", ">in buffer", ">size", ">oldest"]);
    for source in &report.sources {
        let oldest = source.partitions.iter().filter_map(|partition| partition.oldest_age_seconds).reduce(f64::max);
        table.row(vec![
            source.name.clone(),
            state(source.condition.as_ref()),
            source.counters.map_or_else(unknown, |counters| units::count(counters.events)),
            history.taken_in(&source.name).map_or_else(unknown, units::rate),
            units::count(source.buffered_events),
            units::bytes(source.buffered_bytes),
            age(oldest),
        ]);
    }
    let mut text = table.draw();
    for source in &report.sources {
        let duplicates = source.counters.map_or(0, |counters| counters.duplicates);
        if duplicates > 0 {
            text += &format!("{}: {} duplicates left out\n", source.name, units::count(duplicates));
        }
        let upstream: u64 = source.lag_events.values().sum();
        if upstream > 0 {
            text += &format!("{}: {} more events upstream\n", source.name, units::count(upstream));
        }
    }
    text
}

fn sinks(report: &Report, history: &History) -> String {
    let mut table = Table::new(&["sink", "state", ">delivered", ">rate", ">pending", ">oldest", ">to drain"]);
    for sink in &report.sinks {
        let drain = history.time_to_drain(&sink.name).map(units::duration);
        table.row(vec![
            sink.name.clone(),
            state(worst(sink)),
            sink.counters.map_or_else(unknown, |counters| units::count(counters.events)),
            history.delivered(&sink.name).map_or_else(unknown, units::rate),
            units::count(sink.pending_events),
            age(sink.oldest_age_seconds),
            if sink.pending_events == 0 { "0 s".to_owned() } else { drain.unwrap_or_else(unknown) },
        ]);
    }
    table.draw()
}

/// The lanes that are not simply at work: why, and where they stand.
fn lanes(report: &Report) -> String {
    let mut table = Table::new(&["lane", "confirmed", ">pending", "why"]);
    for sink in &report.sinks {
        for lane in &sink.lanes {
            let Some(reason) = lane.condition.as_ref().and_then(|condition| condition.reason.clone()) else { continue };
            table.row(vec![
                format!("{} {}/{}", sink.name, lane.stream, lane.partition),
                lane.confirmed.clone().unwrap_or_else(unknown),
                units::count(lane.pending_events),
                reason,
            ]);
        }
    }
    if table.is_empty() { String::new() } else { table.draw() }
}

/// The condition of a sink that most deserves a look: its own, or that of a lane.
fn worst(sink: &SinkReport) -> Option<&ConditionReport> {
    let rank = |condition: &&ConditionReport| match condition.state {
        State::Stopped => 5,
        State::Waiting => 4,
        State::HeldBack => 3,
        State::Running => 2,
        State::Starting => 1,
        State::Finished => 0,
    };
    let lanes = sink.lanes.iter().filter_map(|lane| lane.condition.as_ref());
    sink.condition.as_ref().into_iter().chain(lanes).max_by_key(rank)
}

fn state(condition: Option<&ConditionReport>) -> String {
    let Some(condition) = condition else { return unknown() };
    match condition.state {
        State::HeldBack => "held back".to_owned(),
        state => state.name().to_owned(),
    }
}

fn age(seconds: Option<f64>) -> String {
    let age = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    age.map_or_else(unknown, units::duration)
}

fn seconds_of(seconds: u64) -> String {
    units::duration(Duration::from_secs(seconds))
}

fn unknown() -> String {
    UNKNOWN.to_owned()
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::observe::status::{
        AgentReport, BufferReport, Counters, Finding, LaneReport, PartitionReport, SourceReport,
    };

    /// A host source, and a file sink that waits.
    pub(in crate::command::status) fn report() -> Report {
        let counters = Some(Counters { events: 1_234_567, duplicates: 89, ..Counters::default() });
        let condition = |state, reason: Option<&str>| {
            Some(ConditionReport { state, reason: reason.map(str::to_owned), for_seconds: 7_500 })
        };
        Report {
            time: "2026-11-20T14:05:09Z".to_owned(),
            clock_synchronised: true,
            agent: Some(AgentReport {
                id: "gw-0042".to_owned(),
                version: "0.1.0".to_owned(),
                process_id: 4711,
                uptime_seconds: 270_000,
                resident_bytes: Some(8 << 20),
                written_bytes: None,
            }),
            buffer: BufferReport {
                generation: "0".repeat(32),
                epoch: 3,
                file_bytes: 14 << 20,
                used_bytes: 12 << 20,
                max_bytes: 2 << 30,
                free_disk_bytes: Some(38 << 30),
                full: None,
                full_for_seconds: None,
                dead_letters: 2,
                lost_events: BTreeMap::from([("drop-oldest".to_owned(), 300)]),
                salvage: None,
            },
            sources: vec![SourceReport {
                name: "host".to_owned(),
                kind: Some("host".to_owned()),
                condition: condition(State::Running, None),
                counters,
                certificate_expires: None,
                certificate_expires_in_seconds: None,
                certificate_error: None,
                buffered_events: 12_345,
                buffered_bytes: 1 << 20,
                max_bytes: 2 << 30,
                full: false,
                partitions: vec![PartitionReport {
                    name: "0".to_owned(),
                    for_sink: None,
                    high_water: "3.17".to_owned(),
                    events: 12_345,
                    bytes: 1 << 20,
                    oldest_age_seconds: Some(7_500.0),
                }],
                lag_events: BTreeMap::new(),
            }],
            sinks: vec![SinkReport {
                name: "files".to_owned(),
                kind: Some("file".to_owned()),
                inputs: vec!["host".to_owned()],
                condition: None,
                counters,
                pending_events: 12_345,
                oldest_age_seconds: Some(7_500.0),
                dead_letters: 2,
                lost_events: 300,
                lanes: vec![LaneReport {
                    stream: "host".to_owned(),
                    partition: "0".to_owned(),
                    condition: condition(State::Waiting, Some("cannot write to /srv/a/very/long/path/indeed: full")),
                    confirmed: Some("3.4".to_owned()),
                    pending_events: 12_345,
                    oldest_age_seconds: Some(7_500.0),
                    no_progress_seconds: Some(7_500),
                }],
            }],
            findings: vec![Finding {
                severity: Severity::Error,
                subject: "sink files (host/0)".to_owned(),
                message: "waiting".to_owned(),
                for_seconds: Some(7_500),
                remedy: "make room".to_owned(),
            }],
        }
    }

    #[test]
    fn a_report_fits_80_columns_and_names_what_is_wrong() {
        let text = render(&report(), &History::default());
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        for part in [
            "gw-0042, running for 3 d 3 h",
            "12,345",
            "89 duplicates",
            "waiting",
            "drop-oldest",
            "2 h 5 min",
            "-> make room",
        ] {
            assert!(text.contains(part), "{part} is missing:\n{text}");
        }
    }

    #[test]
    fn without_an_agent_only_the_buffer_is_told_of() {
        let mut report = report();
        report.agent = None;
        report.sinks[0].counters = None;
        report.sinks[0].lanes[0].condition = None;
        report.findings.clear();
        let text = render(&report, &History::default());
        assert!(text.starts_with("agent   not running\n"), "{text}");
        assert!(!text.contains("error"), "{text}");
    }
}
