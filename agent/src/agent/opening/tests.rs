use forebay_buffer::{Batch, Event, Numbering, Timestamp};
use tempfile::TempDir;

use super::*;
use crate::{agent::Kind, clock::ManualClock, config::Environment};

const CONFIG: &str = "[agent]\ndata_dir = \"data\"\n[sources.a]\ntype = \"host\"\n\
                      [sinks.one]\ntype = \"stdout\"\ninputs = [\"a\"]\n";

/// A data directory, and what opens a buffer in it.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary directory"))
    }

    fn config(&self, text: &str) -> Config {
        let loaded = Config::parse(text.as_bytes(), self.0.path(), &Environment::made_up([]));
        loaded.expect("the test's config is right").config
    }

    fn open(&self, text: &str) -> Result<Buffer, AgentError> {
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(Timestamp(1_800_000_000_000_000)));
        open(&self.config(text), &clock, false)
    }

    /// Opens it, leaves one event in the stream, and closes it.
    fn leave_event(&self, text: &str, stream: &str) {
        let buffer = self.open(text).expect("the config fits");
        let partition = buffer.partition(stream, "0", Numbering::Assigned).expect("the stream is declared");
        let batch = Batch { events: vec![Event::new(Timestamp(1), "left")], ..Batch::default() };
        let encoded = partition.encode(batch).expect("one event is a batch");
        partition.append(encoded).wait().expect("there is room");
        buffer.close();
    }

    /// The streams and sinks that are there when it was opened with `text`.
    fn names(&self, text: &str) -> (Vec<String>, Vec<String>) {
        let buffer = self.open(text).expect("the config fits");
        let status = buffer.status().expect("the buffer is open");
        buffer.close();
        (
            status.streams.into_iter().map(|stream| stream.name).collect(),
            status.sinks.into_iter().map(|sink| sink.name).collect(),
        )
    }
}

fn renamed() -> String {
    CONFIG.replace("[sources.a]\n", "[sources.b]\nrenamed_from = \"a\"\n").replace("[\"a\"]", "[\"b\"]")
}

#[test]
fn a_stream_that_is_renamed_keeps_its_events_and_the_line_may_stay() {
    let place = Place::new();
    place.leave_event(CONFIG, "a");
    for _ in 0..2 {
        assert_eq!(place.names(&renamed()), (vec!["b".to_owned()], vec!["one".to_owned()]));
    }
    let buffer = place.open(&renamed()).expect("the config fits");
    assert_eq!(buffer.status().expect("the buffer is open").streams[0].events, 1);
}

/// Promise 6.
#[test]
fn a_config_that_would_strand_events_is_refused_and_changes_nothing() {
    let place = Place::new();
    place.leave_event(CONFIG, "a");
    let other_sink = renamed().replace("[sinks.one]", "[sinks.two]");
    let error = place.open(&other_sink).err().expect("the sink one has an event to get");
    assert_eq!(error.kind, Kind::Config);
    assert!(error.message.contains("[sinks.one]"), "{error}");
    assert_eq!(place.names(CONFIG), (vec!["a".to_owned()], vec!["one".to_owned()]), "the stream has its old name");
}

#[test]
fn a_sink_that_has_nothing_left_to_get_is_forgotten_without_a_word() {
    let place = Place::new();
    place.open(CONFIG).expect("the config fits").close();
    let other_sink = CONFIG.replace("[sinks.one]", "[sinks.two]");
    assert_eq!(place.names(&other_sink).1, ["two"]);
}

#[test]
fn a_name_that_is_taken_is_no_new_name() {
    let place = Place::new();
    let both =
        CONFIG.replace("[sinks.one]", "[sources.b]\ntype = \"host\"\n[sinks.one]").replace("[\"a\"]", "[\"a\", \"b\"]");
    place.open(&both).expect("the config fits").close();
    let error = place.open(&renamed()).err().expect("b is there already");
    assert!(error.message.contains("renamed_from"), "{error}");
    assert_eq!(place.names(&both).0, ["a", "b"]);
}

#[test]
fn a_second_opening_is_told_that_the_buffer_is_in_use() {
    let place = Place::new();
    let _first = place.open(CONFIG).expect("the config fits");
    let error = place.open(CONFIG).err().expect("the first one has it");
    assert_eq!(error.kind, Kind::Temporary);
    assert!(error.message.contains(&std::process::id().to_string()), "{error}");
}
