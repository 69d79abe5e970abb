//! What a row of the control table says, whatever database has the table.
//!
//! Operators know the table from the Python pipeline that they come from, and both programs can read each other's rows.
//! Ours have, besides that pipeline's own keys, `generation`, `epoch_tag` and `offset` in their metadata: without them an
//! offset cannot be compared with anything, so a row that lacks them is read, and says so, and is never written over. And
//! they have `kept_by`: a sink and delivery that meet at one row, for the table has two names, do not move each other's. A
//! row that does not say is whoever's comes first.

use std::fmt;

use forebay_buffer::{Checkpoint, Offset};
use serde_json::{Map, Value, json};

use super::{CheckpointKey, CheckpointMove, ControlRow, KeptBy, Upstream};

/// What a row says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The column `waterlevel`: the last confirmed offset, whoever wrote it.
    pub waterlevel: i64,
    /// `sequence_number` of the metadata.
    pub sequence_number: Option<i64>,
    /// `offset_string` of the metadata: where the Python pipeline resumes.
    pub offset_string: Option<String>,
    /// `consumer_group` of the metadata, where it is not empty.
    pub consumer_group: Option<String>,
    /// Who keeps it, if it says so.
    pub kept_by: Option<KeptBy>,
    checkpoint: Option<Checkpoint>,
}

impl Stored {
    /// Where it is upstream, of a row of a hub.
    pub fn upstream(&self) -> Option<Upstream> {
        let consumer_group = self.consumer_group.clone()?;
        Some(Upstream { consumer_group, offset: self.offset_string.clone() })
    }

    /// The checkpoint. `None`: the row is not of this program, and its number cannot be compared with any of ours.
    pub fn checkpoint(&self) -> Option<Checkpoint> {
        self.checkpoint
    }

    /// The metadata of a row that was moved: the Python pipeline's keys, and ours.
    pub fn metadata(moved: &CheckpointMove, keeper: KeptBy) -> Value {
        let CheckpointMove { key, to, upstream, .. } = moved;
        let (consumer_group, offset) = match upstream {
            Some(upstream) => (upstream.consumer_group.as_str(), upstream.offset.clone()),
            None => ("", Some(to.offset.0.to_string())),
        };
        json!({
            "sequence_number": to.offset.0,
            "offset_string": offset,
            "fully_qualified_namespace": key.namespace,
            "eventhub_name": key.hub,
            "consumer_group": consumer_group,
            "generation": to.generation.to_string(),
            "epoch_tag": to.tag.to_string(),
            "offset": to.offset.0,
            "kept_by": keeper.word(),
        })
    }

    /// What the two columns of a row say, or which column is wrong, and how.
    pub fn read(waterlevel: Option<&str>, metadata: Option<&str>) -> Result<Self, (&'static str, String)> {
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
            let text =
                value.as_str().filter(|text| text.len() == digits && text.bytes().all(|c| c.is_ascii_hexdigit()));
            text.ok_or_else(|| garbled(format!("has a {name} that is not {digits} hexadecimal digits: {value}")))
        };
        let checkpoint = if given("generation").is_some() {
            let offset =
                integer("offset").unwrap_or_else(|| Err(garbled("has no offset, and a generation".to_owned())))?;
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
                let keeper = [KeptBy::Sink, KeptBy::Delivery].into_iter().find(|keeper| *value == keeper.word());
                Some(
                    keeper
                        .ok_or_else(|| garbled(format!("has a kept_by that is neither sink nor delivery: {value}")))?,
                )
            }
        };
        let offset_string = match given("offset_string") {
            Some(Value::String(text)) => Some(text.clone()),
            other => other.map(Value::to_string),
        };
        let sequence_number = integer("sequence_number").transpose()?;
        let consumer_group = given("consumer_group").and_then(Value::as_str).filter(|group| !group.is_empty());
        let consumer_group = consumer_group.map(str::to_owned);
        Ok(Self { waterlevel, sequence_number, offset_string, consumer_group, kept_by, checkpoint })
    }

    /// What to say of a row of `table` whose `column` is wrong.
    pub fn wrong(table: &dyn fmt::Display, key: &CheckpointKey, column: &str, problem: &str) -> String {
        format!(
            "the checkpoint of {key} in {table}: {column} {problem}. Put it right, to what the destination really has; or \
             delete the row, and run `forebay buffer adopt` to go on without it (events may arrive twice)"
        )
    }

    /// The row of `key` in `table`, as delivery and operators see it, from what it says.
    pub fn row(table: &dyn fmt::Display, key: CheckpointKey, stored: Result<Self, String>) -> ControlRow {
        let kept_by = stored.as_ref().ok().and_then(|stored| stored.kept_by);
        let upstream = stored.as_ref().ok().and_then(Stored::upstream);
        let checkpoint = stored.and_then(|stored| {
            stored.checkpoint().ok_or_else(|| {
                format!(
                    "the row of {key} in {table} has no generation, so this program has not written it: its waterlevel is \
                     {}, which cannot be compared with any offset here. It is left as it is. If no other program needs it \
                     any more, delete the row, and it is written anew",
                    stored.waterlevel,
                )
            })
        });
        ControlRow { key, kept_by, checkpoint, upstream }
    }
}

#[cfg(test)]
mod tests {
    use forebay_buffer::{Generation, Tag};

    use super::*;
    use crate::contract::Target;

    fn key() -> CheckpointKey {
        let target = Target { database: "plant".into(), schema: "public".into(), table: "telemetry".into() };
        CheckpointKey { namespace: "gw'1".into(), hub: "line1".into(), target, partition: "0".into() }
    }

    fn checkpoint(offset: i64) -> Checkpoint {
        Checkpoint { generation: Generation(0xabc), tag: Tag(0x12), offset: Offset(offset) }
    }

    fn metadata(to: Checkpoint, keeper: KeptBy) -> Value {
        Stored::metadata(&CheckpointMove { key: key(), from: None, to, upstream: None }, keeper)
    }

    #[test]
    fn what_is_written_is_read_again() {
        let to = checkpoint(i64::MAX);
        let found = Stored::read(Some(&to.offset.0.to_string()), Some(&metadata(to, KeptBy::Delivery).to_string()))
            .expect("a row");
        assert_eq!((found.checkpoint(), found.sequence_number), (Some(to), Some(i64::MAX)));
        assert_eq!(found.kept_by, Some(KeptBy::Delivery));
        assert_eq!(found.offset_string.as_deref(), Some(i64::MAX.to_string().as_str()));
    }

    #[test]
    fn rows_of_the_python_pipeline_are_read_and_have_no_checkpoint() {
        let pythons = r#"{"sequence_number": 41, "offset_string": "8589", "consumer_group": "$Default"}"#;
        let found = Stored::read(Some("8589"), Some(pythons)).expect("a row");
        assert_eq!((found.checkpoint(), found.waterlevel, found.sequence_number), (None, 8589, Some(41)));
        for nothing in [None, Some("null"), Some("{}")] {
            let found = Stored::read(Some("7"), nothing).expect("a row");
            assert_eq!((found.checkpoint(), found.waterlevel, found.offset_string), (None, 7, None));
        }
    }

    #[test]
    fn garbage_is_an_error_that_names_the_column() {
        let ours = |change: &dyn Fn(&mut Value)| {
            let mut metadata = metadata(checkpoint(5), KeptBy::Sink);
            change(&mut metadata);
            Stored::read(Some("5"), Some(&metadata.to_string()))
        };
        assert!(ours(&|_| ()).is_ok());
        assert_eq!(ours(&|m| m["generation"] = json!("xyz")).unwrap_err().0, "metadata");
        assert_eq!(ours(&|m| m["generation"] = json!("+0000000000000000000000000000abc")).unwrap_err().0, "metadata");
        assert_eq!(ours(&|m| m["generation"] = json!(7)).unwrap_err().0, "metadata");
        assert_eq!(ours(&|m| m["epoch_tag"] = json!(null)).unwrap_err().0, "metadata");
        assert_eq!(ours(&|m| m["offset"] = json!(6)).unwrap_err().0, "waterlevel");
        assert_eq!(ours(&|m| m["offset"] = json!(5.5)).unwrap_err().0, "metadata");
        assert_eq!(ours(&|m| m["kept_by"] = json!("me")).unwrap_err().0, "metadata");
        assert_eq!(Stored::read(None, None).unwrap_err().0, "waterlevel");
        assert_eq!(Stored::read(Some("1.0"), None).unwrap_err().0, "waterlevel");
        assert_eq!(Stored::read(Some("1"), Some("[1]")).unwrap_err().0, "metadata");
        let shown = Stored::wrong(&"the_table", &key(), "waterlevel", "is NULL");
        for part in ["the_table", "gw'1/line1/0", "waterlevel is NULL", "buffer adopt"] {
            assert!(shown.contains(part), "{shown}");
        }
    }
}
