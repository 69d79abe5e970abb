//! A source that runs against a broker by script and an intake that can be held back.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, task::JoinHandle};

use super::{
    super::{Mqtt, Settings, Shape},
    broker::Broker,
};
use crate::{
    client::mqtt::{Address, Qos, Version},
    contract::{Shutdown, SourceError},
    progress::{Condition, Progress},
    retry::Backoff,
    source::testing::{Behaviour, FakeIntake, clock},
    tls::client::ClientSettings,
};

pub(super) const BOTH: [Version; 2] = [Version::V3, Version::V5];

/// Everything but the connection. What the intake holds survives the source, as the buffer does.
pub(super) struct Rig {
    pub(super) broker: Broker,
    pub(super) intake: FakeIntake,
    pub(super) settings: Settings,
    pub(super) progress: Arc<Progress>,
}

/// A source that runs.
pub(super) struct Running {
    stop: watch::Sender<bool>,
    task: JoinHandle<Result<(), SourceError>>,
}

impl Rig {
    pub(super) async fn new(version: Version) -> Self {
        let broker = Broker::start(version).await;
        let settings = Settings {
            address: Address { host: "127.0.0.1".to_owned(), port: broker.port(), encrypted: false },
            tls: ClientSettings::default(),
            version,
            topics: vec!["plant/#".to_owned()],
            qos: Qos::ExactlyOnce,
            client_id: None,
            user: None,
            password: None,
            keep_alive: Duration::from_secs(60),
            session_expiry: Duration::from_secs(3_600),
            receive_maximum: 100,
            max_packet_bytes: 200_000,
            max_unacknowledged_bytes: 1 << 20,
            shape: Shape::default(),
            status_topic: None,
            connect_timeout: Duration::from_secs(20),
        };
        let progress = Progress::new("source line1");
        Self { broker, intake: FakeIntake::start(Behaviour::Accept), settings, progress }
    }

    pub(super) fn start(&self) -> Running {
        let (stop, shutdown) = Shutdown::new();
        let intake = self.intake.intake();
        let mut source = Mqtt::new(self.settings.clone(), "gw", "line1", clock(), Arc::clone(&self.progress));
        // The tests have no time for longer pauses.
        source.backoff = Backoff::new(Duration::from_millis(1), Duration::from_millis(5));
        source.ran_well = Duration::from_secs(1);
        let task = tokio::spawn(async move { source.run(intake, shutdown).await });
        Running { stop, task }
    }

    pub(super) fn condition(&self) -> Option<Condition> {
        self.progress.lanes().get("").map(|since| since.condition.clone())
    }

    /// Waits until the source is waiting, and says for what.
    pub(super) async fn waits_for(&self) -> String {
        for _ in 0..2_000 {
            if let Some(Condition::Waiting(why)) = self.condition() {
                return why;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("it does not wait: {:?}", self.condition());
    }

    /// Waits until the source says that it runs.
    pub(super) async fn runs(&self) {
        for _ in 0..2_000 {
            if self.condition() == Some(Condition::Running) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("it does not run: {:?}", self.condition());
    }

    /// Waits until the bodies on disk in partition 0 are these.
    pub(super) async fn has_stored(&self, bodies: &[&str]) {
        self.intake.wait_for(|seen| seen.lines("0").len() >= bodies.len()).await;
        assert_eq!(self.intake.acknowledged("0"), bodies);
    }
}

impl Running {
    /// Stops it as the agent does, and returns what it says.
    pub(super) async fn stop(self) -> Result<(), SourceError> {
        self.stop.send_replace(true);
        self.ends().await
    }

    /// Tells it to stop.
    pub(super) fn tell_to_stop(&self) {
        self.stop.send_replace(true);
    }

    /// Waits until it has ended by itself.
    pub(super) async fn ends(self) -> Result<(), SourceError> {
        let ended = tokio::time::timeout(Duration::from_secs(20), self.task).await;
        ended.expect("it ends").expect("it does not panic")
    }

    /// Ends it at once, wherever it is, and forgets what is not on disk.
    pub(super) async fn kill(self, intake: &FakeIntake) {
        self.task.abort();
        let _ = self.task.await;
        // What it handed over before it died is taken up first.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        intake.crash();
    }
}
