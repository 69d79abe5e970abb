//! Messages of QoS 1 over a bare socket, as fast as the other side acknowledges them (MQTT 5; section numbers are of
//! that standard).

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use crate::telemetry::Telemetry;

/// Messages that are made; then they come again.
const DIFFERENT: usize = 16_384;
/// Bytes written at once.
const CHUNK_BYTES: usize = 64 << 10;

/// Packet types (section 2.1.2), in the upper half of the first byte.
pub(super) mod kind {
    pub(crate) const CONNECT: u8 = 1;
    pub(crate) const CONNACK: u8 = 2;
    pub(crate) const PUBACK: u8 = 4;
    pub(crate) const SUBSCRIBE: u8 = 8;
    pub(crate) const PINGREQ: u8 = 12;
}

/// Telemetry as PUBLISH packets of one topic (section 3.3), which lack only their identifiers.
pub(crate) struct Load {
    packets: Vec<Vec<u8>>,
    id_at: usize,
}

impl Load {
    /// What machine number `seed` says.
    pub(crate) fn new(topic: &str, seed: u64) -> Self {
        let mut telemetry = Telemetry::new(seed);
        let packets = (0..DIFFERENT).map(|_| {
            let body = telemetry.body();
            let length = 2 + topic.len() + 2 + 1 + body.len();
            assert!((128..16_384).contains(&length), "a length of two bytes");
            let mut packet = vec![0x32, (length & 0x7f) as u8 | 0x80, (length >> 7) as u8];
            packet.extend((topic.len() as u16).to_be_bytes());
            packet.extend(topic.as_bytes());
            packet.extend([0, 0, 0]);
            packet.extend(&body[..]);
            packet
        });
        Self { packets: packets.collect(), id_at: 5 + topic.len() }
    }

    fn append(&self, number: u64, to: &mut Vec<u8>) {
        let packet = &self.packets[number as usize % DIFFERENT];
        let id_at = to.len() + self.id_at;
        to.extend_from_slice(packet);
        to[id_at..id_at + 2].copy_from_slice(&((number % 65_535) as u16 + 1).to_be_bytes());
    }
}

/// One side of a connection.
pub(super) struct Peer {
    stream: TcpStream,
    received: Vec<u8>,
    at: usize,
}

impl Peer {
    pub(super) fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("a socket takes options");
        Self { stream, received: Vec::new(), at: 0 }
    }

    pub(super) fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the other side reads");
    }

    /// The next packet, of a type that must come now.
    pub(super) fn expect(&mut self, kind: u8) -> Vec<u8> {
        loop {
            if let Some((found, body)) = self.take() {
                assert_eq!(found, kind, "the type of the next packet");
                return self.received[body].to_vec();
            }
            self.read();
        }
    }

    /// Sends `count` messages, at most `window` of them not acknowledged, and returns when all are.
    pub(super) fn publish(&mut self, load: &Load, count: u64, window: u64) {
        let (mut sent, mut acknowledged) = (0, 0);
        let mut chunk = Vec::with_capacity(2 * CHUNK_BYTES);
        while acknowledged < count {
            chunk.clear();
            while sent < count && sent - acknowledged < window && chunk.len() < CHUNK_BYTES {
                load.append(sent, &mut chunk);
                sent += 1;
            }
            self.write(&chunk);
            if sent < count && sent - acknowledged < window {
                continue;
            }
            self.read();
            while let Some((kind, _)) = self.take() {
                match kind {
                    kind::PUBACK => acknowledged += 1,
                    kind::PINGREQ => self.write(&[0xd0, 0]),
                    other => panic!("a packet of type {other} instead of an acknowledgement"),
                }
            }
        }
    }

    /// The type of a packet that is there as a whole, and where its body is.
    fn take(&mut self) -> Option<(u8, std::ops::Range<usize>)> {
        let bytes = &self.received[self.at..];
        let (mut length, mut header) = (0, 1);
        loop {
            let byte = *bytes.get(header)?;
            length |= usize::from(byte & 0x7f) << (7 * (header - 1));
            header += 1;
            if byte & 0x80 == 0 {
                break;
            }
        }
        let (kind, begin) = (*bytes.first()? >> 4, self.at + header);
        if self.received.len() < begin + length {
            return None;
        }
        self.at = begin + length;
        Some((kind, begin..begin + length))
    }

    fn read(&mut self) {
        self.received.drain(..std::mem::take(&mut self.at));
        let mut bytes = [0; 16 << 10];
        let length = self.stream.read(&mut bytes).expect("the other side writes");
        assert!(length > 0, "the other side has closed the connection");
        self.received.extend_from_slice(&bytes[..length]);
    }
}
