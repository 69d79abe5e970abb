//! The proof that we have a user's key ("Using key-pair authentication" in the vendor's guide to the SQL API).

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{
    rand::SystemRandom,
    signature::{RSA_PKCS1_SHA256, RsaKeyPair},
};
use serde_json::{Value, json};

use super::PublicKey;
use crate::secret::Secret;

/// How long it holds: the service takes none that would for more than an hour.
pub(super) const LIFE: Duration = Duration::from_secs(59 * 60);

/// Signs one for `user` of `account` at `now`, in seconds since the Unix epoch; for Snowpipe Streaming, with the role.
pub(super) fn sign(
    key: &RsaKeyPair,
    account: &str,
    user: &str,
    role: Option<&str>,
    now: i64,
) -> Result<Secret, String> {
    let subject = format!("{account}.{}", user.to_uppercase());
    let issuer = format!("{subject}.{}", PublicKey::of(key).fingerprint);
    let mut claims = json!({ "iss": issuer, "sub": subject, "iat": now, "exp": now + LIFE.as_secs() as i64 });
    if let Some(role) = role {
        claims["scp"] = format!("session:role:{role}").into();
    }
    let encode = |part: Value| URL_SAFE_NO_PAD.encode(part.to_string());
    let text = format!("{}.{}", encode(json!({ "alg": "RS256", "typ": "JWT" })), encode(claims));
    let mut signature = vec![0; key.public().modulus_len()];
    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text.as_bytes(), &mut signature)
        .map_err(|_| "the private key cannot sign: make another".to_owned())?;
    Ok(Secret::new(format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))))
}

/// When a token ends, in seconds since the Unix epoch, as it says itself (RFC 7519 section 4.1.4). The service's own
/// libraries write milliseconds.
pub(super) fn end(token: &Secret) -> Option<i64> {
    let end = claims(token)?["exp"].as_f64()? as i64;
    Some(if end > 1_000_000_000_000 { end / 1000 } else { end })
}

/// The fingerprint of the key that a proof was signed with.
pub(super) fn fingerprint(proof: &Secret) -> Option<String> {
    claims(proof)?["iss"].as_str()?.rsplit('.').next().map(str::to_owned)
}

fn claims(token: &Secret) -> Option<Value> {
    let claims = URL_SAFE_NO_PAD.decode(token.expose().split('.').nth(1)?).ok()?;
    serde_json::from_slice(&claims).ok()
}
