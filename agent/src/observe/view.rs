//! What is looked at: the buffer and the parts that run, which a reload may change.

use std::{
    future::Future,
    path::PathBuf,
    sync::{Arc, Mutex, RwLock},
    time::{Duration, Instant},
};

use forebay_buffer::{Buffer, clock::Clock};
use tokio::{
    task::{JoinHandle, spawn_blocking},
    time::{interval, timeout},
};

use super::{
    gather::{self, Running},
    health, process,
    status::{AgentReport, Finding, Health, Report, Severity},
    vitals::Vitals,
};
use crate::{contract::Shutdown, progress::Progress};

/// A report is good for this long: however many look, the buffer is asked no more often.
const FRESH: Duration = Duration::from_secs(1);
/// How long the buffer may take to tell its status.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often someone looks where nobody does, so that a lane which stands still is noticed.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// A piece of own work that takes longer than this does not end any more.
const STUCK_AFTER: Duration = Duration::from_secs(60);

/// The parts that run.
#[derive(Debug, Clone, Default)]
pub struct Parts {
    /// The sources.
    pub sources: Vec<SourceView>,
    /// The sinks.
    pub sinks: Vec<SinkView>,
    /// What the config has that an operator should be reminded of.
    pub remarks: Vec<Finding>,
}

/// A running source.
#[derive(Debug, Clone)]
pub struct SourceView {
    /// Its name, and its stream's.
    pub name: String,
    /// Its type, as in the config.
    pub kind: &'static str,
    /// How it is getting on.
    pub progress: Arc<Progress>,
    /// The TLS certificate that it shows.
    pub certificate_file: Option<PathBuf>,
}

/// A running sink.
#[derive(Debug, Clone)]
pub struct SinkView {
    /// Its name.
    pub name: String,
    /// Its type, as in the config.
    pub kind: &'static str,
    /// How it is getting on.
    pub progress: Arc<Progress>,
}

/// See the module.
pub struct View {
    agent: String,
    started: Instant,
    buffer: Buffer,
    clock: Arc<dyn Clock>,
    parts: RwLock<Arc<Parts>>,
    vitals: Mutex<Vitals>,
    latest: tokio::sync::Mutex<Latest>,
}

/// The last report, and the one that is being made.
#[derive(Default)]
struct Latest {
    report: Option<(Instant, Arc<Report>)>,
    looking: Option<JoinHandle<Result<Report, String>>>,
}

impl View {
    /// Of the agent `agent`, which runs since `started`.
    pub fn new(agent: impl Into<String>, started: Instant, buffer: Buffer, clock: Arc<dyn Clock>) -> Self {
        Self {
            agent: agent.into(),
            started,
            buffer,
            clock,
            parts: RwLock::default(),
            vitals: Mutex::default(),
            latest: tokio::sync::Mutex::default(),
        }
    }

    /// Says which parts run from now on.
    pub fn set_parts(&self, parts: Parts) {
        *self.parts.write().expect("no holder of this lock panics") = Arc::new(parts);
    }

    /// How everything is, a second ago at most. The error says why the buffer does not tell.
    pub async fn report(self: &Arc<Self>) -> Result<Arc<Report>, String> {
        let patience = PATIENCE.as_secs();
        timeout(PATIENCE, self.fresh_report()).await.unwrap_or_else(|_| {
            Err(format!("the buffer has not told its status for {patience} s: see whether the disk answers"))
        })
    }

    async fn fresh_report(self: &Arc<Self>) -> Result<Arc<Report>, String> {
        let mut latest = self.latest.lock().await;
        if let Some((_, report)) = latest.report.as_ref().filter(|(taken, _)| taken.elapsed() < FRESH) {
            return Ok(Arc::clone(report));
        }
        // A look that has not come to its end is waited for again, and no second one begun.
        let looking = latest.looking.get_or_insert_with(|| {
            let view = Arc::clone(self);
            spawn_blocking(move || view.look())
        });
        let looked = looking.await.expect("looking does not panic");
        latest.looking = None;
        let report = Arc::new(looked?);
        latest.report = Some((Instant::now(), Arc::clone(&report)));
        Ok(report)
    }

    /// Looks now and then until shutdown is requested. [`super::serve`] does that too.
    pub fn follow(self: &Arc<Self>, mut shutdown: Shutdown) -> impl Future<Output = ()> + Send + 'static {
        let view = Arc::clone(self);
        async move {
            let mut look = interval(LOOK_EVERY);
            loop {
                tokio::select! {
                    _ = look.tick() => drop(view.report().await),
                    () = shutdown.requested() => return,
                }
            }
        }
    }

    /// Whether our own loops go round. Waiting for a network or a full disk is not their work, and not held against
    /// them; nor is the buffer asked.
    pub fn alive(&self) -> Health {
        let parts = self.parts();
        let mut stuck = Vec::new();
        let progress = parts.sources.iter().map(|source| &source.progress);
        for progress in progress.chain(parts.sinks.iter().map(|sink| &sink.progress)) {
            add_stuck(&mut stuck, progress.subject(), progress.longest_work());
        }
        let writer = self.vitals().writer_stuck(self.buffer.heartbeat(), Instant::now());
        add_stuck(&mut stuck, "buffer", writer);
        Health::new(stuck)
    }

    fn look(&self) -> Result<Report, String> {
        let status = self.buffer.status().map_err(|error| format!("the buffer does not tell its status: {error}"))?;
        let mut vitals = self.vitals();
        vitals.look(&status, Instant::now());
        vitals.writer_stuck(self.buffer.heartbeat(), Instant::now());
        let agent = AgentReport {
            id: self.agent.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            process_id: std::process::id(),
            uptime_seconds: self.started.elapsed().as_secs(),
            resident_bytes: process::resident_bytes(),
            written_bytes: process::written_bytes(),
        };
        let parts = self.parts();
        let running = Running { agent: Some(agent), parts: Some(&parts), vitals: Some(&vitals) };
        let mut report = gather::report(&status, self.clock.now(), &running);
        report.findings = health::findings(&report);
        report.findings.extend_from_slice(&parts.remarks);
        Ok(report)
    }

    fn parts(&self) -> Arc<Parts> {
        Arc::clone(&self.parts.read().expect("no holder of this lock panics"))
    }

    fn vitals(&self) -> std::sync::MutexGuard<'_, Vitals> {
        self.vitals.lock().expect("no holder of this lock panics")
    }
}

fn add_stuck(stuck: &mut Vec<Finding>, subject: &str, work: Duration) {
    if work >= STUCK_AFTER {
        let mut finding = Finding::new(Severity::Error, subject, "a piece of work does not end")
            .remedy("restart the agent: what was acknowledged is on disk; then look whether the disk answers");
        finding.for_seconds = Some(work.as_secs());
        stuck.push(finding);
    }
}
