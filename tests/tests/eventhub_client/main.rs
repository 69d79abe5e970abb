//! The client of Event Hubs before the emulator: over each transport, through each fault.

mod faults;
mod rig;
mod traffic;
mod transports;
