//! A broker by script: it says what it is told to say, and hears what is said to it.

use std::time::Duration;

use bytes::{Buf, BytesMut};
use rumqttc::{mqttbytes::v4, v5::mqttbytes::v5};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use crate::client::mqtt::{Qos, Version};

/// Nothing in these tests takes so long unless it never comes.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a client said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Said {
    Connect { client_id: String, clean: bool, user: Option<(String, String)>, will: Option<(String, String)> },
    Subscribe { id: u16, filters: Vec<String> },
    Publish { topic: String, payload: String, retain: bool },
    PubAck(u16),
    PubRec(u16),
    PubComp(u16),
    PubCompUnknown(u16),
    Ping,
    Disconnect,
}

/// The broker, without a connection.
pub(super) struct Broker {
    pub(super) version: Version,
    listener: TcpListener,
}

impl Broker {
    pub(super) async fn start(version: Version) -> Self {
        Self { version, listener: TcpListener::bind("127.0.0.1:0").await.expect("there is a free port") }
    }

    pub(super) fn port(&self) -> u16 {
        self.listener.local_addr().expect("it listens").port()
    }

    /// The next connection, of which nothing is known yet.
    pub(super) async fn accept(&self) -> Peer {
        let (stream, _) =
            timeout(PATIENCE, self.listener.accept()).await.expect("somebody connects").expect("it works");
        stream.set_nodelay(true).expect("it is a socket");
        Peer { version: self.version, stream, input: BytesMut::new() }
    }

    /// The next connection, welcomed and subscribed.
    pub(super) async fn welcome(&self, session_present: bool) -> Peer {
        let mut peer = self.accept().await;
        peer.welcome(session_present).await;
        let said = peer.hear().await;
        let Said::Subscribe { id, filters } = said else { panic!("{said:?}") };
        peer.grant(id, &vec![1; filters.len()]).await;
        peer
    }
}

/// A connection.
pub(super) struct Peer {
    version: Version,
    stream: TcpStream,
    input: BytesMut,
}

impl Peer {
    pub(super) async fn welcome(&mut self, session_present: bool) {
        let said = self.hear().await;
        assert!(matches!(said, Said::Connect { .. }), "{said:?}");
        self.answer(session_present, 0).await;
    }

    /// Answers a CONNECT.
    pub(super) async fn answer(&mut self, session_present: bool, code: u8) {
        let flags = u8::from(session_present);
        match self.version {
            Version::V3 => self.say(&[0x20, 2, flags, code]).await,
            Version::V5 => self.say(&[0x20, 3, flags, code, 0]).await,
        }
    }

    /// Answers a SUBSCRIBE.
    pub(super) async fn grant(&mut self, id: u16, codes: &[u8]) {
        let properties: &[u8] = if self.version == Version::V5 { &[0] } else { &[] };
        let [high, low] = id.to_be_bytes();
        let mut packet = vec![0x90, (2 + properties.len() + codes.len()) as u8, high, low];
        packet.extend([properties, codes].concat());
        self.say(&packet).await;
    }

    pub(super) async fn publish(&mut self, qos: Qos, id: u16, topic: &str, payload: &[u8]) {
        self.say(&publish(self.version, qos, id, false, topic, payload)).await;
    }

    pub(super) async fn publish_again(&mut self, qos: Qos, id: u16, topic: &str, payload: &[u8]) {
        self.say(&publish(self.version, qos, id, true, topic, payload)).await;
    }

    pub(super) async fn release(&mut self, id: u16) {
        let [high, low] = id.to_be_bytes();
        self.say(&[0x62, 2, high, low]).await;
    }

    pub(super) async fn say(&mut self, bytes: &[u8]) {
        timeout(PATIENCE, self.stream.write_all(bytes)).await.expect("it is taken").expect("it is connected");
    }

    /// The next that is said, but for pings, which are answered.
    pub(super) async fn hear(&mut self) -> Said {
        loop {
            match self.hear_all().await {
                Some(Said::Ping) => self.say(&[0xd0, 0]).await,
                Some(said) => return said,
                None => panic!("the connection is closed"),
            }
        }
    }

    /// Waits until the client has closed the connection, whatever it says before.
    pub(super) async fn hear_the_end(mut self) -> Vec<Said> {
        let mut all = Vec::new();
        while let Some(said) = self.hear_all().await {
            all.push(said);
        }
        all
    }

    /// The next that is said. `None`: the connection is closed.
    pub(super) async fn hear_all(&mut self) -> Option<Said> {
        loop {
            if let Some(said) = self.take() {
                return Some(said);
            }
            let read = timeout(PATIENCE, self.stream.read_buf(&mut self.input)).await.expect("something is said");
            if read.unwrap_or_default() == 0 {
                return None;
            }
        }
    }

    /// The next that is said, if it is here by now.
    pub(super) async fn hear_now(&mut self) -> Option<Said> {
        // The runtime looks after sockets once in so many turns.
        for _ in 0..200 {
            if let Some(said) = self.take() {
                return Some(said);
            }
            tokio::task::yield_now().await;
            // That nothing is there, or that it is closed, makes no difference.
            let _ = self.stream.try_read_buf(&mut self.input);
        }
        None
    }

    fn take(&mut self) -> Option<Said> {
        let [first, length, ..] = self.input[..] else { return None };
        assert!(length < 0x80 || first == 0x10 || first == 0x82 || first & 0xf0 == 0x30, "a short packet");
        match first {
            0x10 | 0x82 | 0x30..=0x3f => return self.decode(),
            _ if self.input.len() < 2 + usize::from(length) => return None,
            _ => {}
        }
        let packet = self.input.split_to(2 + usize::from(length));
        let id = (&packet[2..]).try_get_u16().unwrap_or_default();
        Some(match (first, packet.get(4)) {
            (0x40, None) => Said::PubAck(id),
            (0x50, None) => Said::PubRec(id),
            (0x70, None) => Said::PubComp(id),
            (0x70, Some(0x92)) => Said::PubCompUnknown(id),
            (0xc0, None) => Said::Ping,
            (0xe0, None) => Said::Disconnect,
            _ => panic!("{packet:?}"),
        })
    }

    fn decode(&mut self) -> Option<Said> {
        let said = match self.version {
            Version::V3 => match v4::Packet::read(&mut self.input, 1 << 20) {
                Ok(v4::Packet::Connect(connect)) => Said::Connect {
                    client_id: connect.client_id,
                    clean: connect.clean_session,
                    user: connect.login.map(|login| (login.username, login.password)),
                    will: connect.last_will.map(|will| (will.topic, text(&will.message))),
                },
                Ok(v4::Packet::Subscribe(subscribe)) => Said::Subscribe {
                    id: subscribe.pkid,
                    filters: subscribe.filters.into_iter().map(|filter| filter.path).collect(),
                },
                Ok(v4::Packet::Publish(publish)) => {
                    Said::Publish { topic: publish.topic, payload: text(&publish.payload), retain: publish.retain }
                }
                Err(rumqttc::mqttbytes::Error::InsufficientBytes(_)) => return None,
                other => panic!("{other:?}"),
            },
            Version::V5 => match v5::Packet::read(&mut self.input, None) {
                Ok(v5::Packet::Connect(connect, will, login)) => Said::Connect {
                    client_id: connect.client_id,
                    clean: connect.clean_start,
                    user: login.map(|login| (login.username, login.password)),
                    will: will.map(|will| (text(&will.topic), text(&will.message))),
                },
                Ok(v5::Packet::Subscribe(subscribe)) => Said::Subscribe {
                    id: subscribe.pkid,
                    filters: subscribe.filters.into_iter().map(|filter| filter.path).collect(),
                },
                Ok(v5::Packet::Publish(publish)) => Said::Publish {
                    topic: text(&publish.topic),
                    payload: text(&publish.payload),
                    retain: publish.retain,
                },
                Err(rumqttc::v5::mqttbytes::Error::InsufficientBytes(_)) => return None,
                other => panic!("{other:?}"),
            },
        };
        Some(said)
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A PUBLISH, without properties.
pub(super) fn publish(version: Version, qos: Qos, id: u16, again: bool, topic: &str, payload: &[u8]) -> Vec<u8> {
    let first = 0x30 | (u8::from(again) << 3) | ((qos as u8) << 1);
    publish_raw(version, first, id, topic.as_bytes(), &[], payload)
}

/// A PUBLISH, whatever is in it. Its properties are for MQTT 5 only.
pub(super) fn publish_raw(
    version: Version,
    first: u8,
    id: u16,
    topic: &[u8],
    properties: &[u8],
    payload: &[u8],
) -> Vec<u8> {
    let mut rest = (topic.len() as u16).to_be_bytes().to_vec();
    rest.extend(topic);
    if first & 0b110 != 0 {
        rest.extend(id.to_be_bytes());
    }
    if version == Version::V5 {
        rest.extend(length(properties.len()));
        rest.extend(properties);
    }
    rest.extend(payload);
    [vec![first], length(rest.len()), rest].concat()
}

/// As a variable byte integer.
fn length(mut length: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while length >= 0x80 {
        bytes.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    bytes.push(length as u8);
    bytes
}
