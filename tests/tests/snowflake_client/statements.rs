//! The SQL API.

use std::time::Duration;

use forebay::client::snowflake::{DOES_NOT_EXIST, DUPLICATE_KEY, Error, INVALID_IDENTIFIER, Value};
use forebay_tests::harness::in_time;
use serde_json::json;

use crate::rig::{account, client, execute, statement};

fn text(value: &str) -> Option<String> {
    Some(value.to_owned())
}

#[tokio::test]
async fn rows_are_changed_by_compare_and_set_and_counted() {
    let account = account();
    let client = client(&account);
    let create = "CREATE HYBRID TABLE O (K VARCHAR(10) NOT NULL, ETAG VARCHAR(10), N NUMBER(38,0), PRIMARY KEY (K))";
    execute(&client, create, &[]).await.expect("a table");
    let insert = [Value::Text("it's".to_owned()), Value::Text("e1".to_owned()), Value::Null];
    let inserted = execute(&client, "INSERT INTO O VALUES (?, ?, ?)", &insert).await.expect("a row");
    assert_eq!(inserted.affected(), 1);
    let lost = execute(&client, "INSERT INTO O VALUES (?, ?, ?)", &insert).await.expect_err("it is there already");
    assert!(lost.is(DUPLICATE_KEY), "{lost:?}");

    let update = "UPDATE O SET ETAG = 'e2', N = ? WHERE K = ? AND ETAG = ?";
    let bound = [Value::Fixed(i64::MAX), Value::Text("it's".to_owned()), Value::Text("e1".to_owned())];
    assert_eq!(execute(&client, update, &bound).await.expect("won").affected(), 1);
    assert_eq!(execute(&client, update, &bound).await.expect("lost").affected(), 0);
    let found = execute(&client, "SELECT K, ETAG, N FROM O", &[]).await.expect("rows");
    assert_eq!(found.columns, ["K", "ETAG", "N"]);
    assert_eq!(found.rows, [[text("it's"), text("e2"), text("9223372036854775807")]]);
}

#[tokio::test]
async fn what_is_wrong_with_a_statement_is_said_with_its_code() {
    let account = account();
    let client = client(&account);
    let wrong = execute(&client, "SELECT NOPE FROM EVENTS", &[]).await.expect_err("there is no such column");
    assert!(wrong.is(INVALID_IDENTIFIER) && wrong.to_string().contains("NOPE"), "{wrong:?}");
    let said = wrong.statement().expect("it is about the statement");
    assert!(said.position.is_some() && !said.handle.is_empty(), "{said:?}");
    let wrong = execute(&client, "SELECT * FROM NOWHERE", &[]).await.expect_err("there is no such table");
    assert!(wrong.is(DOES_NOT_EXIST), "{wrong:?}");
}

#[tokio::test]
async fn a_statement_that_takes_its_time_is_waited_for() {
    let account = account();
    account.set(&json!({ "async_after_ms": 0 }));
    account.arm(&json!({ "phase": "execute", "action": "slow", "delay_ms": 300 }));
    let result = execute(&client(&account), "SELECT 7", &[]).await.expect("a result");
    assert_eq!(result.rows, [[text("7")]]);
}

#[tokio::test]
async fn a_statement_is_cancelled_when_its_time_is_over_or_nobody_waits() {
    let account = account();
    account.set(&json!({ "async_after_ms": 0 }));
    let cancelled = |account: &forebay_tests::servers::Snowflake| {
        let requests = account.ask("GET", "/requests", &serde_json::Value::Null);
        let all = requests.as_array().expect("a list").iter();
        all.filter(|request| request["operation"] == "cancel" && request["status"] == 200).count()
    };
    let slow = json!({ "phase": "execute", "action": "slow", "delay_ms": 60_000, "times": 2 });
    account.arm(&slow);
    let client = client(&account);
    let mut hasty = statement("SELECT 7", &[]);
    hasty.timeout = Duration::from_millis(500);
    let unknown = client.execute(hasty).await.expect_err("it takes too long");
    assert!(matches!(unknown, Error::Unknown(_)), "{unknown:?}");
    assert_eq!(cancelled(&account), 1);

    let waiting = tokio::spawn(async move { client.execute(statement("SELECT 7", &[])).await });
    let begun = async {
        while account.happened(1) < 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    in_time("the second to be carried out", begun).await;
    waiting.abort();
    let ended = async {
        while cancelled(&account) < 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    in_time("it to be cancelled", ended).await;
}

#[tokio::test]
async fn a_large_result_comes_in_parts() {
    let account = account();
    account.set(&json!({ "rows_per_partition": 4 }));
    let client = client(&account);
    let union: Vec<_> = (0..10).map(|number| format!("SELECT {number} AS N")).collect();
    let many = format!("SELECT N FROM ({}) ORDER BY N", union.join(" UNION ALL "));
    let result = execute(&client, &many, &[]).await.expect("a result");
    let found: Vec<_> = result.rows.into_iter().map(|row| row[0].clone()).collect();
    assert_eq!(found, (0..10).map(|number| text(&number.to_string())).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_statement_is_carried_out_once_whatever_becomes_of_its_answer() {
    let account = account();
    let client = client(&account);
    for (action, phase) in [("drop", "request"), ("drop", "answer"), ("cut", "answer"), ("finish", "answer")] {
        let fault = account.arm(&json!({ "phase": phase, "action": action, "operation": "statement" }));
        let inserted = execute(&client, "INSERT INTO EVENTS VALUES (1, 'x')", &[]).await.expect("a row");
        assert_eq!((inserted.affected(), account.happened(fault)), (1, 1), "{phase} {action}");
    }
    let count = execute(&client, "SELECT COUNT(*) FROM EVENTS", &[]).await.expect("a count");
    assert_eq!(count.rows, [[text("4")]]);
}
