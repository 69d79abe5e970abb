//! Events as bytes: the payload of a segment before compression.
//!
//! ```text
//! payload  = event*                                (their number stands in the segment's row)
//! event    = flags:u8  time:zigzag  [offset:varint]  [key:bytes]  [headers]  [table:bytes]  [body:bytes]
//! flags    = 1 key | 2 headers | 4 table | 8 body | 16 end of transaction | 32 time stamped by the gateway
//!            | kind of the body: 64 JSON, 128 text, 192 bytes
//! time     = microseconds, as the difference from the event before (the first from 0)
//! offset   = only where the numbering is shared: the difference from the event before (the first from the segment's)
//! headers  = count:varint (name:bytes type:u8 value)*
//! value    = 0 string:bytes | 1 integer:zigzag | 2 float:8 bytes LE | 3 false | 4 true | 5 bytes | 6 time:zigzag
//! bytes    = length:varint byte*
//! varint   = LEB128, at most 10 bytes
//! ```
//!
//! The decoder reads bytes that may be anything: it never panics and never allocates more than what it was given.

use bytes::Bytes;

use crate::{BodyKind, Event, Numbering, Offset, TimeQuality, Timestamp, Value};

const KEY: u8 = 1;
const HEADERS: u8 = 2;
const TABLE: u8 = 4;
const BODY: u8 = 8;
const END_OF_TRANSACTION: u8 = 16;
const STAMPED: u8 = 32;
const KIND: u8 = 192;

/// Why bytes are not the events they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) &'static str);

/// Appends events one after another.
#[derive(Debug, Default)]
pub(crate) struct Encoder {
    payload: Vec<u8>,
    time: i64,
    offset: i64,
    events: u32,
}

impl Encoder {
    /// Appends one event; `offset` only where the numbering is shared.
    pub(crate) fn push(&mut self, event: &Event, offset: Option<Offset>) {
        let stamped = event.time_quality != TimeQuality::Given;
        let flags = flag(event.key.is_some(), KEY)
            | flag(!event.headers.is_empty(), HEADERS)
            | flag(event.table.is_some(), TABLE)
            | flag(event.body.is_some(), BODY)
            | flag(event.end_of_transaction, END_OF_TRANSACTION)
            | flag(stamped, STAMPED)
            | kind_flags(event.body_kind);
        self.payload.push(flags);
        self.zigzag(event.time.0.wrapping_sub(self.time));
        self.time = event.time.0;
        if let Some(Offset(offset)) = offset {
            let before = if self.events == 0 { offset } else { self.offset };
            self.varint((offset - before) as u64);
            self.offset = offset;
        }
        if let Some(key) = &event.key {
            self.bytes(key);
        }
        if !event.headers.is_empty() {
            self.varint(event.headers.len() as u64);
            for (name, value) in &event.headers {
                self.bytes(name.as_bytes());
                self.value(value);
            }
        }
        if let Some(table) = &event.table {
            self.bytes(table.as_bytes());
        }
        if let Some(body) = &event.body {
            self.bytes(body);
        }
        self.events += 1;
    }

    pub(crate) fn payload(&self) -> &[u8] {
        &self.payload
    }

    pub(crate) fn events(&self) -> u32 {
        self.events
    }

    /// Forgets what was encoded and keeps the allocation.
    pub(crate) fn clear(&mut self) {
        self.payload.clear();
        (self.time, self.offset, self.events) = (0, 0, 0);
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::String(text) => {
                self.payload.push(0);
                self.bytes(text.as_bytes());
            }
            Value::Integer(number) => {
                self.payload.push(1);
                self.zigzag(*number);
            }
            Value::Float(number) => {
                self.payload.push(2);
                self.payload.extend_from_slice(&number.to_le_bytes());
            }
            Value::Boolean(truth) => self.payload.push(3 + u8::from(*truth)),
            Value::Bytes(bytes) => {
                self.payload.push(5);
                self.bytes(bytes);
            }
            Value::Time(time) => {
                self.payload.push(6);
                self.zigzag(time.0);
            }
        }
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.varint(bytes.len() as u64);
        self.payload.extend_from_slice(bytes);
    }

    fn zigzag(&mut self, number: i64) {
        self.varint(((number << 1) ^ (number >> 63)) as u64);
    }

    fn varint(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.payload.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.payload.push(number as u8);
    }
}

fn flag(set: bool, bit: u8) -> u8 {
    if set { bit } else { 0 }
}

fn kind_flags(kind: BodyKind) -> u8 {
    match kind {
        BodyKind::Unsaid => 0,
        BodyKind::Json => 64,
        BodyKind::Text => 128,
        BodyKind::Bytes => KIND,
    }
}

fn kind_of(flags: u8) -> BodyKind {
    match flags & KIND {
        0 => BodyKind::Unsaid,
        64 => BodyKind::Json,
        128 => BodyKind::Text,
        _ => BodyKind::Bytes,
    }
}

/// Decodes exactly `count` events that start at offset `first`.
pub(crate) fn decode(
    payload: &Bytes,
    count: u32,
    first: Offset,
    numbering: Numbering,
) -> Result<Vec<(Offset, Event)>, Malformed> {
    // An event takes two bytes at the least, so this bounds what a lying count can allocate.
    let mut events = Vec::with_capacity((count as usize).min(payload.len() / 2));
    let mut cursor = Cursor { payload, at: 0 };
    let (mut time, mut offset) = (0_i64, first.0);
    for index in 0..count {
        let flags = cursor.byte()?;
        time = time.wrapping_add(cursor.zigzag()?);
        match numbering {
            Numbering::Assigned => offset = first.0 + i64::from(index),
            Numbering::Shared { .. } => {
                let step = i64::try_from(cursor.varint()?).map_err(|_| Malformed("offset out of range"))?;
                if index > 0 && step == 0 {
                    return Err(Malformed("offsets do not increase"));
                }
                offset = offset.checked_add(step).ok_or(Malformed("offset out of range"))?;
            }
        }
        let key = if flags & KEY != 0 { Some(cursor.bytes()?) } else { None };
        let headers = if flags & HEADERS != 0 { cursor.headers()? } else { Vec::new() };
        let table = if flags & TABLE != 0 { Some(cursor.text()?) } else { None };
        let body = if flags & BODY != 0 { Some(cursor.bytes()?) } else { None };
        let time_quality = if flags & STAMPED != 0 { TimeQuality::Stamped } else { TimeQuality::Given };
        events.push((
            Offset(offset),
            Event {
                time: Timestamp(time),
                time_quality,
                key,
                headers,
                body,
                body_kind: kind_of(flags),
                table,
                end_of_transaction: flags & END_OF_TRANSACTION != 0,
            },
        ));
    }
    if cursor.at != payload.len() {
        return Err(Malformed("bytes left over after the last event"));
    }
    Ok(events)
}

struct Cursor<'a> {
    payload: &'a Bytes,
    at: usize,
}

impl Cursor<'_> {
    fn byte(&mut self) -> Result<u8, Malformed> {
        let byte = *self.payload.get(self.at).ok_or(Malformed("payload ends early"))?;
        self.at += 1;
        Ok(byte)
    }

    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(Malformed("number too long"))
    }

    fn zigzag(&mut self) -> Result<i64, Malformed> {
        let number = self.varint()?;
        Ok((number >> 1) as i64 ^ -((number & 1) as i64))
    }

    fn bytes(&mut self) -> Result<Bytes, Malformed> {
        let length = usize::try_from(self.varint()?).map_err(|_| Malformed("length out of range"))?;
        let end = self.at.checked_add(length).filter(|end| *end <= self.payload.len());
        let end = end.ok_or(Malformed("payload ends early"))?;
        let bytes = self.payload.slice(self.at..end);
        self.at = end;
        Ok(bytes)
    }

    fn text(&mut self) -> Result<String, Malformed> {
        String::from_utf8(self.bytes()?.into()).map_err(|_| Malformed("text is not UTF-8"))
    }

    fn headers(&mut self) -> Result<Vec<(String, Value)>, Malformed> {
        let count = self.varint()?;
        if count > (self.payload.len() - self.at) as u64 {
            return Err(Malformed("more headers than bytes"));
        }
        (0..count).map(|_| Ok((self.text()?, self.value()?))).collect()
    }

    fn value(&mut self) -> Result<Value, Malformed> {
        Ok(match self.byte()? {
            0 => Value::String(self.text()?),
            1 => Value::Integer(self.zigzag()?),
            2 => {
                let mut eight = [0; 8];
                for byte in &mut eight {
                    *byte = self.byte()?;
                }
                Value::Float(f64::from_le_bytes(eight))
            }
            3 => Value::Boolean(false),
            4 => Value::Boolean(true),
            5 => Value::Bytes(self.bytes()?),
            6 => Value::Time(Timestamp(self.zigzag()?)),
            _ => return Err(Malformed("unknown header type")),
        })
    }
}
