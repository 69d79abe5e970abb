// What is stored, as JSON with AMQP's types: `{"string": "x"}`, `{"long": 5}`, `{"binary": "<hex>"}`, `null`.

import { entries, read, sections } from './sections.js';

const NAMES = [
  [/^(Null)/, 'null'],
  [/^(Boolean|True|False)/, 'boolean'],
  [/^(Small)?Uint/, 'uint'],
  [/^(Small)?Ulong/, 'ulong'],
  [/^(Small)?Int/, 'int'],
  [/^(Small)?Long/, 'long'],
  [/^Str/, 'string'],
  [/^Sym/, 'symbol'],
  [/^Vbin/, 'binary'],
  [/^List/, 'list'],
  [/^Map/, 'map'],
  [/^Array/, 'array'],
  [/^Char/, 'char'],
];

const PROPERTIES = [
  'message_id',
  'user_id',
  'to',
  'subject',
  'reply_to',
  'correlation_id',
  'content_type',
  'content_encoding',
  'absolute_expiry_time',
  'creation_time',
  'group_id',
  'group_sequence',
  'reply_to_group_id',
];

const nameOf = (type) => NAMES.find(([pattern]) => pattern.test(type))?.[1] ?? type.toLowerCase();

function typed({ type, value }) {
  const name = nameOf(type.name);
  switch (name) {
    case 'null':
      return null;
    case 'boolean':
      return { boolean: Boolean(value) };
    // Where a number would not be exact, rhea has its bytes.
    case 'long':
      return { long: Buffer.isBuffer(value) ? JSON.rawJSON(value.readBigInt64BE()) : value };
    case 'ulong':
      return { ulong: Buffer.isBuffer(value) ? JSON.rawJSON(value.readBigUInt64BE()) : value };
    case 'binary':
      return { binary: value.toString('hex') };
    case 'uuid':
      return { uuid: value.toString('hex') };
    case 'timestamp':
      return { timestamp: value.getTime() };
    case 'list':
      return { list: value.map(typed) };
    case 'map':
      return { map: pairs(value) };
    default:
      return { [name]: Buffer.isBuffer(value) ? value.toString('hex') : value };
  }
}

const pairs = (value) =>
  Array.from({ length: value.length / 2 }, (_, i) => [typed(value[2 * i]), typed(value[2 * i + 1])]);

const each = (values) => Object.fromEntries(Object.entries(values).map(([name, value]) => [name, typed(value)]));

// One event. `body` is the bytes of its data sections, or else `value` or `sequence` is there.
export function describe(partition, { number, offset, enqueued, bytes }) {
  const event = { partition: partition.id, sequence_number: number, offset, enqueued };
  const data = [];
  for (const { code, value } of sections(bytes)) {
    switch (code) {
      case 0x72:
        event.annotations = each(entries(bytes, value));
        break;
      case 0x73:
        event.properties = properties(read(bytes, value).value);
        break;
      case 0x74:
        event.application_properties = each(entries(bytes, value));
        break;
      case 0x75:
        data.push(read(bytes, value).value);
        break;
      case 0x76:
        event.sequence = [...(event.sequence ?? []), typed(read(bytes, value))];
        break;
      case 0x77:
        event.value = typed(read(bytes, value));
        break;
      default:
        event.footer = each(entries(bytes, value));
    }
  }
  event.partition_key = event.annotations['x-opt-partition-key']?.string;
  if (data.length) event.body = Buffer.concat(data).toString('hex');
  return event;
}

const properties = (fields) =>
  Object.fromEntries(fields.map((field, i) => [PROPERTIES[i], typed(field)]).filter(([, value]) => value !== null));
