// AMQP 1.0 by rhea, made to behave as the service does where clients can tell the difference.

import { randomBytes } from 'node:crypto';
import rhea from 'rhea';
import frames from 'rhea/lib/frames.js';

export const { types } = rhea;
export const { encode, decode } = rhea.message;

// Messages are stored as the bytes they came as: what rhea makes of them has lost the types of numbers.
rhea.message.decode = (bytes) => bytes;

// Where sections and performatives are encoded before they are copied: rhea would allocate a kilobyte for each, and
// again for a payload that is larger.
const scratch = Buffer.alloc(65_536);

export const writer = () => new types.Writer(scratch);

frames.write_frame = ({ type, channel, performative, payload = Buffer.alloc(0) }) => {
  const head = writer();
  head.skip(4);
  head.write_uint(2, 1);
  head.write_uint(type, 1);
  head.write_uint(channel, 2);
  if (performative) head.write(performative);
  const frame = Buffer.concat([head.toBuffer(), payload]);
  frame.writeUInt32BE(frame.length, 0);
  return frame;
};

// How many fields a described list has, by its descriptor. The service sends them all, where rhea leaves out those at
// the end that are null; `azure-eventhub` for Python reads fields by their place and stops at one that is not there.
const FIELDS = {
  0x10: 10,
  0x11: 8,
  0x12: 14,
  0x13: 11,
  0x14: 11,
  0x15: 6,
  0x16: 3,
  0x17: 1,
  0x18: 1,
  0x1d: 3,
  0x25: 1,
  0x28: 11,
  0x29: 7,
};

function complete(code, fields) {
  if (code in FIELDS) fields.length = FIELDS[code];
  for (const field of fields) {
    if (field?.descriptor && Array.isArray(field.value)) complete(field.descriptor.value, field.value);
  }
}

// A mechanism that lets everyone in: who it is, CBS finds out.
const open = () => ({
  outcome: undefined,
  start() {
    this.outcome = true;
  },
});

// Accepts AMQP on `wire`. `passwordIsRight(user, password)` judges SASL PLAIN.
export function accept(wire, id, settings, passwordIsRight) {
  const container = rhea.create_container();
  const plain = rhea.sasl.server_mechanisms();
  plain.enable_plain((user, password) => {
    const right = passwordIsRight(user, password);
    // rhea says that it was refused, and leaves the connection open.
    if (!right) setImmediate(() => wire.end());
    return right;
  });
  container.sasl_server_mechanisms = { MSSBCBS: open, PLAIN: plain.PLAIN, ANONYMOUS: open, EXTERNAL: open };
  const connection = container.create_connection({
    id,
    container_id: `${randomBytes(16).toString('hex')}_G0`,
    max_frame_size: settings.max_frame_size,
    channel_max: 4999,
    idle_time_out: settings.idle_time_out_ms,
    require_sasl: true,
    session_buffer_size: 5000,
    autoaccept: false,
    credit_window: 0,
  });
  const write = connection._write_frame;
  connection._write_frame = (channel, frame, payload) => {
    if (frame) complete(frame.constructor.descriptor.numeric, frame.value);
    write.call(connection, channel, frame, payload);
  };
  // What comes for a session or a link that has ended is overlooked: clients send it before they know.
  for (const name of ['on_end', 'on_attach', 'on_detach', 'on_transfer', 'on_disposition', 'on_flow']) {
    const serve = connection[name];
    connection[name] = (frame) => {
      const session = connection.remote_channel_map[frame.channel];
      const { handle } = frame.performative;
      const known = name === 'on_attach' || handle === undefined || handle === null || session?.remote.handles[handle];
      if (session?.state.remote_open && known && (known === true || known.state.remote_open))
        serve.call(connection, frame);
    };
  }
  connection.on('session_open', ({ session }) => {
    session.local.begin.handle_max = 255;
    session.local.begin.next_outgoing_id = session.outgoing.next_transfer_id = 1;
    const flow = session.on_flow;
    session.on_flow = (frame) => {
      flow.call(session, frame);
      // rhea tells of a window that has opened only a sender whose link the frame is about.
      process.nextTick(() => session.dispatch('session_flow', { session }));
    };
  });
  // Dispatched by rhea for what breaks the protocol; it ends the connection itself.
  for (const fault of ['error', 'protocol_error', 'connection_error']) {
    connection.on(fault, (context) => console.log(`${id}: ${context.error?.message ?? context.stack ?? context}`));
  }
  connection.on('disconnected', () => {});
  connection.accept(wire);
  return connection;
}

// Answers an attach with the termini it asked for.
export function confirm(link, properties) {
  const { source, target } = link.remote.attach;
  link.local.attach.source = source?.described();
  link.local.attach.target = target?.described();
  if (link.is_sender()) link.local.attach.snd_settle_mode = 1;
  Object.assign(link.local.attach, properties);
}

// The descriptions of capabilities and the like: one symbol, several, or none.
export const symbols = (value) => (value === undefined || value === null ? [] : [value].flat());

// A long, which rhea gives as its bytes where a number would not be exact.
export const integer = (value) => (Buffer.isBuffer(value) ? Number(value.readBigInt64BE()) : value);

// Detaches a link, and closes it with that unless it is not to be.
export function detach(link, error, closed) {
  link.local.detach.error = error;
  if (closed) link.close();
  else link.detach();
}
