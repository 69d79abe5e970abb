//! One opening of the buffer, and everything that works on it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

#[cfg(feature = "eventhub")]
use forebay_buffer::Numbering;
use forebay_buffer::{Buffer, Error, clock::Clock};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::Instant,
};

use super::{
    AgentError, Load, Order,
    changes::Changes,
    control, observers, opening,
    sink_unit::{self, SinkUnit},
    socket::{Answer, Asked, Request, Socket},
    source_unit::{self, SourceUnit},
    systemd::{Systemd, VitalSigns},
    unit::{Unit, stop_all},
};
#[cfg(feature = "eventhub")]
use crate::config::SourceKind;
use crate::{
    config::Config,
    contract::Control,
    fence::Fences,
    observe::{Parts, SinkView, SourceView, View},
    progress::{Condition, Progress},
};

/// Requests of commands that wait for the agent.
const ASKED_QUEUE: usize = 8;
/// What is kept of the time to shut down for closing the buffer.
const CLOSING_SHARE: u32 = 4;
/// How long a source or sink may take to stop at a reload.
const RELOAD_PATIENCE: Duration = Duration::from_secs(10);

/// A running agent, as long as one opening of its buffer lasts.
pub(super) struct Plant {
    pub(super) config: Config,
    pub(super) buffer: Buffer,
    pub(super) clock: Arc<dyn Clock>,
    fences: Fences,
    control: Option<Arc<dyn Control>>,
    sources: BTreeMap<String, Unit>,
    sinks: BTreeMap<String, Unit>,
    observers: Option<Unit>,
    pub(super) view: Arc<View>,
    socket: JoinHandle<()>,
    asked: mpsc::Receiver<Asked>,
    troubles: (mpsc::Sender<Error>, mpsc::Receiver<Error>),
}

/// Why a plant is taken down.
pub(super) enum Next {
    /// The agent ends.
    Stop,
    /// Another config needs another opening.
    Rebuild(Box<Config>),
    /// The buffer failed.
    Reopen(Error),
    /// The buffer is to get a new generation, which needs an opening in which nothing was delivered.
    Adopt(oneshot::Sender<Answer>),
}

impl Plant {
    /// Opens the buffer and starts everything. Whoever asked for an adoption hears how it went.
    pub(super) async fn start(
        config: Config,
        clock: &Arc<dyn Clock>,
        agent_started: std::time::Instant,
        adopt: Option<oneshot::Sender<Answer>>,
    ) -> Result<Self, AgentError> {
        let opened = {
            let (config, clock, adopt) = (config.clone(), Arc::clone(clock), adopt.is_some());
            tokio::task::spawn_blocking(move || opening::open(&config, &clock, adopt)).await
        };
        let opened = opened.unwrap_or_else(|error| Err(AgentError::failed(error.to_string())));
        if let Some(reply) = adopt {
            let answer = match &opened {
                Ok(buffer) => Answer::Done { message: format!("adopted as generation {}", buffer.generation()) },
                Err(error) => Answer::failed(error.kind.code(), &error.message),
            };
            let _ = reply.send(answer);
        }
        let buffer = opened?;
        let socket = match Socket::bind(&config.agent.runtime_dir, &config.agent.data_dir) {
            Ok(socket) => socket,
            Err(message) => {
                close(buffer, RELOAD_PATIENCE).await;
                return Err(AgentError::config(message));
            }
        };
        let (ask, asked) = mpsc::channel(ASKED_QUEUE);
        let view = View::new(&config.agent.id, agent_started, buffer.clone(), Arc::clone(clock));
        let mut plant = Self {
            control: control::build(&config.control, clock),
            config,
            buffer,
            clock: Arc::clone(clock),
            fences: Fences::default(),
            sources: BTreeMap::new(),
            sinks: BTreeMap::new(),
            observers: None,
            view: Arc::new(view),
            socket: tokio::spawn(socket.serve(ask)),
            asked,
            troubles: mpsc::channel(1),
        };
        plant.start_missing();
        Ok(plant)
    }

    /// Works until something asks for another opening, or for the end.
    pub(super) async fn operate(
        &mut self,
        orders: &mut mpsc::Receiver<Order>,
        load: &Load,
        systemd: &mut Systemd,
    ) -> Next {
        let mut beat = tokio::time::interval(systemd.interval());
        loop {
            tokio::select! {
                order = orders.recv() => match order {
                    None | Some(Order::Stop) => return Next::Stop,
                    Some(Order::Reload) => {
                        systemd.reloading();
                        if let Some(next) = systemd.keep_alive_during(self.reload(load)).await {
                            return next;
                        }
                        systemd.ready();
                    }
                },
                Some(error) = self.troubles.1.recv() => return Next::Reopen(error),
                Some((request, reply)) = self.asked.recv() => match request {
                    Request::Adopt => return Next::Adopt(reply),
                    request => self.serve(request, reply),
                },
                _ = beat.tick() => systemd.beat(&self.vital_signs()),
            }
        }
    }

    /// Takes everything down in the order of the data's way, within the config's shutdown timeout, and gives the
    /// config back. What is cut off at the deadline is no worse off than after a crash.
    pub(super) async fn stop(mut self) -> Config {
        let timeout = self.config.agent.shutdown_timeout;
        let deadline = Instant::now() + timeout - timeout / CLOSING_SHARE;
        let middle = Instant::now() + timeout / 2;
        stop_all(std::mem::take(&mut self.sources).into_values(), middle).await;
        stop_all(std::mem::take(&mut self.sinks).into_values(), deadline).await;
        stop_all(self.observers.take(), deadline).await;
        self.socket.abort();
        let _ = self.socket.await;
        close(self.buffer, timeout / CLOSING_SHARE).await;
        self.config
    }

    /// Reads the config again, and restarts what it changes.
    async fn reload(&mut self, load: &Load) -> Option<Next> {
        let load = Arc::clone(load);
        let loaded = tokio::task::spawn_blocking(move || load()).await;
        let new = match loaded.unwrap_or_else(|error| Err(error.to_string())) {
            Ok(new) => new,
            Err(error) => {
                log::error!("the config is not reloaded, and the old one goes on:\n{error}");
                return None;
            }
        };
        if new.agent.log != self.config.agent.log {
            log::warn!("config reloaded: agent.log changes with the next start");
        }
        let mut changes = Changes::between(&self.config, &new);
        // What an operator had to mend may be mended.
        changes.sources.extend(stopped(&self.sources, &changes.sources));
        changes.sinks.extend(stopped(&self.sinks, &changes.sinks));
        if changes.is_empty() {
            log::info!("config reloaded: nothing changed");
            return None;
        }
        if changes.rebuild {
            log::info!("config reloaded: everything is restarted");
            return Some(Next::Rebuild(Box::new(new)));
        }
        let deadline = Instant::now() + RELOAD_PATIENCE;
        stop_all(taken(&mut self.sources, &changes.sources), deadline).await;
        stop_all(taken(&mut self.sinks, &changes.sinks), deadline).await;
        let (buffer, candidate) = (self.buffer.clone(), new.clone());
        let prepared = tokio::task::spawn_blocking(move || opening::prepare(&buffer, &candidate)).await;
        match prepared.unwrap_or_else(|error| Err(AgentError::failed(error.to_string()))) {
            Ok(()) => {
                log::info!("config reloaded: restarting {}", changes.list());
                if new.control != self.config.control {
                    self.control = control::build(&new.control, &self.clock);
                }
                self.config = new;
            }
            Err(error) => {
                log::error!("the new config does not work, and the old one goes on: {error}");
                self.redeclare().await;
            }
        }
        if changes.observe {
            stop_all(self.observers.take(), deadline).await;
        }
        self.start_missing();
        None
    }

    /// Undoes what a config that did not work may have declared.
    async fn redeclare(&self) {
        let (buffer, config) = (self.buffer.clone(), self.config.clone());
        let declared = tokio::task::spawn_blocking(move || opening::prepare(&buffer, &config)).await;
        if let Err(error) = declared.unwrap_or_else(|error| Err(AgentError::failed(error.to_string()))) {
            log::error!("cannot go back to the old config: {error}");
        }
    }

    /// Starts all of the config that does not run. Sinks first: so nothing waits for them.
    fn start_missing(&mut self) {
        #[cfg(feature = "eventhub")]
        self.set_fences();
        for (name, config) in &self.config.sinks {
            self.sinks.entry(name.clone()).or_insert_with(|| {
                let progress = Progress::new(format!("sink {name}"));
                let unit = SinkUnit {
                    name: name.clone(),
                    agent_id: self.config.agent.id.clone(),
                    rows: self.config.control.clone(),
                    config: config.clone(),
                    renamed_from: renamed_streams(&self.config),
                    hubs: self.config.hubs(),
                    control: control::table_of(&self.config, name, self.control.as_ref()),
                    buffer: self.buffer.clone(),
                    clock: Arc::clone(&self.clock),
                    progress: Arc::clone(&progress),
                    fences: self.fences.clone(),
                    troubles: self.troubles.0.clone(),
                };
                Unit::start(progress, |shutdown| unit.run(shutdown))
            });
        }
        for (name, config) in &self.config.sources {
            self.sources.entry(name.clone()).or_insert_with(|| {
                let progress = Progress::new(format!("source {name}"));
                let unit = SourceUnit {
                    #[cfg(any(feature = "eventhub", feature = "mqtt"))]
                    agent_id: self.config.agent.id.clone(),
                    #[cfg(feature = "eventhub")]
                    checkpoints: control::checkpoints_of(&self.config, name, self.control.as_ref()),
                    name: name.clone(),
                    config: config.clone(),
                    buffer: self.buffer.clone(),
                    clock: Arc::clone(&self.clock),
                    progress: Arc::clone(&progress),
                    fences: self.fences.clone(),
                    troubles: self.troubles.0.clone(),
                };
                Unit::start(progress, |shutdown| unit.run(shutdown))
            });
        }
        self.view.set_parts(self.parts());
        self.observers.get_or_insert_with(|| {
            let progress = Progress::new("observe");
            let (address, view, reporting) = (self.config.observe, Arc::clone(&self.view), Arc::clone(&progress));
            Unit::start(progress, |shutdown| observers::run(address, view, reporting, shutdown))
        });
    }

    /// What is shared with other agents is nobody's before it is claimed: no sink begins with it. All else is ours.
    #[cfg(feature = "eventhub")]
    fn set_fences(&self) {
        let hubs = self.config.sources.iter().filter_map(|(name, source)| match &source.kind {
            SourceKind::EventHub(settings) if !self.sources.contains_key(name) => Some((name, settings.is_shared())),
            _ => None,
        });
        for (name, is_shared) in hubs {
            // A stream that cannot be asked for has nothing that could be delivered.
            for partition in self.buffer.partitions(name).unwrap_or_default() {
                match partition.numbering() {
                    Numbering::Shared { .. } if is_shared => self.fences.shut(name, partition.name()),
                    _ => self.fences.open(name, partition.name()),
                }
            }
        }
    }

    /// What runs, for those who look at it.
    fn parts(&self) -> Parts {
        let sources = self.config.sources.iter().filter_map(|(name, config)| {
            let progress = Arc::clone(&self.sources.get(name)?.progress);
            let (kind, certificate_file) = source_unit::kind(&config.kind);
            Some(SourceView { name: name.clone(), kind, progress, certificate_file })
        });
        let sinks = self.config.sinks.iter().filter_map(|(name, config)| {
            let progress = Arc::clone(&self.sinks.get(name)?.progress);
            Some(SinkView { name: name.clone(), kind: sink_unit::kind(&config.kind), progress })
        });
        let remarks = control::remarks(&self.config.control);
        Parts { sources: sources.collect(), sinks: sinks.collect(), remarks }
    }

    fn vital_signs(&self) -> VitalSigns {
        let units = self.sources.values().chain(self.sinks.values());
        let longest = units.map(|unit| (unit.progress.subject(), unit.progress.longest_work()));
        let longest = longest.max_by_key(|(_, work)| *work);
        VitalSigns {
            longest_work: longest.map(|(subject, work)| (subject.to_owned(), work)),
            writer: self.buffer.heartbeat(),
            status: self.status_line(),
        }
    }

    /// The state in one line, for `systemctl status`.
    fn status_line(&self) -> String {
        let mut troubled = Vec::new();
        for unit in self.sources.values().chain(self.sinks.values()) {
            let lanes = unit.progress.lanes();
            if let Some(lane) = lanes.values().find(|lane| is_trouble(&lane.condition)) {
                troubled.push(format!("{} is {}", unit.progress.subject(), lane.condition));
            }
        }
        let units = format!("{} sources, {} sinks", self.sources.len(), self.sinks.len());
        if troubled.is_empty() { format!("{units}, all well") } else { format!("{units}; {}", troubled.join("; ")) }
    }
}

/// Whether an operator may want to know.
fn is_trouble(condition: &Condition) -> bool {
    matches!(condition, Condition::Waiting(_) | Condition::HeldBack(_) | Condition::Stopped(_))
}

/// Closes the buffer, and waits no longer than `patience`: it is as safe as after a crash.
async fn close(buffer: Buffer, patience: Duration) {
    let closing = tokio::task::spawn_blocking(move || buffer.close());
    match tokio::time::timeout(patience, closing).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => log::error!("cannot close the buffer: {error}"),
        Err(_) => log::warn!("closing the buffer takes too long, and is left: nothing on disk is lost by that"),
    }
}

/// What each renamed stream was called before.
fn renamed_streams(config: &Config) -> BTreeMap<String, String> {
    let renamed = config.sources.iter().filter_map(|(name, source)| Some((name.clone(), source.renamed_from.clone()?)));
    renamed.collect()
}

/// The names of the units that have stopped for good, without `named`.
fn stopped(units: &BTreeMap<String, Unit>, named: &[String]) -> Vec<String> {
    let is_stopped = |unit: &Unit| unit.progress.lanes().values().any(|l| matches!(l.condition, Condition::Stopped(_)));
    let stopped = units.iter().filter(|(name, unit)| !named.contains(name) && is_stopped(unit));
    stopped.map(|(name, _)| name.clone()).collect()
}

fn taken(units: &mut BTreeMap<String, Unit>, names: &[String]) -> Vec<Unit> {
    names.iter().filter_map(|name| units.remove(name)).collect()
}
