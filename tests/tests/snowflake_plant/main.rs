//! From sources through the buffer into Snowflake, with the real binary and the emulator: each event is committed once and in
//! the order of its channel, and no checkpoint is ever ahead of what is committed (Promises 1, 2, 3 and 4).
//!
//! `FOREBAY_EVENTS` says how many events MQTT and HTTP bring (50,000), `FOREBAY_HUB_EVENTS` how many are in the hub (10,000);
//! `FOREBAY_SEED` repeats the choices of a run.

mod balanced;
mod committed;
mod faults;
mod kills;
mod new_buffers;
mod site;
mod vendor;
mod watcher;
