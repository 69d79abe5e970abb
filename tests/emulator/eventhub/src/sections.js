// The bytes of messages: AMQP 1.0, part 3, "Message Format", and the batches of Event Hubs.

import { encode, types, writer } from './amqp.js';
import { Refusal } from './conditions.js';

// The message format of a batch: its data sections hold one encoded message each.
export const BATCH = 0x80013700;

const DELIVERY_ANNOTATIONS = 0x71;
const MESSAGE_ANNOTATIONS = 0x72;
const DATA = 0x75;

// What a type code says about the bytes after it (part 1, 1.2): their number, or the width of the number before them.
const FIXED = { 0x4: 0, 0x5: 1, 0x6: 2, 0x7: 4, 0x8: 8, 0x9: 16 };
const SIZED = { 0xa: 1, 0xb: 4, 0xc: 1, 0xd: 4, 0xe: 1, 0xf: 4 };

// Where the value that begins at `at` ends.
function skip(bytes, at) {
  const code = bytes[at];
  if (code === 0) return skip(bytes, skip(bytes, at + 1));
  const kind = code >> 4;
  const end =
    kind in FIXED
      ? at + 1 + FIXED[kind]
      : at + 1 + SIZED[kind] + (SIZED[kind] === 1 ? bytes[at + 1] : bytes.readUInt32BE(at + 1));
  if (!(end <= bytes.length)) throw new Refusal('amqp:decode-error');
  return end;
}

// The sections of a message: the code of each, where it starts, where its value does, and where it ends.
export function* sections(bytes) {
  for (let start = 0; start < bytes.length;) {
    const value = skip(bytes, start + 1);
    // The descriptor is a ulong of one byte or of eight, whose lowest is what tells sections apart.
    const code = bytes[value - 1];
    if (bytes[start] !== 0 || ![0x53, 0x80].includes(bytes[start + 1]) || code < 0x70 || code > 0x78) {
      throw new Refusal('amqp:decode-error');
    }
    const end = skip(bytes, value);
    yield { code, start, value, end };
    start = end;
  }
}

// A value as rhea reads it, with its types.
export const read = (bytes, at) => new types.Reader(bytes.subarray(at)).read();

// The entries of a map, whose values keep their types.
export function entries(bytes, at) {
  const { value } = read(bytes, at);
  const found = {};
  for (let i = 0; i < value.length; i += 2) found[value[i].value] = value[i + 1];
  return found;
}

// The events of one transfer. Each has its annotations, and its bytes without them and without header.
export function events(payload, format) {
  if (format !== BATCH) return [event(payload)];
  const { annotations } = event(payload);
  const batched = [];
  for (const { code, value, end } of sections(payload)) {
    if (code !== DATA) continue;
    const wide = payload[value] === 0xb0;
    const one = event(payload.subarray(value + (wide ? 5 : 2), end));
    one.annotations = { ...annotations, ...one.annotations };
    batched.push(one);
  }
  return batched;
}

function event(bytes) {
  let annotations = {};
  let bare = bytes.length;
  for (const { code, start, value } of sections(bytes)) {
    if (code === MESSAGE_ANNOTATIONS) annotations = entries(bytes, value);
    if (code > MESSAGE_ANNOTATIONS) {
      bare = start;
      break;
    }
  }
  return { annotations, bytes: bytes.subarray(bare) };
}

function prepend(code, values, bytes) {
  const section = writer();
  section.write(types.described(types.wrap_ulong(code), types.wrap_symbolic_map(values)));
  return Buffer.concat([section.toBuffer(), bytes]);
}

// A stored event as it goes to consumers.
export const annotated = (annotations, bytes) => prepend(MESSAGE_ANNOTATIONS, annotations, bytes);

// The same with what a consumer wants to know about the partition.
export const withMetrics = (metrics, bytes) => prepend(DELIVERY_ANNOTATIONS, metrics, bytes);

// An answer to a request.
export const answer = (correlation_id, application_properties, body) =>
  encode({
    correlation_id,
    application_properties,
    body,
  });
