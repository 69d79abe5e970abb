//! The account that is streamed into: the emulator of the tests, over TLS, as the vendor's SDK wants it.

use std::{path::PathBuf, time::Duration};

use forebay_tests::{
    harness::processor_time,
    servers::{Authority, Snowflake},
};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Who streams, and with what.
pub(super) const USER: &str = "INGEST";
pub(super) const TOKEN: &str = "a-programmatic-access-token";
const ROLE: &str = "ACCOUNTADMIN";
/// What `forebay setup` makes.
const TABLE: &str = "CREATE DATABASE PLANT; CREATE TABLE PLANT.PUBLIC.EVENTS (EVENT_BODY VARIANT, PARTITION_ID VARCHAR(50), \
                     SEQUENCE_NUMBER NUMBER(38,0), ENQUEUED_TIME TIMESTAMP_NTZ, PROPERTIES VARIANT, SYSTEM_PROPERTIES VARIANT, \
                     INGESTION_TIMESTAMP TIMESTAMP_NTZ)";

pub(super) struct Server {
    pub(super) snowflake: Snowflake,
    /// Files of both sides.
    directory: TempDir,
}

impl Server {
    /// One that commits what was appended after `delay`.
    pub(super) fn start(delay: Duration) -> Self {
        let directory = tempfile::tempdir().expect("a directory can be made");
        let authority = Authority::new("of accounts");
        let snowflake = Snowflake::with_tls(&authority.issue("127.0.0.1"));
        snowflake.sql(TABLE);
        snowflake.make_user(USER, &json!({ "pats": [TOKEN], "roles": [ROLE], "default_role": ROLE }));
        snowflake.set(&json!({ "commit_delay_ms": delay.as_millis() }));
        let server = Self { snowflake, directory };
        authority.write(&server.authority());
        std::fs::write(server.token(), TOKEN).expect("a token can be written");
        server
    }

    pub(super) fn port(&self) -> u16 {
        self.snowflake.ports().https.expect("it has a certificate")
    }

    /// Who has signed its certificate.
    pub(super) fn authority(&self) -> PathBuf {
        self.file("authority.pem")
    }

    /// The token, in a file.
    pub(super) fn token(&self) -> PathBuf {
        self.file("token")
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Rows that are committed.
    pub(super) fn committed(&self) -> u64 {
        let channels = self.snowflake.channels();
        assert!(channels.iter().all(|channel| channel.rows_error_count == 0), "rows were refused: {channels:?}");
        channels.iter().map(|channel| channel.rows_inserted).sum()
    }

    /// The requests whose rows are committed, in order.
    pub(super) fn commits(&self) -> Vec<Value> {
        let commits = self.snowflake.ask("GET", "/tables/PLANT.PUBLIC.EVENTS/commits", &Value::Null);
        serde_json::from_value(commits).expect("a list")
    }

    /// When it has told what is committed, in milliseconds since 1970, in order.
    pub(super) fn looks(&self) -> Vec<u64> {
        let requests = self.snowflake.ask("GET", "/requests", &Value::Null);
        let requests = requests.as_array().expect("a list").iter();
        requests.filter(|told| told["operation"] == "status").filter_map(|told| told["answered_ms"].as_u64()).collect()
    }

    /// Processor time that it has spent.
    pub(super) fn spent(&self) -> Duration {
        processor_time(self.snowflake.pid()).expect("it is running")
    }
}
