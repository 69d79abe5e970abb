//! What goes wrong on the way: nothing is missing, nothing is there twice, and order stays.

use std::time::{Duration, Instant};

use forebay::{
    client::snowflake::{Credential, Identifier},
    secret::{Secret, SecretSource},
    sink::snowpipe::{Settings, create_pipe},
};
use forebay_buffer::Numbering;
use forebay_tests::{
    harness,
    random::Random,
    sinks::{PATIENCE, Running},
};
use serde_json::{Value, json};

use crate::rig::{Account, LANE, SINK, STREAM, confirmed, gateway, sink, until};

/// Each error that the reference has, and each way to lose an answer. Those with codes are answers.
const FAULTS: [&str; 22] = [
    r#"{"phase":"request","action":"drop","operation":"append"}"#,
    r#"{"phase":"answer","action":"drop","operation":"append"}"#,
    r#"{"phase":"answer","action":"cut","operation":"append"}"#,
    r#"{"phase":"request","action":"refuse","operation":"append","code":"STALE_CONTINUATION_TOKEN_SEQUENCER"}"#,
    r#"{"phase":"request","action":"refuse","operation":"append","code":"STALE_PIPE_CACHE"}"#,
    r#"{"phase":"request","action":"refuse","operation":"append","status":400,"body":"{\"code\":\"ERR_OTHER\"}"}"#,
    r#"{"phase":"request","action":"refuse","operation":"append","status":404,"body":"<html>gone</html>"}"#,
    r#"{"phase":"request","action":"refuse","operation":"append","status":409,"body":"{\"code\":\"ERR_CHANNEL_MUST_BE_REOPENED\"}"}"#,
    r#"{"phase":"request","action":"refuse","operation":"append","status":413,"body":"{}"}"#,
    r#"{"phase":"request","action":"refuse","operation":"append","status":401,"body":"{\"code\":\"390303\"}"}"#,
    r#"{"phase":"request","action":"refuse","operation":"append","status":429,"body":"","retry_after":1}"#,
    r#"{"phase":"request","action":"refuse","operation":"append","status":503,"body":"\"ERR_GENERAL_EXCEPTION_RETRY_REQUEST\""}"#,
    r#"{"phase":"answer","action":"refuse","operation":"append","status":500,"body":""}"#,
    r#"{"phase":"request","action":"drop","operation":"status"}"#,
    r#"{"phase":"answer","action":"cut","operation":"status"}"#,
    r#"{"phase":"request","action":"refuse","operation":"status","status":503,"body":""}"#,
    r#"{"phase":"request","action":"refuse","operation":"status","status":404,"body":"{\"code\":\"ERR_PIPE_DOES_NOT_EXIST_OR_NOT_AUTHORIZED\"}"}"#,
    r#"{"phase":"commit","action":"invalidate","code":"ERR_CHANNEL_MUST_BE_REOPENED_DUE_TO_ROW_SEQ_GAP"}"#,
    r#"{"phase":"commit","action":"invalidate","code":"ERR_CHANNEL_HAS_INVALID_CLIENT_SEQUENCER"}"#,
    r#"{"phase":"commit","action":"forget"}"#,
    r#"{"phase":"commit","action":"slow","delay_ms":500}"#,
    r#"{"phase":"answer","action":"slow","operation":"append","delay_ms":500}"#,
];

#[tokio::test(flavor = "multi_thread")]
async fn after_each_error_delivery_goes_on_right_behind_what_is_committed() {
    let (account, gateway) = (Account::new(), gateway());
    let running = gateway.deliver(SINK, &[STREAM], account.sink());
    let mut last = 0;
    for fault in FAULTS {
        // What is pending shows whether a channel was lost with something in it.
        let armed = account.arm(&serde_json::from_str(fault).expect("JSON"));
        gateway.append(STREAM, last + 1..=last + 25);
        last += 25;
        // Rows are there before the agent has asked for them, and would come again if the channel were forgotten then.
        until("all is confirmed", || confirmed(&gateway, "0", Numbering::Assigned).1).await;
        assert_eq!(account.happened(armed), 1, "{fault}");
        // What is committed and was not asked about yet comes again once the channel is forgotten.
        until("all is confirmed", || confirmed(&gateway, "0", Numbering::Assigned).1).await;
        account.holds(1..=last);
    }
    assert_eq!(gateway.dead_letters(), []);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_invalid_channel_swallows_comes_again() {
    let (account, gateway) = (Account::new(), gateway());
    account.set(&json!({ "swallow_when_invalid": true, "commit_delay_ms": 1_000 }));
    let running = gateway.deliver(SINK, &[STREAM], account.sink());
    gateway.append(STREAM, 1..=5);
    until("it is appended", || account.pending() == 1).await;
    account.ask("POST", "/channels/invalidate", &json!({ "code": "ERR_CHANNEL_MUST_BE_REOPENED" }));
    gateway.append(STREAM, 6..=30);
    account.until_rows(30).await;
    account.holds(1..=30);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_expire_are_replaced() {
    let (account, gateway) = (Account::new(), gateway());
    let running = gateway.deliver(SINK, &[STREAM], account.sink());
    for round in 0..3 {
        gateway.append(STREAM, round * 10 + 1..=round * 10 + 10);
        account.until_rows(usize::try_from(round * 10 + 10).expect("a count")).await;
        account.ask("POST", "/expire-tokens", &json!({}));
    }
    account.holds(1..=30);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_gone_for_a_while_is_waited_for() {
    let (account, gateway) = (Account::new(), gateway());
    let running = gateway.deliver(SINK, &[STREAM], account.sink());
    gateway.append(STREAM, 1..=5);
    account.until_rows(5).await;
    // Any that comes, until this is taken away.
    account.arm(&json!({ "phase": "request", "action": "drop", "probability": 1.0, "times": 20 }));
    gateway.append(STREAM, 6..=10);
    account.until_rows(10).await;
    account.holds(1..=10);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_missing_and_nothing_twice_under_random_faults_and_kills() {
    let seed = harness::size("FOREBAY_SEED", u64::from(std::process::id()));
    println!("FOREBAY_SEED={seed} repeats this");
    let rounds = harness::size("FOREBAY_SNOWPIPE_ROUNDS", 12);
    let mut random = Random::new(seed);
    let (account, mut gateway) = (Account::new(), gateway());
    let mut last = 0;
    let mut running = gateway.deliver(SINK, &[STREAM], account.sink());
    for _ in 0..rounds {
        for _ in 0..random.below(4) {
            let mut fault: Value =
                serde_json::from_str(FAULTS[random.below(FAULTS.len() as u64) as usize]).expect("JSON");
            if fault["action"] == "forget" {
                // That happens to what is idle, and not to what was committed and has not been asked about.
                continue;
            }
            fault["skip"] = json!(random.below(4));
            account.arm(&fault);
        }
        let seen = account.all_rows().len();
        let count = 1 + random.below(120);
        gateway.append(STREAM, last + 1..=last + count);
        last += count;
        outlast(&account, &running, || account.all_rows().len() > seen).await;
        if random.below(3) == 0 {
            running.kill().await;
            gateway = gateway.kill();
            running = gateway.deliver(SINK, &[STREAM], account.sink());
        }
    }
    outlast(&account, &running, || account.all_rows().len() as u64 >= last).await;
    account.holds(1..=last);
    assert!(happened(&account) > 0, "no fault happened");
    running.stop().await;
}

/// Waits until it holds: for as long after each fault as half a minute's pause takes, since some are taken for what only an
/// operator mends.
async fn outlast(account: &Account, running: &Running, mut holds: impl FnMut() -> bool) {
    let (mut faults, mut since) = (happened(account), Instant::now());
    while !holds() {
        let now = happened(account);
        if now > faults {
            (faults, since) = (now, Instant::now());
        }
        let (rows, lanes) = (account.all_rows().len(), running.progress.lanes());
        assert!(since.elapsed() < 3 * PATIENCE, "{rows} rows, and no more: {lanes:?}, {:?}", account.channels());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// How many faults have happened.
fn happened(account: &Account) -> u64 {
    let faults = account.ask("GET", "/faults", &Value::Null);
    faults.as_array().expect("a list").iter().map(|fault| fault["happened"].as_u64().expect("a count")).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_append_that_is_throttled_waits_as_long_as_it_is_asked_to() {
    let (account, gateway) = (Account::new(), gateway());
    account.set(&json!({ "max_appends_per_second": 4 }));
    gateway.append(STREAM, 1..=120);
    let mut settings = account.settings();
    settings.batch.max_events = 10;
    let running = gateway.deliver(SINK, &[STREAM], sink(settings, "gw-1"));
    account.until_rows(120).await;
    account.holds(1..=120);
    assert!(account.requests("append").iter().any(|request| request["status"] == 429), "none was one too many");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_is_left_alone_for_as_long_as_the_service_asks() {
    let (account, gateway) = (Account::new(), gateway());
    let refusal = json!({ "phase": "request", "action": "refuse", "operation": "append",
                          "code": "ERR_TOO_MANY_REQUESTS", "retry_after": 3600 });
    account.arm(&refusal);
    gateway.append(STREAM, 1..=5);
    let mut settings = account.settings();
    settings.batch.max_events = 1;
    let running = gateway.deliver(SINK, &[STREAM], sink(settings, "gw-1"));
    running.waiting_for(LANE, "ERR_TOO_MANY_REQUESTS").await;
    let channel = account.channel().channel_name;
    // Another channel meanwhile gets what takes longer than any pause that is the agent's own choice.
    gateway.append_to(STREAM, "1", (0..40).map(|number| number.to_string()));
    account.until_rows(40).await;
    assert_eq!(appends(&account, &channel), 1);
    running.kill().await;
}

fn appends(account: &Account, channel: &str) -> usize {
    let is_of_channel = |request: &Value| request["path"].as_str().is_some_and(|path| path.contains(channel));
    account.requests("append").into_iter().filter(is_of_channel).count()
}

/// It takes what comes, and says then that it must be opened again.
#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_goes_bad_again_and_again_is_left_alone_for_a_while() {
    let (account, gateway) = (Account::new(), gateway());
    let mut settings = account.settings();
    settings.batch.max_events = 1;
    let running = gateway.deliver(SINK, &[STREAM], sink(settings, "gw-1"));
    gateway.append(STREAM, 1..=1);
    until("all is confirmed", || confirmed(&gateway, "0", Numbering::Assigned).1).await;
    let channel = account.channel().channel_name;
    let bad = json!({ "phase": "commit", "action": "invalidate", "code": "ERR_CHANNEL_MUST_BE_REOPENED",
                      "channel": channel, "times": 1_000 });
    account.arm(&bad);
    gateway.append(STREAM, 2..=2);
    running.waiting_for(LANE, "ERR_CHANNEL_MUST_BE_REOPENED").await;
    // Another channel meanwhile gets what takes longer than any pause that grows.
    gateway.append_to(STREAM, "1", (0..40).map(|number| number.to_string()));
    account.until_rows(41).await;
    assert_eq!(appends(&account, &channel), 1 + 2);
    running.waiting_for(LANE, "ERR_CHANNEL_MUST_BE_REOPENED").await;
    running.kill().await;
}

/// Each event went by itself meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn requests_grow_again_once_something_is_committed() {
    let (account, gateway) = (Account::new(), gateway());
    let too_large = json!({ "phase": "request", "action": "refuse", "operation": "append", "status": 413, "body": "{}",
                            "times": 2 });
    account.arm(&too_large);
    gateway.append(STREAM, 1..=15);
    let running = gateway.deliver(SINK, &[STREAM], account.sink());
    until("all is confirmed", || confirmed(&gateway, "0", Numbering::Assigned).1).await;
    let channel = account.channel().channel_name;
    assert_eq!(appends(&account, &channel), 2 + 15);
    gateway.append(STREAM, 16..=30);
    account.until_rows(30).await;
    assert_eq!(appends(&account, &channel), 2 + 15 + 1);
    account.holds(1..=30);
    running.stop().await;
}

/// No event is too large that is as small as can be: something on the way answers so to all.
#[tokio::test(flavor = "multi_thread")]
async fn a_small_event_is_never_found_too_large() {
    let (account, gateway) = (Account::new(), gateway());
    let too_large = json!({ "phase": "request", "action": "refuse", "operation": "append", "status": 413, "body": "{}",
                            "times": 3 });
    account.arm(&too_large);
    gateway.append(STREAM, 1..=3);
    let running = gateway.deliver(SINK, &[STREAM], account.sink());
    running.waiting_for(LANE, "such as a proxy").await;
    assert_eq!(gateway.dead_letters(), []);
    account.until_rows(3).await;
    account.holds(1..=3);
    running.stop().await;
}

/// What only an operator mends is tried again every half minute: the pipe is made, or the token is let in.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_operator_has_mended_is_found_without_a_restart() {
    let missing = async {
        let (account, gateway) = (Account::new(), gateway());
        let settings = Settings { pipe: Identifier::new("later").expect("a name"), ..account.settings() };
        let create = create_pipe(&settings).expect("it has a statement of its own");
        gateway.append(STREAM, 1..=5);
        let running = gateway.deliver(SINK, &[STREAM], sink(settings, "gw-1"));
        running.waiting_for(LANE, "ERR_PIPE_DOES_NOT_EXIST_OR_NOT_AUTHORIZED").await;
        account.sql(&create);
        account.until_rows(5).await;
        account.holds(1..=5);
        running.stop().await;
    };
    let refused = async {
        let (account, gateway) = (Account::new(), gateway());
        let mut settings = account.settings();
        settings.connection.credential = Credential::AccessToken(SecretSource::Inline(Secret::new("not-yet")));
        gateway.append(STREAM, 1..=5);
        let running = gateway.deliver(SINK, &[STREAM], sink(settings, "gw-1"));
        running.waiting_for(LANE, "401").await;
        account.make_user("FOREBAY", &json!({ "pats": ["not-yet"] }));
        account.until_rows(5).await;
        account.holds(1..=5);
        running.stop().await;
    };
    tokio::join!(missing, refused);
}
