//! Whose a row is, with a real Postgres: what a sink goes on from is written by nobody else, whatever the control table is
//! called and wherever it moves.

use forebay_tests::{
    harness::{Agent, Gateway, wait_until},
    load::Gauge,
    servers::Postgres,
};

const CONFIG: &str = r#"
[control]
{control}

[sources.line]
type = "http"
listen = "{http}"
path = "/events"

[sinks.warehouse]
type = "postgres"
inputs = ["line"]
url = "{url}?sslmode=disable"
table = "telemetry"
"#;

fn configure(gateway: &Gateway, postgres: &Postgres, control: &str) {
    gateway.configure(&CONFIG.replace("{control}", control).replace("{url}", &postgres.url()));
}

#[track_caller]
fn run(gateway: &Gateway, arguments: &[&str]) -> String {
    let output = gateway.run(arguments);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    said
}

fn keep_config(gateway: &Gateway) {
    std::fs::copy(gateway.config_path(), gateway.path("before.toml")).expect("it can be copied");
}

/// Sends so many, and waits until there are `total` in the table.
fn deliver(gauge: &mut Gauge, postgres: &Postgres, events: u32, total: u32) {
    (0..events).for_each(|_| gauge.send_well());
    wait_until("all to be delivered", || count(postgres) == total.to_string());
}

fn count(postgres: &Postgres) -> String {
    postgres.psql("SELECT count(DISTINCT \"offset\") FROM telemetry")
}

/// Who keeps the row in `table`, and whether it is at the last event that was delivered.
fn row(postgres: &Postgres, database: &str, table: &str) -> String {
    let last = postgres.psql("SELECT max(\"offset\") FROM telemetry");
    let sql = format!("SELECT metadata->>'kept_by', waterlevel = {last} FROM {table}");
    let output = postgres.psql_command(&postgres.url_for(Postgres::USER, database)).args(["-c", &sql]).output();
    String::from_utf8_lossy(&output.expect("psql can be run").stdout).trim_end().to_owned()
}

fn is_stopped(agent: &Agent, why: &str) -> bool {
    let health = agent.get("/health");
    health.status == 503 && health.body.contains(why)
}

#[test]
fn a_control_table_that_is_the_sinks_own_under_another_name_is_left_to_the_sink() {
    let gateway = Gateway::new();
    let postgres = Postgres::builder().setting("listen_addresses", "127.0.0.1,127.0.0.2").start();
    let control = format!(
        "host = \"127.0.0.2\"\nport = {}\nuser = \"{}\"\ndatabase = \"postgres\"\nsslmode = \"disable\"\ninterval = \"1h\"",
        postgres.port(),
        Postgres::USER
    );
    configure(&gateway, &postgres, &control);
    run(&gateway, &["setup"]);
    let agent = gateway.start();
    let mut gauge = Gauge::new(&gateway, "/events");
    deliver(&mut gauge, &postgres, 1, 1);
    let said = |agent: &Agent| agent.log().iter().filter(|line| line.contains("under another name")).count();
    wait_until("it to be found out", || said(&agent) == 1);
    assert_eq!(agent.get("/health").status, 200, "there is nothing wrong");
    let tables = ["telemetry", "ingestion_status"];
    tables.iter().for_each(|table| drop(postgres.psql(&format!("CREATE TABLE saved_{table} AS TABLE {table}"))));
    deliver(&mut gauge, &postgres, 1, 2);
    // The database is restored to what it was.
    let restore = |table: &str| format!("TRUNCATE {table}; INSERT INTO {table} TABLE saved_{table};");
    postgres.psql(&format!("BEGIN; {} COMMIT", tables.map(restore).join(" ")));
    gauge.send_well();
    wait_until("the sink to stop, or to send it again", || is_stopped(&agent, "gone back") || count(&postgres) == "3");
    let before = postgres.psql("TABLE ingestion_status");
    assert!(agent.terminate().success());
    assert_eq!(postgres.psql("TABLE ingestion_status"), before, "nobody but the sink writes it");
    assert_eq!(row(&postgres, "postgres", "ingestion_status"), "sink|t");

    let agent = gateway.start();
    wait_until("the sink to stop again, or to go on", || is_stopped(&agent, "gone back") || count(&postgres) == "3");
    assert_ne!(count(&postgres), "2", "the third without the second");
    assert!(said(&agent) <= 1);
    assert!(agent.terminate().success());
}

#[test]
fn a_sink_does_not_go_on_from_a_row_that_delivery_wrote() {
    let (gateway, postgres) = (Gateway::new(), Postgres::start());
    configure(&gateway, &postgres, "");
    run(&gateway, &["setup"]);
    let agent = gateway.start();
    deliver(&mut Gauge::new(&gateway, "/events"), &postgres, 1, 1);
    assert!(agent.terminate().success());
    postgres.psql("UPDATE ingestion_status SET metadata = metadata || '{\"kept_by\": \"delivery\"}'");
    let before = postgres.psql("TABLE ingestion_status");
    let agent = gateway.start();
    wait_until("the sink to stop", || is_stopped(&agent, "was written by delivery"));
    assert_eq!(postgres.psql("TABLE ingestion_status"), before);
    // It was all a mistake.
    postgres.psql("UPDATE ingestion_status SET metadata = metadata || '{\"kept_by\": \"sink\"}'");
    agent.signal(rustix::process::Signal::HUP);
    deliver(&mut Gauge::new(&gateway, "/events"), &postgres, 1, 2);
    assert!(agent.terminate().success());
}

#[test]
fn a_sinks_own_row_goes_with_it_when_it_becomes_the_control_tables_and_when_it_is_that_no_longer() {
    let (gateway, postgres) = (Gateway::new(), Postgres::start());
    postgres.psql("CREATE DATABASE control");
    configure(&gateway, &postgres, "database = \"control\"\ninterval = \"1h\"");
    run(&gateway, &["setup"]);
    let agent = gateway.start();
    let mut gauge = Gauge::new(&gateway, "/events");
    deliver(&mut gauge, &postgres, 1, 1);
    wait_until("the control table to be written", || row(&postgres, "control", "ingestion_status") == "delivery|t");
    deliver(&mut gauge, &postgres, 4, 5);
    agent.kill_9();
    assert_eq!(row(&postgres, "control", "ingestion_status"), "delivery|f", "it lags behind");

    keep_config(&gateway);
    configure(&gateway, &postgres, "table = \"forebay_status\"");
    let said = run(&gateway, &["setup", "--copy-from", "before.toml"]);
    assert_eq!(said.matches("1 rows copied").count(), 1, "{said}");
    assert!(said.contains("not copied: the sink warehouse goes on from its own row"), "{said}");
    assert_eq!(row(&postgres, "postgres", "forebay_status"), "sink|t");
    let agent = gateway.start();
    deliver(&mut Gauge::new(&gateway, "/events"), &postgres, 5, 10);
    assert!(agent.terminate().success());
    assert_eq!(row(&postgres, "postgres", "forebay_status"), "sink|t");

    // And back, where the lagging row still is: that is looked at, and left.
    keep_config(&gateway);
    configure(&gateway, &postgres, "database = \"control\"\ntable = \"third\"\ninterval = \"1h\"");
    let said = run(&gateway, &["setup", "--copy-from", "before.toml"]);
    assert_eq!(said.matches("1 rows copied").count(), 2, "{said}");
    assert_eq!(row(&postgres, "postgres", "third"), "sink|t");
    assert_eq!(row(&postgres, "control", "third"), "delivery|t");
    let agent = gateway.start();
    deliver(&mut Gauge::new(&gateway, "/events"), &postgres, 5, 15);
    assert!(agent.terminate().success());
    assert_eq!(row(&postgres, "postgres", "third"), "sink|t");
    assert_eq!(row(&postgres, "control", "third"), "delivery|t", "it is written when the agent ends");
    assert_eq!(postgres.psql("SELECT count(*) FROM telemetry"), "15", "nothing twice");
}

#[test]
fn a_sinks_own_row_goes_with_it_also_where_there_is_no_control_table() {
    let (gateway, postgres) = (Gateway::new(), Postgres::start());
    configure(&gateway, &postgres, "backend = \"none\"\ntable = \"one\"");
    run(&gateway, &["setup"]);
    let agent = gateway.start();
    deliver(&mut Gauge::new(&gateway, "/events"), &postgres, 5, 5);
    assert!(agent.terminate().success());
    for control in ["backend = \"none\"\ntable = \"other\"", "table = \"third\""] {
        keep_config(&gateway);
        configure(&gateway, &postgres, control);
        let said = run(&gateway, &["setup", "--copy-from", "before.toml"]);
        assert_eq!(said.matches("1 rows copied").count(), 1, "{said}");
    }
    assert_eq!(row(&postgres, "postgres", "third"), "sink|t");
    let agent = gateway.start();
    deliver(&mut Gauge::new(&gateway, "/events"), &postgres, 5, 10);
    assert!(agent.terminate().success());
    assert_eq!(postgres.psql("SELECT count(*) FROM telemetry"), "10", "nothing twice");
}
