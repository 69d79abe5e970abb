//! Which partition a topic belongs to.

use std::collections::HashMap;

/// Of each stream, at most.
pub(super) const MAX_PARTITIONS: usize = 1_000;
/// Where everything goes that has no partition of its own.
pub(super) const DEFAULT: &str = "0";
/// A longer level names no partition.
const MAX_NAME_BYTES: usize = 128;

/// The partitions of one stream, numbered from 0. The first is [`DEFAULT`].
#[derive(Debug)]
pub(super) struct Partitions {
    level: Option<usize>,
    numbers: HashMap<String, usize>,
    warned: bool,
}

impl Partitions {
    /// Those named by the topics' `level`, counted from 0.
    pub(super) fn new(level: Option<usize>) -> Self {
        Self { level, numbers: HashMap::from([(DEFAULT.to_owned(), 0)]), warned: false }
    }

    /// The number of the partition `name`, which has one from now on.
    pub(super) fn number(&mut self, name: &str) -> usize {
        let next = self.numbers.len();
        *self.numbers.entry(name.to_owned()).or_insert(next)
    }

    /// The level of `topic` that names its partition.
    pub(super) fn name<'t>(&self, topic: &'t str) -> &'t str {
        self.level.and_then(|level| topic.split('/').nth(level)).unwrap_or(DEFAULT)
    }

    /// The number of the partition of `topic`.
    pub(super) fn of(&mut self, topic: &str) -> usize {
        if self.level.is_none() {
            return 0;
        }
        let name = self.name(topic);
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        match name.len() {
            0 | MAX_NAME_BYTES.. => 0,
            _ if self.numbers.len() < MAX_PARTITIONS => self.number(name),
            _ => {
                if !std::mem::replace(&mut self.warned, true) {
                    log::warn!(
                        "the topics name more than {MAX_PARTITIONS} partitions: {name} and what comes after it goes to \
                         partition {DEFAULT}; choose a level with fewer names"
                    );
                }
                0
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_of_the_topic_names_the_partition() {
        let mut partitions = Partitions::new(Some(1));
        assert_eq!(partitions.number("line2"), 1);
        let long = format!("plant/{}/x", "l".repeat(MAX_NAME_BYTES));
        let topics = ["plant/line1/a", "plant/line2/a", "plant/line1", "plant", "plant//a", "plant/0/a", &long];
        assert_eq!(topics.map(|topic| partitions.of(topic)), [2, 1, 2, 0, 0, 0, 0]);
        assert_eq!(Partitions::new(None).of("plant/line1/a"), 0);
    }

    #[test]
    fn beyond_the_limit_new_names_share_a_partition_and_old_ones_keep_theirs() {
        let mut partitions = Partitions::new(Some(0));
        for number in 1..MAX_PARTITIONS {
            assert_eq!(partitions.of(&format!("p{number}")), number);
        }
        assert_eq!(partitions.of("one more"), 0);
        assert_eq!(partitions.of("p999"), 999);
    }
}
