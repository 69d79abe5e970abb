// Runs one scenario against the namespace that EVENT_HUBS describes: `judge.js NAME`. Fails by an exception.

import * as failing from './failing.js';
import * as guarding from './guarding.js';
import * as receiving from './receiving.js';
import * as sending from './sending.js';

const [name, ...more] = process.argv.slice(2);
const scenario = { ...sending, ...receiving, ...guarding, ...failing }[name];
if (!scenario) throw new Error(`no scenario ${name}`);
await scenario(...more);
// The SDK leaves timers behind. What is printed goes through a pipe that takes 64 KiB at a time: the rest is waited for.
process.stdout.write('', () => process.exit());
