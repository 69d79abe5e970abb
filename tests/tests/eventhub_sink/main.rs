//! The sink for event hubs before the emulator.

mod binary;
mod delivery;
mod faults;
mod judged;
mod rig;
