//! Snowflake: logging in, Snowpipe Streaming of the high-performance architecture, and the SQL API.
//!
//! There are two servers, and a token for each: the account's, which is shown a proof of who we are, and the ingest
//! host, which is shown the token that the account gives for that proof. Every request has an id, and is sent again
//! under the same id while the service is away or busy. Every call ends by itself, and may be given up at any time.

mod account;
mod channel;
mod error;
mod exchange;
mod identifier;
mod ingest;
mod jwt;
mod key;
mod login;
mod oauth;
mod request;
mod result;
mod settings;
mod sql;
mod status;
#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc};

use forebay_buffer::clock::Clock;
use ureq::Agent;

use self::login::Planes;
pub use self::{
    account::Account,
    channel::{Opened, Pipe},
    error::{DOES_NOT_EXIST, DUPLICATE_KEY, Error, INVALID_IDENTIFIER, StatementError},
    identifier::{Identifier, TableName},
    key::PublicKey,
    result::{ResultSet, Stats},
    settings::{Credential, Settings},
    sql::{Statement, Value},
    status::Status,
};
use super::https;

/// So many connections are kept: appends follow each other, and a connection is made in several round trips.
const KEPT_CONNECTIONS: usize = 16;

/// One user of one account.
pub struct Snowflake {
    settings: Settings,
    clock: Arc<dyn Clock>,
    agent: Agent,
    planes: Planes,
}

impl fmt::Debug for Snowflake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snowflake").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Snowflake {
    /// Looks at the files of the credential, and asks nobody yet. The error names the file and what to do.
    pub fn new(settings: Settings, clock: Arc<dyn Clock>) -> Result<Arc<Self>, String> {
        let agent = https::agent(settings.tls.clone(), settings.proxy.clone(), Arc::clone(&clock), KEPT_CONNECTIONS);
        let snowflake = Self { settings, clock, agent, planes: Planes::default() };
        snowflake.look()?;
        Ok(Arc::new(snowflake))
    }

    /// What it was made with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }
}
