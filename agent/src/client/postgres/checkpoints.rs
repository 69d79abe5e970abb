//! The table of checkpoints, as operators know it from the Python pipeline that they come from: statements that read
//! and write it, and what its rows mean.
//!
//! Both programs can read each other's rows. Ours have, besides that pipeline's own keys, `generation`, `epoch_tag` and
//! `offset` in their metadata: without them an offset cannot be compared with anything, so a row that lacks them is
//! read, and says so, and is never written over. And they have `kept_by`: a sink and delivery that meet at one row, for
//! the table has two names, do not move each other's. A row that does not say is whoever's comes first.

use forebay_buffer::{Checkpoint, Offset};
use serde_json::{Map, Value, json};
use tokio_postgres::{SimpleQueryMessage, SimpleQueryRow};

use super::{TableName, identifier::escaped};
use crate::contract::{CheckpointKey, CheckpointMove, ControlRow, KeptBy, Target};

/// A table of checkpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusTable {
    /// Where it is.
    pub name: TableName,
    /// As whom its rows are read and moved.
    pub kept_by: KeptBy,
}

/// What a row says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The column `waterlevel`: the last confirmed offset, whoever wrote it.
    pub waterlevel: i64,
    /// `sequence_number` of the metadata.
    pub sequence_number: Option<i64>,
    /// `offset_string` of the metadata: where the Python pipeline resumes.
    pub offset_string: Option<String>,
    /// Who keeps it, if it says so.
    pub kept_by: Option<KeptBy>,
    checkpoint: Option<Checkpoint>,
}

impl Stored {
    /// The checkpoint. `None`: the row is not of this program, and its number cannot be compared with any of ours.
    pub fn checkpoint(&self) -> Option<Checkpoint> {
        self.checkpoint
    }
}

/// The primary key.
pub const KEY: [&str; 6] =
    ["eventhub_namespace", "eventhub", "target_db", "target_schema", "target_table", "partition_id"];

impl StatusTable {
    /// Creates it, if it is not there.
    pub fn create(&self) -> String {
        format!(
            "CREATE TABLE IF NOT EXISTS {} (\n  ts_inserted timestamptz DEFAULT now(),\n  eventhub_namespace text,\n  \
             eventhub text,\n  target_db text,\n  target_schema text,\n  target_table text,\n  waterlevel bigint,\n  \
             partition_id text,\n  metadata jsonb,\n  PRIMARY KEY ({})\n)",
            self.name,
            KEY.join(", ")
        )
    }

    /// Looks for the row of `key`: [`StatusTable::read`] says what was found.
    pub fn select(&self, key: &CheckpointKey) -> String {
        format!("SELECT waterlevel, metadata FROM {} WHERE {}", self.name, matching(key))
    }

    /// Looks for the rows of `keys`: [`StatusTable::read_all`] says what was found.
    pub fn select_all(&self, keys: &[CheckpointKey]) -> String {
        let keys: Vec<_> = keys.iter().map(|key| format!("({})", values(key).map(escaped).join(", "))).collect();
        self.select_where(&format!("({}) IN ({})", KEY.join(", "), keys.join(", ")))
    }

    /// Looks for all rows of `namespace`, in the order of their keys: [`StatusTable::read_all`] says what was found.
    pub fn select_namespace(&self, namespace: &str) -> String {
        self.select_where(&format!("{} = {} ORDER BY 2, 3, 4, 5, 6", KEY[0], escaped(namespace)))
    }

    fn select_where(&self, condition: &str) -> String {
        format!("SELECT {}, waterlevel, metadata FROM {} WHERE {condition}", KEY.join(", "), self.name)
    }

    /// The rows in an answer, whoever keeps them.
    pub fn read_all(&self, answer: &[SimpleQueryMessage]) -> Vec<ControlRow> {
        let rows = answer.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        rows.map(|row| {
            let key = key_of(row);
            let stored = self.stored(&key, row);
            let kept_by = stored.as_ref().ok().and_then(|stored| stored.kept_by);
            let checkpoint = stored.and_then(|stored| {
                stored.checkpoint().ok_or_else(|| {
                    format!(
                        "the row of {key} in {} has no generation, so this program has not written it: its waterlevel is \
                         {}, which cannot be compared with any offset here. It is left as it is. If no other program \
                         needs it any more, delete the row, and it is written anew",
                        self.name, stored.waterlevel,
                    )
                })
            });
            ControlRow { key, kept_by, checkpoint }
        })
        .collect()
    }

    /// What the answer to [`StatusTable::select`] says. `None`: there is no row. The error names the table, the row and
    /// the column, and says what to do: also where another keeps the row.
    pub fn read(&self, key: &CheckpointKey, answer: &[SimpleQueryMessage]) -> Result<Option<Stored>, String> {
        let row = answer.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        let Some(row) = row else { return Ok(None) };
        let stored = self.stored(key, row)?;
        if stored.kept_by.is_some_and(|keeper| keeper != self.kept_by) {
            return Err(self.kept_otherwise(key));
        }
        Ok(Some(stored))
    }

    fn stored(&self, key: &CheckpointKey, row: &SimpleQueryRow) -> Result<Stored, String> {
        let column = |name| row.try_get(name).map_err(|error| self.wrong(key, name, &error.to_string()));
        let (waterlevel, metadata) = (column("waterlevel")?, column("metadata")?);
        stored(waterlevel, metadata).map_err(|(column, problem)| self.wrong(key, column, &problem))
    }

    fn kept_otherwise(&self, key: &CheckpointKey) -> String {
        let name = &self.name;
        match self.kept_by {
            KeptBy::Sink => format!(
                "the row of {key} in {name} was written by delivery (its kept_by says so), for a sink that kept its own \
                 elsewhere: it may be behind what is in this database, and the sink will not go on from it. Delete the \
                 row. If this is the database that the sink has had all along, carry its own row over with `forebay \
                 setup --copy-from` and the former config"
            ),
            KeptBy::Delivery => format!("the row of {key} in {name} is kept by the sink (its kept_by says so)"),
        }
    }

    fn wrong(&self, key: &CheckpointKey, column: &str, problem: &str) -> String {
        format!(
            "the checkpoint of {key} in {}: {column} {problem}. Put it right, to what the destination really has; or \
             delete the row, and run `forebay buffer adopt` to go on without it (events may arrive twice)",
            self.name
        )
    }

    /// Moves a row from what it must be now: one statement, that changes one row if it has won, and none if not.
    pub fn compare_and_set(&self, wanted: &CheckpointMove) -> String {
        let CheckpointMove { key, from, to } = wanted;
        let waterlevel = to.offset.0;
        let metadata = escaped(&metadata(key, *to, self.kept_by).to_string());
        match from {
            // Named columns: a table that lost its key must fail, and not take two rows for one.
            None => format!(
                "INSERT INTO {} (ts_inserted, {}, waterlevel, metadata) VALUES (now(), {}, {waterlevel}, \
                 {metadata}::jsonb) ON CONFLICT ({}) DO NOTHING",
                self.name,
                KEY.join(", "),
                values(key).map(escaped).join(", "),
                KEY.join(", "),
            ),
            Some(from) => format!(
                "UPDATE {} SET ts_inserted = now(), waterlevel = {waterlevel}, metadata = {metadata}::jsonb WHERE {}",
                self.name,
                self.holding(key, *from),
            ),
        }
    }

    /// Deletes a row that must be at `from` now: one row if it was.
    pub fn delete(&self, key: &CheckpointKey, from: Checkpoint) -> String {
        format!("DELETE FROM {} WHERE {}", self.name, self.holding(key, from))
    }

    /// The condition that the row is at `from`, and nobody else's.
    fn holding(&self, key: &CheckpointKey, from: Checkpoint) -> String {
        let keeper = word(self.kept_by);
        format!(
            "{} AND waterlevel = {} AND metadata->>'generation' = '{}' AND metadata->>'epoch_tag' = '{}' AND \
             COALESCE(metadata->>'kept_by', '{keeper}') = '{keeper}'",
            matching(key),
            from.offset.0,
            from.generation,
            from.tag,
        )
    }
}

/// The value of `kept_by`.
fn word(keeper: KeptBy) -> &'static str {
    match keeper {
        KeptBy::Sink => "sink",
        KeptBy::Delivery => "delivery",
    }
}

/// The key in a row that has it first.
fn key_of(row: &SimpleQueryRow) -> CheckpointKey {
    // All of them are part of the primary key, and so not NULL.
    let text = |at| row.get(at).unwrap_or_default().to_owned();
    CheckpointKey {
        namespace: text(0),
        hub: text(1),
        target: Target { database: text(2), schema: text(3), table: text(4) },
        partition: text(5),
    }
}

fn values(key: &CheckpointKey) -> [&str; 6] {
    let target = &key.target;
    [&key.namespace, &key.hub, &target.database, &target.schema, &target.table, &key.partition].map(String::as_str)
}

fn matching(key: &CheckpointKey) -> String {
    let equal = |(column, value): (&str, &str)| format!("{column} = {}", escaped(value));
    KEY.into_iter().zip(values(key)).map(equal).collect::<Vec<_>>().join(" AND ")
}

/// The Python pipeline's keys, and ours.
fn metadata(key: &CheckpointKey, to: Checkpoint, keeper: KeptBy) -> Value {
    json!({
        "sequence_number": to.offset.0,
        "offset_string": to.offset.0.to_string(),
        "fully_qualified_namespace": key.namespace,
        "eventhub_name": key.hub,
        "consumer_group": "",
        "generation": to.generation.to_string(),
        "epoch_tag": to.tag.to_string(),
        "offset": to.offset.0,
        "kept_by": word(keeper),
    })
}

/// What the two columns of a row say, or which column is wrong, and how.
fn stored(waterlevel: Option<&str>, metadata: Option<&str>) -> Result<Stored, (&'static str, String)> {
    let text = waterlevel.ok_or(("waterlevel", "is NULL".to_owned()))?;
    let waterlevel: i64 = text.parse().map_err(|_| ("waterlevel", format!("is {text:?} and no integer")))?;
    let garbled = |problem: String| ("metadata", problem);
    let metadata: Map<String, Value> = match metadata {
        None => Map::new(),
        Some(text) => serde_json::from_str::<Option<_>>(text)
            .map_err(|error| garbled(format!("is no JSON object ({error})")))?
            .unwrap_or_default(),
    };
    let given = |name: &str| metadata.get(name).filter(|value| !value.is_null());
    let integer = |name: &str| {
        given(name).map(|value| {
            let number = value.as_i64().or_else(|| value.as_str()?.parse().ok());
            number.ok_or_else(|| garbled(format!("has a {name} that is no integer: {value}")))
        })
    };
    let hexadecimal = |name: &str, digits: usize| {
        let value = given(name).ok_or_else(|| garbled(format!("has no {name}, and a generation")))?;
        let text = value.as_str().filter(|text| text.len() == digits && text.bytes().all(|c| c.is_ascii_hexdigit()));
        text.ok_or_else(|| garbled(format!("has a {name} that is not {digits} hexadecimal digits: {value}")))
    };
    let checkpoint = if given("generation").is_some() {
        let offset = integer("offset").unwrap_or_else(|| Err(garbled("has no offset, and a generation".to_owned())))?;
        if offset != waterlevel {
            return Err(("waterlevel", format!("is {waterlevel}, and the offset in metadata is {offset}")));
        }
        Some(Checkpoint {
            generation: hexadecimal("generation", 32)?.parse().expect("32 hexadecimal digits fit"),
            tag: hexadecimal("epoch_tag", 16)?.parse().expect("16 hexadecimal digits fit"),
            offset: Offset(offset),
        })
    } else {
        None
    };
    let kept_by = match given("kept_by") {
        None => None,
        Some(value) => {
            let keeper = [KeptBy::Sink, KeptBy::Delivery].into_iter().find(|keeper| *value == word(*keeper));
            Some(keeper.ok_or_else(|| garbled(format!("has a kept_by that is neither sink nor delivery: {value}")))?)
        }
    };
    let offset_string = match given("offset_string") {
        Some(Value::String(text)) => Some(text.clone()),
        other => other.map(Value::to_string),
    };
    let sequence_number = integer("sequence_number").transpose()?;
    Ok(Stored { waterlevel, sequence_number, offset_string, kept_by, checkpoint })
}

#[cfg(test)]
mod tests {
    use forebay_buffer::{Generation, Tag};

    use super::*;

    fn key() -> CheckpointKey {
        let target = Target { database: "plant".into(), schema: "public".into(), table: "telemetry".into() };
        CheckpointKey { namespace: "gw'1".into(), hub: "line1".into(), target, partition: "0".into() }
    }

    fn checkpoint(offset: i64) -> Checkpoint {
        Checkpoint { generation: Generation(0xabc), tag: Tag(0x12), offset: Offset(offset) }
    }

    fn table() -> StatusTable {
        StatusTable { name: TableName::parse("ingestion_status").expect("a name"), kept_by: KeptBy::Sink }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let to = checkpoint(i64::MAX);
        let found = stored(Some(&to.offset.0.to_string()), Some(&metadata(&key(), to, KeptBy::Delivery).to_string()))
            .expect("a row");
        assert_eq!((found.checkpoint(), found.sequence_number), (Some(to), Some(i64::MAX)));
        assert_eq!(found.kept_by, Some(KeptBy::Delivery));
        assert_eq!(found.offset_string.as_deref(), Some(i64::MAX.to_string().as_str()));
    }

    #[test]
    fn rows_of_the_python_pipeline_are_read_and_have_no_checkpoint() {
        let pythons = r#"{"sequence_number": 41, "offset_string": "8589", "consumer_group": "$Default"}"#;
        let found = stored(Some("8589"), Some(pythons)).expect("a row");
        assert_eq!((found.checkpoint(), found.waterlevel, found.sequence_number), (None, 8589, Some(41)));
        for nothing in [None, Some("null"), Some("{}")] {
            let found = stored(Some("7"), nothing).expect("a row");
            assert_eq!((found.checkpoint(), found.waterlevel, found.offset_string), (None, 7, None));
        }
    }

    #[test]
    fn garbage_is_an_error_that_names_the_column() {
        let ours = |change: &dyn Fn(&mut Value)| {
            let mut metadata = metadata(&key(), checkpoint(5), KeptBy::Sink);
            change(&mut metadata);
            stored(Some("5"), Some(&metadata.to_string()))
        };
        assert!(ours(&|_| ()).is_ok());
        assert_eq!(ours(&|m| m["generation"] = json!("xyz")).unwrap_err().0, "metadata");
        assert_eq!(ours(&|m| m["generation"] = json!("+0000000000000000000000000000abc")).unwrap_err().0, "metadata");
        assert_eq!(ours(&|m| m["generation"] = json!(7)).unwrap_err().0, "metadata");
        assert_eq!(ours(&|m| m["epoch_tag"] = json!(null)).unwrap_err().0, "metadata");
        assert_eq!(ours(&|m| m["offset"] = json!(6)).unwrap_err().0, "waterlevel");
        assert_eq!(ours(&|m| m["offset"] = json!(5.5)).unwrap_err().0, "metadata");
        assert_eq!(ours(&|m| m["kept_by"] = json!("me")).unwrap_err().0, "metadata");
        assert_eq!(stored(None, None).unwrap_err().0, "waterlevel");
        assert_eq!(stored(Some("1.0"), None).unwrap_err().0, "waterlevel");
        assert_eq!(stored(Some("1"), Some("[1]")).unwrap_err().0, "metadata");
        let shown = table().wrong(&key(), "waterlevel", "is NULL");
        for part in ["\"public\".\"ingestion_status\"", "gw'1/line1/0", "waterlevel is NULL", "buffer adopt"] {
            assert!(shown.contains(part), "{shown}");
        }
    }

    #[test]
    fn the_compare_and_set_names_all_that_it_compares() {
        let insert = table().compare_and_set(&CheckpointMove { key: key(), from: None, to: checkpoint(1) });
        assert!(insert.starts_with("INSERT") && insert.contains("'gw''1'") && insert.contains("ON CONFLICT (event"));
        let moved = CheckpointMove { key: key(), from: Some(checkpoint(1)), to: checkpoint(9) };
        let update = table().compare_and_set(&moved);
        let (set, compared) = update.split_once(" WHERE ").expect("a condition");
        assert!(set.contains("waterlevel = 9") && set.contains("ts_inserted = now()"), "{set}");
        for part in [
            "partition_id = '0'",
            "waterlevel = 1 ",
            "= '00000000000000000000000000000abc'",
            "= '0000000000000012'",
            "COALESCE(metadata->>'kept_by', 'sink') = 'sink'",
        ] {
            assert!(compared.contains(part), "{compared}");
        }
        assert!(!update.contains(';'), "it is one statement");
    }
}
