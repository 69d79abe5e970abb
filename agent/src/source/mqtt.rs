//! Messages from an MQTT broker.
//!
//! A message of QoS 1 or 2 is acknowledged when its event is on disk (Promise 1), in the order of arrival, and only on
//! the connection that it came on: packet identifiers are used again, and the broker sends again what it was not told
//! of. Which messages of QoS 2 are stored and not yet released is on disk in the same transaction as their events, so
//! that each is stored once whatever is cut and whoever is killed ([`held`]).
//!
//! While the buffer is full nothing is acknowledged: our Receive Maximum (MQTT 5) or the broker's own window (3.1.1)
//! holds it back, and the connection lives. What cannot be taken of QoS 0 is dropped and counted (Promise 6).

mod acknowledge;
mod gather;
mod held;
mod losses;
mod partitions;
mod serve;
mod shape;
mod status;

use std::{sync::Arc, time::Duration};

use forebay_buffer::clock::Clock;
use tokio::time::{Instant, sleep};

pub use self::shape::{Dedupe, Identifier, Key, Shape};
use self::{gather::Gather, serve::Service};
use crate::{
    client::mqtt::{Address, Broker, Connection, Error, Options, Qos, Version},
    contract::{BoxFuture, Intake, IntakeError, Shutdown, Source, SourceError},
    progress::{Condition, Progress},
    retry::Backoff,
    secret::{Reread, Secret, SecretSource},
    tls::client::{Client, ClientSettings, Verify},
};

/// The longest pause after a broker has refused: it will, until somebody changes something.
const REFUSED_PAUSE: Duration = Duration::from_secs(30);

/// A connection that lasted so long was a good one.
const RAN_WELL: Duration = Duration::from_secs(10);
/// After so many others in a row the next one must last before it is said to run: else each would be two lines in the
/// log (Promise 7).
const UNSTEADY: u32 = 3;
/// So many in a row may mean that two clients take the session from each other for ever.
const CONTESTED: u32 = 20;
/// The longest pause then.
const CONTESTED_PAUSE: Duration = Duration::from_secs(5);

/// What the config says of an MQTT source.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The broker.
    pub address: Address,
    /// How it is trusted, where the address is encrypted.
    pub tls: ClientSettings,
    /// The protocol's version.
    pub version: Version,
    /// What to subscribe to. At least one.
    pub topics: Vec<String>,
    /// The highest QoS of what is sent.
    pub qos: Qos,
    /// What the broker knows the session by. Without it: the agent's id and the source's name.
    pub client_id: Option<String>,
    /// Who it is.
    pub user: Option<String>,
    /// And its proof. Not without a user.
    pub password: Option<SecretSource>,
    /// The longest silence.
    pub keep_alive: Duration,
    /// How long the broker keeps the session. Zero: not at all.
    pub session_expiry: Duration,
    /// Messages that may be sent before one is acknowledged (MQTT 5).
    pub receive_maximum: u16,
    /// The largest packet that becomes an event.
    pub max_packet_bytes: usize,
    /// Above so many bytes that are not on disk nothing is read.
    pub max_unacknowledged_bytes: usize,
    /// How a message becomes an event.
    pub shape: Shape,
    /// Where it is said whether the agent is there.
    pub status_topic: Option<String>,
    /// How long a connection may take until the broker has answered.
    pub connect_timeout: Duration,
}

impl Settings {
    /// What the broker knows the session of the source `name` of the agent `agent` by.
    pub fn client_id(&self, agent: &str, name: &str) -> String {
        self.client_id.clone().unwrap_or_else(|| format!("{agent}-{name}"))
    }
}

/// The source. See the module.
pub struct Mqtt {
    settings: Settings,
    agent: String,
    name: String,
    clock: Arc<dyn Clock>,
    progress: Arc<Progress>,
    /// Between attempts to connect.
    backoff: Backoff,
    /// See [`RAN_WELL`].
    ran_well: Duration,
}

/// How a connection ended.
enum End {
    /// It was told to stop.
    Shutdown,
    /// The broker or the network.
    Lost(Error),
    /// The buffer.
    Intake(IntakeError),
}

impl From<Error> for End {
    fn from(error: Error) -> Self {
        Self::Lost(error)
    }
}

impl From<IntakeError> for End {
    fn from(error: IntakeError) -> Self {
        Self::Intake(error)
    }
}

impl Mqtt {
    /// The source `name` of the agent `agent`, which connects when it is run.
    pub fn new(
        settings: Settings,
        agent: impl Into<String>,
        name: impl Into<String>,
        clock: Arc<dyn Clock>,
        progress: Arc<Progress>,
    ) -> Self {
        let (agent, name) = (agent.into(), name.into());
        Self { settings, agent, name, clock, progress, backoff: Backoff::default(), ran_well: RAN_WELL }
    }

    async fn run(&mut self, intake: Intake, mut shutdown: Shutdown) -> Result<(), SourceError> {
        let password = self.settings.password.as_ref().map(SecretSource::watch).transpose();
        let password = password.map_err(SourceError::Retry)?;
        let broker = self.broker().map_err(SourceError::Retry)?;
        let client_id = self.settings.client_id(&self.agent, &self.name);
        let session = held::session(broker.address(), &client_id);
        let stored = intake.partitions().await.map_err(not_taken)?;
        let gather = Gather::load(stored, session, &self.settings.shape).map_err(SourceError::Stop)?;
        let status = status::Status::new(&self.settings, &self.agent, &self.name);
        let mut service =
            Service::new(&self.settings, status, gather, intake, Arc::clone(&self.clock), Arc::clone(&self.progress));

        let mut quick = self.backoff.clone();
        let mut slow = Backoff::new(Duration::from_secs(1), REFUSED_PAUSE);
        let mut contested = Backoff::new(Duration::from_secs(1), CONTESTED_PAUSE);
        let mut short_lived = 0;
        loop {
            let begun = Instant::now();
            let end = match self.connect(&broker, &client_id, password.as_ref(), &mut service, &mut shutdown).await {
                Ok(connection) => service.serve(connection, &mut shutdown).await,
                Err(end) => end,
            };
            let pause = match end {
                End::Shutdown => return service.settle(None).await.map_err(not_taken),
                End::Intake(error) => return Err(not_taken(error)),
                End::Lost(error) => {
                    self.progress.errors.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    let has_run = service.has_run();
                    if has_run && begun.elapsed() > self.ran_well {
                        quick.reset();
                        slow.reset();
                        short_lived = 0;
                    } else {
                        short_lived += u32::from(has_run);
                    }
                    service.set_probation(if short_lived < UNSTEADY { Duration::ZERO } else { self.ran_well });
                    let is_contested = short_lived >= CONTESTED;
                    let hint = match error {
                        Error::Closed if is_contested => "; does another client have the same client_id?",
                        _ => "",
                    };
                    self.progress.enter("", Condition::Waiting(format!("{error}{hint}")));
                    match error {
                        Error::Refused(_) => slow.next(),
                        Error::Lost(_) | Error::Closed if is_contested => contested.next(),
                        Error::Lost(_) | Error::Closed => quick.next(),
                    }
                }
            };
            if let Err(End::Intake(error)) = service.meanwhile(sleep(pause), &mut shutdown).await {
                return Err(not_taken(error));
            }
        }
    }

    fn broker(&self) -> Result<Broker, String> {
        let settings = &self.settings;
        let tls = settings.address.encrypted.then(|| Client::new(&settings.tls, Verify::Full, Arc::clone(&self.clock)));
        Broker::new(settings.address.clone(), tls.transpose()?)
    }

    async fn connect(
        &self,
        broker: &Broker,
        client_id: &str,
        password: Option<&Reread<Secret>>,
        service: &mut Service<'_>,
        shutdown: &mut Shutdown,
    ) -> Result<Connection, End> {
        let settings = &self.settings;
        let options = Options {
            version: settings.version,
            client_id: client_id.to_owned(),
            session_expiry: settings.session_expiry,
            receive_maximum: settings.receive_maximum,
            max_packet_bytes: settings.max_packet_bytes,
            keep_alive: settings.keep_alive,
            user: settings.user.clone(),
            password: password.map(|password| Secret::clone(&password.get())),
            will: service.will(),
            timeout: settings.connect_timeout,
        };
        let dialled = service.meanwhile(Connection::dial(broker, &options), shutdown).await??;
        service.asks();
        Ok(service.meanwhile(dialled.be_welcomed(), shutdown).await??)
    }
}

impl Source for Mqtt {
    fn run<'a>(&'a mut self, intake: Intake, shutdown: Shutdown) -> BoxFuture<'a, Result<(), SourceError>> {
        Box::pin(self.run(intake, shutdown))
    }
}

fn not_taken(error: IntakeError) -> SourceError {
    match error {
        IntakeError::TooLarge(why) => {
            SourceError::Stop(format!("a message will never fit into the buffer: {why}; raise its max_bytes"))
        }
        error => SourceError::Retry(format!("handing over messages: {error}")),
    }
}

#[cfg(test)]
mod tests;
