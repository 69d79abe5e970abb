//! `forebay check`: what is wrong, or soon will be, and what to do about it.

mod buffer;
mod connect;
mod control;
mod files;
mod machine;

use serde_json::json;

use super::{
    arguments,
    failure::{Failure, Outcome},
    output,
    setting::Setting,
};
use crate::{
    config::Loaded,
    contract::{Finding, Severity},
};

/// Looks at everything, prints all findings, and fails if one is an error.
pub(super) fn run(setting: &Setting, options: &arguments::Check) -> Outcome {
    let Loaded { config, warnings } = setting.load()?;
    let mut findings: Vec<Finding> = warnings.iter().map(Finding::from).collect();
    if findings.is_empty() {
        findings.push(ok(format!("config {}", setting.path.display()), "well"));
    }
    findings.extend(files::check(&config, &setting.clock));
    findings.extend(buffer::check(setting, &config));
    findings.extend(machine::check(setting, &config));
    findings.push(control::place(&config, &setting.clock));
    if options.connect {
        findings.extend(connect::check(setting, &config)?);
    }
    output::print(&if options.json { as_json(&findings) } else { as_text(&findings) })?;
    match findings.iter().filter(|finding| finding.severity == Severity::Error).count() {
        0 => Ok(()),
        errors => Err(Failure::failed(format_args!("{errors} of {} checks failed", findings.len()))),
    }
}

fn ok(subject: impl Into<String>, message: impl Into<String>) -> Finding {
    finding(Severity::Ok, subject, message, "")
}

fn finding(
    severity: Severity,
    subject: impl Into<String>,
    message: impl Into<String>,
    remedy: impl Into<String>,
) -> Finding {
    Finding { severity, subject: subject.into(), message: message.into(), remedy: remedy.into() }
}

fn word(severity: Severity) -> &'static str {
    match severity {
        Severity::Ok => "ok",
        Severity::Warning => "warning",
        Severity::Error => "error",
    }
}

fn as_json(findings: &[Finding]) -> String {
    let findings: Vec<_> = findings
        .iter()
        .map(|finding| {
            json!({
                "severity": word(finding.severity),
                "subject": finding.subject,
                "message": finding.message,
                "remedy": finding.remedy,
            })
        })
        .collect();
    format!("{:#}\n", json!({ "findings": findings }))
}

fn as_text(findings: &[Finding]) -> String {
    const INDENT: &str = "         ";
    let mut text = String::new();
    for finding in findings {
        let head = format!("{:<9}{}: {}", word(finding.severity), finding.subject, finding.message);
        text += &output::wrap(&head, INDENT);
        if !finding.remedy.is_empty() {
            text += &output::wrap(&format!("{INDENT}-> {}", finding.remedy), INDENT);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_finding_stands_with_its_remedy_in_80_columns() {
        let findings = [
            ok("clock", "well"),
            finding(Severity::Error, "disk", "full ".repeat(30).trim_end(), "make room ".repeat(20).trim_end()),
        ];
        let text = as_text(&findings);
        assert!(text.lines().all(|line| line.len() <= output::WIDTH), "{text}");
        assert!(text.starts_with("ok       clock: well\nerror    disk: full"), "{text}");
        assert!(text.contains("\n         -> make room"), "{text}");
    }
}
