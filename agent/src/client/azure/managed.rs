//! The identity that Azure gives a machine: in App Service, by Azure Arc, or on a virtual machine.

use std::{path::Path, time::Duration};

use tokio::time::Instant;

use super::{Token, arc, error::Failure, exchange::Answer, resource, sources::Sources};
use crate::client::https::encoded;

/// The metadata service is on the machine's own host: one that is there takes a connection at once.
const PROBE: Duration = Duration::from_secs(1);

/// Asks whichever there is.
pub(super) fn ask(sources: &Sources, scope: &str) -> Result<Token, Failure> {
    let settings = &sources.settings;
    match (&settings.identity_endpoint, &settings.identity_header, &settings.imds_endpoint) {
        (Some(endpoint), Some(header), _) => app_service(sources, scope, endpoint, header.expose()),
        (Some(endpoint), None, Some(_)) => arc::ask(sources, scope, endpoint, Path::new(arc::TOKENS)),
        (Some(_), None, None) => {
            Err(Failure::lasting("IDENTITY_ENDPOINT is set, and neither IDENTITY_HEADER nor IMDS_ENDPOINT beside it"))
        }
        // A service is not given the variables that Arc's installer adds for users who log in.
        (None, ..) if Path::new(arc::AGENT).exists() => arc::ask(sources, scope, arc::ENDPOINT, Path::new(arc::TOKENS)),
        (None, ..) => virtual_machine(sources, scope),
    }
}

/// "How to use managed identities for App Service and Azure Functions", section "REST endpoint reference".
fn app_service(sources: &Sources, scope: &str, endpoint: &str, header: &str) -> Result<Token, Failure> {
    let url = url(sources, scope, endpoint, "2019-08-01");
    let asked = Instant::now();
    let answer = Answer::read(endpoint, sources.near.get(&url).header("X-IDENTITY-HEADER", header).call())?;
    answer.token(endpoint, asked, sources.seconds())
}

/// "How to use managed identities for Azure resources on an Azure VM to acquire an access token", section "HTTP".
fn virtual_machine(sources: &Sources, scope: &str) -> Result<Token, Failure> {
    let endpoint = format!("{}/metadata/identity/oauth2/token", sources.settings.metadata_host);
    let url = url(sources, scope, &endpoint, "2018-02-01");
    let asked = Instant::now();
    let request = sources.near.get(&url).header("Metadata", "true").config().timeout_connect(Some(PROBE)).build();
    let answer = Answer::read(&endpoint, request.call()).map_err(|failure| Failure {
        why: format!("this is no Azure virtual machine, or its metadata service is away: {}", failure.why),
        is_absent: true,
        ..failure
    })?;
    match answer.status {
        400 => {
            let refusal = answer.refusal(&endpoint);
            let why = format!("{}; give this machine an identity, or name the right one as client_id", refusal.why);
            Err(Failure { why, is_absent: true, ..refusal })
        }
        _ => answer.token(&endpoint, asked, sources.seconds()),
    }
}

fn url(sources: &Sources, scope: &str, endpoint: &str, version: &str) -> String {
    let mut pairs = vec![("api-version", version), ("resource", resource(scope))];
    pairs.extend(sources.settings.client_id.as_deref().map(|id| ("client_id", id)));
    format!("{endpoint}?{}", encoded(&pairs))
}
