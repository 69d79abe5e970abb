//! The remote control table: where each stream stands, for operators and for whoever takes over.

#[cfg(feature = "snowpipe")]
pub mod local;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "snowpipe")]
pub mod snowflake;
