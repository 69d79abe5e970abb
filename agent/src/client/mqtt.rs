//! MQTT 3.1.1 and 5, as a subscriber speaks it: one connection, and what comes and goes on it.
//!
//! The packets are read and written by rumqttc's codec; the loop around them is our own, for rumqttc's forgets which
//! messages of QoS 2 it has when it reconnects, answers their release by itself, keeps acknowledgements from one
//! connection to the next, and gives up on a packet that is too large. Only PUBLISH is read here ([`publish`]): the
//! codec takes part of a message's properties for its payload where a subscription identifier is among them.
//!
//! Nothing here reconnects, and nothing is acknowledged but what the caller says.

mod address;
mod connection;
mod frame;
mod handshake;
mod packet;
mod publish;
mod pulse;
mod reason;
mod transport;

use std::fmt;

pub use self::{
    address::Address,
    connection::{Connection, Dialled},
    handshake::{Options, Will},
    packet::{Acknowledgement, Incoming},
    publish::{Properties, Publish},
    transport::Broker,
};

/// The version of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// MQTT 3.1.1.
    V3,
    /// MQTT 5.
    V5,
}

/// Quality of service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Qos {
    /// 0.
    AtMostOnce,
    /// 1.
    AtLeastOnce,
    /// 2.
    ExactlyOnce,
}

/// Why there is no connection, or none any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// The network, or a broker that went away or did not keep to the protocol: worth trying again soon.
    Lost(String),
    /// The broker closed the connection and did not say why: worth trying again soon.
    Closed,
    /// The broker's answer, which will be the same until somebody changes something: worth trying again after a while.
    Refused(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost(why) | Self::Refused(why) => f.write_str(why),
            Self::Closed => f.write_str("the broker closed the connection"),
        }
    }
}

impl std::error::Error for Error {}

/// The broker did not keep to the protocol.
fn violation(what: impl fmt::Display) -> Error {
    Error::Lost(format!("the broker does not keep to the protocol: {what}"))
}

#[cfg(test)]
mod tests;
