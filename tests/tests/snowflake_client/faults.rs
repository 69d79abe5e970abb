//! What goes wrong between us and the service.

use forebay::client::snowflake::Error;
use forebay_tests::harness::in_time;
use serde_json::{Value, json};

use crate::rig::{account, client, committed, ids, pipe, rows};

/// Faults of one append, after each of which the rows are there once.
fn survived() -> Vec<Value> {
    let append = |phase: &str, action: &str| json!({ "phase": phase, "action": action, "operation": "append" });
    let refusal = |more: Value| {
        let mut fault = append("request", "refuse");
        fault.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        fault
    };
    vec![
        append("request", "drop"),
        append("request", "finish"),
        append("answer", "drop"),
        append("answer", "finish"),
        append("answer", "cut"),
        json!({ "phase": "answer", "action": "refuse", "operation": "append", "status": 500, "body": "" }),
        refusal(json!({ "status": 503, "body": "\"ERR_GENERAL_EXCEPTION_RETRY_REQUEST\"" })),
        refusal(json!({ "status": 500, "body": "<html>oh</html>" })),
        refusal(json!({ "status": 429, "code": "ERR_TOO_MANY_REQUESTS", "retry_after": 1 })),
        refusal(json!({ "status": 408, "body": "" })),
        refusal(json!({ "status": 401, "code": "390303" })),
    ]
}

#[tokio::test]
async fn rows_are_there_once_after_every_fault_that_passes() {
    let account = account();
    let pipe = pipe(&client(&account));
    let mut continuation = pipe.open("c", true, None).await.expect("a channel").continuation;
    let faults = survived();
    let count = u32::try_from(faults.len()).expect("a few");
    for (id, fault) in (1..).zip(&faults) {
        let armed = account.arm(fault);
        let token = id.to_string();
        let sent = pipe.append("c", &continuation, &token, &token, rows([id])).await;
        continuation = sent.unwrap_or_else(|error| panic!("{fault}: {error:?}"));
        assert_eq!(account.happened(armed), 1, "{fault}");
    }
    committed(&pipe, "c", &count.to_string()).await;
    assert_eq!(ids(&account), (1..=u64::from(count)).collect::<Vec<_>>());
}

#[tokio::test]
async fn every_call_survives_what_passes() {
    let account = account();
    let client = client(&account);
    let pipe = pipe(&client);
    for operation in ["hostname", "token", "open", "status"] {
        for (phase, action) in [("request", "drop"), ("answer", "cut"), ("request", "refuse")] {
            let armed = account.arm(&json!({ "phase": phase, "action": action, "operation": operation }));
            account.ask("POST", "/expire-tokens", &Value::Null);
            pipe.open("c", false, None).await.expect("a channel");
            pipe.statuses(&["c"]).await.expect("statuses");
            assert_eq!(account.happened(armed), 1, "{operation} {phase} {action}");
        }
    }
}

#[tokio::test]
async fn an_append_that_is_given_up_does_no_harm() {
    let account = account();
    let pipe = pipe(&client(&account));
    let opened = pipe.open("c", true, None).await.expect("a channel");
    let slow = account.arm(&json!({ "phase": "answer", "action": "slow", "operation": "append", "delay_ms": 60_000 }));
    let waiting = {
        let (pipe, continuation) = (pipe.clone(), opened.continuation.clone());
        tokio::spawn(async move { pipe.append("c", &continuation, "1", "1", rows([1])).await })
    };
    let begun = async {
        while account.happened(slow) == 0 {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    in_time("the append to be answered", begun).await;
    waiting.abort();
    committed(&pipe, "c", "1").await;
    let again = pipe.open("c", true, None).await.expect("a channel");
    assert_eq!(again.status.committed.as_deref(), Some("1"));
    pipe.append("c", &again.continuation, "2", "2", rows([2])).await.expect("an append");
    committed(&pipe, "c", "2").await;
    assert_eq!(ids(&account), [1, 2]);
}

#[tokio::test]
async fn a_pipe_that_is_not_there_is_missing_and_a_stale_one_is_opened_again() {
    let account = account();
    let pipe = pipe(&client(&account));
    let opened = pipe.open("c", true, None).await.expect("a channel");
    account.arm(&json!({ "phase": "request", "action": "refuse", "operation": "append", "code": "STALE_PIPE_CACHE" }));
    let stale = pipe.append("c", &opened.continuation, "1", "1", rows([1])).await.expect_err("it is stale");
    assert!(matches!(stale, Error::Reopen(_)), "{stale:?}");
    let code = "ERR_PIPE_DOES_NOT_EXIST_OR_NOT_AUTHORIZED";
    account.arm(&json!({ "phase": "request", "action": "refuse", "operation": "open", "code": code }));
    let missing = pipe.open("c", true, None).await.expect_err("it is not there");
    assert!(matches!(missing, Error::Missing(_)), "{missing:?}");
    account.arm(
        &json!({ "phase": "request", "action": "refuse", "operation": "open", "code": "ERR_OPEN_CHANNEL_IN_PROGRESS" }),
    );
    pipe.open("c", true, None).await.expect("it is waited for");
}
