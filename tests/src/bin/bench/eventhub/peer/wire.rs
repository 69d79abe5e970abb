//! AMQP 1.0 as far as a peer needs it that looks into nothing it need not know. (Parts and sections are of that standard.)

use serde_amqp::{Value, described::Described, descriptor::Descriptor, from_slice, primitives::Symbol, to_vec};

/// Types of frames (parts 2.3.1 and 5.3.1).
pub(super) const AMQP: u8 = 0;
pub(super) const SASL: u8 = 1;

/// Descriptors of what is in frames (parts 2.7 and 5.3.3).
pub(super) mod code {
    pub(crate) const OPEN: u64 = 0x10;
    pub(crate) const BEGIN: u64 = 0x11;
    pub(crate) const ATTACH: u64 = 0x12;
    pub(crate) const FLOW: u64 = 0x13;
    pub(crate) const TRANSFER: u64 = 0x14;
    pub(crate) const DISPOSITION: u64 = 0x15;
    pub(crate) const DETACH: u64 = 0x16;
    pub(crate) const END: u64 = 0x17;
    pub(crate) const CLOSE: u64 = 0x18;
    pub(crate) const ACCEPTED: u64 = 0x24;
    pub(crate) const MECHANISMS: u64 = 0x40;
    pub(crate) const OUTCOME: u64 = 0x44;
}

/// Descriptors of a message's sections (part 3.2).
pub(super) mod section {
    pub(crate) const PROPERTIES: u64 = 0x73;
    pub(crate) const APPLICATION_PROPERTIES: u64 = 0x74;
    pub(crate) const DATA: u64 = 0x75;
    pub(crate) const VALUE: u64 = 0x77;
}

/// A described value.
pub(super) fn described(code: u64, value: Value) -> Value {
    Value::Described(Box::new(Described { descriptor: Descriptor::Code(code), value }))
}

/// A list with its descriptor, all fields of it: the vendor's SDK for Python wants those at the end that are null, too.
pub(super) fn list(code: u64, fields: Vec<Value>) -> Vec<u8> {
    encode(&described(code, Value::List(fields)))
}

/// Any value.
pub(super) fn encode(value: &Value) -> Vec<u8> {
    to_vec(value).expect("every value has an encoding")
}

/// A frame around `parts` (part 2.3.1).
pub(super) fn frame(kind: u8, channel: u16, parts: &[&[u8]]) -> Vec<u8> {
    let size = 8 + parts.iter().map(|part| part.len()).sum::<usize>();
    let mut frame = Vec::with_capacity(size);
    frame.extend(u32::try_from(size).expect("frames are small").to_be_bytes());
    frame.extend([2, kind]);
    frame.extend(channel.to_be_bytes());
    parts.iter().for_each(|part| frame.extend(*part));
    frame
}

/// What a frame says, its fields, and what comes with it. A frame without anything keeps a connection alive.
pub(super) fn split(body: &[u8]) -> Option<(u64, Vec<Value>, &[u8])> {
    let (performative, payload) = body.split_at_checked(length(body)?)?;
    match open(performative)? {
        (code, Value::List(fields)) => Some((code, fields, payload)),
        _ => None,
    }
}

/// The sections of a message: descriptor and bytes of each.
pub(super) fn sections(mut message: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
    std::iter::from_fn(move || {
        let (section, rest) = message.split_at_checked(length(message)?)?;
        message = rest;
        // Descriptors of sections are small numbers (part 3.2).
        Some((u64::from(*section.get(2)?), section))
    })
}

/// A described value's descriptor and value.
pub(super) fn open(bytes: &[u8]) -> Option<(u64, Value)> {
    match from_slice(bytes) {
        Ok(Value::Described(described)) => match described.descriptor {
            Descriptor::Code(code) => Some((code, described.value)),
            Descriptor::Name(_) => None,
        },
        _ => None,
    }
}

/// How many bytes the first value takes (part 1.6). `None` if it is not there as a whole, or there is none.
fn length(bytes: &[u8]) -> Option<usize> {
    let (constructor, rest) = bytes.split_first()?;
    let length = match constructor >> 4 {
        0 => {
            let descriptor = length(rest)?;
            1 + descriptor + length(rest.get(descriptor..)?)?
        }
        4 => 1,
        width @ 5..=9 => 1 + (1 << (width - 5)),
        0xa | 0xc | 0xe => 2 + usize::from(*rest.first()?),
        _ => 5 + u32::from_be_bytes(rest.get(..4)?.try_into().ok()?) as usize,
    };
    (length <= bytes.len()).then_some(length)
}

/// A number among fields.
pub(super) fn number(fields: &[Value], at: usize) -> Option<u32> {
    match fields.get(at)? {
        Value::Uint(number) => Some(*number),
        Value::Ushort(number) => Some(u32::from(*number)),
        _ => None,
    }
}

/// A text, whatever its type.
pub(super) fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) | Value::Symbol(Symbol(text)) => Some(text.clone()),
        Value::Binary(bytes) => String::from_utf8(bytes.to_vec()).ok(),
        _ => None,
    }
}
