// Faults that are waiting for their moment.
//
// A fault names a phase of the service's work and what happens there instead: `skip` times not, then `times` times. It
// may be for one hub or partition only.

import { CONDITIONS, error } from './conditions.js';

const ANSWERS = ['drop', 'cut', 'silence', 'swallow', 'close'];
const LINK = ['drop', 'silence', 'detach', 'end', 'close'];

// The phases, and what can happen in each.
const PHASES = {
  // A connection has been accepted.
  connect: ['drop', 'silence'],
  // A token has been put to `$cbs`.
  token: [...ANSWERS, 'refuse'],
  // A request has come to `$management`.
  management: [...ANSWERS, 'refuse'],
  // A producer or a consumer attaches.
  attach: ['drop', 'silence', 'close', 'end', 'refuse'],
  // A batch has come, and nothing of it is stored.
  store: [...LINK, 'swallow', 'refuse'],
  // It is stored, and not acknowledged.
  acknowledge: [...LINK, 'cut', 'swallow'],
  // It is acknowledged, and the acknowledgement has been sent.
  acknowledged: LINK,
  // An event is about to be sent to a consumer.
  deliver: [...LINK, 'cut'],
};

const DEFAULTS = {
  refuse: 'com.microsoft:server-busy',
  detach: 'amqp:link:detach-forced',
  end: 'amqp:internal-error',
  close: 'amqp:connection:forced',
};

export class Faults {
  constructor() {
    this.all = [];
    this.count = 0;
  }

  // Adds one, and returns its number. Throws if it cannot be meant.
  add({
    phase,
    action,
    how = 'reset',
    hub,
    partition,
    skip = 0,
    times = 1,
    condition,
    description,
    wait_seconds,
    closed = true,
    ...rest
  }) {
    if (!PHASES[phase]?.includes(action))
      throw new Error(`at ${phase} there may be ${PHASES[phase] ?? 'nothing'}, not ${action}`);
    const error = condition ?? DEFAULTS[action];
    if (error && !CONDITIONS.includes(error)) throw new Error(`unknown condition ${error}`);
    if (!['reset', 'finish'].includes(how)) throw new Error('a connection ends by "reset" or "finish"');
    if (Object.keys(rest).length) throw new Error(`a fault has no ${Object.keys(rest)}`);
    this.count += 1;
    const fault = {
      id: this.count,
      phase,
      action,
      how,
      hub: hub?.toLowerCase(),
      partition,
      skip,
      times,
      condition: error,
    };
    this.all.push({ ...fault, description, wait_seconds, closed, happened: 0 });
    return this.count;
  }

  clear() {
    this.all = [];
  }

  // The fault that happens now, in this phase of work on `partition` of `hub`, if there is one.
  take(phase, { hub, partition } = {}) {
    for (const fault of this.all) {
      const meant = fault.phase === phase && (fault.hub ?? hub) === hub && (fault.partition ?? partition) === partition;
      if (!meant || fault.happened === fault.times) continue;
      if (fault.skip === 0) {
        fault.happened += 1;
        return fault;
      }
      fault.skip -= 1;
    }
    return undefined;
  }
}

// What a client is told.
export const errorOf = (fault) => error(fault.condition, fault.description, fault.wait_seconds);

// Lets it happen to a connection, or to a link that it holds. Says whether the work goes on: into a frame that will be
// cut, or into silence. `swallow` and `refuse` are the caller's.
export function happen(fault, client, held) {
  switch (fault.action) {
    case 'drop':
      client.wire.drop(fault.how);
      return false;
    case 'cut':
      client.wire.cutNextFrame(fault.how);
      return true;
    case 'silence':
      client.wire.freeze();
      return true;
    case 'detach':
      held.close(errorOf(fault), fault.closed);
      return false;
    case 'end':
      client.endSession(held.link.session, errorOf(fault));
      return false;
    case 'close':
      client.close(errorOf(fault));
      return false;
    default:
      return false;
  }
}
