// One connection of a client: its tokens, its links, and how long it may be without them.

import { accept, symbols } from './amqp.js';
import { covers, entity, path } from './address.js';
import { Refusal, error } from './conditions.js';
import { Consumer } from './consumer.js';
import { errorOf, happen } from './faults.js';
import { Producer } from './producer.js';
import { Requests } from './requests.js';
import { after } from './timers.js';
import { verify } from './tokens.js';

const NODES = ['$cbs', '$management'];

export class Client {
  constructor(service, wire, transport, id) {
    Object.assign(this, { service, wire, id, transport, tokens: [], deadlines: {}, ended: false });
    this.links = new Set();
    this.claims = new Map();
    this.amqp = accept(wire, `connection ${id}`, service.settings, (user, password) => this.login(user, password));
    this.amqp.on('receiver_open', ({ receiver }) => this.attach(receiver));
    this.amqp.on('sender_open', ({ sender }) => this.attach(sender));
    this.amqp.on('receiver_close', ({ receiver }) => this.detached(receiver));
    this.amqp.on('sender_close', ({ sender }) => this.detached(sender));
    this.amqp.on('session_close', ({ session }) =>
      this.each(
        (held) => held.link.session === session,
        (held) => this.remove(held),
      ),
    );
    this.amqp.on('connection_close', () => {});
    wire.once('end', () => this.end());
    this.allow('token_deadline_ms', 'The connection was closed because no token was received in time.');
    this.inactive('first_link_deadline_ms');
  }

  // SASL PLAIN with the name and the key of a rule gives the rights of that rule, without expiry.
  login(user, password) {
    const rule = this.service.settings.rules.find(({ name, key }) => name === user && key === password);
    if (rule) this.claim({ path: '', rights: rule.rights, expires: Infinity });
    return rule !== undefined;
  }

  putToken(type, token, audience) {
    const record = { type, audience, at: Date.now(), accepted: false };
    this.tokens.push(record);
    this.service.exists(path(audience));
    const claim = verify(token, audience, this.service.settings);
    this.claim(claim);
    Object.assign(record, { accepted: true, expires: claim.expires });
  }

  claim(claim) {
    clearTimeout(this.deadlines.token_deadline_ms);
    clearTimeout(this.claims.get(claim.path)?.timer);
    const timer = claim.expires === Infinity ? undefined : after(claim.expires - Date.now(), () => this.expire(claim));
    this.claims.set(claim.path, { ...claim, timer });
  }

  // Links without another claim go with it.
  expire(claim) {
    clearTimeout(this.claims.get(claim.path)?.timer);
    this.claims.delete(claim.path);
    this.each(
      (held) => !held.ended && held.right && !this.holds(held.path, held.right),
      (held) =>
        held.close(
          error(
            'amqp:unauthorized-access',
            `ExpiredToken: The token is expired. Expiration time: '${new Date(claim.expires).toISOString()}'.`,
          ),
        ),
    );
  }

  expireTokens() {
    [...this.claims.values()].forEach((claim) => this.expire({ ...claim, expires: Date.now() }));
  }

  holds(wanted, right) {
    return [...this.claims.values()].some(
      (claim) => covers(claim.path, wanted) && (!right || claim.rights.includes(right)),
    );
  }

  // Throws if neither a claim of the connection nor the request's own token is one to this hub.
  mayManage(hub, token) {
    const held = [...this.claims.keys()].some((claim) => covers(claim, hub) || covers(hub, claim));
    if (!held) verify(String(token ?? ''), hub, this.service.settings);
  }

  attach(link) {
    const address = (link.is_receiver() ? link.target?.address : link.source?.address) ?? '';
    try {
      this.add(link, address);
    } catch (refusal) {
      if (!(refusal instanceof Refusal)) throw refusal;
      // With null for source and target, as AMQP 1.0 has it (2.6.3), and then closed.
      this.service.log(`${this.id}: refused ${address}: ${refusal.message}`);
      link.close(refusal.error);
    }
  }

  add(link, address) {
    const node = NODES.find((name) => path(address) === name || path(address).endsWith(`/${name}`));
    const held = node ? this.toNode(link, node) : this.toEntity(link, address);
    if (!held) return;
    Object.assign(held, { id: this.service.linkId(), address, opened: Date.now() });
    held.properties = link.properties;
    held.desired_capabilities = symbols(link.desired_capabilities);
    this.links.add(held);
    clearTimeout(this.deadlines.link);
  }

  toNode(link, node) {
    const taken = [...this.links].some((held) => held.node === node && held.link.is_sender() === link.is_sender());
    if (node === '$cbs' && taken) {
      throw new Refusal('amqp:not-allowed', `A link to connection '${this.id}' $cbs node has already been opened.`);
    }
    if (node === '$management' && this.claims.size === 0) throw unauthorized('Manage', node);
    return new Requests(this, link, node);
  }

  toEntity(link, address) {
    const { path: wanted, hub: name, group, partition: id, publisher } = entity(address);
    const fault = this.service.faults.take('attach', { hub: name, partition: id });
    if (fault?.action === 'refuse') {
      link.close(errorOf(fault));
      return undefined;
    }
    if (fault && !happen(fault, this, { link })) return undefined;
    const hub = this.service.hub(name);
    const right = link.is_receiver() ? 'Send' : 'Listen';
    if (!this.holds(wanted, right)) throw unauthorized(right, address);
    if (link.is_receiver() !== (group === undefined)) throw new Refusal('amqp:not-allowed');
    const partition = id === undefined ? undefined : hub.partition(id);
    if (group && !hub.groups.has(group)) {
      throw new Refusal('amqp:not-found', `The messaging entity '${address}' could not be found.`);
    }
    if (group && !partition) throw new Refusal('amqp:not-allowed', 'A consumer names a partition.');
    const held = group
      ? new Consumer(this, link, { hub, group, partition })
      : new Producer(this, link, { hub, partition, publisher });
    return Object.assign(held, { path: wanted });
  }

  detached(link) {
    this.each(
      (held) => held.link === link,
      (held) => this.remove(held),
    );
  }

  remove(held) {
    held.end();
    this.links.delete(held);
    if (this.links.size === 0) this.inactive('no_link_deadline_ms');
  }

  each(which, act) {
    [...this.links].filter(which).forEach(act);
  }

  // With AMQP's own words. What still comes is not served.
  close(error) {
    this.links.forEach((held) => held.end());
    this.amqp.close(error);
  }

  endSession(session, error) {
    this.each(
      (held) => held.link.session === session,
      (held) => held.end(),
    );
    session.close(error);
  }

  inactive(name) {
    const limit = this.service.settings[name];
    this.allow(
      name,
      `The connection was inactive for more than the allowed ${limit} milliseconds and is closed by container ` +
        "'LinkTracker'.",
      'link',
    );
  }

  // Closes the connection after a time that the settings have, unless something comes about before.
  allow(name, description, as = name) {
    clearTimeout(this.deadlines[as]);
    this.deadlines[as] = after(this.service.settings[name], () =>
      this.close(error('amqp:connection:forced', description)),
    );
  }

  end() {
    if (this.ended) return;
    this.ended = true;
    [...Object.values(this.deadlines), ...[...this.claims.values()].map(({ timer }) => timer)].forEach(clearTimeout);
    this.links.forEach((held) => held.end());
    this.service.ended(this);
  }

  describe() {
    const { container_id, hostname, max_frame_size, idle_time_out, properties } = this.amqp;
    const links = [...this.links].map((held) => {
      const { id, address, opened, properties, desired_capabilities } = held;
      return { id, address, opened, ended: held.ended, ...held.describe(), properties, desired_capabilities };
    });
    const open = { container_id, hostname, max_frame_size, idle_time_out, properties };
    return { id: this.id, transport: this.transport, ended: this.ended, open, tokens: this.tokens, links };
  }
}

const unauthorized = (right, address) =>
  new Refusal(
    'amqp:unauthorized-access',
    `Unauthorized access. '${right}' claim(s) are required to perform this operation. Resource: '${address}'.`,
  );
