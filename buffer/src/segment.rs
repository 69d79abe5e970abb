//! A segment's body: a payload of events, compressed.
//!
//! ```text
//! body = version:u8 (1)  codec:u8 (0 as it is, 1 zstd)  payload length:u32 LE  payload
//! ```
//!
//! The checksum over it stands in the segment's row, where it covers the row's other columns too (see [`crate::seal`]).

use std::sync::Mutex;

use bytes::Bytes;

use crate::{
    Event, Numbering, Offset,
    codec::{self, Encoder, Malformed},
};

const VERSION: u8 = 1;
const STORED: u8 = 0;
const ZSTD: u8 = 1;
const HEADER_BYTES: usize = 6;

/// The payload at which a segment is closed: small enough to read and decode in bounded memory, large enough for
/// compression to have found what there is to find.
pub(crate) const TARGET_PAYLOAD_BYTES: usize = 256 * 1024;

/// What no payload exceeds: the target and one event of the largest allowed size.
pub(crate) const MAX_PAYLOAD_BYTES: usize = 64 * 1024 * 1024;

/// zstd's level: 1 compresses telemetry as well as 3 at half the cost.
const LEVEL: i32 = 1;

/// Contexts of each kind that are kept for reuse: setting one up costs as much as compressing some kilobytes.
const KEPT: usize = 4;

/// zstd's working memory for a while, from a pool and back to it.
struct Pooled<T: 'static> {
    context: Option<T>,
    pool: &'static Mutex<Vec<T>>,
}

impl<T> Pooled<T> {
    fn take(pool: &'static Mutex<Vec<T>>, make: impl FnOnce() -> T) -> Self {
        let kept = pool.lock().expect("no holder of this lock panics").pop();
        Self { context: Some(kept.unwrap_or_else(make)), pool }
    }

    fn get(&mut self) -> &mut T {
        self.context.as_mut().expect("it is only taken out when dropped")
    }
}

impl<T> Drop for Pooled<T> {
    fn drop(&mut self) {
        let mut pool = self.pool.lock().expect("no holder of this lock panics");
        if pool.len() < KEPT {
            pool.extend(self.context.take());
        }
    }
}

static COMPRESSORS: Mutex<Vec<zstd::bulk::Compressor<'static>>> = Mutex::new(Vec::new());
static DECOMPRESSORS: Mutex<Vec<zstd::bulk::Decompressor<'static>>> = Mutex::new(Vec::new());

/// The body for what `encoder` holds.
pub(crate) fn encode(encoder: &Encoder) -> Vec<u8> {
    let payload = encoder.payload();
    assert!(payload.len() <= MAX_PAYLOAD_BYTES, "events are limited in size before they are encoded");
    let mut body = vec![0; HEADER_BYTES + zstd::zstd_safe::compress_bound(payload.len())];
    body[0] = VERSION;
    body[2..HEADER_BYTES].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    let make = || zstd::bulk::Compressor::new(LEVEL).expect("zstd knows its own levels");
    let packed = Pooled::take(&COMPRESSORS, make).get().compress_to_buffer(payload, &mut body[HEADER_BYTES..]);
    match packed {
        Ok(length) if length < payload.len() => {
            body[1] = ZSTD;
            body.truncate(HEADER_BYTES + length);
        }
        _ => {
            body[1] = STORED;
            body.truncate(HEADER_BYTES);
            body.extend_from_slice(payload);
        }
    }
    body.shrink_to_fit();
    body
}

/// The events of a body, `count` of them, the first at `first`.
pub(crate) fn decode(
    body: &[u8],
    count: u32,
    first: Offset,
    numbering: Numbering,
) -> Result<Vec<(Offset, Event)>, Malformed> {
    let (header, packed) = body.split_at_checked(HEADER_BYTES).ok_or(Malformed("body ends early"))?;
    if header[0] != VERSION {
        return Err(Malformed("unknown version of the encoding"));
    }
    let length = u32::from_le_bytes([header[2], header[3], header[4], header[5]]) as usize;
    if length > MAX_PAYLOAD_BYTES {
        return Err(Malformed("payload length out of range"));
    }
    let payload = match header[1] {
        STORED => packed.to_vec(),
        ZSTD => {
            let make = || zstd::bulk::Decompressor::new().expect("a context without a dictionary is only memory");
            let unpacked = Pooled::take(&DECOMPRESSORS, make).get().decompress(packed, length);
            unpacked.map_err(|_| Malformed("zstd cannot decompress the body"))?
        }
        _ => return Err(Malformed("unknown codec")),
    };
    if payload.len() != length {
        return Err(Malformed("payload is not as long as its header says"));
    }
    codec::decode(&Bytes::from(payload), count, first, numbering)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{BodyKind, TimeQuality, Timestamp, Value};

    fn value() -> impl Strategy<Value = Value> {
        prop_oneof![
            ".{0,12}".prop_map(Value::String),
            any::<i64>().prop_map(Value::Integer),
            (-1e12..1e12_f64).prop_map(Value::Float),
            any::<bool>().prop_map(Value::Boolean),
            prop::collection::vec(any::<u8>(), 0..20).prop_map(|bytes| Value::Bytes(bytes.into())),
            any::<i64>().prop_map(|micros| Value::Time(Timestamp(micros))),
        ]
    }

    fn event() -> impl Strategy<Value = Event> {
        let bytes = || prop::option::of(prop::collection::vec(any::<u8>(), 0..200));
        let headers = prop::collection::vec((".{0,8}", value()), 0..4);
        const KINDS: [BodyKind; 4] = [BodyKind::Unsaid, BodyKind::Json, BodyKind::Text, BodyKind::Bytes];
        let body = (bytes(), prop::sample::select(&KINDS[..]));
        (any::<i64>(), any::<bool>(), bytes(), headers, body, prop::option::of(".{0,9}"), any::<bool>()).prop_map(
            |(time, stamped, key, headers, (body, body_kind), table, end_of_transaction)| Event {
                time: Timestamp(time),
                time_quality: if stamped { TimeQuality::Stamped } else { TimeQuality::Given },
                key: key.map(Bytes::from),
                headers,
                body: body.map(Bytes::from),
                body_kind,
                table,
                end_of_transaction,
            },
        )
    }

    fn encode(events: &[Event], offsets: Option<&[i64]>) -> Vec<u8> {
        let mut encoder = Encoder::default();
        for (index, event) in events.iter().enumerate() {
            encoder.push(event, offsets.map(|offsets| Offset(offsets[index])));
        }
        super::encode(&encoder)
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(events in prop::collection::vec(event(), 1..40), first in 0..1_i64 << 60) {
            let body = encode(&events, None);
            let decoded = decode(&body, events.len() as u32, Offset(first), Numbering::Assigned).expect("own encoding");
            let expected: Vec<_> = (first..).map(Offset).zip(events).collect();
            prop_assert_eq!(decoded, expected);
        }

        #[test]
        fn shared_offsets_are_kept(steps in prop::collection::vec(1..1_000_000_i64, 1..40)) {
            let offsets: Vec<i64> = steps.iter().scan(7, |at, step| { *at += step; Some(*at) }).collect();
            let events = vec![Event::new(Timestamp(1), "x"); offsets.len()];
            let body = encode(&events, Some(&offsets));
            let shared = Numbering::Shared { created: 3 };
            let decoded = decode(&body, offsets.len() as u32, Offset(offsets[0]), shared).expect("own encoding");
            prop_assert_eq!(decoded.iter().map(|(offset, _)| offset.0).collect::<Vec<_>>(), offsets);
        }

        #[test]
        fn any_bytes_decode_to_events_or_to_an_error(
            mut body in prop::collection::vec(any::<u8>(), 0..300), codec in 0..2_u8, count in any::<u32>(),
        ) {
            if body.len() >= HEADER_BYTES {
                body[0] = VERSION;
                body[1] = codec;
                let length = (body.len() - HEADER_BYTES) as u32;
                body[2..HEADER_BYTES].copy_from_slice(&length.to_le_bytes());
            }
            for numbering in [Numbering::Assigned, Numbering::Shared { created: 0 }] {
                let _ = decode(&body, count, Offset(0), numbering);
            }
        }

        #[test]
        fn a_flipped_bit_never_panics(events in prop::collection::vec(event(), 1..9), bit in any::<prop::sample::Index>()) {
            let mut body = encode(&events, None);
            let bit = bit.index(body.len() * 8);
            body[bit / 8] ^= 1 << (bit % 8);
            let _ = decode(&body, events.len() as u32, Offset(0), Numbering::Assigned);
        }
    }
}
