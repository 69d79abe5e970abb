//! The names of channels: one for each partition, the same for ever, and no two partitions' alike.
//!
//! `FOREBAY_GW_0042_LINE1_0_DDEE3C990D6EB551`: capital letters, digits and `_` only, which mean the same whether whoever
//! reads them keeps to case or not. What stands before the last `_` is for people, cut off where it is long; the digits
//! behind it are of a hash of the names as they are. At most 120 characters.
//!
//! The parts are the agent's id (or what `channel` says), the stream and the partition. Of a hub they are its namespace,
//! its name and the partition, as in its checkpoints, so that all agents that read it agree upon the channel.

use ring::digest::{SHA256, digest};

use crate::contract::PartitionId;

/// What is for people is no longer than this.
const MAX_READABLE: usize = 95;

/// The channel of `partition`, of the agent that goes by `prefix`.
pub(super) fn channel(prefix: &str, partition: &PartitionId) -> String {
    match &partition.hub {
        Some(hub) => named(["hub", &hub.namespace, &hub.hub, &partition.name]),
        None => named(["agent", prefix, &partition.stream, &partition.name]),
    }
}

/// The channel that the partition had before its stream was renamed.
pub(super) fn former_channel(prefix: &str, partition: &PartitionId) -> Option<String> {
    let former = partition.renamed_from.as_deref().filter(|_| partition.hub.is_none())?;
    Some(named(["agent", prefix, former, &partition.name]))
}

fn named(parts: [&str; 4]) -> String {
    // With their lengths, so that no other parts make the same text.
    let whole: String = parts.iter().map(|part| format!("{}:{part}", part.len())).collect();
    let hash = digest(&SHA256, whole.as_bytes());
    let hash: String = hash.as_ref()[..8].iter().map(|byte| format!("{byte:02X}")).collect();
    let readable: String = parts[1..].join("_").chars().map(readable).take(MAX_READABLE).collect();
    format!("FOREBAY_{readable}_{hash}")
}

fn readable(c: char) -> char {
    if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, sync::Arc};

    use forebay_buffer::Numbering;

    use super::*;
    use crate::contract::HubId;

    fn own(stream: &str, name: &str) -> PartitionId {
        PartitionId {
            stream: stream.to_owned(),
            renamed_from: Some("line0".to_owned()),
            name: name.to_owned(),
            numbering: Numbering::Assigned,
            hub: None,
        }
    }

    fn of_hub(stream: &str, consumer_group: &str) -> PartitionId {
        let hub = HubId {
            namespace: "ns.servicebus.windows.net".to_owned(),
            hub: "plant".to_owned(),
            consumer_group: consumer_group.to_owned(),
            is_shared: true,
        };
        let numbering = Numbering::Shared { created: 5 };
        PartitionId { hub: Some(Arc::new(hub)), numbering, ..own(stream, "3") }
    }

    /// It stands in the service, and may never change.
    #[test]
    fn a_channel_bears_the_names_of_agent_stream_and_partition() {
        assert_eq!(channel("gw-0042", &own("line1", "0")), "FOREBAY_GW_0042_LINE1_0_DDEE3C990D6EB551");
        assert_eq!(channel("gw-1", &of_hub("a", "x")), "FOREBAY_NS_SERVICEBUS_WINDOWS_NET_PLANT_3_23C18D7B081AAD98");
        assert_eq!(former_channel("gw-1", &own("line1", "0")), Some(channel("gw-1", &own("line0", "0"))));
        assert_eq!(former_channel("gw-1", &of_hub("line1", "x")), None);
    }

    #[test]
    fn names_that_look_alike_are_different_channels() {
        let names =
            ["0", "A", "a", "a/b", "a_b", "a-b", "", "_", "é", &"x".repeat(300), &format!("{}y", "x".repeat(299))];
        let all = ["gw", "GW"].into_iter().flat_map(|agent| {
            names.iter().flat_map(move |name| [own(name, "0"), own("0", name)].map(|id| channel(agent, &id)))
        });
        let all: Vec<_> = all.collect();
        // Stream 0, partition 0 is among them twice for each agent.
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len() - 2, "{all:?}");
        let is_plain = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
        assert!(all.iter().all(|name| name.len() <= 120 && name.chars().all(is_plain)), "{all:?}");
    }

    #[test]
    fn all_agents_that_read_a_hub_have_one_channel_for_a_partition() {
        assert_eq!(channel("gw-1", &of_hub("a", "x")), channel("gw-2", &of_hub("b", "y")));
    }
}
