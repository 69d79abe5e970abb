//! An event as one line of JSON, written by hand for speed.
//!
//! A body that is JSON is embedded as it came; any other is a string, or base64 where it is not UTF-8. A line has no
//! line break in it, whatever the body looks like.

use std::io::Write;

use base64::{Engine, engine::general_purpose::STANDARD};
use forebay_buffer::{Event, Offset, TimeQuality, Timestamp, Value};

use super::{Format, body::Body};
use crate::contract::PartitionId;

/// Appends `event` to `out`, line break included.
pub fn write_line(out: &mut Vec<u8>, format: Format, partition: &PartitionId, offset: Offset, event: &Event) {
    match format {
        Format::Envelope => write_envelope(out, partition, offset, event),
        Format::Body => match Body::of(event) {
            Body::None => out.extend_from_slice(b"null"),
            Body::Json(json) => write_compact(out, json),
            Body::Text(text) => write_string(out, text),
            Body::Bytes(bytes) => write_encoded_body(out, bytes),
        },
    }
    out.push(b'\n');
}

fn write_envelope(out: &mut Vec<u8>, partition: &PartitionId, offset: Offset, event: &Event) {
    out.extend_from_slice(b"{\"stream\":");
    write_string(out, &partition.stream);
    out.extend_from_slice(b",\"partition\":");
    write_string(out, &partition.name);
    out.extend_from_slice(b",\"offset\":");
    write_integer(out, offset.0);
    out.extend_from_slice(b",\"time\":");
    write_time(out, event.time);
    match event.time_quality {
        TimeQuality::Given | TimeQuality::Stamped => {}
        TimeQuality::Repaired => out.extend_from_slice(b",\"time_quality\":\"repaired\""),
        TimeQuality::Untrusted => out.extend_from_slice(b",\"time_quality\":\"untrusted\""),
    }
    if let Some(key) = &event.key {
        write_text_or_base64(out, "key", key);
    }
    if !event.headers.is_empty() {
        out.extend_from_slice(b",\"headers\":");
        write_headers(out, &event.headers);
    }
    if let Some(table) = &event.table {
        out.extend_from_slice(b",\"table\":");
        write_string(out, table);
    }
    match Body::of(event) {
        Body::None => {}
        Body::Json(json) => {
            out.extend_from_slice(b",\"body\":");
            write_compact(out, json);
        }
        Body::Text(text) => {
            out.extend_from_slice(b",\"body\":");
            write_string(out, text);
        }
        Body::Bytes(bytes) => {
            out.extend_from_slice(b",\"body_base64\":");
            write_base64(out, bytes);
        }
    }
    out.push(b'}');
}

/// Valid JSON, without its line breaks: they can only stand between tokens, where punctuation separates as well.
pub(super) fn write_compact(out: &mut Vec<u8>, json: &str) {
    let mut rest = json.trim_ascii().as_bytes();
    while let Some(at) = memchr::memchr2(b'\n', b'\r', rest) {
        out.extend_from_slice(&rest[..at]);
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

/// An object, with one member for each name. A name that occurs more than once has all its values in an array.
pub(super) fn write_headers(out: &mut Vec<u8>, headers: &[(String, Value)]) {
    out.push(b'{');
    write_members(out, headers);
    out.push(b'}');
}

/// The members of that object.
pub(super) fn write_members(out: &mut Vec<u8>, headers: &[(String, Value)]) {
    for (at, (name, value)) in headers.iter().enumerate() {
        let same = |(other, _): &&(String, Value)| other == name;
        if headers[..at].iter().any(|header| same(&header)) {
            continue;
        }
        begin_member(out, name);
        if headers[at + 1..].iter().any(|header| same(&header)) {
            for (nth, (_, value)) in headers[at..].iter().filter(same).enumerate() {
                out.push(if nth == 0 { b'[' } else { b',' });
                write_value(out, value);
            }
            out.push(b']');
        } else {
            write_value(out, value);
        }
    }
}

/// What comes before the value of a member of an object, the first or another.
pub(super) fn begin_member(out: &mut Vec<u8>, name: &str) {
    if out.last() != Some(&b'{') {
        out.push(b',');
    }
    write_string(out, name);
    out.push(b':');
}

/// A body that is not text, where a JSON value must stand.
pub(super) fn write_encoded_body(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(b"{\"body_base64\":");
    write_base64(out, bytes);
    out.push(b'}');
}

/// A header's value, as JSON.
pub(super) fn write_value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::String(text) => write_string(out, text),
        Value::Integer(integer) => write_integer(out, *integer),
        Value::Float(float) if float.is_finite() => {
            serde_json::to_writer(out, float).expect("it is a number, and memory takes all writes");
        }
        Value::Float(float) => write_string(out, &float.to_string()),
        Value::Boolean(boolean) => out.extend_from_slice(if *boolean { b"true" } else { b"false" }),
        Value::Bytes(bytes) => write_base64(out, bytes),
        Value::Time(time) => write_time(out, *time),
    }
}

fn write_text_or_base64(out: &mut Vec<u8>, name: &str, bytes: &[u8]) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    match std::str::from_utf8(bytes) {
        Ok(text) => {
            out.extend_from_slice(b"\":");
            write_string(out, text);
        }
        Err(_) => {
            out.extend_from_slice(b"_base64\":");
            write_base64(out, bytes);
        }
    }
}

fn write_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    out.extend_from_slice(STANDARD.encode(bytes).as_bytes());
    out.push(b'"');
}

/// `text` as a JSON string.
pub(super) fn write_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let mut rest = text.as_bytes();
    while let Some(at) = rest.iter().position(|byte| ESCAPES[usize::from(*byte)] != 0) {
        out.extend_from_slice(&rest[..at]);
        match ESCAPES[usize::from(rest[at])] {
            b'u' => write!(out, "\\u{:04x}", rest[at]).expect("memory takes all writes"),
            short => out.extend_from_slice(&[b'\\', short]),
        }
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

/// What stands behind a backslash for each byte that cannot stand in a string by itself: its number follows `u`.
static ESCAPES: [u8; 256] = {
    let mut escapes = [0; 256];
    let mut control = 0;
    while control < 0x20 {
        escapes[control] = b'u';
        control += 1;
    }
    let short = [(8, b'b'), (b'\t', b't'), (b'\n', b'n'), (12, b'f'), (b'\r', b'r'), (b'"', b'"'), (b'\\', b'\\')];
    let mut nth = 0;
    while nth < short.len() {
        escapes[short[nth].0 as usize] = short[nth].1;
        nth += 1;
    }
    escapes
};

pub(super) fn write_integer(out: &mut Vec<u8>, integer: i64) {
    out.extend_from_slice(itoa::Buffer::new().format(integer).as_bytes());
}

/// RFC 3339 with microseconds, in UTC; a year beyond four digits has a sign, as ISO 8601 has it.
pub(super) fn write_time(out: &mut Vec<u8>, time: Timestamp) {
    const MICROS_A_DAY: i64 = 86_400_000_000;
    let (days, micros) = (time.0.div_euclid(MICROS_A_DAY), time.0.rem_euclid(MICROS_A_DAY));
    let (year, month, day) = civil(days);
    let seconds = micros / 1_000_000;
    let mut text = *b"\"0000-00-00T00:00:00.000000Z\"";
    let parts = [
        (6..8, month),
        (9..11, day),
        (12..14, seconds / 3600),
        (15..17, seconds / 60 % 60),
        (18..20, seconds % 60),
        (21..27, micros % 1_000_000),
    ];
    for (at, number) in parts {
        set_digits(&mut text[at], number);
    }
    if (0..=9999).contains(&year) {
        set_digits(&mut text[1..5], year);
        out.extend_from_slice(&text);
    } else {
        write!(out, "\"{year:+05}").expect("memory takes all writes");
        out.extend_from_slice(&text[5..]);
    }
}

fn set_digits(digits: &mut [u8], mut number: i64) {
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// Year, month and day of a count of days since 1970-01-01 (Howard Hinnant, "chrono-Compatible Low-Level Date
/// Algorithms", `civil_from_days`).
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests;
