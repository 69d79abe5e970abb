//! A sensor that publishes, and does not let go of a message before the broker has acknowledged it.

use std::{
    collections::VecDeque,
    io,
    thread::sleep,
    time::{Duration, Instant},
};

use super::{
    Frame,
    connection::{Connection, Session},
    frames::{encode, kind, push_string},
};
use crate::harness::DEADLINE;

const PAUSE: Duration = Duration::from_millis(20);

/// How a message is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quality {
    /// QoS 0: sent, and forgotten.
    AtMostOnce,
    /// QoS 1: sent until a PUBACK comes.
    AtLeastOnce,
    /// QoS 2: the four packets of one delivery.
    ExactlyOnce,
}

/// A client of MQTT 3.1.1 that publishes. What was sent and not acknowledged is sent again after a reconnect, before
/// anything new and in the order it was first sent, so that first arrivals at the broker are in order.
#[derive(Debug)]
pub struct Publisher {
    name: String,
    port: u16,
    quality: Quality,
    window: usize,
    connection: Option<Connection>,
    /// Sent and not acknowledged, oldest first.
    unacknowledged: VecDeque<Sent>,
    next_id: u16,
    acknowledged: u64,
    repeated: u64,
}

#[derive(Debug)]
struct Sent {
    id: u16,
    topic: String,
    payload: Vec<u8>,
    /// A PUBREC has come: the message is the broker's, and only its PUBREL is to be repeated.
    received: bool,
}

impl Publisher {
    /// A client called `name` of the broker on `port` of 127.0.0.1 that leaves at most `window` messages unacknowledged.
    pub fn new(name: &str, port: u16, quality: Quality, window: usize) -> Self {
        Self {
            name: name.to_owned(),
            port,
            quality,
            window,
            connection: None,
            unacknowledged: VecDeque::new(),
            next_id: 0,
            acknowledged: 0,
            repeated: 0,
        }
    }

    /// Messages that the broker has acknowledged; at QoS 0, that were sent.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// Messages sent again, each time counted.
    pub fn repeated(&self) -> u64 {
        self.repeated
    }

    /// Publishes a message, when the window has room for it.
    pub fn publish(&mut self, topic: &str, payload: impl Into<Vec<u8>>) {
        self.settle(self.window - 1);
        self.next_id = self.next_id % u16::MAX + 1;
        let sent = Sent { id: self.next_id, topic: topic.to_owned(), payload: payload.into(), received: false };
        let bytes = sent.publish(self.quality, false);
        if self.quality == Quality::AtMostOnce {
            self.acknowledged += 1;
        } else {
            self.unacknowledged.push_back(sent);
        }
        // If it cannot be sent now, it is among what is sent again.
        let _ = self.attempt(|connection| connection.send(&bytes));
    }

    /// Waits until everything is acknowledged.
    pub fn finish(&mut self) {
        self.settle(0);
    }

    /// Reads answers until at most `left` messages are unacknowledged, connecting anew as often as it takes.
    fn settle(&mut self, left: usize) {
        let begun = Instant::now();
        while self.connection.is_none() || self.unacknowledged.len() > left {
            assert!(begun.elapsed() < DEADLINE, "{}: the broker has not acknowledged in {DEADLINE:?}", self.name);
            if self.connection.is_none() {
                match Connection::open(self.port, &self.name, self.session()) {
                    Ok(connection) => {
                        self.connection = Some(connection);
                        self.repeat();
                    }
                    Err(_) => sleep(PAUSE),
                }
                continue;
            }
            if let Some(frames) = self.attempt(Connection::read) {
                frames.iter().for_each(|frame| self.answered(frame));
            }
        }
    }

    /// Only QoS 2 needs the broker to know a repeated message from a new one.
    fn session(&self) -> Session {
        if self.quality == Quality::ExactlyOnce { Session::Kept } else { Session::Clean }
    }

    fn repeat(&mut self) {
        let quality = self.quality;
        let again: Vec<u8> = self.unacknowledged.iter().flat_map(|sent| sent.again(quality)).collect();
        self.repeated += self.unacknowledged.len() as u64;
        let _ = self.attempt(|connection| connection.send(&again));
    }

    fn answered(&mut self, frame: &Frame) {
        let Some(at) = self.unacknowledged.iter().position(|sent| sent.id == frame.packet_id()) else { return };
        match frame.kind {
            kind::PUBACK | kind::PUBCOMP => {
                self.unacknowledged.remove(at);
                self.acknowledged += 1;
            }
            kind::PUBREC => {
                self.unacknowledged[at].received = true;
                let release = self.unacknowledged[at].again(self.quality);
                let _ = self.attempt(|connection| connection.send(&release));
            }
            other => panic!("{}: the broker answers with packet type {other}", self.name),
        }
    }

    /// Does something with the connection, if there is one, and drops it if that fails.
    fn attempt<T>(&mut self, act: impl FnOnce(&mut Connection) -> io::Result<T>) -> Option<T> {
        let done = act(self.connection.as_mut()?);
        if done.is_err() {
            self.connection = None;
        }
        done.ok()
    }
}

impl Sent {
    /// Its PUBLISH (section 3.3).
    fn publish(&self, quality: Quality, dup: bool) -> Vec<u8> {
        let mut body = Vec::new();
        push_string(&mut body, &self.topic);
        if quality != Quality::AtMostOnce {
            body.extend_from_slice(&self.id.to_be_bytes());
        }
        body.extend_from_slice(&self.payload);
        encode(kind::PUBLISH << 4 | u8::from(dup) << 3 | (quality as u8) << 1, &body)
    }

    /// What is sent for it after a reconnect (section 4.4): its PUBLISH, or its PUBREL.
    fn again(&self, quality: Quality) -> Vec<u8> {
        match self.received {
            true => encode(kind::PUBREL << 4 | 2, &self.id.to_be_bytes()),
            false => self.publish(quality, true),
        }
    }
}
