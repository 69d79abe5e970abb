//! The bytes below: TCP, and TLS where the address says so.

use std::{pin::Pin, sync::Arc};

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

use super::{Address, Error};
use crate::{client::tcp::Dialer, tls::client};

/// A connection, encrypted or not.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send {}

impl<T: AsyncRead + AsyncWrite + Send> Stream for T {}

/// A broker, to be connected to again and again.
pub struct Broker {
    dialer: Dialer,
    address: Address,
    tls: Option<(client::Client, ServerName<'static>)>,
}

impl Broker {
    /// The broker at `address`. Where that is encrypted, `tls` must be given.
    pub fn new(address: Address, tls: Option<client::Client>) -> Result<Self, String> {
        let tls = match (address.encrypted, tls) {
            (false, _) => None,
            (true, None) => return Err(format!("{address} is encrypted, and nothing says how")),
            (true, Some(tls)) => {
                let name = ServerName::try_from(address.host.clone());
                Some((tls, name.map_err(|_| format!("{} is no name that a certificate can bear", address.host))?))
            }
        };
        Ok(Self { dialer: Dialer::new(address.host.clone(), address.port), address, tls })
    }

    /// Where it is.
    pub fn address(&self) -> &Address {
        &self.address
    }

    pub(super) async fn dial(&self) -> Result<Pin<Box<dyn Stream>>, Error> {
        let stream = self.dialer.dial().await.map_err(Error::Lost)?;
        let Some((tls, name)) = &self.tls else { return Ok(Box::pin(stream)) };
        let connector = TlsConnector::from(Arc::clone(&tls.config()));
        match connector.connect(name.clone(), stream).await {
            Ok(stream) => Ok(Box::pin(stream)),
            Err(error) => Err(Error::Lost(format!("connecting to {}: {}", self.address, client::explain(&error)))),
        }
    }
}
