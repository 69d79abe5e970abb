//! What is sent: events as messages of AMQP, and batches of them (message format 0x80013700).
//!
//! The codec of fe2o3-amqp is not used for the events: batches are filled to the last byte that the service takes, so
//! the size of each must be known before.

use bytes::BufMut;
use fe2o3_amqp::{
    link::delivery::Sendable,
    types::{
        messaging::{Batch as Sections, Data, Message},
        primitives::Binary,
    },
};
use forebay_buffer::{Timestamp, Value};

/// A message whose data sections are messages.
const BATCH_FORMAT: u32 = 0x8001_3700;
/// Descriptors of sections (AMQP 1.0 part 3, section 3.2).
const PROPERTIES: u8 = 0x73;
const APPLICATION_PROPERTIES: u8 = 0x74;
const DATA: u8 = 0x75;
const VALUE: u8 = 0x77;

/// An event on its way out.
#[derive(Debug, Default)]
pub struct Outgoing<'a> {
    /// What tells it from all others.
    pub message_id: &'a str,
    /// A MIME type.
    pub content_type: Option<&'a str>,
    /// When it happened, to the millisecond.
    pub creation_time: Option<Timestamp>,
    /// The application's own properties. Of two with the same name, consumers see one.
    pub application_properties: Vec<(&'a str, Value)>,
    /// `None` is a null value, which differs from no bytes.
    pub body: Option<&'a [u8]>,
}

impl Outgoing<'_> {
    /// As a message of AMQP.
    pub fn encode(&self) -> Vec<u8> {
        let mut message = Vec::with_capacity(self.body.map_or(0, <[u8]>::len) + 256);
        section(&mut message, PROPERTIES);
        compound(&mut message, 0xc0, 13, |fields| self.put_properties(fields));
        if !self.application_properties.is_empty() {
            section(&mut message, APPLICATION_PROPERTIES);
            compound(&mut message, 0xc1, 2 * self.application_properties.len(), |pairs| {
                for (name, value) in &self.application_properties {
                    variable(pairs, 0xa1, name.as_bytes());
                    put_value(pairs, value);
                }
            });
        }
        match self.body {
            Some(body) => {
                section(&mut message, DATA);
                variable(&mut message, 0xa0, body);
            }
            None => {
                section(&mut message, VALUE);
                message.put_u8(NULL);
            }
        }
        // Many small ones may wait for their turn.
        message.shrink_to_fit();
        message
    }

    /// The properties (section 3.2.4), all 13 fields of them: a vendor's SDK does not read a shorter list.
    fn put_properties(&self, fields: &mut Vec<u8>) {
        variable(fields, 0xa1, self.message_id.as_bytes());
        // user-id, to, subject, reply-to, correlation-id
        fields.put_bytes(NULL, 5);
        match self.content_type {
            Some(content_type) => variable(fields, 0xa3, content_type.as_bytes()),
            None => fields.put_u8(NULL),
        }
        // content-encoding, absolute-expiry-time
        fields.put_bytes(NULL, 2);
        match self.creation_time {
            Some(time) => put_value(fields, &Value::Time(time)),
            None => fields.put_u8(NULL),
        }
        // group-id, group-sequence, reply-to-group-id
        fields.put_bytes(NULL, 3);
    }
}

const NULL: u8 = 0x40;

fn section(to: &mut Vec<u8>, descriptor: u8) {
    to.put_slice(&[0x00, 0x53, descriptor]);
}

/// A value of the primitive types that headers have (part 1, section 1.6).
fn put_value(to: &mut Vec<u8>, value: &Value) {
    match value {
        Value::String(text) => variable(to, 0xa1, text.as_bytes()),
        Value::Bytes(bytes) => variable(to, 0xa0, bytes),
        Value::Boolean(value) => to.put_u8(if *value { 0x41 } else { 0x42 }),
        Value::Integer(number) => {
            to.put_u8(0x81);
            to.put_i64(*number);
        }
        Value::Float(number) => {
            to.put_u8(0x82);
            to.put_f64(*number);
        }
        Value::Time(time) => {
            to.put_u8(0x83);
            to.put_i64(time.0.div_euclid(1_000));
        }
    }
}

/// A value of variable width: `code` is that of the short form.
fn variable(to: &mut Vec<u8>, code: u8, bytes: &[u8]) {
    match u8::try_from(bytes.len()) {
        Ok(length) => to.put_slice(&[code, length]),
        Err(_) => {
            to.put_u8(code + 0x10);
            to.put_u32(length(bytes.len()));
        }
    }
    to.put_slice(bytes);
}

/// A list or a map of `count` values: `code` is that of the short form. Its size counts what follows the size.
fn compound(to: &mut Vec<u8>, code: u8, count: usize, put_values: impl FnOnce(&mut Vec<u8>)) {
    let begin = to.len();
    to.put_slice(&[code, 0, 0]);
    let values = to.len();
    put_values(to);
    let size = to.len() - values;
    match (u8::try_from(size + 1), u8::try_from(count)) {
        (Ok(size), Ok(count)) => to[begin + 1..values].copy_from_slice(&[size, count]),
        _ => {
            let (size, count) = (length(size + 4).to_be_bytes(), length(count).to_be_bytes());
            to.splice(begin..values, [code + 0x10].into_iter().chain(size).chain(count));
        }
    }
}

fn length(length: usize) -> u32 {
    u32::try_from(length).expect("an event is no larger than buffer.max_event_bytes, which is below 4 GiB")
}

/// Messages that go out together: all of them are stored, in one partition, or none.
#[derive(Debug, Clone)]
pub struct Batch {
    sendable: Sendable<Sections<Data>>,
    size_bytes: usize,
}

impl Default for Batch {
    fn default() -> Self {
        let message = Message::builder().data_batch(Vec::<Data>::new()).build();
        Self { sendable: Sendable { message, message_format: BATCH_FORMAT, settled: None }, size_bytes: 0 }
    }
}

impl Batch {
    /// What a batch with this message alone takes.
    pub fn size_of(message: &[u8]) -> usize {
        // The section, and the width of its length.
        message.len() + if message.len() < 256 { 5 } else { 8 }
    }

    /// Adds an encoded message.
    pub fn push(&mut self, message: Vec<u8>) {
        self.size_bytes += Self::size_of(&message);
        self.sendable.message.body.push(Data(Binary::from(message)));
    }

    /// Takes the messages from `at` on out of it.
    pub fn split_off(&mut self, at: usize) -> Self {
        let mut rest = Self::default();
        let messages = self.sendable.message.body.split_off(at);
        messages.into_iter().for_each(|message| rest.push(message.0.into_vec()));
        self.size_bytes -= rest.size_bytes;
        rest
    }

    /// What counts against [`Sender::max_message_bytes`](super::Sender::max_message_bytes).
    pub fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.size_bytes == 0
    }

    pub(super) fn sendable(&self) -> &Sendable<Sections<Data>> {
        &self.sendable
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_encoded_message_takes_no_more_memory_than_it_has_bytes() {
        for size in [0, 1, 300, 70_000] {
            let body = vec![7; size];
            let message = Outgoing { message_id: "id", body: Some(&body), ..Outgoing::default() }.encode();
            assert_eq!(message.capacity(), message.len());
        }
    }
}
