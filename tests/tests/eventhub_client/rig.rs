//! A namespace with a hub, and a client of it.

use std::{sync::Arc, time::Duration};

use forebay::{
    client::eventhub::{
        Batch, Body, Connection, ConnectionString, Endpoint, Error, Hub, Namespace, Outgoing, Received, Receiver,
        ReceiverOptions, Sender, Settings, Start, TOKEN_LIFE, Transport,
    },
    clock::SystemClock,
    secret::Secret,
    tls::client::ClientSettings,
};
use forebay_tests::servers::{EventHubs, StoredEvent};
use serde_json::{Value, json};

pub(crate) const HUB: &str = "plant";

/// What a peer may take for an answer where a test waits for it not to come.
pub(crate) const SHORT: Duration = Duration::from_secs(2);

pub(crate) fn namespace() -> EventHubs {
    with_hub(EventHubs::start())
}

pub(crate) fn with_hub(namespace: EventHubs) -> EventHubs {
    namespace.make_hub(HUB, &json!({ "partitions": 2 }));
    namespace
}

/// Settings for the port without TLS.
pub(crate) fn settings(namespace: &EventHubs) -> Settings {
    let text = Secret::new(namespace.connection_string());
    let ConnectionString { endpoint, credential, .. } = ConnectionString::parse(&text).expect("a connection string");
    Settings {
        namespace: Namespace::Given { endpoint, credential },
        hub: HUB.to_owned(),
        transport: Transport::Tcp,
        tls: ClientSettings::default(),
        proxy: None,
        timeout: Duration::from_secs(60),
        token_life: TOKEN_LIFE,
        idle_timeout: Duration::from_secs(60),
    }
}

/// The same at another endpoint.
pub(crate) fn at(mut settings: Settings, port: u16, encrypted: bool) -> Settings {
    if let Namespace::Given { endpoint, .. } = &mut settings.namespace {
        *endpoint = Endpoint { host: "localhost".to_owned(), port: Some(port), encrypted };
    }
    settings
}

pub(crate) fn hub(settings: Settings) -> Hub {
    Hub::new(settings, Arc::new(SystemClock::new())).expect("settings that can be used")
}

pub(crate) async fn connect(settings: Settings) -> Result<Connection, Error> {
    hub(settings).connection().await
}

pub(crate) fn batch(bodies: &[&str]) -> Batch {
    let mut batch = Batch::default();
    for body in bodies {
        batch.push(Outgoing { message_id: "id", body: Some(body.as_bytes()), ..Outgoing::default() }.encode());
    }
    batch
}

pub(crate) fn options(partition: &str) -> ReceiverOptions {
    ReceiverOptions {
        consumer_group: "$Default".to_owned(),
        partition: partition.to_owned(),
        start: Start::Oldest,
        owner_level: None,
        name: "test".to_owned(),
        prefetch: 300,
        prefetch_bytes: 1 << 20,
        track_last_enqueued: false,
    }
}

/// The text of a body.
pub(crate) fn text(received: &Received) -> String {
    match &received.body {
        Body::Data(bytes) => String::from_utf8(bytes.to_vec()).expect("text"),
        other => panic!("{other:?} is no data"),
    }
}

pub(crate) async fn next(receiver: &mut Receiver) -> String {
    text(&receiver.receive().await.expect("an event"))
}

pub(crate) async fn send(sender: &Sender, bodies: &[&str]) {
    sender.send(&batch(bodies)).await.expect("an acknowledgement");
}

pub(crate) fn bodies(stored: &[StoredEvent]) -> Vec<String> {
    let text = |event: &StoredEvent| String::from_utf8(event.body.clone().expect("data")).expect("text");
    stored.iter().map(text).collect()
}

/// Arms a fault of this hub that happens once.
pub(crate) fn arm(namespace: &EventHubs, phase: &str, action: &str, more: Value) -> u64 {
    let mut fault = json!({ "phase": phase, "action": action });
    fault.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    namespace.arm(&fault)
}
