//! What the vendors' SDKs produce, the agent takes to the table: bodies, keys, properties, times and order.

use std::collections::{BTreeMap, BTreeSet};

use forebay_tests::{harness, judge::SDKS};

use crate::{
    expected,
    rig::{Rig, Row},
};

/// The bodies that the SDKs can send: JSON, text, bytes, no bytes, a number, a map and a sequence.
const KINDS: usize = 7;

#[test]
fn all_that_the_sdks_produce_is_in_the_table_once_and_in_order() {
    let events = harness::size("FOREBAY_HUB_EVENTS", 20_000);
    for sdk in SDKS {
        let rig = Rig::new(8);
        rig.configure("");
        let agent = rig.gateway.start();
        sdk.run(&rig.space, "amqp", &["telemetry", &events.to_string()]);
        let stored = rig.stored();
        assert_eq!(stored.len() as u64, events, "{sdk:?}");
        rig.comes(&stored);
        let mut rows: BTreeMap<(String, i64), Row> = BTreeMap::new();
        rows.extend(rig.rows().into_iter().map(|row| ((row.partition.clone(), row.offset), row)));
        for event in &stored {
            let row = &rows[&(event.partition.clone(), event.sequence_number)];
            assert_eq!(*row, expected::row(event), "{sdk:?}");
        }
        let kinds: BTreeSet<String> = rows.values().map(kind).collect();
        assert_eq!((kinds.len(), partitions(&rows)), (KINDS, 8), "{sdk:?} sends less than it should: {kinds:?}");
        assert!(agent.terminate().success());
    }
}

/// What tells the kinds of bodies apart in the table.
fn kind(row: &Row) -> String {
    match &row.body {
        body if body.as_str() == Some("") => "empty".to_owned(),
        body if body.get("body_base64").is_some() => "bytes".to_owned(),
        body if body.get("device").is_some() => "device".to_owned(),
        serde_json::Value::Object(_) => "map".to_owned(),
        body if body.is_array() => "sequence".to_owned(),
        body if body.is_number() => "number".to_owned(),
        _ => "text".to_owned(),
    }
}

fn partitions(rows: &BTreeMap<(String, i64), Row>) -> usize {
    rows.keys().map(|(partition, _)| partition).collect::<BTreeSet<_>>().len()
}
