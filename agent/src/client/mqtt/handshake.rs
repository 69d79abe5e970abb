//! How a connection begins: CONNECT and CONNACK (MQTT 3.1.1 and 5, sections 3.1 and 3.2).

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rumqttc::{
    mqttbytes::{Protocol, v4},
    v5::mqttbytes::v5,
};

use super::{
    Error, Qos, Version,
    connection::Limits,
    frame,
    packet::{self, CONNACK, Decoded},
    reason, violation,
};
use crate::secret::Secret;

/// What a client says of itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// The protocol's version.
    pub version: Version,
    /// What the broker knows the session by.
    pub client_id: String,
    /// How long the broker keeps the session of a client that is away, in whole seconds. Zero: it begins anew each
    /// time. MQTT 3.1.1 knows only for how long the broker likes, or not at all.
    pub session_expiry: Duration,
    /// Messages of QoS 1 and 2 that the broker may send before one is acknowledged. MQTT 3.1.1 cannot say so.
    pub receive_maximum: u16,
    /// The largest packet that is held whole. The broker is not told: it would drop a larger message in silence
    /// (MQTT 5, 3.1.2.11.4), where this way it comes, cut.
    pub max_packet_bytes: usize,
    /// The longest silence.
    pub keep_alive: Duration,
    /// Who it is.
    pub user: Option<String>,
    /// And its proof. Not without a user.
    pub password: Option<Secret>,
    /// What the broker publishes when the connection is lost.
    pub will: Option<Will>,
    /// How long it may take until the broker has answered.
    pub timeout: Duration,
}

/// A last will: kept by the broker, at QoS 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Will {
    /// Where it is published.
    pub topic: String,
    /// What it says.
    pub payload: Vec<u8>,
}

/// What a broker answered.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Welcome {
    pub(super) session_present: bool,
    pub(super) limits: Limits,
    /// The longest silence: the shorter of what we and the broker want.
    pub(super) keep_alive: Duration,
    /// How long the broker keeps the session, where that is less than it was asked for.
    pub(super) session_expiry: Option<Duration>,
}

/// Writes the CONNECT.
pub(super) fn connect(options: &Options, output: &mut BytesMut) -> Result<(), Error> {
    let seconds = |time: Duration| u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
    let keep_alive = u16::try_from(options.keep_alive.as_secs()).unwrap_or(u16::MAX);
    let clean = options.session_expiry.is_zero();
    let client_id = options.client_id.clone();
    let password = options.password.as_ref().map(|password| password.expose().to_owned()).unwrap_or_default();
    if password.len() > usize::from(u16::MAX) {
        return Err(Error::Refused("the password is longer than MQTT allows: name another password_file".to_owned()));
    }
    let login = options.user.clone().map(|user| (user, password));
    let packet = match options.version {
        Version::V3 => Decoded::V3(v4::Packet::Connect(v4::Connect {
            protocol: Protocol::V4,
            keep_alive,
            client_id,
            clean_session: clean,
            last_will: options
                .will
                .clone()
                .map(|will| v4::LastWill::new(will.topic, will.payload, packet::codec_qos(Qos::AtLeastOnce), true)),
            login: login.map(|(user, password)| v4::Login::new(user, password)),
        })),
        Version::V5 => {
            let properties = v5::ConnectProperties {
                session_expiry_interval: Some(seconds(options.session_expiry)),
                receive_maximum: Some(options.receive_maximum),
                ..v5::ConnectProperties::new()
            };
            let connect = v5::Connect { keep_alive, client_id, clean_start: clean, properties: Some(properties) };
            let will = options.will.clone().map(|will| {
                v5::LastWill::new(will.topic, will.payload, packet::codec_qos5(Qos::AtLeastOnce), true, None)
            });
            let login = login.map(|(user, password)| v5::Login::new(user, password));
            Decoded::V5(v5::Packet::Connect(connect, will, login))
        }
    };
    packet::write(&packet, output, None, "the request for a connection")
}

/// Reads the answer to a CONNECT.
pub(super) fn welcome(options: &Options, packet: &Bytes) -> Result<Welcome, Error> {
    let (first, body) = (packet[0], frame::body(packet));
    let [flags, code, ..] = *body else { return Err(violation("its first packet is too short")) };
    if first != CONNACK {
        return Err(violation(format_args!("its first packet begins with 0x{first:02x}")));
    }
    // By hand where it can be: a broker that knows only 3.1.1 has no properties in its answer.
    if options.version == Version::V3 || body.len() == 2 {
        return match code {
            0 => Ok(Welcome {
                session_present: flags & 1 == 1,
                limits: Limits::NONE,
                keep_alive: options.keep_alive,
                session_expiry: None,
            }),
            code => Err(reason::connect(options.version, code, None)),
        };
    }
    let decoded = match packet::decode(options.version, packet) {
        Ok(Decoded::V5(v5::Packet::ConnAck(answer))) => answer,
        Ok(other) => return Err(violation(format_args!("its first packet is {other:?}"))),
        Err(error) if code == 0 => return Err(error),
        Err(_) => return Err(reason::connect(options.version, code, None)),
    };
    let said = decoded.properties;
    if decoded.code != v5::ConnectReturnCode::Success {
        let details = said.as_ref().and_then(|said| said.reason_string.as_deref());
        return Err(reason::connect(options.version, code, details));
    }
    let of = |get: fn(&v5::ConnAckProperties) -> Option<u8>| said.as_ref().and_then(get);
    let keep_alive = said.as_ref().and_then(|said| said.server_keep_alive).filter(|seconds| *seconds > 0);
    let limits = Limits {
        qos: match of(|said| said.max_qos) {
            Some(0) => Qos::AtMostOnce,
            Some(1) => Qos::AtLeastOnce,
            _ => Qos::ExactlyOnce,
        },
        retain: of(|said| said.retain_available) != Some(0),
        max_packet_bytes: said.as_ref().and_then(|said| said.max_packet_size),
    };
    // A broker that allows a longer silence is not to be missed later for that.
    let keep_alive = keep_alive.map_or(options.keep_alive, |s| options.keep_alive.min(Duration::from_secs(s.into())));
    let session_expiry = said.as_ref().and_then(|said| said.session_expiry_interval);
    let session_expiry = session_expiry.map(|seconds| Duration::from_secs(seconds.into()));
    let session_expiry = session_expiry.filter(|kept| kept.as_secs() < options.session_expiry.as_secs());
    Ok(Welcome { session_present: decoded.session_present, limits, keep_alive, session_expiry })
}
