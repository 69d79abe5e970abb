//! One connection: what is to be written and what was read, and no wait without an end.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Duration,
};

use bytes::BytesMut;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, timeout_at},
};

use super::{
    Acknowledgement, Error, Incoming, Options, Qos, Version,
    frame::{Frame, Frames},
    handshake, packet,
    pulse::{Beat, Pulse},
    transport::{Broker, Stream},
};
use crate::tls;

/// Read at once, at most.
const CHUNK_BYTES: usize = 128 << 10;
/// With less room than this a new buffer is begun.
const LEAST_ROOM_BYTES: usize = 16 << 10;

/// With a larger buffer than this, and nothing in it, a new one is begun.
const MOST_ROOM_BYTES: usize = 4 * CHUNK_BYTES;

/// How long a goodbye may take. It is a courtesy.
const GOODBYE: Duration = Duration::from_secs(2);

/// With more than this to be written nothing is read.
const MAX_OUTPUT_BYTES: usize = 256 << 10;

/// What a broker can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    /// The highest QoS that it takes.
    pub qos: Qos,
    /// Whether it keeps messages for later subscribers.
    pub retain: bool,
    /// The largest packet that it takes.
    pub max_packet_bytes: Option<u32>,
}

impl Limits {
    /// A broker that can do everything.
    pub(super) const NONE: Self = Self { qos: Qos::ExactlyOnce, retain: true, max_packet_bytes: None };
}

/// A connection to a broker that has not been asked for anything yet.
pub struct Dialled<'o> {
    connection: Connection,
    address: String,
    options: &'o Options,
    deadline: Instant,
}

/// A connection to a broker that has welcomed us.
pub struct Connection {
    stream: Pin<Box<dyn Stream>>,
    version: Version,
    frames: Frames,
    /// Read, and not yet handed out.
    input: BytesMut,
    /// Not yet written.
    output: BytesMut,
    /// Whether something is written that may linger on this side of the socket.
    unflushed: bool,
    pulse: Pulse,
    limits: Limits,
    session_present: bool,
    session_expiry: Option<Duration>,
    last_packet_id: u16,
    timeout: Duration,
}

impl Dialled<'_> {
    /// Asks for the session, and waits for the broker's welcome. Where that does not come, the broker may have begun a
    /// new session nevertheless.
    pub async fn be_welcomed(mut self) -> Result<Connection, Error> {
        let welcomed = timeout_at(self.deadline, self.connection.be_welcomed(self.options)).await;
        welcomed.map_err(|_| silent(&self.address, "did not answer", self.options))??;
        Ok(self.connection)
    }
}

fn silent(address: &str, what: &str, options: &Options) -> Error {
    Error::Lost(format!("{address} {what} within {:?}", options.timeout))
}

impl Connection {
    /// Connects. This, and the welcome that is to follow, take no longer than [`Options::timeout`].
    pub async fn dial<'o>(broker: &Broker, options: &'o Options) -> Result<Dialled<'o>, Error> {
        let address = broker.address().to_string();
        let deadline = Instant::now() + options.timeout;
        let dialled = timeout_at(deadline, broker.dial()).await;
        let stream = dialled.map_err(|_| silent(&address, "cannot be connected to", options))??;
        let mut connection = Self::over(stream, options);
        handshake::connect(options, &mut connection.output)?;
        Ok(Dialled { connection, address, options, deadline })
    }

    fn over(stream: Pin<Box<dyn Stream>>, options: &Options) -> Self {
        Self {
            stream,
            version: options.version,
            frames: Frames::new(options.version, options.max_packet_bytes),
            input: BytesMut::new(),
            output: BytesMut::new(),
            unflushed: false,
            pulse: Pulse::new(options.keep_alive, Instant::now()),
            limits: Limits::NONE,
            session_present: false,
            session_expiry: None,
            last_packet_id: 0,
            timeout: options.timeout,
        }
    }

    async fn be_welcomed(&mut self, options: &Options) -> Result<(), Error> {
        loop {
            match self.frames.next(&mut self.input)? {
                None => self.progress(true).await?,
                Some(Frame::Publish(_)) => return Err(super::violation("a message comes before the welcome")),
                Some(Frame::Control(packet)) => {
                    let welcome = handshake::welcome(options, &packet)?;
                    self.session_present = welcome.session_present;
                    self.session_expiry = welcome.session_expiry;
                    self.limits = welcome.limits;
                    self.pulse = Pulse::new(welcome.keep_alive, Instant::now());
                    return Ok(());
                }
            }
        }
    }

    /// Whether the broker knew the session.
    pub fn session_present(&self) -> bool {
        self.session_present
    }

    /// How long the broker keeps the session, where it says that it is less than [`Options::session_expiry`].
    pub fn session_expiry(&self) -> Option<Duration> {
        self.session_expiry
    }

    /// Subscribes. The answer, [`Incoming::Subscribed`], has the same order, and is awaited as long as the welcome was.
    pub fn subscribe(&mut self, filters: &[String], qos: Qos) -> Result<(), Error> {
        let packet_id = self.next_packet_id();
        let limit = self.limits.max_packet_bytes;
        packet::subscribe(self.version, &mut self.output, packet_id, filters, qos, limit)?;
        self.pulse.promised(Instant::now(), self.timeout);
        Ok(())
    }

    /// Publishes a message that the broker keeps, at QoS 1 if it takes that. Whether it did is not awaited.
    pub fn publish(&mut self, topic: &str, payload: Vec<u8>) -> Result<(), Error> {
        let packet_id = self.next_packet_id();
        packet::publish(self.version, &mut self.output, packet_id, topic, payload, self.limits)
    }

    /// Acknowledges what came on this connection.
    pub fn acknowledge(&mut self, answer: Acknowledgement, packet_id: u16) {
        packet::acknowledge(self.version, &mut self.output, answer, packet_id);
    }

    /// The next of what was read.
    #[expect(clippy::should_implement_trait, reason = "there is more after there was nothing")]
    pub fn next(&mut self) -> Result<Option<Incoming>, Error> {
        loop {
            match self.frames.next(&mut self.input)? {
                None => return Ok(None),
                Some(Frame::Publish(publish)) => return Ok(Some(Incoming::Publish(publish))),
                Some(Frame::Control(packet)) => match packet::incoming(self.version, &packet)? {
                    None => {}
                    Some(incoming) => {
                        if let Incoming::Subscribed(_) = incoming {
                            self.pulse.kept();
                        }
                        return Ok(Some(incoming));
                    }
                },
            }
        }
    }

    /// Writes what is to be written, and pings. If `read`, it ends when something was read; else it goes on until there
    /// is an error. It can be dropped and called again at any time.
    pub async fn progress(&mut self, read: bool) -> Result<(), Error> {
        loop {
            self.pulse.listens(read, Instant::now());
            match timeout_at(self.pulse.due(), poll_fn(|context| self.poll(context, read))).await {
                Ok(outcome) => return outcome,
                Err(_) => self.beat(read)?,
            }
        }
    }

    fn beat(&mut self, read: bool) -> Result<(), Error> {
        let now = Instant::now();
        self.pulse.listens(read, now);
        match self.pulse.beat(now) {
            Beat::Rest => Ok(()),
            Beat::Ping => {
                packet::ping(&mut self.output);
                Ok(())
            }
            Beat::Dead(patience) => Err(Error::Lost(format!("the broker has been silent for {patience:?}"))),
        }
    }

    /// Says goodbye, and waits until that is written, but not for long.
    pub async fn close(mut self) {
        packet::goodbye(&mut self.output);
        let deadline = Instant::now() + self.timeout.min(GOODBYE);
        if let Ok(Ok(())) = timeout_at(deadline, poll_fn(|context| self.poll_write(context))).await {
            // What the broker makes of it is its own affair.
            let _ = timeout_at(deadline, self.stream.shutdown()).await;
        }
    }

    fn next_packet_id(&mut self) -> u16 {
        self.last_packet_id = self.last_packet_id.checked_add(1).unwrap_or(1);
        self.last_packet_id
    }

    fn poll(&mut self, context: &mut Context<'_>, read: bool) -> Poll<Result<(), Error>> {
        if let Poll::Ready(Err(error)) = self.poll_write(context) {
            return Poll::Ready(Err(error));
        }
        // A broker that sends and does not read is not read either.
        if !read || self.output.len() > MAX_OUTPUT_BYTES {
            return Poll::Pending;
        }
        if self.input.capacity() - self.input.len() < LEAST_ROOM_BYTES {
            self.input.reserve(CHUNK_BYTES);
            if self.input.is_empty() && self.input.capacity() > MOST_ROOM_BYTES {
                // What one large message took is not kept.
                self.input = BytesMut::with_capacity(CHUNK_BYTES);
            }
        }
        let outcome = std::task::ready!(pin!(self.stream.read_buf(&mut self.input)).poll(context));
        self.pulse.heard();
        Poll::Ready(match outcome {
            Ok(0) => Err(Error::Closed),
            Ok(_) => Ok(()),
            // Without TLS's own goodbye.
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Err(Error::Closed),
            Err(error) => Err(lost(&error)),
        })
    }

    fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let mut progress = false;
        while !self.output.is_empty() {
            match pin!(self.stream.write_buf(&mut self.output)).poll(context) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(lost(&std::io::ErrorKind::WriteZero.into()))),
                Poll::Ready(Ok(_)) => (self.unflushed, progress) = (true, true),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(lost(&error))),
                Poll::Pending => {
                    self.pulse.wrote(progress, true, Instant::now());
                    return Poll::Pending;
                }
            }
        }
        if self.unflushed {
            match pin!(self.stream.flush()).poll(context) {
                Poll::Ready(outcome) => outcome.map_err(|error| lost(&error))?,
                Poll::Pending => {
                    self.pulse.wrote(progress, true, Instant::now());
                    return Poll::Pending;
                }
            }
            self.unflushed = false;
            self.pulse.wrote(true, false, Instant::now());
        }
        Poll::Ready(Ok(()))
    }
}

fn lost(error: &std::io::Error) -> Error {
    let why = tls::client::known(error).unwrap_or_else(|| error.to_string());
    Error::Lost(format!("the connection to the broker is lost: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_goodbye_that_nobody_reads_does_not_hold_up_the_end() {
        let options = Options {
            version: Version::V5,
            client_id: "gw".to_owned(),
            session_expiry: Duration::ZERO,
            receive_maximum: 1,
            max_packet_bytes: 1_000,
            keep_alive: Duration::from_secs(300),
            user: None,
            password: None,
            will: None,
            timeout: Duration::from_secs(300),
        };
        let (ours, _theirs) = tokio::io::duplex(1);
        let begun = Instant::now();
        Connection::over(Box::pin(ours), &options).close().await;
        assert_eq!(begun.elapsed().as_secs(), 2);
    }
}
