//! The control table in Snowflake: what its rows look like to others, what is left alone, claims, `setup` and `check`, and an
//! agent that keeps its checkpoints there.

use std::{fs, sync::Arc, time::Duration};

use forebay::{
    client::snowflake::{Account, Credential, Identifier, Settings, TableName},
    clock::SystemClock,
    contract::{Bid, CheckpointKey, CheckpointMove, Control, ControlError, HubId, KeptBy, Shares, Target, Upstream},
    control::snowflake::{OwnershipTable, Place, Snowflake as Table, StatusTable},
    secret::{Secret, SecretSource},
};
use forebay_buffer::{Checkpoint, Generation, Offset, Tag};
use forebay_tests::{
    harness::{Agent, Gateway, errors, text, wait_until, well},
    servers::Snowflake,
};
use serde_json::{Value, json};

const TOKEN: &str = "let-me-in";
/// The table as the Python pipeline creates it.
const PYTHONS_TABLE: &str = "CREATE TABLE CONTROL.PUBLIC.INGESTION_STATUS (TS_INSERTED TIMESTAMP_LTZ DEFAULT \
                             CURRENT_TIMESTAMP(), EVENTHUB_NAMESPACE VARCHAR(500), EVENTHUB VARCHAR(200), TARGET_DB \
                             VARCHAR(200), TARGET_SCHEMA VARCHAR(200), TARGET_TABLE VARCHAR(200), WATERLEVEL NUMBER(38,0), \
                             PARTITION_ID VARCHAR(50) NOT NULL, METADATA VARIANT)";

/// An account with a warehouse, a database and a user who may do everything.
fn account() -> Snowflake {
    let account = Snowflake::start();
    let user = json!({ "pats": [TOKEN], "roles": ["ACCOUNTADMIN"], "default_role": "ACCOUNTADMIN" });
    account.make_user("FOREBAY", &user);
    account.sql("CREATE DATABASE CONTROL; CREATE WAREHOUSE SMALL");
    account
}

fn place(account: &Snowflake) -> Place {
    let name = |text| Identifier::new(text).expect("a name");
    let connection = Settings {
        account: Account::parse(Snowflake::ACCOUNT, Some(&account.url())).expect("an account"),
        user: "FOREBAY".to_owned(),
        role: None,
        credential: Credential::AccessToken(SecretSource::Inline(Secret::new(TOKEN.to_owned()))),
        tls: Default::default(),
        proxy: None,
    };
    let table = TableName { database: name("control"), schema: name("public"), table: name("ingestion_status") };
    Place { connection, warehouse: name("small"), table }
}

fn table(account: &Snowflake) -> Table {
    Table::new(place(account), Arc::new(SystemClock::new()))
}

fn key(partition: &str) -> CheckpointKey {
    let target = Target { database: "PLANT".into(), schema: "PUBLIC".into(), table: "o'events".into() };
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
    let account = account();
    account.sql(PYTHONS_TABLE);
    let table = table(&account);
    table.save(&[moved("0", None, 5), moved("1", None, 6)]).await.expect("nothing stands there");
    let upstream = Some(Upstream { consumer_group: "$Default".into(), offset: Some("o7".into()) });
    table.save(&[CheckpointMove { upstream, ..moved("0", Some(5), 7) }]).await.expect("it is what it was");
    let rows = account.sql(
        "SELECT EVENTHUB_NAMESPACE, EVENTHUB, TARGET_TABLE, PARTITION_ID, WATERLEVEL, TO_JSON(METADATA) FROM \
         CONTROL.PUBLIC.INGESTION_STATUS ORDER BY PARTITION_ID",
    );
    let text = |at: usize| rows[0][at].as_deref().expect("it is not NULL");
    assert_eq!([text(0), text(1), text(2), text(3), text(4)], ["gw-1", "line1", "o'events", "0", "7"]);
    let metadata: Value = serde_json::from_str(text(5)).expect("JSON");
    assert_eq!((&metadata["sequence_number"], &metadata["offset_string"]), (&json!(7), &json!("o7")));
    assert_eq!((&metadata["consumer_group"], &metadata["kept_by"]), (&json!("$Default"), &json!("delivery")));
    assert_eq!(rows.len(), 2);
}

#[tokio::test]
async fn a_row_moves_only_from_what_it_must_be() {
    let account = account();
    for kind in [false, true] {
        account.sql("DROP TABLE IF EXISTS CONTROL.PUBLIC.INGESTION_STATUS");
        account.sql(&StatusTable(&place(&account).table).create(kind));
        let table = table(&account);
        table.save(&[moved("0", None, 5)]).await.expect("nothing stands there");
        for lost in [moved("0", None, 9), moved("0", Some(4), 9), moved("1", Some(5), 9)] {
            let outcome = table.save(std::slice::from_ref(&lost)).await;
            assert_eq!(outcome, Err(ControlError::Moved(lost.key.clone())), "hybrid: {kind}");
        }
        let mut other = moved("0", Some(5), 9);
        other.from = Some(Checkpoint { tag: Tag(0x13), ..at(5) });
        assert!(table.save(&[other]).await.is_err(), "it is of another tag");
        let rows = table.load(&[key("0"), key("1")]).await.expect("the table answers");
        assert_eq!(rows.len(), 1);
        assert_eq!((&rows[0].checkpoint, rows[0].kept_by), (&Ok(at(5)), Some(KeptBy::Delivery)));
        assert_eq!(table.list("gw-1").await.expect("it answers"), rows);
        // Many at once are one statement.
        let many: Vec<_> = (10..150).map(|partition| moved(&partition.to_string(), None, 1)).collect();
        table.save(&many).await.expect("nothing stands there");
        let keys: Vec<_> = many.iter().map(|one| one.key.clone()).collect();
        assert_eq!(table.load(&keys).await.expect("it answers").len(), many.len());
    }
}

#[tokio::test]
async fn rows_of_others_are_left_alone() {
    let account = account();
    account.sql(PYTHONS_TABLE);
    account.sql(
        "INSERT INTO CONTROL.PUBLIC.INGESTION_STATUS (EVENTHUB_NAMESPACE, EVENTHUB, TARGET_DB, TARGET_SCHEMA, TARGET_TABLE, \
         PARTITION_ID, WATERLEVEL, METADATA) SELECT 'gw-1', 'line1', 'PLANT', 'PUBLIC', 'o''events', '0', 8589, \
         PARSE_JSON('{\"sequence_number\": 41, \"offset_string\": \"8589\"}')",
    );
    let table = table(&account);
    let rows = table.load(&[key("0")]).await.expect("it answers");
    assert!(rows[0].checkpoint.as_ref().is_err_and(|why| why.contains("has no generation")), "{rows:?}");
    assert_eq!(table.save(&[moved("0", None, 9)]).await, Err(ControlError::Moved(key("0"))));
    assert_eq!(table.save(&[moved("0", Some(8589), 9)]).await, Err(ControlError::Moved(key("0"))));
    // Nothing keeps a second row of one key out of a standard table.
    account.sql("INSERT INTO CONTROL.PUBLIC.INGESTION_STATUS SELECT * FROM CONTROL.PUBLIC.INGESTION_STATUS");
    let rows = table.load(&[key("0")]).await.expect("it answers");
    assert!(rows[0].checkpoint.as_ref().is_err_and(|why| why.contains("in two rows")), "{rows:?}");
}

fn shares() -> Shares {
    let hub = HubId {
        namespace: "ns.servicebus".into(),
        hub: "eh1".into(),
        consumer_group: "$Default".into(),
        is_shared: true,
    };
    Shares { hub, target: key("0").target }
}

fn bid(partition: &str, over: Option<&str>, owner: &str, etag: &str) -> Bid {
    let (over, owner, etag) = (over.map(str::to_owned), owner.to_owned(), etag.to_owned());
    Bid { partition: partition.to_owned(), over, owner, etag }
}

#[tokio::test]
async fn of_two_who_want_a_partition_one_gets_it() {
    let account = account();
    account.sql(&OwnershipTable::beside(&place(&account).table).expect("a name").create());
    let (one, other) = (table(&account), table(&account));
    let both = tokio::join!(
        async { one.bid(&shares(), &[bid("0", None, "gw1", "a1"), bid("1", None, "gw1", "a2")]).await },
        async { other.bid(&shares(), &[bid("0", None, "gw2", "b1"), bid("1", None, "gw2", "b2")]).await },
    );
    let (mut won, others) = (both.0.expect("it answers"), both.1.expect("it answers"));
    won.extend(others);
    won.sort();
    assert_eq!(won, ["0", "1"], "each partition is one's");
    let claims = one.claims(&shares()).await.expect("it answers");
    let claim = &claims[0];
    assert!(claim.age < Duration::from_secs(60), "{claim:?}");
    let lost = one.bid(&shares(), &[bid("0", Some("x"), "gw3", "c1")]).await;
    assert_eq!(lost, Ok(Vec::new()), "it is another's");
    let renewed = one.bid(&shares(), &[bid("0", Some(&claim.etag), &claim.owner, "c2")]).await;
    assert_eq!(renewed, Ok(vec!["0".to_owned()]));
    assert_eq!(one.claims(&shares()).await.expect("it answers")[0].etag, "c2");
}

/// What a hybrid table is asked by another session may be as it was a moment ago.
#[tokio::test]
async fn a_hybrid_table_that_is_read_too_early_deceives_nobody() {
    let account = account();
    account.sql(&OwnershipTable::beside(&place(&account).table).expect("a name").create());
    account.sql(&StatusTable(&place(&account).table).create(true));
    let (one, other) = (table(&account), table(&account));
    account.set(&json!({ "stale_reads_ms": 100 }));
    // It is made, and the answer says that it failed.
    account.arm(&json!({ "operation": "statement", "phase": "answer", "action": "refuse", "status": 422, "skip": 2,
                         "body": r#"{"code":"000604","message":"SQL execution canceled"}"# }));
    let won = one.bid(&shares(), &[bid("0", None, "gw1", "a1")]).await;
    assert_eq!(won, Ok(vec!["0".to_owned()]));

    other.save(&[moved("0", None, 5)]).await.expect("nothing stands there");
    assert_eq!(one.save(&[moved("0", None, 4)]).await, Err(ControlError::Moved(key("0"))));
    let rows = one.load(&[key("0")]).await.expect("it answers");
    assert_eq!(rows.first().map(|row| &row.checkpoint), Some(&Ok(at(5))));
}

#[tokio::test]
async fn no_claim_is_made_in_a_table_whose_key_is_not_enforced() {
    let account = account();
    let create = OwnershipTable::beside(&place(&account).table).expect("a name").create();
    let table = table(&account);
    let missing = table.claims(&shares()).await;
    assert!(matches!(&missing, Err(ControlError::Stop(why)) if why.contains("forebay setup")), "{missing:?}");
    account.sql(&create);
    table.claims(&shares()).await.expect("it is a hybrid table");
    account.sql("DROP TABLE CONTROL.PUBLIC.INGESTION_STATUS_OWNERSHIP");
    account.sql(&create.replace("HYBRID TABLE", "TABLE"));
    let outcome = table.bid(&shares(), &[bid("0", None, "gw1", "a1")]).await;
    let Err(ControlError::Stop(why)) = outcome else { panic!("{outcome:?}") };
    assert!(why.contains("is a standard table") && why.contains("RENAME TO"), "{why}");
    assert!(account.sql("SELECT * FROM CONTROL.PUBLIC.INGESTION_STATUS_OWNERSHIP").is_empty());
}

/// Its key is enforced, and lets two claims of one partition in.
#[tokio::test]
async fn no_claim_is_made_in_a_hybrid_table_with_another_key() {
    let account = account();
    let create = OwnershipTable::beside(&place(&account).table).expect("a name").create();
    let (columns, _) = create.split_once("PRIMARY KEY").expect("it has one");
    let table = table(&account);
    for key in ["ETAG", "PARTITION_ID, ETAG"] {
        account.sql(&format!("{columns}PRIMARY KEY ({key}))"));
        let outcome = table.bid(&shares(), &[bid("0", None, "gw1", "a1")]).await;
        let Err(ControlError::Stop(why)) = outcome else { panic!("{outcome:?}") };
        assert!(why.contains("has another primary key") && why.contains("RENAME TO"), "{why}");
        assert!(account.sql("SELECT * FROM CONTROL.PUBLIC.INGESTION_STATUS_OWNERSHIP").is_empty());
        account.sql("DROP TABLE CONTROL.PUBLIC.INGESTION_STATUS_OWNERSHIP");
    }
}

#[tokio::test]
async fn what_is_missing_is_told_with_what_to_do() {
    let account = account();
    let missing = table(&account).load(&[key("0")]).await;
    assert!(matches!(&missing, Err(ControlError::Stop(why)) if why.contains("forebay setup")), "{missing:?}");
    account.sql(&PYTHONS_TABLE.replace("METADATA", "META"));
    let wrong = table(&account).load(&[key("0")]).await;
    assert!(matches!(&wrong, Err(ControlError::Stop(why)) if why.contains("--print-sql")), "{wrong:?}");
}

/// Into files, with the control table in the account.
const TO_FILES: &str = r#"
[control]
backend = "snowflake"
warehouse = "small"
database = "control"
interval = "1s"

[control.snowflake]
account = "{account}"
url = "{url}"
user = "forebay"
role = "ingest"
token_file = "{dir}/token"

[sources.line]
type = "http"
listen = "{http}"
path = "/events"

[sinks.near]
type = "file"
inputs = ["line"]
path = "{dir}/near"
"#;

/// What makes `setup` need a table of claims too.
const SHARED: &str = r#"
[sources.hub]
type = "eventhub"
namespace = "plant.servicebus.windows.net"
hub = "h"
partitions = "balanced"

[sinks.lake]
type = "snowpipe"
inputs = ["hub"]
account = "{account}"
url = "{url}"
user = "forebay"
role = "ingest"
token_file = "{dir}/token"
database = "control"
table = "events"
"#;

fn gateway(account: &Snowflake, more: &str) -> Gateway {
    let gateway = Gateway::new();
    fs::write(gateway.path("token"), TOKEN).expect("a file can be written");
    gateway.configure(&in_account(account, &format!("{TO_FILES}{more}")));
    gateway
}

fn in_account(account: &Snowflake, config: &str) -> String {
    config.replace("{account}", Snowflake::ACCOUNT).replace("{url}", &account.url())
}

/// What `check --connect` finds wrong with the control table and claims.
fn wrong(gateway: &Gateway) -> Vec<[String; 3]> {
    let mut errors = errors(gateway);
    errors.retain(|[subject, ..]| subject == "control table" || subject == "claims");
    errors
}

#[test]
fn what_setup_prints_lets_an_agent_in_that_may_do_nothing_else() {
    let account = account();
    account.make_user("FOREBAY", &json!({ "pats": [TOKEN], "roles": ["INGEST"], "default_role": "INGEST" }));
    let gateway = gateway(&account, "");
    let refused = wrong(&gateway);
    assert!(!refused.is_empty(), "it may do nothing yet");
    let sql = well(gateway.run(&["setup", "--print-sql"]));
    account.sql(&sql);
    assert_eq!(wrong(&gateway), Vec::<[String; 3]>::new(), "{sql}");

    let mut agent = gateway.start();
    let send = |count: usize| {
        for _ in 0..count {
            let json = [("content-type", "application/json")];
            let answer = gateway.producer().post("/events", &json, b"{}");
            assert_eq!(answer.expect("the agent answers").status, 202);
        }
    };
    let level = || account.sql("SELECT WATERLEVEL FROM CONTROL.PUBLIC.INGESTION_STATUS");
    let confirmed = |agent: &Agent| agent.get("/api/status").body;
    send(5);
    wait_until("the row to be there", || level().len() == 1);
    let first = level();
    send(5);
    wait_until("the row to move", || level() != first);
    assert!(agent.terminate().success(), "{first:?}");
    let last = level();
    agent = gateway.start();
    send(1);
    wait_until("the row to move again", || level() != last);
    assert_eq!(level().len(), 1, "{}", confirmed(&agent));
    assert!(agent.terminate().success());
}

#[test]
fn setup_makes_what_is_not_there_and_refuses_claims_in_a_standard_table() {
    let account = account();
    account.sql("CREATE ROLE INGEST");
    let all = json!({ "pats": [TOKEN], "roles": ["ACCOUNTADMIN", "INGEST"], "default_role": "ACCOUNTADMIN" });
    account.make_user("FOREBAY", &all);
    account.sql("GRANT ROLE ACCOUNTADMIN TO ROLE INGEST");
    let gateway = gateway(&account, SHARED);
    account.sql("CREATE TABLE CONTROL.PUBLIC.INGESTION_STATUS_OWNERSHIP (PARTITION_ID VARCHAR(50) NOT NULL)");
    let refused = gateway.run(&["setup"]);
    let said = text(&refused.stderr);
    assert!(!refused.status.success() && said.contains("is a standard table"), "{said}{}", text(&refused.stdout));
    assert!(wrong(&gateway).iter().any(|[_, message, _]| message.contains("is a standard table")));
    account.sql("DROP TABLE CONTROL.PUBLIC.INGESTION_STATUS_OWNERSHIP");
    account.sql("CREATE HYBRID TABLE CONTROL.PUBLIC.INGESTION_STATUS_OWNERSHIP (ETAG VARCHAR(100) PRIMARY KEY)");
    let refused = gateway.run(&["setup"]);
    assert!(!refused.status.success() && text(&refused.stderr).contains("another primary key"), "{refused:?}");
    assert!(wrong(&gateway).iter().any(|[_, message, _]| message.contains("has another primary key")));
    account.sql("DROP TABLE CONTROL.PUBLIC.INGESTION_STATUS_OWNERSHIP");
    let made = well(gateway.run(&["setup"]));
    assert_eq!(made.lines().count(), 3, "{made}");
    assert_eq!(wrong(&gateway), Vec::<[String; 3]>::new());
    well(gateway.run(&["setup"]));
    // That one was made, and is to be another.
    let hybrid = TO_FILES.replace("[control]\n", "[control]\nhybrid_table = true\n");
    gateway.configure(&in_account(&account, &hybrid));
    let refused = gateway.run(&["setup"]);
    assert!(!refused.status.success() && text(&refused.stderr).contains("Take hybrid_table out"), "{refused:?}");
    let [[_, message, _]] = &wrong(&gateway)[..] else { panic!("{:?}", wrong(&gateway)) };
    assert!(message.contains("is a standard table"), "{message}");
    account.sql("DROP TABLE CONTROL.PUBLIC.INGESTION_STATUS");
    well(gateway.run(&["setup"]));
    assert_eq!(wrong(&gateway), Vec::<[String; 3]>::new());
}

#[test]
fn health_says_that_claims_are_in_memory_for_as_long_as_they_are() {
    let account = account();
    account.sql(PYTHONS_TABLE);
    let gateway = gateway(&account, "");
    let agent = gateway.start();
    assert!(!agent.get("/api/status").body.contains("diagnostic mode"));
    assert!(agent.terminate().success());
    let smoke = TO_FILES.replace("[control]\n", "[control]\nownership_mode = \"local_single_consumer_smoke\"\n");
    gateway.configure(&in_account(&account, &smoke));
    let agent = gateway.start();
    let said = agent.get("/api/status").body;
    assert!(said.contains("diagnostic mode"), "{said}");
    assert!(agent.log().iter().any(|line| line.contains("diagnostic mode")), "{:?}", agent.log());
    assert!(agent.terminate().success());
}
