//! Keys as `openssl genpkey` and `openssl pkcs8 -topk8` write them, all of them the same.

use std::path::PathBuf;

use super::*;
use crate::client::snowflake::jwt;

fn file(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/src/client/snowflake/key/tests")).join(name)
}

fn password(text: &str) -> Option<SecretSource> {
    Some(SecretSource::Inline(Secret::new(text)))
}

/// Of `openssl rsa -pubout -outform DER | openssl dgst -sha256 -binary | base64`.
const FINGERPRINT: &str = "SHA256:LUNFk7YNZo2D43unma+QJ9wIJ4rsmCSvO6N5ogX0pmA=";

#[test]
fn a_key_is_read_however_it_is_encrypted() {
    for name in ["open.p8", "des3.p8", "aes128-sha1.p8", "aes192-sha384.p8", "aes256-sha512.p8", "aes256.p8"] {
        let key = read(&file(name), password("hunter2").as_ref()).unwrap_or_else(|problem| panic!("{problem}"));
        let public = PublicKey::of(&key);
        assert_eq!(public.fingerprint, FINGERPRINT, "{name}");
        assert_eq!(public.base64, include_str!("tests/public.base64").trim_end(), "{name}");
    }
}

#[test]
fn a_key_that_is_not_opened_is_named_with_what_to_do() {
    let problem = |name: &str, password: Option<SecretSource>| read(&file(name), password.as_ref()).unwrap_err();
    let without = problem("des3.p8", None);
    assert!(without.contains("des3.p8 is encrypted: name the file that has its password"), "{without}");
    for name in ["sha224.p8", "pbes1.p8", "scrypt.p8"] {
        let unknown = problem(name, password("hunter2"));
        assert!(unknown.contains(name) && unknown.contains("openssl pkcs8 -topk8 -v2 aes-256-cbc"), "{unknown}");
    }
    for name in ["des3.p8", "aes128-sha1.p8", "aes192-sha384.p8", "aes256-sha512.p8"] {
        let wrong = problem(name, password("hunter3"));
        assert!(wrong.contains("password") && !wrong.contains("hunter"), "{wrong}");
    }
    assert!(problem("nothing.p8", None).contains("nothing.p8"));
}

#[test]
fn what_is_no_key_is_told_what_it_is() {
    let problem = |pem: &str| parse(&Secret::new(pem), Some(&Secret::new("hunter2"))).map(drop).unwrap_err();
    let label = |kind: &str, inner: &str| format!("-----BEGIN {kind}-----\n{inner}\n-----END {kind}-----\n");
    assert!(problem(&label("RSA PRIVATE KEY", "AAAA")).contains("is PKCS #1"));
    assert!(problem(&label("PUBLIC KEY", "AAAA")).contains("must have a line BEGIN PRIVATE KEY"));
    assert!(problem("-----BEGIN PRIVATE KEY-----\nAAAA").contains("is cut off"));
    assert!(problem(&label("PRIVATE KEY", "A=A?")).contains("is not base64"));
    assert!(problem(&label("PRIVATE KEY", "AAAA")).contains("is no RSA key"));
}

#[test]
fn a_key_that_is_damaged_anywhere_does_no_harm() {
    let pem = std::fs::read_to_string(file("des3.p8")).unwrap();
    let der = section(&Secret::new(pem), "ENCRYPTED PRIVATE KEY").unwrap().unwrap();
    let secret = Secret::new("hunter2");
    // As far as the encrypted part itself, whose bytes all look alike.
    for at in 0..90 {
        assert!(decrypt(&der[..at], &secret).is_err(), "cut at {at}");
        for bit in 0..8 {
            let mut damaged = der.to_vec();
            damaged[at] ^= 1 << bit;
            let Some(read) = Encrypted::read(&damaged) else { continue };
            // Rounds are what takes long.
            assert!(read.rounds.get() <= MAX_ROUNDS);
        }
    }
}

/// The proof was made by `openssl dgst -sha256 -sign`.
#[test]
fn a_proof_is_signed_as_openssl_signs_it() {
    let key = read(&file("open.p8"), None).unwrap();
    let proof = jwt::sign(&key, "MYORG-MY_ACCT", "ingest", Some("ING"), 1_795_896_000).unwrap();
    assert_eq!(proof.expose(), include_str!("tests/signed.jwt").trim_end());
    assert_eq!(jwt::end(&proof), Some(1_795_899_540));
    assert_eq!(jwt::fingerprint(&proof).as_deref(), Some(FINGERPRINT));
    let plain = jwt::sign(&key, "MYORG-MY_ACCT", "ingest", None, 1_795_896_000).unwrap();
    let claims = plain.expose().split('.').nth(1).unwrap().to_owned();
    assert!(!proof.expose().contains(&claims), "the role is in it only where it is asked for");
}

#[test]
fn the_end_of_a_token_is_read_in_seconds_and_in_milliseconds() {
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let end = |claims: &str| jwt::end(&Secret::new(format!("e30.{}.sig", URL_SAFE_NO_PAD.encode(claims))));
    assert_eq!(end(r#"{"exp":1795899540}"#), Some(1_795_899_540));
    assert_eq!(end(r#"{"exp":1795899540999}"#), Some(1_795_899_540));
    for none in [end("{}"), end("no"), jwt::end(&Secret::new("opaque")), jwt::end(&Secret::new(""))] {
        assert_eq!(none, None);
    }
}
