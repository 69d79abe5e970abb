//! What `check --connect` finds of the control table and of the claims beside it. What the role may do is tried out with
//! statements that change nothing, for it may have it by any number of other roles.

use std::collections::BTreeMap;

use super::{Kind, OwnershipTable, Snowflake, StatusTable};
use crate::{
    client::snowflake::{Error, TableName},
    contract::{CheckpointKey, Finding, Severity, Shares},
};

/// The columns of the table of checkpoints besides its key, with what their types begin with.
const CHECKPOINTS: [(&str, &str); 3] =
    [("TS_INSERTED", "TIMESTAMP"), ("WATERLEVEL", "NUMBER"), ("METADATA", "VARIANT")];
/// Those of the table of claims.
const CLAIMS: [(&str, &str); 4] =
    [("OWNER_ID", "VARCHAR"), ("ETAG", "VARCHAR"), ("LAST_MODIFIED_TIME", "FLOAT"), ("TS_MODIFIED", "TIMESTAMP")];

/// Looks at both tables as the agent would find them: whether that of checkpoints is a hybrid one if it is to be; at the
/// claims only where partitions are shared out.
pub async fn look(control: &Snowflake, is_hybrid: bool, shares_out: bool, subject: &str) -> Vec<Finding> {
    let table = &control.place.table;
    let look = Look { control, table, subject };
    let mut findings = Vec::new();
    if is_hybrid {
        findings.extend(look.kind(StatusTable(table).is_no_hybrid()).await);
    }
    findings.extend(look.at(&CheckpointKey::COLUMNS, &CHECKPOINTS).await);
    if shares_out {
        let subject = "claims";
        match OwnershipTable::beside(table) {
            Ok(claims) => {
                let look = Look { control, table: &claims.0, subject };
                findings.extend(match look.kind(claims.is_no_hybrid()).await {
                    None => look.key(&claims).await,
                    standard => standard,
                });
                findings.extend(look.at(&Shares::COLUMNS, &CLAIMS).await);
            }
            Err(problem) => {
                let (subject, remedy) = (subject.to_owned(), "give the control table a shorter name".to_owned());
                findings.push(Finding { severity: Severity::Error, subject, message: problem, remedy });
            }
        }
    }
    findings
}

struct Look<'a> {
    control: &'a Snowflake,
    table: &'a TableName,
    subject: &'a str,
}

impl Look<'_> {
    /// `is_no_hybrid` is what to say if that is so.
    async fn kind(&self, is_no_hybrid: String) -> Option<Finding> {
        match self.control.kind_of(self.table).await {
            Ok(Some(Kind::Standard)) => Some(self.error(is_no_hybrid, "")),
            // What is missing, or fails, is told by what comes next.
            Ok(_) | Err(_) => None,
        }
    }

    async fn key(&self, claims: &OwnershipTable) -> Option<Finding> {
        match self.control.has_key_of_claims(claims).await {
            Ok(false) => Some(self.error(claims.has_another_key(), "")),
            Ok(true) | Err(_) => None,
        }
    }

    async fn at(&self, key: &[&str], others: &[(&str, &str)]) -> Vec<Finding> {
        let described = match self.control.ask(format!("DESC TABLE {}", self.table), Vec::new()).await {
            Ok(described) => described,
            Err(error) => return vec![self.failed(&error)],
        };
        let types: BTreeMap<_, _> = described.values_of("name").zip(described.values_of("type")).collect();
        let key = key.iter().map(|name| (name.to_uppercase(), "VARCHAR"));
        let wanted = others.iter().map(|(name, begins)| ((*name).to_owned(), *begins));
        let mut findings = Vec::new();
        for (name, begins) in key.chain(wanted) {
            match types.get(name.as_str()) {
                Some(found) if found.starts_with(begins) => {}
                Some(found) => {
                    let message = format!("the column {name} of {} is of type {found}, and not {begins}", self.table);
                    findings
                        .push(self.error(message, "rename the table, and run `forebay setup`, which makes another"));
                }
                None => {
                    let remedy = format!("let its owner run: ALTER TABLE {} ADD COLUMN {name} {begins}", self.table);
                    findings.push(self.error(format!("{} has no column {name}", self.table), &remedy));
                }
            }
        }
        if findings.is_empty() {
            findings.extend(self.privileges(others[0].0).await);
        }
        if findings.is_empty() {
            let message = format!("{} is there, with the right columns, and may be read and written", self.table);
            let subject = self.subject.to_owned();
            findings.push(Finding { severity: Severity::Ok, subject, message, remedy: String::new() });
        }
        findings
    }

    /// `column` is one that the agent writes.
    async fn privileges(&self, column: &str) -> Option<Finding> {
        let table = self.table;
        for statement in [
            format!("SELECT 1 FROM {table} WHERE FALSE"),
            format!("INSERT INTO {table} SELECT * FROM {table} WHERE FALSE"),
            format!("UPDATE {table} SET {column} = {column} WHERE FALSE"),
        ] {
            if let Err(error) = self.control.ask(statement, Vec::new()).await {
                return Some(self.failed(&error));
            }
        }
        None
    }

    fn failed(&self, error: &Error) -> Finding {
        let remedy = match error {
            Error::Statement(statement) => self.control.advice(statement).trim_start_matches("; ").to_owned(),
            Error::Unauthorized(_) => "look at account, user, role and the credential".to_owned(),
            Error::Retry { .. } | Error::Unknown(_) => {
                "look at account and url, at the network and the firewall".to_owned()
            }
            _ => "mend what the service says".to_owned(),
        };
        self.error(format!("{}: {error}", self.table), &remedy)
    }

    fn error(&self, message: String, remedy: &str) -> Finding {
        Finding { severity: Severity::Error, subject: self.subject.to_owned(), message, remedy: remedy.to_owned() }
    }
}
