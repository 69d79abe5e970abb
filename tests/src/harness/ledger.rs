//! The ledger of obligations: what was sent, what was answered, and the judgement of what came out.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Mutex,
};

use super::Record;

/// What a producer knows of something it sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Acknowledged: there exactly once.
    Acknowledged,
    /// No answer: all of it once, or none of it.
    Unknown,
    /// Turned away: not there.
    Rejected,
}

/// What a test sent, and what became of it. Ids are `lane:number`; one producer writes a lane, with rising numbers.
#[derive(Debug, Default)]
pub struct Ledger {
    sends: Mutex<Vec<(Vec<String>, Outcome)>>,
}

impl Ledger {
    /// Enters one send: the ids of its events, which are kept or lost together.
    pub fn enter(&self, ids: Vec<String>, outcome: Outcome) {
        self.sends.lock().expect("no holder of this lock panics").push((ids, outcome));
    }

    /// Events acknowledged so far.
    pub fn acknowledged(&self) -> usize {
        let sends = self.sends.lock().expect("no holder of this lock panics");
        sends.iter().filter(|(_, outcome)| *outcome == Outcome::Acknowledged).map(|(ids, _)| ids.len()).sum()
    }

    /// Ids that must be in the output in the end.
    pub fn owed(&self) -> Vec<String> {
        let sends = self.sends.lock().expect("no holder of this lock panics");
        let owed = sends.iter().filter(|(_, outcome)| *outcome == Outcome::Acknowledged);
        owed.flat_map(|(ids, _)| ids.iter().cloned()).collect()
    }

    /// Everything that is wrong with `records`; empty if promises 1, 3 and 4 were kept. `id_of` finds the id in a
    /// record.
    pub fn judge(&self, records: &[Record], id_of: impl Fn(&Record) -> Option<String>) -> Vec<String> {
        let mut faults = Vec::new();
        let mut seen: HashMap<String, usize> = HashMap::new();
        let mut offsets: BTreeMap<(&str, &str), i64> = BTreeMap::new();
        let mut numbers: BTreeMap<(&str, &str, String), u64> = BTreeMap::new();
        for record in records {
            let partition = (record.stream.as_str(), record.partition.as_str());
            if offsets.insert(partition, record.offset).is_some_and(|before| before >= record.offset) {
                faults.push(format!("offset {} of {partition:?} is not above the one before it", record.offset));
            }
            let Some(id) = id_of(record) else {
                faults.push(format!("a record that nobody sent: {record:?}"));
                continue;
            };
            if let Some((lane, number)) = split(&id) {
                let before = numbers.insert((partition.0, partition.1, lane), number);
                if before.is_some_and(|before| before >= number) {
                    faults.push(format!("{id} is out of order in {partition:?}: it follows {before:?}"));
                }
            }
            *seen.entry(id).or_default() += 1;
        }
        self.judge_counts(seen, &mut faults);
        faults
    }

    fn judge_counts(&self, mut seen: HashMap<String, usize>, faults: &mut Vec<String>) {
        for (ids, outcome) in self.sends.lock().expect("no holder of this lock panics").iter() {
            let counts: Vec<usize> = ids.iter().map(|id| seen.remove(id).unwrap_or(0)).collect();
            for (id, count) in ids.iter().zip(&counts) {
                match (outcome, count) {
                    (Outcome::Acknowledged, 0) => faults.push(format!("{id} was acknowledged and is missing")),
                    (Outcome::Rejected, 1..) => faults.push(format!("{id} was turned away and is there")),
                    (_, 2..) => faults.push(format!("{id} is there {count} times")),
                    _ => {}
                }
            }
            if *outcome == Outcome::Unknown && counts.iter().any(|count| *count != counts[0]) {
                faults.push(format!("only a part of the send of {} was kept", ids[0]));
            }
        }
        faults.extend(seen.keys().map(|id| format!("{id} is there and nobody sent it")));
    }
}

fn split(id: &str) -> Option<(String, u64)> {
    let (lane, number) = id.rsplit_once(':')?;
    Some((lane.to_owned(), number.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(offset: i64, id: &str) -> Record {
        let line = serde_json::json!({"stream": "s", "partition": "0", "offset": offset, "time": "", "body": id});
        serde_json::from_value(line).expect("a record")
    }

    fn faults(sent: &[(&[&str], Outcome)], records: &[(i64, &str)]) -> Vec<String> {
        let ledger = Ledger::default();
        for (ids, outcome) in sent {
            ledger.enter(ids.iter().map(|id| (*id).to_owned()).collect(), *outcome);
        }
        let records: Vec<Record> = records.iter().map(|(offset, id)| record(*offset, id)).collect();
        ledger.judge(&records, |record| record.body.as_ref()?.as_str().map(str::to_owned))
    }

    #[test]
    fn a_right_output_has_no_faults() {
        let sent: &[(&[&str], Outcome)] = &[
            (&["a:1", "a:2"], Outcome::Acknowledged),
            (&["a:3", "a:4"], Outcome::Unknown),
            (&["a:5"], Outcome::Unknown),
            (&["a:6"], Outcome::Rejected),
        ];
        assert_eq!(faults(sent, &[(1, "a:1"), (2, "a:2"), (9, "a:3"), (10, "a:4")]), Vec::<String>::new());
    }

    #[test]
    fn every_kind_of_wrong_output_is_a_fault() {
        let acknowledged: &[(&[&str], Outcome)] = &[(&["a:1", "a:2"], Outcome::Acknowledged)];
        assert_eq!(faults(acknowledged, &[(1, "a:1")]), ["a:2 was acknowledged and is missing"]);
        assert_eq!(faults(acknowledged, &[(1, "a:1"), (2, "a:2"), (3, "a:2")]).len(), 2, "twice, and out of order");
        assert_eq!(faults(acknowledged, &[(1, "a:2"), (2, "a:1")]).len(), 1, "out of order");
        assert_eq!(faults(acknowledged, &[(2, "a:1"), (1, "a:2")]).len(), 1, "offsets out of order");
        assert_eq!(faults(acknowledged, &[(1, "a:1"), (2, "a:2"), (3, "b:1")]), ["b:1 is there and nobody sent it"]);
        assert_eq!(faults(&[(&["a:1", "a:2"], Outcome::Unknown)], &[(1, "a:2")]).len(), 1, "half a send");
        assert_eq!(faults(&[(&["a:1"], Outcome::Rejected)], &[(1, "a:1")]).len(), 1, "turned away and there");
    }
}
