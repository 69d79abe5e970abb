//! As much of HTTP/1.1 as it takes to leave it: the head of one answer.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

/// No head that leads on is longer.
const MAX_HEAD_BYTES: usize = 16 << 10;

/// The head of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) status: u16,
    pub(super) reason: String,
    fields: Vec<(String, String)>,
}

impl Head {
    /// Reads a head and nothing behind it, for that belongs to another protocol.
    pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Self> {
        let mut bytes = Vec::new();
        // One by one: it is done once for each connection, and nothing is read too far.
        while !bytes.ends_with(b"\r\n\r\n") {
            if bytes.len() == MAX_HEAD_BYTES {
                return Err(io::Error::other("what it answers is no HTTP, or too long"));
            }
            bytes.push(stream.read_u8().await?);
        }
        Self::parse(&bytes).ok_or_else(|| io::Error::other("what it answers is no HTTP"))
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(bytes);
        let mut lines = text.split("\r\n");
        let mut first = lines.next()?.strip_prefix("HTTP/1.")?.splitn(3, ' ').skip(1);
        let status = first.next()?.parse().ok()?;
        let reason = first.next().unwrap_or_default().to_owned();
        let fields = lines.filter_map(|line| line.split_once(':'));
        let fields = fields.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())).collect();
        Some(Self { status, reason, fields })
    }

    /// The field with this name, which is in lower case.
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}

/// A host and a port, as URLs have them.
pub(super) fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_head_is_read_and_what_follows_is_left() {
        let mut stream = &b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nX:  y \r\n\r\nAMQP"[..];
        let head = Head::read(&mut stream).await.expect("a head");
        assert_eq!((head.status, head.reason.as_str()), (101, "Switching Protocols"));
        assert_eq!((head.field("upgrade"), head.field("x"), head.field("z")), (Some("websocket"), Some("y"), None));
        assert_eq!(stream, b"AMQP");
    }

    #[tokio::test]
    async fn what_is_no_head_is_an_error() {
        let endless = [b'x'; MAX_HEAD_BYTES + 1];
        for text in [&b"AMQP\0\r\n\r\n"[..], b"HTTP/1.1 abc\r\n\r\n", b"HTTP/1.1 200 OK\r\n", &endless] {
            Head::read(&mut &*text).await.expect_err("no head");
        }
    }
}
