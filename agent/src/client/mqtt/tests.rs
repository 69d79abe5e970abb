//! Bytes in, packets out: whatever a broker sends.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use rumqttc::v5::mqttbytes::v5;

use super::{
    frame::{Frame, Frames, KEPT_BYTES},
    handshake, packet,
    publish::MAX_USER_PROPERTIES,
    *,
};

const MAX_PACKET_BYTES: usize = 1_000;

/// All that comes of `bytes`, given in pieces of `step`.
fn frames(version: Version, bytes: &[u8], step: usize) -> Result<Vec<Frame>, Error> {
    let mut frames = Frames::new(version, MAX_PACKET_BYTES);
    let (mut input, mut all) = (BytesMut::new(), Vec::new());
    for piece in bytes.chunks(step.max(1)) {
        input.extend_from_slice(piece);
        while let Some(frame) = frames.next(&mut input)? {
            all.push(frame);
        }
    }
    Ok(all)
}

fn message(payload: &[u8], properties: Option<v5::PublishProperties>) -> Vec<u8> {
    let mut publish = v5::Publish::new("plant/a", packet::codec_qos5(Qos::AtLeastOnce), payload.to_vec(), properties);
    publish.pkid = 7;
    let mut written = BytesMut::new();
    publish.write(&mut written).expect("it can be written");
    written.to_vec()
}

fn properties() -> v5::PublishProperties {
    v5::PublishProperties {
        payload_format_indicator: Some(1),
        message_expiry_interval: Some(60),
        response_topic: Some("answers".to_owned()),
        correlation_data: Some(Bytes::from_static(b"\0\xff")),
        user_properties: vec![("a".to_owned(), "1".to_owned()), ("a".to_owned(), "2".to_owned())],
        subscription_identifiers: vec![1, 268_435_455],
        content_type: Some("text/plain".to_owned()),
        ..v5::PublishProperties::default()
    }
}

/// The codec takes the last properties for the payload where there is a subscription identifier.
#[test]
fn a_payload_is_what_follows_the_properties_also_behind_subscription_identifiers() {
    let read = frames(Version::V5, &message(b"payload", Some(properties())), 1).expect("it is a message");
    let [Frame::Publish(publish)] = &read[..] else { panic!("{read:?}") };
    assert_eq!(publish.payload, b"payload".as_slice());
    assert_eq!((publish.topic.as_str(), publish.packet_id, publish.qos), ("plant/a", 7, Qos::AtLeastOnce));
    let expected = Properties {
        content_type: Some("text/plain".to_owned()),
        response_topic: Some("answers".to_owned()),
        correlation_data: Some(Bytes::from_static(b"\0\xff")),
        user: vec![("a".to_owned(), "1".to_owned()), ("a".to_owned(), "2".to_owned())],
    };
    assert_eq!(publish.properties, expected);
}

#[test]
fn a_message_that_is_too_large_goes_by_and_the_next_one_is_whole() {
    for (size, properties) in [(MAX_PACKET_BYTES, None), (10_000, Some(properties())), (300_000, None)] {
        let large = message(&vec![b'x'; size], properties);
        let both = [large.clone(), message(b"next", None)].concat();
        for step in [7, 4_096, both.len()] {
            let read = frames(Version::V5, &both, step).expect("they are messages");
            let [Frame::Publish(first), Frame::Publish(next)] = &read[..] else { panic!("{}", read.len()) };
            assert_eq!((first.cut_from, first.payload.len()), (Some(large.len()), size.min(KEPT_BYTES)));
            assert_eq!(first.packet_id, 7);
            assert_eq!((next.cut_from, next.payload.as_ref()), (None, b"next".as_slice()));
        }
    }
}

#[test]
fn properties_that_are_too_large_are_left_out() {
    let user = vec![("name".to_owned(), "v".repeat(60_000)); 2];
    let large = message(b"payload", Some(v5::PublishProperties { user_properties: user, ..properties() }));
    let read = frames(Version::V5, &large, 1_000).expect("it is a message");
    let [Frame::Publish(publish)] = &read[..] else { panic!("{}", read.len()) };
    assert_eq!((publish.topic.as_str(), publish.payload.len()), ("plant/a", 0));
    assert_eq!(publish.properties, Properties::default());
}

#[test]
fn a_large_packet_that_is_no_message_is_refused_at_once() {
    let suback = [0x90, 0xff, 0xff, 0x7f];
    frames(Version::V5, &suback, 4).expect_err("it is too large");
}

fn options(version: Version) -> Options {
    Options {
        version,
        client_id: "gw".to_owned(),
        session_expiry: std::time::Duration::from_secs(60),
        receive_maximum: 10,
        max_packet_bytes: MAX_PACKET_BYTES,
        keep_alive: std::time::Duration::from_secs(30),
        user: None,
        password: None,
        will: None,
        timeout: std::time::Duration::from_secs(10),
    }
}

#[test]
fn a_password_that_is_too_long_for_the_protocol_is_refused_before_it_is_sent() {
    for version in [Version::V3, Version::V5] {
        let password = Some(crate::secret::Secret::new("x".repeat(65_536)));
        let options = Options { user: Some("me".to_owned()), password, ..options(version) };
        let refused = handshake::connect(&options, &mut BytesMut::new()).expect_err("it is too long");
        assert!(matches!(&refused, Error::Refused(why) if why.contains("password")), "{refused:?}");
    }
}

#[test]
fn what_a_server_limits_is_heard() {
    let answer = [0x20, 14, 1, 0, 11, 0x24, 1, 0x25, 0, 0x13, 0, 10, 0x27, 0, 0, 1, 0];
    let mut answer = answer.to_vec();
    answer[1] = (answer.len() - 2) as u8;
    answer[4] = (answer.len() - 5) as u8;
    let welcome = handshake::welcome(&options(Version::V5), &Bytes::from(answer)).expect("it is a welcome");
    assert!(welcome.session_present);
    assert_eq!(welcome.keep_alive.as_secs(), 10);
    assert_eq!((welcome.limits.qos, welcome.limits.retain), (Qos::AtLeastOnce, false));
    assert_eq!(welcome.limits.max_packet_bytes, Some(256));
}

#[test]
fn a_server_may_want_less_than_was_asked_for_and_not_more() {
    let answered = |properties: &[u8]| {
        let rest = [&[0, 0, properties.len() as u8], properties].concat();
        let packet = [vec![0x20, rest.len() as u8], rest].concat();
        let welcome = handshake::welcome(&options(Version::V5), &Bytes::from(packet)).expect("it is a welcome");
        (welcome.keep_alive.as_secs(), welcome.session_expiry.map(|kept| kept.as_secs()))
    };
    assert_eq!(answered(&[0x13, 0x0e, 0x10, 0x11, 0, 0, 0, 60]), (30, None));
    assert_eq!(answered(&[0x13, 0, 20, 0x11, 0, 0, 0, 59]), (20, Some(59)));
    assert_eq!(answered(&[]), (30, None));
}

#[test]
fn an_answer_may_be_longer_than_one_byte_can_say() {
    let said = |first: u8, codes: &[u8]| {
        let property = [&[0x1f, 0, 200][..], &[b'w'; 200]].concat();
        let rest = [codes, &[0xcb, 1], &property].concat();
        Bytes::from([vec![first, rest.len() as u8 | 0x80, 1], rest].concat())
    };
    let welcome = |packet| handshake::welcome(&options(Version::V5), &packet);
    assert!(welcome(said(0x20, &[1, 0])).expect("it is a welcome").session_present);
    let refused = welcome(said(0x20, &[0, 0x87])).expect_err("it is refused").to_string();
    assert!(refused.contains("not authorised (www"), "{refused}");
    let goodbye = packet::incoming(Version::V5, &said(0xe0, &[0x89])).expect_err("goodbye").to_string();
    assert!(goodbye.contains("busy (www"), "{goodbye}");
}

#[test]
fn a_message_keeps_no_memory_but_its_own() {
    let mut input = BytesMut::from(&[message(b"first", None), message(b"second", None)].concat()[..]);
    let first = Frames::new(Version::V5, MAX_PACKET_BYTES).next(&mut input).expect("it is a message");
    let Some(Frame::Publish(publish)) = first else { panic!("{first:?}") };
    assert!(!input.is_empty() && publish.payload.is_unique());
}

#[test]
fn of_too_many_properties_no_more_are_read_than_are_kept() {
    for (count, is_fine) in [(MAX_USER_PROPERTIES, true), (MAX_USER_PROPERTIES + 1, false)] {
        let user_properties = vec![(String::new(), String::new()); count];
        let bytes = message(b"x", Some(v5::PublishProperties { user_properties, ..Default::default() }));
        let read = frames(Version::V5, &bytes, 100).expect("it is a message");
        let [Frame::Publish(publish)] = &read[..] else { panic!("{read:?}") };
        assert_eq!(publish.properties.user.len(), MAX_USER_PROPERTIES);
        assert_eq!(publish.malformed.is_none(), is_fine, "{:?}", publish.malformed);
        assert_eq!((publish.packet_id, publish.payload.as_ref()), (7, b"x".as_slice()));
    }
}

/// What is shared must not be subscribed to in this way (MQTT 5, 3.8.3.1).
#[test]
fn what_was_published_by_itself_does_not_come_back() {
    let filters = ["plant/#".to_owned(), "$share/gateways/plant/#".to_owned()];
    let mut written = BytesMut::new();
    packet::subscribe(Version::V5, &mut written, 1, &filters, Qos::AtLeastOnce, None).expect("it can be written");
    let Ok(v5::Packet::Subscribe(subscribe)) = v5::Packet::read(&mut written, None) else { panic!("{written:?}") };
    assert_eq!(subscribe.filters.iter().map(|filter| filter.nolocal).collect::<Vec<_>>(), [true, false]);
}

#[test]
fn a_goodbye_is_understood_however_short_it_is() {
    let said = |bytes: &'static [u8]| packet::incoming(Version::V5, &Bytes::from_static(bytes)).expect_err("goodbye");
    for (bytes, words) in [
        (&[0xe0, 0][..], "normally"),
        (&[0xe0, 1, 0x8b], "shutting down"),
        (&[0xe0, 2, 0x8e, 0], "same client_id"),
        (&[0xe0, 8, 0x89, 6, 0x1f, 0, 3, b'w', b'h', b'y'], "busy (why)"),
    ] {
        let error = said(bytes);
        assert!(error.to_string().contains(words), "{error}");
    }
}

/// Everything that the broker's bytes go through.
fn go_through(version: Version, bytes: &[u8]) {
    let options = options(version);
    for frame in frames(version, bytes, 64).unwrap_or_default() {
        if let Frame::Control(packet) = frame {
            let _ = packet::incoming(version, &packet);
            let _ = handshake::welcome(&options, &packet);
            let _ = packet::decode(version, &packet);
        }
    }
}

fn samples(version: Version) -> Vec<Vec<u8>> {
    let mut samples = vec![
        vec![0x20, 3, 0, 0, 0],
        vec![0x20, 2, 1, 5],
        vec![0x90, 4, 0, 1, 0, 0x87],
        vec![0x62, 2, 0, 7],
        vec![0x62, 4, 0, 7, 0x92, 0],
        vec![0x40, 2, 0, 1],
        vec![0xd0, 0],
        vec![0xe0, 8, 0x89, 6, 0x1f, 0, 3, b'w', b'h', b'y'],
        vec![0x32, 7, 0, 1, b'a', 0, 9, b'x', b'y'],
        message(b"payload", Some(properties())),
        message(&[b'x'; 3_000], Some(properties())),
    ];
    if version == Version::V5 {
        samples.push(vec![0x20, 8, 0, 0, 5, 0x11, 0, 0, 0, 9]);
        samples.push(vec![0x20, 13, 0, 0x87, 10, 0x1f, 0, 2, b'n', b'o', 0x21, 0, 9, 0x24, 1]);
    }
    samples
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        go_through(Version::V3, &bytes);
        go_through(Version::V5, &bytes);
    }

    #[test]
    fn no_packet_with_a_length_that_fits_makes_it_panic(
        first in any::<u8>(),
        rest in proptest::collection::vec(any::<u8>(), 0..100),
    ) {
        let packet = [vec![first, rest.len() as u8], rest].concat();
        go_through(Version::V3, &packet);
        go_through(Version::V5, &packet);
    }

    #[test]
    fn no_broken_packet_makes_it_panic(
        sample in any::<prop::sample::Index>(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
        cut in any::<prop::sample::Index>(),
    ) {
        for version in [Version::V3, Version::V5] {
            let samples = samples(version);
            let mut bytes = samples[sample.index(samples.len())].clone();
            for (at, byte) in &changes {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            go_through(version, &bytes);
            bytes.truncate(cut.index(bytes.len()));
            go_through(version, &bytes);
        }
    }

    #[test]
    fn it_does_not_matter_how_the_bytes_are_split(
        chosen in proptest::collection::vec(any::<prop::sample::Index>(), 1..6),
        step in 1usize..500,
    ) {
        let samples = samples(Version::V5);
        let bytes: Vec<u8> = chosen.iter().flat_map(|at| samples[at.index(samples.len())].clone()).collect();
        prop_assert_eq!(frames(Version::V5, &bytes, step), frames(Version::V5, &bytes, bytes.len()));
    }
}
