//! Control packets in a stream of bytes. Section numbers are those of the MQTT standards 3.1.1 and 5.0.

/// The packet types (section 2.1.2) that tests look for.
pub mod kind {
    /// CONNECT.
    pub const CONNECT: u8 = 1;
    /// CONNACK.
    pub const CONNACK: u8 = 2;
    /// PUBLISH.
    pub const PUBLISH: u8 = 3;
    /// PUBACK.
    pub const PUBACK: u8 = 4;
    /// PUBREC.
    pub const PUBREC: u8 = 5;
    /// PUBREL.
    pub const PUBREL: u8 = 6;
    /// PUBCOMP.
    pub const PUBCOMP: u8 = 7;
    /// SUBSCRIBE.
    pub const SUBSCRIBE: u8 = 8;
    /// SUBACK.
    pub const SUBACK: u8 = 9;
    /// PINGREQ.
    pub const PINGREQ: u8 = 12;
}

/// Which standard a connection follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// 3.1.1.
    V3,
    /// 5.0, whose packets have properties.
    V5,
}

/// One control packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Bytes of the stream before it.
    pub start: u64,
    /// Its type: see [`kind`].
    pub kind: u8,
    flags: u8,
    body: Vec<u8>,
}

/// What a PUBLISH carries (section 3.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The topic.
    pub topic: String,
    /// The quality of service: 0, 1 or 2.
    pub qos: u8,
    /// Whether it is said to have been sent before.
    pub dup: bool,
    /// The packet identifier; 0 at QoS 0.
    pub packet_id: u16,
    /// The payload.
    pub payload: Vec<u8>,
}

impl Frame {
    /// The packet identifier of what only answers: PUBACK, PUBREC, PUBREL, PUBCOMP (sections 3.4 to 3.7).
    pub fn packet_id(&self) -> u16 {
        u16::from_be_bytes([self.body[0], self.body[1]])
    }

    /// Its body, after the fixed header.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// What it carries if it is a PUBLISH.
    pub fn message(&self, version: Version) -> Option<Message> {
        (self.kind == kind::PUBLISH).then(|| {
            let (length, rest) = self.body.split_at(2);
            let (topic, rest) = rest.split_at(usize::from(u16::from_be_bytes([length[0], length[1]])));
            let qos = (self.flags >> 1) & 3;
            let (id, rest) = rest.split_at(if qos > 0 { 2 } else { 0 });
            let payload = match version {
                Version::V3 => rest,
                Version::V5 => {
                    let (length, size) = variable_integer(rest).expect("a broker sends whole properties");
                    &rest[size + length..]
                }
            };
            Message {
                topic: String::from_utf8_lossy(topic).into_owned(),
                qos,
                dup: self.flags & 8 != 0,
                packet_id: id.try_into().map_or(0, u16::from_be_bytes),
                payload: payload.to_vec(),
            }
        })
    }
}

/// Takes one direction of a connection apart.
#[derive(Debug, Default)]
pub struct Frames {
    rest: Vec<u8>,
    taken: u64,
}

impl Frames {
    /// The next bytes of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        self.rest.extend_from_slice(bytes);
    }

    /// Bytes pushed so far.
    pub fn pushed(&self) -> u64 {
        self.taken + self.rest.len() as u64
    }
}

impl Iterator for Frames {
    type Item = Frame;

    /// The next packet that is there as a whole.
    fn next(&mut self) -> Option<Frame> {
        let (length, size) = variable_integer(self.rest.get(1..)?)?;
        let end = 1 + size + length;
        if self.rest.len() < end {
            return None;
        }
        let (first, body) = (self.rest[0], self.rest[1 + size..end].to_vec());
        let frame = Frame { start: self.taken, kind: first >> 4, flags: first & 15, body };
        self.rest.drain(..end);
        self.taken += end as u64;
        Some(frame)
    }
}

/// A variable byte integer at the beginning of `bytes` (5.0, section 1.5.5), and how many bytes it takes. `None` if it
/// is not whole.
fn variable_integer(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut value = 0;
    for (at, byte) in bytes.iter().enumerate() {
        assert!(at < 4, "a length takes four bytes at most");
        value |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((value, at + 1));
        }
    }
    None
}

/// A packet as bytes: its first byte, its length, and its body.
pub(super) fn encode(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    let mut length = body.len();
    loop {
        let low = (length & 0x7f) as u8;
        length >>= 7;
        bytes.push(if length > 0 { low | 0x80 } else { low });
        if length == 0 {
            break;
        }
    }
    bytes.extend_from_slice(body);
    bytes
}

/// A string with its length before it (section 1.5.3).
pub(super) fn push_string(bytes: &mut Vec<u8>, text: &str) {
    let length = u16::try_from(text.len()).expect("a test's names are short");
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_found_however_the_stream_is_divided() {
        let mut publish = Vec::new();
        push_string(&mut publish, "a/b");
        publish.extend([0, 7]);
        publish.extend([b'x'; 200]);
        let stream = [encode(0x3a, &publish), encode(0x40, &[1, 2])].concat();
        for size in 1..stream.len() {
            let mut frames = Frames::default();
            let mut found = Vec::new();
            for part in stream.chunks(size) {
                frames.push(part);
                found.extend(frames.by_ref());
            }
            let message = found[0].message(Version::V3).expect("it is a PUBLISH");
            assert_eq!((message.topic.as_str(), message.packet_id, message.qos, message.dup), ("a/b", 7, 1, true));
            assert_eq!(message.payload, [b'x'; 200]);
            assert_eq!((found[1].kind, found[1].packet_id()), (kind::PUBACK, 0x0102));
            assert_eq!((found[1].start, frames.pushed()), (stream.len() as u64 - 4, stream.len() as u64));
        }
    }

    #[test]
    fn properties_come_before_the_payload_in_version_5() {
        let mut publish = Vec::new();
        push_string(&mut publish, "t");
        publish.extend([2, 0x01, 0x01]);
        publish.extend(b"{}");
        let mut frames = Frames::default();
        frames.push(&encode(0x30, &publish));
        let message = frames.next().and_then(|frame| frame.message(Version::V5)).expect("it is a PUBLISH");
        assert_eq!((message.packet_id, &message.payload[..]), (0, &b"{}"[..]));
    }
}
