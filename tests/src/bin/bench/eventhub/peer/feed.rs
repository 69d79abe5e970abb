//! Events on their way to a consumer: frames that lack only what differs from one to the next.

use super::wire::{self, AMQP};
use crate::telemetry::Telemetry;

/// Events that are made; then they come again.
const DIFFERENT: usize = 4_096;

/// Telemetry as transfers of one event each (parts 2.7.5 and 3.2), and what is where in all of them.
pub(super) struct Feed {
    frames: Vec<Vec<u8>>,
    channel_at: usize,
    handle_at: usize,
    delivery_at: usize,
    tag_at: usize,
    number_at: usize,
    offset_at: usize,
}

/// Digits of an offset.
const DIGITS: usize = 12;

impl Feed {
    pub(super) fn new(enqueued_ms: i64) -> Self {
        let mut telemetry = Telemetry::new(0);
        // handle, delivery-id, delivery-tag, message-format, settled, more, and five that are as they are if not said.
        let mut transfer =
            vec![0x00, 0x53, wire::code::TRANSFER as u8, 0xc0, 0, 11, 0x70, 0, 0, 0, 0, 0x70, 0, 0, 0, 0];
        transfer.extend([0xa0, 4, 0, 0, 0, 0, 0x43, 0x41, 0x42, 0x40, 0x40, 0x42, 0x42, 0x42]);
        transfer[4] = transfer.len() as u8 - 5;
        // A map of three annotations, each a symbol and its value.
        let mut annotations = vec![0x00, 0x53, 0x72, 0xc1, 0, 6];
        let mut annotation = |name: &str, value: &[u8]| {
            annotations.extend([0xa3, name.len() as u8]);
            annotations.extend(name.as_bytes());
            let at = annotations.len();
            annotations.extend(value);
            at
        };
        let number_at = annotation("x-opt-sequence-number", &[0x81, 0, 0, 0, 0, 0, 0, 0, 0]) + 1;
        let offset_at = annotation("x-opt-offset", &[&[0xa1, DIGITS as u8][..], &[b'0'; DIGITS]].concat()) + 2;
        annotation("x-opt-enqueued-time", &[&[0x83][..], &enqueued_ms.to_be_bytes()].concat());
        annotations[4] = annotations.len() as u8 - 5;
        let frames = (0..DIFFERENT).map(|_| {
            let body = telemetry.body();
            let data =
                [&[0x00, 0x53, wire::section::DATA as u8, 0xb0][..], &(body.len() as u32).to_be_bytes()].concat();
            wire::frame(AMQP, 0, &[&transfer, &annotations, &data, &body])
        });
        let message_at = 8 + transfer.len();
        Self {
            frames: frames.collect(),
            channel_at: 6,
            handle_at: 8 + 7,
            delivery_at: 8 + 12,
            tag_at: 8 + 18,
            number_at: message_at + number_at,
            offset_at: message_at + offset_at,
        }
    }

    /// Adds event `number` of a partition.
    pub(super) fn append(&self, to: &mut Vec<u8>, (channel, handle): (u16, u32), delivery: u32, number: u64) {
        let begin = to.len();
        to.extend_from_slice(&self.frames[number as usize % DIFFERENT]);
        let mut put = |at: usize, bytes: &[u8]| to[begin + at..begin + at + bytes.len()].copy_from_slice(bytes);
        put(self.channel_at, &channel.to_be_bytes());
        put(self.handle_at, &handle.to_be_bytes());
        put(self.delivery_at, &delivery.to_be_bytes());
        put(self.tag_at, &delivery.to_be_bytes());
        put(self.number_at, &number.to_be_bytes());
        let mut digits = [b'0'; DIGITS];
        let mut left = number;
        for digit in digits.iter_mut().rev() {
            *digit += (left % 10) as u8;
            left /= 10;
        }
        put(self.offset_at, &digits);
    }
}
