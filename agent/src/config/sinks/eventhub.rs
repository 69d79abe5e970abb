//! `type = "eventhub"`.

use crate::{
    config::{
        azure::AZURE,
        hub,
        key::{Key, Schema},
        kind::{Choice, Size, Switch},
        reading::Section,
        report::Reported,
        tls::TLS,
    },
    contract::BatchLimits,
    sink::eventhub::{Placement, Settings},
};

pub(super) static EVENT_HUB: Schema = Schema {
    name: "sinks.NAME",
    variant: "eventhub",
    doc: "Events of an Azure event hub, each at least once, with an id by which consumers tell what came twice: it is the \
          message id, and the property forebay_id.",
    keys: &[
        &hub::CONNECTION_STRING,
        &hub::CONNECTION_STRING_FILE,
        &hub::NAMESPACE,
        &hub::HUB,
        &PARTITION,
        &ORDERED,
        &MAX_IN_FLIGHT,
        &hub::TRANSPORT,
        &hub::PROXY,
        &hub::TIMEOUT,
        &hub::IDLE_TIMEOUT,
    ],
    tables: &[&AZURE, &TLS],
};

static PARTITION: Key<Choice<Placement>> = Key::with_default(
    "partition",
    Choice {
        what: "way to choose a partition",
        of: &[("key", Placement::Key), ("stream", Placement::Stream), ("any", Placement::Any)],
    },
    r#""key""#,
    "Which of the hub's partitions an event goes to. \"key\": the one that the hub itself has for the event's key; without \
     a key, one for each partition of the stream. \"stream\": the one that is called as the stream's, else one for each \
     partition of the stream. \"any\": the hub chooses, and keeps no order.",
);

static ORDERED: Key<Switch> = Key::with_default(
    "ordered",
    Switch,
    "true",
    "Whether order is kept in each of the hub's partitions: then one batch at a time is under way there. Without order, as \
     many are as max_in_flight lets.",
);

static MAX_IN_FLIGHT: Key<Size> = Key::with_default(
    "max_in_flight",
    Size { min: 64 << 10, max: 1 << 30 },
    r#""4MiB""#,
    "The most bytes that are under way to all partitions together. One batch always may be.",
);

pub(super) fn read(
    section: &mut Section<'_, '_, '_>,
    batch: Result<BatchLimits, Reported>,
) -> Result<Settings, Reported> {
    let hub = hub::read(section);
    let (partition, ordered) = (section.value(&PARTITION), section.value(&ORDERED));
    let max_in_flight = section.value(&MAX_IN_FLIGHT);
    let (hub, partition, ordered) = (hub?, partition?, ordered?);
    if partition == Placement::Any && ordered {
        let help = "say ordered = false too, or let \"key\" or \"stream\" choose";
        return Err(section.error(PARTITION.name, "is \"any\", which keeps no order", help));
    }
    Ok(Settings {
        connection: hub.connection,
        partition,
        ordered,
        max_in_flight_bytes: usize::try_from(max_in_flight?).expect("1 GiB fits the address space"),
        batch: batch?,
    })
}
