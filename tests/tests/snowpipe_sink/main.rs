//! The sink for Snowflake before the emulator, with a real buffer and the real delivery loop.

mod delivery;
mod faults;
mod resuming;
mod rig;
mod row_errors;
mod sharing;
