//! Load on a running agent, entered in the ledger as it is sent.

mod gauge;
mod log_writer;
mod producer;

pub use gauge::Gauge;
pub use log_writer::{LogWriter, Rotation};
pub use producer::Producer;
