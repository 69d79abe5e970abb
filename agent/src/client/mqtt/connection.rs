//! One connection: what is to be written and what was read, and no wait without an end.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    task::{Context, Poll},
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

/// Read at once, at most.
const CHUNK_BYTES: usize = 128 << 10;
/// With less room than this a new buffer is begun.
const LEAST_ROOM_BYTES: usize = 16 << 10;

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
    last_packet_id: u16,
    timeout: std::time::Duration,
}

impl Connection {
    /// Connects, and waits for the broker's welcome: no longer than [`Options::timeout`].
    pub async fn open(broker: &Broker, options: &Options) -> Result<Self, Error> {
        let address = broker.address();
        let deadline = Instant::now() + options.timeout;
        let silent = |what: &str| Error::Lost(format!("{address} {what} within {:?}", options.timeout));
        let dialled = timeout_at(deadline, broker.dial()).await;
        let stream = dialled.map_err(|_| silent("cannot be connected to"))??;
        let mut connection = Self {
            stream,
            version: options.version,
            frames: Frames::new(options.version, options.max_packet_bytes),
            input: BytesMut::new(),
            output: BytesMut::new(),
            unflushed: false,
            pulse: Pulse::new(options.keep_alive, Instant::now()),
            limits: Limits::NONE,
            session_present: false,
            last_packet_id: 0,
            timeout: options.timeout,
        };
        handshake::connect(options, &mut connection.output)?;
        let welcomed = timeout_at(deadline, connection.be_welcomed(options)).await;
        welcomed.map_err(|_| silent("did not answer"))??;
        Ok(connection)
    }

    async fn be_welcomed(&mut self, options: &Options) -> Result<(), Error> {
        loop {
            match self.frames.next(&mut self.input)? {
                None => self.progress(true).await?,
                Some(Frame::Publish(_)) => return Err(super::violation("a message comes before the welcome")),
                Some(Frame::Control(packet)) => {
                    let welcome = handshake::welcome(options, &packet)?;
                    self.session_present = welcome.session_present;
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
            if !read {
                self.pulse.deaf(Instant::now());
            }
            match timeout_at(self.pulse.due(), poll_fn(|context| self.poll(context, read))).await {
                Ok(outcome) => return outcome,
                Err(_) => match self.pulse.beat(Instant::now()) {
                    Beat::Rest => {}
                    Beat::Ping => packet::ping(&mut self.output),
                    Beat::Dead(patience) => {
                        return Err(Error::Lost(format!("the broker has been silent for {patience:?}")));
                    }
                },
            }
        }
    }

    /// Says goodbye, and waits until that is written, but not for long.
    pub async fn close(mut self) {
        packet::goodbye(&mut self.output);
        let deadline = Instant::now() + self.timeout;
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
        if !read {
            return Poll::Pending;
        }
        if self.input.capacity() - self.input.len() < LEAST_ROOM_BYTES {
            self.input.reserve(CHUNK_BYTES);
        }
        let outcome = std::task::ready!(pin!(self.stream.read_buf(&mut self.input)).poll(context));
        self.pulse.heard();
        Poll::Ready(match outcome {
            Ok(0) => Err(Error::Lost("the broker closed the connection".to_owned())),
            Ok(_) => Ok(()),
            Err(error) => Err(Error::Lost(format!("the connection to the broker is lost: {error}"))),
        })
    }

    fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let lost = |error| Error::Lost(format!("the connection to the broker is lost: {error}"));
        let mut progress = false;
        while !self.output.is_empty() {
            match pin!(self.stream.write_buf(&mut self.output)).poll(context) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(lost(std::io::ErrorKind::WriteZero.into()))),
                Poll::Ready(Ok(_)) => (self.unflushed, progress) = (true, true),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(lost(error))),
                Poll::Pending => {
                    self.pulse.wrote(progress, true, Instant::now());
                    return Poll::Pending;
                }
            }
        }
        if self.unflushed {
            match pin!(self.stream.flush()).poll(context) {
                Poll::Ready(outcome) => outcome.map_err(lost)?,
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
