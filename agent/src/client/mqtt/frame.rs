//! From bytes to packets: where one ends and the next begins (MQTT 3.1.1 and 5, section 2.2).

use bytes::{Buf, Bytes, BytesMut};

use super::{Error, Publish, Version, violation};

/// The first byte of a PUBLISH, without its flags.
pub(super) const PUBLISH: u8 = 0x30;
/// As much of a message that is too large is looked at: its topic, which has at most 64 KiB, and its properties.
const LARGE_HEAD_BYTES: usize = 80 << 10;
/// As much of its payload is kept.
pub(super) const KEPT_BYTES: usize = 4 << 10;

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// A message, cut where it was too large.
    Publish(Publish),
    /// Any other packet, with its fixed header.
    Control(Bytes),
}

/// Cuts packets out of what was read.
#[derive(Debug)]
pub(super) struct Frames {
    version: Version,
    /// The largest packet that is held whole.
    max_packet_bytes: usize,
    /// A message that was too large, and how many of its bytes have yet to pass.
    passing: Option<(Publish, usize)>,
}

/// The fixed header of a packet.
struct Header {
    first: u8,
    /// Its own length.
    bytes: usize,
    /// The length of what follows it.
    remaining: usize,
}

impl Frames {
    pub(super) fn new(version: Version, max_packet_bytes: usize) -> Self {
        Self { version, max_packet_bytes, passing: None }
    }

    /// The next packet in `input`, if it is there.
    pub(super) fn next(&mut self, input: &mut BytesMut) -> Result<Option<Frame>, Error> {
        if self.passing.is_some() {
            return Ok(self.pass(input));
        }
        let Some(header) = Header::read(input)? else { return Ok(None) };
        let whole = header.bytes + header.remaining;
        if whole > self.max_packet_bytes {
            return self.begin_large(&header, input);
        }
        if input.len() < whole {
            input.reserve(whole - input.len());
            return Ok(None);
        }
        let mut packet = input.split_to(whole).freeze();
        if header.first & 0xf0 != PUBLISH {
            return Ok(Some(Frame::Control(packet)));
        }
        packet.advance(header.bytes);
        let mut publish = Publish::read(self.version, header.first & 0x0f, packet, None)?;
        // A copy: it is to keep no memory but its own, whatever was read with it.
        publish.payload = Bytes::copy_from_slice(&publish.payload);
        Ok(Some(Frame::Publish(publish)))
    }

    fn begin_large(&mut self, header: &Header, input: &mut BytesMut) -> Result<Option<Frame>, Error> {
        if header.first & 0xf0 != PUBLISH {
            return Err(violation(format_args!("a packet that is no message has {} bytes", header.remaining)));
        }
        let head = header.remaining.min(LARGE_HEAD_BYTES);
        if input.len() < header.bytes + head {
            input.reserve(header.bytes + head - input.len());
            return Ok(None);
        }
        let whole = header.bytes + header.remaining;
        input.advance(header.bytes);
        let mut publish = Publish::read(self.version, header.first & 0x0f, input.split_to(head).freeze(), Some(whole))?;
        publish.payload = Bytes::copy_from_slice(&publish.payload[..publish.payload.len().min(KEPT_BYTES)]);
        self.passing = Some((publish, header.remaining - head));
        Ok(self.pass(input))
    }

    /// Lets the rest of a message that is too large go by.
    fn pass(&mut self, input: &mut BytesMut) -> Option<Frame> {
        let (_, left) = self.passing.as_mut()?;
        let passed = input.len().min(*left);
        input.advance(passed);
        *left -= passed;
        if *left > 0 {
            return None;
        }
        self.passing.take().map(|(publish, _)| Frame::Publish(publish))
    }
}

/// What follows the fixed header of a whole packet.
pub(super) fn body(packet: &[u8]) -> &[u8] {
    let length_bytes = packet.iter().skip(1).take_while(|byte| **byte & 0x80 != 0).count() + 1;
    packet.get(1 + length_bytes..).unwrap_or_default()
}

impl Header {
    /// `None`: there is more to come.
    fn read(input: &[u8]) -> Result<Option<Self>, Error> {
        let Some((&first, length)) = input.split_first() else { return Ok(None) };
        let mut remaining = 0;
        for (at, byte) in length.iter().take(4).enumerate() {
            remaining |= usize::from(byte & 0x7f) << (7 * at);
            if byte & 0x80 == 0 {
                return Ok(Some(Self { first, bytes: at + 2, remaining }));
            }
        }
        if length.len() < 4 { Ok(None) } else { Err(violation("a packet has a length that is none")) }
    }
}
