//! The table of checkpoints: statements that read and write it. What its rows mean is told in [`Stored`].

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    client::snowflake::{ResultSet, TableName, Value},
    contract::{CheckpointKey, CheckpointMove, ControlRow, KeptBy, Stored},
};

/// What delivery is called in rows.
const DELIVERY: &str = KeptBy::Delivery.word();

/// A table of checkpoints.
#[derive(Debug, Clone, Copy)]
pub struct StatusTable<'t>(pub &'t TableName);

impl StatusTable<'_> {
    /// Creates it, if it is not there.
    pub fn create(&self, is_hybrid: bool) -> String {
        let keys = CheckpointKey::COLUMNS.map(|column| format!("  {} VARCHAR(500) NOT NULL,\n", column.to_uppercase()));
        let (kind, key) = match is_hybrid {
            true => ("HYBRID TABLE", format!(",\n  PRIMARY KEY ({})", key())),
            false => ("TABLE", String::new()),
        };
        format!(
            "CREATE {kind} IF NOT EXISTS {} (\n  TS_INSERTED TIMESTAMP_LTZ DEFAULT CURRENT_TIMESTAMP(),\n{}  WATERLEVEL \
             NUMBER(38,0),\n  METADATA VARIANT{key}\n)",
            self.0,
            keys.concat()
        )
    }

    /// What to say where it is to be a hybrid table, and is there as a standard one.
    pub fn is_no_hybrid(&self) -> String {
        format!(
            "{table} is a standard table, and hybrid_table asks for a hybrid one. Take hybrid_table out of [control], for \
             either kind serves; or stop all agents, rename the table (ALTER TABLE {table} RENAME TO ...), run `forebay \
             setup`, which creates a hybrid one, and put the rows into that (INSERT INTO {table} SELECT ...)",
            table = self.0
        )
    }

    /// Looks for rows of `keys`, and finds some of other partitions too.
    pub(super) fn select(&self, keys: &[CheckpointKey]) -> (String, Vec<Value>) {
        let lot = |key| {
            let [namespace, hub, database, schema, table, _] = CheckpointKey::values(key);
            [namespace, hub, database, schema, table]
        };
        let lots: BTreeSet<_> = keys.iter().map(lot).collect();
        let columns = CheckpointKey::COLUMNS.map(str::to_uppercase);
        let one = columns[..5].iter().map(|column| format!("{column} = ?")).collect::<Vec<_>>().join(" AND ");
        let condition = vec![format!("({one})"); lots.len()].join(" OR ");
        (self.select_where(&condition), lots.iter().flatten().map(|text| Value::Text((*text).to_owned())).collect())
    }

    /// Looks for all rows of `namespace`, in the order of their keys.
    pub(super) fn select_namespace(&self, namespace: &str) -> (String, Vec<Value>) {
        let condition = "EVENTHUB_NAMESPACE = ? ORDER BY 2, 3, 4, 5, 6";
        (self.select_where(condition), vec![Value::Text(namespace.to_owned())])
    }

    fn select_where(&self, condition: &str) -> String {
        format!("SELECT {}, WATERLEVEL, TO_JSON(METADATA) FROM {} WHERE {condition}", key(), self.0)
    }

    /// The rows in an answer.
    pub(super) fn read(&self, answer: &ResultSet) -> Vec<ControlRow> {
        let mut found: BTreeMap<CheckpointKey, ControlRow> = BTreeMap::new();
        for row in &answer.rows {
            let column = |at: usize| row.get(at).and_then(Option::as_deref);
            let key = CheckpointKey::of_values(std::array::from_fn(|at| column(at).unwrap_or_default().to_owned()));
            let wrong = |column: &str, problem: &str| Stored::wrong(self.0, &key, column, problem);
            let stored = Stored::read(column(6), column(7)).map_err(|(column, problem)| wrong(column, &problem));
            let read = Stored::row(self.0, key.clone(), stored);
            // A standard table does not keep its key.
            let twice = || Err(wrong("the key", "is in two rows"));
            found.entry(key.clone()).and_modify(|row| row.checkpoint = twice()).or_insert(read);
        }
        found.into_values().collect()
    }

    /// Moves rows, each from what it must be now. It changes as many rows as have won.
    pub(super) fn merge(&self, moves: &[CheckpointMove]) -> (String, Vec<Value>) {
        let columns = CheckpointKey::COLUMNS.map(str::to_uppercase);
        let sources = columns.iter().map(|column| format!("? AS {column}")).collect::<Vec<_>>().join(", ");
        let source = format!(
            "SELECT {sources}, CAST(? AS NUMBER(38,0)) AS FROM_LEVEL, CAST(? AS VARCHAR) AS FROM_GENERATION, CAST(? AS VARCHAR) AS FROM_TAG, \
             CAST(? AS NUMBER(38,0)) AS TO_LEVEL, CAST(? AS VARCHAR) AS TO_METADATA"
        );
        let same = columns.iter().map(|column| format!("t.{column} = s.{column}")).collect::<Vec<_>>().join(" AND ");
        let values = columns.iter().map(|column| format!("s.{column}")).collect::<Vec<_>>().join(", ");
        let text = format!(
            "MERGE INTO {} t USING ({}) s ON {same} WHEN MATCHED AND t.WATERLEVEL = s.FROM_LEVEL AND \
             t.METADATA:generation::VARCHAR = s.FROM_GENERATION AND t.METADATA:epoch_tag::VARCHAR = s.FROM_TAG AND \
             COALESCE(t.METADATA:kept_by::VARCHAR, '{DELIVERY}') = '{DELIVERY}' THEN UPDATE SET TS_INSERTED = \
             CURRENT_TIMESTAMP(), WATERLEVEL = s.TO_LEVEL, METADATA = PARSE_JSON(s.TO_METADATA) WHEN NOT MATCHED AND \
             s.FROM_LEVEL IS NULL THEN INSERT (TS_INSERTED, {}, WATERLEVEL, METADATA) VALUES (CURRENT_TIMESTAMP(), \
             {values}, s.TO_LEVEL, PARSE_JSON(s.TO_METADATA))",
            self.0,
            vec![source; moves.len()].join(" UNION ALL "),
            key(),
        );
        (text, moves.iter().flat_map(bindings).collect())
    }
}

fn bindings(moved: &CheckpointMove) -> Vec<Value> {
    let CheckpointMove { key, from, to, .. } = moved;
    let mut bindings: Vec<_> = key.values().map(|text| Value::Text(text.to_owned())).into();
    match from {
        Some(from) => {
            let (generation, tag) = (from.generation.to_string(), from.tag.to_string());
            bindings.extend([Value::Fixed(from.offset.0), Value::Text(generation), Value::Text(tag)]);
        }
        None => bindings.extend([Value::Null, Value::Null, Value::Null]),
    }
    let metadata = Stored::metadata(moved, KeptBy::Delivery).to_string();
    bindings.extend([Value::Fixed(to.offset.0), Value::Text(metadata)]);
    bindings
}

fn key() -> String {
    CheckpointKey::COLUMNS.join(", ").to_uppercase()
}

#[cfg(test)]
mod tests {
    use forebay_buffer::{Checkpoint, Generation, Offset, Tag};

    use super::*;
    use crate::{client::snowflake::Identifier, contract::Target};

    fn table() -> TableName {
        let name = |text| Identifier::new(text).expect("a name");
        TableName { database: name("control"), schema: name("public"), table: name("ingestion_status") }
    }

    fn moved(partition: &str, from: Option<i64>) -> CheckpointMove {
        let target = Target { database: "PLANT".into(), schema: "PUBLIC".into(), table: "EVENTS".into() };
        let key = CheckpointKey { namespace: "gw'1".into(), hub: "line1".into(), target, partition: partition.into() };
        let at = |offset| Checkpoint { generation: Generation(0xabc), tag: Tag(0x12), offset: Offset(offset) };
        CheckpointMove { key, from: from.map(at), to: at(9), upstream: None }
    }

    #[test]
    fn a_statement_has_as_many_bindings_as_places_for_them() {
        let table = table();
        let table = StatusTable(&table);
        let moves = [moved("0", None), moved("1", Some(3))];
        let keys: Vec<_> = moves.iter().map(|one| one.key.clone()).collect();
        for (text, bindings) in [table.merge(&moves), table.select(&keys), table.select_namespace("gw'1")] {
            assert_eq!(text.matches('?').count(), bindings.len(), "{text}");
            assert!(!text.contains("gw'1") && text.contains("\"CONTROL\".\"PUBLIC\".\"INGESTION_STATUS\""), "{text}");
        }
        assert_eq!(table.select(&keys).1.len(), 5, "partitions of one stream are one condition");
    }

    #[test]
    fn a_key_in_two_rows_is_told_and_no_checkpoint() {
        let one = moved("0", None);
        let metadata = Stored::metadata(&one, KeptBy::Delivery).to_string();
        let values = one.key.values().map(str::to_owned).into_iter().chain(["9".to_owned(), metadata]);
        let row: Vec<_> = values.map(Some).collect();
        let mut answer = ResultSet { rows: vec![row.clone()], ..ResultSet::default() };
        let table = table();
        assert_eq!(StatusTable(&table).read(&answer)[0].checkpoint, Ok(one.to));
        answer.rows.push(row);
        let rows = StatusTable(&table).read(&answer);
        assert_eq!(rows.len(), 1);
        assert!(rows[0].checkpoint.as_ref().is_err_and(|why| why.contains("in two rows")), "{rows:?}");
    }
}
