//! A message, as the broker sends it (MQTT 3.1.1 and 5, section 3.3).

use bytes::{Buf, Bytes};

use super::{Error, Qos, Version, violation};

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publish {
    /// Where it was published.
    pub topic: String,
    /// How sure of it the broker is: the lower of the publisher's and the subscription's.
    pub qos: Qos,
    /// Whether it was kept by the broker and is sent because of a new subscription.
    pub retain: bool,
    /// Whether the broker has sent it before.
    pub again: bool,
    /// What it is acknowledged by. 0 with [`Qos::AtMostOnce`], and only then.
    pub packet_id: u16,
    /// What MQTT 5 sends beside the payload.
    pub properties: Properties,
    /// The payload: its first bytes, if [`Publish::cut_from`] says so.
    pub payload: Bytes,
    /// Where the packet was too large: how many bytes it had. Only the first of its payload were kept.
    pub cut_from: Option<usize>,
}

/// The properties of a message that mean something to whoever receives it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Properties {
    /// The MIME type of the payload.
    pub content_type: Option<String>,
    /// Where an answer is awaited.
    pub response_topic: Option<String>,
    /// What the answer must carry.
    pub correlation_data: Option<Bytes>,
    /// The publisher's own, in order. A name may occur more than once.
    pub user: Vec<(String, String)>,
}

impl Publish {
    /// Reads what is behind the fixed header. `flags` are the low four bits of its first byte.
    ///
    /// Where `cut_from` says that `rest` is only the beginning, properties that do not fit into it are left out.
    pub(super) fn read(version: Version, flags: u8, mut rest: Bytes, cut_from: Option<usize>) -> Result<Self, Error> {
        let qos = match (flags >> 1) & 0b11 {
            0 => Qos::AtMostOnce,
            1 => Qos::AtLeastOnce,
            2 => Qos::ExactlyOnce,
            _ => return Err(violation("a message has a QoS of 3")),
        };
        let topic = text(&mut rest)?;
        if topic.is_empty() || topic.contains(['#', '+', '\0']) {
            return Err(violation("a message has a topic that is none"));
        }
        let packet_id = if qos == Qos::AtMostOnce { 0 } else { u16(&mut rest)? };
        if qos != Qos::AtMostOnce && packet_id == 0 {
            return Err(violation("a message has the packet identifier 0"));
        }
        let mut properties = Properties::default();
        if version == Version::V5 {
            let length = variable(&mut rest)?;
            if length <= rest.len() {
                properties = Properties::read(rest.split_to(length))?;
            } else if cut_from.is_some() {
                rest.clear();
            } else {
                return Err(short());
            }
        }
        let (again, retain) = (flags & 0b1000 != 0, flags & 1 != 0);
        Ok(Self { topic, qos, retain, again, packet_id, properties, payload: rest, cut_from })
    }
}

impl Properties {
    /// MQTT 5, section 3.3.2.3.
    fn read(mut rest: Bytes) -> Result<Self, Error> {
        let mut properties = Self::default();
        while !rest.is_empty() {
            match rest.get_u8() {
                0x01 => skip(&mut rest, 1)?,
                0x02 => skip(&mut rest, 4)?,
                0x03 => properties.content_type = Some(text(&mut rest)?),
                0x08 => properties.response_topic = Some(text(&mut rest)?),
                0x09 => properties.correlation_data = Some(bytes(&mut rest)?),
                0x0b => _ = variable(&mut rest)?,
                0x23 => return Err(violation("a message has a topic alias, and none was allowed")),
                0x26 => properties.user.push((text(&mut rest)?, text(&mut rest)?)),
                other => return Err(violation(format_args!("a message has the property 0x{other:02x}"))),
            }
        }
        Ok(properties)
    }
}

fn short() -> Error {
    violation("a message is shorter than it says")
}

fn skip(rest: &mut Bytes, length: usize) -> Result<(), Error> {
    if rest.len() < length {
        return Err(short());
    }
    rest.advance(length);
    Ok(())
}

fn u16(rest: &mut Bytes) -> Result<u16, Error> {
    rest.try_get_u16().map_err(|_| short())
}

fn bytes(rest: &mut Bytes) -> Result<Bytes, Error> {
    let length = usize::from(u16(rest)?);
    if rest.len() < length { Err(short()) } else { Ok(rest.split_to(length)) }
}

fn text(rest: &mut Bytes) -> Result<String, Error> {
    let text = bytes(rest)?;
    let text = std::str::from_utf8(&text).map_err(|_| violation("a message has text that is not UTF-8"))?;
    Ok(text.to_owned())
}

/// A variable byte integer (MQTT 5, section 1.5.5).
fn variable(rest: &mut Bytes) -> Result<usize, Error> {
    let mut value = 0;
    for shift in [0, 7, 14, 21] {
        let byte = rest.try_get_u8().map_err(|_| short())?;
        value |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(violation("a message has a length that is none"))
}
