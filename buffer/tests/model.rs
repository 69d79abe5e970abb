//! The whole buffer against a model of a few vectors: any sequence of operations, closing and reopening among them.

mod common;

use std::{collections::BTreeMap, path::Path};

use common::*;
use forebay_buffer::{
    Batch, Buffer, Numbering, Offset, Partition, ReadLimits, Refused, Start, StreamLimits, Subscription,
};
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Operation {
    Append { lane: usize, events: usize, with_position: bool },
    Deliver { lane: usize, sink: usize, events: usize, refuse_first: bool },
    Reopen,
    TakeBack,
    PassOver { ahead: i64 },
    GiveUp,
    Crash,
    Pause,
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        5 => (0..3_usize, 0..40_usize, any::<bool>())
            .prop_map(|(lane, events, with_position)| Operation::Append { lane, events, with_position }),
        5 => (0..3_usize, 0..2_usize, 1..60_usize, any::<bool>())
            .prop_map(|(lane, sink, events, refuse_first)| Operation::Deliver { lane, sink, events, refuse_first }),
        1 => Just(Operation::Reopen),
        1 => Just(Operation::TakeBack),
        1 => (-30..30_i64).prop_map(|ahead| Operation::PassOver { ahead }),
        1 => Just(Operation::GiveUp),
        1 => Just(Operation::Crash),
        1 => Just(Operation::Pause),
    ]
}

const SINKS: [&str; 2] = ["a", "b"];
/// How many identities the first and the last lane remember.
const WINDOW: usize = 50;
const SHARED: Numbering = Numbering::Shared { created: 5 };

/// What one lane should hold: bodies by offset, from the first ever on.
#[derive(Debug, Default)]
struct Lane {
    events: BTreeMap<Offset, String>,
    confirmed: [Option<Offset>; 2],
    refused: [usize; 2],
    position: Option<Vec<u8>>,
    positions: Vec<Position>,
    /// What the events were known by, append by append, with the high water after each.
    identities: Vec<(Offset, Vec<u128>)>,
}

#[derive(Debug)]
struct Position {
    high_water: Offset,
    with_events: bool,
    bytes: Vec<u8>,
}

struct World {
    buffer: Buffer,
    lanes: Vec<Lane>,
    appended: usize,
}

fn start(directory: &Path) -> Buffer {
    let buffer = open(directory);
    buffer.declare_stream("s", StreamLimits::default()).expect("a stream");
    for sink in SINKS {
        buffer.declare_sink(sink, &["s"], Start::Oldest, 1 << 20).expect("a sink");
    }
    buffer
}

impl World {
    fn partition(&self, lane: usize) -> Partition {
        let (name, numbering) = [("0", Numbering::Assigned), ("1", Numbering::Assigned), ("hub", SHARED)][lane];
        self.buffer.partition("s", name, numbering).expect("a partition")
    }

    fn place(&self, lane: usize, sink: usize) -> Subscription {
        self.buffer.subscription(SINKS[sink], &self.partition(lane)).expect("a place")
    }

    fn append(&mut self, lane: usize, events: usize, with_position: bool) {
        let partition = self.partition(lane);
        let bodies: Vec<String> = (0..events).map(|n| format!("event {}", self.appended + n)).collect();
        self.appended += events;
        let before = partition.high_water();
        let offsets: Vec<Offset> =
            if lane == 2 { (0..events as i64).map(|n| Offset(before.0 + 1 + 2 * n)).collect() } else { Vec::new() };
        let identities: Vec<u128> = match lane {
            1 => Vec::new(),
            _ => (0..events).map(|n| ((self.appended + n) as u128) << 64).collect(),
        };
        let position = with_position.then(|| self.appended.to_le_bytes().to_vec());
        let batch = Batch {
            events: bodies.iter().map(event).collect(),
            offsets: offsets.clone(),
            refused: Vec::new(),
            position: position.clone(),
            identities: identities.clone(),
            window: if lane == 1 { 0 } else { WINDOW as u32 },
        };
        let appended = partition.append(partition.encode(batch).expect("encodes")).wait().expect("appends");
        let model = &mut self.lanes[lane];
        let offsets = if lane == 2 {
            offsets
        } else {
            (0..events as i64).map(|n| Offset(appended.high_water.0 - events as i64 + 1 + n)).collect()
        };
        assert!(offsets.first().is_none_or(|first| *first > before), "offsets grow");
        model.identities.push((appended.high_water, identities));
        model.events.extend(offsets.into_iter().zip(bodies));
        if let Some(position) = position {
            let (high_water, with_events) = (appended.high_water, events > 0);
            model.positions.push(Position { high_water, with_events, bytes: position.clone() });
            model.position = Some(position);
        }
    }

    fn deliver(&mut self, lane: usize, sink: usize, events: usize, refuse_first: bool) {
        let place = self.place(lane, sink);
        let model = &mut self.lanes[lane];
        let after = model.confirmed[sink].unwrap_or(Offset::BEFORE_ALL);
        let limits = ReadLimits { max_events: events, max_bytes: 2000 };
        let mut reader = self.buffer.reader().expect("a reader");
        let delivery = place.read(&mut reader, after, limits).expect("reads");
        let expected: Vec<(Offset, String)> = model
            .events
            .range(Offset(after.0 + 1)..)
            .take(delivery.events.len())
            .map(|(offset, body)| (*offset, body.clone()))
            .collect();
        let found: Vec<(Offset, String)> =
            delivery.events.iter().map(|(offset, event)| (*offset, body(event))).collect();
        assert_eq!(found, expected);
        let more = model.events.range(Offset(after.0 + 1)..).count();
        assert!(!found.is_empty() || more == 0, "nothing was read, and {more} events are there");
        let (Some((first, event)), Some((last, _))) = (delivery.events.first(), delivery.events.last()) else { return };
        if refuse_first {
            let refused = Refused { event: event.clone(), code: "no".into(), reason: "never".into() };
            for _ in 0..2 {
                place.refuse(vec![(*first, refused.clone())]).wait().expect("records");
            }
            assert_eq!(place.refused(&mut reader, after, *last), Ok(vec![*first]));
            model.refused[sink] += 1;
        }
        place.confirm(place.checkpoint_at(*last).expect("of this file"), None).expect("confirms");
        model.confirmed[sink] = Some(*last);
    }

    /// Nobody will get what is left.
    fn give_up(&mut self) {
        let partition = self.partition(2);
        let high_water = partition.high_water();
        partition.give_up("given up").expect("nothing is in flight");
        assert_eq!(partition.high_water(), high_water);
        let model = &mut self.lanes[2];
        model.events.clear();
        model.confirmed.iter_mut().for_each(|at| *at = (*at).max(Some(high_water)));
    }

    fn take_back(&mut self) {
        let partition = self.partition(2);
        let high_water = partition.high_water();
        let model = &mut self.lanes[2];
        let delivered = model.confirmed.iter().map(|at| at.unwrap_or(Offset::BEFORE_ALL)).min().expect("two sinks");
        let gone = model.events.split_off(&Offset(delivered.0 + 1)).len() as u64;
        assert_eq!(partition.take_back(), Ok(gone));
        assert_eq!(partition.high_water(), delivered);
        model.positions.retain(|position| position.high_water <= delivered);
        model.identities.retain(|(last, _)| *last <= delivered);
        // A position that came without events may be passed over once others follow: reading again is harmless.
        let holds = |position: &Position| position.with_events || delivered == high_water;
        let least = model.positions.iter().rposition(holds);
        let later = model.positions[least.unwrap_or(0)..].iter().map(|position| Some(position.bytes.clone()));
        let right: Vec<_> = least.is_none().then_some(None).into_iter().chain(later).collect();
        model.position = partition.position();
        assert!(right.contains(&model.position), "{:?} is none of {right:?}", model.position);
        // A faster sink stays ahead: what it has comes again upstream, and is not for it.
        for at in &mut model.confirmed {
            *at = at.map(|at| at.max(delivered));
        }
    }

    /// Another owner has delivered everything up to `ahead` of what is here.
    fn pass_over(&mut self, ahead: i64) {
        let partition = self.partition(2);
        let before = partition.high_water();
        let to = Offset((before.0 + ahead).max(0));
        partition.pass_over(to, Some(b"passed over".to_vec())).expect("nothing is in flight");
        let model = &mut self.lanes[2];
        if to <= before {
            assert_eq!(partition.high_water(), before);
            model.confirmed.iter_mut().for_each(|at| *at = (*at).max(Some(to)));
            return;
        }
        assert_eq!(partition.high_water(), to);
        model.events.clear();
        model.positions.push(Position { high_water: to, with_events: true, bytes: b"passed over".to_vec() });
        model.position = Some(b"passed over".to_vec());
        for (sink, at) in model.confirmed.iter_mut().enumerate() {
            *at = (*at).max(Some(to));
            let place = self.buffer.subscription(SINKS[sink], &partition).expect("a place");
            assert_eq!(place.missing_after(before), Ok(Some((before, to))), "a hole is no end of what is here");
        }
    }

    /// What is remembered is the last of what was appended: the window at least, and not much more. Of what was taken back
    /// nothing is, and the window may be short of it.
    fn verify_memory(&self) {
        for (index, model) in self.lanes.iter().enumerate() {
            let found = self.partition(index).identities().expect("reads");
            let all: Vec<u128> = model.identities.iter().flat_map(|(_, ids)| ids).copied().collect();
            assert!(all.ends_with(&found), "lane {index} remembers {found:?} of {all:?}");
            assert!(found.len() < 2 * WINDOW, "lane {index} remembers {}", found.len());
            assert!(index == 2 || found.len() >= all.len().min(WINDOW), "lane {index} remembers {}", found.len());
        }
    }

    fn verify(&self) {
        self.verify_memory();
        (0..self.lanes.len()).for_each(|lane| drop(self.partition(lane)));
        let status = self.buffer.status().expect("status");
        for (index, model) in self.lanes.iter().enumerate() {
            let partition = self.partition(index);
            if let Some((last, _)) = model.events.last_key_value() {
                assert!(partition.high_water() >= *last);
            }
            assert_eq!(partition.position(), model.position, "lane {index}");
            for (sink, name) in SINKS.iter().enumerate() {
                let after = model.confirmed[sink].unwrap_or(Offset::BEFORE_ALL);
                let pending = model.events.range(Offset(after.0 + 1)..).count() as u64;
                let place = status.sinks.iter().find(|status| status.name == *name).expect("declared");
                let place = place.partitions.iter().find(|place| place.partition == partition.name()).expect("there");
                if index != 2 {
                    assert_eq!(place.pending_events, pending, "lane {index}, sink {name}");
                }
            }
        }
        let refused: usize = self.lanes.iter().flat_map(|lane| lane.refused).sum();
        assert_eq!(status.dead_letters, refused as u64);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_of_operations_agrees_with_the_model(operations in prop::collection::vec(operation(), 1..60)) {
        let directory = tempfile::tempdir().expect("a directory");
        let mut world =
            World { buffer: start(directory.path()), lanes: (0..3).map(|_| Lane::default()).collect(), appended: 0 };
        for operation in operations {
            match operation {
                Operation::Append { lane, events, with_position } => world.append(lane, events, with_position),
                Operation::Deliver { lane, sink, events, refuse_first } => {
                    world.deliver(lane, sink, events, refuse_first);
                }
                Operation::TakeBack => world.take_back(),
                Operation::PassOver { ahead } => world.pass_over(ahead),
                Operation::GiveUp => world.give_up(),
                Operation::Pause => std::thread::sleep(std::time::Duration::from_millis(20)),
                Operation::Reopen => {
                    world.buffer.close();
                    world.buffer = start(directory.path());
                    world.verify_memory();
                }
                Operation::Crash => {
                    // What kill -9 leaves: the files as they are, of a process that is gone. Confirmations that were not
                    // written yet may be missing, and the destinations say what they have.
                    let copy = tempfile::tempdir().expect("a directory");
                    for name in ["buffer.db", "buffer.db-wal"] {
                        let from = directory.path().join(name);
                        if from.exists() {
                            std::fs::copy(from, copy.path().join(name)).expect("copies");
                        }
                    }
                    world.buffer.close();
                    for name in ["buffer.db", "buffer.db-wal", "buffer.db-shm"] {
                        let _ = std::fs::remove_file(directory.path().join(name));
                        if copy.path().join(name).exists() {
                            std::fs::copy(copy.path().join(name), directory.path().join(name)).expect("copies");
                        }
                    }
                    world.buffer = start(directory.path());
                    world.verify_memory();
                    for lane in 0..3 {
                        for sink in 0..2 {
                            if let Some(confirmed) = world.lanes[lane].confirmed[sink] {
                                world.place(lane, sink).resume_after(confirmed).expect("all of it is here");
                            }
                        }
                    }
                }
            }
        }
        world.verify();
        prop_assert_eq!(world.buffer.inspector().expect("an inspector").check().expect("checks"), Vec::<String>::new());
        world.buffer.close();
    }
}
