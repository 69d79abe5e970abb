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
        let is_http = text.starts_with("http://") || text.starts_with("https://");
        match ureq::Proxy::new(&text) {
            Ok(proxy) if is_http => Ok(proxy),
            _ => Err(reading.wrong(node, "is not the address of an HTTP proxy")),
        }
    }
}
