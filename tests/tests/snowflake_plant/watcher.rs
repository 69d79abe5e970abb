//! Watches over the checkpoints while everything else goes wrong.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::sleep,
    time::Duration,
};

use forebay_tests::{
    harness::{Gateway, wait_until},
    servers::Snowflake,
};
use serde_json::Value;

use crate::{
    committed::{Committed, id},
    site::SINK,
};

/// For others to have the processor, too.
const PAUSE: Duration = Duration::from_millis(50);
/// `EX_TEMPFAIL`: the agent is on its way up or down.
const TEMPORARY: i32 = 75;

/// A checkpoint, and where it was found.
struct Checkpoint {
    found: String,
    stream: String,
    partition: String,
    generation: String,
    offset: i64,
}

/// Compares checkpoints with what is committed.
pub(crate) struct Watcher<'a> {
    account: &'a Snowflake,
    gateways: Vec<&'a Gateway>,
    committed: &'a Mutex<Committed>,
    looks: u64,
    seen: u64,
}

impl<'a> Watcher<'a> {
    /// One that looks at the control table and at these gateways, each of which has a buffer.
    pub(crate) fn new(account: &'a Snowflake, gateways: &[&'a Gateway], committed: &'a Mutex<Committed>) -> Self {
        Self { account, gateways: gateways.to_vec(), committed, looks: 0, seen: 0 }
    }

    /// Looks again and again until told to stop, and then once more.
    pub(crate) fn watch(mut self, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            self.look();
            sleep(PAUSE);
        }
        self.look();
        println!("the watcher looked {} times, at {} checkpoints", self.looks, self.seen);
    }

    /// Looks until the events with these ids are committed.
    #[track_caller]
    pub(crate) fn await_events(&mut self, ids: &[String]) {
        wait_until("events to be committed", || {
            self.look();
            let committed = self.committed.lock().expect("no holder of this lock panics");
            ids.iter().all(|wanted| committed.records.iter().rev().any(|record| id(record).as_ref() == Some(wanted)))
        });
    }

    /// Looks until the gateways have confirmed all that is committed.
    #[track_caller]
    pub(crate) fn await_confirmation(&mut self) {
        wait_until("all that is committed to be confirmed", || {
            let confirmed = self.look();
            let committed = self.committed.lock().expect("no holder of this lock panics");
            let is_level =
                |one: &Checkpoint| committed.level(&one.stream, &one.partition, &one.generation) == Some(one.offset);
            confirmed.len() == committed.channels() && confirmed.iter().all(is_level)
        });
    }

    /// Looks once. Returns the gateways' own checkpoints.
    #[track_caller]
    fn look(&mut self) -> Vec<Checkpoint> {
        let mut checkpoints: Vec<_> = self.gateways.iter().flat_map(|gateway| of_gateway(gateway)).collect();
        let local = checkpoints.len();
        checkpoints.extend(in_control_table(self.account));
        (self.looks, self.seen) = (self.looks + 1, self.seen + checkpoints.len() as u64);
        let mut committed = self.committed.lock().expect("no holder of this lock panics");
        // Commits only grow: what is ahead of those that are read later was ahead before.
        committed.follow(self.account);
        let ahead = ahead(&checkpoints, &committed);
        drop(committed);
        assert!(ahead.is_empty(), "checkpoints are ahead of what is committed (Promise 2): {ahead:#?}");
        checkpoints.truncate(local);
        checkpoints
    }
}

fn ahead(checkpoints: &[Checkpoint], committed: &Committed) -> Vec<String> {
    let ahead = checkpoints.iter().filter_map(|checkpoint| {
        let Checkpoint { found, stream, partition, generation, offset } = checkpoint;
        let level = committed.level(stream, partition, generation);
        level
            .is_none_or(|level| level < *offset)
            .then(|| format!("{found}: {stream}/{partition} of {generation} at {offset}, and {level:?} is committed"))
    });
    ahead.collect()
}

/// The rows of the control table.
fn in_control_table(account: &Snowflake) -> Vec<Checkpoint> {
    let rows = account.sql(
        "SELECT EVENTHUB, PARTITION_ID, METADATA:generation::VARCHAR, WATERLEVEL FROM PLANT.PUBLIC.INGESTION_STATUS",
    );
    let text = |row: &[Option<String>], at: usize| row[at].clone().expect("it is not NULL");
    let checkpoint = |row: Vec<Option<String>>| Checkpoint {
        found: "in the control table".to_owned(),
        stream: text(&row, 0),
        partition: text(&row, 1),
        generation: text(&row, 2),
        offset: text(&row, 3).parse().expect("a number"),
    };
    rows.into_iter().map(checkpoint).collect()
}

/// What `forebay status` says, whether the agent runs or not. Nothing while it cannot.
fn of_gateway(gateway: &Gateway) -> Vec<Checkpoint> {
    let done = gateway.run(&["status", "--json"]);
    if done.status.code() == Some(TEMPORARY) {
        return Vec::new();
    }
    assert!(done.status.success(), "status: {}", String::from_utf8_lossy(&done.stderr));
    let report: Value = serde_json::from_slice(&done.stdout).expect("it says JSON");
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let sinks = report["sinks"].as_array().expect("the sinks").iter().filter(|sink| sink["name"] == SINK);
    let lanes = sinks.flat_map(|sink| sink["lanes"].as_array().expect("the lanes"));
    let confirmed = lanes.filter(|lane| !lane["confirmed"].is_null()).map(|lane| Checkpoint {
        found: format!("at {}", gateway.id()),
        stream: text(&lane["stream"]),
        partition: text(&lane["partition"]),
        generation: text(&report["buffer"]["generation"]),
        offset: offset(&text(&lane["confirmed"])),
    });
    confirmed.collect()
}

/// Reads `epoch.counter`, or the hub's number.
fn offset(shown: &str) -> i64 {
    let number = |text: &str| text.parse::<i64>().expect("a number");
    shown.split_once('.').map_or_else(|| number(shown), |(epoch, counter)| (number(epoch) << 40) + number(counter))
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use forebay_tests::servers::CommittedRow;
    use serde_json::json;

    use super::*;
    use crate::{
        committed::Numbers,
        site::{account, gateway, http},
    };

    /// One row of generation `a`, with the number 7.
    fn committed(numbers: Numbers) -> Committed {
        let mut committed = Committed::new(numbers);
        let end = Some("forebay/1/a/b/7/0".to_owned());
        let values = json!({ "EVENT_BODY": "{}", "PARTITION_ID": "0", "SEQUENCE_NUMBER": 7 });
        committed.take_in(CommittedRow {
            commit: 0,
            channel: "FOREBAY_GW_S_0_HASH".into(),
            start: None,
            end,
            row: 0,
            values,
        });
        committed
    }

    fn is_ahead(numbers: Numbers, partition: &str, generation: &str, offset: i64) -> bool {
        let [found, stream, partition, generation] = ["here", "s", partition, generation].map(str::to_owned);
        !ahead(&[Checkpoint { found, stream, partition, generation, offset }], &committed(numbers)).is_empty()
    }

    #[test]
    fn a_checkpoint_is_ahead_of_nothing_of_less_and_of_another_generation() {
        assert!(!is_ahead(Numbers::OfBuffer, "0", "a", 7) && is_ahead(Numbers::OfBuffer, "0", "a", 8));
        assert!(is_ahead(Numbers::OfBuffer, "0", "b", 7) && is_ahead(Numbers::OfBuffer, "1", "a", 7));
        assert!(!is_ahead(Numbers::OfHub, "0", "b", 7) && is_ahead(Numbers::OfHub, "0", "b", 8));
    }

    #[test]
    fn the_watcher_sees_a_row_of_the_control_table_that_is_ahead() {
        let account = account();
        // Which sets the table up.
        gateway(&account, "gw-1", &[("line".to_owned(), http("{http}"))]);
        let committed = Mutex::new(Committed::new(Numbers::OfBuffer));
        let mut watcher = Watcher::new(&account, &[], &committed);
        watcher.look();
        account.sql(
            "INSERT INTO PLANT.PUBLIC.INGESTION_STATUS (EVENTHUB_NAMESPACE, EVENTHUB, TARGET_DB, TARGET_SCHEMA, TARGET_TABLE, \
             PARTITION_ID, WATERLEVEL, METADATA) SELECT 'gw-1', 'line', 'PLANT', 'PUBLIC', 'EVENTS', '0', 7, \
             PARSE_JSON('{\"generation\": \"a\"}')",
        );
        let found = catch_unwind(AssertUnwindSafe(|| drop(watcher.look()))).expect_err("nothing is committed");
        assert!(found.downcast_ref::<String>().is_some_and(|found| found.contains("Promise 2")));
    }
}
