use proptest::prelude::*;

use super::*;

const LIMITS: Limits = Limits { max_event_bytes: 1000, max_events: 100 };

fn split(body: impl Into<Bytes>, format: Format) -> Result<Vec<Bytes>, BodyError> {
    events(&body.into(), format, &LIMITS)
}

fn texts(body: &'static str, format: Format) -> Vec<String> {
    let events = split(body, format).unwrap();
    events.iter().map(|event| String::from_utf8(event.to_vec()).unwrap()).collect()
}

/// The place of the fault: line, element, byte.
fn place(body: impl Into<Bytes>, format: Format) -> (Option<usize>, Option<usize>, Option<usize>) {
    let error = split(body, format).unwrap_err();
    assert_eq!(error.fault, Fault::Malformed, "{error:?}");
    (error.line, error.element, error.byte)
}

#[test]
fn a_json_value_is_one_event_byte_for_byte() {
    assert_eq!(texts(" {\"a\": 1,  \"a\":\t1.10e2 }\r\n", Format::Json), ["{\"a\": 1,  \"a\":\t1.10e2 }"]);
    for scalar in ["1", "-0.0", "1e999", "\"x\\u00e9\"", "null", "true"] {
        assert_eq!(texts(scalar, Format::Json), [scalar]);
    }
}

#[test]
fn an_array_is_one_event_for_each_element() {
    assert_eq!(texts("[ 1 , [2, 3] ,{\"a\":[]}, \"é\"]\n", Format::Json), ["1", "[2, 3]", "{\"a\":[]}", "\"é\""]);
    assert_eq!(texts("[]", Format::Json), [""; 0]);
}

#[test]
fn each_line_of_ndjson_is_one_event_without_its_end() {
    assert_eq!(texts("{\"a\":1}\r\n\n  \n [2]\t\n3", Format::Ndjson), ["{\"a\":1}", " [2]\t", "3"]);
}

#[test]
fn raw_bytes_are_one_event_whatever_they_are() {
    assert_eq!(split(&b"\xff\x00{"[..], Format::Raw).unwrap(), [&b"\xff\x00{"[..]]);
}

#[test]
fn a_byte_order_mark_is_passed_over() {
    assert_eq!(texts("\u{feff}[1]", Format::Json), ["1"]);
    assert_eq!(texts("\u{feff}1\n2", Format::Ndjson), ["1", "2"]);
    assert_eq!(place("\u{feff}x", Format::Json).2, Some(3));
}

#[test]
fn an_event_shares_the_memory_of_its_body() {
    let body = Bytes::from_static(b"[1, 22]");
    let events = events(&body, Format::Json, &LIMITS).unwrap();
    assert_eq!(events[1].as_ptr(), body[4..].as_ptr());
}

#[test]
fn nothing_at_all_is_a_fault() {
    for format in [Format::Json, Format::Ndjson, Format::Raw] {
        assert_eq!(split("", format).unwrap_err().fault, Fault::Malformed);
    }
    for format in [Format::Json, Format::Ndjson] {
        assert_eq!(split(" \n\t\r\n", format).unwrap_err().fault, Fault::Malformed);
    }
}

#[test]
fn a_fault_in_ndjson_names_its_line() {
    assert_eq!(place("1\n\n{\"a\":x}\n", Format::Ndjson), (Some(3), None, Some(8)));
    assert_eq!(place("1\n2 3\n", Format::Ndjson), (Some(2), None, Some(4)));
    assert_eq!(place("1\n{\"a\":\n1}\n", Format::Ndjson).0, Some(2));
    assert_eq!(place(&b"1\n2\n\"\xff\"\n"[..], Format::Ndjson), (Some(3), None, Some(5)));
    let error = split("1\n{\"a\":x}", Format::Ndjson).unwrap_err();
    assert_eq!(error.message, "line 2, column 6: expected value");
}

#[test]
fn a_fault_in_an_array_names_its_element_and_byte() {
    assert_eq!(place("[1,\n 2,\n 2x]", Format::Json), (None, Some(3), Some(10)));
    assert_eq!(place("[1,,2]", Format::Json), (None, Some(1), Some(3)));
    assert_eq!(place("[1,2", Format::Json).1, Some(2));
    assert_eq!(place("[1] 2", Format::Json), (None, None, Some(4)));
    assert_eq!(place("{\"a\":1}\n{}", Format::Json), (None, None, Some(8)));
}

#[test]
fn what_is_nearly_json_is_refused() {
    for wrong in [
        "{a:1}",
        "{'a':1}",
        "[1,]",
        "{\"a\":1,}",
        "01",
        "1.",
        ".5",
        "+1",
        "NaN",
        "Infinity",
        "nul",
        "\"\t\"",
        "\"\\x\"",
        "\"open",
        "{\"a\"}",
        "// c\n1",
        "1 1",
        "]",
        "\u{a0}1",
        "[1}",
        "{\"a\":1]",
    ] {
        assert!(split(wrong, Format::Json).is_err(), "{wrong}");
        assert!(split(wrong, Format::Ndjson).is_err(), "{wrong}");
    }
}

#[test]
fn an_event_at_the_limit_is_taken_and_one_above_it_is_named() {
    let (fits, large) = (format!("\"{}\"", "x".repeat(998)), format!("\"{}\"", "x".repeat(999)));
    assert_eq!(split(fits.clone(), Format::Json).unwrap().len(), 1);
    assert_eq!(split(vec![b'x'; 1000], Format::Raw).unwrap().len(), 1);
    for (body, format) in [
        (large.clone(), Format::Json),
        (format!("[{fits},{large}]"), Format::Json),
        (format!("{fits}\n{large}\n"), Format::Ndjson),
        (large.clone(), Format::Raw),
    ] {
        assert_eq!(split(body, format).unwrap_err().fault, Fault::TooLarge, "{format:?}");
    }
    assert_eq!(split(format!("[{fits},{large}]"), Format::Json).unwrap_err().element, Some(1));
    assert_eq!(split(format!("{fits}\n{large}\n"), Format::Ndjson).unwrap_err().line, Some(2));
}

#[test]
fn more_events_than_allowed_are_refused() {
    for (count, fits) in [(100, true), (101, false)] {
        let array = format!("[{}]", vec!["1"; count].join(","));
        let lines = "1\n".repeat(count);
        assert_eq!(split(array, Format::Json).is_ok(), fits);
        assert_eq!(split(lines, Format::Ndjson).is_ok(), fits);
    }
}

#[test]
fn nesting_at_the_limit_is_taken_and_beyond_it_refused() {
    let nested = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert!(split(nested(MAX_DEPTH), Format::Ndjson).is_ok());
    assert_eq!(place(nested(MAX_DEPTH + 1), Format::Ndjson), (Some(1), None, Some(MAX_DEPTH)));
    // The outermost brackets are not an event's own.
    assert!(split(nested(MAX_DEPTH + 1), Format::Json).is_ok());
    assert_eq!(place(nested(MAX_DEPTH + 2), Format::Json).2, Some(MAX_DEPTH + 1));
    assert!(serde_json::from_str::<serde_json::Value>(&nested(MAX_DEPTH)).is_ok(), "what we take, others can read");
}

#[test]
fn ten_megabytes_of_brackets_are_refused() {
    for format in [Format::Json, Format::Ndjson] {
        let error = split(vec![b'['; 10_000_000], format).unwrap_err();
        assert!(error.message.contains("nested deeper"), "{}", error.message);
        let objects = "{\"\":".repeat(2_000_000);
        assert!(split(objects, format).unwrap_err().message.contains("nested deeper"));
    }
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        ".{0,12}".prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 24, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Into::into),
            prop::collection::btree_map("[a-z\"\\\\{\\[]{0,4}", inner, 0..5)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

/// JSON, and JSON with some bytes changed.
fn nearly_json() -> impl Strategy<Value = Vec<u8>> {
    let edits = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3);
    (prop::collection::vec(json(), 1..4), edits, any::<bool>()).prop_map(|(values, edits, array)| {
        let mut text = match array {
            true => serde_json::to_vec(&values).unwrap(),
            false => values.iter().map(|value| value.to_string() + "\n").collect::<String>().into_bytes(),
        };
        for (at, byte) in edits {
            let at = at.index(text.len());
            text[at] = byte;
        }
        text
    })
}

proptest! {
    #[test]
    fn what_is_taken_is_what_was_sent(values in prop::collection::vec(json(), 1..20)) {
        let limits = Limits { max_event_bytes: usize::MAX, max_events: usize::MAX };
        let sent: Vec<_> = values.iter().map(|value| value.to_string()).collect();
        let array = Bytes::from(format!("[{}]", sent.join(" ,\n")));
        let lines = Bytes::from(sent.join("\r\n"));
        prop_assert_eq!(&events(&array, Format::Json, &limits).unwrap(), &sent);
        prop_assert_eq!(&events(&lines, Format::Ndjson, &limits).unwrap(), &sent);
    }

    #[test]
    fn whatever_comes_is_judged_as_a_json_parser_judges_it(body in nearly_json()) {
        let limits = Limits { max_event_bytes: usize::MAX, max_events: usize::MAX };
        let body = Bytes::from(body);
        // Numbers too large for a float, and halves of surrogate pairs, are JSON all the same (RFC 8259 sections 6 and
        // 8.2), so the judge must not build values.
        let judged = std::str::from_utf8(&body).ok().and_then(|text| serde_json::from_str::<&RawValue>(text).ok());
        prop_assert_eq!(events(&body, Format::Json, &limits).is_ok(), judged.is_some());
        if let Err(error) = events(&body, Format::Ndjson, &limits) {
            let lines = body.iter().filter(|byte| **byte == b'\n').count() + 1;
            prop_assert!(error.line.is_none_or(|line| (1..=lines).contains(&line)));
            prop_assert!(error.byte.is_none_or(|byte| byte <= body.len()));
        }
    }

    #[test]
    fn no_bytes_make_it_panic(body: Vec<u8>) {
        for format in [Format::Json, Format::Ndjson, Format::Raw] {
            let _ = split(body.clone(), format);
        }
    }
}
