//! Whoever is logged in to the Azure CLI: for a look from an engineer's machine, not for a gateway.

use std::{io::ErrorKind, process::Stdio};

use serde::Deserialize;
use serde_json::Value;
use tokio::{process::Command, time::Instant};

use super::{Token, error::Failure, exchange::seconds, resource, sources::Sources};
use crate::{client::https::shown, secret::Secret};

/// What `az account get-access-token` prints. Older versions do not say `expires_on`, but only a local time.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Printed {
    access_token: String,
    #[serde(rename = "expires_on")]
    expires_on: Option<Value>,
}

/// Runs it. Dropped, it is killed.
pub(super) async fn ask(sources: &Sources, scope: &str) -> Result<Token, Failure> {
    let settings = &sources.settings;
    let mut command = Command::new(&settings.az);
    command.args(["account", "get-access-token", "--output", "json", "--resource", resource(scope)]);
    if let Some(tenant) = &settings.tenant_id {
        command.args(["--tenant", tenant.as_str()]);
    }
    let asked = Instant::now();
    let output =
        command.stdin(Stdio::null()).kill_on_drop(true).output().await.map_err(|error| match error.kind() {
            ErrorKind::NotFound => Failure::absent(format!("{} is not installed", settings.az.display())),
            _ => Failure::lasting(format!("cannot run {}: {error}", settings.az.display())),
        })?;
    let printed = Secret::new(String::from_utf8(output.stdout).unwrap_or_default());
    if !output.status.success() {
        let said = shown(&String::from_utf8_lossy(&output.stderr));
        return Err(Failure::lasting(format!("{}: {said}; look at \"az account show\"", settings.az.display())));
    }
    // What the parser says of it may quote it.
    let printed: Printed = serde_json::from_str(printed.expose())
        .map_err(|_| Failure::lasting(format!("{} prints something that is no token", settings.az.display())))?;
    let now = sources.seconds();
    let end = printed.expires_on.as_ref().and_then(seconds).unwrap_or(now);
    Ok(Token::until(Secret::new(printed.access_token), asked, now, end))
}
