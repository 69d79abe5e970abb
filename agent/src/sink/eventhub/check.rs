//! What `check --connect` finds of the hub.

use super::{Placement, Shared};
use crate::{
    client::eventhub::{Class, Error},
    contract::{Finding, Severity},
};

/// Connects, asks for the partitions, and attaches a sender: only who may send can do that.
pub(super) async fn check(shared: &Shared) -> Vec<Finding> {
    let subject = shared.senders.place().to_owned();
    let found = match look(shared).await {
        Ok(found) => found,
        Err(error) => {
            let remedy = remedy(&error).to_owned();
            return vec![Finding { severity: Severity::Error, subject, message: error.message, remedy }];
        }
    };
    let message = format!("{} partitions; we may send, up to {} bytes at a time", found.0, found.1);
    vec![Finding { severity: Severity::Ok, subject, message, remedy: String::new() }]
}

async fn look(shared: &Shared) -> Result<(usize, usize), Error> {
    let partitions = shared.senders.partitions().await?;
    let one = partitions.first().filter(|_| shared.settings.partition != Placement::Any);
    let (_, sender) = shared.senders.slot(one.map(String::as_str)).await?;
    Ok((partitions.len(), sender.max_message_bytes()))
}

fn remedy(error: &Error) -> &'static str {
    match error.class {
        Class::Unauthorized => "give the rule the right to send, or the identity the role Azure Event Hubs Data Sender",
        Class::NotFound => "make the hub, or name another",
        Class::Lost | Class::Detached => {
            "look at namespace, port and firewall; where only port 443 is open, say transport = \"websocket\""
        }
        Class::Busy(_) | Class::Quota => "wait, or give the namespace more throughput units",
        _ => "mend what the service says",
    }
}
