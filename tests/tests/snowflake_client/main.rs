//! The client of Snowflake before the emulator: each way to log in, statements, channels, and each fault.

mod channels;
mod faults;
mod logins;
mod rig;
mod statements;
