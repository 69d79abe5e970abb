//! What needs looking at, and what to do about it.

use std::time::Duration;

use super::status::{
    BufferReport, ConditionReport, Finding, Health, LaneReport, Report, Severity, SinkReport, SourceReport, State,
};

/// A lane that has something to deliver and confirms nothing of it for so long is stalled.
const STALLED_AFTER: Duration = Duration::from_secs(5 * 60);
/// A certificate is shown this long before it expires.
const EXPIRY_WARNING: Duration = Duration::from_secs(21 * 24 * 3600);

/// The loss ledger's reasons for what a command discarded.
const DISCARDED: [&str; 2] = ["discarded", "dead letter discarded"];

/// All findings, the worst first.
pub(super) fn findings(report: &Report) -> Vec<Finding> {
    let mut findings = Vec::new();
    of_buffer(&report.buffer, &mut findings);
    of_fullness(report, &mut findings);
    for source in &report.sources {
        of_source(source, &mut findings);
    }
    for sink in &report.sinks {
        of_sink(sink, &mut findings);
    }
    if report.agent.is_some() && !report.clock_synchronised {
        findings.push(
            Finding::new(Severity::Warning, "clock", "the kernel does not call the clock synchronised")
                .remedy("start an NTP client; event times are put right once it has the time"),
        );
    }
    findings.sort_by_key(|finding| finding.severity);
    findings
}

/// Whether events can come in: the buffer answers, and every source is past its start.
pub(super) fn readiness(report: &Report) -> Health {
    let unready = report.sources.iter().filter_map(|source| {
        let state = source.condition.as_ref().map_or(State::Starting, |condition| condition.state);
        let message = match (&source.kind, state) {
            (Some(_), State::Starting) => "has not started yet",
            (Some(_), State::Stopped) => "is stopped",
            (Some(_), State::Waiting) => "takes nothing in yet",
            _ => return None,
        };
        let subject = format!("source {}", source.name);
        Some(Finding::new(Severity::Error, subject, message).remedy("look at the log"))
    });
    Health::new(unready.collect())
}

fn of_buffer(buffer: &BufferReport, findings: &mut Vec<Finding>) {
    if let Some(salvage) = &buffer.salvage {
        let message = format!(
            "the buffer was damaged ({}): {} events were saved and {} lost; the damaged file is {}",
            salvage.reason, salvage.events_kept, salvage.events_lost, salvage.set_aside
        );
        findings.push(
            Finding::new(Severity::Error, "buffer", message).remedy(
                "check the disk, keep or delete the damaged file, then run `forebay buffer check --acknowledge`",
            ),
        );
    }
    if buffer.dead_letters > 0 {
        let message = format!("{} events were refused and are dead letters", buffer.dead_letters);
        findings.push(
            Finding::new(Severity::Warning, "buffer", message)
                .remedy("run `forebay dead-letter list`, then retry or discard them"),
        );
    }
    // What an operator discarded with a command needs no telling.
    for (reason, events) in buffer.lost_events.iter().filter(|(reason, _)| !DISCARDED.contains(&reason.as_str())) {
        let message = format!("{events} events were dropped before delivery ({reason})");
        let remedy = if reason.starts_with("expired at the hub") {
            "raise the hub's retention, or see why they were not read in time"
        } else {
            "raise max_bytes or max_age, or see why the sinks were behind"
        };
        findings.push(Finding::new(Severity::Warning, "buffer", message).remedy(remedy));
    }
}

fn of_fullness(report: &Report, findings: &mut Vec<Finding>) {
    if let Some(why) = &report.buffer.full {
        let full = report.sources.iter().filter(|source| source.full).map(|source| source.name.as_str());
        let held_back = full.collect::<Vec<_>>().join(", ");
        let message = format!("{why}; the producers of {held_back} are held back");
        let mut finding = Finding::new(Severity::Error, "buffer", message)
            .remedy("see whether the sinks deliver, free disk space, or raise max_bytes");
        finding.for_seconds = report.buffer.full_for_seconds;
        findings.push(finding);
    }
}

fn of_source(source: &SourceReport, findings: &mut Vec<Finding>) {
    let subject = format!("source {}", source.name);
    if let Some(condition) = &source.condition {
        of_condition(&subject, condition, findings);
        of_waiting(&subject, condition, findings);
    }
    if let Some(error) = &source.certificate_error {
        findings.push(
            Finding::new(Severity::Error, &subject, error)
                .remedy("put the file right: it is read again without a restart"),
        );
    }
    if let (Some(seconds), Some(expires)) = (source.certificate_expires_in_seconds, &source.certificate_expires) {
        let remedy = "renew it: the file is read again without a restart";
        if seconds < 0 {
            let message = format!("its certificate expired on {expires}");
            findings.push(Finding::new(Severity::Error, &subject, message).remedy(remedy));
        } else if seconds < EXPIRY_WARNING.as_secs() as i64 {
            let message = format!("its certificate expires in {} days, on {expires}", seconds / (24 * 3600));
            findings.push(Finding::new(Severity::Warning, &subject, message).remedy(remedy));
        }
    }
}

fn of_sink(sink: &SinkReport, findings: &mut Vec<Finding>) {
    let subject = format!("sink {}", sink.name);
    if let Some(condition) = &sink.condition {
        of_condition(&subject, condition, findings);
    }
    for lane in &sink.lanes {
        of_lane(&format!("{subject} ({}/{})", lane.stream, lane.partition), lane, findings);
    }
}

fn of_lane(subject: &str, lane: &LaneReport, findings: &mut Vec<Finding>) {
    let state = lane.condition.as_ref().map(|condition| condition.state);
    if let Some(condition) = &lane.condition {
        of_condition(subject, condition, findings);
    }
    let still = lane.no_progress_seconds.unwrap_or(0);
    // A lane that is stopped has said so already.
    if still < STALLED_AFTER.as_secs() || state == Some(State::Stopped) {
        return;
    }
    let reason = lane.condition.as_ref().and_then(|condition| condition.reason.as_deref());
    let reason = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
    let message = format!("{} events are pending and none was confirmed{reason}", lane.pending_events);
    let mut finding = Finding::new(Severity::Error, subject, message)
        .remedy("see that the destination is up and reachable; nothing is lost meanwhile");
    finding.for_seconds = Some(still);
    findings.push(finding);
}

fn of_condition(subject: &str, condition: &ConditionReport, findings: &mut Vec<Finding>) {
    if condition.state == State::Stopped {
        let reason = condition.reason.as_deref().unwrap_or("no reason is given");
        let mut finding = Finding::new(Severity::Error, subject, format!("stopped: {reason}"))
            .remedy("do what the message says, then reload or restart the agent");
        finding.for_seconds = Some(condition.for_seconds);
        findings.push(finding);
    }
}

/// A source that waits takes nothing in. A sink that waits is offline, which is normal until it stalls.
fn of_waiting(subject: &str, condition: &ConditionReport, findings: &mut Vec<Finding>) {
    if condition.state == State::Waiting {
        let lasting = condition.for_seconds >= STALLED_AFTER.as_secs();
        let severity = if lasting { Severity::Error } else { Severity::Warning };
        let reason = condition.reason.as_deref().unwrap_or("no reason is given");
        let mut finding = Finding::new(severity, subject, format!("takes nothing in: {reason}"))
            .remedy("it tries again by itself; if it goes on, do what the message says");
        finding.for_seconds = Some(condition.for_seconds);
        findings.push(finding);
    }
}

impl Finding {
    pub(crate) fn new(severity: Severity, subject: impl Into<String>, message: impl Into<String>) -> Self {
        let (subject, message) = (subject.into(), message.into());
        Self { severity, subject, message, for_seconds: None, remedy: String::new() }
    }

    pub(crate) fn remedy(mut self, remedy: &str) -> Self {
        remedy.clone_into(&mut self.remedy);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::tests::report;

    fn only(report: &Report) -> Finding {
        let mut findings = findings(report);
        assert_eq!(findings.len(), 1, "{findings:#?}");
        findings.remove(0)
    }

    #[test]
    fn all_well_is_no_finding() {
        assert_eq!(findings(&report()), []);
    }

    #[test]
    fn a_stopped_lane_is_an_error_with_its_reason_and_no_second_one_for_standing_still() {
        let mut report = report();
        let lane = &mut report.sinks[0].lanes[0];
        let reason = Some("forked or restored".to_owned());
        lane.condition = Some(ConditionReport { state: State::Stopped, reason, for_seconds: 70 });
        lane.no_progress_seconds = Some(4000);
        let finding = only(&report);
        assert_eq!((finding.severity, finding.for_seconds), (Severity::Error, Some(70)));
        assert_eq!(finding.subject, "sink files (line1/0)");
        assert!(finding.message.contains("forked or restored") && !finding.remedy.is_empty(), "{finding:?}");
    }

    #[test]
    fn being_offline_is_an_error_only_after_five_minutes_with_something_to_deliver() {
        let mut report = report();
        let lane = &mut report.sinks[0].lanes[0];
        let reason = Some("connection refused".to_owned());
        lane.condition = Some(ConditionReport { state: State::Waiting, reason, for_seconds: 9000 });
        assert_eq!(findings(&report), [], "nothing is pending");
        report.sinks[0].lanes[0].no_progress_seconds = Some(299);
        assert_eq!(findings(&report), []);
        report.sinks[0].lanes[0].no_progress_seconds = Some(300);
        let finding = only(&report);
        assert!(finding.message.contains("connection refused"), "{finding:?}");
    }

    #[test]
    fn a_source_that_takes_nothing_in_is_an_error_if_it_lasts() {
        let mut report = report();
        let mut severity_after = |for_seconds| {
            let reason = Some("cannot listen".to_owned());
            report.sources[0].condition = Some(ConditionReport { state: State::Waiting, reason, for_seconds });
            assert!(!readiness(&report).healthy);
            only(&report).severity
        };
        assert_eq!((severity_after(299), severity_after(300)), (Severity::Warning, Severity::Error));
    }

    #[test]
    fn an_unsynchronised_clock_is_a_warning() {
        let mut report = report();
        report.clock_synchronised = false;
        assert_eq!(only(&report).severity, Severity::Warning);
        report.agent = None;
        assert_eq!(findings(&report), [], "without an agent nothing is stamped");
    }

    #[test]
    fn a_certificate_is_seen_to_expire_days_ahead() {
        let mut report = report();
        let mut severity_in_days = |days: i64| {
            report.sources[0].certificate_expires = Some("2026-12-01T00:00:00Z".to_owned());
            report.sources[0].certificate_expires_in_seconds = Some(days * 24 * 3600);
            let found = findings(&report);
            found.first().map(|finding| (finding.severity, finding.message.contains(&format!("{days} days"))))
        };
        assert_eq!(severity_in_days(22), None);
        assert_eq!(severity_in_days(20), Some((Severity::Warning, true)));
        assert_eq!(severity_in_days(-1), Some((Severity::Error, false)));
    }

    #[test]
    fn full_salvaged_dropped_and_refused_are_all_told_the_worst_first() {
        let mut report = report();
        report.buffer.dead_letters = 3;
        report.buffer.lost_events.insert("max-age".to_owned(), 7);
        report.buffer.lost_events.insert(DISCARDED[1].to_owned(), 8);
        report.buffer.full = Some("the disk has 10 MB left".to_owned());
        report.buffer.full_for_seconds = Some(12);
        report.buffer.salvage = Some(super::super::status::SalvageReport {
            reason: "malformed page".to_owned(),
            set_aside: "/var/lib/forebay/buffer.db.damaged".to_owned(),
            events_kept: 100,
            events_lost: 5,
        });
        report.sources[0].full = true;
        let severities: Vec<_> = findings(&report).iter().map(|finding| finding.severity).collect();
        assert_eq!(severities, [Severity::Error, Severity::Error, Severity::Warning, Severity::Warning]);
        assert!(findings(&report).iter().all(|finding| !finding.remedy.is_empty()));
    }

    #[test]
    fn a_source_that_has_not_started_is_not_ready() {
        let mut report = report();
        assert!(readiness(&report).healthy);
        report.sources[0].condition.as_mut().unwrap().state = State::Starting;
        assert!(!readiness(&report).healthy);
        report.sources[0].condition.as_mut().unwrap().state = State::HeldBack;
        assert!(readiness(&report).healthy, "being full is not being unready");
        report.sources[0].condition = None;
        assert!(!readiness(&report).healthy, "nothing was heard from it yet");
        report.sources[0].kind = None;
        assert!(readiness(&report).healthy, "a stream without a source has nothing to start");
    }
}
