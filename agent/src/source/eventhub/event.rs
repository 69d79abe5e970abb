//! How what a hub gives becomes an event.

use bytes::Bytes;
use forebay_buffer::{BodyKind, Event, Offset, Refused, TimeQuality, Value};

use crate::{
    client::eventhub::{Body, Received},
    contract::UPSTREAM_OFFSET,
};

/// The names of the annotations that every event bears, as the service has them.
const SEQUENCE_NUMBER: &str = "x-opt-sequence-number";
const ENQUEUED_TIME: &str = "x-opt-enqueued-time";
const PARTITION_KEY: &str = "x-opt-partition-key";

/// The event with its number; or why it cannot be one: nothing that has no number can be told from what came before.
///
/// Its time is when the hub took it, its key the partition key. Properties become headers: the service's first, then those
/// that AMQP knows, then other annotations, then the application's own.
pub(super) fn event_of(received: Received) -> Result<(Offset, Event), Box<Refused>> {
    let (sequence_number, malformed) = (received.sequence_number, received.malformed);
    let event = shape(received);
    let (code, reason) = match (sequence_number, malformed) {
        (Some(number @ 0..), None) => return Ok((Offset(number), event)),
        (_, Some(why)) => ("malformed", format!("what the hub gave is no message of AMQP: {why}")),
        (_, None) => {
            let why = "the hub gave it no sequence number, so that it could not be told whether it comes again";
            ("no_sequence_number", why.to_owned())
        }
    };
    Err(Box::new(Refused { event, code: code.to_owned(), reason }))
}

fn shape(received: Received) -> Event {
    let Received { offset, sequence_number, enqueued_time, partition_key, body, .. } = received;
    let system = [
        (SEQUENCE_NUMBER, sequence_number.map(Value::Integer)),
        (UPSTREAM_OFFSET, offset.map(Value::String)),
        (ENQUEUED_TIME, enqueued_time.map(Value::Time)),
        (PARTITION_KEY, partition_key.clone().map(Value::String)),
    ];
    let system = system.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    let known = received.properties.into_iter().map(|(name, value)| (name.to_owned(), value));
    let headers = system.chain(known).chain(received.annotations).chain(received.application_properties).collect();
    let (body, body_kind) = match body {
        Body::None => (None, BodyKind::Unsaid),
        Body::Data(bytes) => (Some(bytes), BodyKind::Unsaid),
        Body::Text(text) => (Some(Bytes::from(text)), BodyKind::Text),
        Body::Json(text) => (Some(Bytes::from(text)), BodyKind::Json),
    };
    let time_quality = if enqueued_time.is_some() { TimeQuality::Given } else { TimeQuality::Stamped };
    Event {
        time: enqueued_time.unwrap_or_default(),
        time_quality,
        key: partition_key.map(Bytes::from),
        headers,
        body,
        body_kind,
        ..Event::default()
    }
}

#[cfg(test)]
mod tests {
    use forebay_buffer::Timestamp;

    use super::*;

    fn received() -> Received {
        Received {
            offset: Some("0:1:2".into()),
            sequence_number: Some(7),
            enqueued_time: Some(Timestamp(1_000)),
            partition_key: Some("pump-1".into()),
            body: Body::Data(Bytes::from_static(b"21.5")),
            properties: vec![("message_id", Value::from("m1"))],
            application_properties: vec![("unit".into(), Value::from("C"))],
            annotations: vec![("iothub-connection-device-id".into(), Value::from("d1"))],
            last_enqueued: None,
            malformed: None,
            size_bytes: 100,
        }
    }

    #[test]
    fn everything_that_came_with_an_event_is_a_header() {
        let (offset, event) = event_of(received()).expect("it has a number");
        assert_eq!((offset, event.time, event.key.as_deref()), (Offset(7), Timestamp(1_000), Some(&b"pump-1"[..])));
        let headers: Vec<_> = event.headers.iter().map(|(name, _)| name.as_str()).collect();
        let service = [SEQUENCE_NUMBER, UPSTREAM_OFFSET, ENQUEUED_TIME, PARTITION_KEY];
        assert_eq!(headers[..4], service);
        assert_eq!(headers[4..], ["message_id", "iothub-connection-device-id", "unit"]);
    }

    #[test]
    fn an_event_without_a_number_is_refused_whole() {
        for sequence_number in [None, Some(-1)] {
            let refused = event_of(Received { sequence_number, ..received() }).expect_err("it has none");
            assert_eq!(
                (refused.code.as_str(), refused.event.body.as_deref()),
                ("no_sequence_number", Some(&b"21.5"[..]))
            );
        }
    }

    #[test]
    fn no_body_and_an_empty_one_differ() {
        let body = |body| event_of(Received { body, ..received() }).expect("it has a number").1.body;
        assert_eq!(body(Body::None), None);
        assert_eq!(body(Body::Data(Bytes::new())), Some(Bytes::new()));
    }
}
