use bytes::Bytes;
use forebay_buffer::Numbering;
use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::*;

fn partition() -> PartitionId {
    PartitionId {
        stream: "line1".into(),
        renamed_from: None,
        name: "0".into(),
        numbering: Numbering::Assigned,
        hub: None,
    }
}

fn line(format: Format, event: &Event) -> String {
    let mut out = Vec::new();
    write_line(&mut out, format, &partition(), Offset(42), event);
    let text = String::from_utf8(out).expect("a line is UTF-8");
    assert_eq!(text.matches(['\n', '\r']).count(), 1, "a line is one line: {text:?}");
    assert!(text.ends_with('\n'));
    text.trim_end().to_owned()
}

fn envelope(event: &Event) -> Json {
    serde_json::from_str(&line(Format::Envelope, event)).expect("a line is JSON")
}

fn event(body: &[u8]) -> Event {
    Event::new(Timestamp(1_700_000_000_123_456), body.to_vec())
}

#[test]
fn the_envelope_holds_all_there_is() {
    let event = Event {
        key: Some(Bytes::from_static(b"pump \"7\"")),
        headers: vec![
            ("path".into(), Value::String("/a\\b".into())),
            ("tries".into(), Value::Integer(-3)),
            ("level".into(), Value::Float(0.5)),
            ("odd".into(), Value::Float(f64::NAN)),
            ("ok".into(), Value::Boolean(true)),
            ("raw".into(), Value::Bytes(Bytes::from_static(&[0xff]))),
            ("seen".into(), Value::Time(Timestamp(0))),
            ("tries".into(), Value::Integer(4)),
        ],
        table: Some("pumps".into()),
        time_quality: TimeQuality::Repaired,
        ..event(br#"{"a":1}"#)
    };
    assert_eq!(
        envelope(&event),
        json!({
            "stream": "line1", "partition": "0", "offset": 42, "time": "2023-11-14T22:13:20.123456Z",
            "time_quality": "repaired", "key": "pump \"7\"", "table": "pumps", "body": {"a": 1},
            "headers": {
                "path": "/a\\b", "tries": [-3, 4], "level": 0.5, "odd": "NaN", "ok": true, "raw": "/w==",
                "seen": "1970-01-01T00:00:00.000000Z",
            },
        })
    );
}

#[test]
fn a_json_body_is_embedded_as_it_came_but_for_its_line_breaks() {
    let body = b" {\r\n  \"a\" : [1.0,\n 2e5],\r\"b\":\"x\\ny\" }\n";
    assert_eq!(line(Format::Body, &event(body)), r#"{  "a" : [1.0, 2e5],"b":"x\ny" }"#);
    assert_eq!(envelope(&event(body))["body"], json!({"a": [1.0, 2e5], "b": "x\ny"}));
}

#[test]
fn a_body_that_is_not_json_is_a_string_and_one_that_is_not_text_is_base64() {
    assert_eq!(envelope(&event(b"two\nlines"))["body"], json!("two\nlines"));
    assert_eq!(envelope(&event(b"{\"a\":1} x"))["body"], json!("{\"a\":1} x"));
    assert_eq!(envelope(&event(&[0xff, 0x00]))["body_base64"], json!("/wA="));
    assert_eq!(line(Format::Body, &event(&[0xff, 0x00])), r#"{"body_base64":"/wA="}"#);
    // A JSON validator that looks at the grammar only would let these through.
    assert_eq!(envelope(&event(b"\"\xff\""))["body_base64"], json!("Iv8i"));
}

#[test]
fn no_body_and_an_empty_one_differ() {
    let none = Event { body: None, ..event(b"") };
    assert_eq!(envelope(&none).get("body"), None);
    assert_eq!(line(Format::Body, &none), "null");
    assert_eq!(envelope(&event(b""))["body"], json!(""));
    assert_eq!(line(Format::Body, &event(b"")), "\"\"");
}

#[test]
fn a_key_that_is_not_text_is_base64() {
    let event = Event { key: Some(Bytes::from_static(&[0xfe])), ..event(b"1") };
    assert_eq!(envelope(&event)["key_base64"], json!("/g=="));
}

#[test]
fn a_deep_body_does_not_overflow_the_stack() {
    let open = vec![b'['; 10_000_000];
    assert!(matches!(Body::of(&event(&open)), Body::Text(_)));
}

#[test]
fn times_of_any_year_are_written() {
    let shown = |micros| {
        let mut out = Vec::new();
        write_time(&mut out, Timestamp(micros));
        String::from_utf8(out).unwrap_or_default()
    };
    assert_eq!(shown(-1), "\"1969-12-31T23:59:59.999999Z\"");
    assert_eq!(shown(951_782_400_000_000), "\"2000-02-29T00:00:00.000000Z\"");
    assert_eq!(shown(i64::MAX), "\"+294247-01-10T04:00:54.775807Z\"");
    assert_eq!(shown(i64::MIN), "\"-290308-12-21T19:59:05.224192Z\"");
}

proptest! {
    #[test]
    fn strings_are_what_another_library_writes(text in ".*", at in 0_u8..=0x7f) {
        let text = format!("{text}{}\u{1}", char::from(at));
        let mut out = Vec::new();
        write_string(&mut out, &text);
        prop_assert_eq!(String::from_utf8(out).expect("UTF-8"), serde_json::to_string(&text).expect("JSON"));
    }

    #[test]
    fn times_are_what_another_library_writes(micros in -62_135_596_800_000_000i64..253_402_300_800_000_000) {
        let mut out = Vec::new();
        write_time(&mut out, Timestamp(micros));
        let theirs = jiff::Timestamp::from_microsecond(micros).expect("within the years 1 to 9999");
        prop_assert_eq!(String::from_utf8(out).expect("digits"), format!("\"{theirs:.6}\""));
    }

    #[test]
    fn any_bytes_become_one_line_that_gives_them_back(body in prop::collection::vec(any::<u8>(), 0..64)) {
        let line = envelope(&event(&body));
        match (&line["body"], &line["body_base64"]) {
            (_, Json::String(encoded)) => prop_assert_eq!(STANDARD.decode(encoded).expect("base64"), body),
            (Json::String(text), _) if serde_json::from_slice::<Json>(&body).is_err() => {
                prop_assert_eq!(text.as_bytes(), &body[..]);
            }
            (json, _) => prop_assert_eq!(json, &serde_json::from_slice::<Json>(&body).expect("it was embedded")),
        }
    }
}
