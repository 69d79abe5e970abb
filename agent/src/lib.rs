//! The Forebay agent, as a library for its binary and its tests.

pub mod agent;
pub mod client;
pub mod clock;
pub mod command;
pub mod config;
pub mod contract;
pub mod control;
pub mod delivery;
pub mod fence;
pub mod http;
pub mod intake;
pub mod json_path;
pub mod observe;
pub mod progress;
pub mod retry;
pub mod secret;
pub mod sink;
pub mod source;
pub mod tls;
