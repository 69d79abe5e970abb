//! A durable, bounded, ordered log of events in one SQLite file.
//!
//! Events go in at one end and are on disk before anyone is told so; sinks take them out at the other, each at its own
//! speed, and what all of them have confirmed is deleted. In between lie a quota, a loss ledger for what a policy dropped,
//! dead letters for what was refused, and a way back from a damaged file. The crate knows SQLite; it knows no network, no
//! async runtime and no configuration. [`Receipt`]s can be awaited on any executor, or waited for on any thread.
//!
//! ```
//! use std::sync::Arc;
//! # use std::time::Duration;
//! use forebay_buffer::{
//!     Batch, Event, Numbering, Offset, Options, ReadLimits, Start, StreamLimits, Timestamp, clock::Clock,
//! };
//! # use forebay_buffer::clock::Reading;
//! # #[derive(Debug)]
//! # struct Fixed;
//! # impl Clock for Fixed {
//! #     fn now(&self) -> Reading {
//! #         Reading { wall: Timestamp(0), since_boot: Duration::ZERO, synchronised: true }
//! #     }
//! #     fn boot_id(&self) -> u128 { 1 }
//! # }
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path().join("buffer.db");
//! # let clock: Arc<dyn Clock> = Arc::new(Fixed);
//! let buffer = Options::new(path, clock).open()?;
//! buffer.declare_stream("line1", StreamLimits::default())?;
//! buffer.declare_sink("warehouse", &["line1"], Start::Oldest, 1024 * 1024)?;
//!
//! // In: when the receipt is there, the event survives a power cut.
//! let partition = buffer.partition("line1", "0", Numbering::Assigned)?;
//! let batch = Batch { events: vec![Event::new(Timestamp(0), "21.5 C")], ..Batch::default() };
//! partition.append(partition.encode(batch)?).wait()?;
//!
//! // Out: once the destination has said what it has, read, deliver, confirm.
//! let place = buffer.subscription("warehouse", &partition)?;
//! place.resume_here()?;
//! let limits = ReadLimits { max_events: 1000, max_bytes: 1024 * 1024 };
//! let delivery = place.read(&mut buffer.reader()?, place.beginning(), limits)?;
//! let (last, event) = delivery.events.last().expect("it was appended");
//! assert_eq!(event.body.as_deref(), Some(&b"21.5 C"[..]));
//! place.confirm(place.checkpoint_at(*last).expect("of this file"), None)?;
//! buffer.close();
//! # Ok(())
//! # }
//! ```
//!
//! # How it works
//!
//! One thread writes. Appends queue up, encoded and compressed by their callers; the writer puts all that wait into one
//! transaction, syncs once, and answers them all. A run of events of one partition is one row, a *segment*: that is what
//! makes it fast, and kind to flash. What is where in the file, and in which transaction it is written, stands at the head
//! of `schema.rs`; the encoding of a segment at the heads of `segment.rs` and `codec.rs`.
//!
//! Which offsets may be compared is a matter of *lineage*. The file has a [`Generation`]; each writable opening of it is an
//! epoch, with a number in the high bits of every offset it assigns and a random [`Tag`]. A [`Checkpoint`] names all three,
//! so that a file that was restored, cloned or fell back is recognised and never mistaken for its later self.
//!
//! # Files
//!
//! Beside the database `buffer.db` stand SQLite's `buffer.db-wal` and `buffer.db-shm`; `buffer.db.lock`, locked while the
//! buffer is open; and `buffer.db.reserve`, room that is given up when the disk is full. A damaged database is set aside as
//! `buffer.db.damaged-1` and so on, never deleted.

mod append;
mod buffer;
mod catalog;
mod check;
pub mod clock;
mod codec;
mod dead_letter;
mod error;
mod event;
mod identity;
mod inspect;
mod ledger;
mod lock;
mod manage;
mod merge;
mod offset;
mod open;
mod options;
mod partition;
mod places;
mod places_table;
mod reader;
mod receipt;
mod retention;
mod salvage;
mod schema;
mod seal;
mod segment;
mod shared;
mod space;
mod status;
mod subscription;
mod timeline;
mod txn;
mod writer;

pub use append::{Appended, Batch, Encoded, Refused};
pub use buffer::{Buffer, Heartbeat};
pub use dead_letter::{DeadLetter, DeadLetterFilter};
pub use error::{AppendError, Error, OpenError};
pub use event::{BodyKind, Event, TimeQuality, Timestamp, Value};
pub use inspect::{Inspector, Peeked};
pub use ledger::Loss;
pub use offset::{Checkpoint, Generation, Numbering, Offset, Tag};
pub use options::{Durability, Options, Start, StreamLimits, WhenFull};
pub use partition::{Partition, TakenBack};
pub use reader::{ReadLimits, Reader};
pub use receipt::Receipt;
pub use salvage::{Recovery, SalvageReport, salvage};
pub use schema::VERSION as SCHEMA_VERSION;
pub use status::{PartitionStatus, SinkPartitionStatus, SinkStatus, Status, StreamStatus};
pub use subscription::{Delivery, Lease, Subscription};

/// For the fuzz target: decodes the body of a segment, whatever it is, and says how many events it holds.
#[doc(hidden)]
pub fn decode_segment(body: &[u8], events: u32, numbering: Numbering) -> Option<usize> {
    segment::decode(body, events, Offset(0), numbering).ok().map(|events| events.len())
}
