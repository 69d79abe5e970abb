//! Postgres: connecting, naming things, telling errors apart, and the table of checkpoints.
//!
//! Everything here works through PgBouncer in transaction mode: statements are simple queries with quoted literals, or
//! a COPY whose prepared statement is closed within its transaction, and no startup parameter is sent that a pooler
//! would not know. Servers of version 12 and later are supported: that is the first whose catalogue tells generated
//! columns from others, and which knows `tcp_user_timeout`.

mod checkpoints;
mod connection;
mod error;
mod identifier;
mod ownership;
mod settings;
mod socket;
mod tls;
mod url;

pub use tokio_postgres::{SimpleQueryMessage, SimpleQueryRow};

pub use self::{
    checkpoints::StatusTable,
    connection::{Connection, Encryption, Server, connect},
    error::{Class, Error, ServerError},
    identifier::{Identifier, TableName, quote_literal},
    ownership::OwnershipTable,
    settings::{Password, Settings, SslMode},
    url::Url,
};

/// The oldest version of the server that is supported, as `server_version_num` has it.
pub const OLDEST_SERVER: u32 = 120_000;
