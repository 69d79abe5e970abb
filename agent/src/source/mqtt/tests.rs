//! The source against a broker that does what each test tells it to.

mod basics;
mod broker;
mod contested;
mod losses;
mod malformed;
mod pressure;
mod random;
mod rig;
mod two_phase;
