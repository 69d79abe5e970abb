// An Event Hubs namespace for tests. Listens on free ports of 127.0.0.1, and writes which into the file of `--ready`.

import fs from 'node:fs';
import { parseArgs } from 'node:util';
import { control } from './control.js';
import { Listeners } from './listeners.js';
import { Service } from './service.js';

const { values } = parseArgs({
  options: {
    ready: { type: 'string' },
    certificate: { type: 'string' },
    key: { type: 'string' },
    // Asks clients for a certificate of this authority.
    'client-authority': { type: 'string' },
  },
});

function certificate() {
  if (!values.certificate) return undefined;
  const ca = values['client-authority'];
  const asked = ca ? { ca: fs.readFileSync(ca), requestCert: true, rejectUnauthorized: true } : {};
  return { cert: fs.readFileSync(values.certificate), key: fs.readFileSync(values.key), ...asked };
}

const listeners = new Listeners(certificate());
const service = new Service(listeners);
await listeners.open();
const ports = { ...listeners.ports, control: await control(service) };
// Whoever waits for the file finds it whole.
fs.writeFileSync(`${values.ready}.part`, JSON.stringify(ports));
fs.renameSync(`${values.ready}.part`, values.ready);
service.log(`listening on ${JSON.stringify(ports)}`);
