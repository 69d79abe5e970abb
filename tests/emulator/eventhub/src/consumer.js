// A link that takes the events of one partition for one consumer group.

import { confirm, detach, integer, symbols, types } from './amqp.js';
import { Refusal, error } from './conditions.js';
import { happen } from './faults.js';
import { withMetrics } from './sections.js';
import { startingPosition } from './selector.js';
import { IdleTimer } from './timers.js';

const METRICS = 'com.microsoft:enable-receiver-runtime-metric';

export class Consumer {
  // Throws a refusal if there is no such starting position, or another consumer is in the way.
  constructor(client, link, { hub, group, partition }) {
    Object.assign(this, {
      client,
      link,
      hub,
      group,
      partition,
      right: 'Listen',
      events: 0,
      scheduled: false,
      ended: false,
    });
    this.faults = client.service.faults;
    this.epoch = integer(link.properties?.['com.microsoft:epoch']);
    this.name = link.properties?.['com.microsoft:receiver-name'] ?? 'nil';
    this.metrics = symbols(link.desired_capabilities).includes(METRICS);
    this.position = startingPosition(link.source);
    this.number = partition.resolve(this.position);
    this.takePlace(client.service.settings.non_epoch_receivers);
    confirm(link, this.metrics ? { offered_capabilities: METRICS } : {});
    this.idle = new IdleTimer(client.service.settings, (limit) =>
      this.close(
        error(
          'amqp:link:detach-forced',
          `AmqpEventHubConsumer.IdleTimerExpired: Idle timeout: ${limit}ms. LINK_CREDIT: 0`,
        ),
      ),
    );
    for (const event of ['sender_flow', 'sendable', 'sender_draining']) link.on(event, () => this.schedule());
    link.session.setMaxListeners(0);
    link.session.on('session_flow', () => this.schedule());
  }

  // Among the consumers of a partition in one group a higher or the same epoch wins, and some or none have no epoch.
  takePlace(most) {
    const { consumers } = this.partition;
    const present = consumers.get(this.group) ?? new Set();
    const epochs = [...present].map(({ epoch }) => epoch).filter((epoch) => epoch !== undefined);
    if (this.epoch === undefined && epochs.length) {
      throw new Refusal(
        'amqp:link:stolen',
        `At least one receiver for the endpoint is created with epoch of '${epochs[0]}', ` +
          'and so non-epoch receiver is not allowed. Either reconnect with a higher epoch, or make sure all epoch receivers ' +
          'are closed or disconnected.',
      );
    }
    if (this.epoch === undefined && present.size >= most) {
      throw new Refusal(
        'amqp:resource-limit-exceeded',
        'Exceeded the maximum number of allowed receivers per partition ' + `in a consumer group which is ${most}`,
      );
    }
    if (epochs.some((epoch) => epoch > this.epoch)) {
      throw new Refusal(
        'amqp:link:stolen',
        `Receiver '${this.name}' with a higher epoch '${Math.max(...epochs)}' already ` +
          `exists. Receiver '${this.name}' with epoch ${this.epoch} cannot be created. Make sure you are creating receiver ` +
          'with increasing epoch value to ensure connectivity, or ensure all old epoch receivers are closed or disconnected.',
      );
    }
    if (this.epoch !== undefined)
      present.forEach((other) =>
        other.close(
          error(
            'amqp:link:stolen',
            `New receiver ` +
              `'${this.name}' with higher epoch of '${this.epoch}' is created hence current receiver '${other.name}' with epoch ` +
              `'${other.epoch ?? 'nil'}' is getting disconnected. If you are recreating the receiver, make sure a higher epoch is used.`,
          ),
        ),
      );
    present.add(this);
    consumers.set(this.group, present);
  }

  schedule() {
    if (this.scheduled) return;
    this.scheduled = true;
    setImmediate(() => {
      this.scheduled = false;
      if (!this.ended) this.pump();
    });
  }

  // Sends what there is credit for.
  pump() {
    const { link } = this;
    const { outgoing } = link.session;
    // rhea takes credit away when it writes. While something waits for the session's window, the credit it shows is not
    // all there for new events, and events of a link without credit would keep back those of other links.
    if (!link.is_open() || outgoing.next_pending_delivery !== outgoing.next_delivery_id) return;
    for (let credit = Math.min(link.credit, outgoing.available()); credit > 0; credit -= 1) {
      const event = this.partition.from(this.number);
      if (!event) break;
      const fault = this.faults.take('deliver', { hub: this.hub.name, partition: this.partition.id });
      if (fault && !happen(fault, this.client, this)) return;
      this.number = event.number + 1;
      this.events += 1;
      link.send(this.metrics ? withMetrics(lastEnqueued(this.partition), event.bytes) : event.bytes, undefined, 0);
    }
    link.connection._process();
    if (link._draining) {
      link.set_drained(true);
      link.connection._register();
    }
    if (link.credit > 0) this.idle.restart();
  }

  close(error, closed = true) {
    this.end();
    detach(this.link, error, closed);
  }

  end() {
    this.ended = true;
    this.idle.stop();
    this.partition.consumers.get(this.group)?.delete(this);
  }

  describe() {
    const { group, epoch, events, number } = this;
    return { role: 'consumer', hub: this.hub.name, partition: this.partition.id, group, epoch, events, next: number };
  }
}

// What the service says of a partition with each event and through `$management`.
export function lastEnqueued(partition) {
  const { last } = partition;
  return {
    last_enqueued_sequence_number: types.wrap_long(last?.number ?? -1),
    last_enqueued_offset: last?.offset ?? '-1',
    last_enqueued_time_utc: types.wrap_timestamp(last?.enqueued ?? 0),
    runtime_info_retrieval_time_utc: types.wrap_timestamp(Date.now()),
  };
}
