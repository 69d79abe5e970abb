//! HTTP for short requests, over `ureq`: it blocks, so it is for threads on which nothing else waits.
//!
//! `ureq` would judge certificates by the machine's clock and by its own roots. So its TLS is ours: [`crate::tls::client`].
//! It follows no redirect, for what it sends are secrets, and takes no proxy from the environment.

use std::{
    fmt,
    io::{Read, Write},
    sync::{Arc, OnceLock},
    time::Duration,
};

use forebay_buffer::clock::Clock;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rustls::{ClientConnection, StreamOwned, pki_types::ServerName};
use ureq::{
    Agent, Error, Proxy,
    config::Config,
    http::Uri,
    unversioned::{
        resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver},
        transport::{
            Buffers, ConnectProxyConnector, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout,
            TcpConnector, Transport, TransportAdapter,
        },
    },
};

use crate::tls::client::{Client, ClientSettings, Verify, explain};

/// One request may take this long, from the resolver to the last byte of the answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// So much is shown of what a server says.
const MAX_SHOWN: usize = 400;

/// No server is left alone for longer, whatever it asks for.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// The longest that a connection, TLS upon it included, may take to be made.
const CONNECT_PATIENCE: Duration = Duration::from_secs(15);
/// A connection that is not used for so long is closed. Those in between close them after a minute.
const KEPT_FOR: Duration = Duration::from_secs(45);
/// What a connection has to hold: at the least the head of an answer.
const INPUT_BYTES: usize = 64 << 10;
/// As much as one record of TLS takes.
const OUTPUT_BYTES: usize = 16 << 10;

/// What no encoding of a URL escapes (RFC 3986, section 2.3).
#[cfg(any(feature = "eventhub", feature = "snowpipe"))]
pub(super) const ESCAPED: &percent_encoding::AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What requests are made with. At most `kept` connections are kept, for the requests that follow.
pub(super) fn agent(tls: ClientSettings, proxy: Option<Proxy>, clock: Arc<dyn Clock>, kept: usize) -> Agent {
    let config = Config::builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .max_idle_connections(kept)
        .max_idle_connections_per_host(kept)
        .max_idle_age(KEPT_FOR)
        .max_response_header_size(INPUT_BYTES)
        .input_buffer_size(INPUT_BYTES)
        .output_buffer_size(OUTPUT_BYTES)
        .timeout_global(Some(PATIENCE))
        .timeout_connect(Some(CONNECT_PATIENCE))
        .user_agent(concat!("forebay/", env!("CARGO_PKG_VERSION")))
        .proxy(proxy)
        .build();
    let tls = Tls { settings: tls, clock, client: OnceLock::new() };
    let connector = ().chain(ConnectProxyConnector::default()).chain(TcpConnector::default()).chain(tls);
    Agent::with_parts(config, connector, Names::default())
}

/// What a request failed of, and what to do about it.
pub(super) fn failure(error: Error) -> String {
    match error {
        Error::Io(error) if error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) => explain(&error),
        Error::Timeout(_) => "no answer in time".to_owned(),
        Error::HostNotFound => "its name has no address".to_owned(),
        Error::Other(error) => error.to_string(),
        error => error.to_string(),
    }
}

/// `name=value&...`, of a form or a query. It may have a secret in it, of which no copy is left behind as it grows.
pub(super) fn encoded(pairs: &[(&str, &str)]) -> String {
    let mut text = String::with_capacity(pairs.iter().map(|(name, value)| name.len() + 3 * value.len() + 2).sum());
    for (name, value) in pairs {
        text.extend((!text.is_empty()).then_some("&"));
        text.extend([name, "="]);
        text.extend(utf8_percent_encode(value, NON_ALPHANUMERIC));
    }
    text
}

/// The first line of `text`, if it is not too long, without what a terminal would obey.
pub(super) fn shown(text: &str) -> String {
    let line = text.trim().lines().next().unwrap_or_default();
    line.chars().filter(|c| !c.is_control()).take(MAX_SHOWN).collect()
}

/// How long a server asks to be left alone (RFC 9110 section 10.2.3): seconds, or a date, which `date` by the same clock
/// tells from now.
pub(super) fn retry_after(value: &str, date: Option<i64>) -> Option<Duration> {
    let seconds = value.trim().parse().ok().or_else(|| {
        let then = jiff::fmt::rfc2822::parse(value).ok()?.timestamp().as_second();
        u64::try_from(then - date?).ok()
    });
    seconds.map(|seconds| Duration::from_secs(seconds).min(LONGEST_PAUSE))
}

/// Whether `url` leads to this very machine.
pub(crate) fn is_loopback(url: &str) -> bool {
    let uri = url.parse::<Uri>();
    uri.is_ok_and(|uri| match uri.host().map(|host| host.trim_matches(['[', ']'])) {
        Some("localhost") => true,
        host => host.and_then(|host| host.parse::<std::net::IpAddr>().ok()).is_some_and(|ip| ip.is_loopback()),
    })
}

/// Whether the request that failed may have reached the server all the same.
#[cfg(feature = "snowpipe")]
pub(super) fn may_have_arrived(error: &Error) -> bool {
    use std::io::ErrorKind::{ConnectionRefused, HostUnreachable, NetworkDown, NetworkUnreachable};
    match error {
        Error::Io(error) => {
            let certificate = |inner: &rustls::Error| matches!(inner, rustls::Error::InvalidCertificate(_));
            let is_refused = error.get_ref().and_then(|inner| inner.downcast_ref()).is_some_and(certificate);
            let is_away =
                matches!(error.kind(), ConnectionRefused | HostUnreachable | NetworkDown | NetworkUnreachable);
            !is_refused && !is_away
        }
        Error::Timeout(ureq::Timeout::Resolve | ureq::Timeout::Connect) => false,
        // Of the rest, these come of an answer.
        Error::Timeout(_) | Error::Protocol(_) | Error::LargeResponseHeader(..) | Error::BodyExceedsLimit(_) => true,
        _ => false,
    }
}

/// Looks names up. That it failed is told apart from what fails on a connection.
#[derive(Debug, Default)]
struct Names(DefaultResolver);

impl Resolver for Names {
    fn resolve(&self, uri: &Uri, config: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        self.0.resolve(uri, config, timeout).map_err(|error| match error {
            Error::Io(_) => Error::HostNotFound,
            error => error,
        })
    }
}

/// Puts TLS upon a connection to `https`.
struct Tls {
    settings: ClientSettings,
    clock: Arc<dyn Clock>,
    /// Made when it is first needed: the system's trust store takes long to read on a small machine.
    client: OnceLock<Client>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Tls {
    fn client(&self) -> Result<&Client, Error> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let made = Client::new(&self.settings, Verify::Full, Arc::clone(&self.clock));
        let made = made.map_err(|problem| Error::Other(problem.into()))?;
        Ok(self.client.get_or_init(|| made))
    }
}

impl<In: Transport> Connector<In> for Tls {
    type Out = Either<In, Encrypted>;

    fn connect(&self, details: &ConnectionDetails, chained: Option<In>) -> Result<Option<Self::Out>, Error> {
        let Some(transport) = chained else { return Ok(None) };
        if !details.needs_tls() {
            return Ok(Some(Either::A(transport)));
        }
        let host = details.uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let name = ServerName::try_from(host.to_owned()).map_err(|_| Error::BadUri(details.uri.to_string()))?;
        let mut connection =
            ClientConnection::new(self.client()?.config(), name).map_err(|error| Error::Other(error.into()))?;
        let mut line = TransportAdapter::new(transport.boxed(), Arc::clone(&details.current_time));
        line.set_timeout(details.timeout);
        while connection.is_handshaking() {
            connection.complete_io(&mut line)?;
        }
        let buffers = LazyBuffers::new(details.config.input_buffer_size(), details.config.output_buffer_size());
        Ok(Some(Either::B(Encrypted { buffers, stream: StreamOwned::new(connection, line) })))
    }
}

/// A connection with TLS upon it.
struct Encrypted {
    buffers: LazyBuffers,
    stream: StreamOwned<ClientConnection, TransportAdapter>,
}

impl fmt::Debug for Encrypted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encrypted").finish_non_exhaustive()
    }
}

impl Transport for Encrypted {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.stream.sock.set_timeout(timeout);
        Ok(self.stream.write_all(&self.buffers.output()[..amount])?)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.stream.sock.set_timeout(timeout);
        let amount = self.stream.read(self.buffers.input_append_buf())?;
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        self.stream.sock.get_mut().is_open()
    }

    fn is_tls(&self) -> bool {
        true
    }
}
