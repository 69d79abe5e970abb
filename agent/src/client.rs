//! Protocols spoken to servers: one module for each, which knows nothing of sources or sinks.

#[cfg(feature = "azure")]
pub mod azure;
#[cfg(feature = "eventhub")]
pub mod eventhub;
#[cfg(any(feature = "azure", feature = "snowpipe"))]
pub(crate) mod https;
#[cfg(feature = "mqtt")]
pub mod mqtt;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(all(test, any(feature = "azure", feature = "snowpipe")))]
#[allow(dead_code, reason = "what the tests of one feature do not need, those of another do")]
mod server;
#[cfg(any(feature = "azure", feature = "snowpipe"))]
mod slot;
#[cfg(feature = "snowpipe")]
pub mod snowflake;
#[cfg(any(feature = "eventhub", feature = "mqtt", feature = "postgres"))]
pub mod tcp;
#[cfg(any(feature = "azure", feature = "snowpipe"))]
pub mod token;
