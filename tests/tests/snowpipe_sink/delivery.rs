//! What comes to the table where nothing goes wrong.

use std::{collections::BTreeSet, path::Path};

use forebay::{
    client::snowflake::{Credential, Identifier},
    contract::{Finding, Severity},
    secret::{Secret, SecretSource},
    sink::{
        snowpipe::{Settings, Shape, own_pipe},
        source::Source,
    },
};
use forebay_buffer::Numbering;
use forebay_tests::{harness, random::Random};
use serde_json::{Value, json};

use crate::rig::{Account, LANE, SINK, STREAM, confirmed, deliver_until, gateway, offset, sink, until};

#[tokio::test(flavor = "multi_thread")]
async fn every_event_is_a_row_once_and_in_order_in_its_partitions_channel() {
    let events = harness::size("FOREBAY_SNOWPIPE_EVENTS", 600);
    let (account, gateway) = (Account::new(), gateway());
    let partitions = ["0", "1", "a b/é"];
    for partition in partitions {
        gateway.append_to(STREAM, partition, (0..events).map(|number| number.to_string()));
    }
    let per_batch = usize::try_from(events / 6).expect("a count");
    let settings = account.settings();
    let running = gateway.deliver(SINK, &[STREAM], sink(with_batches_of(settings, per_batch), "gw-1"));
    account.until_rows(3 * usize::try_from(events).expect("a count")).await;
    running.stop().await;
    let expected: Vec<_> = (0..events).map(|number| number.to_string()).collect();
    for (partition, bodies) in account.bodies() {
        assert_eq!(bodies, expected, "{partition}");
        assert!(confirmed(&gateway, &partition, Numbering::Assigned).1, "{partition}");
    }
    let channels: BTreeSet<_> = account.all_rows().into_iter().map(|row| row.channel).collect();
    assert_eq!(channels.len(), 3, "{channels:?}");
    assert!(channels.iter().all(|channel| channel.starts_with("FOREBAY_GW_1_S_")), "{channels:?}");
}

fn with_batches_of(mut settings: Settings, events: usize) -> Settings {
    settings.batch.max_events = events;
    settings
}

/// They hold what they may of memory, be it that much is in flight or that little may be and more is read.
#[tokio::test(flavor = "multi_thread")]
async fn partitions_whose_commits_are_late_leave_room_for_the_others() {
    for max_in_flight_bytes in [1 << 20, 1] {
        let (account, gateway) = (Account::new(), gateway());
        account.set(&json!({ "hold_commits": true }));
        let late = ["0", "1", "2", "3"];
        for partition in late {
            gateway.append_to(STREAM, partition, (0..20_000).map(|number| number.to_string()));
        }
        let settings = Settings { max_in_flight_bytes, ..with_batches_of(account.settings(), 10_000) };
        let is_all_in_flight = max_in_flight_bytes > 1;
        let running = gateway.deliver(SINK, &[STREAM], sink(settings, "gw-1"));
        let in_flight = |partition: &str| {
            let channels = account.ask("GET", "/channels", &Value::Null);
            let prefix = format!("FOREBAY_GW_1_S_{partition}_");
            let is_its =
                |channel: &&Value| channel["channel_name"].as_str().is_some_and(|name| name.starts_with(&prefix));
            channels.as_array()?.iter().find(is_its).and_then(|channel| offset(channel["pending_end"].as_str()?))
        };
        until("all that may be is in flight", || {
            late.iter().all(|partition| {
                let held = gateway.buffer.partition(STREAM, partition, Numbering::Assigned).expect("it is there");
                in_flight(partition).is_some_and(|end| end == held.high_water() || !is_all_in_flight)
            })
        })
        .await;
        gateway.append_to(STREAM, "9", ["one".to_owned()]);
        until("another one's is in flight too", || in_flight("9").is_some()).await;
        assert_eq!(account.all_rows(), []);
        running.kill().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_checkpoint_moves_before_its_rows_are_committed() {
    let (account, gateway) = (Account::new(), gateway());
    account.set(&json!({ "hold_commits": true }));
    gateway.append(STREAM, 1..=50);
    let running = gateway.deliver(SINK, &[STREAM], account.sink());
    // Three batches of 20 at most are appended, one behind the other, before any is committed.
    until("all is appended", || account.pending() == 3).await;
    assert_eq!(confirmed(&gateway, "0", Numbering::Assigned), (None, false));
    account.set(&json!({ "hold_commits": false }));
    account.until_rows(50).await;
    until("all is confirmed", || confirmed(&gateway, "0", Numbering::Assigned).1).await;
    assert_eq!(account.committed(), confirmed(&gateway, "0", Numbering::Assigned).0);
    account.holds(1..=50);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn so_much_is_appended_ahead_of_commits_and_no_more() {
    let (account, gateway) = (Account::new(), gateway());
    account.set(&json!({ "hold_commits": true }));
    gateway.append_to(STREAM, "0", (0..12).map(|number| format!("{number:0>10000}")));
    let mut settings = with_batches_of(account.settings(), 1);
    // Each is a batch of its own, and with the fourth the window is full.
    (settings.batch.max_bytes, settings.max_in_flight_bytes) = (10_000, 35_000);
    let running = gateway.deliver(SINK, &[STREAM], sink(settings, "gw-1"));
    until("the window is full", || account.pending() == 4).await;
    let before = account.ask("GET", "/requests", &Value::Null).as_array().expect("a list").len();
    until("it is asked what is committed", || {
        account.ask("GET", "/requests", &Value::Null).as_array().expect("a list").len() > before + 3
    })
    .await;
    assert_eq!(account.pending(), 4);
    account.set(&json!({ "hold_commits": false }));
    account.until_rows(12).await;
    running.stop().await;
    let expected: Vec<_> = (0..12).map(|number| format!("{number:0>10000}")).collect();
    assert_eq!(account.bodies()["0"], expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_are_filled_as_the_config_says() {
    let (account, gateway) = (Account::new(), gateway());
    account.sql("CREATE TABLE PLANT.PUBLIC.READINGS (device VARCHAR, reading VARIANT, seen NUMBER(38,0))");
    gateway.append_to(STREAM, "0", [r#"{"id": "pump", "t": [21.50]}"#.to_owned()]);
    let columns = [("device", "$.id"), ("Reading", "body"), ("SEEN", "offset")];
    let columns = columns.map(|(name, source)| (name.to_owned(), Source::parse(source).expect("a source")));
    let mut settings = Settings { shape: Shape::Columns(columns.to_vec()), ..account.settings() };
    let table = Identifier::new("readings").expect("a name");
    settings.pipe = own_pipe(&table).expect("it is short");
    settings.table.table = table;
    let running = gateway.deliver(SINK, &[STREAM], sink(settings, "gw-1"));
    let rows = || account.rows("PLANT.PUBLIC.READINGS", 0);
    until("the row", || rows().len() == 1).await;
    running.stop().await;
    let row = rows().remove(0);
    let values = &row.values;
    assert_eq!(values["DEVICE"], "pump");
    assert_eq!(values["READING"], json!({ "id": "pump", "t": [21.5] }));
    assert_eq!(values["SEEN"].as_i64(), offset(&row.end.expect("a token")).map(|offset| offset.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_row_is_a_dead_letter_and_the_others_come() {
    let (account, gateway) = (Account::new(), gateway());
    let object = |number: u64| format!("{{\"event_body\": \"{number}\", \"partition_id\": \"0\"}}");
    let bodies = [object(1), "no object".to_owned(), object(2), "[]".to_owned()];
    gateway.append_to(STREAM, "0", bodies);
    let by_body = || sink(Settings { shape: Shape::Body, ..account.settings() }, "gw-1");
    let running = gateway.deliver(SINK, &[STREAM], by_body());
    until("all is confirmed", || confirmed(&gateway, "0", Numbering::Assigned).1).await;
    // A batch of nothing else moves no token.
    gateway.append_to(STREAM, "0", ["1".to_owned(), "2".to_owned()]);
    until("four dead letters", || gateway.dead_letters().len() == 4).await;
    until("all is confirmed", || confirmed(&gateway, "0", Numbering::Assigned).1).await;
    running.stop().await;
    account.holds(1..=2);
    assert!(gateway.dead_letters().iter().all(|letter| letter.code == "not_an_object"), "{:?}", gateway.dead_letters());
    // The next start goes on behind them, though the token does not know of them.
    let gateway = gateway.reopen();
    gateway.append_to(STREAM, "0", [object(3)]);
    let running = gateway.deliver(SINK, &[STREAM], by_body());
    account.until_rows(3).await;
    running.stop().await;
    account.holds(1..=3);
    assert_eq!(gateway.dead_letters().len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_the_service_finds_too_large_is_a_dead_letter() {
    let (account, gateway) = (Account::new(), gateway());
    account.set(&json!({ "max_request_bytes": 70_000 }));
    let mut random = Random::new(1);
    // Six bits each: it gets no smaller than three quarters.
    let noise: String = (0..100_000).map(|_| char::from(b'0' + random.below(64) as u8)).collect();
    gateway.append_to(STREAM, "0", ["1".to_owned(), noise, "2".to_owned()]);
    deliver_until(&gateway, &account, 2).await;
    account.holds(1..=2);
    let [letter] = &gateway.dead_letters()[..] else { panic!("{:?}", gateway.dead_letters()) };
    assert_eq!(letter.code, "too_large");
}

fn seen(findings: &[Finding]) -> Vec<(Severity, &str)> {
    findings.iter().map(|finding| (finding.severity, finding.message.as_str())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn check_compares_the_key_with_the_users_and_looks_for_what_the_role_may() {
    let account = Account::new();
    account.sql(
        "CREATE ROLE ING; GRANT USAGE ON DATABASE PLANT TO ROLE ING; GRANT USAGE ON SCHEMA PLANT.PUBLIC TO ROLE ING; \
         GRANT SELECT ON TABLE PLANT.PUBLIC.EVENTS TO ROLE ING",
    );
    let keys = Path::new(env!("CARGO_MANIFEST_DIR")).join("../agent/src/client/snowflake/key/tests");
    let public = std::fs::read_to_string(keys.join("public.base64")).expect("the key is there");
    account.make_user("GATEWAY", &json!({ "public_key": public.trim_end(), "roles": ["ING"], "default_role": "ING" }));
    let mut settings = account.settings();
    settings.connection.user = "gateway".to_owned();
    settings.connection.credential = Credential::KeyPair { file: keys.join("open.p8"), password: None };
    let check = async || sink(settings.clone(), "gw-1").check().await;
    let found = check().await;
    let key = "RSA_PUBLIC_KEY_FP is SHA256:LUNFk7YNZo2D43unma+QJ9wIJ4rsmCSvO6N5ogX0pmA=, the agent's key";
    assert_eq!(seen(&found)[..2], [(Severity::Ok, "lets GATEWAY in, with the role ING"), (Severity::Ok, key)]);
    let without = (Severity::Warning, "no grant that is seen gives ING INSERT on it");
    assert_eq!(seen(&found).last(), Some(&without));
    account.sql("GRANT INSERT ON TABLE PLANT.PUBLIC.EVENTS TO ROLE ING");
    assert_eq!(seen(&check().await).last(), Some(&(Severity::Ok, "ING has INSERT on it")));
    // Where the service does not know the question for the pipe, its channels are asked for.
    account.arm(
        &json!({ "phase": "request", "action": "refuse", "code": "ERR_INVALID_REQUEST", "operation": "pipe_info" }),
    );
    let answers = (Severity::Ok, "the ingest host lets us in, and answers for the channels of the pipe");
    assert_eq!(seen(&check().await)[2], answers);
    assert_eq!(account.channels(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn check_looks_at_hosts_pipe_and_columns_and_opens_no_channel() {
    let account = Account::new();
    let found = account.sink().check().await;
    let expected = [
        "lets FOREBAY in, with the role ACCOUNTADMIN",
        "the ingest host lets us in, and the pipe is there",
        "columns fit",
        "ACCOUNTADMIN has OWNERSHIP on it",
    ];
    assert_eq!(seen(&found), expected.map(|message| (Severity::Ok, message)));
    account.sql("CREATE TABLE PLANT.PUBLIC.OTHER (event_body VARIANT, line VARCHAR NOT NULL)");
    let mut settings = account.settings();
    let table = Identifier::new("other").expect("a name");
    settings.pipe = own_pipe(&table).expect("it is short");
    settings.table.table = table;
    let found = sink(settings, "gw-1").check().await;
    assert!(found[2].severity == Severity::Error && found[2].message.contains("partition_id"), "{found:?}");
    let mut settings = account.settings();
    settings.shape = Shape::Columns(vec![("event_body".to_owned(), Source::Body)]);
    settings.table.table = Identifier::new("other").expect("a name");
    let found = sink(settings, "gw-1").check().await;
    assert!(found[2].message.contains("LINE") && found[2].remedy.contains("NOT NULL"), "{found:?}");
    let mut settings = account.settings();
    settings.connection.credential = Credential::AccessToken(SecretSource::Inline(Secret::new("hunter2")));
    let found = sink(settings, "gw-1").check().await;
    assert!(found.iter().all(|finding| finding.severity != Severity::Ok), "{found:?}");
    assert!(!format!("{found:?}").contains("hunter2"));
    assert_eq!(account.channels(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_not_there_yet_is_waited_for() {
    let (account, gateway) = (Account::new(), gateway());
    account.sql("DROP TABLE PLANT.PUBLIC.EVENTS");
    gateway.append(STREAM, 1..=3);
    let running = gateway.deliver(SINK, &[STREAM], account.sink());
    let words = running.waiting(LANE).await;
    assert!(words.contains("EVENTS-STREAMING"), "{words}");
    running.stop().await;
}
