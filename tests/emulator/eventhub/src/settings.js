// What can be set while the emulator runs (`PATCH /settings`), with the service's own values as defaults. A time counts
// from when its timer is next set: for timers of links and connections that are there already, after what they do next.

const DEFAULTS = {
  // Shared access policies of the namespace.
  rules: [{ name: 'RootManageSharedAccessKey', key: 'SAS_KEY_VALUE', rights: ['Manage', 'Listen', 'Send'] }],
  // What signs the Entra tokens that are accepted (see tokens.js).
  jwt_secret: 'only-for-tests',
  // Open and attach.
  idle_time_out_ms: 240_000,
  max_frame_size: 65_536,
  max_message_size: 1_048_576,
  sender_credit: 300,
  // A connection without any token, without a first link, and after its last link.
  token_deadline_ms: 20_000,
  first_link_deadline_ms: 60_000,
  no_link_deadline_ms: 300_000,
  // A producer that sends nothing, and a consumer that has no credit.
  idle_link_ms: 1_800_000,
  non_epoch_receivers: 5,
  // How long an acknowledgement is held back.
  acknowledge_delay_ms: 0,
};

const KINDS = { rules: Array.isArray, jwt_secret: (value) => typeof value === 'string' };

export class Settings {
  constructor() {
    Object.assign(this, structuredClone(DEFAULTS));
  }

  // Throws, and changes nothing, if a name is unknown or a value cannot be meant.
  change(values) {
    for (const [name, value] of Object.entries(values)) {
      if (!(name in DEFAULTS))
        throw new Error(`unknown setting ${name}: there are ${Object.keys(DEFAULTS).join(', ')}`);
      const fits = KINDS[name] ?? ((number) => Number.isSafeInteger(number) && number >= 0);
      if (!fits(value)) throw new Error(`${name} cannot be ${JSON.stringify(value)}`);
    }
    Object.assign(this, values);
  }
}
