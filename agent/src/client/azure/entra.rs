//! Applications that log in at Entra itself: with a secret, a certificate, or the token of another issuer.
//!
//! "Microsoft identity platform and the OAuth 2.0 client credentials flow" in Microsoft's documentation.

use tokio::time::Instant;

use super::{Token, assertion, error::Failure, exchange::Answer, sources::Sources};
use crate::{
    client::https::encoded,
    secret::{Secret, SecretSource},
    tls::client::now,
};

/// Who logs in, and where.
struct Application<'s> {
    client_id: &'s str,
    endpoint: String,
}

/// With a secret.
pub(super) fn by_secret(sources: &Sources, scope: &str) -> Result<Token, Failure> {
    let Some(source) = &sources.settings.client_secret else {
        return Err(Failure::absent("client_secret (AZURE_CLIENT_SECRET) is not given"));
    };
    let application = Application::of(sources)?;
    let secret = source.read().map_err(Failure::lasting)?;
    application.log_in(sources, scope, &[("client_secret", secret.expose())])
}

/// With a certificate.
pub(super) fn by_certificate(sources: &Sources, scope: &str) -> Result<Token, Failure> {
    let Some(file) = &sources.settings.client_certificate_file else {
        let why = "client_certificate_file (AZURE_CLIENT_CERTIFICATE_PATH) is not given";
        return Err(Failure::absent(why));
    };
    let application = Application::of(sources)?;
    let seconds = now(&*sources.clock).0 / 1_000_000;
    let assertion = assertion::sign(file, &application.endpoint, application.client_id, seconds);
    application.log_in_by_assertion(sources, scope, &assertion.map_err(Failure::lasting)?)
}

/// With the token of another issuer, as workloads in Kubernetes have one.
pub(super) fn by_federated_token(sources: &Sources, scope: &str) -> Result<Token, Failure> {
    let Some(file) = &sources.settings.federated_token_file else {
        return Err(Failure::absent("federated_token_file (AZURE_FEDERATED_TOKEN_FILE) is not given"));
    };
    let application = Application::of(sources)?;
    let assertion = SecretSource::File(file.clone()).read().map_err(Failure::lasting)?;
    application.log_in_by_assertion(sources, scope, &assertion)
}

impl<'s> Application<'s> {
    /// Half of an identity is a mistake, and no reason to log in as another.
    fn of(sources: &'s Sources) -> Result<Self, Failure> {
        let settings = &sources.settings;
        let Some(tenant) = &settings.tenant_id else {
            return Err(Failure::lasting(
                "tenant_id (AZURE_TENANT_ID) is missing: say in which tenant the application is",
            ));
        };
        let Some(client_id) = &settings.client_id else {
            return Err(Failure::lasting("client_id (AZURE_CLIENT_ID) is missing: say which application it is of"));
        };
        let endpoint = format!("{}/{}/oauth2/v2.0/token", settings.authority.as_str(), tenant.as_str());
        Ok(Self { client_id, endpoint })
    }

    /// RFC 7523 section 2.2.
    fn log_in_by_assertion(&self, sources: &Sources, scope: &str, assertion: &Secret) -> Result<Token, Failure> {
        let kind = ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
        self.log_in(sources, scope, &[kind, ("client_assertion", assertion.expose())])
    }

    fn log_in(&self, sources: &Sources, scope: &str, proof: &[(&str, &str)]) -> Result<Token, Failure> {
        let asks = [("grant_type", "client_credentials"), ("client_id", self.client_id), ("scope", scope)];
        let form = Secret::new(encoded(&[&asks, proof].concat()));
        let asked = Instant::now();
        let request = sources.remote.post(&self.endpoint).content_type("application/x-www-form-urlencoded");
        let answer = Answer::read(&self.endpoint, request.send(form.expose()))?;
        answer.token(&self.endpoint, asked, sources.seconds())
    }
}
