//! Promises 3 and 4 through PgBouncer in transaction mode, where every transaction may meet another connection to the
//! server: several streams, appended and upserted, while the agent is stopped and killed in between.

use forebay_tests::{
    harness::{Client, Gateway, free_port, wait_until},
    servers::{PgBouncer, Postgres},
};

const STREAMS: [&str; 3] = ["alpha", "beta", "gamma"];
const LIVES: u64 = 6;
/// Events of one request.
const BATCH: u64 = 50;
const REQUESTS: u64 = 4;
/// Keys of each stream that are upserted.
const DEVICES: u64 = 7;

const TABLES: &str = r#"
create table appended (
    arrived bigserial, stream text not null, partition text not null, "offset" bigint not null, n bigint not null
);
create table latest (stream text, device text, n bigint not null, primary key (stream, device));"#;

#[test]
fn several_streams_are_appended_and_upserted_exactly_once_through_transaction_pooling() {
    let postgres = Postgres::start();
    postgres.psql(TABLES);
    let bouncer = PgBouncer::start(&postgres);
    let (gateway, ports) = (Gateway::new(), STREAMS.map(|_| free_port()));
    configure(&gateway, &bouncer, ports);
    let done = gateway.run(&["setup"]);
    assert!(done.status.success(), "setup: {}", String::from_utf8_lossy(&done.stderr));

    let mut sent = 0;
    for life in 0..LIVES {
        let agent = gateway.start();
        for _ in 0..REQUESTS {
            ports.iter().for_each(|port| post(*port, sent..sent + BATCH));
            sent += BATCH;
        }
        // Every second life ends before all is delivered.
        if life % 2 == 0 {
            wait_until("some rows", || !postgres.psql("select 1 from appended limit 1").is_empty());
            agent.kill_9();
        } else {
            assert!(agent.terminate().success());
        }
    }
    let agent = gateway.start();
    wait_until("everything to be delivered", || agent.pending("rows") + agent.pending("states") == 0);
    assert!(agent.terminate().success());

    for stream in STREAMS {
        let numbers = postgres.psql(&format!("select n from appended where stream = '{stream}' order by arrived"));
        let numbers: Vec<u64> = numbers.lines().map(|n| n.parse().expect("a number")).collect();
        assert_eq!(numbers, (0..sent).collect::<Vec<_>>(), "{stream}");
        let states = postgres.psql(&format!("select device, n from latest where stream = '{stream}' order by device"));
        let last = |device| (0..sent).rev().find(|n| n % DEVICES == device).expect("every device has sent");
        let expected: Vec<String> = (0..DEVICES).map(|device| format!("d{device}|{}", last(device))).collect();
        assert_eq!(states.lines().collect::<Vec<_>>(), expected, "{stream}");
    }
    leaves_nothing_behind(&postgres, &bouncer);
}

fn configure(gateway: &Gateway, bouncer: &PgBouncer, ports: [u16; 3]) {
    let mut config = String::new();
    for (stream, port) in STREAMS.iter().zip(ports) {
        config.push_str(&format!(
            "[sources.{stream}]\ntype = \"http\"\nlisten = \"127.0.0.1:{port}\"\npath = \"/e\"\n\n"
        ));
    }
    let url = format!("{}?sslmode=disable", bouncer.url());
    config.push_str(&format!(
        r#"
[sinks.rows]
type = "postgres"
inputs = {STREAMS:?}
url = "{url}"
table = "appended"
columns = {{ stream = "stream", partition = "partition", offset = "offset", n = "$.n" }}

[sinks.states]
type = "postgres"
inputs = {STREAMS:?}
url = "{url}"
table = "latest"
mode = "upsert"
key_columns = ["stream", "device"]
columns = {{ stream = "stream", device = "$.device", n = "$.n" }}
"#
    ));
    gateway.configure(&config);
}

fn post(port: u16, numbers: std::ops::Range<u64>) {
    let event = |n: u64| format!("{{\"n\":{n},\"device\":\"d{}\"}}\n", n % DEVICES);
    let body: String = numbers.map(event).collect();
    let answer = Client::new(port).post("/e", &[("content-type", "application/x-ndjson")], body.as_bytes());
    assert_eq!(answer.expect("the agent answers").status, 202);
}

/// No connection to the server keeps anything of the agent's: what a transaction made is gone with it.
fn leaves_nothing_behind(postgres: &Postgres, bouncer: &PgBouncer) {
    let left = "select (select count(*) from pg_prepared_statements), (select count(*) from pg_cursors), \
                (select count(*) from pg_locks where locktype = 'advisory'), \
                (select count(*) from pg_class where relpersistence = 't')";
    let twice = ["-c", left, "-c", left];
    let done = postgres.psql_command(&bouncer.url()).args(twice).output().expect("psql can be run");
    assert_eq!(String::from_utf8_lossy(&done.stdout), "0|0|0|0\n0|0|0|0\n");
}
