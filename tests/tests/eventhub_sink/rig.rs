//! A sink before a namespace, and lanes as delivery would drive them.

use std::{sync::Arc, time::Duration};

use forebay::{
    client::eventhub::{self as client, ConnectionString, Namespace, TOKEN_LIFE, Transport},
    clock::SystemClock,
    contract::{Batch, BatchLimits, Destination, Lane, Local, PartitionId, Progress, Refusal, Sink, SinkError},
    secret::Secret,
    sink::eventhub::{EventHub, Placement, Settings},
    tls::client::ClientSettings,
};
use forebay_buffer::{Checkpoint, Event, Generation, Numbering, Offset, Tag, Timestamp};
use forebay_tests::servers::{EventHubs, StoredEvent};
use serde_json::json;

pub(crate) const HUB: &str = "plant";
pub(crate) const TAG: Tag = Tag(0x12);

pub(crate) fn namespace(partitions: u32) -> EventHubs {
    let namespace = EventHubs::start();
    namespace.make_hub(HUB, &json!({ "partitions": partitions }));
    namespace
}

pub(crate) fn settings(namespace: &EventHubs) -> Settings {
    let text = Secret::new(namespace.connection_string());
    let ConnectionString { endpoint, credential, .. } = ConnectionString::parse(&text).expect("a connection string");
    Settings {
        connection: client::Settings {
            namespace: Namespace::Given { endpoint, credential },
            hub: HUB.to_owned(),
            transport: Transport::Tcp,
            tls: ClientSettings::default(),
            proxy: None,
            timeout: Duration::from_secs(5),
            token_life: TOKEN_LIFE,
            idle_timeout: Duration::from_secs(5),
        },
        partition: Placement::Key,
        ordered: true,
        max_in_flight_bytes: 4 << 20,
        batch: BatchLimits { max_events: 10_000, max_bytes: 1 << 20 },
    }
}

pub(crate) fn sink(settings: Settings) -> EventHub {
    let progress = forebay::progress::Progress::new("sink hub");
    EventHub::new(settings, "gw-1", Arc::new(SystemClock::new()), progress).expect("settings that can be used")
}

pub(crate) fn lane(sink: &EventHub, name: &str) -> Box<dyn Lane> {
    sink.lane(Arc::new(PartitionId {
        stream: "line1".to_owned(),
        renamed_from: None,
        name: name.to_owned(),
        numbering: Numbering::Assigned,
        hub: None,
    }))
}

pub(crate) fn at(offset: i64) -> Checkpoint {
    Checkpoint { generation: Generation(0xabc), tag: TAG, offset: Offset(offset) }
}

pub(crate) fn event(key: Option<&str>, body: impl Into<String>) -> Event {
    let key = key.map(|key| key.as_bytes().to_vec().into());
    Event { key, ..Event::new(Timestamp(1_700_000_000_123_456), body.into()) }
}

/// Events with offsets from `first` on.
pub(crate) fn batch(first: i64, events: Vec<Event>, skipped: &[i64]) -> Arc<Batch> {
    let events: Vec<_> = (first..).map(Offset).zip(events).collect();
    Arc::new(Batch {
        through: at(events.last().expect("a batch has events").0.0),
        events,
        skipped: skipped.iter().copied().map(Offset).collect(),
        expected: (first > 1).then(|| at(first - 1)),
        tags: vec![(Offset(first), TAG)],
    })
}

/// Resumes, and finds that the hub cannot say what it has.
pub(crate) async fn resume(lane: &mut dyn Lane) -> Result<(), SinkError> {
    let resumed = lane.resume(Local { generation: Generation(1), checkpoint: None, note: None }).await?;
    assert_eq!(resumed.destination, Destination::Unknown);
    Ok(())
}

pub(crate) async fn resumed(sink: &EventHub, name: &str) -> Box<dyn Lane> {
    let mut lane = lane(sink, name);
    resume(&mut *lane).await.expect("a hub that is there");
    lane
}

/// Delivers a batch and waits for what becomes of it.
pub(crate) async fn sent(lane: &mut dyn Lane, batch: &Arc<Batch>) -> Result<Progress, SinkError> {
    let before = lane.deliver(Arc::clone(batch)).await?;
    assert_eq!(before, Progress::default(), "nothing was under way");
    lane.settle().await
}

/// Delivers a batch as delivery does: again and again until it is confirmed. Says what it met on the way.
pub(crate) async fn through(lane: &mut dyn Lane, batch: &Arc<Batch>) -> (Vec<Refusal>, Vec<SinkError>) {
    let mut errors = Vec::new();
    loop {
        let outcome = async {
            resume(lane).await?;
            sent(lane, batch).await
        };
        match outcome.await {
            Ok(progress) => {
                assert_eq!(progress.confirmed, Some(batch.through));
                return (progress.refusals, errors);
            }
            Err(error) => {
                errors.push(error);
                // As delivery would, but faster.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        assert!(errors.len() < 200, "it never goes well: {:?}", errors.last());
    }
}

pub(crate) fn body(event: &StoredEvent) -> String {
    String::from_utf8(event.body.clone().expect("data")).expect("text")
}

/// The id of a stored event, by which it is known again.
pub(crate) fn id(event: &StoredEvent) -> String {
    let id = event.properties["message_id"]["string"].as_str().expect("a text").to_owned();
    assert_eq!(event.application_properties["forebay_id"]["string"], id);
    id
}
