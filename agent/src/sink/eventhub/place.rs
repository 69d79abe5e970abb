//! Which of the hub's partitions an event goes to.

use forebay_buffer::{Event, Offset};

use super::hash;
use crate::contract::PartitionId;

/// What decides about an event's partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Placement {
    /// Its key, by the hash that the service itself has for keys; where there is none, the stream's partition.
    #[default]
    Key,
    /// The stream's partition: the hub's of the same name, else one by its hash.
    Stream,
    /// The hub, which keeps no order.
    Any,
}

/// The choice for one lane.
pub(super) struct Place<'a> {
    placement: Placement,
    partitions: &'a [String],
    /// That of the stream's partition.
    own: usize,
}

/// What goes to one partition, in order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Group {
    /// Its place among the hub's. `None`: whichever the hub chooses.
    pub(super) at: Option<usize>,
    pub(super) messages: Vec<(Offset, Vec<u8>)>,
}

impl<'a> Place<'a> {
    /// `partitions` are the hub's, at least one.
    pub(super) fn new(placement: Placement, lane: &PartitionId, partitions: &'a [String]) -> Self {
        let of_same_name = partitions.iter().position(|partition| *partition == lane.name);
        let own = match (placement, of_same_name) {
            (Placement::Stream, Some(own)) => own,
            _ => hash::partition(lane.to_string().as_bytes(), partitions.len()),
        };
        Self { placement, partitions, own }
    }

    /// The place of an event's partition among the hub's. `None`: whichever the hub chooses.
    pub(super) fn of(&self, event: &Event) -> Option<usize> {
        match (self.placement, &event.key) {
            (Placement::Any, _) => None,
            (Placement::Key, Some(key)) => Some(hash::partition(key, self.partitions.len())),
            _ => Some(self.own),
        }
    }

    /// Sorts messages by partition. Their order in each stays.
    pub(super) fn group(&self, messages: impl Iterator<Item = (Option<usize>, Offset, Vec<u8>)>) -> Vec<Group> {
        let mut groups: Vec<Group> = Vec::new();
        let mut known = vec![None; self.partitions.len() + 1];
        for (at, offset, message) in messages {
            let group = known[at.unwrap_or(self.partitions.len())].get_or_insert_with(|| {
                groups.push(Group { at, messages: Vec::new() });
                groups.len() - 1
            });
            groups[*group].messages.push((offset, message));
        }
        groups
    }
}

#[cfg(test)]
mod tests {
    use forebay_buffer::{Numbering, Timestamp};

    use super::*;

    fn lane(name: &str) -> PartitionId {
        PartitionId {
            stream: "line1".into(),
            renamed_from: None,
            name: name.into(),
            numbering: Numbering::Assigned,
            hub: None,
        }
    }

    fn partitions() -> Vec<String> {
        ["0", "1", "2", "3", "4", "5", "6"].map(str::to_owned).to_vec()
    }

    fn event(key: Option<&'static str>) -> Event {
        Event { key: key.map(|key| key.as_bytes().into()), ..Event::new(Timestamp(0), "x") }
    }

    #[test]
    fn a_key_decides_and_without_one_the_streams_partition_does() {
        let (partitions, lane) = (partitions(), lane("0"));
        let place = Place::new(Placement::Key, &lane, &partitions);
        assert_eq!(place.of(&event(Some("7"))), Some(3));
        assert_eq!(place.of(&event(None)), Some(hash::partition(b"line1/0", 7)));
    }

    #[test]
    fn a_partition_of_the_same_name_is_taken_where_the_streams_decides() {
        let partitions = partitions();
        for (name, expected) in [("5", 5), ("plant", hash::partition(b"line1/plant", 7))] {
            let lane = lane(name);
            let place = Place::new(Placement::Stream, &lane, &partitions);
            assert_eq!(place.of(&event(Some("7"))), Some(expected));
        }
        assert_eq!(Place::new(Placement::Any, &lane("5"), &partitions).of(&event(Some("7"))), None);
    }

    #[test]
    fn what_goes_to_one_partition_keeps_its_order() {
        let (partitions, lane) = (partitions(), lane("0"));
        let place = Place::new(Placement::Key, &lane, &partitions);
        let messages = [(Some(1), 1), (None, 2), (Some(6), 3), (Some(1), 4), (None, 5)];
        let groups = place.group(messages.into_iter().map(|(at, offset)| (at, Offset(offset), vec![offset as u8])));
        let offsets = |group: &Group| group.messages.iter().map(|(offset, _)| offset.0).collect::<Vec<_>>();
        let found: Vec<_> = groups.iter().map(|group| (group.at, offsets(group))).collect();
        assert_eq!(found, [(Some(1), vec![1, 4]), (None, vec![2, 5]), (Some(6), vec![3])]);
    }
}
