//! TCP to a server that has a name, for links that come and go.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Mutex,
    time::Duration,
};

use rustix::net::sockopt;
use tokio::{
    net::{TcpStream, lookup_host},
    time::timeout,
};

/// One attempt at an address. The kernel sends again after 1 s and 3 s, and then too seldom for a link that is back: so
/// no attempt is older than this, and the next begins at once.
const ATTEMPT: Duration = Duration::from_secs(3);
/// How long the resolver may take where an address is known already.
const RESOLVING: Duration = Duration::from_secs(1);
/// A connection over which nothing comes is asked after so long, then as often, and given up after so many.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(15), Duration::from_secs(5), 3);
/// A connection is given up when what was sent is not acknowledged for so long.
const UNACKNOWLEDGED_MS: u32 = 20_000;

/// Connects to one server, again and again.
#[derive(Debug)]
pub struct Dialer {
    host: String,
    port: u16,
    /// Where it was last: a resolver that is away must not keep us from a server that is there.
    last: Mutex<Option<SocketAddr>>,
}

impl Dialer {
    /// For the server at `host` (a name, or an IP address without brackets) and `port`.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self { host: host.into(), port, last: Mutex::new(None) }
    }

    /// A new connection. The error names the server; all are worth a retry. It takes as long as the resolver does, and
    /// three seconds for each address.
    pub async fn dial(&self) -> Result<TcpStream, String> {
        let mut failure = "its name has no address".to_owned();
        for address in self.addresses().await? {
            match timeout(ATTEMPT, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    tune(&stream).map_err(|error| self.unreachable(&error))?;
                    *self.last.lock().expect("no holder of this lock panics") = Some(address);
                    return Ok(stream);
                }
                Ok(Err(error)) => failure = error.to_string(),
                Err(_) => failure = "no answer".to_owned(),
            }
        }
        Err(self.unreachable(&failure))
    }

    async fn addresses(&self) -> Result<Vec<SocketAddr>, String> {
        if let Ok(address) = self.host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, self.port)]);
        }
        let last = *self.last.lock().expect("no holder of this lock panics");
        let resolving = lookup_host((self.host.as_str(), self.port));
        let found = match last {
            None => resolving.await,
            Some(last) => match timeout(RESOLVING, resolving).await {
                Ok(Ok(found)) => Ok(found),
                _ => return Ok(vec![last]),
            },
        };
        found.map(Iterator::collect).map_err(|error| format!("cannot find the address of {}: {error}", self.host))
    }

    fn unreachable(&self, why: &dyn std::fmt::Display) -> String {
        format!("cannot reach {}:{}: {why}", self.host, self.port)
    }
}

/// Sends at once, and finds out when the other end is gone.
fn tune(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let (idle, interval, count) = KEEPALIVE;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, idle)?;
    sockopt::set_tcp_keepintvl(stream, interval)?;
    sockopt::set_tcp_keepcnt(stream, count)?;
    sockopt::set_tcp_user_timeout(stream, UNACKNOWLEDGED_MS)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_is_found_by_its_name_and_by_its_address() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        for host in ["localhost", "127.0.0.1"] {
            let (dialled, accepted) = tokio::join!(async { Dialer::new(host, port).dial().await }, listener.accept());
            assert_eq!(dialled.unwrap().local_addr().unwrap(), accepted.unwrap().1);
        }
    }

    #[tokio::test]
    async fn an_error_names_the_server() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let refused = Dialer::new("127.0.0.1", port).dial().await.unwrap_err();
        assert!(refused.starts_with(&format!("cannot reach 127.0.0.1:{port}: ")), "{refused}");
        let unknown = Dialer::new("nowhere.invalid", 1).dial().await.unwrap_err();
        assert!(unknown.contains("nowhere.invalid"), "{unknown}");
    }

    #[tokio::test]
    async fn a_server_that_was_found_once_is_found_without_the_resolver() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let dialer = Dialer { host: "nowhere.invalid".into(), port: 1, last: Mutex::new(Some(address)) };
        let (dialled, _) = tokio::join!(dialer.dial(), listener.accept());
        assert_eq!(dialled.unwrap().peer_addr().unwrap(), address);
    }
}
