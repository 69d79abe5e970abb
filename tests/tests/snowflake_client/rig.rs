//! An account with a table, and a client of it.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use forebay::{
    client::snowflake::{
        Account, Credential, Error, Identifier, Pipe, ResultSet, Settings, Snowflake as Client, Statement, Status,
        Value,
    },
    clock::SystemClock,
    tls::client::ClientSettings,
};
use forebay_tests::{harness::in_time, servers::Snowflake};
use serde_json::json;

pub(crate) const TABLE: &str = "PLANT.PUBLIC.EVENTS";

/// What `openssl pkcs8` made of one key, with the password `hunter2` where there is one.
pub(crate) fn key(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../agent/src/client/snowflake/key/tests").join(name)
}

pub(crate) fn account() -> Snowflake {
    with_table(Snowflake::start())
}

/// The table, a user with the key of [`key`] and other proofs, and a role that may write.
pub(crate) fn with_table(account: Snowflake) -> Snowflake {
    account.sql(
        "CREATE DATABASE PLANT; CREATE WAREHOUSE WH; CREATE ROLE ING; \
         CREATE TABLE PLANT.PUBLIC.EVENTS (ID NUMBER(10,0), BODY VARCHAR(10)); \
         GRANT USAGE ON DATABASE PLANT TO ROLE ING; GRANT USAGE ON SCHEMA PLANT.PUBLIC TO ROLE ING; \
         GRANT USAGE ON WAREHOUSE WH TO ROLE ING; GRANT CREATE TABLE ON SCHEMA PLANT.PUBLIC TO ROLE ING; \
         GRANT SELECT, INSERT ON TABLE PLANT.PUBLIC.EVENTS TO ROLE ING",
    );
    let public = std::fs::read_to_string(key("public.base64")).expect("the key is there");
    let user = json!({
        "public_key": public.trim_end(), "roles": ["ING"], "default_role": "ING",
        "pats": ["pat-1"], "oauth_clients": { "app": "hunter2" },
    });
    account.make_user("INGEST", &user);
    account
}

/// Settings for the port without TLS.
pub(crate) fn settings(account: &Snowflake) -> Settings {
    Settings {
        account: Account::parse(Snowflake::ACCOUNT, Some(&account.url())).expect("an account"),
        user: "INGEST".to_owned(),
        role: Some("ING".to_owned()),
        credential: Credential::KeyPair { file: key("open.p8"), password: None },
        tls: ClientSettings::default(),
        proxy: None,
    }
}

pub(crate) fn made(settings: Settings) -> Arc<Client> {
    Client::new(settings, Arc::new(SystemClock::new())).expect("settings that can be used")
}

pub(crate) fn client(account: &Snowflake) -> Arc<Client> {
    made(settings(account))
}

pub(crate) fn pipe(client: &Arc<Client>) -> Pipe {
    let [database, schema, pipe] =
        ["PLANT", "PUBLIC", "EVENTS-STREAMING"].map(|name| Identifier::exact(name).expect("a name"));
    Pipe::new(Arc::clone(client), &database, &schema, &pipe)
}

pub(crate) fn statement(text: &str, bindings: &[Value]) -> Statement {
    Statement {
        text: text.to_owned(),
        bindings: bindings.to_vec(),
        database: Some("PLANT".to_owned()),
        schema: Some("PUBLIC".to_owned()),
        warehouse: Some("WH".to_owned()),
        role: None,
        timeout: Duration::from_secs(60),
    }
}

pub(crate) async fn execute(client: &Arc<Client>, text: &str, bindings: &[Value]) -> Result<ResultSet, Error> {
    client.execute(statement(text, bindings)).await
}

/// Rows with these numbers, as an append carries them.
pub(crate) fn rows(ids: impl IntoIterator<Item = u32>) -> Bytes {
    packed(&ids.into_iter().map(|id| format!("{{\"ID\":{id},\"BODY\":\"b{id}\"}}\n")).collect::<String>())
}

pub(crate) fn packed(text: &str) -> Bytes {
    zstd::bulk::compress(text.as_bytes(), 1).expect("a text that can be compressed").into()
}

/// The status of `channel` as soon as it is as it should be.
pub(crate) async fn status(pipe: &Pipe, channel: &str, is_so: impl Fn(&Status) -> bool) -> Status {
    let look = async {
        loop {
            let mut statuses = pipe.statuses(&[channel]).await.expect("statuses");
            if let Some(status) = statuses.remove(channel).filter(&is_so) {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    in_time("a channel to be as it should", look).await
}

/// ... as soon as `token` is committed.
pub(crate) async fn committed(pipe: &Pipe, channel: &str, token: &str) -> Status {
    status(pipe, channel, |status| status.committed.as_deref() == Some(token)).await
}

/// The numbers of all rows of the table, in the order of their commits.
pub(crate) fn ids(account: &Snowflake) -> Vec<u64> {
    account.rows(TABLE, 0).iter().map(|row| row.values["ID"].as_u64().expect("a number")).collect()
}
