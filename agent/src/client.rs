//! Protocols spoken to servers: one module for each, which knows nothing of sources or sinks.

#[cfg(feature = "mqtt")]
pub mod mqtt;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(any(feature = "mqtt", feature = "postgres"))]
pub mod tcp;
