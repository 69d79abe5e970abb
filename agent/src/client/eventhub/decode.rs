//! Messages out of their bytes (AMQP 1.0 part 1, section 1.6, and part 3, section 3.2).
//!
//! The codec of fe2o3-amqp is not used for them: it goes as deep as a message says, to the end of the stack, and has no
//! message at all of one whose application properties have a list among them, as the vendors' SDKs send it.

use std::ops::Range;

use bytes::Bytes;
use forebay_buffer::Timestamp;

/// Descriptors of performatives (part 2, section 2.7) and of sections.
const OPEN: u64 = 0x10;
const ATTACH: u64 = 0x12;
const TRANSFER: u64 = 0x14;
const HEADER: u64 = 0x70;
const DELIVERY_ANNOTATIONS: u64 = 0x71;
const MESSAGE_ANNOTATIONS: u64 = 0x72;
const PROPERTIES: u64 = 0x73;
const APPLICATION_PROPERTIES: u64 = 0x74;
const DATA: u64 = 0x75;
const SEQUENCE: u64 = 0x76;
const VALUE: u64 = 0x77;
const FOOTER: u64 = 0x78;

/// Values may be in values so often.
const MAX_DEPTH: u32 = 64;

/// A value of AMQP. What differs in width alone is one here; what a described value is described as is left out.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Null,
    Boolean(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    /// Of 4, 8 or 16 bytes.
    Decimal(Bytes),
    Character(char),
    Time(Timestamp),
    Uuid(u128),
    Binary(Bytes),
    String(String),
    Symbol(String),
    /// An array is a list.
    List(Vec<Value>),
    Map(Vec<(Value, Value)>),
}

impl Value {
    /// An integer of any width, if it is one that fits.
    pub(super) fn integer(&self) -> Option<i64> {
        match self {
            Self::Signed(number) => Some(*number),
            Self::Unsigned(number) => i64::try_from(*number).ok(),
            _ => None,
        }
    }

    /// A text, or a symbol.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::String(text) | Self::Symbol(text) => Some(text),
            _ => None,
        }
    }
}

/// Values with names.
pub(super) type Named = Vec<(String, Value)>;

/// What a message has.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Message {
    pub(super) delivery_annotations: Named,
    pub(super) annotations: Named,
    /// The fields of section 3.2.4, in their order. Those at the end may be missing.
    pub(super) properties: Vec<Value>,
    pub(super) application_properties: Named,
    pub(super) body: Body,
}

/// A message's body.
#[derive(Debug, Default, PartialEq)]
pub(super) enum Body {
    #[default]
    None,
    Data(Bytes),
    Sequence(Vec<Value>),
    Value(Value),
}

/// Why bytes are no message.
pub(super) type Malformed = &'static str;

const CUT: Malformed = "it is shorter than it says";
const UNKNOWN: Malformed = "there is a value in it of a type that AMQP does not have";

/// The message that these bytes are; where they are none, what there is of one, and why.
pub(super) fn message(bytes: &Bytes) -> (Message, Result<(), Malformed>) {
    let mut message = Message::default();
    let outcome = message.read(bytes);
    (message, outcome)
}

impl Message {
    fn read(&mut self, bytes: &Bytes) -> Result<(), Malformed> {
        let (mut reader, mut data) = (Reader::new(bytes), Vec::new());
        while reader.at < bytes.len() {
            match reader.descriptor()? {
                HEADER | FOOTER => drop(reader.value(0)?),
                DELIVERY_ANNOTATIONS => self.delivery_annotations = reader.named()?,
                MESSAGE_ANNOTATIONS => self.annotations = reader.named()?,
                PROPERTIES => {
                    self.properties = match reader.value(0)? {
                        Value::List(fields) => fields,
                        _ => return Err("its properties are no list"),
                    }
                }
                APPLICATION_PROPERTIES => self.application_properties = reader.named()?,
                DATA => data.push(bytes.slice_ref(reader.binary()?)),
                SEQUENCE => match (reader.value(0)?, &mut self.body) {
                    (Value::List(values), Body::Sequence(before)) => before.extend(values),
                    (Value::List(values), body) => *body = Body::Sequence(values),
                    _ => return Err("a sequence in it is no list"),
                },
                VALUE => self.body = Body::Value(reader.value(0)?),
                _ => return Err("there is a section in it that AMQP does not have"),
            }
        }
        match data.len() {
            0 => {}
            1 => self.body = Body::Data(data.remove(0)),
            _ => self.body = Body::Data(data.concat().into()),
        }
        Ok(())
    }
}

/// Where a frame's performative ends, if it is a transfer, and its payload begins: `bytes` are what is there of the frame,
/// behind its header. `None`: it is another performative.
pub(super) fn end_of_transfer(bytes: &[u8]) -> Result<Option<usize>, Malformed> {
    let mut reader = Reader::new(bytes);
    if reader.descriptor()? != TRANSFER {
        return Ok(None);
    }
    let size = match reader.byte()? {
        0x45 => 0,
        0xc0 => reader.length(false)?,
        0xd0 => reader.length(true)?,
        _ => return Err(UNKNOWN),
    };
    reader.take(size)?;
    Ok(Some(reader.at))
}

/// Where an open performative has the size of the largest frame, 4 bytes wide: `bytes` are its frame behind the header.
pub(super) fn place_of_frame_limit(bytes: &[u8]) -> Result<Option<Range<usize>>, Malformed> {
    // Behind the container's id and the host's name.
    let Some(limit) = fields(bytes, OPEN, 3)?.pop() else { return Ok(None) };
    Ok(Some(limit.start + 1..limit.end).filter(|_| bytes[limit.start] == 0x70))
}

/// Where an attach performative has the size of the largest message that the peer sends, without its type. 0 is no limit.
pub(super) fn place_of_message_limit(bytes: &[u8]) -> Result<Option<Range<usize>>, Malformed> {
    let fields = fields(bytes, ATTACH, 11)?;
    let (Some(role), Some(limit)) = (fields.get(2), fields.get(10)) else { return Ok(None) };
    let is_sender = matches!(bytes[role.clone()], [0x42] | [0x56, 0]);
    let has_limit = matches!(bytes[limit.start], 0x53 | 0x80);
    Ok(Some(limit.start + 1..limit.end).filter(|_| is_sender && has_limit))
}

/// Where the first `count` fields of a performative are; none of another performative.
fn fields(bytes: &[u8], performative: u64, count: usize) -> Result<Vec<Range<usize>>, Malformed> {
    let mut reader = Reader::new(bytes);
    if reader.descriptor()? != performative {
        return Ok(Vec::new());
    }
    let code = reader.byte()?;
    if !matches!(code, 0x45 | 0xc0 | 0xd0) {
        return Err(UNKNOWN);
    }
    let (there, _) = reader.compound(code)?;
    if there < count {
        return Ok(Vec::new());
    }
    let mut field = |_| {
        let begin = reader.at;
        reader.value(0)?;
        Ok(begin..reader.at)
    };
    (0..count).map(&mut field).collect()
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    /// How many more values there may be: in an array they may take no room.
    values: usize,
}

impl<'a> Reader<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, values: bytes.len() }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let end = self.at.checked_add(count).ok_or(CUT)?;
        let taken = self.bytes.get(self.at..end).ok_or(CUT)?;
        self.at = end;
        Ok(taken)
    }

    fn fixed<const WIDTH: usize>(&mut self) -> Result<[u8; WIDTH], Malformed> {
        Ok(self.take(WIDTH)?.try_into().expect("so many were taken"))
    }

    fn byte(&mut self) -> Result<u8, Malformed> {
        Ok(self.fixed::<1>()?[0])
    }

    /// A length, or a count: of four bytes, or of one.
    fn length(&mut self, is_wide: bool) -> Result<usize, Malformed> {
        Ok(if is_wide { u32::from_be_bytes(self.fixed()?) as usize } else { self.byte()?.into() })
    }

    /// The number of what follows: a section, or a performative.
    fn descriptor(&mut self) -> Result<u64, Malformed> {
        if self.byte()? != 0 {
            return Err("there is something between its sections");
        }
        match self.value(0)? {
            Value::Unsigned(number) => Ok(number),
            Value::Symbol(name) => number_of(&name).ok_or(UNKNOWN),
            _ => Err(UNKNOWN),
        }
    }

    /// Begins a list, a map or an array: the number of its values, and where it ends.
    fn compound(&mut self, code: u8) -> Result<(usize, usize), Malformed> {
        if code == 0x45 {
            return Ok((0, self.at));
        }
        let is_wide = code & 0x10 != 0;
        let size = self.length(is_wide)?;
        let end = self.at.checked_add(size).filter(|end| *end <= self.bytes.len()).ok_or(CUT)?;
        Ok((self.length(is_wide)?, end))
    }

    /// A map whose keys are names, or nothing.
    fn named(&mut self) -> Result<Named, Malformed> {
        let pairs = match self.value(0)? {
            Value::Map(pairs) => pairs,
            Value::Null => Vec::new(),
            _ => return Err("its properties or annotations are no map"),
        };
        let named = pairs.into_iter().map(|(name, value)| match name {
            Value::String(name) | Value::Symbol(name) => Ok((name, value)),
            Value::Unsigned(number) => Ok((number.to_string(), value)),
            _ => Err("one of its properties or annotations has no name"),
        });
        named.collect()
    }

    fn binary(&mut self) -> Result<&'a [u8], Malformed> {
        let length = match self.byte()? {
            0xa0 => self.length(false)?,
            0xb0 => self.length(true)?,
            _ => return Err("data in it is not binary"),
        };
        self.take(length)
    }

    fn text(&mut self, is_wide: bool) -> Result<String, Malformed> {
        let length = self.length(is_wide)?;
        let text = str::from_utf8(self.take(length)?).map_err(|_| "a text in it is not UTF-8")?;
        Ok(text.to_owned())
    }

    /// What comes next, with all that is in it.
    fn value(&mut self, depth: u32) -> Result<Value, Malformed> {
        let code = self.byte()?;
        self.value_of(code, depth)
    }

    fn value_of(&mut self, code: u8, depth: u32) -> Result<Value, Malformed> {
        self.values = self.values.checked_sub(1).ok_or("there are more values in it than bytes")?;
        match code {
            0x00 => {
                self.value(deeper(depth)?)?;
                self.value(deeper(depth)?)
            }
            0x45 | 0xc0 | 0xc1 | 0xd0 | 0xd1 | 0xe0 | 0xf0 => {
                let (count, end) = self.compound(code)?;
                let value = self.values(code, count, deeper(depth)?)?;
                // An empty array may have a type, or none.
                if self.at == end || count == 0 && self.at < end {
                    self.at = end;
                    return Ok(value);
                }
                Err("a list or map in it is not as large as it says")
            }
            _ => self.primitive(code),
        }
    }

    /// As many values as a list, a map or an array says.
    fn values(&mut self, code: u8, count: usize, depth: u32) -> Result<Value, Malformed> {
        if matches!(code, 0xc1 | 0xd1) {
            let pairs = (0..count / 2).map(|_| Ok((self.value(depth)?, self.value(depth)?)));
            return Ok(Value::Map(pairs.collect::<Result<_, Malformed>>()?));
        }
        let is_array = matches!(code, 0xe0 | 0xf0) && count > 0;
        let of = if is_array { Some(self.type_of_all(depth)?) } else { None };
        let values = (0..count).map(|_| match of {
            Some(code) => self.value_of(code, depth),
            None => self.value(depth),
        });
        Ok(Value::List(values.collect::<Result<_, Malformed>>()?))
    }

    /// The code of all values of an array.
    fn type_of_all(&mut self, depth: u32) -> Result<u8, Malformed> {
        loop {
            match self.byte()? {
                0x00 => drop(self.value(depth)?),
                code => return Ok(code),
            }
        }
    }

    /// The value of a code that has no values in it.
    fn primitive(&mut self, code: u8) -> Result<Value, Malformed> {
        Ok(match code {
            0x40 => Value::Null,
            0x41 => Value::Boolean(true),
            0x42 => Value::Boolean(false),
            0x56 => Value::Boolean(self.byte()? != 0),
            0x43 | 0x44 => Value::Unsigned(0),
            0x50 | 0x52 | 0x53 => Value::Unsigned(self.byte()?.into()),
            0x60 => Value::Unsigned(u16::from_be_bytes(self.fixed()?).into()),
            0x70 => Value::Unsigned(u32::from_be_bytes(self.fixed()?).into()),
            0x80 => Value::Unsigned(u64::from_be_bytes(self.fixed()?)),
            0x51 | 0x54 | 0x55 => Value::Signed(i8::from_be_bytes(self.fixed()?).into()),
            0x61 => Value::Signed(i16::from_be_bytes(self.fixed()?).into()),
            0x71 => Value::Signed(i32::from_be_bytes(self.fixed()?).into()),
            0x81 => Value::Signed(i64::from_be_bytes(self.fixed()?)),
            0x72 => Value::Float(f32::from_be_bytes(self.fixed()?).into()),
            0x82 => Value::Float(f64::from_be_bytes(self.fixed()?)),
            0x74 => Value::Decimal(Bytes::copy_from_slice(self.take(4)?)),
            0x84 => Value::Decimal(Bytes::copy_from_slice(self.take(8)?)),
            0x94 => Value::Decimal(Bytes::copy_from_slice(self.take(16)?)),
            0x73 => {
                let number = u32::from_be_bytes(self.fixed()?);
                Value::Character(char::from_u32(number).ok_or("a character in it is none of Unicode's")?)
            }
            0x83 => Value::Time(Timestamp(i64::from_be_bytes(self.fixed()?).saturating_mul(1_000))),
            0x98 => Value::Uuid(u128::from_be_bytes(self.fixed()?)),
            0xa0 | 0xb0 => {
                let length = self.length(code == 0xb0)?;
                Value::Binary(Bytes::copy_from_slice(self.take(length)?))
            }
            0xa1 | 0xb1 => Value::String(self.text(code == 0xb1)?),
            0xa3 | 0xb3 => Value::Symbol(self.text(code == 0xb3)?),
            _ => return Err(UNKNOWN),
        })
    }
}

fn deeper(depth: u32) -> Result<u32, Malformed> {
    if depth < MAX_DEPTH { Ok(depth + 1) } else { Err("values in it are nested more than 64 deep") }
}

/// The number of what has a name as its descriptor.
fn number_of(name: &str) -> Option<u64> {
    Some(match name {
        "amqp:open:list" => OPEN,
        "amqp:attach:list" => ATTACH,
        "amqp:transfer:list" => TRANSFER,
        "amqp:header:list" => HEADER,
        "amqp:delivery-annotations:map" => DELIVERY_ANNOTATIONS,
        "amqp:message-annotations:map" => MESSAGE_ANNOTATIONS,
        "amqp:properties:list" => PROPERTIES,
        "amqp:application-properties:map" => APPLICATION_PROPERTIES,
        "amqp:data:binary" => DATA,
        "amqp:amqp-sequence:list" => SEQUENCE,
        "amqp:amqp-value:*" => VALUE,
        "amqp:footer:map" => FOOTER,
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
