//! `type = "eventhub"`.

use std::{collections::BTreeSet, time::Duration};

use crate::{
    config::{
        azure::AZURE,
        document::{Node, Value},
        hub,
        key::{Key, Kind, Schema},
        kind::{Choice, Count, PlainText, Size, Switch, Time},
        reading::{Reading, Section},
        report::Reported,
        tls::TLS,
    },
    contract::HubId,
    source::eventhub::{Balance, Elsewhere, OnInvalidOffset, Partitions, Settings, Strategy},
};

pub(super) static EVENT_HUB: Schema = Schema {
    name: "sources.NAME",
    variant: "eventhub",
    doc: "Events from an Azure event hub, each exactly once: what was read is on disk before more is asked for, and the \
          checkpoint moves when the sinks have confirmed.",
    keys: &[
        &hub::CONNECTION_STRING,
        &hub::CONNECTION_STRING_FILE,
        &hub::NAMESPACE,
        &hub::HUB,
        &CONSUMER_GROUP,
        &PARTITIONS,
        &STARTING_POSITION,
        &ON_INVALID_OFFSET,
        &PREFETCH,
        &PREFETCH_BYTES,
        &MAX_BATCH_SIZE,
        &MAX_WAIT_TIME,
        &TRACK_LAST_ENQUEUED,
        &OWNER_LEVEL,
        &RETRY_BACKOFF,
        &RETRY_BACKOFF_MAX,
        &INTERVAL,
        &EXPIRATION,
        &STRATEGY,
        &hub::TRANSPORT,
        &hub::PROXY,
        &hub::TIMEOUT,
        &hub::IDLE_TIMEOUT,
    ],
    tables: &[&AZURE, &TLS],
};

static CONSUMER_GROUP: Key<PlainText> = Key::with_default(
    "consumer_group",
    PlainText { what: "the name of a consumer group" },
    r#""$Default""#,
    "As whose reader. Each application that reads a hub has a consumer group of its own.",
);

static PARTITIONS: Key<Which> = Key::with_default(
    "partitions",
    Which,
    r#""all""#,
    "Which partitions of the hub it reads. \"balanced\": a share of them, for several agents with this hub, consumer group \
     and sink share them out among themselves in the control table.",
);

/// What to do, or where to begin, as the service's own programs write it.
const ELSEWHERE: [(&str, Elsewhere); 2] = [("-1", Elsewhere::Oldest), ("@latest", Elsewhere::Latest)];

static STARTING_POSITION: Key<Choice<Elsewhere>> = Key::with_default(
    "starting_position",
    Choice { what: "starting position", of: &ELSEWHERE },
    r#""-1""#,
    "Where it begins in a partition that it has no checkpoint of. \"-1\": with the oldest event. \"@latest\": with the next \
     that comes.",
);

static ON_INVALID_OFFSET: Key<Choice<OnInvalidOffset>> = Key::with_default(
    "on_invalid_offset",
    Choice {
        what: "way to go on",
        of: &[
            ("stop", OnInvalidOffset::Stop),
            ("-1", OnInvalidOffset::Go(Elsewhere::Oldest)),
            ("@latest", OnInvalidOffset::Go(Elsewhere::Latest)),
        ],
    },
    r#""stop""#,
    "What it does in a partition where the hub does not know the place any more at which reading stopped, or where the hub \
     was created anew. \"stop\": it waits for an operator. Else it goes on there.",
);

static PREFETCH: Key<Count> = Key::with_default(
    "prefetch",
    Count { min: 1, max: 10_000 },
    "300",
    "Events of one partition that may be under way and not on disk.",
);

static PREFETCH_BYTES: Key<Size> = Key::with_default(
    "prefetch_bytes",
    Size { min: 64 << 10, max: 1 << 30 },
    r#""1MiB""#,
    "The same in bytes, roughly: fewer events are asked for where they are large.",
);

static MAX_BATCH_SIZE: Key<Count> = Key::with_default(
    "max_batch_size",
    Count { min: 1, max: 10_000 },
    "300",
    "The most events that go to disk together, of one partition.",
);

static MAX_WAIT_TIME: Key<Time> = Key::with_default(
    "max_wait_time",
    Time { min: Duration::ZERO, max: Duration::from_secs(60) },
    r#""0s""#,
    "How long the first event of a batch waits for company. \"0s\": what is there goes to disk at once.",
);

static TRACK_LAST_ENQUEUED: Key<Switch> = Key::with_default(
    "track_last_enqueued_event_properties",
    Switch,
    "true",
    "Whether the hub says with each event how far its partition is: that is how the lag is known, and costs a few bytes an \
     event.",
);

static OWNER_LEVEL: Key<Count> = Key::optional(
    "owner_level",
    Count { min: 0, max: i64::MAX as u64 },
    "others may read the same partitions; with partitions = \"balanced\" it is 0",
    "The hub disconnects readers of a lower level, and of none, from the partitions that this one reads.",
);

static RETRY_BACKOFF: Key<Time> = Key::with_default(
    "retry_backoff",
    Time { min: Duration::from_millis(10), max: Duration::from_secs(60) },
    r#""100ms""#,
    "How long the first pause is, at most, before something that failed is tried again. Each one after it may be twice as \
     long, up to retry_backoff_max. It never gives up; where the hub says how long to wait, it waits so long.",
);

static RETRY_BACKOFF_MAX: Key<Time> = Key::with_default(
    "retry_backoff_max",
    Time { min: Duration::from_millis(10), max: Duration::from_secs(3_600) },
    r#""1s""#,
    "The longest of these pauses.",
);

static INTERVAL: Key<Time> = Key::with_default(
    "load_balancing_interval",
    Time { min: Duration::from_secs(1), max: Duration::from_secs(600) },
    r#""10s""#,
    "With partitions = \"balanced\", how often claims are looked at and renewed.",
);

static EXPIRATION: Key<Time> = Key::with_default(
    "partition_ownership_expiration_interval",
    Time { min: Duration::from_secs(3), max: Duration::from_secs(3_600) },
    r#""60s""#,
    "With partitions = \"balanced\", a claim that was not renewed for so long is anyone's. It must be at least three times \
     load_balancing_interval.",
);

static STRATEGY: Key<Choice<Strategy>> = Key::with_default(
    "load_balancing_strategy",
    Choice { what: "strategy", of: &[("balanced", Strategy::Balanced), ("greedy", Strategy::Greedy)] },
    r#""greedy""#,
    "With partitions = \"balanced\", how fast it comes to its share: \"greedy\" at once, \"balanced\" by one partition at each \
     look.",
);

/// Which partitions.
#[derive(Debug)]
struct Which;

/// What is said of them.
enum Said {
    All,
    Balanced,
    These(BTreeSet<String>),
}

impl Kind for Which {
    type Value = Said;

    fn expected(&self) -> String {
        "\"all\", \"balanced\", or a list of partitions such as [\"0\", \"3\"]".to_owned()
    }

    fn read(&self, node: &Node, reading: &mut Reading<'_, '_>) -> Result<Said, Reported> {
        if let Value::List(items) = &node.value {
            let mut these = BTreeSet::new();
            for item in items {
                let name = reading.text(item)?;
                if name.is_empty() || !these.insert(name) {
                    return Err(reading.wrong(item, "is empty, or there twice"));
                }
            }
            return if these.is_empty() { Err(reading.wrong(node, "is empty")) } else { Ok(Said::These(these)) };
        }
        match reading.text(node)?.as_str() {
            "all" => Ok(Said::All),
            "balanced" => Ok(Said::Balanced),
            _ => Err(reading.wrong(node, "is neither")),
        }
    }
}

pub(super) fn read(section: &mut Section<'_, '_, '_>) -> Result<Settings, Reported> {
    let hub = hub::read(section);
    let consumer_group = section.value(&CONSUMER_GROUP);
    let partitions = read_partitions(section);
    let (starting_position, on_invalid_offset) = (section.value(&STARTING_POSITION), section.value(&ON_INVALID_OFFSET));
    let (prefetch, prefetch_bytes) = (section.value(&PREFETCH), section.value(&PREFETCH_BYTES));
    let (max_batch_events, max_wait) = (section.value(&MAX_BATCH_SIZE), section.value(&MAX_WAIT_TIME));
    let (track_last_enqueued, owner_level) = (section.value(&TRACK_LAST_ENQUEUED), section.given(&OWNER_LEVEL));
    let (retry_backoff, retry_backoff_max) = (section.value(&RETRY_BACKOFF)?, section.value(&RETRY_BACKOFF_MAX)?);
    if retry_backoff_max < retry_backoff {
        let help = "raise it, or lower retry_backoff";
        return Err(section.error(RETRY_BACKOFF_MAX.name, "is less than retry_backoff", help));
    }
    let (partitions, starting_position, on_invalid_offset) = (partitions?, starting_position?, on_invalid_offset?);
    let is_shared = matches!(partitions, Partitions::Balanced(_));
    for (key, is_latest) in [
        (STARTING_POSITION.name, starting_position == Elsewhere::Latest),
        (ON_INVALID_OFFSET.name, on_invalid_offset == OnInvalidOffset::Go(Elsewhere::Latest)),
    ] {
        if is_shared && is_latest {
            let problem = "is \"@latest\", and partitions are shared out: who takes one over before its first checkpoint \
                           would begin at another place";
            return Err(section.error(key, problem, "say \"-1\""));
        }
    }
    let hub::Hub { connection, namespace, name } = hub?;
    let few = |count: u64| u32::try_from(count).expect("10,000 fit 32 bits");
    Ok(Settings {
        connection,
        hub: HubId { namespace, hub: name, consumer_group: consumer_group?, is_shared },
        partitions,
        starting_position,
        on_invalid_offset,
        prefetch: few(prefetch?),
        prefetch_bytes: usize::try_from(prefetch_bytes?).expect("1 GiB fits the address space"),
        max_batch_events: few(max_batch_events?),
        max_wait: max_wait?,
        track_last_enqueued: track_last_enqueued?,
        owner_level: owner_level?.map(|level| i64::try_from(level).expect("the kind allows no larger one")),
        retry_backoff,
        retry_backoff_max,
    })
}

fn read_partitions(section: &mut Section<'_, '_, '_>) -> Result<Partitions, Reported> {
    let said = section.value(&PARTITIONS);
    let (interval, expiration, strategy) =
        (section.value(&INTERVAL), section.value(&EXPIRATION), section.value(&STRATEGY));
    let balance = Balance { interval: interval?, expiration: expiration?, strategy: strategy? };
    let said = said?;
    if !matches!(said, Said::Balanced) {
        for key in [INTERVAL.name, EXPIRATION.name, STRATEGY.name] {
            if section.has(key) {
                let help = "say partitions = \"balanced\" too, or take it out";
                return Err(section.error(key, "is given, and partitions are not shared out", help));
            }
        }
    }
    match said {
        Said::All => Ok(Partitions::All),
        Said::These(these) => Ok(Partitions::These(these)),
        Said::Balanced if section.has(OWNER_LEVEL.name) => {
            let problem = "is given, and partitions are shared out: then all readers have level 0";
            Err(section.error(OWNER_LEVEL.name, problem, "take it out"))
        }
        Said::Balanced if balance.expiration < balance.interval * 3 => {
            let problem = "is less than three times load_balancing_interval: claims would be lost between two looks";
            Err(section.error(EXPIRATION.name, problem, "raise it, or shorten load_balancing_interval"))
        }
        Said::Balanced => Ok(Partitions::Balanced(balance)),
    }
}
