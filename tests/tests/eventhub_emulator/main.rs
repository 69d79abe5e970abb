//! The emulator of Event Hubs before its judges: the vendors' own SDKs, which produce to it, consume from it, and live
//! through its faults. What they find themselves is in `emulator/eventhub/judges`; what they have sent is judged here.

use std::collections::BTreeMap;

use forebay_tests::{
    judge::{HUB, Namespace, SDKS, Sdk},
    servers::StoredEvent,
};
use serde_json::{Value, json};

/// Keys and the hashes that the gateway of the service has for them, as Microsoft's SDKs publish them in their tests.
const HASHES: [(&str, i16); 12] = [
    ("7", -15263),
    ("131", 30562),
    ("7149583486996073602", 12977),
    ("FWfAT", -22341),
    ("sOdeEAsyQoEuEFPGerWO", -6503),
    ("FAyAIctPeCgmiwLKbJcyswoHglHVjQdvtBowLACDNORsYvOcLddNJYDmhAVkbyLOrHTKLneMNcbgWVlasVywOByANjs", 5226),
    (
        "1XYM6!(7(lF5wq4k4m*e$Nc!1ezLJv*1YK1Y-C^*&B$O)lq^iUkG(TNzXG;Zi#z2Og*Qq0#^*k):vXh$3,C7We7%W0meJ;b3,rQCg^J;^twXgs5E$$hWKxqp",
        23950,
    ),
    (
        "E(x;RRIaQcJs*P;D&jTPau-4K04oqr:lF6Z):ERpo&;9040qyV@G1_c9mgOs-8_8/10Fwa-7b7-yP!T-!IH&968)FWuI;(^g$2fN;)HJ^^yTn:",
        -29304,
    ),
    ("!c*_!I@1^c", 15372),
    ("p4*!jioeO/z-!-;w:dh", -3104),
    ("$0cb", 26269),
    ("-4189260826195535198", 453),
];

/// The text of a body.
fn text(event: &StoredEvent) -> String {
    let body = event.body.clone().expect("the SDKs send data");
    String::from_utf8(body).expect("the judges send text")
}

#[test]
fn events_with_a_key_go_where_the_service_puts_them() {
    for sdk in SDKS {
        let space = Namespace::with(&json!({ "partitions": 7 }));
        let keys = HASHES.map(|(key, _)| key);
        sdk.run(&space, "amqp", &[&["keyed"], &keys[..]].concat());
        let stored = space.hubs.all_stored(HUB);
        assert_eq!(stored.len(), 3 * keys.len());
        for (key, hash) in HASHES {
            let of_key: Vec<_> = stored.iter().filter(|event| event.partition_key.as_deref() == Some(key)).collect();
            let bodies: Vec<String> = of_key.iter().map(|event| text(event)).collect();
            assert_eq!(bodies, [0, 1, 2].map(|i| format!("{key}/{i}")), "{sdk:?}");
            let partition = (hash % 7).abs().to_string();
            assert!(of_key.iter().all(|event| event.partition == partition), "{sdk:?} {key}: {of_key:?}");
        }
    }
}

#[test]
fn events_without_a_key_are_spread_over_the_partitions() {
    for sdk in SDKS {
        let space = Namespace::new();
        sdk.run(&space, "amqp", &["spread", "8"]);
        let counts = ["0", "1", "2", "3"].map(|partition| space.hubs.stored(HUB, partition).len());
        assert_eq!(counts, [2; 4], "{sdk:?}");
    }
}

/// Each SDK reads what the other one has produced.
#[test]
fn one_sdk_reads_what_the_other_has_produced() {
    const EACH: u64 = 120;
    for (producing, consuming) in [(Sdk::Python, Sdk::JavaScript), (Sdk::JavaScript, Sdk::Python)] {
        let space = Namespace::new();
        producing.run(&space, "amqp", &["numbered", &EACH.to_string()]);
        let stored = space.hubs.all_stored(HUB);
        for partition in 0..4 {
            let of_one: Vec<_> = stored.iter().filter(|event| event.partition == partition.to_string()).collect();
            assert_eq!(of_one.len() as u64, EACH);
            for (number, event) in of_one.iter().enumerate() {
                assert_eq!(event.sequence_number, number as i64);
                assert_eq!(text(event), format!("{partition}/{number}"));
                has_properties(event, number as i64);
            }
        }
        let mut read: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for event in consuming.run(&space, "amqp", &["everything", &(4 * EACH).to_string()]) {
            read.entry(event["partition"].as_str().expect("a partition").to_owned()).or_default().push(event);
        }
        let read: Vec<Value> = read.into_values().flatten().collect();
        let expected: Vec<Value> = stored
            .iter()
            .map(|event| {
                json!({
                    "partition": event.partition,
                    "sequence_number": event.sequence_number,
                    "offset": event.offset,
                    "enqueued": event.enqueued,
                    "partition_key": null,
                    "body": text(event),
                    "message_id": event.properties["message_id"]["string"],
                    "number": event.sequence_number,
                    "key": null,
                })
            })
            .collect();
        assert_eq!(read, expected, "{producing:?} to {consuming:?}");
    }
}

/// The types in which the two SDKs send numbers differ.
fn has_properties(event: &StoredEvent, number: i64) {
    let properties = &event.application_properties;
    let found = properties["number"].as_object().expect("a typed value").values().next().expect("a value");
    assert_eq!(found, number);
    assert_eq!(properties["text"], json!({ "string": "é" }));
    assert_eq!(properties["ratio"], json!({ "double": 0.5 }));
    assert_eq!(properties["yes"], json!({ "boolean": true }));
    assert_eq!(properties["bytes"], json!({ "binary": "00ff" }));
    assert_eq!(event.properties["message_id"], json!({ "string": format!("{}-{number}", event.partition) }));
    assert_eq!(event.properties["correlation_id"], json!({ "string": "c" }));
    assert_eq!(event.properties["content_type"], json!({ "symbol": "text/plain" }));
}

#[test]
fn a_batch_may_be_as_large_as_the_link_says_and_no_larger() {
    for sdk in SDKS {
        let space = Namespace::new();
        let said = sdk.run(&space, "amqp", &["full"]);
        let stored = space.hubs.stored(HUB, "0");
        let large = stored.iter().filter(|event| text(event).len() == 1000).count();
        assert_eq!(said[0]["count"], large, "{sdk:?}");
        // 1 MiB, with no more than 60 bytes for each event besides its body.
        assert!(large > 1_048_576 / 1060, "{sdk:?}: {large}");
        assert!(stored.iter().all(|event| [5, 1000].contains(&text(event).len())), "{sdk:?}");
    }
}

#[test]
fn every_transport_works() {
    for (sdk, transports) in [(Sdk::Python, &["amqp", "amqps", "ws", "wss"][..]), (Sdk::JavaScript, &["amqps", "wss"])]
    {
        for transport in transports {
            sdk.run(&Namespace::new(), transport, &["transport"]);
        }
    }
}

#[test]
fn a_client_without_a_certificate_is_turned_away_where_one_is_wanted() {
    Sdk::Python.run(&Namespace::with_client_certificates(true), "amqps", &["transport"]);
    let done = Sdk::Python.judge(&Namespace::with_client_certificates(false), "amqps", &["transport"]);
    assert!(String::from_utf8_lossy(&done.stderr).contains("SSL"), "{done:?}");
}

#[test]
fn a_geo_replicated_namespace_has_offsets_that_are_no_numbers() {
    for sdk in SDKS {
        sdk.run(&Namespace::with(&json!({ "opaque_offsets": true })), "amqp", &["opaque_offsets"]);
    }
}

/// Makes a test of each scenario that judges itself, for these SDKs.
macro_rules! scenarios {
    ($($name:ident: $scenario:literal, $sdks:expr;)*) => {
        $(
            #[test]
            fn $name() {
                for sdk in $sdks {
                    sdk.run(&Namespace::new(), "amqp", &[$scenario]);
                }
            }
        )*
    };
}

scenarios! {
    a_consumer_starts_wherever_it_says: "positions", SDKS;
    consumers_share_the_partitions_and_go_on_from_checkpoints: "balance", SDKS;
    a_higher_owner_level_takes_a_partition_away: "owner_level", SDKS;
    each_event_says_how_far_its_partition_is: "last_enqueued", SDKS;
    positions_of_a_hub_that_was_made_again_are_refused: "recreated", SDKS;
    what_retention_took_is_skipped: "retention", [Sdk::Python];
    properties_of_hub_and_partitions_are_told: "properties", SDKS;
    strangers_are_refused: "strangers", SDKS;
    tokens_of_entra_are_taken: "entra", [Sdk::Python];
    tokens_are_renewed_without_an_interruption: "renewal", SDKS;
    links_go_with_the_token_that_let_them_in: "expiry", SDKS;
    requests_that_are_refused_for_now_come_again: "throttled_requests", [Sdk::Python];
    producers_live_through_faults: "survived", SDKS;
    permanent_errors_are_told: "permanent", SDKS;
    consumers_live_through_faults: "torn", SDKS;
    a_silent_network_ends_in_an_acknowledgement_or_a_repetition: "silence", SDKS;
    a_namespace_that_was_away_is_found_again: "outage", SDKS;
    an_idle_link_is_detached_and_attached_again: "idle", SDKS;
    what_no_sdk_does_is_answered_too: "bare", [Sdk::JavaScript];
}
