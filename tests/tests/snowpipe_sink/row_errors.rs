//! Rows that the service leaves out: it commits the others, and says how many.

use std::{collections::BTreeSet, path::Path, sync::Arc};

use forebay::{
    agent::{
        perform,
        socket::{Answer, Request},
    },
    config::Config,
    contract::{POSSIBLY_DELIVERED, Sink},
    sink::snowpipe::{OnRowError, Settings},
};
use forebay_buffer::{Numbering, Offset};
use forebay_tests::sinks::Gateway;
use serde_json::json;

use crate::rig::{Account, LANE, SINK, STREAM, batch, confirmed, gateway, opened, sink, until};

fn forgiving(account: &Account) -> Arc<dyn Sink> {
    sink(Settings { on_row_error: OnRowError::DeadLetter, ..account.settings() }, "gw-1")
}

/// The bodies of the dead letters, all of them marked.
fn letters(gateway: &Gateway) -> Vec<u64> {
    let letters = gateway.dead_letters();
    assert!(letters.iter().all(|letter| letter.code == POSSIBLY_DELIVERED && letter.reason.contains("is no number")));
    let body = |body: &[u8]| std::str::from_utf8(body).expect("text").parse().expect("a number");
    letters.iter().map(|letter| body(letter.event.body.as_deref().expect("a body"))).collect()
}

fn reject(account: &Account, skip: u64) -> u64 {
    account.arm(&json!({ "phase": "commit", "action": "reject", "rows": [3], "message": "is no number", "skip": skip }))
}

/// What is not said is not known to be another count, nor is it one of earlier.
#[tokio::test(flavor = "multi_thread")]
async fn a_status_that_does_not_count_the_rows_that_were_left_out_moves_the_checkpoint_all_the_same() {
    let (account, gateway) = (Account::new(), gateway());
    gateway.append(STREAM, 1..=10);
    reject(&account, 0);
    let running = gateway.deliver(SINK, &[STREAM], forgiving(&account));
    until("all is confirmed", || confirmed(&gateway, "0", Numbering::Assigned).1).await;
    account.set(&json!({ "counts_errors_in_bulk": false }));
    gateway.append(STREAM, 11..=20);
    until("all is confirmed", || confirmed(&gateway, "0", Numbering::Assigned).1).await;
    running.stop().await;
    each_is_somewhere(&account, &gateway, 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_is_left_out_stops_the_partition_and_a_restart_does_not_help() {
    let (account, gateway) = (Account::new(), gateway());
    gateway.append(STREAM, 1..=60);
    let rejected = reject(&account, 1);
    let running = gateway.deliver(SINK, &[STREAM], account.sink());
    let words = running.stopped(LANE).await;
    assert!(words.contains("is no number") && words.contains("on_row_error = \"dead-letter\""), "{words}");
    running.stop().await;
    assert_eq!(account.happened(rejected), 1);
    let (before, _) = confirmed(&gateway, "0", Numbering::Assigned);
    assert!(before < account.committed(), "nothing of what may be missing is confirmed");
    let gateway = gateway.reopen();
    let running = gateway.deliver(SINK, &[STREAM], account.sink());
    running.stopped(LANE).await;
    running.stop().await;
    assert_eq!((confirmed(&gateway, "0", Numbering::Assigned).0, gateway.dead_letters()), (before, Vec::new()));
    // What it says helps.
    let running = gateway.deliver(SINK, &[STREAM], forgiving(&account));
    until("all is confirmed", || confirmed(&gateway, "0", Numbering::Assigned).1).await;
    running.stop().await;
    each_is_somewhere(&account, &gateway, 60);
    assert!(letters(&gateway).contains(&24), "the fourth of the second request is among them");
    // It is dealt with: nothing stops the next start.
    let gateway = gateway.reopen();
    gateway.append(STREAM, 61..=70);
    let running = gateway.deliver(SINK, &[STREAM], account.sink());
    until("all is confirmed", || confirmed(&gateway, "0", Numbering::Assigned).1).await;
    running.stop().await;
    each_is_somewhere(&account, &gateway, 70);
}

/// Each number is a row once or a dead letter once, or both: then it may have been delivered, and is marked so.
#[track_caller]
fn each_is_somewhere(account: &Account, gateway: &Gateway, last: u64) {
    let rows: Vec<u64> = account.bodies()["0"].iter().map(|body| body.parse().expect("a number")).collect();
    let letters = letters(gateway);
    let unique = |numbers: &[u64]| numbers.iter().collect::<BTreeSet<_>>().len() == numbers.len();
    assert!(unique(&rows) && unique(&letters), "{rows:?} {letters:?}");
    assert!(rows.is_sorted(), "{rows:?}");
    let missing: Vec<_> = (1..=last).filter(|number| !rows.contains(number) && !letters.contains(number)).collect();
    assert_eq!(missing, Vec::<u64>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_events_of_the_append_become_dead_letters_and_delivery_goes_on() {
    let (account, gateway) = (Account::new(), gateway());
    for skip in [1, 3] {
        reject(&account, skip);
    }
    gateway.append(STREAM, 1..=200);
    let running = gateway.deliver(SINK, &[STREAM], forgiving(&account));
    until("all is confirmed", || confirmed(&gateway, "0", Numbering::Assigned).1).await;
    running.stop().await;
    let sinks = gateway.buffer.status().expect("it can be asked").sinks;
    assert_eq!(sinks.iter().map(|sink| sink.pending_events).sum::<u64>(), 0, "reading again counts nothing twice");
    each_is_somewhere(&account, &gateway, 200);
    let letters = letters(&gateway);
    let in_both =
        account.bodies()["0"].iter().filter(|body| letters.contains(&body.parse().expect("a number"))).count();
    assert!(!letters.is_empty() && in_both < letters.len(), "{letters:?}");
    assert!(letters.len() <= 120, "what is known to be good is not among them: {letters:?}");
    // They may be there already: sent again they are only if that is meant.
    let ids: Vec<_> = gateway.dead_letters().iter().map(|letter| letter.id).collect();
    let config = Config::demo(Path::new("/nowhere"));
    let retry = |force| perform(&gateway.buffer, &config, Request::RetryDeadLetters { ids: ids.clone(), force });
    let answer = retry(false).expect("it can be asked");
    assert!(matches!(&answer, Answer::Failed { message, .. } if message.contains("--force")), "{answer:?}");
    assert_eq!(gateway.dead_letters().len(), ids.len());
    retry(true).expect("it is done");
    let running = gateway.deliver(SINK, &[STREAM], forgiving(&account));
    account.until_rows(200 - 2 + ids.len()).await;
    running.stop().await;
}

/// It happens when nobody looks: the count tells it at the next start.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_were_left_out_while_the_agent_was_dead_are_found() {
    let (account, gateway) = (Account::new(), gateway());
    gateway.append(STREAM, 1..=20);
    let running = gateway.deliver(SINK, &[STREAM], account.sink());
    until("all is confirmed", || confirmed(&gateway, "0", Numbering::Assigned).1).await;
    account.set(&json!({ "hold_commits": true }));
    gateway.append(STREAM, 21..=40);
    until("it is appended", || account.pending() > 0).await;
    running.kill().await;
    let gateway = gateway.kill();
    reject(&account, 0);
    account.set(&json!({ "hold_commits": false }));
    until("it is committed", || account.pending() == 0).await;
    let running = gateway.deliver(SINK, &[STREAM], account.sink());
    let words = running.stopped(LANE).await;
    assert!(words.contains("is no number"), "{words}");
    running.stop().await;
    gateway.append(STREAM, 41..=45);
    let running = gateway.deliver(SINK, &[STREAM], forgiving(&account));
    until("all is confirmed", || confirmed(&gateway, "0", Numbering::Assigned).1).await;
    running.stop().await;
    each_is_somewhere(&account, &gateway, 45);
    assert!(letters(&gateway).iter().all(|number| (21..=40).contains(number)), "{:?}", letters(&gateway));
}

/// The new channel has errors of its own: that the former one's are dealt with says nothing about them.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_were_left_out_after_a_stream_was_renamed_are_found() {
    let (account, gateway) = (Account::new(), gateway());
    reject(&account, 0);
    gateway.append(STREAM, 1..=10);
    let running = gateway.deliver(SINK, &[STREAM], forgiving(&account));
    until("all is confirmed", || confirmed(&gateway, "0", Numbering::Assigned).1).await;
    running.stop().await;
    gateway.buffer.rename_stream(STREAM, "t").expect("it is renamed");
    gateway.stream("t");
    gateway.sink(SINK, &["t"]);
    account.set(&json!({ "hold_commits": true }));
    gateway.append("t", 11..=20);
    let deliver = |gateway: &Gateway| gateway.deliver_renamed(SINK, &["t"], account.sink(), &[("t", STREAM)]);
    let running = deliver(&gateway);
    until("it is appended", || account.pending() > 0).await;
    running.kill().await;
    let gateway = gateway.kill();
    reject(&account, 0);
    account.set(&json!({ "hold_commits": false }));
    until("it is committed", || account.pending() == 0).await;
    let errors: Vec<_> = account.channels().iter().map(|channel| channel.rows_error_count).collect();
    assert_eq!(errors, [1, 1], "as many as are dealt with in the former one");
    let running = deliver(&gateway);
    let words = running.stopped("t/0").await;
    assert!(words.contains("is no number"), "{words}");
    running.stop().await;
}

/// Nothing here could become a dead letter for them.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_left_out_of_a_lost_buffer_does_not_stop_the_next_one() {
    let (account, first) = (Account::new(), gateway());
    first.append(STREAM, 1..=5);
    reject(&account, 0);
    let running = first.deliver(SINK, &[STREAM], account.sink());
    running.stopped(LANE).await;
    running.stop().await;
    drop(first);
    let second = gateway();
    second.append(STREAM, 50..=55);
    let running = second.deliver(SINK, &[STREAM], account.sink());
    until("all is confirmed", || confirmed(&second, "0", Numbering::Assigned).1).await;
    running.stop().await;
    account.holds([1, 2, 3, 5].into_iter().chain(50..=55));
}

/// An agent that dies with refusals that are not recorded yet must find them again, whatever it has appended meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_says_that_errors_are_dealt_with_only_when_they_are_recorded() {
    let account = Account::new();
    account.arm(&json!({ "phase": "commit", "action": "reject", "rows": [0], "message": "is no number" }));
    let sink = forgiving(&account);
    let mut lane = opened(&*sink).await;
    let statuses = || account.requests("status").len();
    let committed = |end: &str| account.channel().last_committed_offset_token.is_some_and(|token| token.ends_with(end));
    lane.deliver(batch(1)).await.expect("it is appended");
    until("it is committed", || committed("/1/0")).await;
    // The answer to the first question after that may have been on its way before; that to the second has come once there is
    // a third.
    let before = statuses();
    until("it is seen", || statuses() > before + 2).await;
    let answer = lane.deliver(batch(2)).await.expect("it is appended");
    assert_eq!(answer.refusals.iter().map(|refusal| refusal.offset.0).collect::<Vec<_>>(), [1]);
    until("it is committed", || account.committed() == Some(Offset(2))).await;
    assert!(committed("/2/0"), "it was appended before delivery was told: {:?}", account.channel());
    lane.deliver(batch(3)).await.expect("it is appended");
    until("it is committed", || account.committed() == Some(Offset(3))).await;
    assert!(committed("/3/1"), "{:?}", account.channel());
}
