//! `forebay setup` and `forebay check --connect` with a real Postgres: whatever they print is run as it is printed, and
//! must do.

use std::{io::Write, process::Stdio};

use forebay_tests::{
    harness::{Gateway, errors, text, wait_until, well},
    load::Gauge,
    servers::Postgres,
};

/// Into a table of Postgres, with the control table beside it.
const TO_POSTGRES: &str = r#"
[control]
schema = "ops"

[sources.line]
type = "http"
listen = "{http}"
path = "/events"

[sinks.warehouse]
type = "postgres"
inputs = ["line"]
url = "{url}?sslmode=disable"
table = "Plant.Telemetry"
{more}
"#;

/// Into files, with the control table in a database.
const TO_FILES: &str = r#"
[control]
host = "127.0.0.1"
port = {port}
user = "in gest"
database = "{database}"
schema = "ops"
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

fn to_postgres(gateway: &Gateway, postgres: &Postgres, user: &str, more: &str) {
    let url = postgres.url_for(user, "postgres");
    gateway.configure(&TO_POSTGRES.replace("{url}", &url).replace("{more}", more));
}

fn to_files(gateway: &Gateway, postgres: &Postgres, database: &str) {
    gateway.configure(&TO_FILES.replace("{port}", &postgres.port().to_string()).replace("{database}", database));
}

/// Gives `sql` to psql as it is.
fn run_by_dba(postgres: &Postgres, database: &str, sql: &str) {
    let mut psql = postgres.psql_command(&postgres.url_for(Postgres::USER, database));
    let mut child = psql.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("psql can be run");
    child.stdin.take().expect("it is piped").write_all(sql.as_bytes()).expect("psql reads");
    assert!(child.wait().expect("psql ends").success(), "{sql}");
}

/// The statement in a remedy.
fn statement(remedy: &str) -> &str {
    let starts = ["GRANT ", "ALTER ", "CREATE "].into_iter().filter_map(|word| remedy.find(word));
    &remedy[starts.min().unwrap_or_else(|| panic!("there is no statement in {remedy:?}"))..]
}

#[test]
fn setup_creates_what_is_not_there_and_says_what_was() {
    let (gateway, postgres) = (Gateway::new(), Postgres::start());
    to_postgres(&gateway, &postgres, Postgres::USER, "");
    let said = well(gateway.run(&["setup"]));
    let created: Vec<_> = said.lines().filter(|line| line.ends_with(": created")).collect();
    assert_eq!(created.len(), 2, "{said}");
    assert!(created[0].contains(r#""ops"."ingestion_status""#) && created[0].contains("the control table"), "{said}");
    assert!(created[0].contains("the checkpoints of the sink warehouse"), "one row serves both: {said}");
    assert!(created[1].contains(r#""plant"."telemetry""#), "{said}");
    let again = well(gateway.run(&["setup"]));
    assert!(again.lines().all(|line| line.ends_with(": was there already")), "{again}");
    assert_eq!(errors(&gateway), Vec::<[String; 3]>::new());
    let offline = text(&gateway.run(&["check", "--json"]).stdout);
    assert!(offline.contains("on 127.0.0.1") && offline.contains("written with the data of warehouse"), "{offline}");

    let agent = gateway.start();
    let mut gauge = Gauge::new(&gateway, "/events");
    for _ in 0..5 {
        gauge.send_well();
    }
    let rows = || postgres.psql("SELECT count(*) FROM plant.telemetry");
    wait_until("the rows to be there", || rows() == "5");
    let row = "SELECT (eventhub_namespace, eventhub, target_db, target_schema, target_table, partition_id), waterlevel = \
               (SELECT max(\"offset\") FROM plant.telemetry) FROM ops.ingestion_status";
    assert_eq!(postgres.psql(row), "(gw-test,line,postgres,plant,telemetry,0)|t");
    assert!(agent.terminate().success());
}

#[test]
fn many_set_up_at_the_same_time_and_none_fails() {
    let postgres = Postgres::start();
    let gateways: Vec<_> = (0..6).map(|_| Gateway::new()).collect();
    let running: Vec<_> = gateways
        .iter()
        .map(|gateway| {
            to_postgres(gateway, &postgres, Postgres::USER, "");
            gateway.command(&["setup"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it can be run")
        })
        .collect();
    for child in running {
        well(child.wait_with_output().expect("it ends"));
    }
}

#[test]
fn a_role_with_only_what_is_printed_delivers_and_may_not_set_up() {
    for (more, rows) in [("", 5), ("mode = \"upsert\"\nkey_columns = [\"stream\"]", 1)] {
        let (gateway, postgres) = (Gateway::new(), Postgres::start());
        postgres.psql("CREATE ROLE \"in gest\" LOGIN; REVOKE ALL ON DATABASE postgres FROM PUBLIC");
        to_postgres(&gateway, &postgres, "in%20gest", more);
        let refused = gateway.run(&["setup"]);
        assert_eq!(refused.status.code(), Some(1));
        assert!(text(&refused.stderr).contains("--print-sql"), "{}", text(&refused.stderr));
        run_by_dba(&postgres, "postgres", &well(gateway.run(&["setup", "--print-sql"])));
        assert_eq!(errors(&gateway), Vec::<[String; 3]>::new());
        assert!(well(gateway.run(&["setup"])).lines().all(|line| line.ends_with(": was there already")));
        let agent = gateway.start();
        let mut gauge = Gauge::new(&gateway, "/events");
        for _ in 0..5 {
            gauge.send_well();
        }
        let last = "SELECT count(*), (SELECT max(\"offset\") FROM plant.telemetry) = (SELECT waterlevel FROM \
                    ops.ingestion_status) FROM plant.telemetry";
        wait_until("all to be delivered", || postgres.psql(last) == format!("{rows}|t") && agent.confirmed() == 5);
        assert!(agent.terminate().success());
    }
}

#[test]
fn nothing_is_printed_or_made_where_there_is_no_database() {
    let gateway = Gateway::new();
    gateway.configure(&TO_FILES[TO_FILES.find("[sources").expect("there is a source")..]);
    assert!(well(gateway.run(&["setup"])).contains("nothing to set up"));
    assert!(well(gateway.run(&["setup", "--print-sql"])).starts_with("-- nothing"));
}

#[test]
fn a_server_that_is_away_is_worth_a_retry() {
    let (gateway, postgres) = (Gateway::new(), Postgres::start());
    to_postgres(&gateway, &postgres, Postgres::USER, "");
    postgres.stop_immediate();
    assert_eq!(gateway.run(&["setup"]).status.code(), Some(75));
}

/// Takes each of `broken` away, and sees that `check --connect` says what mends just that.
fn each_is_found_and_mended(gateway: &Gateway, postgres: &Postgres, subject: &str, broken: &[&str]) {
    assert_eq!(errors(gateway), Vec::<[String; 3]>::new());
    for sql in broken {
        postgres.psql(sql);
        let found = errors(gateway);
        assert!(found.len() == 1 && found[0][0].contains(subject), "after {sql}: {found:#?}");
        postgres.psql(statement(&found[0][2]));
        assert_eq!(errors(gateway), Vec::<[String; 3]>::new(), "after {sql}, and {}", found[0][2]);
    }
}

#[test]
fn everything_that_is_wrong_with_the_control_table_is_found_with_the_statement_that_mends_it() {
    let (gateway, postgres) = (Gateway::new(), Postgres::start());
    postgres.psql("CREATE ROLE \"in gest\" LOGIN");
    to_files(&gateway, &postgres, "postgres");
    let found = errors(&gateway);
    assert!(found.len() == 1 && found[0][1].contains("schema"), "{found:#?}");
    postgres.psql(statement(&found[0][2]));
    let found = errors(&gateway);
    assert!(found.len() == 1 && found[0][2].contains("forebay setup"), "{found:#?}");
    run_by_dba(&postgres, "postgres", &well(gateway.run(&["setup", "--print-sql"])));
    let broken = [
        "REVOKE USAGE ON SCHEMA ops FROM \"in gest\"",
        "REVOKE SELECT ON ops.ingestion_status FROM \"in gest\"",
        "REVOKE INSERT ON ops.ingestion_status FROM \"in gest\"",
        "REVOKE UPDATE ON ops.ingestion_status FROM \"in gest\"",
        "ALTER TABLE ops.ingestion_status DROP COLUMN metadata",
        "ALTER TABLE ops.ingestion_status ALTER COLUMN waterlevel TYPE integer",
        "ALTER TABLE ops.ingestion_status DROP CONSTRAINT ingestion_status_pkey",
    ];
    each_is_found_and_mended(&gateway, &postgres, "control table", &broken);
    postgres.stop_fast();
    let found = errors(&gateway);
    assert!(found.len() == 1 && found[0][1].contains("127.0.0.1"), "{found:#?}");
}

#[test]
fn every_privilege_that_a_sink_lacks_is_found_with_the_grant_that_mends_it() {
    let (gateway, postgres) = (Gateway::new(), Postgres::start());
    postgres.psql("CREATE ROLE \"in gest\" LOGIN; REVOKE ALL ON DATABASE postgres FROM PUBLIC");
    to_postgres(&gateway, &postgres, "in%20gest", "mode = \"upsert\"\nkey_columns = [\"stream\"]");
    run_by_dba(&postgres, "postgres", &well(gateway.run(&["setup", "--print-sql"])));
    let broken = [
        "REVOKE USAGE ON SCHEMA plant FROM \"in gest\"",
        "REVOKE SELECT ON plant.telemetry FROM \"in gest\"",
        "REVOKE INSERT ON plant.telemetry FROM \"in gest\"",
        "REVOKE UPDATE ON plant.telemetry FROM \"in gest\"",
        "REVOKE SELECT ON ops.ingestion_status FROM \"in gest\"",
        "REVOKE INSERT ON ops.ingestion_status FROM \"in gest\"",
        "REVOKE UPDATE ON ops.ingestion_status FROM \"in gest\"",
        "REVOKE DELETE ON ops.ingestion_status FROM \"in gest\"",
        "REVOKE TEMPORARY ON DATABASE postgres FROM \"in gest\"",
    ];
    each_is_found_and_mended(&gateway, &postgres, "", &broken);
    // Not to be let in is found twice: the control table is there too.
    postgres.psql("REVOKE CONNECT ON DATABASE postgres FROM \"in gest\"");
    let found = errors(&gateway);
    assert_eq!(found.len(), 2, "{found:#?}");
    found.iter().for_each(|one| assert!(statement(&one[2]).starts_with("GRANT CONNECT ON DATABASE"), "{found:#?}"));
    postgres.psql(statement(&found[0][2]));
    assert_eq!(errors(&gateway), Vec::<[String; 3]>::new());
}

#[test]
fn what_keeps_rows_from_being_appended_is_found() {
    let (gateway, postgres) = (Gateway::new(), Postgres::start());
    postgres.psql("CREATE ROLE \"in gest\" LOGIN");
    to_postgres(&gateway, &postgres, "in%20gest", "");
    run_by_dba(&postgres, "postgres", &well(gateway.run(&["setup", "--print-sql"])));
    let broken = [
        "ALTER TABLE plant.telemetry ADD \"the id\" bigserial",
        "ALTER TABLE plant.telemetry ENABLE ROW LEVEL SECURITY",
    ];
    each_is_found_and_mended(&gateway, &postgres, "telemetry", &broken);
    // What is no obstacle is none.
    postgres.psql("ALTER TABLE plant.telemetry ADD numbered bigint GENERATED ALWAYS AS IDENTITY");
    assert_eq!(errors(&gateway), Vec::<[String; 3]>::new());
    postgres.psql(
        "ALTER TABLE plant.telemetry RENAME TO below; CREATE VIEW plant.telemetry AS SELECT * FROM plant.below; \
         GRANT INSERT ON plant.telemetry TO \"in gest\"",
    );
    let found = errors(&gateway);
    assert!(found.len() == 1 && found[0][1].contains("is a view"), "{found:#?}");
    postgres.psql(
        "CREATE FUNCTION plant.put() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; CREATE TRIGGER put \
         INSTEAD OF INSERT ON plant.telemetry FOR EACH ROW EXECUTE FUNCTION plant.put()",
    );
    assert_eq!(errors(&gateway), Vec::<[String; 3]>::new());
}

#[test]
fn a_sinks_table_of_checkpoints_is_looked_at_also_where_it_is_not_the_control_table() {
    let (gateway, postgres) = (Gateway::new(), Postgres::start());
    postgres.psql("CREATE ROLE \"in gest\" LOGIN");
    let config = TO_POSTGRES.replace("[control]", "[control]\nbackend = \"none\"").replace("{more}", "");
    gateway.configure(&config.replace("{url}", &postgres.url_for("in%20gest", "postgres")));
    run_by_dba(&postgres, "postgres", &well(gateway.run(&["setup", "--print-sql"])));
    let broken = [
        "ALTER TABLE ops.ingestion_status DROP COLUMN metadata",
        "ALTER TABLE ops.ingestion_status ALTER COLUMN waterlevel TYPE integer",
        "ALTER TABLE ops.ingestion_status DROP CONSTRAINT ingestion_status_pkey",
    ];
    each_is_found_and_mended(&gateway, &postgres, "checkpoints of the sink warehouse", &broken);
}

#[test]
fn rows_are_copied_from_the_former_control_table_and_nothing_is_written_over() {
    let (mut gateway, postgres) = (Gateway::new(), Postgres::start());
    postgres.psql("CREATE ROLE \"in gest\" LOGIN SUPERUSER");
    postgres.psql("CREATE DATABASE before");
    postgres.psql("CREATE DATABASE present");
    to_files(&gateway, &postgres, "before");
    std::fs::copy(gateway.config_path(), gateway.path("before.toml")).expect("it can be copied");
    well(gateway.run(&["setup"]));
    let agent = gateway.start();
    let mut gauge = Gauge::new(&gateway, "/events");
    gauge.send_well();
    gauge.judge(&gauge.wait_delivered(&gateway, "near", "near"));

    let copy = ["setup", "--copy-from", "before.toml"];
    let same = gateway.run(&copy);
    assert_eq!(same.status.code(), Some(75), "an agent moves the rows meanwhile: {}", text(&same.stderr));
    assert!(agent.terminate().success());
    assert_eq!(gateway.run(&copy).status.code(), Some(2), "it is one table");

    let rows = |database: &str| {
        let mut psql = postgres.psql_command(&postgres.url_for(Postgres::USER, database));
        let select = "SELECT eventhub_namespace, eventhub, target_table, partition_id, waterlevel, metadata FROM \
                      ops.ingestion_status ORDER BY 1, 2, 3, 4";
        text(&psql.args(["-c", select]).output().expect("psql can be run").stdout)
    };
    let insert = |database: &str, partition: &str, offset: u32| {
        let metadata =
            format!("{{\"generation\": \"{:032x}\", \"epoch_tag\": \"{:016x}\", \"offset\": {offset}}}", 7, 8);
        let sql = format!(
            "INSERT INTO ops.ingestion_status VALUES (now(), 'gw-test', 'line', 'file', 'local', 'near', {offset}, \
             '{partition}', '{metadata}')"
        );
        run_by_dba(&postgres, database, &sql);
    };
    // The environment speaks of the present table, whatever the former config is like.
    gateway.set("TARGET_DB", "PRESENT");
    to_files(&gateway, &postgres, "overridden");
    let copied = well(gateway.run(&copy));
    assert!(copied.contains("gw-test/line/0") && copied.contains("\n1 rows copied"), "{copied}");
    assert_eq!(rows("present"), rows("before"));
    assert!(well(gateway.run(&copy)).contains("\n0 rows copied"), "a second time there is nothing to do");

    insert("before", "newer there", 5);
    insert("present", "newer there", 9);
    insert("before", "new", 5);
    run_by_dba(
        &postgres,
        "before",
        "INSERT INTO ops.ingestion_status VALUES (now(), 'gw-test', 'line', 'file', 'local', 'near', 5, 'legacy', NULL)",
    );
    let left = gateway.run(&copy);
    let said = text(&left.stdout);
    assert_eq!(left.status.code(), Some(1), "{said}");
    let line = |part: &str| said.lines().find(|line| line.contains(part)).unwrap_or_else(|| panic!("{part}: {said}"));
    assert!(line("newer there").contains("left: it is at offset 9") && line("legacy").contains("left: "), "{said}");
    assert!(line("gw-test/line/new ").contains("copied: offset 5"), "{said}");
    assert!(rows("present").contains("|newer there|9|") && !rows("present").contains("legacy"), "{}", rows("present"));

    // Where it was, it goes on.
    let agent = gateway.start();
    gauge.send_well();
    gauge.judge(&gauge.wait_delivered(&gateway, "near", "near"));
    assert!(agent.terminate().success());
    assert_ne!(rows("present"), rows("before"));
}

#[test]
fn dead_letters_of_a_sink_that_replaces_rows_are_sent_again_only_by_force() {
    let (gateway, postgres) = (Gateway::new(), Postgres::start());
    let more =
        "mode = \"upsert\"\nkey_columns = [\"device\"]\ncolumns = { device = \"$.device\", value = \"$.value\" }";
    to_postgres(&gateway, &postgres, Postgres::USER, more);
    postgres.psql("CREATE SCHEMA plant; CREATE TABLE plant.telemetry (device text PRIMARY KEY, value bigint)");
    well(gateway.run(&["setup"]));
    let agent = gateway.start();
    let mut producer = gateway.producer();
    for body in [r#"{"device": "a", "value": "much"}"#, r#"{"device": "a", "value": 2}"#] {
        assert_eq!(
            producer
                .post("/events", &[("content-type", "application/json")], body.as_bytes())
                .expect("it answers")
                .status,
            202
        );
    }
    wait_until("the good one to be there", || postgres.psql("SELECT * FROM plant.telemetry") == "a|2");
    let letters = || well(gateway.run(&["dead-letter", "list", "--json"])).lines().count();
    assert_eq!(letters(), 1);

    let refused = |words: &[&str]| {
        let output = gateway.run(words);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("could overwrite newer rows") && said.contains("warehouse"), "{said}");
        assert!(said.contains("--force"), "{said}");
        assert_eq!(letters(), 1, "nothing was sent again");
    };
    refused(&["dead-letter", "retry", "--all"]);
    assert!(agent.terminate().success());
    refused(&["dead-letter", "retry", "--all"]);
    well(gateway.run(&["dead-letter", "retry", "--all", "--force"]));
    assert_eq!(letters(), 0, "it is on its way");
}
