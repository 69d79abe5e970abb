// The error conditions of the service, each with a description as it gives them.
// Clients read the number of seconds out of the description of server-busy.

const DESCRIPTIONS = {
  'amqp:connection:forced': 'The connection was closed by the service for maintenance.',
  'amqp:decode-error': 'The message cannot be decoded.',
  'amqp:internal-error': 'The service was unable to process the request; please retry the operation.',
  'amqp:link:detach-forced': 'The link was force detached by the broker due to errors occurred in consumer.',
  'amqp:link:message-size-exceeded': 'The message exceeds the limit currently allowed on the link.',
  'amqp:link:stolen':
    "New receiver 'nil' with higher epoch of '0' is created hence current receiver 'nil' with epoch '0' is " +
    'getting disconnected. If you are recreating the receiver, make sure a higher epoch is used.',
  'amqp:link:transfer-limit-exceeded': 'Insufficient link credit.',
  'amqp:not-allowed': 'The operation is not allowed.',
  'amqp:not-found': "The messaging entity 'hub' could not be found.",
  'amqp:resource-limit-exceeded': 'The quota of the entity has been exceeded.',
  'amqp:unauthorized-access': 'Unauthorized access. The token is missing, invalid or expired.',
  'com.microsoft:argument-error': "The supplied offset '1000' is invalid. The last offset in the system is '-1'",
  'com.microsoft:argument-out-of-range':
    'The specified partition is invalid for an EventHub partition sender or receiver.',
  'com.microsoft:auth-failed': 'The token has an invalid signature.',
  'com.microsoft:entity-disabled': 'The messaging entity is currently disabled.',
  'com.microsoft:georeplication:invalid-offset': 'The supplied offset is invalid for a geo-replicated namespace.',
  'com.microsoft:operation-cancelled': 'The operation was cancelled by the service.',
  'com.microsoft:server-busy':
    'The request was terminated because the entity is being throttled. Error code: 50002. ' +
    'Please wait 4 seconds and try again.',
  'com.microsoft:timeout': 'The operation did not complete within the allotted timeout.',
};

export const CONDITIONS = Object.keys(DESCRIPTIONS);

let tracked = 0;

// An error of this condition; with the description of the table where none is given. Where `wait_seconds` is given, the
// description asks for so long a wait.
export function error(condition, description, wait_seconds) {
  let text = description ?? DESCRIPTIONS[condition];
  if (wait_seconds !== undefined) text = text.replace(/wait \d+ seconds/, `wait ${wait_seconds} seconds`);
  tracked += 1;
  return { condition, description: `${text} TrackingId:${String(tracked).padStart(8, '0')}_G0` };
}

// An error that says why a request is refused; whoever serves the request turns it into an answer.
export class Refusal extends Error {
  constructor(condition, description, status = 400) {
    super(description);
    this.error = error(condition, description);
    this.status = status;
  }
}
