//! Who is let in.

use forebay::{
    client::snowflake::{Account, Credential, Error, Settings},
    secret::{Secret, SecretSource},
    tls::client::ClientSettings,
};
use forebay_tests::servers::{Authority, Snowflake};

use crate::rig::{account, execute, key, made, pipe, settings, with_table};

fn inline(secret: &str) -> SecretSource {
    SecretSource::Inline(Secret::new(secret))
}

#[tokio::test]
async fn every_proof_lets_in_to_both_servers() {
    let account = account();
    let encrypted = |name| Credential::KeyPair { file: key(name), password: Some(inline("hunter2")) };
    let oauth =
        Credential::OAuthClient { id: "app".to_owned(), secret: inline("hunter2"), token_url: None, scope: None };
    let proofs = [encrypted("des3.p8"), encrypted("aes256.p8"), Credential::AccessToken(inline("pat-1")), oauth];
    for (nth, credential) in proofs.into_iter().enumerate() {
        let client = made(Settings { credential, ..settings(&account) });
        let result = execute(&client, "SELECT CURRENT_USER(), CURRENT_ROLE()", &[]).await.expect("a result");
        assert_eq!(result.rows, [["INGEST", "ING"].map(|name| Some(name.to_owned()))]);
        pipe(&client).open(&format!("c{nth}"), true, None).await.expect("a channel");
    }
}

#[tokio::test]
async fn a_key_that_nobody_has_registered_is_named_by_its_fingerprint() {
    let account = Snowflake::start();
    let client = made(settings(&account));
    let fingerprint = client.public_key().expect("a key").expect("it is a key").fingerprint;
    let refused = execute(&client, "SELECT 1", &[]).await.expect_err("nobody knows it");
    assert!(matches!(refused, Error::Unauthorized(_)) && refused.to_string().contains(&fingerprint), "{refused}");
    let refused = pipe(&client).open("c", true, None).await.expect_err("nobody knows it");
    assert!(matches!(refused, Error::Unauthorized(_)) && refused.to_string().contains(&fingerprint), "{refused}");
    let account = with_table(account);
    execute(&client, "SELECT 1", &[]).await.expect("it is registered by now");
    drop(account);
}

#[tokio::test]
async fn what_a_role_may_not_is_missing_and_is_named_with_what_to_grant() {
    let account = account();
    let client = made(settings(&account));
    account.sql("REVOKE INSERT ON TABLE PLANT.PUBLIC.EVENTS FROM ROLE ING");
    let missing = pipe(&client).open("c", true, None).await.expect_err("a grant is missing");
    assert!(matches!(missing, Error::Missing(_)), "{missing:?}");
    assert!(missing.to_string().contains("INSERT on the table"), "{missing}");
    account.sql("GRANT INSERT ON TABLE PLANT.PUBLIC.EVENTS TO ROLE ING");
    pipe(&client).open("c", true, None).await.expect("it is granted by now");
}

#[tokio::test]
async fn tokens_that_are_no_longer_taken_are_replaced_on_the_way() {
    let account = account();
    let client = made(settings(&account));
    let pipe = pipe(&client);
    let opened = pipe.open("c", true, None).await.expect("a channel");
    account.ask("POST", "/expire-tokens", &serde_json::Value::Null);
    let rows = crate::rig::rows([1]);
    pipe.append("c", &opened.continuation, "1", "1", rows).await.expect("it is let in again");
}

#[tokio::test]
async fn servers_must_prove_who_they_are() {
    let authority = Authority::new("Plant");
    let account = with_table(Snowflake::with_tls(&authority.issue("127.0.0.1")));
    let directory = tempfile::tempdir().expect("a directory");
    let ca_file = directory.path().join("ca.pem");
    std::fs::write(&ca_file, authority.pem()).expect("a file");
    let url = format!("https://127.0.0.1:{}", account.ports().https.expect("it has a certificate"));
    let place = Account::parse(Snowflake::ACCOUNT, Some(&url)).expect("an account");
    let trusting = ClientSettings { ca_file: Some(ca_file), ..ClientSettings::default() };
    let client = made(Settings { account: place.clone(), tls: trusting, ..settings(&account) });
    let pipe = pipe(&client);
    let opened = pipe.open("c", true, None).await.expect("a channel");
    pipe.append("c", &opened.continuation, "1", "1", crate::rig::rows([1])).await.expect("an append");

    let suspicious = made(Settings { account: place, ..settings(&account) });
    let mut statement = crate::rig::statement("SELECT 1", &[]);
    statement.timeout = std::time::Duration::from_millis(500);
    let refused = suspicious.execute(statement).await.expect_err("nobody trusts it");
    assert!(matches!(refused, Error::Retry { .. }) && refused.to_string().contains("ca_file"), "{refused:?}");
}
