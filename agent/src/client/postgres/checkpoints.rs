//! The table of checkpoints: statements that read and write it. What its rows mean is told in [`Stored`].

use forebay_buffer::Checkpoint;
use tokio_postgres::{SimpleQueryMessage, SimpleQueryRow};

use super::{TableName, identifier::escaped};
use crate::contract::{CheckpointKey, CheckpointMove, ControlRow, KeptBy, Stored};

/// A table of checkpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusTable {
    /// Where it is.
    pub name: TableName,
    /// As whom its rows are read and moved.
    pub kept_by: KeptBy,
}

impl StatusTable {
    /// Creates it, if it is not there.
    pub fn create(&self) -> String {
        format!(
            "CREATE TABLE IF NOT EXISTS {} (\n  ts_inserted timestamptz DEFAULT now(),\n  eventhub_namespace text,\n  \
             eventhub text,\n  target_db text,\n  target_schema text,\n  target_table text,\n  waterlevel bigint,\n  \
             partition_id text,\n  metadata jsonb,\n  PRIMARY KEY ({})\n)",
            self.name,
            CheckpointKey::COLUMNS.join(", ")
        )
    }

    /// Looks for the row of `key`: [`StatusTable::read`] says what was found.
    pub fn select(&self, key: &CheckpointKey) -> String {
        format!("SELECT waterlevel, metadata FROM {} WHERE {}", self.name, matching(key))
    }

    /// Looks for the rows of `keys`: [`StatusTable::read_all`] says what was found.
    pub fn select_all(&self, keys: &[CheckpointKey]) -> String {
        let keys: Vec<_> = keys.iter().map(|key| format!("({})", key.values().map(escaped).join(", "))).collect();
        self.select_where(&format!("({}) IN ({})", CheckpointKey::COLUMNS.join(", "), keys.join(", ")))
    }

    /// Looks for all rows of `namespace`, in the order of their keys: [`StatusTable::read_all`] says what was found.
    pub fn select_namespace(&self, namespace: &str) -> String {
        self.select_where(&format!("{} = {} ORDER BY 2, 3, 4, 5, 6", CheckpointKey::COLUMNS[0], escaped(namespace)))
    }

    fn select_where(&self, condition: &str) -> String {
        format!(
            "SELECT {}, waterlevel, metadata FROM {} WHERE {condition}",
            CheckpointKey::COLUMNS.join(", "),
            self.name
        )
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
            Stored::row(&self.name, key, stored)
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
        let wrong = |column: &str, problem: &str| Stored::wrong(&self.name, key, column, problem);
        let column = |name| row.try_get(name).map_err(|error| wrong(name, &error.to_string()));
        let (waterlevel, metadata) = (column("waterlevel")?, column("metadata")?);
        Stored::read(waterlevel, metadata).map_err(|(column, problem)| wrong(column, &problem))
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

    /// Moves a row from what it must be now: one statement, that changes one row if it has won, and none if not.
    pub fn compare_and_set(&self, wanted: &CheckpointMove) -> String {
        let CheckpointMove { key, from, to, .. } = wanted;
        let waterlevel = to.offset.0;
        let metadata = escaped(&Stored::metadata(wanted, self.kept_by).to_string());
        match from {
            // Named columns: a table that lost its key must fail, and not take two rows for one.
            None => format!(
                "INSERT INTO {} (ts_inserted, {}, waterlevel, metadata) VALUES (now(), {}, {waterlevel}, \
                 {metadata}::jsonb) ON CONFLICT ({}) DO NOTHING",
                self.name,
                CheckpointKey::COLUMNS.join(", "),
                key.values().map(escaped).join(", "),
                CheckpointKey::COLUMNS.join(", "),
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
        let keeper = self.kept_by.word();
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

/// The key in a row that has it first.
fn key_of(row: &SimpleQueryRow) -> CheckpointKey {
    // All of them are part of the primary key, and so not NULL.
    CheckpointKey::of_values(std::array::from_fn(|at| row.get(at).unwrap_or_default().to_owned()))
}

fn matching(key: &CheckpointKey) -> String {
    let equal = |(column, value): (&str, &str)| format!("{column} = {}", escaped(value));
    CheckpointKey::COLUMNS.into_iter().zip(key.values()).map(equal).collect::<Vec<_>>().join(" AND ")
}

#[cfg(test)]
mod tests {
    use forebay_buffer::{Generation, Offset, Tag};

    use super::*;
    use crate::contract::Target;

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
    fn the_compare_and_set_names_all_that_it_compares() {
        let insert =
            table().compare_and_set(&CheckpointMove { key: key(), from: None, to: checkpoint(1), upstream: None });
        assert!(insert.starts_with("INSERT") && insert.contains("'gw''1'") && insert.contains("ON CONFLICT (event"));
        let moved = CheckpointMove { key: key(), from: Some(checkpoint(1)), to: checkpoint(9), upstream: None };
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
