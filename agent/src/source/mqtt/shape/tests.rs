use proptest::prelude::*;

use super::*;

fn publish(topic: &str, payload: &'static [u8]) -> Publish {
    Publish {
        topic: topic.to_owned(),
        qos: Qos::AtLeastOnce,
        retain: true,
        again: false,
        packet_id: 1,
        properties: Properties::default(),
        payload: Bytes::from_static(payload),
        cut_from: None,
        malformed: None,
    }
}

fn path(text: &str) -> JsonPath {
    JsonPath::parse(text).expect("a path")
}

fn key(key: Key, payload: &'static [u8]) -> Option<String> {
    let shape = Shape { key: Some(key), ..Shape::default() };
    let event = shape.shape(publish("plant/a", payload), Timestamp(1)).event;
    event.key.map(|key| String::from_utf8(key.to_vec()).expect("keys are text here"))
}

#[test]
fn a_key_is_the_topic_or_a_field() {
    assert_eq!(key(Key::Topic, b"\xff").as_deref(), Some("plant/a"));
    let field = || Key::Path(path("$.device.id"));
    assert_eq!(key(field(), br#"{"device": {"id": "d7"}}"#).as_deref(), Some("d7"));
    assert_eq!(key(field(), br#"{"device": {"id": 7.50}}"#).as_deref(), Some("7.50"));
    assert_eq!(key(field(), br#"{"device": {"id": [1]}}"#).as_deref(), Some("[1]"));
    for payload in
        [&br#"{"device": {"id": null}}"#[..], br#"{"device": 1}"#, br#"{"device": {"id": 7}"#, b"no json", b""]
    {
        assert_eq!(key(field(), payload), None);
    }
}

#[test]
fn what_came_beside_the_payload_is_in_the_headers() {
    let mut message = publish("plant/a", b"x");
    message.properties = Properties {
        content_type: Some("text/plain".to_owned()),
        response_topic: Some("answers".to_owned()),
        correlation_data: Some(Bytes::from_static(b"\0\xff")),
        user: vec![("a".to_owned(), "1".to_owned()), ("a".to_owned(), "2".to_owned())],
    };
    let event = Shape::default().shape(message, Timestamp(7)).event;
    let expected: Vec<(String, Value)> = vec![
        ("topic".to_owned(), "plant/a".into()),
        ("qos".to_owned(), Value::Integer(1)),
        ("retain".to_owned(), Value::Boolean(true)),
        ("content_type".to_owned(), "text/plain".into()),
        ("response_topic".to_owned(), "answers".into()),
        ("correlation_data".to_owned(), Value::Bytes(Bytes::from_static(b"\0\xff"))),
        ("a".to_owned(), "1".into()),
        ("a".to_owned(), "2".into()),
    ];
    assert_eq!(event.headers, expected);
    assert_eq!((event.time, event.time_quality, event.key), (Timestamp(7), TimeQuality::Stamped, None));
}

fn refusal(decode: BodyKind, payload: &'static [u8]) -> Option<String> {
    let shape = Shape { decode, ..Shape::default() };
    let shaped = shape.shape(publish("a", payload), Timestamp(1));
    assert_eq!(shaped.event.body.as_deref(), Some(payload), "it is kept byte for byte");
    assert_eq!(shaped.event.body_kind, if shaped.refusal.is_none() { decode } else { BodyKind::Unsaid });
    shaped.refusal.map(|(code, reason)| format!("{code}: {reason}"))
}

#[test]
fn only_what_is_said_to_be_json_or_text_is_checked() {
    for decode in [BodyKind::Unsaid, BodyKind::Bytes] {
        assert_eq!(refusal(decode, b"\xff{"), None);
    }
    assert_eq!(refusal(BodyKind::Text, "größe".as_bytes()), None);
    assert!(refusal(BodyKind::Text, b"a\xff").is_some_and(|why| why.starts_with("malformed: not text in UTF-8: ")));
    assert_eq!(refusal(BodyKind::Json, b" {\"a\": [1, null]} "), None);
    for payload in [&b""[..], b"{", b"1 2", b"\"\xff\""] {
        assert!(refusal(BodyKind::Json, payload).is_some_and(|why| why.starts_with("malformed: not a JSON value: ")));
    }
}

fn identity_by(by: Identifier, message: Publish) -> Option<Identity> {
    let dedupe = Some(Dedupe { by, window: 10 });
    Shape { dedupe, key: Some(Key::Path(path("$.id"))), ..Shape::default() }.shape(message, Timestamp(1)).identity
}

#[test]
fn an_identity_is_of_a_kind_and_a_topic() {
    let by_field = || Identifier::Path(path("$.id"));
    let of = |by, topic: &str, payload| identity_by(by, publish(topic, payload));
    let seven = of(by_field(), "a", br#"{"id": 7}"#);
    assert!(seven.is_some());
    assert_eq!(seven, of(by_field(), "a", br#"{"x": 1, "id": 7}"#));
    assert_ne!(seven, of(by_field(), "a", br#"{"id": 8}"#));
    assert_ne!(seven, of(by_field(), "b", br#"{"id": 7}"#));
    assert_ne!(seven, of(Identifier::Key, "a", br#"{"id": 7}"#));
    assert!(of(Identifier::Key, "a", br#"{"id": 7}"#).is_some());
    assert_eq!(of(by_field(), "a", br#"{"other": 7}"#), None);
    assert_eq!(of(Identifier::Header("id".to_owned()), "a", br#"{"id": 7}"#), None);
    let mut message = publish("a", b"x");
    message.properties.user.push(("id".to_owned(), "7".to_owned()));
    assert!(identity_by(Identifier::Header("id".to_owned()), message).is_some());
}

#[test]
fn a_number_keeps_all_its_digits() {
    let field = || Key::Path(path("$.device.id"));
    let long = "12345678901234567890.123456789";
    assert_eq!(key(field(), br#"{"device": {"id": 12345678901234567890.123456789}}"#).as_deref(), Some(long));
    let at = |payload| identity_by(Identifier::Path(path("$.at")), publish("a", payload));
    assert_ne!(at(br#"{"at": 1700000000.123456789}"#), at(br#"{"at": 1700000000.123456791}"#));
}

#[test]
fn what_is_empty_identifies_nothing() {
    let empty = || publish("a", br#"{"id": ""}"#);
    assert_eq!(identity_by(Identifier::Path(path("$.id")), empty()), None);
    assert_eq!(identity_by(Identifier::Key, empty()), None);
    let mut message = empty();
    message.properties.user.push(("id".to_owned(), String::new()));
    assert_eq!(identity_by(Identifier::Header("id".to_owned()), message), None);
}

#[test]
fn a_publisher_cannot_say_what_the_broker_says() {
    let mut message = publish("plant/a", b"x");
    let user = ["qos", "topic", "correlation_data", "unit"].map(|name| (name.to_owned(), "1".to_owned()));
    message.properties.user = user.to_vec();
    let headers = Shape::default().shape(message, Timestamp(1)).event.headers;
    let names: Vec<_> = headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["topic", "qos", "retain", "user.qos", "user.topic", "user.correlation_data", "unit"]);
}

/// Identities are on disk: were they computed otherwise, what is remembered would be forgotten.
#[test]
fn an_identity_is_always_computed_in_the_same_way() {
    // SHA-256 of the lengths (8 bytes each, big-endian) and texts of "field" and "a", and of "7": its first 16 bytes.
    let seven = identity_by(Identifier::Path(path("$.id")), publish("a", br#"{"id": 7}"#));
    let mut whole = Vec::new();
    whole.extend(b"\0\0\0\0\0\0\0\x05field\0\0\0\0\0\0\0\x01a7");
    let digest = ring::digest::digest(&SHA256, &whole);
    assert_eq!(seven.map(|seven| seven.to_be_bytes().to_vec()), Some(digest.as_ref()[..16].to_vec()));
}

proptest! {
    #[test]
    fn any_payload_is_kept_or_refused(payload in proptest::collection::vec(any::<u8>(), 0..40)) {
        for decode in [BodyKind::Unsaid, BodyKind::Json, BodyKind::Text, BodyKind::Bytes] {
            let dedupe = Some(Dedupe { by: Identifier::Path(path("$[0]")), window: 10 });
            let shape = Shape { decode, key: Some(Key::Path(path("$.a"))), partition_level: None, dedupe };
            let mut message = publish("a", b"");
            message.payload = Bytes::from(payload.clone());
            let shaped = shape.shape(message, Timestamp(1));
            prop_assert_eq!(shaped.event.body.as_deref(), Some(&payload[..]));
        }
    }
}
