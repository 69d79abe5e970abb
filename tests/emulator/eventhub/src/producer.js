// A link that brings events.

import { confirm, detach } from './amqp.js';
import { Refusal, error } from './conditions.js';
import { errorOf, happen } from './faults.js';
import { events } from './sections.js';
import { IdleTimer } from './timers.js';

export class Producer {
  constructor(client, link, { hub, partition, publisher }) {
    Object.assign(this, {
      client,
      link,
      hub,
      partition,
      publisher,
      right: 'Send',
      events: 0,
      transfers: 0,
      ended: false,
    });
    this.faults = client.service.faults;
    this.settings = client.service.settings;
    this.unanswered = new Set();
    confirm(link, { max_message_size: this.settings.max_message_size });
    link.add_credit(this.settings.sender_credit);
    link.on('message', ({ delivery, message }) => this.take(delivery, message));
    this.idle = new IdleTimer(this.settings, (limit) =>
      this.close(error('amqp:link:detach-forced', `Idle link tracker, link ${link.name} has been idle for ${limit}ms`)),
    );
  }

  take(delivery, payload) {
    // What was on its way when the link was closed.
    if (this.ended) return;
    this.transfers += 1;
    this.idle.restart();
    const credit = this.settings.sender_credit;
    if (this.link.credit <= credit * (2 / 3)) this.link.add_credit(credit - this.link.credit);
    this.unanswered.add(delivery);
    const limit = this.settings.max_message_size;
    if (payload.length > limit) {
      this.close(
        error(
          'amqp:link:message-size-exceeded',
          `The message (size:${payload.length} bytes) exceeds the limit (${limit} bytes) currently allowed on the link.`,
        ),
      );
      return;
    }
    try {
      const batch = events(payload, delivery.format);
      const partition = this.destination(batch);
      const fault = this.faults.take('store', { hub: this.hub.name, partition: partition.id });
      if (fault?.action === 'refuse') {
        this.reject(delivery, errorOf(fault));
      } else if (fault) {
        happen(fault, this.client, this);
      } else {
        partition.append(batch);
        this.events += batch.length;
        this.acknowledge(delivery, partition);
      }
    } catch (refusal) {
      if (!(refusal instanceof Refusal)) throw refusal;
      this.reject(delivery, refusal.error);
    }
  }

  // One partition for a whole batch, whose events bear its key.
  destination(batch) {
    const key = this.publisher ?? batch[0]?.annotations['x-opt-partition-key']?.value;
    if (this.publisher)
      batch.forEach(({ annotations }) => {
        annotations['x-opt-publisher'] = this.publisher;
      });
    return this.partition ?? this.hub.choose(key);
  }

  acknowledge(delivery, partition) {
    const scope = { hub: this.hub.name, partition: partition.id };
    const answer = () => {
      if (this.ended) return;
      const fault = this.faults.take('acknowledge', scope);
      if (fault && !happen(fault, this.client, this)) return;
      this.unanswered.delete(delivery);
      delivery.accept();
      const after = this.faults.take('acknowledged', scope);
      if (after) this.client.wire.flushed(() => happen(after, this.client, this));
    };
    const delay = this.settings.acknowledge_delay_ms;
    if (delay > 0) setTimeout(answer, delay);
    else answer();
  }

  reject(delivery, error) {
    this.unanswered.delete(delivery);
    delivery.reject(error);
  }

  close(error, closed = true) {
    this.end();
    detach(this.link, error, closed);
  }

  end() {
    this.ended = true;
    this.idle.stop();
    // What nobody will settle any more must not take up the session's window.
    this.unanswered.forEach((delivery) => {
      delivery.settled = true;
    });
    this.unanswered.clear();
  }

  describe() {
    const { events, transfers } = this;
    return {
      role: 'producer',
      hub: this.hub.name,
      partition: this.partition?.id,
      publisher: this.publisher,
      events,
      transfers,
    };
  }
}
