//! `type = "mqtt"`.

use std::time::Duration;

use forebay_buffer::BodyKind;

use crate::{
    client::mqtt::{Address, Qos, Version},
    config::{
        key::{Key, Schema},
        kind::{
            BrokerUrl, Choice, Count, FilePath, MessageIdentifier, MessageKey, MqttText, SecretText, Size, Time, Topic,
            TopicFilters, covers,
        },
        reading::Section,
        report::Reported,
        tls::{self, TLS},
    },
    secret::SecretSource,
    source::mqtt::{Dedupe, Identifier, Key as MessageKeySource, Settings, Shape},
};

/// Room for a topic and for properties, besides the largest event.
const HEADER_BYTES: usize = 128 << 10;

pub(super) static MQTT: Schema = Schema {
    name: "sources.NAME",
    variant: "mqtt",
    doc: "Messages from an MQTT broker. They are acknowledged when they are on disk.",
    keys: &[
        &URL,
        &VERSION,
        &TOPICS,
        &QOS,
        &CLIENT_ID,
        &USER,
        &PASSWORD,
        &PASSWORD_FILE,
        &KEEP_ALIVE,
        &SESSION_EXPIRY,
        &RECEIVE_MAXIMUM,
        &MAX_PACKET,
        &MAX_UNACKNOWLEDGED,
        &DECODE,
        &KEY,
        &PARTITION_LEVEL,
        &STATUS_TOPIC,
        &CONNECT_TIMEOUT,
    ],
    tables: &[&DEDUPE, &TLS],
};

static URL: Key<BrokerUrl> = Key::required("url", BrokerUrl, "The broker.");

static VERSION: Key<Choice<Version>> = Key::with_default(
    "version",
    Choice { what: "version of MQTT", of: &[("5", Version::V5), ("3.1.1", Version::V3)] },
    r#""5""#,
    "The version of the protocol.",
);

static TOPICS: Key<TopicFilters> = Key::required(
    "topics",
    TopicFilters,
    "What to subscribe to. \"$share/GROUP/TOPIC\" shares the messages of a topic among all subscribers of a group.",
);

static QOS: Key<Count> = Key::with_default(
    "qos",
    Count { min: 0, max: 2 },
    "1",
    "The highest quality of service that the broker may send with. A message has the lower of this and what it was \
     published with. \
     With 0 the broker drops what it cannot send; with 1 it may send twice; with 2 each message is stored once.",
);

static CLIENT_ID: Key<MqttText> = Key::optional(
    "client_id",
    MqttText,
    "the agent's id, \"-\" and the source's name",
    "What the broker knows the session by. No other client may have it. If it changes, also because the agent's \
     id or the source's name does, what the broker keeps for the former session never comes.",
);

static USER: Key<MqttText> = Key::optional("user", MqttText, "none is sent", "The name to log in with.");

static PASSWORD: Key<SecretText> =
    Key::optional("password", SecretText, "none is sent, unless password_file is given", "The user's password.");

static PASSWORD_FILE: Key<FilePath> = Key::optional(
    "password_file",
    FilePath,
    "none is sent, unless password is given",
    "A file that holds the password, such as \"${CREDENTIALS_DIRECTORY}/mqtt\". It is read again when it changes.",
);

static KEEP_ALIVE: Key<Time> = Key::with_default(
    "keep_alive",
    Time { min: Duration::from_secs(5), max: Duration::from_secs(65_535) },
    r#""30s""#,
    "The longest silence on a connection. A broker that does not answer for this long is given up.",
);

static SESSION_EXPIRY: Key<Time> = Key::with_default(
    "session_expiry",
    Time { min: Duration::ZERO, max: Duration::from_secs(10 * 365 * 86_400) },
    r#""7d""#,
    "How long the broker keeps what arrives while the agent is away. \"0s\": it keeps nothing. With MQTT 3.1.1 anything \
     else means as long as the broker likes.",
);

static RECEIVE_MAXIMUM: Key<Count> = Key::with_default(
    "receive_maximum",
    Count { min: 1, max: 65_535 },
    "2000",
    "How many messages of QoS 1 and 2 the broker may send before the first of them is acknowledged. With MQTT 3.1.1 the \
     broker's own setting holds.",
);

static MAX_PACKET: Key<Size> = Key::optional(
    "max_packet_bytes",
    Size { min: 1 << 10, max: 256 << 20 },
    "buffer.max_event_bytes and 128KiB for the topic and its properties",
    "The largest message, with its topic and its properties. A larger one becomes a dead letter, with its first 4KiB.",
);

static MAX_UNACKNOWLEDGED: Key<Size> = Key::with_default(
    "max_unacknowledged_bytes",
    Size { min: 64 << 10, max: 1 << 30 },
    r#""4MiB""#,
    "Once messages that take up this much memory are read and not yet on disk, no more are read until some of them are.",
);

static DECODE: Key<Choice<BodyKind>> = Key::optional(
    "decode",
    Choice {
        what: "kind of payload",
        of: &[("json", BodyKind::Json), ("text", BodyKind::Text), ("bytes", BodyKind::Bytes)],
    },
    "sinks see JSON where a payload is JSON, text where it is text, and bytes else",
    "What payloads are, for sinks that tell JSON, text and bytes apart. What is no JSON, or no text in UTF-8, becomes a \
     dead letter then. A payload is kept byte for byte in any case.",
);

static KEY: Key<MessageKey> = Key::optional(
    "key",
    MessageKey,
    "events have no key",
    "What an event's key is: the topic, or a field of the payload. Where the field is not, there is no key.",
);

static PARTITION_LEVEL: Key<Count> = Key::optional(
    "partition_level",
    Count { min: 1, max: 100 },
    "all messages are in the partition \"0\", in the order of their arrival",
    "The level of the topic that names the partition: with 2, \"plant/line1/telemetry\" is in \"line1\". There may be \
     1000 partitions; messages with a further name, or without that level, are in \"0\".",
);

static STATUS_TOPIC: Key<Topic> = Key::optional(
    "status_topic",
    Topic,
    "nothing is published",
    "A topic on which the agent publishes that it is online, and its last will that it is offline. Both are retained.",
);

static CONNECT_TIMEOUT: Key<Time> = Key::with_default(
    "connect_timeout",
    Time { min: Duration::from_secs(1), max: Duration::from_secs(300) },
    r#""10s""#,
    "How long connecting, and the broker's answers to it, may take.",
);

static DEDUPE: Schema = Schema {
    name: "dedupe",
    variant: "",
    doc: "Leaves out what was sent before: by a broker that did not hear the acknowledgement, or by a producer. Messages \
          are told apart within their topic.",
    keys: &[&BY, &WINDOW],
    tables: &[],
};

static BY: Key<MessageIdentifier> =
    Key::required("by", MessageIdentifier, "What identifies a message. A message without it is always kept.");

static WINDOW: Key<Count> = Key::with_default(
    "window",
    Count { min: 1, max: 1 << 20 },
    "65536",
    "How many of the latest messages of each partition are remembered.",
);

pub(super) fn read(section: &mut Section<'_, '_, '_>, max_event_bytes: usize) -> Result<Settings, Reported> {
    let address = section.value(&URL);
    let version = section.value(&VERSION);
    let topics = section.value(&TOPICS);
    let qos = section.value(&QOS);
    let client_id = section.given(&CLIENT_ID);
    let login = read_login(section);
    let keep_alive = section.value(&KEEP_ALIVE);
    let session_expiry = section.value(&SESSION_EXPIRY);
    let receive_maximum = section.value(&RECEIVE_MAXIMUM);
    let max_packet_bytes = read_max_packet(section, max_event_bytes);
    let max_unacknowledged_bytes = section.value(&MAX_UNACKNOWLEDGED).map(in_memory);
    let shape = read_shape(section);
    let status_topic = section.given(&STATUS_TOPIC);
    let connect_timeout = section.value(&CONNECT_TIMEOUT);
    let tls = section.table(&TLS).and_then(|tls| tls.map(tls::read).transpose());
    let (user, password) = login?;
    let settings = Settings {
        address: address?,
        tls: tls?.unwrap_or_default(),
        version: version?,
        topics: topics?,
        qos: match qos? {
            0 => Qos::AtMostOnce,
            1 => Qos::AtLeastOnce,
            _ => Qos::ExactlyOnce,
        },
        client_id: client_id?,
        user,
        password,
        keep_alive: keep_alive?,
        session_expiry: session_expiry?,
        receive_maximum: u16::try_from(receive_maximum?).expect("65,535 fit 16 bits"),
        max_packet_bytes: max_packet_bytes?,
        max_unacknowledged_bytes: max_unacknowledged_bytes?,
        shape: shape?,
        status_topic: status_topic?,
        connect_timeout: connect_timeout?,
    };
    check_encryption(section, &settings)?;
    warn_of_own_status(section, &settings);
    if section.has(RECEIVE_MAXIMUM.name) && settings.version == Version::V3 {
        let help = "set the broker's own limit, or version = \"5\"";
        section.warning(RECEIVE_MAXIMUM.name, "cannot be told to the broker in MQTT 3.1.1", help);
    }
    Ok(settings)
}

fn read_login(section: &mut Section<'_, '_, '_>) -> Result<(Option<String>, Option<SecretSource>), Reported> {
    let (user, password) = (section.given(&USER), section.secret(&PASSWORD, &PASSWORD_FILE));
    let (user, password) = (user?, password?);
    if password.is_some() && user.is_none() {
        let key = if section.has(PASSWORD.name) { PASSWORD.name } else { PASSWORD_FILE.name };
        return Err(section.error(key, "is given without a user", "give the user too, or remove it"));
    }
    Ok((user, password))
}

fn read_max_packet(section: &mut Section<'_, '_, '_>, max_event_bytes: usize) -> Result<usize, Reported> {
    match section.given(&MAX_PACKET)?.map(in_memory) {
        None => Ok(max_event_bytes + HEADER_BYTES),
        Some(bytes) if bytes < max_event_bytes => {
            let problem = format!("is less than buffer.max_event_bytes, which is {max_event_bytes}");
            Err(section.error(MAX_PACKET.name, problem, "raise it, remove it, or lower buffer.max_event_bytes"))
        }
        Some(bytes) => Ok(bytes),
    }
}

fn read_shape(section: &mut Section<'_, '_, '_>) -> Result<Shape, Reported> {
    let decode = section.given(&DECODE);
    let key = section.given(&KEY);
    let level = section.given(&PARTITION_LEVEL);
    let dedupe = section.table(&DEDUPE).and_then(|dedupe| dedupe.map(read_dedupe).transpose());
    let shape = Shape {
        decode: decode?.unwrap_or_default(),
        key: key?,
        partition_level: level?.map(|level| in_memory(level - 1)),
        dedupe: dedupe?,
    };
    match (&shape.dedupe, &shape.key) {
        (Some(Dedupe { by: Identifier::Key, .. }), None) => {
            Err(section.error(DEDUPE.name, "is by the key, and there is no key", "give a key, or another identity"))
        }
        (Some(Dedupe { by: Identifier::Key, .. }), Some(MessageKeySource::Topic)) => {
            let problem = "is by the key, and the key is the topic: of each topic one message would be left";
            Err(section.error(
                DEDUPE.name,
                problem,
                "choose a field or a user property that each message has its own of",
            ))
        }
        _ => Ok(shape),
    }
}

fn read_dedupe(mut section: Section<'_, '_, '_>) -> Result<Dedupe, Reported> {
    let (by, window) = (section.value(&BY), section.value(&WINDOW));
    Ok(Dedupe { by: by?, window: u32::try_from(window?).expect("2^20 fits 32 bits") })
}

/// Refuses TLS that would not be used, and warns of passwords that anyone on the way can read.
fn check_encryption(section: &mut Section<'_, '_, '_>, settings: &Settings) -> Result<(), Reported> {
    if settings.address.encrypted {
        return Ok(());
    }
    if section.has(TLS.name) {
        return Err(section.error(
            TLS.name,
            "is given, and url is not encrypted",
            "write mqtts:// in url, or remove it",
        ));
    }
    if settings.password.is_some() && !is_local(&settings.address) {
        section.warning(URL.name, "sends the password unencrypted", "write mqtts://, if the broker has TLS");
    }
    Ok(())
}

/// Warns where what the agent publishes of itself comes back. With MQTT 5 the broker is told not to send it, but for
/// what is shared.
fn warn_of_own_status(section: &mut Section<'_, '_, '_>, settings: &Settings) {
    let Some(status) = &settings.status_topic else { return };
    let comes_back = |filter: &&String| settings.version == Version::V3 || filter.starts_with("$share/");
    if let Some(filter) = settings.topics.iter().filter(comes_back).find(|filter| covers(filter, status)) {
        let problem = format!("is among topics (\"{filter}\"): what the agent says of itself comes back as an event");
        section.warning(STATUS_TOPIC.name, problem, "choose a topic that is not subscribed to");
    }
}

fn is_local(address: &Address) -> bool {
    address.host == "localhost" || address.host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn in_memory(number: u64) -> usize {
    usize::try_from(number).expect("1 GiB fits the address space")
}
