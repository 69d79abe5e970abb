// Consuming.

import assert from 'node:assert/strict';
import { earliestEventPosition, latestEventPosition } from '@azure/event-hubs';
import { HUB, arm, connections, consumer, control, happened, producer, stored, waitUntil } from './space.js';

// A consumer client at work. `events` and `errors` fill up.
export class Reading {
  constructor(client, options, { partition, checkpoint = false } = {}) {
    Object.assign(this, { client, events: [], errors: [], contexts: {} });
    const handlers = {
      processEvents: async (events, context) => {
        this.contexts[context.partitionId] = context;
        events.forEach((event) => this.events.push([context.partitionId, event]));
        if (checkpoint && events.length) await context.updateCheckpoint(events.at(-1));
      },
      processError: async (error) => {
        this.errors.push(error);
      },
    };
    const all = { maxWaitTimeInSeconds: 1, ...options };
    this.subscription = partition ? client.subscribe(partition, handlers, all) : client.subscribe(handlers, all);
  }

  async wait(count) {
    await waitUntil(`${count} events`, () => this.events.length >= count);
    return this;
  }

  async stop() {
    await this.subscription.close();
    await this.client.close();
    return this;
  }

  numbers() {
    return this.events.map(([, { sequenceNumber }]) => sequenceNumber);
  }
}

const fromStart = (options, more = { partition: '0' }) =>
  new Reading(consumer(options), { startPosition: earliestEventPosition }, more);

async function send(count, partitionId = '0', text = String) {
  const client = producer();
  const batch = await client.createBatch({ partitionId });
  for (let number = 0; number < count; number += 1) assert(batch.tryAdd({ body: Buffer.from(text(number)) }));
  await client.sendBatch(batch);
  await client.close();
}

// Reads so many events from the beginning and prints them.
export async function everything(count) {
  const reading = await (await fromStart({}, {}).wait(count)).stop();
  for (const [partition, event] of reading.events) {
    console.log(
      JSON.stringify({
        partition,
        sequence_number: event.sequenceNumber,
        offset: event.offset,
        enqueued: event.enqueuedTimeUtc.getTime(),
        partition_key: event.partitionKey ?? null,
        body: event.body.toString(),
        message_id: event.messageId ?? null,
        number: event.properties?.number ?? null,
        key: event.properties?.forebay_key ?? null,
      }),
    );
  }
}

// Every kind of starting position, in a partition with events 0 to 9, of which 5 to 9 came later.
export async function positions() {
  await send(5, '1');
  await waitUntil('the clock to go on', async () => Date.now() > (await stored('1')).at(-1).enqueued);
  await send(5, '1');
  const at = await stored('1');
  for (const [startPosition, first] of [
    [earliestEventPosition, 0],
    [{ offset: at[3].offset }, 4],
    [{ offset: at[3].offset, isInclusive: true }, 3],
    [{ sequenceNumber: 3 }, 4],
    [{ sequenceNumber: 3, isInclusive: true }, 3],
    [{ enqueuedOn: new Date(at[4].enqueued) }, 5],
  ]) {
    const reading = await (
      await new Reading(consumer(), { startPosition }, { partition: '1' }).wait(10 - first)
    ).stop();
    assert.deepEqual(
      reading.numbers(),
      Array.from({ length: 10 - first }, (_, i) => first + i),
      JSON.stringify(startPosition),
    );
  }
  const latest = new Reading(consumer(), { startPosition: latestEventPosition }, { partition: '1' });
  await waitUntil(
    'a consumer',
    async () =>
      (await connections(({ links }) => links.some(({ role, ended }) => role === 'consumer' && !ended))).length,
  );
  await send(1, '1');
  assert.deepEqual((await (await latest.wait(1)).stop()).numbers(), [10]);
}

// A checkpoint store in memory, with etags as the SDK's own stores have them.
class Store {
  constructor() {
    Object.assign(this, { ownership: new Map(), checkpoints: new Map(), turn: 0 });
  }

  async listOwnership() {
    return [...this.ownership.values()];
  }

  async claimOwnership(wanted) {
    return wanted
      .filter(({ partitionId, etag }) => this.ownership.get(partitionId)?.etag === etag)
      .map((one) => {
        this.turn += 1;
        const claimed = { ...one, etag: String(this.turn), lastModifiedTimeInMs: Date.now() };
        this.ownership.set(one.partitionId, claimed);
        return claimed;
      });
  }

  async updateCheckpoint(checkpoint) {
    this.checkpoints.set(checkpoint.partitionId, checkpoint);
  }

  async listCheckpoints() {
    return [...this.checkpoints.values()];
  }

  shares() {
    const owners = [...this.ownership.values()].map(({ ownerId }) => ownerId).filter(Boolean);
    return [...new Set(owners)].map((owner) => owners.filter((other) => other === owner).length);
  }
}

// Two clients share the partitions by the SDK's load balancing; what one leaves, the other goes on with.
export async function balance() {
  const store = new Store();
  const loadBalancingOptions = { updateIntervalInMs: 200, partitionOwnershipExpirationIntervalInMs: 20_000 };
  const partitions = (await control('GET', `/hubs/${HUB}`)).partitions.map(({ id }) => id);
  const count = partitions.length;
  const round = async (text) => {
    for (const partition of partitions) await send(1, partition, () => text);
  };
  const share = () => fromStart({ store, loadBalancingOptions }, { checkpoint: true });
  const total = () => one.events.length + two.events.length;

  await round('first');
  const one = await share().wait(count);
  const two = share();
  await waitUntil('fair shares', () => String(store.shares()) === String([count / 2, count / 2]));
  await round('second');
  await waitUntil('the second round', () => total() >= 2 * count);
  await one.stop();
  await round('third');
  await waitUntil('the other to take all over', () => total() >= 3 * count);
  await two.stop();
  assert.equal(two.events.length, 3 * count - one.events.length);
  const seen = [...one.events, ...two.events]
    .map(([partition, { sequenceNumber }]) => `${partition}/${sequenceNumber}`)
    .sort();
  assert.deepEqual(seen, partitions.flatMap((partition) => [0, 1, 2].map((number) => `${partition}/${number}`)).sort());
}

// A higher owner level takes a partition away, and a lower one does not get it.
export async function owner_level() {
  await send(1);
  const told = (reading, what) =>
    waitUntil(what, () => reading.errors.some(({ code }) => code === 'ReceiverDisconnectedError'));
  const at = (ownerLevel) =>
    new Reading(
      consumer({ retryOptions: { maxRetries: 0 } }),
      { startPosition: earliestEventPosition, ownerLevel },
      { partition: '0' },
    );
  const first = await at(1).wait(1);
  const second = await at(2).wait(1);
  await told(first, 'the first to lose it');
  const [third, fourth] = [at(1), at(undefined)];
  await told(third, 'a lower level to be refused');
  await told(fourth, 'none to be refused');
  assert.equal(third.events.length + fourth.events.length + second.errors.length, 0);
  for (const reading of [first, second, third, fourth]) await reading.stop();
}

// Each event says how far the partition is.
export async function last_enqueued() {
  await send(5);
  const options = { startPosition: earliestEventPosition, trackLastEnqueuedEventProperties: true };
  const reading = await new Reading(consumer(), options, { partition: '0' }).wait(5);
  const told = reading.contexts['0'].lastEnqueuedEventProperties;
  const last = (await stored('0')).at(-1);
  assert.equal(told.sequenceNumber, 4);
  assert.equal(told.offset, last.offset);
  assert.equal(new Date(told.enqueuedOn).getTime(), last.enqueued);
  await reading.stop();
}

// Positions of a hub that was made again are refused, and its creation time is another.
export async function recreated() {
  await send(3);
  const last = (await stored('0')).at(-1);
  const client = producer();
  const before = (await client.getEventHubProperties()).createdOn;
  await control('PUT', `/hubs/${HUB}`, { partitions: 2 });
  const after = await client.getEventHubProperties();
  assert(after.createdOn > before);
  assert.deepEqual(after.partitionIds, ['0', '1']);
  await client.close();
  for (const startPosition of [{ offset: last.offset }, { sequenceNumber: last.sequence_number }]) {
    const reading = new Reading(consumer({ retryOptions: { maxRetries: 0 } }), { startPosition }, { partition: '0' });
    await waitUntil('a refusal', () => reading.errors.some(({ message }) => message.includes('is invalid')));
    await reading.stop();
  }
}

// A geo-replicated namespace: offsets are no numbers, an event's own one resumes, and a number is refused.
export async function opaque_offsets() {
  await send(4);
  const client = producer();
  const { lastEnqueuedOffset } = await client.getPartitionProperties('0');
  assert.equal((await client.getEventHubProperties()).isGeoDrEnabled, true);
  await client.close();
  const reading = await (await fromStart().wait(4)).stop();
  const { offset } = reading.events[1][1];
  assert(Number.isNaN(Number(offset)), offset);
  const resumed = await (
    await new Reading(consumer(), { startPosition: { offset } }, { partition: '0' }).wait(2)
  ).stop();
  assert.deepEqual(resumed.numbers(), [2, 3]);
  const startPosition = { offset: lastEnqueuedOffset };
  const refused = new Reading(consumer({ retryOptions: { maxRetries: 0 } }), { startPosition }, { partition: '0' });
  await waitUntil('a refusal', () => refused.errors.length);
  assert.match(String(refused.errors[0].message), /offset .* is invalid/);
  await refused.stop();
}

// Whatever cuts a consumer off, it goes on where it was: each event once, in order.
export async function torn() {
  await send(200);
  for (const [action, detail] of [
    ['drop', { how: 'reset' }],
    ['drop', { how: 'finish' }],
    ['cut', { how: 'finish' }],
    ['detach', { condition: 'amqp:link:detach-forced' }],
    ['detach', { condition: 'amqp:internal-error' }],
    ['close', {}],
  ]) {
    const fault = await arm('deliver', action, { skip: 70, ...detail });
    const reading = await (await fromStart().wait(200)).stop();
    assert.equal(await happened(fault), 1, action);
    assert.deepEqual(
      reading.numbers(),
      Array.from({ length: 200 }, (_, i) => i),
      `${action} ${JSON.stringify(detail)}`,
    );
  }
}
