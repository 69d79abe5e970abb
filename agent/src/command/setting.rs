//! What every command begins with: the config, and the clock.

use std::{path::PathBuf, sync::Arc};

use forebay_buffer::{Inspector, OpenError, clock::Clock};

use super::failure::{Failure, Outcome};
use crate::{
    agent::{AgentError, Kind},
    clock::{FileClock, SystemClock},
    config::{Config, Environment, Loaded},
};

/// Where a command runs.
pub(super) struct Setting {
    /// The config file.
    pub(super) path: PathBuf,
    /// What the process was started with.
    pub(super) environment: Environment,
    /// The only clock there is.
    pub(super) clock: Arc<dyn Clock>,
}

impl Setting {
    /// With the config at `path`.
    pub(super) fn new(path: PathBuf) -> Self {
        let environment = Environment::of_process();
        let clock: Arc<dyn Clock> = match environment.test_clock() {
            Some(file) => Arc::new(FileClock::new(file)),
            None => Arc::new(SystemClock::new()),
        };
        Self { path, environment, clock }
    }

    /// Reads the config.
    pub(super) fn load(&self) -> Outcome<Loaded> {
        Config::load(&self.path, &self.environment).map_err(Failure::usage)
    }

    /// The config, for commands that have nothing to say of its warnings.
    pub(super) fn config(&self) -> Outcome<Config> {
        self.load().map(|loaded| loaded.config)
    }

    /// A look into the buffer of `config`, whether an agent runs or not.
    pub(super) fn inspect(&self, config: &Config) -> Outcome<Inspector> {
        buffer_exists(config)?;
        Ok(Inspector::open(&config.buffer.path, Arc::clone(&self.clock))?)
    }
}

/// Refuses to make a new buffer for a command that is about what is in one.
pub(super) fn buffer_exists(config: &Config) -> Outcome {
    let path = &config.buffer.path;
    match path.symlink_metadata() {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(Failure::failed(format_args!(
            "there is no buffer at {}: no agent has run with this config yet (is agent.data_dir right?)",
            path.display()
        ))),
        Err(error) => Err(AgentError::io(format_args!("cannot look at the buffer {}", path.display()), &error).into()),
    }
}

impl From<AgentError> for Failure {
    fn from(error: AgentError) -> Self {
        match error.kind {
            Kind::Failed => Self::failed(error.message),
            Kind::Config => Self::usage(error.message),
            Kind::Temporary => Self::temporary(error.message),
        }
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        AgentError::from(error).into()
    }
}

/// Errors of reading the buffer.
impl From<forebay_buffer::Error> for Failure {
    fn from(error: forebay_buffer::Error) -> Self {
        Self::failed(match &error {
            forebay_buffer::Error::Damaged(_) => {
                format!("{error}; run `forebay buffer check`, and restart the agent or run `forebay buffer salvage`")
            }
            _ => error.to_string(),
        })
    }
}
