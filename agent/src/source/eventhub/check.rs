//! What `check --connect` finds of a hub: whether it can be reached, has the partitions that are named, and lets the agent
//! read.

use std::sync::Arc;

use forebay_buffer::clock::Clock;

use super::{Partitions, Settings};
use crate::{
    client::eventhub::{Class, Error, Hub, ReceiverOptions, Start},
    contract::{Finding, Severity},
};

/// Connects and attaches to a partition, as the source would. It takes nothing from anyone: without an owner level it only
/// waits for what comes next, and is refused where another reader has the partition for itself.
pub async fn check(settings: &Settings, clock: Arc<dyn Clock>, subject: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut say = |severity, message: String, remedy: &str| {
        let (subject, remedy) = (subject.to_owned(), remedy.to_owned());
        findings.push(Finding { severity, subject, message, remedy });
    };
    match look(settings, clock).await {
        Ok(Look { place, partitions, missing }) => {
            if !missing.is_empty() {
                let message =
                    format!("{place} has no partition {}: it has {}", missing.join(", "), partitions.join(", "));
                say(Severity::Error, message, "name others in partitions, or say \"all\"");
            }
            say(Severity::Ok, format!("{place} lets it read, and has {} partitions", partitions.len()), "");
        }
        Err(error) => {
            let remedy = match error.class {
                Class::Unauthorized => {
                    "see that the key is right and its rule may listen, or that the identity has the role Azure Event Hubs \
                     Data Receiver"
                }
                Class::NotFound => "see whether hub, consumer_group and namespace are spelt right",
                Class::Lost => {
                    "look at the network, the name and the firewall; where only port 443 is open say transport = \"websocket\""
                }
                _ => "see what the service says",
            };
            say(Severity::Error, error.message, remedy);
        }
    }
    findings
}

struct Look {
    place: String,
    partitions: Vec<String>,
    /// Those that are to be read and are not there.
    missing: Vec<String>,
}

async fn look(settings: &Settings, clock: Arc<dyn Clock>) -> Result<Look, Error> {
    let hub =
        Hub::new(settings.connection.clone(), clock).map_err(|message| Error { class: Class::Refused, message })?;
    let connection = hub.connection().await?;
    let partitions = connection.properties().await?.partition_ids;
    let missing = match &settings.partitions {
        Partitions::These(these) => these.iter().filter(|one| !partitions.contains(one)).cloned().collect(),
        Partitions::All | Partitions::Balanced(_) => Vec::new(),
    };
    if let Some(partition) = partitions.first() {
        let options = ReceiverOptions {
            consumer_group: settings.hub.consumer_group.clone(),
            partition: partition.clone(),
            start: Start::Latest,
            owner_level: None,
            name: "check".to_owned(),
            prefetch: 1,
            prefetch_bytes: settings.prefetch_bytes,
            track_last_enqueued: false,
        };
        match connection.receiver(&options).await {
            Ok(receiver) => receiver.close().await,
            // Somebody reads, perhaps this agent itself, or as many as may: so it can be read.
            Err(error) if matches!(error.class, Class::Stolen | Class::Quota) => {}
            Err(error) => return Err(error),
        }
    }
    connection.close().await;
    Ok(Look { place: hub.place().to_owned(), partitions, missing })
}
