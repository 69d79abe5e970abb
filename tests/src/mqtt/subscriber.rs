//! A client that listens, and acknowledges what it hears at once.

use std::{collections::VecDeque, io};

use super::{
    Frame, Message, Version,
    connection::{Connection, Session},
    frames::{encode, kind, push_string},
};

/// A client of MQTT 3.1.1 with a session that the broker keeps.
#[derive(Debug)]
pub struct Subscriber {
    connection: Connection,
    /// What came before the subscription was confirmed, for the session had it already.
    early: VecDeque<Message>,
}

impl Subscriber {
    /// Connects the client `name` to the broker on `port` of 127.0.0.1 and subscribes to `filter` at QoS 1.
    pub fn new(name: &str, port: u16, filter: &str) -> Self {
        let mut connection = Connection::open(port, name, Session::Kept).expect("the broker takes connections");
        // SUBSCRIBE (section 3.8) with packet identifier 1.
        let mut body = vec![0, 1];
        push_string(&mut body, filter);
        body.push(1);
        connection.send(&encode(kind::SUBSCRIBE << 4 | 2, &body)).expect("the broker is there");
        let mut subscriber = Self { connection, early: VecDeque::new() };
        loop {
            let frame = subscriber.frame().expect("the broker answers");
            match frame.message(Version::V3) {
                Some(message) => subscriber.early.push_back(message),
                None if frame.kind == kind::SUBACK => return subscriber,
                None => {}
            }
        }
    }

    /// The next message.
    pub fn message(&mut self) -> Message {
        if let Some(message) = self.early.pop_front() {
            return message;
        }
        loop {
            let frame = self.frame().expect("a message comes");
            if let Some(message) = frame.message(Version::V3) {
                return message;
            }
        }
    }

    fn frame(&mut self) -> io::Result<Frame> {
        let frame = self.connection.read_one()?;
        if let Some(message) = frame.message(Version::V3)
            && message.qos == 1
        {
            self.connection.send(&encode(kind::PUBACK << 4, &message.packet_id.to_be_bytes()))?;
        }
        Ok(frame)
    }
}
