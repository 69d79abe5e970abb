//! The control table in Postgres.
//!
//! One connection, made when something is asked for and kept until it fails. Every request is one simple query, so it
//! works through PgBouncer in transaction mode, and a request whose answer was lost is a compare-and-set that will not
//! succeed a second time.

mod look;

use std::sync::Arc;

use forebay_buffer::clock::Clock;
use tokio::sync::Mutex;

pub use self::look::{CHECKPOINTS, CLAIMS, look};
use crate::{
    client::postgres::{
        Class, Connection, Error, Identifier, OwnershipTable, Server, ServerError, Settings, SimpleQueryMessage,
        SimpleQueryRow, StatusTable, TableName,
    },
    contract::{
        Bid, BoxFuture, CheckpointKey, CheckpointMove, Claim, Control, ControlError, ControlRow, KeptBy, Shares,
    },
};

/// Before every request: nothing waits for long behind another writer's lock.
const LIMITS: &str = "SET LOCAL lock_timeout = '10s'; SET LOCAL statement_timeout = '30s'";
/// What stands in the server's error where a row was not what it must be, before its number.
const LOST: &str = "forebay lost row ";

/// The control table in one database.
pub struct Postgres {
    server: Server,
    table: StatusTable,
    place: String,
    connection: Mutex<Option<Connection>>,
}

impl Postgres {
    /// Connects to nothing before something is asked for.
    pub fn new(settings: Settings, table: TableName, clock: Arc<dyn Clock>) -> Self {
        let place = format!("{table} in {}", settings.place());
        let table = StatusTable { name: table, kept_by: KeptBy::Delivery };
        Self { server: Server::new(settings, clock), table, place, connection: Mutex::default() }
    }

    /// The same table, with rows that sinks keep there for themselves. Else those are written that delivery keeps.
    pub fn of_sinks(mut self) -> Self {
        self.table.kept_by = KeptBy::Sink;
        self
    }

    /// The answer to `sql`, statements that are carried out together or not at all.
    async fn ask(&self, sql: &str) -> Result<Vec<SimpleQueryMessage>, Error> {
        let sql = format!("{LIMITS}; {sql}");
        let mut kept = self.connection.lock().await;
        // While it is used it is nobody's: where this future is dropped, so is what it was in the middle of.
        if let Some(connection) = kept.take().filter(|connection| !connection.is_closed()) {
            match connection.simple(&sql).await {
                // A connection that was idle is often found dead only when it is used again.
                Err(error) if error.class() == Class::Reconnect => {}
                outcome => return Self::keep(&mut kept, connection, outcome),
            }
        }
        let connection = self.server.connect().await?;
        let outcome = connection.simple(&sql).await;
        Self::keep(&mut kept, connection, outcome)
    }

    fn keep<T>(kept: &mut Option<Connection>, connection: Connection, outcome: Result<T, Error>) -> Result<T, Error> {
        if outcome.as_ref().err().is_none_or(Error::keeps_connection) {
            *kept = Some(connection);
        }
        outcome
    }

    /// The table of claims beside it.
    fn ownership(&self) -> Result<OwnershipTable, String> {
        OwnershipTable::beside(&self.table.name)
    }

    /// What follows from an error.
    fn error(&self, error: &Error) -> ControlError {
        let advice = error.server().map(|server| self.advice(server)).unwrap_or_default();
        let message = format!("{error}{advice}");
        match error.class() {
            Class::Stop | Class::Refusal => ControlError::Stop(message),
            Class::Retry | Class::Reconnect | Class::Login => ControlError::Retry(message),
        }
    }

    fn advice(&self, error: &ServerError) -> String {
        match error.code.as_str() {
            "42501" if error.is_fatal => format!("; let its owner run: {}", grant_connect(self.server.settings())),
            "42P01" | "3F000" => "; run `forebay setup`, which creates it".to_owned(),
            "42501" => {
                format!("; let its owner run: {}", grants(&self.table.name, &self.server.settings().user).join(" "))
            }
            "3D000" => "; create the database, then run `forebay setup`".to_owned(),
            // A column that is missing or of another type; no unique index on the key.
            "42703" | "42804" | "42883" | "42P10" => format!(
                "; {} is not such a table as `forebay setup --print-sql` shows: put it right, or choose another name in \
                 [control]",
                self.table.name
            ),
            code if code.starts_with("22") || code.starts_with("23") => {
                "; look at the table's constraints and triggers".to_owned()
            }
            _ => String::new(),
        }
    }
}

impl Control for Postgres {
    fn place(&self) -> &str {
        &self.place
    }

    fn load<'a>(&'a self, keys: &'a [CheckpointKey]) -> BoxFuture<'a, Result<Vec<ControlRow>, ControlError>> {
        Box::pin(async move {
            if keys.is_empty() {
                return Ok(Vec::new());
            }
            let answer = self.ask(&self.table.select_all(keys)).await.map_err(|error| self.error(&error))?;
            Ok(self.table.read_all(&answer))
        })
    }

    fn save<'a>(&'a self, moves: &'a [CheckpointMove]) -> BoxFuture<'a, Result<(), ControlError>> {
        Box::pin(async move {
            let statements: Vec<_> =
                moves.iter().enumerate().map(|(at, one)| insist(&self.table.compare_and_set(one), at)).collect();
            match self.ask(&statements.join("; ")).await {
                Ok(_) => Ok(()),
                Err(error) => Err(match lost(&error).and_then(|at| moves.get(at)) {
                    Some(one) => ControlError::Moved(one.key.clone()),
                    None => self.error(&error),
                }),
            }
        })
    }

    fn claims<'a>(&'a self, of: &'a Shares) -> BoxFuture<'a, Result<Vec<Claim>, ControlError>> {
        Box::pin(async move {
            let answer = self
                .ask(&self.ownership().map_err(ControlError::Stop)?.select(of))
                .await
                .map_err(|error| self.error(&error))?;
            Ok(OwnershipTable::read(&answer))
        })
    }

    fn bid<'a>(&'a self, of: &'a Shares, bids: &'a [Bid]) -> BoxFuture<'a, Result<Vec<String>, ControlError>> {
        Box::pin(async move {
            let table = self.ownership().map_err(ControlError::Stop)?;
            let statements: Vec<_> = bids.iter().map(|bid| table.bid(of, bid)).collect();
            let answer = self.ask(&statements.join("; ")).await.map_err(|error| self.error(&error))?;
            Ok(rows(&answer).filter_map(|row| row.get(0)).map(str::to_owned).collect())
        })
    }

    fn list<'a>(&'a self, namespace: &'a str) -> BoxFuture<'a, Result<Vec<ControlRow>, ControlError>> {
        Box::pin(async move {
            let answer = self.ask(&self.table.select_namespace(namespace)).await.map_err(|error| self.error(&error))?;
            Ok(self.table.read_all(&answer))
        })
    }
}

/// `change`, which fails and takes everything back unless it changes one row. What it fails with says which it was: the
/// server cannot make a number of a text, and quotes the text. The count within keeps the planner from trying it early.
fn insist(change: &str, at: usize) -> String {
    format!(
        "WITH changed AS ({change} RETURNING 1) SELECT CASE WHEN count(*) = 1 THEN 1 ELSE ('{LOST}{at} ' || \
         count(*)::text)::integer END FROM changed"
    )
}

/// Which change was lost, if it is such an error.
fn lost(error: &Error) -> Option<usize> {
    let server = error.server().filter(|server| server.code == "22P02")?;
    let (_, rest) = server.message.split_once(LOST)?;
    rest.split(' ').next()?.parse().ok()
}

/// What lets the user into the database.
pub fn grant_connect(settings: &Settings) -> String {
    let name = |text: &str| Identifier::new(text).map_or_else(|_| text.to_owned(), |name| name.to_string());
    format!("GRANT CONNECT ON DATABASE {} TO {};", name(&settings.database), name(&settings.user))
}

/// What lets `user` write a table of checkpoints.
pub fn grants(table: &TableName, user: &str) -> Vec<String> {
    let user = Identifier::new(user).map_or_else(|_| user.to_owned(), |user| user.to_string());
    vec![
        format!("GRANT USAGE ON SCHEMA {} TO {user};", table.schema),
        format!("GRANT SELECT, INSERT, UPDATE ON TABLE {table} TO {user};"),
    ]
}

fn rows(answer: &[SimpleQueryMessage]) -> impl Iterator<Item = &SimpleQueryRow> {
    answer.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    })
}
