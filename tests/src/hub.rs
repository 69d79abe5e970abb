//! Produces into an event hub, by the agent's own client, and does not give up.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use forebay::{
    client::eventhub::{
        Batch, ConnectionString, Error, Hub, Namespace, Outgoing, Sender, Settings as Connection, TOKEN_LIFE, Transport,
    },
    clock::SystemClock,
    secret::Secret,
    tls::client::ClientSettings,
};
use tokio::{
    runtime::{self, Runtime},
    time::{Instant, sleep},
};

use crate::harness::DEADLINE;

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(50);

/// A producer to the partitions of one hub.
pub struct Producer {
    runtime: Runtime,
    hub: Hub,
    senders: BTreeMap<String, Sender>,
    repeated: u64,
}

impl Producer {
    /// One that goes by this connection string to the hub called `hub`. It connects when it has something to send.
    pub fn new(connection_string: &str, hub: &str) -> Self {
        let parsed = ConnectionString::parse(&Secret::new(connection_string));
        let ConnectionString { endpoint, credential, .. } = parsed.expect("a connection string");
        let connection = Connection {
            namespace: Namespace::Given { endpoint, credential },
            hub: hub.to_owned(),
            token_life: TOKEN_LIFE,
            transport: Transport::Tcp,
            tls: ClientSettings::default(),
            proxy: None,
            timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(10),
        };
        let hub = Hub::new(connection, Arc::new(SystemClock::new())).expect("no file is read");
        let runtime = runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be made");
        Self { runtime, hub, senders: BTreeMap::new(), repeated: 0 }
    }

    /// Sends the bodies to a partition as one batch, again and again until it is accepted.
    pub fn send<B: AsRef<[u8]>>(&mut self, partition: &str, bodies: impl IntoIterator<Item = B>) {
        let mut batch = Batch::default();
        for body in bodies {
            batch.push(Outgoing { body: Some(body.as_ref()), ..Outgoing::default() }.encode());
        }
        self.send_batch(partition, &batch);
    }

    /// The same with a batch of any messages.
    pub fn send_batch(&mut self, partition: &str, batch: &Batch) {
        let Self { runtime, hub, senders, repeated } = self;
        runtime.block_on(async {
            let begun = Instant::now();
            loop {
                match attempt(hub, senders, partition, batch).await {
                    Ok(()) => return,
                    Err(error) => assert!(begun.elapsed() < DEADLINE, "the hub does not take a batch: {error}"),
                }
                *repeated += 1;
                sleep(PAUSE).await;
            }
        });
    }

    /// How often it has sent a batch again.
    pub fn repeated(&self) -> u64 {
        self.repeated
    }
}

async fn attempt(
    hub: &Hub,
    senders: &mut BTreeMap<String, Sender>,
    partition: &str,
    batch: &Batch,
) -> Result<(), Error> {
    if senders.get(partition).is_some_and(|sender| !sender.is_alive()) {
        // Without any there is a new connection, which lasts as long as one of its senders.
        senders.clear();
    }
    if !senders.contains_key(partition) {
        let sender = hub.connection().await?.sender(Some(partition)).await?;
        senders.insert(partition.to_owned(), sender);
    }
    let sent = senders[partition].send(batch).await;
    if sent.is_err() {
        senders.clear();
    }
    sent
}
