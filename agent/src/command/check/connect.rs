//! What destinations and hubs say, for `check --connect`.

use std::{sync::Arc, time::Duration};

use super::{finding, ok};
#[cfg(feature = "eventhub")]
use crate::config::SourceKind;
use crate::{
    agent::build_sink,
    command::{failure::Outcome, run::in_runtime, setting::Setting},
    config::Config,
    contract::{Finding, Severity},
    progress::Progress,
};

/// How long one destination may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Asks every sink, and every hub.
pub(super) fn check(setting: &Setting, config: &Config) -> Outcome<Vec<Finding>> {
    let (config, clock) = (config.clone(), Arc::clone(&setting.clock));
    in_runtime(async move {
        let mut findings = Vec::new();
        for (name, sink) in &config.sinks {
            let subject = format!("sink {name}");
            let progress = Progress::new(&subject);
            let sink = match build_sink(&sink.kind, &config.agent.id, &config.control, &clock, &progress) {
                Ok(sink) => sink,
                Err(error) => {
                    findings.push(finding(Severity::Error, subject, error.to_string(), ""));
                    continue;
                }
            };
            match tokio::time::timeout(PATIENCE, sink.check()).await {
                Ok(found) if found.is_empty() => findings.push(ok(subject, "well")),
                Ok(found) => {
                    let is_usable = found.iter().all(|finding| finding.severity != Severity::Error);
                    findings.extend(found);
                    if is_usable {
                        findings.extend(super::control::look_at_own(&config, name, &clock).await);
                    }
                }
                Err(_) => {
                    let message = format!("did not answer within {}", crate::command::units::duration(PATIENCE));
                    findings.push(finding(Severity::Error, subject, message, "look at the network"));
                }
            }
        }
        #[cfg(feature = "eventhub")]
        for (name, source) in &config.sources {
            if let SourceKind::EventHub(settings) = &source.kind {
                findings.extend(
                    crate::source::eventhub::check(settings, Arc::clone(&clock), &format!("source {name}")).await,
                );
            }
        }
        findings.extend(super::control::look(&config, &clock).await);
        Ok(findings)
    })
}
