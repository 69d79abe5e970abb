//! The buffer file: whole, and with room.

use std::sync::Arc;

use forebay_buffer::{Inspector, OpenError, Recovery, Status};

use super::{finding, ok};
use crate::{
    agent::{AgentError, socket::Request},
    command::{
        remote,
        setting::{Setting, buffer_exists},
        units,
    },
    config::Config,
    contract::{Finding, Severity},
};

/// A buffer that is this full is worth a warning, in percent.
const NEARLY_FULL_PERCENT: u64 = 80;

/// Looks at the buffer, whether an agent runs or not.
pub(super) fn check(setting: &Setting, config: &Config) -> Vec<Finding> {
    let subject = format!("buffer {}", config.buffer.path.display());
    if !config.buffer.path.exists() {
        let mut findings = vec![match buffer_exists(config) {
            // A dangling link, or a directory that may not be searched.
            Err(failure) if config.agent.data_dir.exists() && config.buffer.path.is_symlink() => {
                finding(Severity::Error, subject, failure.to_string(), "mend the link")
            }
            _ => ok(subject, "will be made"),
        }];
        findings.extend(super::files::listeners(config));
        return findings;
    }
    let mut inspector = match Inspector::open(&config.buffer.path, Arc::clone(&setting.clock)) {
        Ok(inspector) => inspector,
        Err(error) => return vec![unopened(subject, error)],
    };
    let (agent, runs) = agent(config);
    let mut findings = vec![agent];
    if !runs {
        findings.extend(super::files::listeners(config));
    }
    match inspector.check() {
        Ok(problems) if problems.is_empty() => findings.push(ok(&subject, "every checksum is right")),
        Ok(problems) => findings.extend(problems.into_iter().map(|problem| {
            let remedy = "restart the agent: it salvages what can be read, and keeps the damaged file";
            finding(Severity::Error, &subject, problem, remedy)
        })),
        Err(error) => findings.push(finding(Severity::Error, &subject, error.to_string(), "")),
    }
    match inspector.status() {
        Ok(status) => findings.extend(contents(&subject, &status, config)),
        Err(error) => findings.push(finding(Severity::Error, &subject, error.to_string(), "")),
    }
    findings
}

/// Whether an agent runs, or may.
fn agent(config: &Config) -> (Finding, bool) {
    match remote::ask(config, &Request::Status) {
        Ok(Some(_)) => (ok("agent", "running"), true),
        Ok(None) => (ok("agent", "not running"), false),
        Err(failure) => (finding(Severity::Warning, "agent", failure.to_string(), ""), true),
    }
}

fn unopened(subject: String, error: OpenError) -> Finding {
    finding(Severity::Error, subject, AgentError::from(error).message, "")
}

fn contents(subject: &str, status: &Status, config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    let max_bytes = config.buffer.max_bytes;
    let percent = status.used_bytes.saturating_mul(100) / max_bytes.max(1);
    let level = format!("{} of {} used", units::bytes(status.used_bytes), units::bytes(max_bytes));
    findings.push(match &status.full {
        Some(why) => finding(Severity::Error, subject, why, "see to the sinks, or allow more in [buffer]"),
        None if percent >= NEARLY_FULL_PERCENT => {
            finding(Severity::Warning, subject, level, "see whether a sink is stuck: `forebay status`")
        }
        None => ok(subject, level),
    });
    if let Some(Recovery::Salvaged(report)) = &status.recovery {
        let message = format!(
            "was damaged ({}) and salvaged: {} events lost; the damaged file is {}",
            report.reason,
            units::count(report.events_lost),
            report.set_aside.display()
        );
        findings.push(finding(
            Severity::Warning,
            subject,
            message,
            "look at the disk; then `forebay buffer check --acknowledge`",
        ));
    }
    if status.dead_letters > 0 {
        let message = format!("{} dead letters", units::count(status.dead_letters));
        findings.push(finding(Severity::Warning, subject, message, "`forebay dead-letter list` says why"));
    }
    findings
}
