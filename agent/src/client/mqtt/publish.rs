//! A message, as the broker sends it (MQTT 3.1.1 and 5, section 3.3).

use std::borrow::Cow;

use bytes::{Buf, Bytes};

use super::{Error, Qos, Version, violation};

/// So many of a publisher's own properties are read, and no more: each takes up much more memory than it has bytes.
pub(super) const MAX_USER_PROPERTIES: usize = 64;

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
    /// What is wrong with it, where it can be acknowledged all the same: were the connection given up instead, the
    /// broker would send it again for ever. What could be read of the topic and the properties is there.
    pub malformed: Option<String>,
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
        let mut malformed = None;
        let topic = text(&mut rest, &mut malformed).map_err(unreadable)?;
        if topic.is_empty() || topic.contains(['#', '+', '\0']) {
            malformed.get_or_insert_with(|| "it has a topic that is none".to_owned());
        }
        let packet_id = if qos == Qos::AtMostOnce { 0 } else { u16(&mut rest).map_err(unreadable)? };
        if qos != Qos::AtMostOnce && packet_id == 0 {
            return Err(violation("a message has the packet identifier 0"));
        }
        let mut properties = Properties::default();
        if version == Version::V5 {
            match variable(&mut rest) {
                Ok(length) if length <= rest.len() => {
                    if let Err(why) = properties.read(rest.split_to(length), &mut malformed) {
                        malformed.get_or_insert(why);
                    }
                }
                Ok(_) if cut_from.is_some() => rest.clear(),
                Ok(_) => malformed = malformed.or(Some(SHORT.to_owned())),
                Err(why) => malformed = malformed.or(Some(why)),
            }
        }
        let (again, retain) = (flags & 0b1000 != 0, flags & 1 != 0);
        Ok(Self { topic, qos, retain, again, packet_id, properties, payload: rest, cut_from, malformed })
    }
}

impl Properties {
    /// MQTT 5, section 3.3.2.3. Where it ends with an error, what came before is there.
    fn read(&mut self, mut rest: Bytes, malformed: &mut Option<String>) -> Result<(), String> {
        while !rest.is_empty() {
            match rest.get_u8() {
                0x01 => skip(&mut rest, 1)?,
                0x02 => skip(&mut rest, 4)?,
                0x03 => self.content_type = Some(text(&mut rest, malformed)?),
                0x08 => self.response_topic = Some(text(&mut rest, malformed)?),
                0x09 => self.correlation_data = Some(Bytes::copy_from_slice(&bytes(&mut rest)?)),
                0x0b => _ = variable(&mut rest)?,
                0x23 => return Err("it has a topic alias, and none was allowed".to_owned()),
                0x26 if self.user.len() == MAX_USER_PROPERTIES => {
                    return Err(format!(
                        "it has too many properties: more than {MAX_USER_PROPERTIES} of its publisher"
                    ));
                }
                0x26 => self.user.push((text(&mut rest, malformed)?, text(&mut rest, malformed)?)),
                other => return Err(format!("it has the property 0x{other:02x}, which no message has")),
            }
        }
        Ok(())
    }
}

/// Without its packet identifier it cannot be acknowledged.
fn unreadable(why: String) -> Error {
    violation(format_args!("of a message: {why}"))
}

const SHORT: &str = "it is shorter than it says";

fn skip(rest: &mut Bytes, length: usize) -> Result<(), String> {
    if rest.len() < length {
        return Err(SHORT.to_owned());
    }
    rest.advance(length);
    Ok(())
}

fn u16(rest: &mut Bytes) -> Result<u16, String> {
    rest.try_get_u16().map_err(|_| SHORT.to_owned())
}

fn bytes(rest: &mut Bytes) -> Result<Bytes, String> {
    let length = usize::from(u16(rest)?);
    if rest.len() < length { Err(SHORT.to_owned()) } else { Ok(rest.split_to(length)) }
}

/// A text. What of it is not UTF-8 is replaced, and makes the message malformed.
fn text(rest: &mut Bytes, malformed: &mut Option<String>) -> Result<String, String> {
    let text = bytes(rest)?;
    let text = String::from_utf8_lossy(&text);
    if let Cow::Owned(_) = text {
        malformed.get_or_insert_with(|| "it has a topic or a property that is not text in UTF-8".to_owned());
    }
    Ok(text.into_owned())
}

/// A variable byte integer (MQTT 5, section 1.5.5).
fn variable(rest: &mut Bytes) -> Result<usize, String> {
    let mut value = 0;
    for shift in [0, 7, 14, 21] {
        let byte = rest.try_get_u8().map_err(|_| SHORT.to_owned())?;
        value |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err("it has a length that is none".to_owned())
}
