//! Reports made by hand, and in [`served`] the pages of a real buffer as they come over a socket.

mod served;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use forebay_buffer::{
    Generation, Numbering, Offset, PartitionStatus, SinkPartitionStatus, SinkStatus, Status, StreamLimits,
    StreamStatus, Timestamp, WhenFull, clock::Reading,
};

use super::{
    gather::Running,
    status::{AgentReport, Report},
    vitals::Vitals,
    *,
};
use crate::progress::{Condition, Progress};

/// A buffer with one stream, `line1`, and one sink, `files`, in good order.
pub(super) fn status() -> Status {
    let partition = PartitionStatus {
        name: "0".to_owned(),
        numbering: Numbering::Assigned,
        for_sink: None,
        high_water: Offset::assigned(3, 42),
        events: 10,
        bytes: 1000,
        oldest_age: Some(Duration::from_millis(1500)),
    };
    let place = SinkPartitionStatus {
        stream: "line1".to_owned(),
        partition: "0".to_owned(),
        numbering: Numbering::Assigned,
        checkpoint: None,
        pending_events: 10,
        oldest_age: Some(Duration::from_millis(1500)),
    };
    Status {
        generation: Generation(7),
        epoch: 3,
        recovery: None,
        file_bytes: 3 << 20,
        used_bytes: 1 << 20,
        max_bytes: 1 << 30,
        free_disk_bytes: Some(5 << 30),
        full: None,
        streams: vec![StreamStatus {
            name: "line1".to_owned(),
            limits: StreamLimits { max_bytes: 1 << 29, max_age: None, when_full: WhenFull::Backpressure },
            events: 10,
            bytes: 1000,
            full: false,
            partitions: vec![partition],
        }],
        sinks: vec![SinkStatus {
            name: "files".to_owned(),
            streams: vec!["line1".to_owned()],
            pending_events: 10,
            lost_events: 0,
            dead_letters: 0,
            partitions: vec![place],
        }],
        dead_letters: 0,
        lost_events: BTreeMap::new(),
    }
}

fn now() -> Reading {
    Reading { wall: Timestamp(1_790_000_000_000_000), since_boot: Duration::ZERO, synchronised: true }
}

fn parts() -> Parts {
    let (source, sink) = (Progress::new("source line1"), Progress::new("sink files"));
    source.enter("", Condition::Running);
    source.count(52, 5200);
    sink.enter("line1/0", Condition::Running);
    sink.count(42, 4200);
    Parts {
        sources: vec![SourceView { name: "line1".to_owned(), kind: "http", progress: source, certificate_file: None }],
        sinks: vec![SinkView { name: "files".to_owned(), kind: "file", progress: sink }],
        remarks: Vec::new(),
    }
}

/// A report of [`status`] with everything running.
pub(super) fn report() -> Report {
    report_of(&parts())
}

fn report_of(parts: &Parts) -> Report {
    let agent = AgentReport {
        id: "gw-0042".to_owned(),
        version: "1.2.3".to_owned(),
        process_id: 1,
        uptime_seconds: 100,
        resident_bytes: Some(9 << 20),
        written_bytes: Some(12345),
    };
    let mut vitals = Vitals::default();
    vitals.look(&status(), Instant::now());
    gather::report(&status(), now(), &Running { agent: Some(agent), parts: Some(parts), vitals: Some(&vitals) })
}

#[test]
fn a_report_joins_what_the_buffer_and_the_parts_say() {
    let report = report();
    let (source, sink) = (&report.sources[0], &report.sinks[0]);
    assert_eq!(
        (source.kind.as_deref(), source.counters.unwrap().events, source.buffered_events),
        (Some("http"), 52, 10)
    );
    assert_eq!(source.partitions[0].high_water, "3.42");
    let lane = &sink.lanes[0];
    assert_eq!((lane.pending_events, lane.no_progress_seconds), (10, Some(0)));
    assert_eq!(lane.condition.as_ref().unwrap().state, status::State::Running);
    assert_eq!(sink.condition, None, "its lane's condition is not the sink's own");
    assert_eq!(sink.oldest_age_seconds, Some(1.5));
}

#[test]
fn what_the_config_has_not_and_the_buffer_has_is_shown() {
    let report = report_of(&Parts::default());
    assert_eq!((report.sources[0].name.as_str(), &report.sources[0].kind), ("line1", &None));
    assert_eq!((report.sinks[0].name.as_str(), &report.sinks[0].kind), ("files", &None));
}

#[test]
fn what_the_buffer_has_not_yet_is_shown() {
    let parts = parts();
    let empty = Status { streams: Vec::new(), sinks: Vec::new(), ..status() };
    let report = gather::report(&empty, now(), &Running { parts: Some(&parts), ..Running::default() });
    assert_eq!((report.sources[0].name.as_str(), report.sinks[0].name.as_str()), ("line1", "files"));
}

#[test]
fn a_report_comes_back_from_json_as_it_was() {
    let report = report();
    let text = serde_json::to_string(&report).unwrap();
    assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
}

#[test]
fn a_buffer_that_no_agent_has_open_is_reported_alone() {
    let report = Report::of_buffer(&Status { full: Some("disk".to_owned()), ..status() }, now());
    assert_eq!((report.agent.is_none(), report.findings.len()), (true, 1));
    assert!(!report.is_healthy());
}

#[test]
fn an_expiring_certificate_is_in_the_report() {
    let dir = tempfile::tempdir().unwrap();
    let files = crate::tls::tests::Authority::new().server_files(dir.path(), "server");
    let mut parts = parts();
    parts.sources[0].certificate_file = Some(files.certificate_file);
    let report = report_of(&parts);
    assert_eq!(report.sources[0].certificate_expires.as_deref(), Some("2090-01-01T00:00:00Z"));
    parts.sources[0].certificate_file = Some("/nonexistent".into());
    let report = report_of(&parts);
    assert!(health::findings(&report)[0].message.contains("/nonexistent"));
}

#[test]
fn metrics_have_a_prefix_and_units() {
    let mut report = report();
    report.buffer.lost_events.insert("max-age".to_owned(), 7);
    let text = metrics::render(&report);
    for line in [
        "forebay_build_info{version=\"1.2.3\",agent=\"gw-0042\"} 1",
        "forebay_source_events_total{source=\"line1\"} 52",
        "forebay_source_bytes_total{source=\"line1\"} 5200",
        "forebay_sink_events_total{sink=\"files\"} 42",
        "forebay_sink_pending_events{sink=\"files\",stream=\"line1\",partition=\"0\"} 10",
        "forebay_sink_oldest_pending_age_seconds{sink=\"files\",stream=\"line1\",partition=\"0\"} 1.5",
        "forebay_sink_condition{sink=\"files\",stream=\"line1\",partition=\"0\",condition=\"running\"} 1",
        "forebay_sink_condition{sink=\"files\",stream=\"line1\",partition=\"0\",condition=\"stopped\"} 0",
        "forebay_buffer_max_bytes 1073741824",
        "forebay_lost_events{reason=\"max-age\"} 7",
        "forebay_process_written_bytes_total 12345",
        "forebay_process_resident_memory_bytes 9437184",
        "forebay_clock_synchronised 1",
        "# EOF",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    assert!(text.lines().all(|line| line.starts_with("# ") || line.starts_with("forebay_")), "{text}");
}
