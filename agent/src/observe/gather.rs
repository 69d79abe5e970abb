//! Puts a [`Report`] together from what the buffer says and what the running parts say.

use std::{collections::BTreeMap, path::Path, time::Instant};

use forebay_buffer::{
    Numbering, Offset, PartitionStatus, Recovery, SinkPartitionStatus, SinkStatus, Status, StreamStatus, Timestamp,
    clock::Reading,
};

use super::{
    status::{
        AgentReport, BufferReport, ConditionReport, Counters, LaneReport, PartitionReport, Report, SalvageReport,
        SinkReport, SourceReport, State,
    },
    view::Parts,
    vitals::Vitals,
};
use crate::{
    progress::{Condition, Progress, Since},
    tls,
};

/// What runs. The default: nothing does.
#[derive(Default)]
pub(super) struct Running<'a> {
    pub(super) agent: Option<AgentReport>,
    pub(super) parts: Option<&'a Parts>,
    pub(super) vitals: Option<&'a Vitals>,
}

/// The report, without findings.
pub(super) fn report(status: &Status, now: Reading, running: &Running<'_>) -> Report {
    let instant = Instant::now();
    Report {
        time: rfc3339(now.wall),
        clock_synchronised: now.synchronised,
        agent: running.agent.clone(),
        buffer: buffer(status, running, instant),
        sources: sources(status, now, running),
        sinks: sinks(status, running, instant),
        findings: Vec::new(),
    }
}

fn buffer(status: &Status, running: &Running<'_>, now: Instant) -> BufferReport {
    let salvage = match &status.recovery {
        Some(Recovery::Salvaged(report)) => Some(SalvageReport {
            reason: report.reason.clone(),
            set_aside: report.set_aside.display().to_string(),
            events_kept: report.events_kept,
            events_lost: report.events_lost,
        }),
        _ => None,
    };
    BufferReport {
        generation: status.generation.to_string(),
        epoch: status.epoch,
        file_bytes: status.file_bytes,
        used_bytes: status.used_bytes,
        max_bytes: status.max_bytes,
        free_disk_bytes: status.free_disk_bytes,
        full: status.full.clone(),
        full_for_seconds: running.vitals.and_then(|vitals| vitals.full(now)).map(|full| full.as_secs()),
        dead_letters: status.dead_letters,
        lost_events: status.lost_events.clone(),
        salvage,
    }
}

/// Every configured source, and every stream that has none.
fn sources(status: &Status, now: Reading, running: &Running<'_>) -> Vec<SourceReport> {
    let mut streams: BTreeMap<&str, &StreamStatus> =
        status.streams.iter().map(|stream| (stream.name.as_str(), stream)).collect();
    let mut reports = Vec::new();
    for source in running.parts.iter().flat_map(|parts| &parts.sources) {
        let mut report = stream(&source.name, streams.remove(source.name.as_str()));
        report.kind = Some(source.kind.to_owned());
        report.condition = source.progress.lanes().into_values().max_by_key(weight).map(|since| condition(&since));
        report.counters = Some(counters(&source.progress));
        report.lag_events = source.progress.all_lags();
        if let Some(file) = &source.certificate_file {
            add_certificate(&mut report, file, now.wall);
        }
        reports.push(report);
    }
    reports.extend(streams.into_iter().map(|(name, status)| stream(name, Some(status))));
    reports
}

fn stream(name: &str, status: Option<&StreamStatus>) -> SourceReport {
    SourceReport {
        name: name.to_owned(),
        kind: None,
        condition: None,
        counters: None,
        certificate_expires: None,
        certificate_expires_in_seconds: None,
        certificate_error: None,
        buffered_events: status.map_or(0, |status| status.events),
        buffered_bytes: status.map_or(0, |status| status.bytes),
        max_bytes: status.map_or(0, |status| status.limits.max_bytes),
        full: status.is_some_and(|status| status.full),
        partitions: status.map(|status| current(&status.partitions).map(partition).collect()).unwrap_or_default(),
        lag_events: BTreeMap::new(),
    }
}

fn add_certificate(report: &mut SourceReport, file: &Path, now: Timestamp) {
    match tls::validity(file) {
        Ok(validity) => {
            report.certificate_expires = Some(rfc3339(validity.not_after));
            report.certificate_expires_in_seconds = Some((validity.not_after.0 - now.0) / 1_000_000);
        }
        Err(error) => report.certificate_error = Some(error),
    }
}

/// The partitions, without those of a hub that was created anew once nothing is left of them.
fn current(all: &[PartitionStatus]) -> impl Iterator<Item = &PartitionStatus> {
    all.iter().filter(|one| {
        one.events > 0 || !all.iter().any(|other| other.name == one.name && is_later(other.numbering, one.numbering))
    })
}

/// The same of a sink's places.
fn current_places(all: &[SinkPartitionStatus]) -> impl Iterator<Item = &SinkPartitionStatus> {
    all.iter().filter(|one| {
        let same = |other: &SinkPartitionStatus| (&other.stream, &other.partition) == (&one.stream, &one.partition);
        one.pending_events > 0 || !all.iter().any(|other| same(other) && is_later(other.numbering, one.numbering))
    })
}

fn is_later(one: Numbering, other: Numbering) -> bool {
    match (one, other) {
        (Numbering::Shared { created: one }, Numbering::Shared { created: other }) => one > other,
        _ => false,
    }
}

fn partition(status: &PartitionStatus) -> PartitionReport {
    PartitionReport {
        name: status.name.clone(),
        for_sink: status.for_sink.clone(),
        high_water: status.numbering.display(status.high_water).to_string(),
        events: status.events,
        bytes: status.bytes,
        oldest_age_seconds: status.oldest_age.map(|age| age.as_secs_f64()),
    }
}

/// Every configured sink, and every one that the buffer keeps events for nevertheless.
fn sinks(status: &Status, running: &Running<'_>, now: Instant) -> Vec<SinkReport> {
    let mut known: BTreeMap<&str, &SinkStatus> = status.sinks.iter().map(|sink| (sink.name.as_str(), sink)).collect();
    let mut reports = Vec::new();
    for sink in running.parts.iter().flat_map(|parts| &parts.sinks) {
        let mut conditions = sink.progress.lanes();
        let mut report = bare_sink(&sink.name, known.remove(sink.name.as_str()), &mut conditions, running, now);
        report.kind = Some(sink.kind.to_owned());
        report.condition = conditions.into_values().max_by_key(weight).map(|since| condition(&since));
        report.counters = Some(counters(&sink.progress));
        reports.push(report);
    }
    reports
        .extend(known.into_iter().map(|(name, sink)| bare_sink(name, Some(sink), &mut BTreeMap::new(), running, now)));
    reports
}

/// A sink as the buffer knows it, with its lanes' conditions, which are taken out of `conditions`.
fn bare_sink(
    name: &str,
    status: Option<&SinkStatus>,
    conditions: &mut BTreeMap<String, Since>,
    running: &Running<'_>,
    now: Instant,
) -> SinkReport {
    let mut lane = |place: &SinkPartitionStatus| {
        let still = running.vitals.and_then(|vitals| vitals.still(name, &place.stream, &place.partition, now));
        let confirmed = place.checkpoint.filter(|checkpoint| checkpoint.offset > Offset::BEFORE_ALL);
        LaneReport {
            stream: place.stream.clone(),
            partition: place.partition.clone(),
            condition: conditions.remove(&format!("{}/{}", place.stream, place.partition)).map(|c| condition(&c)),
            confirmed: confirmed.map(|checkpoint| place.numbering.display(checkpoint.offset).to_string()),
            pending_events: place.pending_events,
            oldest_age_seconds: place.oldest_age.map(|age| age.as_secs_f64()),
            no_progress_seconds: still.map(|still| still.as_secs()),
        }
    };
    let lanes: Vec<_> =
        status.map(|status| current_places(&status.partitions).map(&mut lane).collect()).unwrap_or_default();
    SinkReport {
        name: name.to_owned(),
        kind: None,
        inputs: status.map(|status| status.streams.clone()).unwrap_or_default(),
        condition: None,
        counters: None,
        pending_events: status.map_or(0, |status| status.pending_events),
        oldest_age_seconds: lanes.iter().filter_map(|lane| lane.oldest_age_seconds).reduce(f64::max),
        dead_letters: status.map_or(0, |status| status.dead_letters),
        lost_events: status.map_or(0, |status| status.lost_events),
        lanes,
    }
}

fn counters(progress: &Progress) -> Counters {
    use std::sync::atomic::Ordering::Relaxed;
    Counters {
        events: progress.events.load(Relaxed),
        bytes: progress.bytes.load(Relaxed),
        errors: progress.errors.load(Relaxed),
        refused: progress.refused.load(Relaxed),
        dropped: progress.dropped.load(Relaxed),
        duplicates: progress.duplicates.load(Relaxed),
    }
}

fn condition(since: &Since) -> ConditionReport {
    let (state, reason) = match &since.condition {
        Condition::Starting => (State::Starting, None),
        Condition::Running => (State::Running, None),
        Condition::Waiting(why) => (State::Waiting, Some(why)),
        Condition::HeldBack(why) => (State::HeldBack, Some(why)),
        Condition::Stopped(why) => (State::Stopped, Some(why)),
        Condition::Finished => (State::Finished, None),
    };
    ConditionReport { state, reason: reason.cloned(), for_seconds: since.since.elapsed().as_secs() }
}

/// Where a source has several conditions at once, the one that matters most is shown.
fn weight(since: &Since) -> u8 {
    match since.condition {
        Condition::Finished => 0,
        Condition::Running => 1,
        Condition::Starting => 2,
        Condition::Waiting(_) => 3,
        Condition::HeldBack(_) => 4,
        Condition::Stopped(_) => 5,
    }
}

fn rfc3339(time: Timestamp) -> String {
    jiff::Timestamp::from_microsecond(time.0).map_or_else(|_| "out of range".to_owned(), |time| time.to_string())
}
