// Starting positions of consumers, as the selector filter of their source says them.

import { Refusal } from './conditions.js';

const FILTER = 'apache.org:selector-filter:string';
const EXPRESSION =
  /^\s*amqp\.annotation\.(x-opt-offset|x-opt-sequence-number|x-opt-enqueued-time)\s*(>=?)\s*'?([^']*?)'?\s*$/;
const START = { property: 'x-opt-offset', inclusive: false, value: '-1' };

// The starting position; without a filter, the beginning.
export function startingPosition(source) {
  // A described value, whatever describes it: SDKs differ in that.
  const expression = source.filter?.[FILTER]?.value;
  if (expression === undefined) return START;
  const [, property, comparison, value] = EXPRESSION.exec(expression) ?? [];
  if (!property || (property !== 'x-opt-offset' && !/^-?\d+$/.test(value) && value !== '@latest')) {
    throw new Refusal('com.microsoft:argument-error', `The filter '${expression}' is not supported.`);
  }
  return { property, inclusive: comparison === '>=', value };
}
