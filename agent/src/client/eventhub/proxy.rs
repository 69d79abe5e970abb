//! Through an HTTP proxy, by CONNECT (RFC 9110, section 9.3.6).

use base64::{Engine, prelude::BASE64_STANDARD};
use tokio::io::AsyncWriteExt;

use super::{Error, Proxy, error::Class, http, stream::Bytes};
use crate::secret::Secret;

/// Has the proxy at the other end of `stream` connect it to `host` and `port`.
pub(super) async fn connect(
    mut stream: Box<dyn Bytes>,
    proxy: &Proxy,
    host: &str,
    port: u16,
) -> Result<Box<dyn Bytes>, Error> {
    let place = format!("proxy {}", http::authority(&proxy.host, proxy.port));
    let authority = http::authority(host, port);
    let login = match &proxy.login {
        None => String::new(),
        Some((user, password)) => {
            let password = password.read().map_err(|problem| Error::new(Class::Unauthorized, problem))?;
            let login = BASE64_STANDARD.encode(format!("{user}:{}", password.expose()));
            format!("Proxy-Authorization: Basic {login}\r\n")
        }
    };
    let request = Secret::new(format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n{login}\r\n"));
    let lost = |error: std::io::Error| Error::lost(format!("{place}: {error}"));
    stream.write_all(request.expose().as_bytes()).await.map_err(lost)?;
    stream.flush().await.map_err(lost)?;
    let answer = http::Head::read(&mut stream).await.map_err(lost)?;
    match answer.status {
        200..300 => Ok(stream),
        407 => {
            let message = format!(
                "{place} wants a user and a password, or others: they belong into proxy, http://USER:PASSWORD@HOST:PORT"
            );
            Err(Error::new(Class::Unauthorized, message))
        }
        // It may be in a moment, or once somebody has seen to it.
        status @ 400..500 if !matches!(status, 408 | 429) => {
            let message =
                format!("{place} does not let us through to {authority}: it answers {status} {}", answer.reason);
            Err(Error::new(Class::Unauthorized, message))
        }
        status => Err(Error::lost(format!("{place} cannot reach {authority}: it answers {status} {}", answer.reason))),
    }
}
