// A namespace: its hubs, its settings and the connections of its clients.

import { Client } from './client.js';
import { Refusal, error } from './conditions.js';
import { Faults, happen } from './faults.js';
import { Hub } from './hub.js';
import { Settings } from './settings.js';
import { Wire } from './wire.js';

// Connections that have ended and can still be asked about.
const REMEMBERED = 1000;

export class Service {
  constructor(listeners) {
    Object.assign(this, { listeners, connections: 0, links: 0 });
    this.settings = new Settings();
    this.faults = new Faults();
    this.hubs = new Map();
    this.clients = new Set();
    this.past = [];
    this.silent = false;
    listeners.serve((stream, raw, transport) => this.connected(stream, raw, transport));
  }

  log(text) {
    console.log(`${new Date().toISOString()} ${text}`);
  }

  connected(stream, raw, transport) {
    const wire = new Wire(stream, raw);
    this.connections += 1;
    const client = new Client(this, wire, transport, this.connections);
    this.clients.add(client);
    const fault = this.faults.take('connect');
    if (fault) happen(fault, client);
    else if (this.silent) wire.freeze();
  }

  ended(client) {
    this.clients.delete(client);
    this.past.push(client.describe());
    this.past.splice(0, Math.max(this.past.length - REMEMBERED, 0));
  }

  linkId() {
    this.links += 1;
    return this.links;
  }

  hub(name) {
    const found = this.hubs.get(name.toLowerCase());
    if (found) return found;
    throw new Refusal('amqp:not-found', `The messaging entity '${name}' could not be found.`, 404);
  }

  // Whether there is a hub at the root of this path; that of the namespace is empty.
  exists(path) {
    if (path !== '') this.hub(path.split('/')[0]);
  }

  // Makes a hub. One that is there is deleted first: the new one has another creation time, and starts from 0.
  makeHub(name, options = {}) {
    const before = this.hubs.get(name.toLowerCase());
    const hub = new Hub(name.toLowerCase(), options);
    if (before) {
      this.deleteHub(name);
      hub.created = options.created ?? Math.max(hub.created, before.created + 1);
    }
    this.hubs.set(hub.name, hub);
    return hub;
  }

  deleteHub(name) {
    const hub = this.hub(name);
    this.hubs.delete(hub.name);
    this.detach({ hub: hub.name, condition: 'amqp:not-found' });
  }

  // Detaches links: all, or of one hub, partition or role. Returns how many.
  detach({ hub, partition, role, condition = 'amqp:link:detach-forced', description }) {
    const held = [...this.clients]
      .flatMap((client) => [...client.links])
      .filter(
        (link) =>
          link.hub &&
          !link.ended &&
          (hub ?? link.hub.name) === link.hub.name &&
          (role ?? link.describe().role) === link.describe().role &&
          (partition ?? link.partition?.id) === link.partition?.id,
      );
    held.forEach((link) => link.close(error(condition, description)));
    return held.length;
  }

  // Ends all connections: by `reset`, by `finish`, or by AMQP's close with a condition. Returns how many.
  disconnect({ how = 'reset', condition = 'amqp:connection:forced', description }) {
    const clients = [...this.clients];
    clients.forEach((client) =>
      how === 'close' ? client.close(error(condition, description)) : client.wire.drop(how),
    );
    return clients.length;
  }

  expireTokens() {
    this.clients.forEach((client) => client.expireTokens());
    return this.clients.size;
  }

  // `up`; `silent`: connections stay and come about, and nothing goes through them; `down`: there are none.
  async network(state) {
    this.silent = state === 'silent';
    if (state === 'down') {
      this.listeners.close();
      this.disconnect({});
    } else {
      await this.listeners.open();
      this.clients.forEach(({ wire }) => (this.silent ? wire.freeze() : wire.thaw()));
    }
  }
}
