//! Event Hubs over AMQP 1.0: connections, senders, receivers, and what hubs say of themselves.
//!
//! fe2o3-amqp speaks the protocol, over streams that are opened here: TCP, TLS or WebSocket, through a proxy where there
//! is one. What it does under faults was measured, and shapes this module: a send in flight is never answered when its
//! connection dies, so none is awaited but beside the end of its connection, of its session and of its time, and a
//! refused link spoils its session, so each link has one of its own. Messages are neither encoded nor decoded by it.
//!
//! Nothing here reconnects by itself and nothing is sent twice: errors say what is worth trying ([`Class`]), and
//! [`Hub::connection`] makes a new connection when the last one is dead.

mod amqp;
mod batch;
mod connection;
mod connection_string;
mod decode;
mod end;
mod error;
mod frames;
mod http;
mod hub;
mod line;
mod link;
mod management;
mod message;
mod proxy;
mod received;
mod receiver;
mod requests;
mod sender;
mod settings;
mod stream;
mod tokens;
mod transport;
mod websocket;

pub use self::{
    batch::{Batch, Outgoing},
    connection::Connection,
    connection_string::ConnectionString,
    error::{Class, Error},
    hub::Hub,
    received::{Body, HubProperties, LastEnqueued, PartitionProperties, Received, ReceiverOptions, Start},
    receiver::Receiver,
    sender::Sender,
    settings::{Credential, Endpoint, Namespace, Proxy, Settings, TOKEN_LIFE, Transport},
};
