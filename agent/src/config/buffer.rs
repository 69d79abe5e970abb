//! `[buffer]`, and `[sources.NAME.buffer]`: what is kept on disk, how much of it, and how safely.

use std::{path::PathBuf, time::Duration};

use forebay_buffer::{Durability, StreamLimits, WhenFull};

use super::{
    key::{Key, Schema},
    kind::{Choice, OrOff, Size, Time},
    reading::Section,
    report::Reported,
};

/// The smallest buffer: less leaves no room for the write-ahead log and the reserved file beside the events.
const MIN_BUFFER_BYTES: u64 = 4 << 20;

/// The smallest share of one stream.
const MIN_STREAM_BYTES: u64 = 64 << 10;

/// The largest event that can be allowed: several of them must fit into memory at once (Promise 5).
const MAX_EVENT_BYTES: u64 = 16 << 20;

/// What no age is above: a hundred years are forever.
const FOREVER: Duration = Duration::from_secs(100 * 365 * 86_400);

/// `[buffer]`, ready to use.
#[derive(Debug, Clone, PartialEq)]
pub struct BufferSettings {
    /// The database.
    pub path: PathBuf,
    /// What an acknowledged event survives.
    pub durability: Durability,
    /// The most that the file takes, its log and its reserve included.
    pub max_bytes: u64,
    /// What is left free on the disk. `None`: the buffer's own default.
    pub min_free_disk: Option<u64>,
    /// The largest event that is taken in.
    pub max_event_bytes: usize,
    /// How long an event may wait for others before it is written.
    pub max_ack_delay: Duration,
}

pub(super) static BUFFER: Schema = Schema {
    name: "buffer",
    variant: "",
    doc: "The events on disk.",
    keys: &[&DURABILITY, &MAX_BYTES, &MIN_FREE_DISK, &MAX_EVENT, &MAX_ACK_DELAY, &MAX_AGE, &WHEN_FULL],
    tables: &[],
};

static DURABILITY: Key<Choice<Durability>> = Key::with_default(
    "durability",
    Choice {
        what: "durability",
        of: &[("power-loss", Durability::PowerLoss), ("process-crash", Durability::ProcessCrash)],
    },
    r#""power-loss""#,
    "What an acknowledged event survives. \"process-crash\" is easier on flash, and loses the last events when power \
     is cut.",
);

static MAX_BYTES: Key<Size> = Key::with_default(
    "max_bytes",
    Size { min: MIN_BUFFER_BYTES, max: u64::MAX },
    r#""2GiB""#,
    "The most that the buffer takes on disk, its log and its reserve included.",
);

static MIN_FREE_DISK: Key<Size> = Key::optional(
    "min_free_disk",
    Size { min: 0, max: u64::MAX },
    "5 % of the filesystem, at most 100MiB",
    "What the buffer leaves free on its filesystem. With less than that the buffer is full.",
);

static MAX_EVENT: Key<Size> = Key::with_default(
    "max_event_bytes",
    Size { min: 1 << 10, max: MAX_EVENT_BYTES },
    r#""1MiB""#,
    "The largest event that is taken in: key, headers, body and table together. A larger one becomes a dead letter, \
     or a 413 to its HTTP producer.",
);

static MAX_ACK_DELAY: Key<Time> = Key::with_default(
    "max_ack_delay",
    Time { min: Duration::ZERO, max: Duration::from_secs(10) },
    r#""0s""#,
    "How long an event may wait for others, so that a trickle is written together. Its producer waits as long for the \
     acknowledgement.",
);

static MAX_AGE: Key<OrOff<Time>> = Key::with_default(
    "max_age",
    OrOff(Time { min: Duration::from_secs(1), max: FOREVER }),
    r#""off""#,
    "Older events are dropped even if they are not delivered, and counted in the loss ledger.",
);

const FULL: Choice<WhenFull> = Choice {
    what: "way to be full",
    of: &[
        ("backpressure", WhenFull::Backpressure),
        ("drop-oldest", WhenFull::DropOldest),
        ("drop-newest", WhenFull::DropNewest),
    ],
};

static WHEN_FULL: Key<Choice<WhenFull>> = Key::with_default(
    "when_full",
    FULL,
    r#""backpressure""#,
    "What happens to new events when there is no room. Only \"backpressure\" loses none: producers are held back. \
     What is dropped is counted in the loss ledger.",
);

/// What all streams have in common, unless they say otherwise.
#[derive(Debug, Clone, Copy)]
pub(super) struct StreamDefaults {
    max_age: Option<Duration>,
    when_full: WhenFull,
}

pub(super) fn read(
    mut section: Section<'_, '_, '_>,
    data_dir: Option<PathBuf>,
) -> Result<(BufferSettings, StreamDefaults), Reported> {
    let durability = section.value(&DURABILITY);
    let max_bytes = section.value(&MAX_BYTES);
    let min_free_disk = section.given(&MIN_FREE_DISK);
    let max_event_bytes = section.value(&MAX_EVENT);
    let max_ack_delay = section.value(&MAX_ACK_DELAY);
    let max_age = section.value(&MAX_AGE);
    let when_full = section.value(&WHEN_FULL);
    let (max_bytes, max_event_bytes) = (max_bytes?, max_event_bytes?);
    if max_event_bytes > max_bytes / 4 {
        let key = if section.has(MAX_EVENT.name) { MAX_EVENT.name } else { MAX_BYTES.name };
        let help = "make max_bytes at least four times max_event_bytes: an event is in the log and in the file at once";
        return Err(section.error(key, "leaves no room for the largest event", help));
    }
    let buffer = BufferSettings {
        path: data_dir.unwrap_or_default().join("buffer.db"),
        durability: durability?,
        max_bytes,
        min_free_disk: min_free_disk?,
        max_event_bytes: usize::try_from(max_event_bytes).expect("16 MiB fit the address space"),
        max_ack_delay: max_ack_delay?,
    };
    Ok((buffer, StreamDefaults { max_age: max_age?, when_full: when_full? }))
}

/// What one stream says of its limits.
#[derive(Debug, Clone, Default)]
pub(super) struct Quota {
    pub(super) max_bytes: Option<u64>,
    max_age: Option<Option<Duration>>,
    when_full: Option<WhenFull>,
}

pub(super) static STREAM: Schema = Schema {
    name: "buffer",
    variant: "",
    doc: "How much of the buffer this source's events may take.",
    keys: &[&STREAM_MAX_BYTES, &STREAM_MAX_AGE, &STREAM_WHEN_FULL],
    tables: &[],
};

static STREAM_MAX_BYTES: Key<Size> = Key::optional(
    "max_bytes",
    Size { min: MIN_STREAM_BYTES, max: u64::MAX },
    "an equal share of what the sources with a max_bytes leave of the buffer's",
    "The most that this source's events take. All sources' together may not be more than the buffer's.",
);

static STREAM_MAX_AGE: Key<OrOff<Time>> = Key::optional(
    "max_age",
    OrOff(Time { min: Duration::from_secs(1), max: FOREVER }),
    "as [buffer] says",
    "Older events are dropped even if they are not delivered, and counted in the loss ledger.",
);

static STREAM_WHEN_FULL: Key<Choice<WhenFull>> =
    Key::optional("when_full", FULL, "as [buffer] says", "What happens to new events when there is no room.");

pub(super) fn read_quota(mut section: Section<'_, '_, '_>) -> Result<Quota, Reported> {
    let max_bytes = section.given(&STREAM_MAX_BYTES);
    let max_age = section.given(&STREAM_MAX_AGE);
    let when_full = section.given(&STREAM_WHEN_FULL);
    Ok(Quota { max_bytes: max_bytes?, max_age: max_age?, when_full: when_full? })
}

/// What a source without a `max_bytes` of its own gets, of `total`, beside `quotas`.
pub(super) fn equal_share<'q>(total: u64, quotas: impl Iterator<Item = &'q Quota> + Clone) -> u64 {
    let given: u64 = quotas.clone().filter_map(|quota| quota.max_bytes).fold(0, u64::saturating_add);
    let sharing = quotas.filter(|quota| quota.max_bytes.is_none()).count() as u64;
    total.saturating_sub(given) / sharing.max(1)
}

impl Quota {
    /// The limits of a stream that gets `share` where it asks for nothing else.
    pub(super) fn limits(&self, share: u64, defaults: StreamDefaults) -> StreamLimits {
        StreamLimits {
            max_bytes: self.max_bytes.unwrap_or(share),
            max_age: self.max_age.unwrap_or(defaults.max_age),
            when_full: self.when_full.unwrap_or(defaults.when_full),
        }
    }
}
