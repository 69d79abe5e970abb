//! Fault injection, end-to-end tests and benchmarks for Forebay: the pieces that more than one test shares.

pub mod clock;
pub mod harness;
pub mod hub;
pub mod judge;
pub mod load;
pub mod mqtt;
pub mod plant;
pub mod random;
pub mod servers;
pub mod sinks;
pub mod vendor;
pub mod vfs;
pub mod workload;
