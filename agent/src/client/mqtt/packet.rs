//! What comes from a broker besides messages, and what is said to it once connected.

use bytes::{BufMut, Bytes, BytesMut};
use rumqttc::{
    mqttbytes::{self, v4},
    v5::mqttbytes::{self as mqttbytes5, v5},
};

use super::{Error, Publish, Qos, Version, frame, reason, violation};

/// Something that a broker sent.
#[derive(Debug, PartialEq, Eq)]
pub enum Incoming {
    /// A message.
    Publish(Publish),
    /// The broker lets go of the message of QoS 2 that has this packet identifier.
    Release(u16),
    /// What became of each filter that was subscribed to: what was granted, or in words why nothing was.
    Subscribed(Vec<Result<Qos, String>>),
}

/// An answer to a message, or to its release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acknowledgement {
    /// To a message of QoS 1.
    PubAck,
    /// To a message of QoS 2.
    PubRec,
    /// To its release.
    PubComp,
    /// To the release of a message that nobody has.
    PubCompUnknown,
}

/// The first bytes of packets, with the flags that they must have.
pub(super) const CONNACK: u8 = 0x20;
const PUBACK: u8 = 0x40;
const PUBREC: u8 = 0x50;
const PUBREL: u8 = 0x62;
const PUBCOMP: u8 = 0x70;
const SUBACK: u8 = 0x90;
const PINGREQ: u8 = 0xc0;
const PINGRESP: u8 = 0xd0;
const DISCONNECT: u8 = 0xe0;
/// MQTT 5, section 3.7.2.1.
const PACKET_IDENTIFIER_NOT_FOUND: u8 = 0x92;

/// A packet as the codec reads it.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one at a time, and never a message that was received")]
pub(super) enum Decoded {
    V3(v4::Packet),
    V5(v5::Packet),
}

/// Reads one whole packet with the codec.
pub(super) fn decode(version: Version, packet: &Bytes) -> Result<Decoded, Error> {
    let mut stream = BytesMut::from(packet.as_ref());
    match version {
        Version::V3 => v4::Packet::read(&mut stream, packet.len()).map(Decoded::V3).map_err(violation),
        Version::V5 => v5::Packet::read(&mut stream, None).map(Decoded::V5).map_err(violation),
    }
}

/// What `packet`, which is no message, says to a client that is connected. `None`: nothing that matters.
pub(super) fn incoming(version: Version, packet: &Bytes) -> Result<Option<Incoming>, Error> {
    match packet[0] {
        PINGRESP | PUBACK => Ok(None),
        DISCONNECT if version == Version::V5 => Err(disconnect(packet)),
        PUBREL | SUBACK => match decode(version, packet)? {
            Decoded::V3(v4::Packet::PubRel(release)) => released(release.pkid),
            Decoded::V5(v5::Packet::PubRel(release)) => released(release.pkid),
            Decoded::V3(v4::Packet::SubAck(answer)) => Ok(Some(subscribed(packet, answer.return_codes.len()))),
            Decoded::V5(v5::Packet::SubAck(answer)) => Ok(Some(subscribed(packet, answer.return_codes.len()))),
            other => Err(violation(format_args!("it sent {other:?}"))),
        },
        first => Err(violation(format_args!("it sent a packet that begins with 0x{first:02x}"))),
    }
}

fn released(packet_id: u16) -> Result<Option<Incoming>, Error> {
    match packet_id {
        0 => Err(violation("a release has the packet identifier 0")),
        _ => Ok(Some(Incoming::Release(packet_id))),
    }
}

/// The reason codes are the last bytes of the packet (MQTT 3.1.1 and 5, section 3.9.3).
fn subscribed(packet: &Bytes, filters: usize) -> Incoming {
    let granted = |code: &u8| match code {
        0 => Ok(Qos::AtMostOnce),
        1 => Ok(Qos::AtLeastOnce),
        2 => Ok(Qos::ExactlyOnce),
        0x80 => Err("it gave no reason; check what the broker allows this client".to_owned()),
        code => Err(reason::words(*code)),
    };
    Incoming::Subscribed(packet[packet.len() - filters..].iter().map(granted).collect())
}

/// MQTT 5, section 3.14. The codec wants more of it than there must be.
fn disconnect(packet: &Bytes) -> Error {
    let code = frame::body(packet).first().copied().unwrap_or_default();
    let details = match decode(Version::V5, packet) {
        Ok(Decoded::V5(v5::Packet::Disconnect(packet))) => packet.properties.and_then(|p| p.reason_string),
        _ => None,
    };
    reason::disconnect(code, details.as_deref())
}

/// Writes an acknowledgement.
pub(super) fn acknowledge(version: Version, output: &mut BytesMut, answer: Acknowledgement, packet_id: u16) {
    let first = match answer {
        Acknowledgement::PubAck => PUBACK,
        Acknowledgement::PubRec => PUBREC,
        Acknowledgement::PubComp | Acknowledgement::PubCompUnknown => PUBCOMP,
    };
    let [high, low] = packet_id.to_be_bytes();
    if version == Version::V5 && answer == Acknowledgement::PubCompUnknown {
        output.put_slice(&[first, 3, high, low, PACKET_IDENTIFIER_NOT_FOUND]);
    } else {
        output.put_slice(&[first, 2, high, low]);
    }
}

/// Asks for a sign of life.
pub(super) fn ping(output: &mut BytesMut) {
    output.put_slice(&[PINGREQ, 0]);
}

/// Says goodbye: the will is not published, and the session is kept as was agreed.
pub(super) fn goodbye(output: &mut BytesMut) {
    output.put_slice(&[DISCONNECT, 0]);
}

/// Writes a subscription.
pub(super) fn subscribe(
    version: Version,
    output: &mut BytesMut,
    packet_id: u16,
    filters: &[String],
    qos: Qos,
    max_bytes: Option<u32>,
) -> Result<(), Error> {
    let packet = match version {
        Version::V3 => {
            let filters =
                filters.iter().map(|filter| v4::SubscribeFilter { path: filter.clone(), qos: codec_qos(qos) });
            Decoded::V3(v4::Packet::Subscribe(v4::Subscribe { pkid: packet_id, filters: filters.collect() }))
        }
        Version::V5 => {
            let filters = filters.iter().map(|filter| v5::Filter {
                path: filter.clone(),
                qos: codec_qos5(qos),
                // Its status comes back to nobody. For what is shared that must not be said (MQTT 5, 3.8.3.1).
                nolocal: !filter.starts_with("$share/"),
                preserve_retain: false,
                // Shared subscriptions are sent none anyway. Else each reconnection would bring all of them again.
                retain_forward_rule: v5::RetainForwardRule::OnNewSubscribe,
            });
            Decoded::V5(v5::Packet::Subscribe(v5::Subscribe {
                pkid: packet_id,
                filters: filters.collect(),
                properties: None,
            }))
        }
    };
    write(&packet, output, max_bytes, "the subscription")
}

/// Writes a message that the broker keeps, of QoS 1 or less.
pub(super) fn publish(
    version: Version,
    output: &mut BytesMut,
    packet_id: u16,
    topic: &str,
    payload: Vec<u8>,
    limits: super::connection::Limits,
) -> Result<(), Error> {
    let qos = limits.qos.min(Qos::AtLeastOnce);
    let packet = match version {
        Version::V3 => Decoded::V3(v4::Packet::Publish(v4::Publish {
            pkid: packet_id,
            retain: limits.retain,
            ..v4::Publish::new(topic, codec_qos(qos), payload)
        })),
        Version::V5 => Decoded::V5(v5::Packet::Publish(v5::Publish {
            pkid: packet_id,
            retain: limits.retain,
            ..v5::Publish::new(topic, codec_qos5(qos), payload, None)
        })),
    };
    write(&packet, output, limits.max_packet_bytes, "the status")
}

/// Writes `packet`, whose name is `what`, unless the broker does not take one so large.
pub(super) fn write(packet: &Decoded, output: &mut BytesMut, max_bytes: Option<u32>, what: &str) -> Result<(), Error> {
    let written = match packet {
        Decoded::V3(packet) => packet.write(output, usize::MAX).map_err(|error| error.to_string()),
        Decoded::V5(packet) => packet.write(output, max_bytes).map_err(|error| error.to_string()),
    };
    written.map(drop).map_err(|error| Error::Refused(format!("cannot send {what} to the broker: {error}")))
}

pub(super) fn codec_qos(qos: Qos) -> mqttbytes::QoS {
    match qos {
        Qos::AtMostOnce => mqttbytes::QoS::AtMostOnce,
        Qos::AtLeastOnce => mqttbytes::QoS::AtLeastOnce,
        Qos::ExactlyOnce => mqttbytes::QoS::ExactlyOnce,
    }
}

pub(super) fn codec_qos5(qos: Qos) -> mqttbytes5::QoS {
    match qos {
        Qos::AtMostOnce => mqttbytes5::QoS::AtMostOnce,
        Qos::AtLeastOnce => mqttbytes5::QoS::AtLeastOnce,
        Qos::ExactlyOnce => mqttbytes5::QoS::ExactlyOnce,
    }
}
