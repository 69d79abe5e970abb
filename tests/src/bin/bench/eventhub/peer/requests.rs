//! Answers of `$cbs` and `$management`: everybody is let in, and partitions are numbered from 0.

use serde_amqp::{
    Value,
    primitives::{Array, OrderedMap, Timestamp},
};

use super::{
    Service,
    wire::{described, encode, open, section, sections, text},
};

/// The answer to `question`, as a message.
pub(super) fn answer(node: &str, question: &[u8], service: &Service) -> Vec<u8> {
    let (mut id, mut partition) = (Value::Null, None);
    for (code, bytes) in sections(question) {
        match (code, open(bytes).map(|(_, value)| value)) {
            (section::PROPERTIES, Some(Value::List(properties))) => {
                id = properties.into_iter().next().unwrap_or_default();
            }
            (section::APPLICATION_PROPERTIES, Some(Value::Map(properties))) => {
                let found = properties.into_iter().find(|(name, _)| text(name).as_deref() == Some("partition"));
                partition = found.and_then(|(_, value)| text(&value));
            }
            _ => {}
        }
    }
    let (status, body) = match (node, partition) {
        ("$cbs", _) => (202, Value::Null),
        (_, None) => (200, hub(service)),
        (_, Some(partition)) => (200, of_partition(&partition, service)),
    };
    // correlation-id is the sixth of thirteen properties.
    let mut properties = vec![Value::Null; 13];
    properties[5] = id;
    let status = map([("status-code", Value::Int(status)), ("status-description", Value::String("OK".to_owned()))]);
    [(section::PROPERTIES, Value::List(properties)), (section::APPLICATION_PROPERTIES, status), (section::VALUE, body)]
        .into_iter()
        .flat_map(|(code, value)| encode(&described(code, value)))
        .collect()
}

fn hub(service: &Service) -> Value {
    let ids = (0..service.partitions).map(|id| Value::String(id.to_string())).collect();
    map([
        ("name", Value::String(super::super::HUB.to_owned())),
        ("type", Value::String("com.microsoft:eventhub".to_owned())),
        ("created_at", time(service)),
        ("partition_count", Value::Int(service.partitions as i32)),
        ("partition_ids", Value::Array(Array(ids))),
    ])
}

fn of_partition(id: &str, service: &Service) -> Value {
    let last = service.events as i64 - 1;
    map([
        ("name", Value::String(super::super::HUB.to_owned())),
        ("type", Value::String("com.microsoft:partition".to_owned())),
        ("partition", Value::String(id.to_owned())),
        ("begin_sequence_number", Value::Long(0)),
        ("last_enqueued_sequence_number", Value::Long(last)),
        ("last_enqueued_offset", Value::String(last.to_string())),
        ("last_enqueued_time_utc", time(service)),
        ("runtime_info_retrieval_time_utc", time(service)),
        ("is_partition_empty", Value::Bool(last < 0)),
    ])
}

fn time(service: &Service) -> Value {
    Value::Timestamp(Timestamp::from(service.created_ms))
}

fn map<const N: usize>(pairs: [(&str, Value); N]) -> Value {
    let pairs = pairs.into_iter().map(|(name, value)| (Value::String(name.to_owned()), value));
    Value::Map(pairs.collect::<OrderedMap<_, _>>())
}
