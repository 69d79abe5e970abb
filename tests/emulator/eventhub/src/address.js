// Addresses of the entities in a namespace.

import { Refusal } from './conditions.js';

// The path of an address or an audience, without scheme and host, in lower case: the service does not tell cases apart.
export function path(address) {
  const local = address.replace(/^[a-z]+:\/\/[^/]*/i, '').replace(/^\/+|\/+$/g, '');
  return local.toLowerCase();
}

// Whether a claim to `above` is one to `below`.
export const covers = (above, below) => above === '' || above === below || below.startsWith(`${above}/`);

// What a producer's target or a consumer's source names. `publisher` and `partition` may be missing from a target.
export function entity(address) {
  const local = path(address);
  const parts = /^([^/]+)(?:\/consumergroups\/([^/]+))?(?:\/partitions\/([^/]+)|\/publishers\/([^/]+))?$/.exec(local);
  if (!parts) throw new Refusal('amqp:not-found', `The messaging entity '${address}' could not be found.`);
  const [, hub, group, partition, publisher] = parts;
  return { path: local, hub, group, partition, publisher };
}
