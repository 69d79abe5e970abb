// Tokens that clients bring to `$cbs` and `$management`: whether they are genuine, for what, and until when.
//
// SAS tokens are those of the service. An Entra token is one of the emulator's own: a JWT signed with HS256 and the
// setting `jwt_secret`, `aud` the scope of Event Hubs, `exp` in seconds, and `roles` a list of "Azure Event Hubs Data
// Owner", "... Sender" and "... Receiver".

import { createHmac, timingSafeEqual } from 'node:crypto';
import { covers, path } from './address.js';
import { Refusal } from './conditions.js';

const AUDIENCE = 'https://eventhubs.azure.net';
const ROLES = {
  'Azure Event Hubs Data Owner': ['Manage', 'Listen', 'Send'],
  'Azure Event Hubs Data Sender': ['Send'],
  'Azure Event Hubs Data Receiver': ['Listen'],
};

const refuse = (description) => {
  throw new Refusal('com.microsoft:auth-failed', description, 401);
};

const same = (given, right) => given.length === right.length && timingSafeEqual(Buffer.from(given), Buffer.from(right));

// The claim that `token` gives to the entity at `audience`; throws a refusal if it gives none.
export function verify(token, audience, settings) {
  const claim = token.startsWith('SharedAccessSignature ') ? sas(token, settings) : jwt(token, settings);
  if (claim.expires <= Date.now()) {
    refuse(`ExpiredToken: The token is expired. Expiration time: '${new Date(claim.expires).toISOString()}'.`);
  }
  const wanted = path(audience);
  if (!covers(claim.path, wanted)) refuse(`InvalidAudience: The token's audience does not cover '${audience}'.`);
  return { ...claim, path: wanted };
}

function sas(token, settings) {
  const fields = Object.fromEntries(
    token
      .slice('SharedAccessSignature '.length)
      .split('&')
      .map((field) => {
        const at = field.indexOf('=');
        return [field.slice(0, at), field.slice(at + 1)];
      }),
  );
  if (!['sr', 'sig', 'se', 'skn'].every((name) => name in fields)) refuse('MalformedToken: The token is malformed.');
  const rule = settings.rules.find(({ name }) => name === decodeURIComponent(fields.skn));
  // The key is text, not base64; and what is signed is `sr` as it was sent, however that encodes its characters.
  const right = rule && createHmac('sha256', rule.key).update(`${fields.sr}\n${fields.se}`).digest('base64');
  if (!rule || !same(decodeURIComponent(fields.sig), right)) {
    refuse('InvalidSignature: The token has an invalid signature.');
  }
  return { path: path(decodeURIComponent(fields.sr)), rights: rule.rights, expires: Number(fields.se) * 1000 };
}

function jwt(token, settings) {
  const [header, payload, signature] = token.split('.');
  const right = createHmac('sha256', settings.jwt_secret).update(`${header}.${payload}`).digest('base64url');
  if (!same(signature ?? '', right)) refuse('InvalidSignature: The token has an invalid signature.');
  const claims = JSON.parse(Buffer.from(payload, 'base64url').toString());
  if (String(claims.aud).replace(/\/$/, '') !== AUDIENCE) refuse('InvalidAudience: The audience is not Event Hubs.');
  const rights = (claims.roles ?? []).flatMap((role) => ROLES[role] ?? []);
  return { path: '', rights, expires: claims.exp * 1000 };
}
