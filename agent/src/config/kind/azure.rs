//! What Microsoft Entra has of its own: tenants and authorities.

use crate::{
    client::azure,
    config::{document::Node, key::Kind, reading::Reading, report::Reported},
};

/// A tenant.
#[derive(Debug)]
pub(in crate::config) struct Tenant;

/// Where applications log in.
#[derive(Debug)]
pub(in crate::config) struct Authority;

impl Kind for Tenant {
    type Value = azure::Tenant;

    fn expected(&self) -> String {
        "the id of a tenant, or a domain of it such as \"contoso.onmicrosoft.com\"".to_owned()
    }

    fn read(&self, node: &Node, reading: &mut Reading<'_, '_>) -> Result<azure::Tenant, Reported> {
        let text = reading.text(node)?;
        azure::Tenant::parse(&text).map_err(|problem| reading.wrong(node, problem))
    }
}

impl Kind for Authority {
    type Value = azure::Authority;

    fn expected(&self) -> String {
        "\"https://HOST\"".to_owned()
    }

    fn read(&self, node: &Node, reading: &mut Reading<'_, '_>) -> Result<azure::Authority, Reported> {
        let text = reading.text(node)?;
        azure::Authority::parse(&text).map_err(|problem| reading.wrong(node, problem))
    }
}
