// The namespace under judgement, as `@azure/event-hubs` and the control port see it. The environment variable
// EVENT_HUBS describes it: `ports`, `transport`.

import { EventHubConsumerClient, EventHubProducerClient } from '@azure/event-hubs';
import WebSocket from 'ws';

export const space = JSON.parse(process.env.EVENT_HUBS);
export const HUB = 'judged';

// The longest that anything is waited for.
const DEADLINE_MS = 120_000;

export async function control(method, path, body) {
  const answer = await fetch(`http://127.0.0.1:${space.ports.control}${path}`, {
    method,
    body: body && JSON.stringify(body),
  });
  const text = await answer.text();
  if (!answer.ok) throw new Error(`${method} ${path}: ${text}`);
  if (answer.headers.get('content-type') !== 'application/x-ndjson') return JSON.parse(text);
  return text
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line));
}

export const stored = (partition) => control('GET', `/hubs/${HUB}/partitions/${partition}/events`);

export const bodies = async (partition) =>
  (await stored(partition)).map(({ body }) => Buffer.from(body, 'hex').toString());

export const arm = async (phase, action, detail) => (await control('POST', '/faults', { phase, action, ...detail })).id;

export const happened = async (fault) => (await control('GET', '/faults')).find(({ id }) => id === fault).happened;

export async function waitUntil(what, condition) {
  const begun = Date.now();
  while (!(await condition())) {
    if (Date.now() - begun > DEADLINE_MS) throw new Error(`waited in vain for ${what}`);
    await new Promise((resolve) => {
      setTimeout(resolve, 20);
    });
  }
}

export const connections = async (which = () => true) =>
  (await control('GET', '/connections')).filter((one) => !one.ended && which(one));

// Waits until clients know that their producers are detached: they have answered it, or are gone.
export const producersGone = () =>
  waitUntil('no producers', async () => {
    const left = await connections(({ links }) => links.some(({ role }) => role === 'producer'));
    return left.length === 0;
  });

function told() {
  const { transport = 'amqp', ports } = space;
  const key = 'SharedAccessKeyName=RootManageSharedAccessKey;SharedAccessKey=';
  return {
    string: (secret) =>
      `Endpoint=sb://localhost:${ports[transport]};${key}${secret}` +
      (transport === 'amqp' ? ';UseDevelopmentEmulator=true' : ''),
    options: {
      retryOptions: { retryDelayInMs: 50 },
      ...(transport === 'wss' ? { webSocketOptions: { webSocket: WebSocket } } : {}),
    },
  };
}

export function producer(more = {}, secret = 'SAS_KEY_VALUE', hub = HUB) {
  const { string, options } = told();
  return new EventHubProducerClient(string(secret), hub, { ...options, ...more });
}

export function consumer({ store, group = '$Default', secret = 'SAS_KEY_VALUE', ...more } = {}) {
  const { string, options } = told();
  const stores = store ? [store] : [];
  return new EventHubConsumerClient(group, string(secret), HUB, ...stores, { ...options, ...more });
}
