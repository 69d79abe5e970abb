//! The table of claims beside the table of checkpoints, as operators know it from the Python pipeline: statements that read
//! and write it, and what its rows mean.

use tokio_postgres::SimpleQueryMessage;

use super::{Identifier, TableName, identifier::escaped};
use crate::contract::{Bid, Claim, Shares};

/// What follows the name of the table of checkpoints.
const SUFFIX: &str = "_ownership";
/// What the server takes of a name (PostgreSQL documentation, section "Identifiers and Key Words").
const MAX_NAME_BYTES: usize = 63;
/// The present time by the server's clock, in seconds since 1970. Not that of the transaction's beginning, which may have
/// waited.
const NOW: &str = "EXTRACT(EPOCH FROM clock_timestamp())::double precision";

/// A table of claims.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnershipTable(pub TableName);

impl OwnershipTable {
    /// The one beside the table of checkpoints.
    pub fn beside(checkpoints: &TableName) -> Result<Self, String> {
        let name = format!("{}{SUFFIX}", checkpoints.table.as_str());
        if name.len() > MAX_NAME_BYTES {
            return Err(format!(
                "{name} would be the table of claims, and no name has more than {MAX_NAME_BYTES} bytes"
            ));
        }
        Ok(Self(TableName { schema: checkpoints.schema.clone(), table: Identifier::new(name)? }))
    }

    /// Creates it, if it is not there.
    pub fn create(&self) -> String {
        let keys = Shares::COLUMNS.map(|column| format!("  {column} text NOT NULL,\n")).concat();
        format!(
            "CREATE TABLE IF NOT EXISTS {} (\n{keys}  owner_id text NOT NULL,\n  etag text NOT NULL,\n  last_modified_time \
             double precision NOT NULL,\n  ts_modified timestamptz NOT NULL,\n  PRIMARY KEY ({})\n)",
            self.0,
            Shares::COLUMNS.join(", ")
        )
    }

    /// Looks for the claims: [`OwnershipTable::read`] says what was found.
    pub fn select(&self, of: &Shares) -> String {
        format!(
            "SELECT partition_id, owner_id, etag, {NOW} - last_modified_time FROM {} WHERE {} ORDER BY 1",
            self.0,
            matching(of)
        )
    }

    /// The claims in an answer.
    pub fn read(answer: &[SimpleQueryMessage]) -> Vec<Claim> {
        let rows = answer.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        rows.map(|row| {
            // No column may be NULL.
            let text = |at| row.get(at).unwrap_or_default().to_owned();
            Claim { partition: text(0), owner: text(1), etag: text(2), age: Claim::age_of(&text(3)) }
        })
        .collect()
    }

    /// Makes the change if the claim is what it must be: then the partition comes back.
    pub fn bid(&self, of: &Shares, bid: &Bid) -> String {
        let Bid { partition, over, owner, etag } = bid;
        let (owner, etag) = (escaped(owner), escaped(etag));
        match over {
            None => format!(
                "INSERT INTO {} ({}, owner_id, etag, last_modified_time, ts_modified) VALUES ({}, {}, {owner}, {etag}, {NOW}, \
                 clock_timestamp()) ON CONFLICT ({}) DO NOTHING RETURNING partition_id",
                self.0,
                Shares::COLUMNS.join(", "),
                of.values().map(escaped).join(", "),
                escaped(partition),
                Shares::COLUMNS.join(", "),
            ),
            Some(over) => format!(
                "UPDATE {} SET owner_id = {owner}, etag = {etag}, last_modified_time = {NOW}, ts_modified = clock_timestamp() \
                 WHERE {} AND partition_id = {} AND etag = {} RETURNING partition_id",
                self.0,
                matching(of),
                escaped(partition),
                escaped(over),
            ),
        }
    }
}

fn matching(of: &Shares) -> String {
    let equal = |(column, value): (&str, &str)| format!("{column} = {}", escaped(value));
    Shares::COLUMNS.into_iter().zip(of.values()).map(equal).collect::<Vec<_>>().join(" AND ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::{HubId, Target};

    fn shares() -> Shares {
        let hub =
            HubId { namespace: "ns'1".into(), hub: "eh1".into(), consumer_group: "$Default".into(), is_shared: true };
        Shares { hub, target: Target { database: "plant".into(), schema: "public".into(), table: "telemetry".into() } }
    }

    #[test]
    fn a_bid_names_all_that_it_compares() {
        let checkpoints = TableName::parse("ingestion_status").expect("a name");
        let table = OwnershipTable::beside(&checkpoints).expect("a short name");
        let bid = Bid { partition: "3".into(), over: None, owner: "gw1".into(), etag: "e1".into() };
        let insert = table.bid(&shares(), &bid);
        assert!(insert.contains("\"ingestion_status_ownership\"") && insert.contains("ON CONFLICT (fully"), "{insert}");
        assert!(
            insert.contains("'ns''1', 'eh1', '$Default', 'plant', 'public', 'telemetry', '3', 'gw1', 'e1'"),
            "{insert}"
        );
        let update = table.bid(&shares(), &Bid { over: Some("e0".into()), ..bid });
        let (_, compared) = update.split_once(" WHERE ").expect("a condition");
        for part in ["= 'ns''1'", "consumer_group = '$Default'", "partition_id = '3'", "etag = 'e0'"] {
            assert!(compared.contains(part), "{compared}");
        }
        assert!(!update.contains(';') && !insert.contains(';'), "each is one statement");
    }

    #[test]
    fn a_name_that_would_be_cut_is_refused() {
        let checkpoints = TableName::parse(&"t".repeat(60)).expect("a name");
        assert!(OwnershipTable::beside(&checkpoints).expect_err("it is too long").contains("63 bytes"));
    }
}
