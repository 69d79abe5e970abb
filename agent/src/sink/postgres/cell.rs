//! One value, written in the binary form of its column's type; or why it cannot be.

use std::{borrow::Cow, io::Write};

use forebay_buffer::Timestamp;
use memchr::memmem;

use super::{
    decimal::Decimal,
    temporal::{parse_time, parse_timestamp, write_date, write_infinity, write_time, write_timestamp},
    types::ColumnType,
};
use crate::sink::{line, value::Value};

/// Why a value does not go into a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Misfit {
    /// The SQLSTATE that the server would give.
    pub(super) code: &'static str,
    /// What is wrong with it, after the value: "is no whole number".
    pub(super) problem: &'static str,
}

impl Misfit {
    pub(super) const fn new(code: &'static str, problem: &'static str) -> Self {
        Self { code, problem }
    }

    pub(super) const fn out_of_range() -> Self {
        Self::new("22003", "is out of the range of that type")
    }

    const fn invalid() -> Self {
        Self::new("22P02", "is no value of that type")
    }

    const fn no_time() -> Self {
        Self::new("22007", "is no value of that type")
    }
}

/// Whether there was anything to write.
pub(super) enum Written {
    Null,
    Value,
}

/// A name is cut off at input as text, and an error in binary.
const MAX_NAME_BYTES: usize = 63;
/// How far JSON may be nested. A server with the default `max_stack_depth` takes several times this, and no longer knows
/// more than that its stack is full (54001) where it does not: that may be its own fault, and is tried again. So what is
/// refused is what no server has to take.
const MAX_DEPTH: usize = 1000;
/// The first byte of the binary form of `jsonb` (`jsonb_recv` in `src/backend/utils/adt/jsonb.c`).
const JSONB_VERSION: u8 = 1;

/// Appends `value` to `out`, as a column of type `column` takes it.
pub(super) fn write(out: &mut Vec<u8>, column: ColumnType, value: Value<'_>) -> Result<Written, Misfit> {
    match (column, value) {
        (_, Value::Null) => return Ok(Written::Null),
        (ColumnType::Json | ColumnType::Jsonb, Value::Json(json)) if is_too_deep(json.as_bytes()) => {
            return Err(Misfit::new("54001", "is nested more than 1000 deep"));
        }
        (ColumnType::Json, value) => value.write_json(out),
        (ColumnType::Jsonb, value) => {
            out.push(JSONB_VERSION);
            let start = out.len();
            value.write_json(out);
            if has_nul(&out[start..]) {
                return Err(Misfit::new("22P05", "has \\u0000 in it, which no text in Postgres can have"));
            }
        }
        (_, Value::Json(json)) => return write_json(out, column, json),
        (_, Value::Text(text)) => write_text(out, column, text)?,
        (_, Value::Bytes(bytes) | Value::Body(bytes)) => write_bytes(out, column, bytes)?,
        (_, Value::Integer(integer)) => write_integer(out, column, integer)?,
        (_, Value::Float(float)) => write_float(out, column, float)?,
        (_, Value::Boolean(boolean)) => write_boolean(out, column, boolean)?,
        (_, Value::Time(time)) => write_instant(out, column, time)?,
        (ColumnType::Text, value @ (Value::Headers(_) | Value::Repeated(..))) => value.write_json(out),
        (_, Value::Headers(_) | Value::Repeated(..)) => return Err(Misfit::invalid()),
    }
    Ok(Written::Value)
}

/// Whether a JSON text has U+0000 in it, in the only way that it can.
fn has_nul(json: &[u8]) -> bool {
    memmem::find_iter(json, b"\\u0000").any(|at| {
        let backslashes = json[..at].iter().rev().take_while(|byte| **byte == b'\\').count();
        backslashes % 2 == 0
    })
}

/// Whether a JSON text is nested deeper than [`MAX_DEPTH`].
fn is_too_deep(json: &[u8]) -> bool {
    // Every level takes a byte at least.
    if json.len() <= MAX_DEPTH {
        return false;
    }
    let (mut depth, mut is_within_string) = (0_usize, false);
    let mut bytes = json.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => is_within_string = !is_within_string,
            b'\\' => drop(bytes.next()),
            b'[' | b'{' if !is_within_string => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return true;
                }
            }
            b']' | b'}' if !is_within_string => depth = depth.saturating_sub(1),
            _ => (),
        }
    }
    false
}

/// A JSON value into a column that is none of JSON.
fn write_json(out: &mut Vec<u8>, column: ColumnType, json: &str) -> Result<Written, Misfit> {
    // A body has what its producer put around it.
    let json = json.trim_ascii();
    match json.as_bytes().first() {
        Some(b'n') => return Ok(Written::Null),
        Some(b'"') => write_text(out, column, &unquoted(json)?)?,
        Some(b't') => write_boolean(out, column, true)?,
        Some(b'f') => write_boolean(out, column, false)?,
        Some(b'{' | b'[') => match column {
            ColumnType::Text | ColumnType::Bytea => write_text(out, column, json)?,
            _ => return Err(Misfit::invalid()),
        },
        _ => write_text(out, column, json)?,
    }
    Ok(Written::Value)
}

/// The text that a JSON string stands for.
fn unquoted(json: &str) -> Result<Cow<'_, str>, Misfit> {
    match json.get(1..json.len() - 1) {
        Some(bare) if !bare.contains('\\') => Ok(Cow::Borrowed(bare)),
        _ => serde_json::from_str(json).map(Cow::Owned).map_err(|_| Misfit::new("22P02", "is no valid Unicode")),
    }
}

fn write_text(out: &mut Vec<u8>, column: ColumnType, text: &str) -> Result<(), Misfit> {
    match column {
        ColumnType::Text | ColumnType::Name => {
            if memchr::memchr(0, text.as_bytes()).is_some() {
                return Err(Misfit::new("22021", "has U+0000 in it, which no text in Postgres can have"));
            }
            if column == ColumnType::Name && text.len() > MAX_NAME_BYTES {
                return Err(Misfit::new("42622", "is longer than 63 bytes"));
            }
            out.extend_from_slice(text.as_bytes());
        }
        ColumnType::Bytea => out.extend_from_slice(text.as_bytes()),
        ColumnType::Bool => out.push(u8::from(parse_boolean(text).ok_or(Misfit::invalid())?)),
        ColumnType::Int2 | ColumnType::Int4 | ColumnType::Int8 => {
            let decimal = Decimal::parse(text.trim_ascii()).ok_or(Misfit::invalid())?;
            write_integer(out, column, decimal.integer()?)?;
        }
        ColumnType::Float4 => out.extend_from_slice(&parse_float4(text.trim_ascii())?.to_be_bytes()),
        ColumnType::Float8 => out.extend_from_slice(&parse_float8(text.trim_ascii())?.to_be_bytes()),
        ColumnType::Numeric => match text.trim_ascii() {
            nan if nan.eq_ignore_ascii_case("nan") => write_nan(out),
            number => Decimal::parse(number).ok_or(Misfit::invalid())?.write_numeric(out)?,
        },
        ColumnType::Timestamptz | ColumnType::Timestamp | ColumnType::Date
            if write_infinity(out, column == ColumnType::Date, text) => {}
        ColumnType::Timestamptz | ColumnType::Timestamp | ColumnType::Date => {
            write_instant(out, column, parse_timestamp(text).ok_or(Misfit::no_time())?)?;
        }
        ColumnType::Time => write_time(out, parse_time(text).ok_or(Misfit::no_time())?),
        ColumnType::Uuid => out.extend_from_slice(&parse_uuid(text).ok_or(Misfit::invalid())?),
        ColumnType::Json | ColumnType::Jsonb => unreachable!("columns of JSON take every value as JSON"),
    }
    Ok(())
}

fn write_bytes(out: &mut Vec<u8>, column: ColumnType, bytes: &[u8]) -> Result<(), Misfit> {
    if column == ColumnType::Bytea {
        out.extend_from_slice(bytes);
        return Ok(());
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => write_text(out, column, text),
        Err(_) => Err(Misfit::new("22021", "is no text: its bytes are not UTF-8")),
    }
}

fn write_integer(out: &mut Vec<u8>, column: ColumnType, integer: i64) -> Result<(), Misfit> {
    match column {
        ColumnType::Int8 => out.extend_from_slice(&integer.to_be_bytes()),
        ColumnType::Int4 => {
            out.extend_from_slice(&i32::try_from(integer).map_err(|_| Misfit::out_of_range())?.to_be_bytes());
        }
        ColumnType::Int2 => {
            out.extend_from_slice(&i16::try_from(integer).map_err(|_| Misfit::out_of_range())?.to_be_bytes());
        }
        ColumnType::Text => write!(out, "{integer}").expect("memory takes all writes"),
        _ => write_text(out, column, &integer.to_string())?,
    }
    Ok(())
}

fn write_float(out: &mut Vec<u8>, column: ColumnType, float: f64) -> Result<(), Misfit> {
    match column {
        ColumnType::Float8 => out.extend_from_slice(&float.to_be_bytes()),
        ColumnType::Float4 if !float.is_finite() => out.extend_from_slice(&(float as f32).to_be_bytes()),
        _ => write_text(out, column, &float.to_string())?,
    }
    Ok(())
}

fn write_boolean(out: &mut Vec<u8>, column: ColumnType, boolean: bool) -> Result<(), Misfit> {
    match column {
        ColumnType::Bool => out.push(u8::from(boolean)),
        ColumnType::Text | ColumnType::Bytea => out.extend_from_slice(if boolean { b"true" } else { b"false" }),
        _ => return Err(Misfit::invalid()),
    }
    Ok(())
}

fn write_instant(out: &mut Vec<u8>, column: ColumnType, time: Timestamp) -> Result<(), Misfit> {
    match column {
        ColumnType::Timestamptz | ColumnType::Timestamp => write_timestamp(out, time),
        ColumnType::Date => write_date(out, time),
        ColumnType::Time => {
            write_time(out, time);
            Ok(())
        }
        ColumnType::Text => {
            let mut quoted = Vec::with_capacity(34);
            line::write_time(&mut quoted, time);
            out.extend_from_slice(&quoted[1..quoted.len() - 1]);
            Ok(())
        }
        _ => Err(Misfit::no_time()),
    }
}

/// `NaN`, as `numeric_recv` takes it: no digits, and a sign of its own.
fn write_nan(out: &mut Vec<u8>) {
    for field in [0, 0, 0xC000_u16, 0] {
        out.extend_from_slice(&field.to_be_bytes());
    }
}

/// As the server reads a boolean (`parse_bool_with_len` in `src/backend/utils/adt/bool.c`), but for abbreviations of
/// more than one letter.
fn parse_boolean(text: &str) -> Option<bool> {
    let is = |words: &[&str]| words.iter().any(|word| text.trim_ascii().eq_ignore_ascii_case(word));
    match () {
        () if is(&["true", "t", "yes", "y", "on", "1"]) => Some(true),
        () if is(&["false", "f", "no", "n", "off", "0"]) => Some(false),
        () => None,
    }
}

/// A number too large or too small for the type is refused, as the server does, and not made infinite or zero.
fn parse_float8(text: &str) -> Result<f64, Misfit> {
    let float: f64 = text.parse().map_err(|_| Misfit::invalid())?;
    keeps_its_size(text, float.is_infinite(), float == 0.0).map(|()| float)
}

fn parse_float4(text: &str) -> Result<f32, Misfit> {
    let float: f32 = text.parse().map_err(|_| Misfit::invalid())?;
    keeps_its_size(text, float.is_infinite(), float == 0.0).map(|()| float)
}

fn keeps_its_size(text: &str, became_infinite: bool, became_zero: bool) -> Result<(), Misfit> {
    // "Infinity" is no decimal, and stays what it is.
    match Decimal::parse(text) {
        Some(_) if became_infinite => Err(Misfit::out_of_range()),
        Some(decimal) if became_zero && !decimal.is_zero() => Err(Misfit::out_of_range()),
        _ => Ok(()),
    }
}

/// 32 hexadecimal digits, with hyphens after groups of four, or none, in braces or not: as the server reads them.
fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let text = text.strip_prefix('{').map_or(Some(text), |rest| rest.strip_suffix('}'))?;
    let mut digits = text.bytes().filter(|byte| *byte != b'-').map(|byte| char::from(byte).to_digit(16));
    let mut uuid = [0; 16];
    for byte in &mut uuid {
        *byte = (digits.next()?? * 16 + digits.next()??) as u8;
    }
    let hyphens_are_right = || {
        let mut count = 0;
        let mut after_hyphen = true;
        text.bytes().all(|byte| {
            let fits = byte != b'-' || (!after_hyphen && count % 4 == 0 && count < 32);
            after_hyphen = byte == b'-';
            count += usize::from(byte != b'-');
            fits
        })
    };
    (digits.next().is_none() && hyphens_are_right()).then_some(uuid)
}

#[cfg(test)]
mod tests;
