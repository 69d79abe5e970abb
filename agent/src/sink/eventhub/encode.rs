//! An event as a message of the hub, with the id that tells it from all others.
//!
//! The id is the message id and the application property `forebay_id`, and the same however often the event is sent:
//!
//! - `AGENT/STREAM/PARTITION/TAG/OFFSET`, where the buffer has numbered it: TAG is that of the epoch, in hexadecimal.
//! - `NAMESPACE/HUB/CREATED/PARTITION/NUMBER`, where it comes from an event hub: whichever agent sends it. CREATED is when
//!   that hub was made, in microseconds since 1970.
//!
//! The key is `forebay_key` (bytes if it is no text), the table `forebay_table`. Headers are application properties, with
//! their types; one whose name is taken already gets `#2` behind it, the next `#3`.

use std::borrow::Cow;

use forebay_buffer::{BodyKind, Checkpoint, Event, Numbering, Value};

use crate::{client::eventhub::Outgoing, contract::PartitionId};

const ID: &str = "forebay_id";
const KEY: &str = "forebay_key";
const TABLE: &str = "forebay_table";

/// Makes the messages of one lane.
pub(super) struct Encoder {
    /// What all ids begin with.
    prefix: String,
    numbering: Numbering,
}

impl Encoder {
    pub(super) fn new(agent_id: &str, partition: &PartitionId) -> Self {
        let PartitionId { stream, name, numbering, hub, .. } = partition;
        let prefix = match (numbering, hub) {
            (Numbering::Shared { created }, Some(hub)) => format!("{}/{}/{created}/{name}", hub.namespace, hub.hub),
            _ => format!("{agent_id}/{stream}/{name}"),
        };
        Self { prefix, numbering: *numbering }
    }

    /// The message of the event at `place`.
    pub(super) fn encode(&self, place: Checkpoint, event: &Event) -> Vec<u8> {
        let id = self.id(place);
        let mut properties: Vec<(&str, Value)> = vec![(ID, Value::String(id.clone()))];
        properties.extend(event.key.as_ref().map(|key| {
            let text = std::str::from_utf8(key).map(|text| Value::String(text.to_owned()));
            (KEY, text.unwrap_or_else(|_| Value::Bytes(key.clone())))
        }));
        properties.extend(event.table.as_ref().map(|table| (TABLE, Value::String(table.clone()))));
        let names = unique(&properties, &event.headers);
        properties.extend(names.iter().map(|name| &**name).zip(event.headers.iter().map(|(_, value)| value.clone())));
        let outgoing = Outgoing {
            message_id: &id,
            content_type: content_type(event.body_kind),
            creation_time: Some(event.time),
            application_properties: properties,
            body: event.body.as_deref(),
        };
        outgoing.encode()
    }

    fn id(&self, place: Checkpoint) -> String {
        match self.numbering {
            Numbering::Assigned => format!("{}/{}/{}", self.prefix, place.tag, place.offset.0),
            Numbering::Shared { .. } => format!("{}/{}", self.prefix, place.offset.0),
        }
    }
}

/// The names of headers, each once and none of those of `taken`.
fn unique<'h>(taken: &[(&str, Value)], headers: &'h [(String, Value)]) -> Vec<Cow<'h, str>> {
    let mut names: Vec<Cow<'h, str>> = Vec::with_capacity(headers.len());
    for (name, _) in headers {
        let is_free = |name: &str| taken.iter().all(|(held, _)| *held != name) && names.iter().all(|held| held != name);
        let numbered = (2..).map(|number| Cow::Owned(format!("{name}#{number}")));
        let free = std::iter::once(Cow::Borrowed(name.as_str())).chain(numbered).find(|name| is_free(name));
        names.push(free.expect("there are more numbers than headers"));
    }
    names
}

fn content_type(kind: BodyKind) -> Option<&'static str> {
    match kind {
        BodyKind::Json => Some("application/json"),
        BodyKind::Text => Some("text/plain"),
        BodyKind::Bytes => Some("application/octet-stream"),
        BodyKind::Unsaid => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use forebay_buffer::{Generation, Offset, Tag};

    use super::*;
    use crate::contract::HubId;

    fn lane(numbering: Numbering, hub: Option<HubId>) -> PartitionId {
        PartitionId { stream: "line1".into(), renamed_from: None, name: "3".into(), numbering, hub: hub.map(Arc::new) }
    }

    const PLACE: Checkpoint = Checkpoint { generation: Generation(9), tag: Tag(0x12), offset: Offset(77) };

    #[test]
    fn an_id_says_where_the_buffer_has_the_event() {
        let encoder = Encoder::new("gw-1", &lane(Numbering::Assigned, None));
        assert_eq!(encoder.id(PLACE), format!("gw-1/line1/3/{}/77", Tag(0x12)));
    }

    #[test]
    fn an_event_of_a_hub_has_the_same_id_whoever_sends_it() {
        let hub = HubId {
            namespace: "ns.servicebus.windows.net".to_owned(),
            hub: "plant".to_owned(),
            consumer_group: "a".to_owned(),
            is_shared: false,
        };
        let lane = lane(Numbering::Shared { created: 5_000 }, Some(hub));
        for agent in ["gw-1", "gw-2"] {
            assert_eq!(Encoder::new(agent, &lane).id(PLACE), "ns.servicebus.windows.net/plant/5000/3/77");
        }
    }

    #[test]
    fn no_two_properties_have_the_same_name() {
        let headers = ["a", "a", "forebay_id", "a#2", "b"].map(|name| (name.to_owned(), Value::Boolean(true)));
        assert_eq!(unique(&[(ID, Value::Boolean(true))], &headers), ["a", "a#2", "forebay_id#2", "a#2#2", "b"]);
    }
}
