//! The limit: requests that were made before, posted without TLS to each channel as fast as they are answered. A process of
//! its own, so that what it spends can be told from what others spend.

use std::{io::Read, thread};

use forebay_tests::harness::{Client, Response};
use serde_json::{Value, json};

use super::{BATCH, PARTITIONS, server::TOKEN};
use crate::{child::Figures, telemetry::Telemetry};

const PIPE: &str = "databases/PLANT/schemas/PUBLIC/pipes/EVENTS-STREAMING";
/// `localhost` is what the harness calls the server.
const EXCHANGE: &str = "grant_type=urn:ietf:params:oauth:grant-type:token-exchange&scope=localhost\
                        &subject_token_type=programmatic_access_token";
/// As the agent compresses.
const LEVEL: i32 = 1;
/// Different requests; then they come again.
const DIFFERENT: usize = 4;

/// Appends `events`.
pub(crate) fn append(port: u64, events: u64) -> Figures {
    let port = u16::try_from(port).expect("a port");
    let mut telemetry = Telemetry::new(1);
    let requests: Vec<_> = (0..DIFFERENT).map(|_| rows(&mut telemetry, BATCH)).collect();
    let each = events / PARTITIONS;
    let last = rows(&mut telemetry, each % BATCH);
    let token = Lane::token(port);
    thread::scope(|scope| {
        for partition in 0..PARTITIONS {
            let (requests, last, token) = (&requests, &last, &token);
            scope.spawn(move || {
                let mut lane = Lane::open(port, token, partition);
                requests.iter().cycle().take((each / BATCH) as usize).for_each(|rows| lane.append(rows));
                if !each.is_multiple_of(BATCH) {
                    lane.append(last);
                }
            });
        }
    });
    std::io::stdin().read_to_end(&mut Vec::new()).expect("standard input can be read");
    Figures::new()
}

/// A channel.
struct Lane {
    client: Client,
    authorization: String,
    /// From `databases/` on.
    path: String,
    continuation: String,
    sent: u64,
}

impl Lane {
    /// A token for the ingest host.
    fn token(port: u16) -> String {
        let mut lane = Self {
            client: Client::new(port),
            authorization: format!("Bearer {TOKEN}"),
            path: String::new(),
            continuation: String::new(),
            sent: 0,
        };
        let kind = [("x-snowflake-authorization-token-type", "PROGRAMMATIC_ACCESS_TOKEN")];
        lane.ask("POST", "/oauth/token", &kind, EXCHANGE.as_bytes()).body
    }

    fn open(port: u16, token: &str, partition: u64) -> Self {
        let path = format!("{PIPE}/channels/BARE_{partition}");
        let authorization = format!("Bearer {token}");
        let mut lane = Self { client: Client::new(port), authorization, path, continuation: String::new(), sent: 0 };
        let path = format!("/v2/streaming/{}", lane.path);
        lane.go_on(&path, "PUT", &[], json!({}).to_string().as_bytes());
        lane
    }

    fn append(&mut self, rows: &[u8]) {
        self.sent += 1;
        let (path, number, continuation) = (&self.path, self.sent, &self.continuation);
        let path = format!("/v2/streaming/data/{path}/rows?offsetToken={number}&continuationToken={continuation}");
        let kind = [("content-type", "application/x-ndjson"), ("content-encoding", "zstd")];
        self.go_on(&path, "POST", &kind, rows);
    }

    /// Does what the next continuation token comes of.
    fn go_on(&mut self, path: &str, method: &str, headers: &[(&str, &str)], body: &[u8]) {
        let answer: Value = serde_json::from_str(&self.ask(method, path, headers, body).body).expect("JSON");
        self.continuation = answer["next_continuation_token"].as_str().expect("a token").to_owned();
    }

    fn ask(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
        let usual = [("accept", "application/json"), ("authorization", self.authorization.as_str())];
        let answer = self.client.request(method, path, &[&usual, headers].concat(), body).expect("it answers");
        assert_eq!(answer.status, 200, "{method} {path}: {}", answer.body);
        answer
    }
}

/// A request with so many events, as rows that the agent makes of them.
fn rows(telemetry: &mut Telemetry, events: u64) -> Vec<u8> {
    let row = |number| {
        let row = json!({
            "event_body": String::from_utf8_lossy(&telemetry.body()),
            "partition_id": "0",
            "sequence_number": (1_u64 << 40) + number,
            "enqueued_time": "2026-01-01T00:00:00.000000Z",
            "properties": null,
            "system_properties": null,
            "ingestion_timestamp": "2026-01-01T00:00:00.000000Z",
        });
        format!("{row}\n").into_bytes()
    };
    let rows: Vec<u8> = (0..events).flat_map(row).collect();
    zstd::encode_all(&rows[..], LEVEL).expect("memory takes all writes")
}
