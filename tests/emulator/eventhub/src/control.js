// The control port: JSON over HTTP, from which tests make hubs, set what is to go wrong, and ask what came. README.md
// has the list.

import http from 'node:http';
import { Readable } from 'node:stream';
import { Refusal } from './conditions.js';
import { describe } from './describe.js';

const ROUTES = [
  ['PUT', /^\/hubs\/([^/]+)$/, (service, body, name) => ofHub(service.makeHub(name, body))],
  ['DELETE', /^\/hubs\/([^/]+)$/, (service, _, name) => service.deleteHub(name)],
  ['GET', /^\/hubs\/([^/]+)$/, (service, _, name) => ofHub(service.hub(name))],
  [
    'GET',
    /^\/hubs\/([^/]+)\/partitions\/([^/]+)\/events$/,
    (service, _, name, id) => stored(service.hub(name).partition(id)),
  ],
  [
    'DELETE',
    /^\/hubs\/([^/]+)\/partitions\/([^/]+)\/events$/,
    (service, { before }, name, id) => {
      service.hub(name).partition(id).forget(before);
    },
  ],
  ['GET', /^\/settings$/, ({ settings }) => settings],
  ['PATCH', /^\/settings$/, ({ settings }, body) => settings.change(body)],
  ['GET', /^\/faults$/, ({ faults }) => faults.all],
  ['POST', /^\/faults$/, ({ faults }, body) => ({ id: faults.add(body) })],
  ['DELETE', /^\/faults$/, ({ faults }) => faults.clear()],
  ['POST', /^\/detach$/, (service, body) => ({ count: service.detach(body) })],
  ['POST', /^\/disconnect$/, (service, body) => ({ count: service.disconnect(body) })],
  ['POST', /^\/expire-tokens$/, (service) => ({ count: service.expireTokens() })],
  ['POST', /^\/network$/, (service, { state }) => service.network(state)],
  ['GET', /^\/connections$/, ({ past, clients }) => [...past, ...[...clients].map((client) => client.describe())]],
];

const ofHub = ({ name, created, groups, opaque_offsets, partitions }) => ({
  name,
  created,
  groups: [...groups],
  opaque_offsets,
  partitions: partitions.map(({ id, first, next, bytes }) => ({ id, first, next, bytes })),
});

// NDJSON.
const stored = (partition) => Readable.from(lines(partition));

function* lines(partition) {
  for (const event of partition.stored) yield `${JSON.stringify(describe(partition, event))}\n`;
}

export async function control(service) {
  const server = http.createServer(async (request, response) => {
    try {
      const chunks = await request.toArray();
      const body = chunks.length ? JSON.parse(Buffer.concat(chunks).toString()) : {};
      await serve(service, request, body, response);
    } catch (failure) {
      const status = failure instanceof Refusal ? 404 : 400;
      response.writeHead(status, { 'content-type': 'text/plain' }).end(`${failure.message}\n`);
    }
  });
  server.listen(0, '127.0.0.1');
  return new Promise((resolve) => {
    server.on('listening', () => resolve(server.address().port));
  });
}

async function serve(service, { method, url }, body, response) {
  for (const [verb, pattern, act] of ROUTES) {
    const found = pattern.exec(url);
    if (verb !== method || !found) continue;
    const result = await act(service, body, ...found.slice(1).map(decodeURIComponent));
    if (result instanceof Readable) {
      result.pipe(response.writeHead(200, { 'content-type': 'application/x-ndjson' }));
    } else {
      response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(result ?? {}));
    }
    return;
  }
  response.writeHead(404, { 'content-type': 'text/plain' }).end(`nothing at ${method} ${url}\n`);
}
