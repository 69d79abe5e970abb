//! A client's connection to a broker.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use super::{
    Frame, Frames,
    frames::{encode, kind, push_string},
};

/// No answer for this long, and the connection counts as broken.
const PATIENCE: Duration = Duration::from_secs(2);

/// What the broker keeps of a client (3.1.1, section 3.1.2.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Session {
    /// Nothing: a session of its own for this connection.
    Clean,
    /// Subscriptions and messages, over connections.
    Kept,
}

#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    frames: Frames,
}

impl Connection {
    /// Connects the client `name` to the broker on `port` of 127.0.0.1, by MQTT 3.1.1.
    pub(super) fn open(port: u16, name: &str, session: Session) -> io::Result<Self> {
        let mut stream = TcpStream::connect_timeout(&SocketAddr::from(([127, 0, 0, 1], port)), PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        // CONNECT (section 3.1): protocol level 4, the flag of a clean session, no keep-alive.
        let mut body = Vec::new();
        push_string(&mut body, "MQTT");
        body.extend_from_slice(&[4, u8::from(session == Session::Clean) << 1, 0, 0]);
        push_string(&mut body, name);
        stream.write_all(&encode(kind::CONNECT << 4, &body))?;
        let mut connection = Self { stream, frames: Frames::default() };
        match connection.read_one()? {
            frame if frame.kind == kind::CONNACK && frame.body()[1] == 0 => Ok(connection),
            frame => panic!("{name}: the broker refuses the connection: {frame:?}"),
        }
    }

    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// The next packet.
    pub(super) fn read_one(&mut self) -> io::Result<Frame> {
        loop {
            if let Some(frame) = self.frames.next() {
                return Ok(frame);
            }
            let mut bytes = [0; 4096];
            match self.stream.read(&mut bytes)? {
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                length => self.frames.push(&bytes[..length]),
            }
        }
    }

    /// The packets that have come, at least one.
    pub(super) fn read(&mut self) -> io::Result<Vec<Frame>> {
        let first = self.read_one()?;
        Ok(std::iter::once(first).chain(self.frames.by_ref()).collect())
    }
}
