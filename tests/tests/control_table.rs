//! The control table in a real Postgres: what its rows look like to others, what is left alone, and what happens when the
//! server or a privilege is not there.

use std::sync::Arc;

use forebay::{
    client::postgres::{TableName, Url},
    clock::SystemClock,
    contract::{
        Bid, CheckpointKey, CheckpointMove, Claim, Control, ControlError, ControlRow, HubId, KeptBy, Shares, Target,
        Upstream,
    },
    control::postgres::Postgres as Table,
};
use forebay_buffer::{Checkpoint, Generation, Offset, Tag};
use forebay_tests::{
    harness::{Agent, Gateway, wait_until},
    load::Gauge,
    servers::Postgres,
};
use serde_json::{Value, json};

/// The table as the Python pipeline creates it in Postgres.
const PYTHONS_TABLE: &str = "CREATE TABLE ingestion_status (ts_inserted TIMESTAMPTZ DEFAULT now(), eventhub_namespace TEXT, \
                             eventhub TEXT, target_db TEXT, target_schema TEXT, target_table TEXT, waterlevel BIGINT, \
                             partition_id TEXT NOT NULL, metadata JSONB, PRIMARY KEY (eventhub_namespace, eventhub, \
                             target_db, target_schema, target_table, partition_id))";

fn server() -> Postgres {
    let postgres = Postgres::start();
    postgres.psql(PYTHONS_TABLE);
    postgres
}

/// The table as `user` gets at it.
fn table(postgres: &Postgres, user: &str) -> Table {
    let url = format!("{}?sslmode=disable", postgres.url_for(user, "postgres"));
    let settings = Url::parse(&url).and_then(Url::settings).expect("a URL");
    let name = TableName::parse("ingestion_status").expect("a name");
    Table::new(settings, name, Arc::new(SystemClock::new()))
}

fn key(partition: &str) -> CheckpointKey {
    let target = Target { database: "file".into(), schema: "local".into(), table: "o'files".into() };
    CheckpointKey { namespace: "gw-1".into(), hub: "line1".into(), target, partition: partition.into() }
}

fn at(offset: i64) -> Checkpoint {
    Checkpoint { generation: Generation(0xabc), tag: Tag(0x12), offset: Offset(offset) }
}

fn moved(partition: &str, from: Option<i64>, to: i64) -> CheckpointMove {
    CheckpointMove { key: key(partition), from: from.map(at), to: at(to), upstream: None }
}

#[tokio::test]
async fn the_python_pipeline_finds_in_a_row_what_it_knows_and_ours_besides() {
    let postgres = server();
    let table = table(&postgres, Postgres::USER);
    table.save(&[moved("0", None, 5), moved("1", None, 6)]).await.expect("nothing stands there");
    table.save(&[moved("0", Some(5), 7)]).await.expect("it is what it was");
    let columns = "eventhub_namespace, eventhub, target_db, target_schema, target_table, partition_id, waterlevel, \
                   ts_inserted > now() - interval '1 minute'";
    assert_eq!(
        postgres.psql(&format!("SELECT {columns} FROM ingestion_status ORDER BY partition_id")),
        "gw-1|line1|file|local|o'files|0|7|t\ngw-1|line1|file|local|o'files|1|6|t"
    );
    let metadata = postgres.psql("SELECT metadata FROM ingestion_status WHERE partition_id = '0'");
    let expected = json!({
        "sequence_number": 7,
        "offset_string": "7",
        "fully_qualified_namespace": "gw-1",
        "eventhub_name": "line1",
        "consumer_group": "",
        "generation": "00000000000000000000000000000abc",
        "epoch_tag": "0000000000000012",
        "offset": 7,
        "kept_by": "delivery",
    });
    assert_eq!(serde_json::from_str::<Value>(&metadata).expect("JSON"), expected);
    let loaded = table.load(&["2", "0", "1"].map(key)).await.expect("the table is there");
    let mut loaded: Vec<_> = loaded.into_iter().map(|row| (row.key, row.kept_by, row.checkpoint)).collect();
    loaded.sort_by_key(|(key, ..)| key.partition.clone());
    let ours = Some(KeptBy::Delivery);
    assert_eq!(loaded, [(key("0"), ours, Ok(at(7))), (key("1"), ours, Ok(at(6)))], "there is no third");
    let listed = table.list("gw-1").await.expect("the table is there");
    let listed: Vec<_> = listed.into_iter().map(|row| (row.key, row.checkpoint)).collect();
    assert_eq!(listed, [(key("0"), Ok(at(7))), (key("1"), Ok(at(6)))]);
    assert_eq!(table.list("gw-2").await, Ok(Vec::new()));
}

#[tokio::test]
async fn a_row_of_a_hub_says_where_the_python_pipeline_resumes() {
    let postgres = server();
    let table = table(&postgres, Postgres::USER);
    let upstream = Some(Upstream { consumer_group: "$Default".into(), offset: Some("0:4:98".into()) });
    let first = CheckpointMove { upstream: upstream.clone(), ..moved("0", None, 5) };
    table.save(&[first]).await.expect("nothing stands there");
    let metadata: Value =
        serde_json::from_str(&postgres.psql("SELECT metadata FROM ingestion_status")).expect("it is JSON");
    let said = ["sequence_number", "offset_string", "consumer_group"].map(|name| metadata[name].clone());
    assert_eq!(said, [json!(5), json!("0:4:98"), json!("$Default")]);
    assert_eq!(table.load(&[key("0")]).await.expect("it is there")[0].upstream, upstream);
    let unknown = Some(Upstream { consumer_group: "$Default".into(), offset: None });
    let next = CheckpointMove { upstream: unknown.clone(), ..moved("0", Some(5), 6) };
    table.save(&[next]).await.expect("it is what it was");
    assert_eq!(table.load(&[key("0")]).await.expect("it is there")[0].upstream, unknown, "no offset is made up");
}

/// The table of claims as the Python pipeline creates it in Postgres.
const PYTHONS_CLAIMS: &str = "CREATE TABLE ingestion_status_ownership (fully_qualified_namespace TEXT NOT NULL, \
                              eventhub_name TEXT NOT NULL, consumer_group TEXT NOT NULL, target_db TEXT NOT NULL, \
                              target_schema TEXT NOT NULL, target_table TEXT NOT NULL, partition_id TEXT NOT NULL, \
                              owner_id TEXT NOT NULL, etag TEXT NOT NULL, last_modified_time DOUBLE PRECISION NOT NULL, \
                              ts_modified TIMESTAMPTZ NOT NULL, PRIMARY KEY (fully_qualified_namespace, eventhub_name, \
                              consumer_group, target_db, target_schema, target_table, partition_id))";

fn bid(partition: &str, over: Option<&str>, owner: &str, etag: &str) -> Bid {
    let (partition, over) = (partition.to_owned(), over.map(str::to_owned));
    Bid { partition, over, owner: owner.to_owned(), etag: etag.to_owned() }
}

#[tokio::test]
async fn of_two_who_claim_a_partition_one_gets_it_and_the_table_says_how_old_a_claim_is() {
    let postgres = server();
    postgres.psql(PYTHONS_CLAIMS);
    let (one, other) = (table(&postgres, Postgres::USER), table(&postgres, Postgres::USER));
    let hub = HubId { namespace: "ns".into(), hub: "eh1".into(), consumer_group: "$Default".into(), is_shared: true };
    let shares = Shares { hub, target: key("0").target };
    assert_eq!(one.claims(&shares).await, Ok(Vec::new()));
    let (a, b) = ([bid("0", None, "a", "a0"), bid("1", None, "a", "a1")], [bid("1", None, "b", "b1")]);
    let (won_by_a, won_by_b) = tokio::join!(one.bid(&shares, &a), other.bid(&shares, &b));
    let (won_by_a, won_by_b) = (won_by_a.expect("it answers"), won_by_b.expect("it answers"));
    assert_eq!(won_by_a.len() + won_by_b.len(), 2, "{won_by_a:?} {won_by_b:?}");
    assert_eq!(other.bid(&shares, &[bid("0", Some("stale"), "b", "b0")]).await, Ok(Vec::new()));
    assert_eq!(other.bid(&shares, &[bid("0", Some("a0"), "b", "b0")]).await, Ok(vec!["0".to_owned()]));
    assert_eq!(one.bid(&shares, &[bid("0", Some("a0"), "a", "a2")]).await, Ok(Vec::new()), "it was taken over");
    postgres.psql("UPDATE ingestion_status_ownership SET last_modified_time = last_modified_time - 3600");
    assert_eq!(one.bid(&shares, &[bid("0", Some("b0"), "", "b2")]).await, Ok(vec!["0".to_owned()]));
    let claims = one.claims(&shares).await.expect("it answers");
    let of = |partition: &str| claims.iter().find(|claim| claim.partition == partition).expect("there is one");
    let Claim { owner, etag, age, .. } = of("0");
    assert_eq!((owner.as_str(), etag.as_str()), ("", "b2"));
    assert!(age.as_secs() < 600 && of("1").age.as_secs() >= 3600, "{claims:?}");
    let elsewhere = Shares { target: Target { table: "another".into(), ..shares.target.clone() }, ..shares };
    assert_eq!(one.claims(&elsewhere).await, Ok(Vec::new()));
}

#[tokio::test]
async fn one_lost_row_takes_all_of_them_back_and_is_named() {
    let postgres = server();
    let table = table(&postgres, Postgres::USER);
    table.save(&[moved("0", None, 1), moved("1", None, 1), moved("2", None, 1)]).await.expect("nothing stands there");
    let written = postgres.psql("SELECT * FROM ingestion_status ORDER BY partition_id");
    let lost = |moves: Vec<CheckpointMove>| {
        let table = &table;
        async move { table.save(&moves).await }
    };
    for wrong in [moved("1", Some(2), 9), moved("1", None, 9)] {
        let outcome = lost(vec![moved("0", Some(1), 9), wrong, moved("2", Some(1), 9)]).await;
        assert_eq!(outcome, Err(ControlError::Moved(key("1"))));
    }
    let mut other_tag = moved("1", Some(1), 9);
    other_tag.from = Some(Checkpoint { tag: Tag(0x13), ..at(1) });
    assert_eq!(lost(vec![other_tag, moved("0", Some(1), 9)]).await, Err(ControlError::Moved(key("1"))));
    assert_eq!(postgres.psql("SELECT * FROM ingestion_status ORDER BY partition_id"), written);
}

#[tokio::test]
async fn a_row_is_moved_only_by_whoever_keeps_it_and_by_whoever_comes_first_if_it_does_not_say() {
    let postgres = server();
    let (deliverys, sinks) = (table(&postgres, Postgres::USER), table(&postgres, Postgres::USER).of_sinks());
    sinks.save(&[moved("0", None, 1)]).await.expect("nothing stands there");
    assert_eq!(deliverys.load(&[key("0")]).await.expect("it is there")[0].kept_by, Some(KeptBy::Sink));
    let lost = Err(ControlError::Moved(key("0")));
    assert_eq!(deliverys.save(&[moved("0", Some(1), 2)]).await, lost);
    sinks.save(&[moved("0", Some(1), 2)]).await.expect("it is its own");
    postgres.psql("UPDATE ingestion_status SET metadata = metadata - 'kept_by'");
    deliverys.save(&[moved("0", Some(2), 3)]).await.expect("it comes first");
    assert_eq!(sinks.save(&[moved("0", Some(3), 4)]).await, lost);
}

#[tokio::test]
async fn rows_that_others_wrote_are_read_and_never_written_over() {
    let postgres = server();
    let pythons = r#"{"sequence_number": 41, "offset_string": "8589", "fully_qualified_namespace": "gw-1",
                      "eventhub_name": "line1", "consumer_group": "$Default"}"#;
    for (partition, metadata) in
        [("integer", "NULL"), ("python", &*format!("'{pythons}'")), ("odd", "'{\"generation\": 1}'")]
    {
        postgres.psql(&format!(
            "INSERT INTO ingestion_status VALUES (now(), 'gw-1', 'line1', 'file', 'local', 'o''files', 8589, \
             '{partition}', {metadata})"
        ));
    }
    let before = postgres.psql("SELECT * FROM ingestion_status ORDER BY partition_id");
    let table = table(&postgres, Postgres::USER);
    for partition in ["integer", "python", "odd"] {
        let loaded = table.load(&[key(partition)]).await.expect("the table is there");
        let [ControlRow { checkpoint: Err(why), .. }] = &loaded[..] else { panic!("{partition}: {loaded:?}") };
        let name = format!("gw-1/line1/{partition}");
        assert!(why.contains(&name) && why.contains("delete the row"), "{why}");
        assert_eq!(table.save(&[moved(partition, None, 9)]).await, Err(ControlError::Moved(key(partition))));
    }
    let listed = table.list("gw-1").await.expect("the table is there");
    assert!(listed.len() == 3 && listed.iter().all(|row| row.checkpoint.is_err()), "{listed:?}");
    assert_eq!(postgres.psql("SELECT * FROM ingestion_status ORDER BY partition_id"), before);
}

#[tokio::test]
async fn it_comes_back_by_itself_when_the_server_does() {
    let postgres = server();
    let table = table(&postgres, Postgres::USER);
    table.save(&[moved("0", None, 1)]).await.expect("nothing stands there");
    postgres.psql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'forebay'");
    let loaded = table.load(&[key("0")]).await.expect("a connection that was cut while idle is no outage");
    assert_eq!(loaded[0].checkpoint, Ok(at(1)));
    postgres.stop_immediate();
    let Err(ControlError::Retry(why)) = table.save(&[moved("0", Some(1), 2)]).await else { panic!("it is down") };
    assert!(why.contains("127.0.0.1"), "{why}");
    postgres.start_again();
    table.save(&[moved("0", Some(1), 2)]).await.expect("it is up again");
}

#[tokio::test]
async fn an_error_that_someone_must_mend_says_how_and_that_works() {
    let postgres = Postgres::start();
    postgres.psql("CREATE ROLE \"In gest\" LOGIN");
    let table = table(&postgres, "In gest");
    let stopped = || async {
        match table.save(&[moved("0", None, 1)]).await {
            Err(ControlError::Stop(why)) => why,
            other => panic!("{other:?}"),
        }
    };
    assert!(stopped().await.contains("forebay setup"));
    postgres.psql(PYTHONS_TABLE);
    let why = stopped().await;
    let (_, grants) = why.split_once("let its owner run: ").unwrap_or_else(|| panic!("{why}"));
    postgres.psql(grants);
    table.save(&[moved("0", None, 1)]).await.expect("it may now");
    postgres.psql("ALTER TABLE ingestion_status DROP CONSTRAINT ingestion_status_pkey");
    let why = match table.save(&[moved("1", None, 1)]).await {
        Err(ControlError::Stop(why)) => why,
        other => panic!("without its key the table would take two rows for one: {other:?}"),
    };
    assert!(why.contains("--print-sql"), "{why}");
}

const TO_FILES: &str = r#"
[control]
host = "127.0.0.1"
port = {port}
user = "{user}"
database = "postgres"
sslmode = "disable"
interval = "1s"

[sources.line]
type = "http"
listen = "{http}"
path = "/events"

[sinks.near]
type = "file"
inputs = ["line"]
path = "{dir}/near"
"#;

fn configure(gateway: &Gateway, postgres: &Postgres, user: &str) {
    let config = TO_FILES.replace("{port}", &postgres.port().to_string()).replace("{user}", user);
    gateway.configure(&config);
}

/// The offset in the row of the file sink.
fn waterlevel(postgres: &Postgres) -> Option<i64> {
    let rows = postgres.psql(
        "SELECT waterlevel FROM ingestion_status WHERE (eventhub_namespace, eventhub, target_db, target_schema, \
         target_table, partition_id) = ('gw-test', 'line', 'file', 'local', 'near', '0')",
    );
    rows.parse().ok()
}

fn last_offset(gateway: &Gateway) -> Option<i64> {
    forebay_tests::harness::read_output(&gateway.path("near"), "near").records.last().map(|record| record.offset)
}

fn control_lines(agent: &Agent) -> Vec<String> {
    agent.log().into_iter().filter(|line| line.contains("(control table")).collect()
}

#[test]
fn a_file_sinks_place_is_in_the_control_table_soon_and_what_came_last_when_the_agent_ends() {
    let (gateway, postgres) = (Gateway::new(), server());
    configure(&gateway, &postgres, Postgres::USER);
    let agent = gateway.start();
    let mut gauge = Gauge::new(&gateway, "/events");
    gauge.send_well();
    gauge.judge(&gauge.wait_delivered(&gateway, "near", "near"));
    wait_until("the row to be written", || waterlevel(&postgres).is_some());
    for _ in 0..20 {
        gauge.send_well();
    }
    gauge.judge(&gauge.wait_delivered(&gateway, "near", "near"));
    assert!(agent.terminate().success());
    assert_eq!(waterlevel(&postgres), last_offset(&gateway));
}

#[test]
fn delivery_goes_on_while_the_control_table_is_away_and_that_is_one_line_and_one_when_it_is_back() {
    let (gateway, postgres) = (Gateway::new(), server());
    configure(&gateway, &postgres, Postgres::USER);
    postgres.stop_immediate();
    let agent = gateway.start();
    let mut gauge = Gauge::new(&gateway, "/events");
    for _ in 0..20 {
        gauge.send_well();
    }
    gauge.judge(&gauge.wait_delivered(&gateway, "near", "near"));
    wait_until("the outage to be logged", || !control_lines(&agent).is_empty());
    let health = agent.get("/health");
    assert_eq!(health.status, 200, "{}", health.body);
    postgres.start_again();
    wait_until("the row to be written", || waterlevel(&postgres) == last_offset(&gateway));
    wait_until("the end to be logged", || control_lines(&agent).len() > 1);
    let lines = control_lines(&agent);
    assert!(lines.len() == 2 && lines[0].contains("waiting") && lines[1].contains("running again"), "{lines:#?}");
    assert!(agent.terminate().success());
}

#[test]
fn a_row_of_another_gateway_is_reported_and_left_alone_while_the_files_go_on() {
    let (gateway, postgres) = (Gateway::new(), server());
    configure(&gateway, &postgres, Postgres::USER);
    let agent = gateway.start();
    let mut gauge = Gauge::new(&gateway, "/events");
    gauge.send_well();
    wait_until("the row to be written", || waterlevel(&postgres).is_some());
    // Another gateway by the same id.
    postgres.psql(
        "UPDATE ingestion_status SET metadata = metadata || '{\"generation\": \"000000000000000000000000000000ff\"}'",
    );
    let theirs = postgres.psql("SELECT * FROM ingestion_status");
    gauge.send_well();
    wait_until("health to say so", || agent.get("/health").status == 503);
    let health = agent.get("/health").body;
    for part in ["gw-test/line/0", "another gateway with the same id", "delete the row"] {
        assert!(health.contains(part), "{part} is not in {health}");
    }
    gauge.send_well();
    gauge.judge(&gauge.wait_delivered(&gateway, "near", "near"));
    assert_eq!(postgres.psql("SELECT * FROM ingestion_status"), theirs);
    // What the message says to do.
    postgres.psql("DELETE FROM ingestion_status");
    agent.signal(rustix::process::Signal::HUP);
    wait_until("the row to be written anew", || waterlevel(&postgres) == last_offset(&gateway));
    wait_until("health to be well", || agent.get("/health").status == 200);
    assert!(agent.terminate().success());
}

#[test]
fn a_sink_with_a_database_of_its_own_keeps_its_row_there_and_the_control_table_follows() {
    let (gateway, postgres) = (Gateway::new(), Postgres::start());
    postgres.psql("CREATE DATABASE control");
    let own = TO_FILES.split("[sinks.near]").next().expect("there is a sink");
    let sink = "[sinks.far]\ntype = \"postgres\"\ninputs = [\"line\"]\ntable = \"telemetry\"\nurl = \"{url}?sslmode=disable\"\n";
    let config = format!("{own}{sink}").replace("database = \"postgres\"", "database = \"control\"");
    let (port, url) = (postgres.port().to_string(), postgres.url());
    gateway.configure(&config.replace("{port}", &port).replace("{user}", Postgres::USER).replace("{url}", &url));
    let setup = gateway.run(&["setup"]);
    assert!(setup.status.success(), "{}", String::from_utf8_lossy(&setup.stderr));

    let row = "SELECT eventhub_namespace, eventhub, target_db, target_schema, target_table, partition_id, waterlevel, \
               metadata - 'kept_by' FROM ingestion_status";
    let controls = || {
        let mut psql = postgres.psql_command(&postgres.url_for(Postgres::USER, "control"));
        let output = psql.args(["-c", row]).output().expect("psql can be run").stdout;
        String::from_utf8_lossy(&output).trim_end().to_owned()
    };
    let agent = gateway.start();
    let mut gauge = Gauge::new(&gateway, "/events");
    for _ in 0..20 {
        gauge.send_well();
    }
    wait_until("all to be delivered", || postgres.psql("SELECT count(*) FROM telemetry") == "20");
    wait_until("the control table to follow", || controls() == postgres.psql(row));
    assert!(controls().starts_with("gw-test|line|postgres|public|telemetry|0|"), "{}", controls());
    gauge.send_well();
    wait_until("the last to be delivered", || postgres.psql("SELECT count(*) FROM telemetry") == "21");
    assert!(agent.terminate().success());
    assert_eq!(controls(), postgres.psql(row), "what came last is written when the agent ends");
}
