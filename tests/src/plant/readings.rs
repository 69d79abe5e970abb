//! What the sensors of one lane send, and the table that it goes into.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::random::Random;

/// The destination. It refuses what a plant's table would, and has no unique index, which would hide an event that is
/// delivered twice. `arrived` numbers the rows as they are inserted.
pub(super) const TABLE: &str = r#"
create table readings (
    arrived bigserial,
    partition text not null,
    "offset" bigint not null,
    id text not null,
    celsius double precision not null check (celsius < 1000),
    alarms smallint,
    note text
)"#;

/// What fills its columns.
pub(super) const COLUMNS: &str = "partition = \"partition\", offset = \"offset\", id = \"$.id\", \
                                  celsius = \"$.celsius\", alarms = \"$.alarms\", note = \"$.note\"";

pub(super) const ROWS: &str = r#"select partition, "offset", id from readings order by arrived"#;

/// One sensor's readings: numbered from 0, on a topic of their own. The id of a reading is `lane:number`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lane {
    /// Its name.
    pub name: String,
    /// How many there are.
    pub count: u64,
    /// Those that the table refuses.
    pub bad: BTreeMap<u64, Bad>,
    /// Bytes that are in each beside the reading, and do not compress.
    pub pad: usize,
}

/// What is wrong with a reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bad {
    /// Text in a column of numbers: SQLSTATE 22P02.
    Text,
    /// Nothing in a column that must not be null: 23502.
    Null,
    /// U+0000, which no text of Postgres may hold: 22021 or 22P05.
    Nul,
    /// A number that the column's type does not hold: 22003.
    Large,
    /// A number that only the table's own rule refuses: 23514.
    Ruled,
}

impl Bad {
    /// Every kind.
    pub const ALL: [Self; 5] = [Self::Text, Self::Null, Self::Nul, Self::Large, Self::Ruled];
}

impl Lane {
    /// Good readings and nothing else.
    pub fn new(name: impl Into<String>, count: u64) -> Self {
        Self { name: name.into(), count, bad: BTreeMap::new(), pad: 0 }
    }

    /// The topic that its readings are published to.
    pub fn topic(&self) -> String {
        format!("plant/{}/telemetry", self.name)
    }

    /// The payload of a reading.
    pub fn payload(&self, number: u64) -> Vec<u8> {
        let celsius = 20.0 + (number % 100) as f64 / 10.0;
        let mut reading =
            json!({"id": format!("{}:{number}", self.name), "celsius": celsius, "alarms": 3, "note": "well"});
        if self.pad > 0 {
            let seed = self.name.bytes().fold(number, |seed, byte| seed.wrapping_mul(31).wrapping_add(byte.into()));
            let mut random = Random::new(seed);
            let pad: String = (0..self.pad / 16).map(|_| format!("{:016x}", random.bits())).collect();
            reading["pad"] = pad.into();
        }
        match self.bad.get(&number) {
            None => {}
            Some(Bad::Text) => reading["celsius"] = "warm".into(),
            Some(Bad::Null) => reading["celsius"] = Value::Null,
            Some(Bad::Nul) => reading["note"] = "a\u{0}b".into(),
            Some(Bad::Large) => reading["alarms"] = 40_000.into(),
            Some(Bad::Ruled) => reading["celsius"] = 4_000.into(),
        }
        reading.to_string().into_bytes()
    }
}

/// Takes the id in a payload apart: the lane's name, and the number.
pub(super) fn lane_and_number(payload: &[u8]) -> Option<(String, u64)> {
    let reading: Value = serde_json::from_slice(payload).ok()?;
    split(reading.get("id")?.as_str()?)
}

/// Takes an id apart.
pub(super) fn split(id: &str) -> Option<(String, u64)> {
    let (lane, number) = id.rsplit_once(':')?;
    Some((lane.to_owned(), number.parse().ok()?))
}
