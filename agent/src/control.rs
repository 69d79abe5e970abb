//! The remote control table: where each stream stands, for operators and for whoever takes over.

#[cfg(feature = "postgres")]
pub mod postgres;
