// Tokens, properties and what is refused.

import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { EventHubProducerClient, earliestEventPosition } from '@azure/event-hubs';
import rhea from 'rhea';
import { Reading } from './receiving.js';
import {
  HUB,
  arm,
  bodies,
  connections,
  consumer,
  control,
  producer,
  producersGone,
  space,
  stored,
  waitUntil,
} from './space.js';

const once = { retryOptions: { maxRetries: 0 } };
const event = { body: Buffer.from('x') };

export async function properties() {
  const client = producer();
  const hub = await client.getEventHubProperties();
  assert.deepEqual(hub.partitionIds, ['0', '1', '2', '3']);
  assert.equal(hub.createdOn.getTime(), (await control('GET', `/hubs/${HUB}`)).created);
  const empty = await client.getPartitionProperties('2');
  assert(empty.isEmpty && empty.lastEnqueuedSequenceNumber === -1 && empty.lastEnqueuedOffset === '-1');
  for (let i = 0; i < 3; i += 1) await client.sendBatch([event], { partitionId: '2' });
  const full = await client.getPartitionProperties('2');
  const last = (await stored('2')).at(-1);
  assert(!full.isEmpty && full.beginningSequenceNumber === 0 && full.lastEnqueuedSequenceNumber === 2);
  assert.equal(full.lastEnqueuedOffset, last.offset);
  assert.equal(full.lastEnqueuedOnUtc.getTime(), last.enqueued);
  await client.close();
}

// There and back over the transport that is asked for.
export async function transport() {
  const client = producer();
  await client.sendBatch([{ body: Buffer.from('there and back') }], { partitionId: '0' });
  await client.close();
  const reading = new Reading(consumer(), { startPosition: earliestEventPosition }, { partition: '0' });
  await (await reading.wait(1)).stop();
  assert.equal(reading.events[0][1].body.toString(), 'there and back');
}

// Wrong keys, and hubs, partitions and groups that are not there.
export async function strangers() {
  const refused = (client, code, where) => assert.rejects(client.sendBatch([event], where), { code });
  await refused(producer(once, 'wrong'), 'UnauthorizedError');
  await refused(producer(once, undefined, 'elsewhere'), 'MessagingEntityNotFoundError');
  await refused(producer(once), 'ArgumentOutOfRangeError', { partitionId: '9' });
  const nobody = new Reading(
    consumer({ ...once, group: 'nobody' }),
    { startPosition: earliestEventPosition },
    { partition: '0' },
  );
  await waitUntil('an unknown group to be refused', () =>
    nobody.errors.some(({ code }) => code === 'MessagingEntityNotFoundError'),
  );
  await nobody.stop();
  for (const partition of '0123') assert.deepEqual(await stored(partition), []);
}

// A token of the emulator's own Entra. The SDK renews one two minutes before it expires.
function entra(life_ms, ...roles) {
  const encode = (part) => Buffer.from(JSON.stringify(part)).toString('base64url');
  const exp = Math.ceil((Date.now() + life_ms) / 1000);
  const claims = {
    aud: 'https://eventhubs.azure.net',
    exp,
    roles: roles.map((role) => `Azure Event Hubs Data ${role}`),
  };
  const text = `${encode({ alg: 'HS256' })}.${encode(claims)}`;
  return `${text}.${createHmac('sha256', 'only-for-tests').update(text).digest('base64url')}`;
}

// Tokens that live five seconds, which the SDK is told to renew each second: on the same connection, and nothing is
// interrupted.
export async function renewal() {
  const getToken = async () => ({ token: entra(5000, 'Sender'), expiresOnTimestamp: Date.now() + 121_000 });
  const client = new EventHubProducerClient(
    'localhost',
    HUB,
    { getToken },
    {
      customEndpointAddress: `sb://localhost:${space.ports.amqps}`,
      ...once,
    },
  );
  let sent = 0;
  await waitUntil('the first token to be over', async () => {
    await client.sendBatch([event], { partitionId: '0' });
    sent += 1;
    const [{ tokens }] = await connections(({ links }) => links.some(({ events }) => events === sent));
    return tokens[0].expires < Date.now() && tokens.filter(({ accepted }) => accepted).length >= 3;
  });
  assert.equal((await stored('0')).length, sent);
  await client.close();
}

// A token that is not renewed takes its links with it.
export async function expiry() {
  const client = producer();
  await client.sendBatch([{ body: Buffer.from('before') }], { partitionId: '0' });
  const reading = await new Reading(consumer(), { startPosition: earliestEventPosition }, { partition: '0' }).wait(1);
  assert((await control('POST', '/expire-tokens')).count >= 2);
  await producersGone();
  await client.sendBatch([{ body: Buffer.from('after') }], { partitionId: '0' });
  await (await reading.wait(2)).stop();
  await client.close();
  assert.deepEqual(
    reading.events.map(([, { body }]) => body.toString()),
    ['before', 'after'],
  );
}

const plain = (password) =>
  rhea.connect({
    port: space.ports.amqp,
    username: 'RootManageSharedAccessKey',
    password,
    reconnect: false,
  });

const heard = (emitter, ...names) =>
  new Promise((resolve) => {
    names.forEach((name) => emitter.once(name, (context) => resolve([name, context])));
  });

// What no SDK does, or bears: a password instead of a token, an acknowledgement that is missing, the end of a session,
// a second pair of links to `$cbs`, a sixth consumer, a filter that is none, a body that is a value, and a connection
// that does nothing.
export async function bare() {
  const wrong = plain('wrong');
  assert.equal((await heard(wrong, 'connection_open', 'connection_error'))[0], 'connection_error');

  const connection = plain('SAS_KEY_VALUE');
  const sender = connection.open_sender(`${HUB}/Publishers/press-7`);
  await heard(sender, 'sendable');
  sender.send({ body: 'a value' });
  assert.equal((await heard(sender, 'accepted', 'rejected'))[0], 'accepted');
  const { partitions } = await control('GET', `/hubs/${HUB}`);
  const [{ value, annotations }] = await stored(partitions.find(({ next }) => next === 1).id);
  assert.deepEqual([value, annotations['x-opt-publisher']], [{ string: 'a value' }, { string: 'press-7' }]);

  // One acknowledgement is missing, and the next one comes.
  await arm('acknowledge', 'swallow');
  const [lost, next] = [sender.send({ body: 'b' }), sender.send({ body: 'c' })];
  assert.equal((await heard(sender, 'accepted'))[1].delivery, next);
  assert.equal(lost.remote_state, undefined);
  await arm('store', 'end', { condition: 'amqp:internal-error' });
  sender.send({ body: 'd' });
  assert.equal((await heard(sender.session, 'session_error'))[1].session.error.condition, 'amqp:internal-error');
  const all = await Promise.all(partitions.map(({ id }) => stored(id)));
  assert.deepEqual(
    all.flat().map((event) => event.value.string),
    ['a value', 'b', 'c'],
  );

  const read = async (options) => {
    const receiver = connection.open_receiver(options);
    const [event, context] = await heard(receiver, 'receiver_open', 'receiver_error');
    // A refusal opens the link before it closes it, without a source.
    if (event === 'receiver_open' && !receiver.source)
      return (await heard(receiver, 'receiver_error'))[1].receiver.error;
    return context.receiver.error;
  };
  const address = `${HUB}/ConsumerGroups/$Default/Partitions/0`;
  for (let i = 0; i < 5; i += 1) assert.equal(await read({ source: { address } }), undefined);
  assert.equal((await read({ source: { address } })).condition, 'amqp:resource-limit-exceeded');
  const filter = { 'apache.org:selector-filter:string': rhea.types.wrap_described('offset is 5', 0x468c00000004) };
  assert.equal((await read({ source: { address, filter } })).condition, 'com.microsoft:argument-error');
  assert.equal(await read({ source: { address: '$cbs' } }), undefined);
  assert.equal((await read({ source: { address: '$cbs' } })).condition, 'amqp:not-allowed');
  connection.close();

  await control('PATCH', '/settings', { token_deadline_ms: 50, first_link_deadline_ms: 50, idle_time_out_ms: 1000 });
  const [, { error }] = await heard(plain('SAS_KEY_VALUE'), 'connection_error');
  assert.match(error.description, /inactive for more than the allowed 50 milliseconds/);
}

// A link is idle, and detached; the next event goes out all the same.
export async function idle() {
  const client = producer();
  await client.sendBatch([{ body: Buffer.from('warm') }], { partitionId: '0' });
  await control('PATCH', '/settings', { idle_link_ms: 300 });
  await client.sendBatch([{ body: Buffer.from('again') }], { partitionId: '0' });
  await producersGone();
  await client.sendBatch([{ body: Buffer.from('at last') }], { partitionId: '0' });
  await client.close();
  assert.deepEqual(await bodies('0'), ['warm', 'again', 'at last']);
}
