use forebay_buffer::Value as Header;
use proptest::prelude::*;

use super::{ColumnType as T, *};

const ALL: [T; 17] = [
    T::Bool,
    T::Int2,
    T::Int4,
    T::Int8,
    T::Float4,
    T::Float8,
    T::Numeric,
    T::Text,
    T::Name,
    T::Json,
    T::Jsonb,
    T::Bytea,
    T::Timestamptz,
    T::Timestamp,
    T::Date,
    T::Time,
    T::Uuid,
];

fn written(column: T, value: Value<'_>) -> Result<Option<Vec<u8>>, &'static str> {
    let mut out = Vec::new();
    match write(&mut out, column, value) {
        Ok(Written::Null) => Ok(None),
        Ok(Written::Value) => Ok(Some(out)),
        Err(misfit) => Err(misfit.code),
    }
}

fn json(column: T, text: &str) -> Result<Option<Vec<u8>>, &'static str> {
    written(column, Value::Json(text))
}

fn is(bytes: impl AsRef<[u8]>) -> Result<Option<Vec<u8>>, &'static str> {
    Ok(Some(bytes.as_ref().to_vec()))
}

#[test]
fn parts_of_json_become_what_the_column_is() {
    assert_eq!(json(T::Int4, "17"), is(17_i32.to_be_bytes()));
    assert_eq!(json(T::Int4, "\"17\""), is(17_i32.to_be_bytes()));
    assert_eq!(json(T::Int2, "1.70e1"), is(17_i16.to_be_bytes()));
    assert_eq!(json(T::Float8, "0.5"), is(0.5_f64.to_be_bytes()));
    assert_eq!(json(T::Bool, "true"), is([1]));
    assert_eq!(json(T::Bool, "0"), is([0]));
    assert_eq!(json(T::Text, r#""a\u00e9\n""#), is("aé\n"));
    assert_eq!(json(T::Text, "1.50"), is("1.50"));
    assert_eq!(json(T::Text, r#"{"a":1}"#), is(r#"{"a":1}"#));
    assert_eq!(json(T::Jsonb, "1.50"), is(b"\x011.50"));
    assert_eq!(json(T::Json, "null"), is("null"));
    assert_eq!(json(T::Text, "null"), Ok(None));
    assert_eq!(json(T::Timestamptz, "\"2000-01-01T00:00:01Z\""), is(1_000_000_i64.to_be_bytes()));
    assert_eq!(json(T::Timestamptz, "\"infinity\""), is(i64::MAX.to_be_bytes()));
    assert_eq!(json(T::Timestamp, "\" -Infinity\""), is(i64::MIN.to_be_bytes()));
    assert_eq!(json(T::Date, "\"+infinity\""), is(i32::MAX.to_be_bytes()));
    assert_eq!(json(T::Time, "\"infinity\""), Err("22007"));
    assert_eq!(json(T::Uuid, "\"{00000000-0000-0000-0000-0000000000ff}\""), is(255_u128.to_be_bytes()));
}

#[test]
fn blanks_around_a_body_are_no_part_of_it() {
    assert_eq!(json(T::Text, "\"x\" "), is("x"));
    assert_eq!(json(T::Text, "\r\n\"a\\n\"\t"), is("a\n"));
    assert_eq!(json(T::Text, " null"), Ok(None));
    assert_eq!(json(T::Text, " 1.50\n"), is("1.50"));
    assert_eq!(json(T::Text, " {\"a\": 1}\n"), is("{\"a\": 1}"));
    assert_eq!(json(T::Bool, "\ttrue "), is([1]));
}

#[test]
fn json_that_is_nested_too_deep_is_refused_and_no_other() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    for column in [T::Json, T::Jsonb] {
        assert!(json(column, &nested(1000)).is_ok());
        assert_eq!(json(column, &nested(1001)), Err("54001"));
        assert_eq!(json(column, &format!("{}1{}", "{\"a\":".repeat(1001), "}".repeat(1001))), Err("54001"));
        assert!(json(column, &format!("[{}1]", "[],".repeat(2000))).is_ok(), "long, and not deep");
        assert!(json(column, &format!("\"{}\"", "\\\"[{".repeat(2000))).is_ok(), "a text with brackets in it");
    }
    assert!(json(T::Text, &nested(1001)).is_ok(), "a text has no depth");
}

#[test]
fn what_does_not_fit_is_refused_with_the_servers_own_code() {
    assert_eq!(json(T::Int2, "40000"), Err("22003"));
    assert_eq!(json(T::Int4, "1.5"), Err("22P02"));
    assert_eq!(json(T::Int8, "\"abc\""), Err("22P02"));
    assert_eq!(json(T::Int8, "[1]"), Err("22P02"));
    assert_eq!(json(T::Int8, "true"), Err("22P02"));
    assert_eq!(json(T::Float4, "1e39"), Err("22003"));
    assert_eq!(json(T::Float8, "1e400"), Err("22003"));
    assert_eq!(json(T::Float8, "1e-400"), Err("22003"));
    assert_eq!(json(T::Float8, "0e-400"), is(0_f64.to_be_bytes()));
    assert_eq!(json(T::Numeric, "1e131072"), Err("22003"));
    assert_eq!(json(T::Bool, "2"), Err("22P02"));
    assert_eq!(json(T::Timestamptz, "\"soon\""), Err("22007"));
    assert_eq!(json(T::Timestamptz, "1700000000"), Err("22007"));
    assert_eq!(json(T::Uuid, "\"0-0\""), Err("22P02"));
    assert_eq!(json(T::Text, "\"\\ud800\""), Err("22P02"));
    assert_eq!(written(T::Text, Value::Bytes(&[0xff])), Err("22021"));
    assert_eq!(written(T::Name, Value::Text(&"x".repeat(64))), Err("42622"));
    assert_eq!(written(T::Int8, Value::Time(Timestamp(0))), Err("22007"));
}

#[test]
fn a_nul_is_found_before_the_server_finds_it() {
    assert_eq!(json(T::Text, r#""a\u0000""#), Err("22021"));
    assert_eq!(written(T::Text, Value::Text("a\0")), Err("22021"));
    assert_eq!(json(T::Jsonb, r#"{"a":"\u0000"}"#), Err("22P05"));
    assert_eq!(json(T::Jsonb, r#"{"a":"\\\u0000"}"#), Err("22P05"));
    assert_eq!(written(T::Jsonb, Value::Text("a\0")), Err("22P05"));
    assert!(json(T::Jsonb, r#"{"a":"\\u0000"}"#).is_ok(), "a backslash and five characters");
    assert!(json(T::Json, r#"{"a":"\u0000"}"#).is_ok(), "json keeps the text");
}

#[test]
fn other_values_go_where_they_can() {
    let headers = [("n".to_owned(), Header::Integer(1)), ("x".into(), "y".into()), ("n".into(), Header::Boolean(true))];
    assert_eq!(written(T::Jsonb, Value::Headers(&headers)), is(b"\x01{\"n\":[1,true],\"x\":\"y\"}"));
    assert_eq!(written(T::Jsonb, Value::Repeated(&headers, "n")), is(b"\x01[1,true]"));
    assert_eq!(written(T::Int4, Value::Repeated(&headers, "n")), Err("22P02"));
    assert_eq!(written(T::Text, Value::Time(Timestamp(0))), is("1970-01-01T00:00:00.000000Z"));
    assert_eq!(written(T::Text, Value::Float(0.5)), is("0.5"));
    assert_eq!(written(T::Float4, Value::Float(f64::INFINITY)), is(f32::INFINITY.to_be_bytes()));
    assert_eq!(written(T::Jsonb, Value::Body(&[0xff])), is(b"\x01{\"body_base64\":\"/w==\"}"));
    assert_eq!(written(T::Bytea, Value::Body(&[0xff])), is([0xff]));
    assert_eq!(written(T::Bytea, Value::Json("{}")), is("{}"));
    assert_eq!(written(T::Numeric, Value::Text("NaN")), is([0, 0, 0, 0, 0xC0, 0, 0, 0]));
}

#[test]
fn uuids_are_read_as_the_server_reads_them() {
    let ok = [
        "a0eebc999c0b4ef8bb6d6bb9bd380a11",
        "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11",
        "a0ee-bc99-9c0b-4ef8-bb6d-6bb9-bd38-0a11",
    ];
    for text in ok {
        assert!(parse_uuid(text).is_some(), "{text}");
    }
    for text in [
        "",
        "{",
        "a0eebc999c0b4ef8bb6d6bb9bd380a1",
        "-a0eebc999c0b4ef8bb6d6bb9bd380a11",
        "a0e-ebc999c0b4ef8bb6d6bb9bd380a11",
    ] {
        assert_eq!(parse_uuid(text), None, "{text}");
    }
}

proptest! {
    #[test]
    fn no_value_makes_it_panic(text in "[-+0-9a-f.eE\"\\\\u{}T:é ]{0,20}", integer in any::<i64>(), float in any::<f64>()) {
        for column in ALL {
            let values = [
                Value::Text(&text), Value::Bytes(text.as_bytes()), Value::Integer(integer), Value::Float(float),
                Value::Boolean(true), Value::Time(Timestamp(integer)), Value::Repeated(&[], ""),
            ];
            for value in values {
                let _ = written(column, value);
            }
            if serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok() {
                let _ = written(column, Value::Json(&text));
            }
        }
    }

    #[test]
    fn floats_are_written_as_they_are(float in any::<f64>()) {
        let text = serde_json::to_string(&float).expect("a number");
        if float.is_finite() {
            prop_assert_eq!(written(T::Float8, Value::Json(&text)), is(float.to_be_bytes()));
        }
    }
}
