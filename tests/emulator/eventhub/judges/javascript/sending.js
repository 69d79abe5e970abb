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
