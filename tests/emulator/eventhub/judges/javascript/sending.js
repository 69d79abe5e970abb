// Producing. What has come, the test that runs this judges.

import assert from 'node:assert/strict';
import { producer } from './space.js';

async function send(client, all, where) {
  const batch = await client.createBatch(where);
  all.forEach((body) => assert(batch.tryAdd({ body: Buffer.from(body) })));
  await client.sendBatch(batch);
}

// Three events for each key.
export async function keyed(...keys) {
  const client = producer();
  for (const partitionKey of keys)
    await send(
      client,
      [0, 1, 2].map((i) => `${partitionKey}/${i}`),
      { partitionKey },
    );
  await client.close();
}

// So many events in each partition, in batches of 50, each with its number and properties of every type.
export async function numbered(count) {
  const client = producer();
  for (const partitionId of await client.getPartitionIds()) {
    for (let start = 0; start < count; start += 50) {
      const batch = await client.createBatch({ partitionId });
      for (let number = start; number < Math.min(start + 50, count); number += 1) {
        assert(
          batch.tryAdd({
            body: Buffer.from(`${partitionId}/${number}`),
            messageId: `${partitionId}-${number}`,
            correlationId: 'c',
            contentType: 'text/plain',
            properties: { number, text: 'é', ratio: 0.5, yes: true, bytes: Buffer.from([0, 255]) },
          }),
        );
      }
      await client.sendBatch(batch);
    }
  }
  await client.close();
}

// One with a body of each kind in turn: JSON, text, bytes, no bytes, a number, a map and a sequence.
function message(device, number) {
  const [bodyType, body] = [
    ['data', Buffer.from(JSON.stringify({ device, number, level: 0.25 }))],
    ['data', Buffer.from(`${device} said \u2603 ${number}`)],
    ['data', Buffer.from([255, 0, number % 256])],
    ['data', Buffer.alloc(0)],
    ['value', number],
    ['value', { number, nothing: null }],
    ['sequence', [number, 'two', 0.5]],
  ][number % 7];
  return {
    bodyType,
    body,
    properties: { messageId: `${device}-${number}`, subject: 's', contentType: 'text/plain' },
    applicationProperties: {
      number,
      text: 'é',
      ratio: 0.5,
      yes: true,
      bytes: Buffer.from([0, 255]),
      tags: ['é', number, [true]],
      by: { name: 'é' },
    },
  };
}

// So many events of 40 devices, keyed by device, with properties, and bodies of every kind.
export async function telemetry(count) {
  const client = producer();
  for (let start = 0; start < count; start += 25) {
    const device = `device-${Math.floor(start / 25) % 40}`;
    const batch = await client.createBatch({ partitionKey: device });
    for (let number = start; number < Math.min(start + 25, count); number += 1)
      assert(batch.tryAdd(message(device, number)));
    await client.sendBatch(batch);
  }
  await client.close();
}

// So many single events, wherever the hub puts them.
export async function spread(count) {
  const client = producer();
  for (let number = 0; number < count; number += 1) await client.sendBatch([{ body: Buffer.from(String(number)) }]);
  await client.close();
}

// One batch as full as the SDK lets it be; prints how many events. An event that is larger does not get into one.
export async function full() {
  const client = producer();
  const batch = await client.createBatch({ partitionId: '0' });
  const event = { body: Buffer.alloc(1000, 'x') };
  while (batch.tryAdd(event));
  await client.sendBatch(batch);
  assert(!(await client.createBatch()).tryAdd({ body: Buffer.alloc(1_048_577) }));
  console.log(JSON.stringify({ count: batch.count }));
  await client.close();
}
