// Event hubs and their partitions: what is stored, and under which numbers.

import { types } from './amqp.js';
import { Refusal } from './conditions.js';
import { annotated } from './sections.js';
import { partitionOf } from './hash.js';

export class Hub {
  // `opaque_offsets` makes it one of a geo-replicated namespace. It answers for it with offsets that are no numbers.
  constructor(
    name,
    { partitions = 4, consumer_groups = [], opaque_offsets = false, retention_ms = 3_600_000, created = Date.now() } = {},
  ) {
    Object.assign(this, { name, opaque_offsets, retention_ms, created, turn: 0 });
    this.groups = new Set(['$default', ...consumer_groups.map((group) => group.toLowerCase())]);
    this.partitions = Array.from({ length: partitions }, (_, id) => new Partition(this, String(id)));
  }

  partition(id) {
    const found = this.partitions.find((partition) => partition.id === id);
    if (found) return found;
    throw new Refusal(
      'com.microsoft:argument-out-of-range',
      'The specified partition is invalid for an EventHub partition sender or receiver. It should be between 0 and ' +
        `${this.partitions.length - 1}.`,
    );
  }

  // Where a batch with this key goes, or the next one without any.
  choose(key) {
    if (key !== undefined) return this.partitions[partitionOf(key, this.partitions.length)];
    this.turn = (this.turn + 1) % this.partitions.length;
    return this.partitions[this.turn];
  }
}

export class Partition {
  constructor(hub, id) {
    Object.assign(this, { hub, id, first: 0, bytes: 0 });
    this.stored = [];
    // Consumer groups by name, and in each the consumers that are attached.
    this.consumers = new Map();
  }

  get next() {
    return this.first + this.stored.length;
  }

  get last() {
    return this.stored.at(-1) ?? this.dropped;
  }

  // The offset as clients get it: where the event begins in the partition's bytes, which the service counts too.
  offset(position) {
    return this.hub.opaque_offsets ? `r1:${this.id}:${position.toString(36)}` : String(position);
  }

  // Stores the events of one batch, all or none.
  append(events) {
    const enqueued = Math.max(Date.now(), this.last?.enqueued ?? 0);
    for (const { annotations, bytes } of events) {
      const event = { number: this.next, position: this.bytes, offset: this.offset(this.bytes), enqueued };
      event.bytes = annotated(
        {
          ...annotations,
          'x-opt-sequence-number': types.wrap_long(event.number),
          'x-opt-offset': event.offset,
          'x-opt-enqueued-time': types.wrap_timestamp(enqueued),
        },
        bytes,
      );
      this.bytes += event.bytes.length;
      this.stored.push(event);
    }
    this.wake();
  }

  // The event with this number, or the first one that is still there after it.
  from(number) {
    this.expire();
    return this.stored[Math.max(number - this.first, 0)];
  }

  // Forgets what is older than the retention of the hub.
  expire() {
    const oldest = Date.now() - this.hub.retention_ms;
    if (this.stored.length && this.stored[0].enqueued < oldest) {
      const kept = this.stored.findIndex(({ enqueued }) => enqueued >= oldest);
      this.forget(kept === -1 ? this.next : this.first + kept);
    }
  }

  // Forgets the events before `number`.
  forget(number) {
    const gone = this.stored.splice(0, Math.max(number - this.first, 0));
    this.dropped = gone.at(-1) ?? this.dropped;
    this.first += gone.length;
  }

  wake() {
    for (const group of this.consumers.values()) group.forEach((consumer) => consumer.schedule());
  }

  // The number of the first event that is after a starting position of a selector.
  resolve({ property, inclusive, value }) {
    this.expire();
    if (value === '@latest') return this.next;
    if (property === 'x-opt-enqueued-time') {
      const found = this.stored.find(({ enqueued }) => enqueued > value || (inclusive && enqueued === Number(value)));
      return found?.number ?? this.next;
    }
    if (value === '-1') return this.first;
    return property === 'x-opt-offset'
      ? this.afterOffset(value, inclusive)
      : this.afterNumber(Number(value), inclusive);
  }

  afterOffset(value, inclusive) {
    const [, id, digits] = this.hub.opaque_offsets ? (/^r1:(\d+):([0-9a-z]+)$/.exec(value) ?? []) : [0, this.id, value];
    const position = parseInt(digits, this.hub.opaque_offsets ? 36 : 10);
    if (this.hub.opaque_offsets && (id !== this.id || Number.isNaN(position))) {
      throw new Refusal('com.microsoft:georeplication:invalid-offset', `The supplied offset '${value}' is invalid.`);
    }
    const last = this.last?.position ?? -1;
    if (!(position <= last)) {
      throw new Refusal(
        'com.microsoft:argument-error',
        `The supplied offset '${value}' is invalid. The last offset in the system is '${this.last?.offset ?? -1}'`,
      );
    }
    const found = this.stored.find((event) => event.position > position || (inclusive && event.position === position));
    return found?.number ?? this.next;
  }

  afterNumber(number, inclusive) {
    if (!(number < this.next)) {
      throw new Refusal(
        'com.microsoft:argument-error',
        `The supplied sequence number '${number}' is invalid. The last sequence number in the system is '${this.next - 1}'`,
      );
    }
    return inclusive ? number : number + 1;
  }
}
