//! The sources of an identity, in their order.

use std::{sync::Arc, time::Duration};

use forebay_buffer::clock::Clock;
use tokio::{task::spawn_blocking, time::timeout};
use ureq::Agent;

use super::{Error, Kind, Settings, Token, cli, entra, error::Failure, managed};
use crate::{client::https, tls::client::ClientSettings};

/// One source may take this long: Arc's takes two requests.
const PATIENCE: Duration = Duration::from_secs(70);

/// What all sources need.
pub(super) struct Sources {
    pub(super) settings: Settings,
    pub(super) clock: Arc<dyn Clock>,
    /// For Entra itself.
    pub(super) remote: Agent,
    /// For what is on this machine or beside it.
    pub(super) near: Agent,
}

#[derive(Debug, Clone, Copy)]
enum Source {
    ClientSecret,
    ClientCertificate,
    WorkloadIdentity,
    ManagedIdentity,
    AzureCli,
}

impl Kind {
    fn sources(self) -> &'static [Source] {
        use Source::*;
        match self {
            Self::Default => &[ClientSecret, ClientCertificate, WorkloadIdentity, ManagedIdentity],
            Self::Environment => &[ClientSecret, ClientCertificate],
            Self::WorkloadIdentity => &[WorkloadIdentity],
            Self::ManagedIdentity => &[ManagedIdentity],
            Self::AzureCli => &[AzureCli],
        }
    }
}

impl Source {
    fn name(self) -> &'static str {
        match self {
            Self::ClientSecret => "client secret",
            Self::ClientCertificate => "client certificate",
            Self::WorkloadIdentity => "workload identity",
            Self::ManagedIdentity => "managed identity",
            Self::AzureCli => "Azure CLI",
        }
    }
}

impl Sources {
    pub(super) fn new(settings: Settings, clock: Arc<dyn Clock>) -> Self {
        let tls = ClientSettings { ca_file: settings.ca_file.clone(), ..ClientSettings::default() };
        // Connections are not kept: requests are minutes apart.
        let remote = https::agent(tls, settings.proxy.clone(), Arc::clone(&clock), 0);
        let near = https::agent(ClientSettings::default(), None, Arc::clone(&clock), 0);
        Self { settings, clock, remote, near }
    }

    /// The token of the first source that is set up.
    pub(super) async fn find(self: &Arc<Self>, scope: &str) -> Result<Token, Error> {
        let mut failures = Vec::new();
        for source in self.settings.kind.sources() {
            let asking = timeout(PATIENCE, self.ask(*source, scope));
            let outcome = asking.await.unwrap_or_else(|_| Err(Failure::passing("no answer in time")));
            match outcome {
                Ok(token) => return Ok(token),
                Err(failure) => {
                    let is_absent = failure.is_absent;
                    failures.push((source.name(), failure));
                    if !is_absent {
                        break;
                    }
                }
            }
        }
        Err(Error::new(failures))
    }

    async fn ask(self: &Arc<Self>, source: Source, scope: &str) -> Result<Token, Failure> {
        let ask: fn(&Self, &str) -> Result<Token, Failure> = match source {
            Source::AzureCli => return cli::ask(self, scope).await,
            Source::ClientSecret => entra::by_secret,
            Source::ClientCertificate => entra::by_certificate,
            Source::WorkloadIdentity => entra::by_federated_token,
            Source::ManagedIdentity => managed::ask,
        };
        let (sources, scope) = (Arc::clone(self), scope.to_owned());
        let asked = spawn_blocking(move || ask(&sources, &scope)).await;
        asked.unwrap_or_else(|_| Err(Failure::passing("the agent is shutting down")))
    }

    /// What this machine's clock shows, in seconds since the Unix epoch.
    pub(super) fn seconds(&self) -> i64 {
        self.clock.now().wall.0 / 1_000_000
    }
}
