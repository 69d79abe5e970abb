//! The control table in Snowflake, over its SQL API.
//!
//! Checkpoints are moved by one MERGE for all of them, on a hybrid or a standard table: in either, of two such statements
//! that move a row only one finds it as it must be. A first row may be made twice in a standard table, whose key is not
//! enforced; that is found out, and told. For claims it would be a partition with two owners: they are only ever made in a
//! hybrid table.

mod checkpoints;
mod look;
mod ownership;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use forebay_buffer::clock::Clock;
use futures_util::stream::{StreamExt, iter};
use tokio::{sync::OnceCell, time::sleep};

pub use self::{checkpoints::StatusTable, look::look, ownership::OwnershipTable};
use crate::{
    client::snowflake::{
        DOES_NOT_EXIST, DUPLICATE_KEY, Error, INVALID_IDENTIFIER, Identifier, ResultSet, Settings, Snowflake as Client,
        Statement, StatementError, TableName, Value,
    },
    contract::{Bid, BoxFuture, CheckpointKey, CheckpointMove, Claim, Control, ControlError, ControlRow, Shares},
};

/// How long a statement may take: a warehouse that sleeps needs seconds to wake up.
const PATIENCE: Duration = Duration::from_secs(60);
/// What is read of a hybrid table may be as old as this ("Hybrid tables" in the vendor's documentation): after a write that
/// failed or lost, so long passes before anyone looks why.
const STALENESS: Duration = Duration::from_millis(100);
/// Bids that are made at the same time.
const AT_ONCE: usize = 8;
/// Rows that are moved by one statement at most.
const MOVES: usize = 100;
/// There is no warehouse to carry a statement out.
const NO_WAREHOUSE: &str = "000606";
/// A statement that cannot be read.
const SYNTAX: &str = "001003";
/// The role may not do this.
const NOT_PRIVILEGED: &str = "003001";

/// Where the control table is, and how to get there.
#[derive(Debug, Clone, PartialEq)]
pub struct Place {
    /// The account, and as whom.
    pub connection: Settings,
    /// What carries statements out.
    pub warehouse: Identifier,
    /// The table of checkpoints.
    pub table: TableName,
}

/// The control table in one account.
pub struct Snowflake {
    place: Place,
    clock: Arc<dyn Clock>,
    client: OnceCell<Arc<Client>>,
    shown: String,
}

impl Snowflake {
    /// Connects to nothing before something is asked for.
    pub fn new(place: Place, clock: Arc<dyn Clock>) -> Self {
        let shown = format!("{} in {}", place.table, place.connection.account.name());
        Self { place, clock, client: OnceCell::new(), shown }
    }

    fn checkpoints(&self) -> StatusTable<'_> {
        StatusTable(&self.place.table)
    }

    fn ownership(&self) -> Result<OwnershipTable, Error> {
        OwnershipTable::beside(&self.place.table).map_err(Error::Confused)
    }

    /// Carries out one statement.
    pub async fn ask(&self, text: String, bindings: Vec<Value>) -> Result<ResultSet, Error> {
        let client = self.client.get_or_try_init(async || {
            let client = Client::new(self.place.connection.clone(), Arc::clone(&self.clock));
            client.map_err(Error::Unauthorized)
        });
        let Place { warehouse, table, .. } = &self.place;
        let statement = Statement {
            text,
            bindings,
            database: Some(table.database.as_str().to_owned()),
            schema: Some(table.schema.as_str().to_owned()),
            warehouse: Some(warehouse.as_str().to_owned()),
            role: None,
            timeout: PATIENCE,
        };
        client.await?.execute(statement).await
    }

    /// Without a key that is enforced two agents could both have the first claim to a partition.
    async fn insist_on_hybrid(&self, table: &OwnershipTable) -> Result<(), Error> {
        match self.kind_of(&table.0).await? {
            Some(Kind::Hybrid) => match self.has_key_of_claims(table).await? {
                true => Ok(()),
                false => Err(Error::Confused(table.has_another_key())),
            },
            Some(Kind::Standard) => Err(Error::Confused(table.is_no_hybrid())),
            None => Err(Error::Missing(format!("{} is not there: run `forebay setup`, which creates it", table.0))),
        }
    }

    /// What kind of table this is. `None`: there is none of this name, or none that the role may see.
    pub async fn kind_of(&self, table: &TableName) -> Result<Option<Kind>, Error> {
        // A pattern, in which an underscore is any character; what it finds is looked at below.
        let alike = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
        let pattern: String = table.table.as_str().chars().map(alike).collect();
        let place = format!("LIKE '{pattern}' IN SCHEMA {}.{}", table.database, table.schema);
        for (what, kind) in [("HYBRID TABLES", Kind::Hybrid), ("TABLES", Kind::Standard)] {
            let found = self.ask(format!("SHOW {what} {place}"), Vec::new()).await?;
            if found.values_of("name").any(|name| name == table.table.as_str()) {
                return Ok(Some(kind));
            }
        }
        Ok(None)
    }

    /// Whether the primary key is that of claims: with another one, two of them could be of one partition.
    pub async fn has_key_of_claims(&self, table: &OwnershipTable) -> Result<bool, Error> {
        let keys = self.ask(format!("SHOW PRIMARY KEYS IN TABLE {}", table.0), Vec::new()).await?;
        let found: BTreeSet<_> = keys.values_of("column_name").map(str::to_owned).collect();
        Ok(found == Shares::COLUMNS.map(str::to_uppercase).into())
    }

    /// What follows from an error.
    fn error(&self, error: &Error) -> ControlError {
        match error {
            Error::Statement(statement) => {
                let message = format!("{error}{}", self.advice(statement));
                match statement.code.as_str() {
                    DOES_NOT_EXIST | INVALID_IDENTIFIER | NOT_PRIVILEGED | SYNTAX => ControlError::Stop(message),
                    // Locks, limits, a warehouse that is suspended: most of what there is passes.
                    _ => ControlError::Retry(message),
                }
            }
            Error::Missing(_) | Error::Confused(_) => ControlError::Stop(error.to_string()),
            _ => ControlError::Retry(error.to_string()),
        }
    }

    /// What to do about an error of a statement, after a semicolon.
    pub fn advice(&self, error: &StatementError) -> String {
        let Place { warehouse, table, connection } = &self.place;
        let role = connection.role.as_deref().unwrap_or("the user's default role");
        match error.code.as_str() {
            DOES_NOT_EXIST => {
                format!(
                    "; run `forebay setup`, which creates it, or let its owner grant {role} what `setup --print-sql` shows"
                )
            }
            INVALID_IDENTIFIER => format!(
                "; {table} is not such a table as `forebay setup --print-sql` shows: put it right, or choose another name \
                 in [control]"
            ),
            NO_WAREHOUSE => format!(
                "; see that the warehouse {warehouse} is there, resumes by itself, and may be used: GRANT USAGE ON WAREHOUSE \
                 {warehouse} TO ROLE {role}"
            ),
            NOT_PRIVILEGED => format!("; let its owner grant {role} what `forebay setup --print-sql` shows"),
            _ => String::new(),
        }
    }

    async fn move_some(&self, moves: &[CheckpointMove]) -> Result<(), ControlError> {
        let (text, bindings) = self.checkpoints().merge(moves);
        let moved = match self.ask(text, bindings).await {
            Ok(answer) => answer.affected(),
            // Another came before with a first row: perhaps we, whose answer was lost.
            Err(error) if error.is(DUPLICATE_KEY) => return Err(ControlError::Moved(moves[0].key.clone())),
            Err(error) => return Err(self.error(&error)),
        };
        match moved.cmp(&(moves.len() as u64)) {
            std::cmp::Ordering::Equal => Ok(()),
            std::cmp::Ordering::Less => Err(ControlError::Moved(moves[0].key.clone())),
            std::cmp::Ordering::Greater => Err(ControlError::Stop(format!(
                "{} has two rows with one key, {} or another that was moved with it: delete all but one of them",
                self.shown, moves[0].key
            ))),
        }
    }

    async fn bid_one(&self, table: &OwnershipTable, of: &Shares, bid: &Bid) -> Result<Option<String>, ControlError> {
        let (text, bindings) = table.bid(of, bid);
        match self.ask(text, bindings).await {
            Ok(answer) => Ok((answer.affected() == 1).then(|| bid.partition.clone())),
            Err(error) if error.is(DUPLICATE_KEY) => Ok(None),
            Err(error) => Err(self.error(&error)),
        }
    }
}

/// The kinds of tables that matter here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Its primary key is enforced.
    Hybrid,
    /// Its primary key is a remark.
    Standard,
}

impl Control for Snowflake {
    fn place(&self) -> &str {
        &self.shown
    }

    fn load<'a>(&'a self, keys: &'a [CheckpointKey]) -> BoxFuture<'a, Result<Vec<ControlRow>, ControlError>> {
        Box::pin(async move {
            if keys.is_empty() {
                return Ok(Vec::new());
            }
            let (text, bindings) = self.checkpoints().select(keys);
            let answer = self.ask(text, bindings).await.map_err(|error| self.error(&error))?;
            let mut rows = self.checkpoints().read(&answer);
            rows.retain(|row| keys.contains(&row.key));
            Ok(rows)
        })
    }

    fn save<'a>(&'a self, moves: &'a [CheckpointMove]) -> BoxFuture<'a, Result<(), ControlError>> {
        Box::pin(async move {
            for moves in moves.chunks(MOVES) {
                if let Err(error) = self.move_some(moves).await {
                    sleep(STALENESS).await;
                    return Err(error);
                }
            }
            Ok(())
        })
    }

    fn claims<'a>(&'a self, of: &'a Shares) -> BoxFuture<'a, Result<Vec<Claim>, ControlError>> {
        Box::pin(async move {
            let asked = async {
                let (text, bindings) = self.ownership()?.select(of);
                self.ask(text, bindings).await
            };
            Ok(OwnershipTable::read(&asked.await.map_err(|error| self.error(&error))?))
        })
    }

    fn bid<'a>(&'a self, of: &'a Shares, bids: &'a [Bid]) -> BoxFuture<'a, Result<Vec<String>, ControlError>> {
        Box::pin(async move {
            let table = self.ownership().map_err(|error| self.error(&error))?;
            if bids.iter().any(|bid| bid.over.is_none()) {
                self.insist_on_hybrid(&table).await.map_err(|error| self.error(&error))?;
            }
            let made: Vec<_> = bids.iter().map(|bid| self.bid_one(&table, of, bid)).collect();
            let made: Vec<_> = iter(made).buffer_unordered(AT_ONCE).collect().await;
            if made.iter().all(Result::is_ok) {
                return Ok(made.into_iter().filter_map(Result::unwrap_or_default).collect());
            }
            // One that failed may have been made, and those that were must not be taken for lost.
            sleep(STALENESS).await;
            let claims = self.claims(of).await?;
            let is_there = |bid: &&Bid| claims.iter().any(|claim| claim.etag == bid.etag);
            Ok(bids.iter().filter(is_there).map(|bid| bid.partition.clone()).collect())
        })
    }

    fn list<'a>(&'a self, namespace: &'a str) -> BoxFuture<'a, Result<Vec<ControlRow>, ControlError>> {
        Box::pin(async move {
            let (text, bindings) = self.checkpoints().select_namespace(namespace);
            let answer = self.ask(text, bindings).await.map_err(|error| self.error(&error))?;
            Ok(self.checkpoints().read(&answer))
        })
    }
}
