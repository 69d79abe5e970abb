//! Partitions of an event hub, which one agent takes over from another.

use std::sync::Arc;

use forebay::{
    contract::{HubId, Sink},
    progress::Condition,
    sink::snowpipe::{OnRowError, Settings, Shape},
};
use forebay_buffer::{Numbering, Offset, StreamLimits, WhenFull};
use forebay_tests::sinks::{Gateway, PATIENCE};
use serde_json::json;

use crate::rig::{Account, LANE, SINK, STREAM, confirmed, gateway, sink, until};

const CREATED: i64 = 1_700_000_000_000_000;
const NUMBERING: Numbering = Numbering::Shared { created: CREATED };

fn of_hub() -> Gateway {
    reading(true)
}

/// A gateway that reads the hub, and shares its partitions with others or not.
fn reading(is_shared: bool) -> Gateway {
    let hub = HubId {
        namespace: "ns.servicebus.windows.net".to_owned(),
        hub: "plant".to_owned(),
        consumer_group: "$Default".to_owned(),
        is_shared,
    };
    let mut gateway = gateway();
    gateway.hubs.insert(STREAM.to_owned(), Arc::new(hub));
    gateway
}

fn agent(account: &Account, id: &str) -> Arc<dyn Sink> {
    sink(account.settings(), id)
}

#[tokio::test(flavor = "multi_thread")]
async fn another_agent_goes_on_after_the_committed_token() {
    let account = Account::new();
    let (one, other) = (of_hub(), of_hub());
    one.append_shared(STREAM, CREATED, 1..=30);
    let running = one.deliver(SINK, &[STREAM], agent(&account, "gw-1"));
    account.until_rows(30).await;
    running.stop().await;
    // It has read again what the control table did not know of yet.
    other.append_shared(STREAM, CREATED, 11..=50);
    let running = other.deliver(SINK, &[STREAM], agent(&account, "gw-2"));
    account.until_rows(50).await;
    running.stop().await;
    account.holds(1..=50);
    assert_eq!(account.channels().len(), 1, "both agree upon its name");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_whose_channel_was_taken_waits_until_it_is_the_owner_again() {
    let account = Account::new();
    let (one, other) = (of_hub(), of_hub());
    one.append_shared(STREAM, CREATED, 1..=10);
    let first = one.deliver(SINK, &[STREAM], agent(&account, "gw-1"));
    account.until_rows(10).await;
    other.append_shared(STREAM, CREATED, 6..=20);
    let second = other.deliver(SINK, &[STREAM], agent(&account, "gw-2"));
    account.until_rows(20).await;
    one.append_shared(STREAM, CREATED, 11..=30);
    let words = first.waiting(LANE).await;
    assert!(words.contains("STALE_CONTINUATION_TOKEN_SEQUENCER"), "{words}");
    // There is no fight: the other goes on.
    other.append_shared(STREAM, CREATED, 21..=25);
    account.until_rows(25).await;
    second.stop().await;
    let opened = account.channel().client_sequencer;
    // Its claim is renewed, and so it is the owner; twice, for the first time may have been asked for before.
    one.fences.affirm(STREAM, "0");
    one.fences.affirm(STREAM, "0");
    account.until_rows(30).await;
    account.holds(1..=30);
    assert_ne!(account.channel().client_sequencer, opened);
    first.stop().await;
}

/// Nobody would tell it that it is the owner: it is, for it reads the hub alone.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_shares_with_nobody_takes_its_channel_back_at_once() {
    let (account, one) = (Account::new(), reading(false));
    one.append_shared(STREAM, CREATED, 1..=10);
    let running = one.deliver(SINK, &[STREAM], agent(&account, "gw-1"));
    until("all is confirmed", || confirmed(&one, "0", NUMBERING).1).await;
    account.pipe().open(&account.channel().channel_name, false, None).await.expect("it opens");
    one.append_shared(STREAM, CREATED, 11..=20);
    account.until_rows(20).await;
    running.stop().await;
    account.holds(1..=20);
}

/// What is refused at the end moves no token: who knows of it goes on behind it, and who does not refuses it again.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_refused_at_the_end_sets_no_token_and_stops_nobody() {
    let account = Account::new();
    let (one, other) = (of_hub(), of_hub());
    let by_body = |id| sink(Settings { shape: Shape::Body, ..account.settings() }, id);
    let until_confirmed = async |gateway: &Gateway, sink| {
        let running = gateway.deliver(SINK, &[STREAM], sink);
        until("all is confirmed", || confirmed(gateway, "0", NUMBERING).1).await;
        running.stop().await;
    };
    one.append_shared(STREAM, CREATED, 1..=2);
    until_confirmed(&one, agent(&account, "gw-1")).await;
    // Numbers are no objects.
    one.append_shared(STREAM, CREATED, 3..=5);
    until_confirmed(&one, by_body("gw-1")).await;
    other.append_shared(STREAM, CREATED, 3..=6);
    until_confirmed(&other, by_body("gw-2")).await;
    assert_eq!((one.dead_letters().len(), other.dead_letters().len()), (3, 4));
    assert_eq!(account.committed().map(|offset| offset.0), Some(2));
    one.append_shared(STREAM, CREATED, 6..=7);
    until_confirmed(&one, agent(&account, "gw-1")).await;
    account.holds([1, 2, 6, 7]);
}

/// Who takes the partition over passes over what the control table says, and must find the channel there.
#[tokio::test(flavor = "multi_thread")]
async fn the_control_table_goes_no_further_than_the_token_where_the_end_was_refused() {
    let account = Account::new();
    let (mut one, mut other) = (of_hub(), of_hub());
    for gateway in [&mut one, &mut other] {
        gateway.control = Some(account.control());
    }
    let by_body = |id| sink(Settings { shape: Shape::Body, ..account.settings() }, id);
    let until_confirmed = async |gateway: &Gateway, sink| {
        let running = gateway.deliver(SINK, &[STREAM], sink);
        until("all is confirmed", || confirmed(gateway, "0", NUMBERING).1).await;
        running.stop().await;
    };
    one.append_shared(STREAM, CREATED, 1..=2);
    until_confirmed(&one, agent(&account, "gw-1")).await;
    // Numbers are no objects.
    one.append_shared(STREAM, CREATED, 3..=5);
    until_confirmed(&one, by_body("gw-1")).await;
    // It asks the channel once more, and knows that all is confirmed.
    one.deliver(SINK, &[STREAM], agent(&account, "gw-1")).stop().await;
    let said = account.waterlevel();
    assert_eq!((confirmed(&one, "0", NUMBERING), said), ((Some(Offset(5)), true), Some(2)));

    let partition = other.buffer.partition(STREAM, "0", NUMBERING).expect("it opens");
    partition.pass_over(Offset(2), None).expect("nothing is in flight");
    other.append_shared(STREAM, CREATED, 3..=5);
    until_confirmed(&other, by_body("gw-2")).await;
    assert_eq!(account.waterlevel(), Some(2));
    other.append_shared(STREAM, CREATED, 6..=7);
    until_confirmed(&other, agent(&account, "gw-2")).await;
    assert_eq!((other.dead_letters().len(), account.waterlevel()), (3, Some(7)));
    account.holds([1, 2, 6, 7]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_is_let_go_of_though_nothing_is_committed() {
    let (account, one) = (Account::new(), of_hub());
    account.set(&json!({ "hold_commits": true }));
    one.append_shared(STREAM, CREATED, 1..=10);
    let running = one.deliver(SINK, &[STREAM], agent(&account, "gw-1"));
    until("it is appended", || account.pending() > 0).await;
    tokio::time::timeout(2 * PATIENCE, one.fences.close(STREAM, "0")).await.expect("it is let go of");
    assert_eq!(confirmed(&one, "0", NUMBERING), (None, false));
    running.stop().await;
}

/// All claims of an agent wait for the partition that it gives away.
#[tokio::test(flavor = "multi_thread")]
async fn a_partition_is_let_go_of_though_an_append_is_not_answered() {
    let account = Account::new();
    let (one, other) = (of_hub(), of_hub());
    let slow =
        account.arm(&json!({ "phase": "request", "action": "slow", "operation": "append", "delay_ms": 100_000 }));
    one.append_shared(STREAM, CREATED, 1..=10);
    let running = one.deliver(SINK, &[STREAM], agent(&account, "gw-1"));
    until("it is on its way", || account.happened(slow) == 1).await;
    tokio::time::timeout(PATIENCE, one.fences.close(STREAM, "0")).await.expect("it is let go of");
    running.stop().await;
    other.append_shared(STREAM, CREATED, 1..=10);
    let running = other.deliver(SINK, &[STREAM], agent(&account, "gw-2"));
    account.until_rows(10).await;
    running.stop().await;
    account.holds(1..=10);
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_that_the_former_owner_did_not_see_stop_the_next_one() {
    let account = Account::new();
    let (one, other) = (of_hub(), of_hub());
    account.set(&json!({ "hold_commits": true }));
    one.append_shared(STREAM, CREATED, 1..=10);
    let running = one.deliver(SINK, &[STREAM], agent(&account, "gw-1"));
    until("it is appended", || account.pending() > 0).await;
    running.kill().await;
    account.arm(&json!({ "phase": "commit", "action": "reject", "rows": [0], "message": "is no number" }));
    account.set(&json!({ "hold_commits": false }));
    until("it is committed", || account.pending() == 0).await;
    other.append_shared(STREAM, CREATED, 1..=20);
    let running = other.deliver(SINK, &[STREAM], agent(&account, "gw-2"));
    let words = running.stopped(LANE).await;
    assert!(words.contains("is no number"), "{words}");
    running.stop().await;
}

/// Delivery begins before the source has read again what the former owner had sent.
#[tokio::test(flavor = "multi_thread")]
async fn errors_that_the_former_owner_did_not_see_wait_for_the_events_that_they_are_of() {
    let account = Account::new();
    let (one, other) = (of_hub(), of_hub());
    let forgiving = |id| sink(Settings { on_row_error: OnRowError::DeadLetter, ..account.settings() }, id);
    account.set(&json!({ "hold_commits": true }));
    one.append_shared(STREAM, CREATED, 1..=10);
    let running = one.deliver(SINK, &[STREAM], forgiving("gw-1"));
    until("it is appended", || account.pending() > 0).await;
    running.kill().await;
    account.arm(&json!({ "phase": "commit", "action": "reject", "rows": [0], "message": "is no number" }));
    account.set(&json!({ "hold_commits": false }));
    until("it is committed", || account.pending() == 0).await;
    other.buffer.partition(STREAM, "0", NUMBERING).expect("it opens");
    let running = other.deliver(SINK, &[STREAM], forgiving("gw-2"));
    running.until(LANE, |condition| (*condition != Condition::Starting).then(String::new)).await;
    other.append_shared(STREAM, CREATED, 1..=5);
    other.append_shared(STREAM, CREATED, 6..=20);
    until("all is confirmed", || confirmed(&other, "0", NUMBERING).1).await;
    running.stop().await;
    account.holds(2..=20);
    let letters: Vec<_> = other.dead_letters().into_iter().filter_map(|letter| letter.event.body).collect();
    assert_eq!(letters, (1..=10).map(|number| number.to_string().into_bytes()).collect::<Vec<_>>());
}

/// What it waits for makes room for the rest of it.
#[tokio::test(flavor = "multi_thread")]
async fn errors_that_the_former_owner_did_not_see_come_through_a_buffer_that_is_too_small_for_all_of_them() {
    let account = Account::new();
    let (one, other) = (of_hub(), of_hub());
    let forgiving = |id| sink(Settings { on_row_error: OnRowError::DeadLetter, ..account.settings() }, id);
    account.set(&json!({ "hold_commits": true }));
    one.append_shared(STREAM, CREATED, 1..=10);
    let running = one.deliver(SINK, &[STREAM], forgiving("gw-1"));
    until("it is appended", || account.pending() > 0).await;
    running.kill().await;
    account.arm(&json!({ "phase": "commit", "action": "reject", "rows": [0], "message": "is no number" }));
    account.set(&json!({ "hold_commits": false }));
    until("it is committed", || account.pending() == 0).await;
    // Two segments at a time.
    let limits = StreamLimits { max_bytes: 200, max_age: None, when_full: WhenFull::Backpressure };
    other.buffer.declare_stream(STREAM, limits).expect("the stream is declared");
    other.buffer.partition(STREAM, "0", NUMBERING).expect("it opens");
    let running = other.deliver(SINK, &[STREAM], forgiving("gw-2"));
    for offset in 1..=12 {
        until("there is room", || other.try_append_shared(STREAM, CREATED, offset..=offset)).await;
    }
    until("all is confirmed", || confirmed(&other, "0", NUMBERING).1).await;
    running.stop().await;
    account.holds(2..=12);
    let letters: Vec<_> = other.dead_letters().into_iter().filter_map(|letter| letter.event.body).collect();
    assert_eq!(letters, (1..=10).map(|number| number.to_string().into_bytes()).collect::<Vec<_>>());
}

/// It had dealt with them after its last append, so that no token says so.
#[tokio::test(flavor = "multi_thread")]
async fn errors_that_the_former_owner_has_dealt_with_do_not_stop_the_next_one() {
    let account = Account::new();
    let (one, other) = (of_hub(), of_hub());
    account.arm(&json!({ "phase": "commit", "action": "reject", "rows": [0], "message": "is no number" }));
    one.append_shared(STREAM, CREATED, 1..=10);
    let forgiving = Settings { on_row_error: OnRowError::DeadLetter, ..account.settings() };
    let running = one.deliver(SINK, &[STREAM], sink(forgiving, "gw-1"));
    until("all is confirmed", || confirmed(&one, "0", NUMBERING).1).await;
    running.stop().await;
    let partition = other.buffer.partition(STREAM, "0", NUMBERING).expect("it opens");
    partition.pass_over(Offset(10), None).expect("nothing is in flight");
    other.append_shared(STREAM, CREATED, 11..=12);
    let running = other.deliver(SINK, &[STREAM], agent(&account, "gw-2"));
    account.until_rows(11).await;
    running.stop().await;
    account.holds(2..=12);
}

/// What it has passed over does not come: the former owner had dealt with it.
#[tokio::test(flavor = "multi_thread")]
async fn an_owner_does_not_wait_for_what_it_has_passed_over() {
    let account = Account::new();
    let (one, other) = (of_hub(), of_hub());
    let forgiving = |id| sink(Settings { on_row_error: OnRowError::DeadLetter, ..account.settings() }, id);
    account.arm(&json!({ "phase": "commit", "action": "reject", "rows": [0], "message": "is no number" }));
    one.append_shared(STREAM, CREATED, 1..=10);
    let running = one.deliver(SINK, &[STREAM], forgiving("gw-1"));
    until("all is confirmed", || confirmed(&one, "0", NUMBERING).1).await;
    running.stop().await;
    let partition = other.buffer.partition(STREAM, "0", NUMBERING).expect("it opens");
    partition.pass_over(Offset(10), None).expect("nothing is in flight");
    let running = other.deliver(SINK, &[STREAM], forgiving("gw-2"));
    running.until(LANE, |condition| (*condition == Condition::Running).then(String::new)).await;
    other.append_shared(STREAM, CREATED, 11..=12);
    account.until_rows(11).await;
    running.stop().await;
    account.holds(2..=12);
    assert_eq!(other.dead_letters(), []);
}
