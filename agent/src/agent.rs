//! Builds the agent from its config, keeps it running, and takes it down in order.
//!
//! One opening of the buffer, with everything that works on it, is a [`Plant`]. The agent runs one after another: a new
//! one when the file was found damaged and must be salvaged, when it is adopted, or when a reload changes what only a
//! new opening can.

mod changes;
mod control;
mod error;
mod failures;
mod observers;
mod opening;
mod plant;
mod renames;
mod requests;
mod sink_unit;
pub mod socket;
mod source_unit;
mod systemd;
mod unit;

use std::{sync::Arc, time::Instant};

use forebay_buffer::clock::Clock;
use tokio::sync::mpsc;

pub(crate) use self::{control::build as build_control, sink_unit::build as build_sink};
pub use self::{
    error::{AgentError, Kind},
    opening::options,
    requests::perform,
};
use self::{
    failures::Failures,
    plant::{Next, Plant},
    systemd::Systemd,
};
use crate::config::Config;

/// What the agent is told from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Stop within the config's `agent.shutdown_timeout`.
    Stop,
    /// Read the config again, and restart what changed in it.
    Reload,
}

/// Reads the config again. The error is for the log.
pub type Load = Arc<dyn Fn() -> Result<Config, String> + Send + Sync>;

/// The agent, ready to run.
pub struct Agent {
    /// What to build.
    pub config: Config,
    /// How to read the config again.
    pub load: Load,
    /// The only clock there is.
    pub clock: Arc<dyn Clock>,
    /// What it is told. It stops when nobody can tell it anything any more.
    pub orders: mpsc::Receiver<Order>,
}

impl Agent {
    /// Runs until told to stop. It needs no network, no right time and no destination to start.
    pub async fn run(mut self) -> Result<(), AgentError> {
        let started = Instant::now();
        let mut systemd = Systemd::new();
        let mut failures = Failures::default();
        let mut previous = None;
        let mut adopt = None;
        log::info!("forebay {} starts as {}", env!("CARGO_PKG_VERSION"), self.config.agent.id);
        loop {
            let starting = Plant::start(self.config.clone(), &self.clock, started, adopt.take());
            let mut plant = match systemd.keep_alive_during(starting).await {
                Ok(plant) => plant,
                Err(error) => {
                    let Some(config) = previous.take() else { return Err(error) };
                    log::error!("the new config does not work, and the old one goes on: {error}");
                    self.config = config;
                    continue;
                }
            };
            previous = None;
            systemd.ready();
            let next = plant.operate(&mut self.orders, &self.load, &mut systemd).await;
            match &next {
                Next::Stop => systemd.stopping(),
                _ => systemd.reloading(),
            }
            self.config = systemd.keep_alive_during(plant.stop()).await;
            match next {
                Next::Stop => {
                    log::info!("stopped");
                    return Ok(());
                }
                Next::Adopt(reply) => adopt = Some(reply),
                Next::Rebuild(config) => previous = Some(std::mem::replace(&mut self.config, *config)),
                Next::Reopen(error) => {
                    let pause = failures.add(&error)?;
                    log::error!("the buffer failed, and is closed and opened again: {error}");
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }
}
