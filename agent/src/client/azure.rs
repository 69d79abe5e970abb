//! Tokens of Microsoft Entra, for services that take them in place of a password.
//!
//! A [`Credential`] asks the sources of an identity in the order of `DefaultAzureCredential` of the vendor's libraries:
//! environment (client secret, client certificate), workload identity, managed identity (App Service, Azure Arc, and
//! IMDS on a virtual machine). The Azure CLI is asked only where it is chosen. A source that is not set up is passed
//! over; one that is set up and fails ends the search, so that nobody logs in as somebody else by accident.
//!
//! Tokens are cached for each scope, and renewed at half to four fifths of their life.

mod arc;
mod assertion;
mod cli;
mod credential;
mod entra;
mod error;
mod exchange;
mod managed;
mod settings;
mod sources;
#[cfg(test)]
mod tests;

pub use self::{
    credential::Credential,
    error::Error,
    settings::{Authority, Kind, Settings, Tenant},
};
pub use super::token::Token;

/// The scope of Event Hubs.
pub const EVENT_HUBS: &str = "https://eventhubs.azure.net/.default";
/// The scope of Azure Database for PostgreSQL.
pub const POSTGRES: &str = "https://ossrdbms-aad.database.windows.net/.default";

/// What a scope is of, as the sources call it that know resources only.
fn resource(scope: &str) -> &str {
    scope.strip_suffix("/.default").unwrap_or(scope)
}
