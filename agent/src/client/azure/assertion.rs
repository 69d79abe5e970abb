//! The proof that an application has the key of its certificate: a JWT that it signs ("Microsoft identity platform
//! application authentication certificate credentials" in Microsoft's documentation).

use std::path::Path;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{
    digest,
    rand::SystemRandom,
    signature::{RSA_PSS_SHA256, RsaKeyPair},
};
use rustls::pki_types::PrivateKeyDer;
use serde_json::json;

use crate::{
    secret::Secret,
    tls::{certificates, private_key},
};

/// How long it holds.
const SECONDS: i64 = 600;

/// Signs one for `client_id` at `now`, in seconds since the Unix epoch, to be shown to `audience`.
pub(super) fn sign(file: &Path, audience: &str, client_id: &str, now: i64) -> Result<Secret, String> {
    let certificate = certificates(file)?.remove(0);
    let key = key(file)?;
    let thumbprint = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, &certificate));
    let header = json!({ "alg": "PS256", "typ": "JWT", "x5t#S256": thumbprint });
    let claims = json!({
        "aud": audience, "iss": client_id, "sub": client_id, "jti": id(), "iat": now, "nbf": now, "exp": now + SECONDS,
    });
    let encode = |part: serde_json::Value| URL_SAFE_NO_PAD.encode(part.to_string());
    let text = format!("{}.{}", encode(header), encode(claims));
    let mut signature = vec![0; key.public().modulus_len()];
    key.sign(&RSA_PSS_SHA256, &SystemRandom::new(), text.as_bytes(), &mut signature)
        .map_err(|_| format!("the key in {} cannot sign", file.display()))?;
    Ok(Secret::new(format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))))
}

fn key(file: &Path) -> Result<RsaKeyPair, String> {
    let key = match private_key(file)? {
        PrivateKeyDer::Pkcs8(key) => RsaKeyPair::from_pkcs8(key.secret_pkcs8_der()),
        PrivateKeyDer::Pkcs1(key) => RsaKeyPair::from_der(key.secret_pkcs1_der()),
        _ => return Err(format!("the key in {} is no RSA key: Entra takes no other for applications", file.display())),
    };
    key.map_err(|error| format!("the key in {} is no RSA key of 2048 bits or more: {error}", file.display()))
}

/// An identifier that no other assertion has.
fn id() -> String {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("a Linux kernel always has random bytes for a running process");
    format!("{:032x}", u128::from_be_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    #[test]
    fn what_cannot_sign_is_named_with_what_is_wrong() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("application.pem");
        let sign = || sign(&file, "https://login", "me", 0).unwrap_err();
        assert!(sign().contains("application.pem"));
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap().pem();
        std::fs::write(&file, &certificate).unwrap();
        assert!(sign().contains("cannot read a private key"));
        std::fs::write(&file, certificate + &key.serialize_pem()).unwrap();
        assert!(sign().contains("no RSA key"));
    }
}
