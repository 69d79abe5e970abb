//! What hubs and partitions say of themselves, over `$management`.

use fe2o3_amqp::types::primitives::Value as Asked;
use forebay_buffer::Timestamp;

use super::{Class, Connection, Error, HubProperties, PartitionProperties, decode::Value, requests::Requests};

type Map = Vec<(Value, Value)>;

impl Connection {
    /// What the hub says of itself.
    pub async fn properties(&self) -> Result<HubProperties, Error> {
        let said = self.read("com.microsoft:eventhub", None).await?;
        let ids = match field(&said, "partition_ids") {
            Some(Value::List(ids)) => ids,
            _ => return Err(missing("partition_ids")),
        };
        if ids.is_empty() {
            return Err(missing("partition_ids"));
        }
        let partition_ids = ids.iter().map(|id| string(Some(id)).ok_or_else(|| missing("partition_ids")));
        Ok(HubProperties {
            name: string(field(&said, "name")).unwrap_or_else(|| self.inner.hub.clone()),
            created: timestamp(field(&said, "created_at")).ok_or_else(|| missing("created_at"))?,
            partition_ids: partition_ids.collect::<Result<_, _>>()?,
        })
    }

    /// What a partition says of itself.
    pub async fn partition_properties(&self, id: &str) -> Result<PartitionProperties, Error> {
        let said = self.read("com.microsoft:partition", Some(id)).await?;
        let number = |name| integer(field(&said, name)).ok_or_else(|| missing(name));
        Ok(PartitionProperties {
            begin_sequence_number: number("begin_sequence_number")?,
            last_sequence_number: number("last_enqueued_sequence_number")?,
            last_offset: string(field(&said, "last_enqueued_offset")).ok_or_else(|| missing("last_enqueued_offset"))?,
            last_enqueued_time: timestamp(field(&said, "last_enqueued_time_utc")),
            is_empty: matches!(field(&said, "is_partition_empty"), Some(Value::Boolean(true))),
        })
    }

    async fn read(&self, kind: &str, partition: Option<&str>) -> Result<Map, Error> {
        let mut place = self.inner.management.lock().await;
        let token = self.inner.token.lock().expect("no holder of this lock panics").clone();
        let mut properties = vec![("operation", "READ"), ("type", kind), ("name", self.inner.hub.as_str())];
        // All SDKs send it.
        properties.extend(token.as_ref().map(|token| ("security_token", token.expose())));
        properties.extend(partition.map(|id| ("partition", id)));
        loop {
            let held = place.take();
            let was_idle = held.is_some();
            let mut requests = match held {
                Some(requests) => requests,
                None => Requests::attach(&self.inner, "$management").await?,
            };
            match requests.ask(&properties, Asked::Null).await {
                Ok(Value::Map(said)) => {
                    *place = Some(requests);
                    return Ok(said);
                }
                Ok(_) => return Err(missing("map")),
                // The service detaches links that are idle for half an hour.
                Err(error) if error.class == Class::Detached && was_idle => {}
                Err(error) => return Err(error),
            }
        }
    }
}

fn field<'a>(map: &'a Map, name: &str) -> Option<&'a Value> {
    map.iter().find(|(key, _)| key.text() == Some(name)).map(|(_, value)| value)
}

fn string(value: Option<&Value>) -> Option<String> {
    value?.text().map(str::to_owned)
}

fn integer(value: Option<&Value>) -> Option<i64> {
    value?.integer()
}

fn timestamp(value: Option<&Value>) -> Option<Timestamp> {
    match value? {
        Value::Time(at) => Some(*at),
        _ => None,
    }
}

fn missing(what: &str) -> Error {
    Error::new(Class::Refused, format!("what $management answers has no {what} that is understood"))
}
