//! Reason codes in words (MQTT 5, section 2.4; MQTT 3.1.1, section 3.2.2.3), and what to do about them.

use super::{Error, Version};

/// What a broker means that answers a CONNECT with `code`, which is not 0.
pub(super) fn connect(version: Version, code: u8, details: Option<&str>) -> Error {
    let why = match (version, code) {
        // A broker that knows only 3.1.1 answers in its own way.
        (_, 1) | (Version::V5, 0x84) => {
            return Error::Refused(match version {
                Version::V5 => "the broker does not speak MQTT 5: set version = \"3.1.1\"".to_owned(),
                Version::V3 => "the broker does not speak MQTT 3.1.1: set version = \"5\"".to_owned(),
            });
        }
        (Version::V3, 2) => words(0x85),
        (Version::V3, 3) => words(0x88),
        (Version::V3, 4) => words(0x86),
        (Version::V3, 5) => words(0x87),
        (_, code) => words(code),
    };
    let remedy = match (version, code) {
        (Version::V3, 2) | (_, 0x85) => "; set another client_id",
        (Version::V3, 4 | 5) | (_, 0x86 | 0x87 | 0x8c) => "; check user, password_file and what the broker allows",
        (_, 0x9a) => "; remove status_topic, for the broker keeps no messages",
        (_, 0x9b) => "; remove status_topic, for the broker does not take messages of QoS 1",
        _ => "",
    };
    let message = format!("the broker refuses the connection: {why}{}{remedy}", in_brackets(details));
    match (version, code) {
        (Version::V3, 3) | (_, 0x88) => Error::Lost(message),
        _ => Error::Refused(message),
    }
}

/// What a broker means that says goodbye with `code`.
pub(super) fn disconnect(code: u8, details: Option<&str>) -> Error {
    let message = format!("the broker ended the connection: {}{}", words(code), in_brackets(details));
    match code {
        0x8e => Error::Refused(format!("{message}; give each client an id of its own")),
        0x87 | 0x89 | 0x95..=0x98 | 0x9c | 0x9d | 0x9f => Error::Refused(message),
        _ => Error::Lost(message),
    }
}

fn in_brackets(details: Option<&str>) -> String {
    details.map(|details| format!(" ({details})")).unwrap_or_default()
}

/// A reason code of MQTT 5.
pub(super) fn words(code: u8) -> String {
    let words = match code {
        0x00 => "it did so normally",
        0x81 => "a packet was malformed",
        0x82 => "a packet was not expected",
        0x83 => "it does not take this, for a reason of its own",
        0x84 => "it does not speak this version of MQTT",
        0x85 => "it does not take this client_id",
        0x86 => "user or password is wrong",
        0x87 => "this client is not authorised",
        0x88 => "it is not available",
        0x89 => "it is busy",
        0x8a => "this client is banned",
        0x8b => "it is shutting down",
        0x8c => "it wants another method of authentication",
        0x8d => "it heard nothing of this client for too long",
        0x8e => "another client has connected with the same client_id",
        0x8f => "it does not take this topic filter",
        0x90 => "it does not take this topic",
        0x91 => "the packet identifier is in use",
        0x93 => "it was sent more at a time than it allows",
        0x95 => "a packet was too large",
        0x96 => "messages came too fast",
        0x97 => "a quota is exceeded",
        0x98 => "an administrator did it",
        0x99 => "the payload is not what it was said to be",
        0x9a => "it keeps no messages",
        0x9b => "it does not have this QoS",
        0x9c | 0x9d => "another server is to be used",
        0x9e => "it has no shared subscriptions",
        0x9f => "connections came too fast",
        0xa0 => "the connection has lasted as long as it may",
        0xa1 => "it has no subscription identifiers",
        0xa2 => "it has no subscriptions with wildcards",
        _ => return format!("it gave the reason 0x{code:02x}"),
    };
    words.to_owned()
}
