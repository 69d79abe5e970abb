//! The report as metrics, in the OpenMetrics text format that Prometheus reads.

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeGaugeValue, EncodeMetric, text::encode},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::{Registry, Unit},
};

use super::status::{ConditionReport, Counters, Report, SourceReport, State};

pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The text that `/metrics` answers with.
pub(super) fn render(report: &Report) -> String {
    let mut registry = Registry::with_prefix("forebay");
    registry.register_collector(Box::new(Snapshot(report.clone())));
    let mut text = String::new();
    encode(&mut text, &registry).expect("a string takes any text");
    text
}

#[derive(Debug)]
struct Snapshot(Report);

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut out = Output(&mut encoder);
        agent(&self.0, &mut out)?;
        buffer(&self.0, &mut out)?;
        counters(&self.0, &mut out)?;
        streams(&self.0, &mut out)?;
        lanes(&self.0, &mut out)?;
        conditions(&self.0, &mut out)
    }
}

fn agent(report: &Report, out: &mut Output<'_, '_>) -> fmt::Result {
    let agent = report.agent.iter();
    let info = agent.clone().map(|agent| (vec![("version", &*agent.version), ("agent", &*agent.id)], 1));
    out.gauges("build_info", "The version that runs", None, info)?;
    out.gauges(
        "uptime",
        "Time since the agent started",
        Some(Unit::Seconds),
        agent.clone().map(|agent| (vec![], agent.uptime_seconds as i64)),
    )?;
    out.gauges(
        "process_resident_memory",
        "Resident memory",
        Some(Unit::Bytes),
        agent.clone().filter_map(|agent| Some((vec![], agent.resident_bytes? as i64))),
    )?;
    out.counters(
        "process_written",
        "What the process caused to be written to storage",
        Some(Unit::Bytes),
        agent.filter_map(|agent| Some((vec![], agent.written_bytes?))),
    )?;
    let synchronised = i64::from(report.clock_synchronised);
    out.gauge("clock_synchronised", "Whether the kernel calls the clock synchronised", None, synchronised)
}

fn buffer(report: &Report, out: &mut Output<'_, '_>) -> fmt::Result {
    let buffer = &report.buffer;
    let bytes = || Some(Unit::Bytes);
    out.gauge("buffer_file", "Database, write-ahead log and reserve on disk", bytes(), buffer.file_bytes as i64)?;
    out.gauge("buffer_used", "What of the buffer file is in use", bytes(), buffer.used_bytes as i64)?;
    out.gauge("buffer_max", "What the buffer file may grow to", bytes(), buffer.max_bytes as i64)?;
    let full = i64::from(buffer.full.is_some());
    out.gauge("buffer_full", "Whether the buffer holds producers back", None, full)?;
    let salvaged = i64::from(buffer.salvage.is_some());
    out.gauge("buffer_salvaged", "Whether a salvage has not been taken note of", None, salvaged)?;
    if let Some(free) = buffer.free_disk_bytes {
        out.gauge("disk_free", "What the buffer's filesystem has left", bytes(), free as i64)?;
    }
    out.gauge("dead_letters", "Dead letters kept", None, buffer.dead_letters as i64)?;
    let lost = buffer.lost_events.iter().map(|(reason, events)| (vec![("reason", &**reason)], *events as i64));
    out.gauges("lost_events", "Events in the loss ledger, by reason", None, lost)
}

/// A counter's name, its help, its unit, and where its value is.
type CounterOf = (&'static str, &'static str, Option<Unit>, fn(&Counters) -> u64);

fn counters(report: &Report, out: &mut Output<'_, '_>) -> fmt::Result {
    let of_sources: [CounterOf; 6] = [
        ("source_events", "Events taken in durably", None, |counters| counters.events),
        ("source", "Bytes of events taken in durably", Some(Unit::Bytes), |counters| counters.bytes),
        ("source_errors", "Errors met, and requests refused", None, |counters| counters.errors),
        ("source_refused_events", "Events that became dead letters at intake", None, |counters| counters.refused),
        ("source_dropped_events", "Events that a policy dropped at intake", None, |counters| counters.dropped),
        ("source_duplicates", "Events left out, for they had come before", None, |counters| counters.duplicates),
    ];
    for (name, help, unit, value) in of_sources {
        let rows = report.sources.iter();
        let rows = rows.filter_map(|source| Some((vec![("source", &*source.name)], value(source.counters.as_ref()?))));
        out.counters(name, help, unit, rows)?;
    }
    let of_sinks: [CounterOf; 4] = [
        ("sink_events", "Events confirmed by the destination", None, |counters| counters.events),
        ("sink", "Bytes of events confirmed by the destination", Some(Unit::Bytes), |counters| counters.bytes),
        ("sink_errors", "Errors met and waited out", None, |counters| counters.errors),
        ("sink_refused_events", "Events that the destination refused", None, |counters| counters.refused),
    ];
    for (name, help, unit, value) in of_sinks {
        let rows = report.sinks.iter();
        let rows = rows.filter_map(|sink| Some((vec![("sink", &*sink.name)], value(sink.counters.as_ref()?))));
        out.counters(name, help, unit, rows)?;
    }
    Ok(())
}

fn streams(report: &Report, out: &mut Output<'_, '_>) -> fmt::Result {
    let mut each = |name, help, unit, value: fn(&SourceReport) -> i64| {
        out.gauges(name, help, unit, report.sources.iter().map(|s| (vec![("stream", &*s.name)], value(s))))
    };
    each("stream_buffered_events", "Events in the buffer", None, |stream| stream.buffered_events as i64)?;
    each("stream_buffered", "Their bytes on disk", Some(Unit::Bytes), |stream| stream.buffered_bytes as i64)?;
    each("stream_max", "What they may be", Some(Unit::Bytes), |stream| stream.max_bytes as i64)?;
    each("stream_full", "Whether producers are held back", None, |stream| i64::from(stream.full))?;
    let ages = report.sources.iter().flat_map(|source| {
        source.partitions.iter().filter_map(|partition| {
            let labels = vec![("stream", &*source.name), ("partition", &*partition.name)];
            Some((labels, partition.oldest_age_seconds?))
        })
    });
    out.gauges("stream_oldest_event_age", "The age of the oldest buffered event", Some(Unit::Seconds), ages)?;
    let lags = report.sources.iter().flat_map(|source| {
        let lags = source.lag_events.iter();
        lags.map(|(partition, events)| (vec![("source", &*source.name), ("partition", &**partition)], *events as i64))
    });
    out.gauges("source_lag_events", "Events that are upstream and not here yet", None, lags)?;
    let expiry = report
        .sources
        .iter()
        .filter_map(|source| Some((vec![("source", &*source.name)], source.certificate_expires_in_seconds?)));
    out.gauges("certificate_expires_in", "How long the TLS certificate is still valid", Some(Unit::Seconds), expiry)
}

fn lanes(report: &Report, out: &mut Output<'_, '_>) -> fmt::Result {
    let lanes = || {
        report.sinks.iter().flat_map(|sink| {
            sink.lanes.iter().map(|lane| {
                let labels = vec![("sink", &*sink.name), ("stream", &*lane.stream), ("partition", &*lane.partition)];
                (labels, lane)
            })
        })
    };
    let pending = lanes().map(|(labels, lane)| (labels, lane.pending_events as i64));
    out.gauges("sink_pending_events", "Events that the sink has still to get", None, pending)?;
    let ages = lanes().map(|(labels, lane)| (labels, lane.oldest_age_seconds.unwrap_or(0.0)));
    out.gauges("sink_oldest_pending_age", "The age of the oldest of them", Some(Unit::Seconds), ages)?;
    let still = lanes().map(|(labels, lane)| (labels, lane.no_progress_seconds.unwrap_or(0) as i64));
    let help = "How long nothing was confirmed while something was pending";
    out.gauges("sink_no_progress", help, Some(Unit::Seconds), still)?;
    let sinks = || report.sinks.iter().map(|sink| (vec![("sink", &*sink.name)], sink));
    let dead = sinks().map(|(labels, sink)| (labels, sink.dead_letters as i64));
    out.gauges("sink_dead_letters", "Dead letters that the sink refused", None, dead)?;
    let lost = sinks().map(|(labels, sink)| (labels, sink.lost_events as i64));
    out.gauges("sink_lost_events", "Events that a policy dropped before the sink had them", None, lost)
}

fn conditions(report: &Report, out: &mut Output<'_, '_>) -> fmt::Result {
    let of_sources =
        report.sources.iter().filter_map(|source| Some((vec![("source", &*source.name)], source.condition.as_ref()?)));
    out.states("source_condition", "1 for the condition that the source is in", of_sources)?;
    let of_lanes = report.sinks.iter().flat_map(|sink| {
        sink.lanes.iter().filter_map(|lane| {
            let labels = vec![("sink", &*sink.name), ("stream", &*lane.stream), ("partition", &*lane.partition)];
            Some((labels, lane.condition.as_ref()?))
        })
    });
    out.states("sink_condition", "1 for the condition that the lane is in", of_lanes)
}

type Labels<'a> = Vec<(&'static str, &'a str)>;

struct Output<'a, 'e>(&'a mut DescriptorEncoder<'e>);

impl Output<'_, '_> {
    fn gauge(&mut self, name: &str, help: &str, unit: Option<Unit>, value: i64) -> fmt::Result {
        self.gauges(name, help, unit, [(vec![], value)])
    }

    /// A gauge for each row; without labels there is but one.
    fn gauges<'a, N: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<Unit>,
        rows: impl IntoIterator<Item = (Labels<'a>, N)>,
    ) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, unit.as_ref(), MetricType::Gauge)?;
        for (labels, value) in rows {
            let value = ConstGauge::new(value);
            if labels.is_empty() {
                return value.encode(metric);
            }
            value.encode(metric.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn counters<'a>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<Unit>,
        rows: impl IntoIterator<Item = (Labels<'a>, u64)>,
    ) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, unit.as_ref(), MetricType::Counter)?;
        for (labels, value) in rows {
            let value = ConstCounter::new(value);
            if labels.is_empty() {
                return value.encode(metric);
            }
            value.encode(metric.encode_family(&labels)?)?;
        }
        Ok(())
    }

    /// One gauge for each condition there is: 1 for the one that holds.
    fn states<'a>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl IntoIterator<Item = (Labels<'a>, &'a ConditionReport)>,
    ) -> fmt::Result {
        let rows = rows.into_iter().flat_map(|(labels, condition)| {
            State::ALL.map(|state| {
                let labels = labels.iter().copied().chain([("condition", state.name())]).collect();
                (labels, i64::from(state == condition.state))
            })
        });
        self.gauges(name, help, None, rows)
    }
}
