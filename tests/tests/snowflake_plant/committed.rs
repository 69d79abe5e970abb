//! What the emulator has committed: the rows, and how far each channel has come.

use std::collections::BTreeMap;

use forebay_tests::{
    harness::Record,
    servers::{CommittedRow, Snowflake},
};
use serde_json::Value;

use crate::site::TABLE;

/// Whose numbers events have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Numbers {
    /// The buffer's own: they mean something within one generation.
    OfBuffer,
    /// The hub's: they are the same to all agents.
    OfHub,
}

/// See the module. It is followed, so that each row is looked at once.
#[derive(Debug)]
pub(crate) struct Committed {
    numbers: Numbers,
    /// The request to go on with.
    next: usize,
    /// All rows, in the order in which they were committed.
    pub(crate) records: Vec<Record>,
    /// Each channel's writers, one after the other: a generation, and the last number that it has committed.
    writers: BTreeMap<String, Vec<(String, i64)>>,
}

impl Committed {
    /// Nothing yet.
    pub(crate) fn new(numbers: Numbers) -> Self {
        Self { numbers, next: 0, records: Vec::new(), writers: BTreeMap::new() }
    }

    /// Looks at what has come since.
    pub(crate) fn follow(&mut self, account: &Snowflake) {
        account.rows(TABLE, self.next).into_iter().for_each(|row| self.take_in(row));
    }

    pub(crate) fn take_in(&mut self, row: CommittedRow) {
        self.next = row.commit + 1;
        let end = row.end.as_deref().expect("it came with a token");
        // forebay/1/GENERATION/TAG/OFFSET/ERRORS
        let parts: Vec<&str> = end.split('/').collect();
        let ["forebay", "1", generation, _, last, _] = parts[..] else { panic!("{end:?} is no token of the agent's") };
        let last: i64 = last.parse().expect("an offset is a number");
        let offset = row.values["SEQUENCE_NUMBER"].as_i64().expect("a row has its number");
        assert!(offset <= last, "the token {end:?} does not come to the row {offset}");

        let writers = self.writers.entry(row.channel.clone()).or_default();
        if writers.last().is_none_or(|(writer, _)| writer != generation) {
            let returns = writers.iter().any(|(writer, _)| writer == generation);
            assert!(
                !(returns && self.numbers == Numbers::OfBuffer),
                "rows of {generation} came into {} after it was another's",
                row.channel
            );
            writers.push((generation.to_owned(), last));
        }
        writers.last_mut().expect("there is one").1 = last;
        let record = self.record(&row, generation, offset);
        self.records.push(record);
    }

    fn record(&self, row: &CommittedRow, generation: &str, offset: i64) -> Record {
        let body = row.values["EVENT_BODY"].as_str().and_then(|body| serde_json::from_str::<Value>(body).ok());
        let stream = match self.numbers {
            // So that each is judged as a stream of its own: numbers begin again.
            Numbers::OfBuffer => format!("{} {generation}", row.channel),
            Numbers::OfHub => row.channel.clone(),
        };
        let partition = row.values["PARTITION_ID"].as_str().expect("a row has its partition").to_owned();
        let (time, time_quality, key, headers) = (String::new(), None, None, None);
        Record { stream, partition, offset, time, time_quality, key, headers, body }
    }

    /// How far the channel of this partition is committed, by the numbers of `generation`.
    pub(crate) fn level(&self, stream: &str, partition: &str, generation: &str) -> Option<i64> {
        let end = format!("_{stream}_{partition}").to_ascii_uppercase();
        let writers = self.writers.iter().filter(|(channel, _)| {
            // FOREBAY_WHOSE_STREAM_PARTITION_HASH
            channel.rsplit_once('_').is_some_and(|(name, _)| name.ends_with(&end))
        });
        let known = |writer: &&(String, i64)| self.numbers == Numbers::OfHub || writer.0 == generation;
        writers.flat_map(|(_, writers)| writers.iter().filter(known)).map(|(_, last)| *last).max()
    }

    /// How many channels have come to anything.
    pub(crate) fn channels(&self) -> usize {
        self.writers.len()
    }

    /// How often a channel went from one generation to another.
    pub(crate) fn handovers(&self) -> usize {
        self.writers.values().map(|writers| writers.len() - 1).sum()
    }
}

/// The id of what a record's event was about.
pub(crate) fn id(record: &Record) -> Option<String> {
    Some(record.body.as_ref()?.get("id")?.as_str()?.to_owned())
}
