//! The line to the server: TCP, or a Unix socket.

use std::{
    io,
    path::{Path, PathBuf},
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
};

use crate::client::tcp::Dialer;

/// A line.
pub(super) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// Where lines lead to.
pub(super) enum Address {
    /// It knows where the server was last.
    Tcp(Dialer),
    Unix(PathBuf),
}

impl Address {
    /// `host` is a name, an address, or the directory of a Unix socket.
    pub(super) fn new(host: &str, port: u16) -> Self {
        match host.starts_with('/') {
            true => Self::Unix(Path::new(host).join(format!(".s.PGSQL.{port}"))),
            false => Self::Tcp(Dialer::new(host, port)),
        }
    }

    /// Opens a line.
    pub(super) async fn open(&self) -> Result<Socket, String> {
        match self {
            Self::Tcp(dialer) => dialer.dial().await.map(Socket::Tcp),
            Self::Unix(path) => UnixStream::connect(path)
                .await
                .map(Socket::Unix)
                .map_err(|error| format!("{}: {error}", path.display())),
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
