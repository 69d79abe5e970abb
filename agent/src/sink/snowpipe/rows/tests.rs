use bytes::Bytes;
use forebay_buffer::Numbering;
use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::*;

const NOW: Timestamp = Timestamp(1_700_000_001_000_000);

fn event(body: &'static str) -> Event {
    Event::new(Timestamp(1_700_000_000_123_456), body)
}

fn written(shape: &Shape, event: &Event) -> Result<String, (&'static str, &'static str)> {
    written_to(shape, event, false)
}

fn written_to(shape: &Shape, event: &Event, by_name: bool) -> Result<String, (&'static str, &'static str)> {
    written_at(Some(NOW), shape, event, by_name)
}

fn written_at(
    now: Option<Timestamp>,
    shape: &Shape,
    event: &Event,
    by_name: bool,
) -> Result<String, (&'static str, &'static str)> {
    let partition = PartitionId {
        stream: "line1".to_owned(),
        renamed_from: None,
        name: "3".to_owned(),
        numbering: Numbering::Assigned,
        hub: None,
    };
    let mut out = b"before".to_vec();
    let done = Rows::new(shape, &partition, now, by_name).write(&mut out, Offset(17), event);
    let text = String::from_utf8(out).expect("JSON is UTF-8");
    let row = text.strip_prefix("before").expect("what was there stays").to_owned();
    assert!(done.is_ok() || row.is_empty(), "nothing of a refused event is written");
    done.map(|()| row)
}

fn row(shape: &Shape, event: &Event) -> Json {
    let line = written(shape, event).expect("it is a row");
    let line = line.strip_suffix('\n').expect("a line ends");
    assert!(!line.contains(['\n', '\r']), "{line}");
    serde_json::from_str(line).expect("it is JSON")
}

#[test]
fn an_event_is_a_row_as_the_python_pipeline_writes_it() {
    let event = Event {
        headers: vec![
            ("x-opt-sequence-number".to_owned(), Header::Integer(17)),
            ("x-opt-partition-key".to_owned(), Header::String("pump".to_owned())),
            ("unit".to_owned(), Header::String("°C".to_owned())),
        ],
        key: Some(Bytes::from_static(b"pump")),
        ..event("{\n \"t\": 21.50}")
    };
    let expected = json!({
        "event_body": "{\n \"t\": 21.50}",
        "partition_id": "3",
        "sequence_number": 17,
        "enqueued_time": "2023-11-14T22:13:20.123456Z",
        "properties": "{\"unit\":\"°C\"}",
        "system_properties": "{\"x-opt-sequence-number\":17,\"x-opt-partition-key\":\"pump\"}",
        "ingestion_timestamp": "2023-11-14T22:13:21.000000Z",
    });
    assert_eq!(row(&Shape::Events, &event), expected);
}

#[test]
fn a_time_that_nobody_knows_is_null() {
    let line = written_at(None, &Shape::Events, &event("a body"), false).expect("it is a row");
    assert!(line.ends_with(",\"ingestion_timestamp\":null}\n"), "{line}");
}

#[test]
fn a_pipe_that_goes_by_names_gets_them_as_the_service_has_them() {
    let line = written_to(&Shape::Events, &event("a body"), true).expect("it is a row");
    let Ok(Json::Object(row)) = serde_json::from_str(&line) else { panic!("{line}") };
    let keys = ["EVENT_BODY", "PARTITION_ID", "SEQUENCE_NUMBER", "ENQUEUED_TIME", "PROPERTIES", "SYSTEM_PROPERTIES"];
    assert!(row.len() == 7 && keys.iter().all(|key| row.contains_key(*key)), "{line}");
    assert_eq!(row["EVENT_BODY"], "a body");
    let columns = ["device", "\"Reading\"", "two words"].map(|name| (name.to_owned(), Source::Offset));
    let line = written(&Shape::Columns(columns.to_vec()).by_name(), &event("")).expect("it is a row");
    assert_eq!(line, "{\"DEVICE\":17,\"Reading\":17,\"two words\":17}\n");
}

#[test]
fn what_no_hub_has_set_stands_among_the_systems_properties() {
    let event = Event {
        key: Some(Bytes::from_static(&[0xff])),
        table: Some("pumps".to_owned()),
        time_quality: TimeQuality::Untrusted,
        ..event("x")
    };
    let row = row(&Shape::Events, &event);
    let expected = r#"{"x-opt-partition-key":"/w==","table":"pumps","time_quality":"untrusted"}"#;
    assert_eq!((&row["system_properties"], &row["properties"]), (&json!(expected), &Json::Null));
}

#[test]
fn a_body_that_is_no_text_is_in_base64_and_none_is_null() {
    let body = |event: &Event| row(&Shape::Events, event)["event_body"].clone();
    let bytes = Event { body: Some(Bytes::from_static(&[0xff, 0])), ..event("") };
    assert_eq!(body(&bytes), json!("{\"body_base64\":\"/wA=\"}"));
    assert_eq!(body(&Event { body_kind: BodyKind::Bytes, ..event("a") }), json!("{\"body_base64\":\"YQ==\"}"));
    assert_eq!(body(&Event { body: None, ..event("") }), Json::Null);
    assert_eq!(body(&event("")), json!(""));
}

#[test]
fn columns_are_filled_with_what_they_ask_for() {
    let columns = [("T", "$.t"), ("ALL", "body"), ("AT", "time"), ("N", "offset"), ("UNIT", "headers.unit")];
    let columns = columns.map(|(name, source)| (name.to_owned(), Source::parse(source).expect("a source")));
    let event = Event {
        headers: vec![("unit".to_owned(), Header::String("C".to_owned()))],
        ..event("{\r\n\"t\": 123456789012345678901.50 }")
    };
    let line = written(&Shape::Columns(columns.to_vec()), &event).expect("it is a row");
    let expected = "{\"T\":123456789012345678901.50,\"ALL\":{\"t\": 123456789012345678901.50 },\
                    \"AT\":\"2023-11-14T22:13:20.123456Z\",\"N\":17,\"UNIT\":\"C\"}\n";
    assert_eq!(line, expected, "a number keeps all its digits");
}

#[test]
fn a_body_that_is_an_object_is_a_row_by_itself() {
    assert_eq!(written(&Shape::Body, &event(" {\"a\":\n1} ")), Ok("{\"a\":1}\n".to_owned()));
    for body in ["[1]", "1", "\"{}\"", "{", "", "text"] {
        assert_eq!(written(&Shape::Body, &event(body)).map_err(|(code, _)| code), Err(NO_OBJECT), "{body}");
    }
    assert_eq!(written(&Shape::Body, &Event { body: None, ..event("") }).map_err(|(code, _)| code), Err(NO_OBJECT));
    assert!(written(&Shape::Body, &Event { body_kind: BodyKind::Text, ..event("{}") }).is_err());
}

proptest! {
    #[test]
    fn every_event_is_one_line_of_json(body in any::<Option<Vec<u8>>>(), key: Option<Vec<u8>>, name in ".{0,9}", time: i64) {
        let event = Event {
            body: body.map(Bytes::from),
            key: key.map(Bytes::from),
            headers: vec![(name.clone(), Header::Float(f64::NAN)), (name, Header::Bytes(Bytes::from_static(b"x")))],
            ..Event::new(Timestamp(time), "")
        };
        row(&Shape::Events, &event);
        row(&Shape::Columns(vec![("B".to_owned(), Source::Body), ("H".to_owned(), Source::Headers)]), &event);
    }
}
