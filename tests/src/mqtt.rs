//! MQTT as the tests speak it: over plain sockets and with a decoder of their own, so that nothing that the agent gets
//! wrong about the protocol is got wrong here in the same way.

mod connection;
mod frames;
mod manners;
mod packet_trap;
mod publisher;
mod subscriber;

pub use frames::{Frame, Frames, Message, Version, kind};
pub use manners::Manners;
pub use packet_trap::{PacketTrap, Snap};
pub use publisher::{Publisher, Quality};
pub use subscriber::Subscriber;
