//! Applications that log in at Entra.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::signature::{RSA_PSS_2048_8192_SHA256, RsaKeyPair, UnparsedPublicKey};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, pem::PemObject};
use serde_json::Value;

use super::*;
use crate::tls::tests::Clock1970;

/// A certificate and its key, made for these tests and known to the world.
const APPLICATION: &str = include_str!("application.pem");

#[tokio::test]
async fn a_secret_is_sent_as_a_form_and_gives_a_token_of_its_life() {
    let server = Server::start(|_| granted("t1"));
    let token = token(application(&server)).await.unwrap();
    assert_eq!((token.secret.expose(), minutes(&token)), ("t1", 60));
    let request = &server.requests()[0];
    assert_eq!((request.method.as_str(), request.target.as_str()), ("POST", "/contoso.example/oauth2/v2.0/token"));
    assert_eq!(request.header("content-type"), Some("application/x-www-form-urlencoded"));
    assert_eq!(
        request.body,
        "grant_type=client%5Fcredentials&client_id=app&scope=https%3A%2F%2Feventhubs%2Eazure%2Enet%2F%2Edefault&\
         client_secret=hunter2%20%26%20more"
    );
}

#[tokio::test]
async fn a_certificate_signs_an_assertion_that_its_public_key_verifies() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("application.pem");
    std::fs::write(&file, APPLICATION).unwrap();
    let server = Server::start(|_| granted("t1"));
    let settings = Settings { client_secret: None, client_certificate_file: Some(file), ..application(&server) };
    token(settings).await.unwrap();

    let request = &server.requests()[0];
    let kind = request.field("client_assertion_type").unwrap().replace("%3A", ":").replace("%2D", "-");
    assert_eq!(kind, "urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
    let assertion = request.field("client_assertion").unwrap();
    let assertion = assertion.replace("%2E", ".").replace("%2D", "-").replace("%5F", "_");
    let (signed, signature) = assertion.rsplit_once('.').unwrap();
    let (header, claims) = signed.split_once('.').unwrap();
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).unwrap();
    let json = |part: &str| serde_json::from_slice::<Value>(&decode(part)).unwrap();

    let key = PrivatePkcs8KeyDer::from_pem_slice(APPLICATION.as_bytes()).unwrap();
    let key = RsaKeyPair::from_pkcs8(key.secret_pkcs8_der()).unwrap();
    let public = UnparsedPublicKey::new(&RSA_PSS_2048_8192_SHA256, key.public());
    public.verify(signed.as_bytes(), &decode(signature)).expect("the key of the certificate signed it");
    let certificate = CertificateDer::from_pem_slice(APPLICATION.as_bytes()).unwrap();
    let thumbprint = URL_SAFE_NO_PAD.encode(ring::digest::digest(&ring::digest::SHA256, &certificate));
    assert_eq!(json(header), serde_json::json!({ "alg": "PS256", "typ": "JWT", "x5t#S256": thumbprint }));
    let claims = json(claims);
    assert_eq!(claims["aud"], format!("{}/contoso.example/oauth2/v2.0/token", server.url()));
    assert_eq!((&claims["iss"], &claims["sub"]), (&Value::from("app"), &Value::from("app")));
    assert_eq!((&claims["nbf"], &claims["exp"]), (&Value::from(NOW), &Value::from(NOW + 600)));
    assert!(claims["jti"].as_str().is_some_and(|id| id.len() == 32));
}

#[tokio::test]
async fn an_assertion_at_the_wrong_time_waits_for_the_clock() {
    let server = Server::start(|_| {
        let why = "AADSTS700024: Client assertion is not within its valid time range.";
        Answer::json(401, format!(r#"{{"error":"invalid_client","error_description":"{why}"}}"#))
    });
    let error = token(application(&server)).await.unwrap_err();
    assert!(error.is_passing() && error.to_string().contains("waiting for the clock"), "{error}");
    assert!(error.after().is_some(), "it is not asked without a pause");
}

#[tokio::test]
async fn a_service_is_left_alone_for_as_long_as_it_asks() {
    for (status, header, expected) in [
        (429, Some("17"), Some(17)),
        (429, None, Some(5)),
        (503, Some("Sat, 28 Nov 2026 20:00:30 GMT"), Some(30)),
        (503, Some("18446744073709551615"), Some(3600)),
        (503, None, None),
        (503, Some("soon"), None),
    ] {
        let server = Server::start(move |_| {
            let answer = Answer::json(status, "").with("Date", "Sat, 28 Nov 2026 20:00:00 GMT");
            header.into_iter().fold(answer, |answer, after| answer.with("Retry-After", after))
        });
        let error = token(application(&server)).await.unwrap_err();
        assert_eq!(error.after().map(|after| after.as_secs()), expected, "{status} {header:?}");
    }
}

#[tokio::test]
async fn a_federated_token_is_read_for_each_token() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("federated");
    let server = Server::start(|request| granted(&format!("for-{}", request.field("client_assertion").unwrap())));
    let settings = Settings { client_secret: None, federated_token_file: Some(file.clone()), ..application(&server) };
    let credential = credential(settings);
    let error = credential.token(EVENT_HUBS).await.unwrap_err();
    assert!(error.to_string().contains("federated: No such file"), "{error}");
    std::fs::write(&file, "one\n").unwrap();
    let first = credential.token(EVENT_HUBS).await.unwrap();
    std::fs::write(&file, "two\n").unwrap();
    let second = credential.fresh(EVENT_HUBS, &first).await.unwrap();
    assert_eq!((first.secret.expose(), second.secret.expose()), ("for-one", "for-two"));
}

#[tokio::test]
async fn a_service_that_is_busy_or_talks_nonsense_is_told_from_one_that_says_no() {
    for (status, body, is_passing, words) in [
        (503, "", true, "answers 503"),
        (429, r#"{"error":"throttled"}"#, true, "answers 429: throttled"),
        (400, r#"{"error":"temporarily_unavailable"}"#, true, "temporarily_unavailable"),
        (400, r#"{"error":"invalid_scope"}"#, false, "answers 400: invalid_scope"),
        (302, "", false, "answers 302"),
        (200, r#"{"access_token":17,"x":"hunter2"}"#, false, "something that is no token"),
        (200, r#"{"access_token":""}"#, false, "an empty token"),
    ] {
        let server = Server::start(move |_| Answer::json(status, body).with("Location", "http://127.0.0.1:1/"));
        let error = token(application(&server)).await.unwrap_err();
        assert_eq!(error.is_passing(), is_passing, "{error}");
        assert!(error.to_string().contains(words) && !error.to_string().contains("hunter2"), "{error}");
    }
}

/// A gateway that boots in 1970 can verify Entra nevertheless, and tell it from another.
#[tokio::test]
async fn entra_is_verified_by_our_own_roots_and_time() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start_encrypted(dir.path(), |_| granted("t1"));
    let settings = Settings { ca_file: Some(dir.path().join("ca.pem")), ..application(&server) };
    let known = Credential::new(settings, Arc::new(Clock1970));
    assert_eq!(known.token(EVENT_HUBS).await.unwrap().secret.expose(), "t1");

    let error = token(application(&server)).await.unwrap_err();
    assert!(error.to_string().contains("name the one that did as ca_file"), "{error}");
}

#[tokio::test]
async fn a_proxy_leads_to_entra_and_sees_no_secret() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start_encrypted(dir.path(), |_| granted("t1"));
    let (proxy, asked) = server::proxy();
    let settings = Settings {
        ca_file: Some(dir.path().join("ca.pem")),
        proxy: Some(ureq::Proxy::new(&proxy).unwrap()),
        ..application(&server)
    };
    assert_eq!(token(settings).await.unwrap().secret.expose(), "t1");
    let host = server.url().replace("https://", "");
    assert_eq!(asked.recv().unwrap(), format!("CONNECT {host} HTTP/1.1"));
}
