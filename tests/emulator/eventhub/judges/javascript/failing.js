// Producing while things go wrong: nothing is lost, and nothing is there twice.

import assert from 'node:assert/strict';
import { earliestEventPosition } from '@azure/event-hubs';
import { Reading } from './receiving.js';
import { arm, bodies, consumer, control, happened, producer, producersGone, waitUntil } from './space.js';

// Phase, action and more. None of them ends a link under a send that is under way: this SDK would not tell that send,
// and wait a minute.
const SURVIVED = [
  ['store', 'refuse', { wait_seconds: 1 }],
  ['store', 'refuse', { condition: 'com.microsoft:timeout' }],
  ['store', 'refuse', { condition: 'amqp:internal-error' }],
  ['acknowledged', 'drop', {}],
  ['acknowledged', 'drop', { how: 'finish' }],
  ['acknowledged', 'detach', {}],
  ['acknowledged', 'end', {}],
  ['acknowledged', 'close', {}],
  ['attach', 'refuse', {}],
  ['attach', 'drop', {}],
  ['connect', 'drop', {}],
];

// What the SDK gives up on, and the name it has for it.
const PERMANENT = {
  'amqp:link:message-size-exceeded': 'MessageTooLargeError',
  'amqp:not-found': 'MessagingEntityNotFoundError',
  'amqp:not-allowed': 'InvalidOperationError',
  'amqp:unauthorized-access': 'UnauthorizedError',
  'amqp:resource-limit-exceeded': 'QuotaExceededError',
  'com.microsoft:argument-error': 'ArgumentError',
  'com.microsoft:argument-out-of-range': 'ArgumentOutOfRangeError',
  'com.microsoft:entity-disabled': 'MessagingEntityDisabledError',
};

const send = (client, text, partitionId = '0') => client.sendBatch([{ body: Buffer.from(text) }], { partitionId });

export async function survived() {
  for (const [phase, action, more] of SURVIVED) {
    const what = `${phase} ${action} ${JSON.stringify(more)}`;
    const client = producer();
    // Faults of a link strike one that is there.
    if (['store', 'acknowledged'].includes(phase)) await send(client, 'warm');
    const before = (await bodies('0')).length;
    const fault = await arm(phase, action, more);
    await send(client, what);
    assert.equal(await happened(fault), 1, what);
    if (phase === 'acknowledged') await producersGone();
    await send(client, 'after');
    assert.deepEqual((await bodies('0')).slice(before), [what, 'after']);
    await client.close();
  }
}

export async function permanent() {
  for (const [condition, code] of Object.entries(PERMANENT)) {
    const client = producer({ retryOptions: { maxRetries: 0 } });
    await send(client, 'warm', '1');
    await arm('store', 'refuse', { condition });
    await assert.rejects(send(client, 'x', '1'), { code }, condition);
    await client.close();
    // This SDK looks at the condition of a detached link where it consumes.
    const reading = new Reading(
      consumer({ retryOptions: { maxRetries: 0 } }),
      { startPosition: earliestEventPosition },
      { partition: '1' },
    );
    await reading.wait(1);
    await control('POST', '/detach', { role: 'consumer', condition });
    await waitUntil(condition, () => reading.errors.some((error) => error.code === code));
    await reading.stop();
  }
  assert.equal((await bodies('1')).length, Object.keys(PERMANENT).length);
}

// A network that is silent before the acknowledgement and then is not: it comes, late.
export async function silence() {
  const client = producer();
  await send(client, 'warm', '2');
  const fault = await arm('acknowledge', 'silence');
  const sending = send(client, 'x', '2');
  await waitUntil('the silence', async () => (await happened(fault)) === 1);
  await control('POST', '/network', { state: 'up' });
  await sending;
  await client.close();
  assert.deepEqual(await bodies('2'), ['warm', 'x']);
}

// The namespace is away, and comes back on the same port.
export async function outage() {
  const client = producer({ retryOptions: { maxRetries: 20, retryDelayInMs: 100 } });
  await send(client, 'warm');
  await control('POST', '/network', { state: 'down' });
  const sending = send(client, 'after');
  await control('POST', '/network', { state: 'up' });
  await sending;
  await client.close();
  assert.deepEqual(await bodies('0'), ['warm', 'after']);
}
