//! Any bytes as the body of a segment: as many events as its row says, or an error, without a panic.
#![no_main]

use forebay_buffer::{Numbering, decode_segment};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u16, bool, &[u8])| {
    let (events, shared, body) = input;
    let numbering = if shared { Numbering::Shared { created: 0 } } else { Numbering::Assigned };
    if let Some(decoded) = decode_segment(body, u32::from(events), numbering) {
        assert_eq!(decoded, usize::from(events));
    }
});
