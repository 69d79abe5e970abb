//! The way to a namespace: TCP, through a proxy where there is one, then TLS, then WebSocket where that is asked for.

use std::sync::Arc;

use forebay_buffer::clock::Clock;
use rustls::pki_types::ServerName;
use tokio::{sync::OnceCell, task::spawn_blocking};
use tokio_rustls::TlsConnector;

use super::{Endpoint, Error, Settings, Transport, error::Class, proxy, stream::Bytes, websocket};
use crate::{
    client::tcp::Dialer,
    tls::client::{self, Client, Verify},
};

/// Connects to one namespace, again and again.
pub(super) struct Way {
    settings: Arc<Settings>,
    clock: Arc<dyn Clock>,
    endpoint: Endpoint,
    dialer: Dialer,
    /// Made when it is first needed, and kept: it reads its files again by itself when they change.
    tls: OnceCell<Client>,
}

impl Way {
    pub(super) fn new(settings: Arc<Settings>, endpoint: Endpoint, clock: Arc<dyn Clock>) -> Self {
        let dialer = match &settings.proxy {
            Some(proxy) => Dialer::new(&proxy.host, proxy.port),
            None => Dialer::new(&endpoint.host, endpoint.port(settings.transport)),
        };
        Self { settings, clock, endpoint, dialer, tls: OnceCell::new() }
    }

    /// Where it leads.
    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// A new connection, over which AMQP can be spoken. It takes as long as the network does.
    pub(super) async fn open(&self) -> Result<Box<dyn Bytes>, Error> {
        let mut stream: Box<dyn Bytes> = Box::new(self.dialer.dial().await.map_err(Error::lost)?);
        let Endpoint { host, encrypted, .. } = &self.endpoint;
        let port = self.endpoint.port(self.settings.transport);
        if let Some(proxy) = &self.settings.proxy {
            stream = proxy::connect(stream, proxy, host, port).await?;
        }
        if *encrypted {
            stream = self.encrypted(stream).await?;
        }
        match self.settings.transport {
            Transport::Tcp => Ok(stream),
            Transport::WebSocket => Ok(Box::new(websocket::connect(stream, host, port).await?)),
        }
    }

    async fn encrypted(&self, stream: Box<dyn Bytes>) -> Result<Box<dyn Bytes>, Error> {
        let host = &self.endpoint.host;
        let name = ServerName::try_from(host.clone());
        let name =
            name.map_err(|_| Error::new(Class::Refused, format!("{host} is no name that a certificate bears")))?;
        let connector = TlsConnector::from(self.tls().await?.config());
        let connected = connector.connect(name, stream).await;
        Ok(Box::new(connected.map_err(|error| Error::lost(client::explain(&error)))?))
    }

    /// The system's trust store takes long to read on a small machine, so a thread does it on which nothing else waits,
    /// and once.
    async fn tls(&self) -> Result<&Client, Error> {
        let make = || async {
            let (files, clock) = (self.settings.tls.clone(), Arc::clone(&self.clock));
            let made = spawn_blocking(move || Client::new(&files, Verify::Full, clock)).await;
            let made = made.map_err(|_| Error::lost("the agent is shutting down"))?;
            // Its files may not be there yet.
            made.map_err(|problem| Error::new(Class::Unauthorized, problem))
        };
        self.tls.get_or_try_init(make).await
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::net::TcpListener;

    use super::{
        super::{Credential, Namespace, TOKEN_LIFE},
        *,
    };
    use crate::{
        clock::SystemClock,
        secret::{Secret, SecretSource},
        tls::{client::ClientSettings, tests::Authority},
    };

    #[tokio::test]
    async fn a_file_that_is_not_there_yet_is_waited_for() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (dir, endpoint) = (
            tempfile::tempdir().unwrap(),
            Endpoint { host: "127.0.0.1".to_owned(), port: Some(port), encrypted: true },
        );
        let ca_file = dir.path().join("ca.pem");
        let credential = Credential::SharedSignature(SecretSource::Inline(Secret::new("unused")));
        let settings = Settings {
            namespace: Namespace::Given { endpoint: endpoint.clone(), credential },
            hub: "hub".to_owned(),
            transport: Transport::Tcp,
            tls: ClientSettings { ca_file: Some(ca_file.clone()), ..ClientSettings::default() },
            proxy: None,
            timeout: Duration::from_secs(5),
            token_life: TOKEN_LIFE,
            idle_timeout: Duration::from_secs(5),
        };
        let way = Way::new(Arc::new(settings), endpoint, Arc::new(SystemClock::new()));
        let attempt = async || {
            let (_, opened) = tokio::join!(async { drop(listener.accept().await) }, way.open());
            opened.err().map(|error| error.class)
        };
        assert_eq!(attempt().await, Some(Class::Unauthorized));
        std::fs::write(&ca_file, Authority::new().pem).unwrap();
        // The handshake is what fails now.
        assert_eq!(attempt().await, Some(Class::Lost));
    }
}
