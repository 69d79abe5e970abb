//! The judgement of what came into the table and the dead letters.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::{Lane, readings::split};

/// One row of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    partition: String,
    offset: i64,
    id: String,
}

impl Row {
    pub(super) fn parse(line: &str) -> Option<Self> {
        let mut fields = line.splitn(3, '|');
        let partition = fields.next()?.to_owned();
        Some(Self { partition, offset: fields.next()?.parse().ok()?, id: fields.next()?.to_owned() })
    }
}

/// What was sent and acknowledged, and what was delivered of it.
#[derive(Debug)]
pub struct Judge<'a> {
    /// Every lane, of which the broker has acknowledged every reading.
    pub lanes: &'a [Lane],
    /// The numbers that the broker delivered of each lane, in order.
    pub delivered: HashMap<String, Vec<u64>>,
    /// Whether the agent recognises what it has had.
    pub dedupe: bool,
}

impl Judge<'_> {
    /// Everything that is wrong with the table, its rows in the order of their insertion; empty if the promises were
    /// kept.
    pub fn rows(&self, rows: &[Row]) -> Vec<String> {
        let mut faults = Vec::new();
        let mut offsets: HashMap<&str, i64> = HashMap::new();
        let mut lanes: HashMap<String, Vec<u64>> = HashMap::new();
        for row in rows {
            if offsets.insert(&row.partition, row.offset).is_some_and(|before| before >= row.offset) {
                faults.push(format!("the offset of {row:?} is not above the one inserted before it"));
            }
            match split(&row.id) {
                Some((lane, number)) => lanes.entry(lane).or_default().push(number),
                None => faults.push(format!("{row:?} was never sent")),
            }
        }
        for lane in self.lanes {
            let there = lanes.remove(&lane.name).unwrap_or_default();
            let owed = (0..lane.count).filter(|number| !lane.bad.contains_key(number));
            self.judge_lane(&lane.name, &there, &owed.collect::<Vec<_>>(), &mut faults);
        }
        faults.extend(lanes.keys().map(|lane| format!("nobody sends as {lane}")));
        faults
    }

    /// Everything that is wrong with the ids of the dead letters.
    pub fn dead_letters(&self, ids: &[String]) -> Vec<String> {
        let mut faults = Vec::new();
        let mut there: BTreeMap<&str, usize> = BTreeMap::new();
        ids.iter().for_each(|id| *there.entry(id).or_default() += 1);
        for lane in self.lanes {
            for (number, bad) in &lane.bad {
                let id = format!("{}:{number}", lane.name);
                let most = if self.dedupe { 1 } else { self.deliveries(&lane.name, *number) };
                match there.remove(id.as_str()).unwrap_or(0) {
                    0 => faults.push(format!("{id} ({bad:?}) is no dead letter")),
                    count if count > most => faults.push(format!("{id} ({bad:?}) is {count} dead letters")),
                    _ => {}
                }
            }
        }
        faults.extend(there.keys().map(|id| format!("{id} is a dead letter and was not planted")));
        faults
    }

    fn deliveries(&self, lane: &str, number: u64) -> usize {
        self.delivered.get(lane).map_or(0, |numbers| numbers.iter().filter(|held| **held == number).count())
    }

    fn judge_lane(&self, lane: &str, there: &[u64], owed: &[u64], faults: &mut Vec<String>) {
        let mut seen = HashSet::new();
        let first: Vec<u64> = there.iter().copied().filter(|number| seen.insert(*number)).collect();
        let missing: BTreeSet<&u64> = owed.iter().filter(|number| !seen.contains(number)).collect();
        if !missing.is_empty() {
            let some: Vec<_> = missing.iter().take(10).collect();
            faults.push(format!("{} of {lane} are missing: {some:?}", missing.len()));
        }
        let owed: HashSet<u64> = owed.iter().copied().collect();
        let strange: Vec<_> = first.iter().filter(|number| !owed.contains(number)).take(10).collect();
        if !strange.is_empty() {
            faults.push(format!("of {lane} there is what was not sent or is bad: {strange:?}"));
        }
        // By the first arrival: that is the order in which the sensor sent them.
        if let Some(pair) = first.windows(2).find(|pair| pair[0] > pair[1]) {
            faults.push(format!("{lane}:{} comes before {lane}:{}", pair[0], pair[1]));
        }
        if self.dedupe && first.len() < there.len() {
            faults.push(format!("{} of {lane} are there again", there.len() - first.len()));
        }
        // What is there must have been delivered as often and in this order: what the agent doubles breaks it.
        let mut delivered = self.delivered.get(lane).map_or(&[][..], Vec::as_slice).iter();
        if let Some(alien) = there.iter().find(|number| !delivered.any(|held| held == *number)) {
            faults.push(format!("{lane}:{alien} is there more often than the broker delivered it, or out of order"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plant::Bad;

    /// The faults in a table with the numbers `there`, of a lane of five whose number 2 is bad, when `delivered` was
    /// delivered.
    fn faults(dedupe: bool, delivered: &[u64], there: &[u64]) -> usize {
        let lanes = [Lane { bad: [(2, Bad::Null)].into(), ..Lane::new("a", 5) }];
        let delivered = [("a".to_owned(), delivered.to_vec())].into();
        let rows: Vec<Row> =
            there.iter().enumerate().map(|(at, number)| row(at as i64, &format!("a:{number}"))).collect();
        Judge { lanes: &lanes, delivered, dedupe }.rows(&rows).len()
    }

    fn row(offset: i64, id: &str) -> Row {
        Row::parse(&format!("0|{offset}|{id}")).expect("a row")
    }

    #[test]
    fn a_table_that_is_right_has_no_faults() {
        assert_eq!(faults(true, &[0, 1, 2, 3, 4], &[0, 1, 3, 4]), 0);
        assert_eq!(faults(true, &[0, 1, 0, 1, 2, 3, 4], &[0, 1, 3, 4]), 0);
        assert_eq!(faults(false, &[0, 1, 0, 1, 2, 3, 4], &[0, 1, 0, 1, 3, 4]), 0);
        assert_eq!(faults(false, &[0, 1, 0, 1, 2, 3, 4], &[0, 1, 1, 3, 4]), 0, "half of it was stored in between");
    }

    #[test]
    fn every_way_to_be_wrong_is_a_fault() {
        for dedupe in [true, false] {
            let all = &[0, 1, 2, 3, 4];
            assert_ne!(faults(dedupe, all, &[0, 1, 3]), 0, "one is missing");
            assert_ne!(faults(dedupe, all, &[0, 1, 2, 3, 4]), 0, "the bad one is there");
            assert_ne!(faults(dedupe, all, &[0, 1, 3, 4, 5]), 0, "one was never sent");
            assert_ne!(faults(dedupe, all, &[0, 1, 1, 3, 4]), 0, "the agent has doubled one");
            assert_ne!(faults(dedupe, &[0, 1, 2, 3, 4, 0, 1], &[0, 3, 1, 4]), 0, "out of order");
        }
        assert_ne!(faults(true, &[0, 0, 1, 2, 3, 4], &[0, 0, 1, 3, 4]), 0, "doubled by the broker, with dedupe");
        assert_ne!(faults(false, &[0, 0, 1, 2, 3, 4], &[0, 1, 0, 3, 4]), 0, "not in the order of any delivery");

        let judge = Judge { lanes: &[], delivered: HashMap::new(), dedupe: false };
        assert_eq!(judge.rows(&[row(1, "b:0")]).len(), 1, "nobody sends it");
        assert_eq!(judge.rows(&[row(1, "nonsense")]).len(), 1, "it is no id");
        let lane = [Lane::new("a", 2)];
        let judge = Judge { lanes: &lane, delivered: [("a".to_owned(), vec![0, 1])].into(), dedupe: true };
        assert_eq!(judge.rows(&[row(2, "a:0"), row(1, "a:1")]).len(), 1, "the offsets fall");
    }

    #[test]
    fn dead_letters_are_the_planted_ones_and_no_others() {
        let lanes = [Lane { bad: [(2, Bad::Null)].into(), ..Lane::new("a", 5) }];
        let faults = |dedupe, ids: &[&str]| {
            let ids: Vec<String> = ids.iter().map(|id| (*id).to_owned()).collect();
            let delivered = [("a".to_owned(), vec![0, 1, 2, 2, 3, 4])].into();
            Judge { lanes: &lanes, delivered, dedupe }.dead_letters(&ids).len()
        };
        assert_eq!((faults(true, &["a:2"]), faults(false, &["a:2", "a:2"])), (0, 0));
        assert_eq!(faults(true, &[]), 1, "it is missing");
        assert_eq!(faults(true, &["a:2", "a:2"]), 1, "it is there twice");
        assert_eq!(faults(false, &["a:2", "a:2", "a:2"]), 1, "more often than it was delivered");
        assert_eq!(faults(true, &["a:2", "a:3"]), 1, "a good one");
    }
}
