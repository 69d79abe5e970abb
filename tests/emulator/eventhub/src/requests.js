// The two nodes that are asked and answer, `$cbs` and `$management`, and the links to them.

import { confirm, decode, types } from './amqp.js';
import { Refusal } from './conditions.js';
import { lastEnqueued } from './consumer.js';
import { errorOf, happen } from './faults.js';
import { answer, read, sections } from './sections.js';

// What the service says of its `$cbs`: it takes messages of any size.
const UNLIMITED = Buffer.alloc(8, 0xff);
const CREDIT = 100;
const PROPERTIES = 0x73;

// The status codes that go with conditions, as far as requests are refused with them.
const STATUS = {
  'amqp:not-allowed': 400,
  'amqp:not-found': 404,
  'amqp:unauthorized-access': 401,
  'com.microsoft:auth-failed': 401,
  'com.microsoft:server-busy': 503,
  'com.microsoft:timeout': 408,
};

// A link to a node, in either direction. Requests that come on it are answered on the client's other one.
export class Requests {
  constructor(client, link, node) {
    Object.assign(this, { client, link, node, requests: 0, ended: false });
    const serve = node === '$cbs' ? putToken : manage;
    confirm(link, { max_message_size: UNLIMITED });
    if (link.is_sender()) return;
    link.add_credit(CREDIT);
    link.on('message', ({ delivery, message }) => {
      this.requests += 1;
      link.add_credit(1);
      delivery.accept();
      this.answer(message, serve);
    });
  }

  answer(bytes, serve) {
    const request = decode(bytes);
    let reply;
    const fault = this.client.service.faults.take(this.node === '$cbs' ? 'token' : 'management');
    if (fault?.action === 'refuse') {
      reply = { status: STATUS[fault.condition] ?? 500, error: errorOf(fault) };
    } else if (fault && !happen(fault, this.client, this)) {
      return;
    } else {
      try {
        reply = serve(this.client, request);
      } catch (refusal) {
        if (!(refusal instanceof Refusal)) throw refusal;
        reply = refusal;
      }
    }
    const properties = {
      'status-code': types.wrap_int(reply.status),
      'status-description': reply.error?.description ?? 'OK',
    };
    if (reply.error) properties['error-condition'] = types.wrap_symbol(reply.error.condition);
    this.responder(request.reply_to)?.send(answer(messageId(bytes), properties, reply.body), undefined, 0);
  }

  // The link that takes answers: of this session, and the one that the request names if there are several.
  responder(replyTo) {
    const all = [...this.client.links].filter(
      ({ node, link, ended }) => node === this.node && link.is_sender() && link.session === this.link.session && !ended,
    );
    return (all.find(({ link }) => link.target?.address === replyTo) ?? all[0])?.link;
  }

  close(error) {
    this.end();
    this.link.close(error);
  }

  end() {
    this.ended = true;
  }

  describe() {
    return { role: this.link.is_sender() ? 'responses' : 'requests', node: this.node, requests: this.requests };
  }
}

// With its type, for the answer has to bear the same.
function messageId(bytes) {
  for (const { code, value } of sections(bytes)) {
    if (code === PROPERTIES) return read(bytes, value).value[0];
  }
  return undefined;
}

function putToken(client, { application_properties: { operation, type, name } = {}, body }) {
  if (operation !== 'put-token')
    throw new Refusal('amqp:not-allowed', `The operation '${operation}' is not supported.`, 400);
  client.putToken(String(type), String(body), String(name));
  return { status: 202 };
}

function manage(client, { application_properties: { operation, type, name, partition, security_token } = {} }) {
  if (operation !== 'READ')
    throw new Refusal('amqp:not-allowed', `The operation '${operation}' is not supported.`, 400);
  const hub = client.service.hub(String(name));
  client.mayManage(hub.name, security_token);
  if (type === 'com.microsoft:eventhub') return { status: 200, body: ofHub(hub, name) };
  if (type === 'com.microsoft:partition')
    return { status: 200, body: ofPartition(hub.partition(String(partition)), name) };
  throw new Refusal('amqp:not-allowed', `The type '${type}' is not supported.`, 400);
}

const ofHub = (hub, name) => ({
  name,
  type: 'com.microsoft:eventhub',
  created_at: types.wrap_timestamp(hub.created),
  partition_count: types.wrap_int(hub.partitions.length),
  partition_ids: types.wrap_array(
    hub.partitions.map(({ id }) => id),
    types.Str8.typecode,
  ),
  georeplication_factor: types.wrap_int(hub.opaque_offsets ? 2 : 1),
});

function ofPartition(partition, name) {
  partition.expire();
  const metrics = lastEnqueued(partition);
  return {
    name,
    type: 'com.microsoft:partition',
    partition: partition.id,
    begin_sequence_number: types.wrap_long(partition.first),
    ...metrics,
    // What a geo-replicated namespace says here cannot be used to start from.
    last_enqueued_offset: partition.last ? String(partition.last.position) : '-1',
    last_enqueued_sequence_number_epoch: types.wrap_int(-1),
    is_partition_empty: partition.stored.length === 0,
  };
}
