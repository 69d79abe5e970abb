//! From an event hub to Postgres, with the real binary, an emulated namespace and a real server. The oracle is what the
//! hub has stored: each event of it is a row, once, and in the order of its partition (Promises 2, 3, 4 and 6).
//!
//! `FOREBAY_HUB_EVENTS` says how many events the vendors' SDKs produce (20,000 each).

mod balanced;
mod chaos;
mod expected;
mod holding;
mod partitions;
mod positions;
mod resuming;
mod rig;
mod sdks;
mod site;
mod turned_away;
mod watcher;
