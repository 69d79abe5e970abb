//! `type = "host"`.

use std::time::Duration;

use crate::{
    config::{
        key::{Key, Schema},
        kind::{Choice, Choices, Time},
        reading::Section,
        report::Reported,
    },
    source::host::{Collector, Settings},
};

pub(super) static HOST: Schema = Schema {
    name: "sources.NAME",
    variant: "host",
    doc: "This machine's own load, as the kernel tells it.",
    keys: &[&INTERVAL, &COLLECT],
    tables: &[],
};

static INTERVAL: Key<Time> = Key::with_default(
    "interval",
    Time { min: Duration::from_millis(100), max: Duration::from_secs(86_400) },
    r#""10s""#,
    "How often it is measured.",
);

static COLLECT: Key<Choices<Collector>> = Key::with_default(
    "collect",
    Choices(Choice {
        what: "part of the host",
        of: &[
            ("cpu", Collector::Cpu),
            ("memory", Collector::Memory),
            ("disk", Collector::Disk),
            ("network", Collector::Network),
            ("temperature", Collector::Temperature),
            ("uptime", Collector::Uptime),
        ],
    }),
    r#"["cpu", "memory", "disk", "network", "temperature", "uptime"]"#,
    "What is measured: one event for each.",
);

pub(super) fn read(section: &mut Section<'_, '_, '_>) -> Result<Settings, Reported> {
    let interval = section.value(&INTERVAL);
    let collect = section.value(&COLLECT);
    Ok(Settings { interval: interval?, collect: collect? })
}
