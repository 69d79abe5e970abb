//! The Postgres sink against a real server, driven through the contract that delivery drives it through.

mod append;
mod check;
mod columns;
mod encryption;
mod faults;
mod pooler;
mod refusals;
mod rig;
mod token;
mod upsert;
