//! The proxy on the way to a server.

use crate::config::{document::Node, key::Kind, reading::Reading, report::Reported};

/// An HTTP proxy.
#[derive(Debug)]
pub(in crate::config) struct ProxyUrl;

impl Kind for ProxyUrl {
    type Value = ureq::Proxy;

    fn expected(&self) -> String {
        "\"http://HOST:PORT\", with USER:PASSWORD@ before the host if it asks for them".to_owned()
    }

    fn read(&self, node: &Node, reading: &mut Reading<'_, '_>) -> Result<ureq::Proxy, Reported> {
        let text = reading.text(node)?;
        if text.starts_with("https://") {
            let help = "write http://: what passes the proxy is encrypted by the server behind it, and a login for the proxy is not";
            return Err(reading.wrong_with_help(node, "asks for an encrypted way to the proxy itself", help));
        }
        let proxy = ureq::Proxy::new(&text).ok().filter(|_| text.starts_with("http://"));
        let proxy = proxy.ok_or_else(|| reading.wrong(node, "is not the address of an HTTP proxy"))?;
        if proxy.password().is_some() && !reading.was_substituted() {
            let help = "put the password into an environment variable, and write \"http://USER:${NAME}@HOST:PORT\"";
            reading.warn(node, "has a password in it, which copies and backups give away", help);
        }
        Ok(proxy)
    }
}
