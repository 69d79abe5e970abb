//! The table of claims beside the table of checkpoints: statements that read and write it.

use crate::{
    client::snowflake::{Identifier, ResultSet, TableName, Value},
    contract::{Bid, Claim, Shares},
};

/// What follows the name of the table of checkpoints.
const SUFFIX: &str = "_OWNERSHIP";
/// The present time by the server's clock, in seconds since 1970.
const NOW: &str = "DATE_PART(EPOCH_MILLISECOND, CURRENT_TIMESTAMP()) / 1000";

/// A table of claims. A hybrid table, whose primary key is enforced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnershipTable(pub TableName);

impl OwnershipTable {
    /// The one beside the table of checkpoints.
    pub fn beside(checkpoints: &TableName) -> Result<Self, String> {
        let name = format!("{}{SUFFIX}", checkpoints.table.as_str());
        let table = Identifier::exact(name.clone()).map_err(|problem| format!("the table of claims {problem}"))?;
        Ok(Self(TableName { table, ..checkpoints.clone() }))
    }

    /// Creates it, if it is not there.
    pub fn create(&self) -> String {
        let keys = Shares::COLUMNS.map(|column| format!("  {} VARCHAR(500) NOT NULL,\n", column.to_uppercase()));
        format!(
            "CREATE HYBRID TABLE IF NOT EXISTS {} (\n{}  OWNER_ID VARCHAR(500) NOT NULL,\n  ETAG VARCHAR(100) NOT NULL,\n  \
             LAST_MODIFIED_TIME FLOAT NOT NULL,\n  TS_MODIFIED TIMESTAMP_NTZ NOT NULL,\n  PRIMARY KEY ({})\n)",
            self.0,
            keys.concat(),
            key()
        )
    }

    /// What to say where the table is there, and of the wrong kind.
    pub fn is_no_hybrid(&self) -> String {
        format!(
            "{table} is a standard table, whose primary key Snowflake does not enforce: two agents could both claim one \
             partition. Stop all agents and rename it (ALTER TABLE {table} RENAME TO ...), then run `forebay setup`, which \
             creates a hybrid table; or keep the control table in Postgres",
            table = self.0
        )
    }

    /// What to say where the table is a hybrid one, and its key another.
    pub fn has_another_key(&self) -> String {
        format!(
            "{table} has another primary key than {}: two agents could both claim one partition. Stop all agents and rename \
             it (ALTER TABLE {table} RENAME TO ...), then run `forebay setup`, which creates another",
            key(),
            table = self.0
        )
    }

    /// Looks for the claims: [`OwnershipTable::read`] says what was found.
    pub(super) fn select(&self, of: &Shares) -> (String, Vec<Value>) {
        let text = format!(
            "SELECT PARTITION_ID, OWNER_ID, ETAG, {NOW} - LAST_MODIFIED_TIME FROM {} WHERE {} ORDER BY 1",
            self.0,
            matching(&Shares::COLUMNS[..6])
        );
        (text, of.values().map(text_of).into())
    }

    /// The claims in an answer.
    pub(super) fn read(answer: &ResultSet) -> Vec<Claim> {
        let rows = answer.rows.iter().map(|row| {
            // No column may be NULL.
            let text = |at: usize| row.get(at).cloned().flatten().unwrap_or_default();
            Claim { partition: text(0), owner: text(1), etag: text(2), age: Claim::age_of(&text(3)) }
        });
        rows.collect()
    }

    /// Makes the change if the claim is what it must be: then it changes one row. A first claim fails on the key where
    /// another came before.
    pub(super) fn bid(&self, of: &Shares, bid: &Bid) -> (String, Vec<Value>) {
        let Bid { partition, over, owner, etag } = bid;
        let place = of.values().into_iter().chain([partition.as_str()]).map(text_of);
        let claim = [owner, etag].map(|text| text_of(text));
        match over {
            None => (
                format!(
                    "INSERT INTO {} ({}, OWNER_ID, ETAG, LAST_MODIFIED_TIME, TS_MODIFIED) SELECT {}?, ?, {NOW}, SYSDATE()",
                    self.0,
                    key(),
                    "?, ".repeat(Shares::COLUMNS.len())
                ),
                place.chain(claim).collect(),
            ),
            Some(over) => (
                format!(
                    "UPDATE {} SET OWNER_ID = ?, ETAG = ?, LAST_MODIFIED_TIME = {NOW}, TS_MODIFIED = SYSDATE() WHERE {} AND \
                     ETAG = ?",
                    self.0,
                    matching(&Shares::COLUMNS)
                ),
                claim.into_iter().chain(place).chain([text_of(over)]).collect(),
            ),
        }
    }
}

fn text_of(text: &str) -> Value {
    Value::Text(text.to_owned())
}

fn key() -> String {
    Shares::COLUMNS.join(", ").to_uppercase()
}

fn matching(columns: &[&str]) -> String {
    columns.iter().map(|column| format!("{} = ?", column.to_uppercase())).collect::<Vec<_>>().join(" AND ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::{HubId, Target};

    #[test]
    fn a_bid_names_all_that_it_compares() {
        let hub =
            HubId { namespace: "ns'1".into(), hub: "eh1".into(), consumer_group: "$Default".into(), is_shared: true };
        let target = Target { database: "PLANT".into(), schema: "PUBLIC".into(), table: "EVENTS".into() };
        let shares = Shares { hub, target };
        let name = |text| Identifier::new(text).expect("a name");
        let checkpoints =
            TableName { database: name("control"), schema: name("public"), table: name("ingestion_status") };
        let table = OwnershipTable::beside(&checkpoints).expect("a short name");
        assert_eq!(table.0.table.as_str(), "INGESTION_STATUS_OWNERSHIP");
        let first = Bid { partition: "3".into(), over: None, owner: "gw1".into(), etag: "e1".into() };
        let next = Bid { over: Some("e0".into()), ..first.clone() };
        for (text, bindings) in [table.bid(&shares, &first), table.bid(&shares, &next), table.select(&shares)] {
            assert_eq!(text.matches('?').count(), bindings.len(), "{text}");
            assert!(!text.contains("ns'1") && !text.contains(';'), "{text}");
        }
        let (update, bindings) = table.bid(&shares, &next);
        let (_, compared) = update.split_once(" WHERE ").expect("a condition");
        assert!(compared.ends_with("PARTITION_ID = ? AND ETAG = ?"), "{compared}");
        assert_eq!(bindings.last(), Some(&Value::Text("e0".into())));
    }
}
