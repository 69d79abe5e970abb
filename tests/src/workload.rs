//! Runs of the real buffer on a disk whose power can be cut, judged from outside.
//!
//! A run is drawn from a seed: appends to four partitions (assigned and shared numbering, backpressure and drop-oldest),
//! deliveries to two destinations that commit events and their own checkpoint together, refusals, retries, clean closes;
//! then a power cut at an operation of the disk, an image of what survived, and an opening that may itself be cut. After
//! each opening the buffer is held to what the test knows: it opens without a salvage; every acknowledged event is there
//! once, in order and byte for byte, or confirmed, or in the ledger; unanswered batches are there whole or not at all; no
//! checkpoint is ahead of its destination.
//!
//! The buffer writes on a thread of its own. The run waits for its answers, so that the same seed gives nearly the same
//! operations; where a timer of the writer's falls between, the cut hits another operation, and is no less a cut.

mod full;
mod judge;
mod oracle;
mod plan;
mod rig;
mod run;

pub use plan::{Append, Reach, Step, plan};
pub use run::{Runner, Verdict, sweep};
