//! Where delivery goes on: after restarts, kills, lost and copied buffers, and channels that are others.

use forebay::sink::snowpipe::{Settings, Shape};
use forebay_buffer::Numbering;
use forebay_tests::sinks::Gateway;
use serde_json::json;

use crate::rig::{Account, LANE, SINK, STREAM, confirmed, deliver_until, gateway, sink, until};

#[tokio::test(flavor = "multi_thread")]
async fn after_a_stop_nothing_comes_twice() {
    let (account, gateway) = (Account::new(), gateway());
    gateway.append(STREAM, 1..=30);
    deliver_until(&gateway, &account, 30).await;
    let gateway = gateway.reopen();
    gateway.append(STREAM, 31..=40);
    deliver_until(&gateway, &account, 40).await;
    account.holds(1..=40);
}

/// The rows wait to be committed when the agent dies: they are committed, or discarded and sent again.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_kill_what_was_not_committed_is_there_once() {
    for commits_late in [false, true] {
        let (account, gateway) = (Account::new(), gateway());
        gateway.append(STREAM, 1..=5);
        let running = gateway.deliver(SINK, &[STREAM], account.sink());
        until("all is confirmed", || confirmed(&gateway, "0", Numbering::Assigned).1).await;
        account.set(&json!({ "hold_commits": true }));
        gateway.append(STREAM, 6..=50);
        until("all is appended", || account.pending() == 3).await;
        running.kill().await;
        let gateway = gateway.kill();
        if commits_late {
            account.set(&json!({ "hold_commits": false }));
        }
        let running = gateway.deliver(SINK, &[STREAM], account.sink());
        if !commits_late {
            // It has waited for them for some time, and has opened the channel all the same.
            until("the channel is opened", || account.channel().client_sequencer >= 1).await;
            account.set(&json!({ "hold_commits": false }));
        }
        account.until_rows(50).await;
        until("all is confirmed", || confirmed(&gateway, "0", Numbering::Assigned).1).await;
        account.holds(1..=50);
        running.stop().await;
    }
}

/// The local checkpoint is written a moment after the service's.
#[tokio::test(flavor = "multi_thread")]
async fn a_local_checkpoint_that_lags_behind_is_put_right() {
    let (account, gateway) = (Account::new(), gateway());
    gateway.append(STREAM, 1..=10);
    let before = gateway.image();
    deliver_until(&gateway, &account, 10).await;
    let gateway = Gateway::from_image(&before);
    gateway.append(STREAM, 11..=12);
    deliver_until(&gateway, &account, 12).await;
    account.holds(1..=12);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_is_forgotten_goes_on_from_the_local_checkpoint() {
    let (account, gateway) = (Account::new(), gateway());
    gateway.append(STREAM, 1..=10);
    deliver_until(&gateway, &account, 10).await;
    account.ask("POST", "/channels/forget", &json!({}));
    let gateway = gateway.reopen();
    gateway.append(STREAM, 11..=20);
    deliver_until(&gateway, &account, 20).await;
    account.holds(1..=20);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_another_program_wrote_stops_the_partition() {
    let (account, gateway) = (Account::new(), gateway());
    gateway.append(STREAM, 1..=5);
    deliver_until(&gateway, &account, 5).await;
    let (pipe, channel) = (account.pipe(), account.channel().channel_name);
    pipe.open(&channel, false, Some("3_17")).await.expect("it opens");
    gateway.append(STREAM, 6..=9);
    let running = gateway.deliver(SINK, &[STREAM], account.sink());
    let words = running.stopped(LANE).await;
    assert!(words.contains("\"3_17\"") && words.contains(&channel) && words.contains("drop the channel"), "{words}");
    running.stop().await;
    account.holds(1..=5);
    // What it says helps.
    account.ask("POST", "/channels/forget", &json!({ "channel": channel }));
    let gateway = gateway.reopen();
    deliver_until(&gateway, &account, 9).await;
    account.holds(1..=9);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_buffer_that_was_lost_begins_with_what_is_in_the_new_one() {
    let (account, first) = (Account::new(), gateway());
    first.append(STREAM, 1..=10);
    deliver_until(&first, &account, 10).await;
    drop(first);
    let second = gateway();
    second.append(STREAM, 50..=55);
    // Its numbers are smaller than those of the token that is there, which says nothing about them.
    account.set(&json!({ "hold_commits": true }));
    let running = second.deliver(SINK, &[STREAM], account.sink());
    until("all is appended", || account.pending() == 1).await;
    second.append(STREAM, 56..=57);
    until("all is appended", || account.pending() == 2).await;
    assert_eq!(confirmed(&second, "0", Numbering::Assigned), (None, false));
    account.set(&json!({ "hold_commits": false }));
    account.until_rows(18).await;
    running.stop().await;
    account.holds((1..=10).chain(50..=57));
    let second = second.reopen();
    second.append(STREAM, 58..=59);
    deliver_until(&second, &account, 20).await;
    account.holds((1..=10).chain(50..=59));
}

/// What it has refused moves no token: that of the lost one is there still.
#[tokio::test(flavor = "multi_thread")]
async fn a_buffer_that_has_only_refused_events_since_another_was_lost_goes_on_behind_them() {
    let (account, first) = (Account::new(), gateway());
    first.append(STREAM, 1..=10);
    deliver_until(&first, &account, 10).await;
    drop(first);
    let second = gateway();
    second.append(STREAM, 50..=55);
    // Numbers are no objects.
    let by_body = sink(Settings { shape: Shape::Body, ..account.settings() }, "gw-1");
    let running = second.deliver(SINK, &[STREAM], by_body);
    until("all is confirmed", || confirmed(&second, "0", Numbering::Assigned).1).await;
    running.stop().await;
    let second = second.reopen();
    second.append(STREAM, 56..=57);
    deliver_until(&second, &account, 12).await;
    account.holds((1..=10).chain(56..=57));
}

/// What it had appended is nowhere else.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_lost_buffer_had_appended_is_committed_before_the_next_one_goes_on() {
    for is_first in [false, true] {
        let (account, first) = (Account::new(), gateway());
        if !is_first {
            first.append(STREAM, 1..=10);
            deliver_until(&first, &account, 10).await;
        }
        account.set(&json!({ "hold_commits": true }));
        first.append(STREAM, 11..=20);
        let running = first.deliver(SINK, &[STREAM], account.sink());
        until("it is appended", || account.pending() == 1).await;
        running.kill().await;
        drop(first);
        let second = gateway();
        second.append(STREAM, 50..=55);
        let running = second.deliver(SINK, &[STREAM], account.sink());
        running.waiting_for(LANE, "nowhere else").await;
        account.set(&json!({ "hold_commits": false }));
        let before = if is_first { 10 } else { 20 };
        account.until_rows(before + 6).await;
        running.stop().await;
        account.holds((if is_first { 11 } else { 1 }..=20).chain(50..=55));
    }
}

/// Nothing was ever committed there, or only what a lost buffer had sent: what waits is this one's all the same.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_buffer_itself_has_appended_is_discarded_and_sent_again() {
    for (is_first, is_killed) in [(true, false), (true, true), (false, true)] {
        let (account, first) = (Account::new(), gateway());
        if !is_first {
            first.append(STREAM, 1..=10);
            deliver_until(&first, &account, 10).await;
        }
        let mut gateway = gateway();
        account.set(&json!({ "hold_commits": true }));
        gateway.append(STREAM, 50..=55);
        let mut running = gateway.deliver(SINK, &[STREAM], account.sink());
        until("it is appended", || account.pending() == 1).await;
        let opened = account.channel().client_sequencer;
        if is_killed {
            running.kill().await;
            gateway = gateway.reopen();
            running = gateway.deliver(SINK, &[STREAM], account.sink());
        } else {
            account.ask("POST", "/channels/invalidate", &json!({ "keeps_pending": true }));
        }
        until("the channel is opened", || account.channel().client_sequencer > opened).await;
        account.set(&json!({ "hold_commits": false }));
        account.until_rows(if is_first { 6 } else { 16 }).await;
        running.stop().await;
        account.holds((1..=10).filter(|_| !is_first).chain(50..=55));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_clones_one_stops_and_nothing_is_there_twice() {
    let (account, original) = (Account::new(), gateway());
    original.append(STREAM, 1..=9);
    deliver_until(&original, &account, 9).await;
    let image = original.image();
    drop(original);
    let clones = [Gateway::from_image(&image), Gateway::from_image(&image)];
    clones[0].append(STREAM, 100..=109);
    let first = clones[0].deliver(SINK, &[STREAM], account.sink());
    account.until_rows(19).await;
    clones[1].append(STREAM, 200..=209);
    let second = clones[1].deliver(SINK, &[STREAM], account.sink());
    let words = second.stopped(LANE).await;
    assert!(words.contains("forked or restored"), "{words}");
    second.stop().await;
    clones[0].append(STREAM, 110..=119);
    account.until_rows(29).await;
    account.holds((1..=9).chain(100..=119));
    first.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_takes_the_channel_again_and_again_is_named() {
    let (account, gateway) = (Account::new(), gateway());
    account.set(&json!({ "hold_commits": true }));
    gateway.append(STREAM, 1..=400);
    let mut settings = account.settings();
    settings.batch.max_events = 1;
    let running = gateway.deliver(SINK, &[STREAM], sink(settings, "gw-1"));
    until("the channel is there", || !account.channels().is_empty()).await;
    let (pipe, channel) = (account.pipe(), account.channel().channel_name);
    let fight = async {
        loop {
            until("we write there", || account.pending() > 0).await;
            pipe.open(&channel, false, None).await.expect("it opens");
        }
    };
    let words = tokio::select! {
        words = running.waiting_for(LANE, "another writer") => words,
        () = fight => unreachable!("it goes on for ever"),
    };
    assert!(words.contains("gw-1"), "{words}");
    running.stop().await;
    assert_eq!(account.all_rows(), []);
}

/// A gateway whose stream is called `t` now, and which has delivered ten events before.
async fn renamed(account: &Account) -> Gateway {
    let gateway = gateway();
    gateway.append(STREAM, 1..=10);
    let before = gateway.image();
    deliver_until(&gateway, account, 10).await;
    drop(gateway);
    // The local checkpoint does not know of any of it.
    let gateway = Gateway::from_image(&before);
    gateway.buffer.rename_stream(STREAM, "t").expect("it is renamed");
    gateway.stream("t");
    gateway.sink(SINK, &["t"]);
    gateway
}

async fn deliver_renamed(gateway: &Gateway, account: &Account, rows: usize) {
    let running = gateway.deliver_renamed(SINK, &["t"], account.sink(), &[("t", STREAM)]);
    account.until_rows(rows).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renamed_stream_carries_on_what_its_former_channel_has() {
    let account = Account::new();
    let gateway = renamed(&account).await;
    gateway.append("t", 11..=12);
    deliver_renamed(&gateway, &account, 12).await;
    account.holds(1..=12);
    until("the former one is dropped", || account.channels().len() == 1).await;
    assert_eq!(account.channel().channel_name.split('_').nth(3), Some("T"));
}

/// The config still says what the stream was called before.
#[tokio::test(flavor = "multi_thread")]
async fn a_former_channel_that_was_carried_on_takes_nothing_back() {
    let account = Account::new();
    let gateway = renamed(&account).await;
    let former = account.channel().channel_name;
    account.arm(&json!({ "phase": "request", "action": "refuse", "operation": "drop", "status": 400, "body": "{}" }));
    gateway.append("t", 11..=12);
    deliver_renamed(&gateway, &account, 12).await;
    let others = account.channels().into_iter().filter(|channel| channel.channel_name != former);
    for channel in others {
        account.ask("POST", "/channels/forget", &json!({ "channel": channel.channel_name }));
    }
    gateway.append("t", 13..=15);
    deliver_renamed(&gateway, &account, 15).await;
    account.holds(1..=15);
}
