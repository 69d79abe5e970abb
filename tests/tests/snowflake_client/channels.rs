//! Channels, when nothing goes wrong that is not meant to.

use forebay::client::snowflake::Error;
use serde_json::json;

use crate::rig::{TABLE, account, client, committed, ids, packed, pipe, rows, status};

#[tokio::test]
async fn rows_are_committed_once_in_order_and_the_status_says_how_far() {
    let account = account();
    let pipe = pipe(&client(&account));
    let opened = pipe.open("gw/1 ä", true, None).await.expect("a channel");
    assert_eq!((opened.status.problem(), opened.status.committed), (None, None));
    let mut continuation = opened.continuation;
    for start in [1, 11, 21] {
        let (first, last) = (start.to_string(), (start + 9).to_string());
        let sent = pipe.append("gw/1 ä", &continuation, &first, &last, rows(start..start + 10)).await;
        continuation = sent.expect("an append");
    }
    let status = committed(&pipe, "gw/1 ä", "30").await;
    assert_eq!((status.problem(), status.rows_inserted, status.rows_error_count), (None, 30, Some(0)));
    assert_eq!(ids(&account), (1..=30).collect::<Vec<_>>());
    assert_eq!(account.rows(TABLE, 0)[0].channel, "gw/1 ä");
    let opened = pipe.open("gw/1 ä", true, None).await.expect("it is opened again");
    assert_eq!(opened.status.committed.as_deref(), Some("30"));
}

#[tokio::test]
async fn opening_again_discards_what_is_not_committed_and_ends_the_earlier_writer() {
    let account = account();
    account.set(&json!({ "hold_commits": true }));
    let pipe = pipe(&client(&account));
    let first = pipe.open("c", true, None).await.expect("a channel");
    let next = pipe.append("c", &first.continuation, "1", "1", rows([1])).await.expect("an append");
    let kept = pipe.open("c", true, None).await.expect_err("a row waits there");
    assert!(matches!(kept, Error::Uncommitted(_)), "{kept:?}");
    let second = pipe.open("c", false, None).await.expect("a channel");
    assert_eq!(second.status.committed, None);
    let stale = pipe.append("c", &next, "2", "2", rows([2])).await.expect_err("another has opened it");
    assert!(matches!(stale, Error::Superseded(_)), "{stale:?}");
    account.set(&json!({ "hold_commits": false }));
    pipe.append("c", &second.continuation, "3", "3", rows([3])).await.expect("an append");
    committed(&pipe, "c", "3").await;
    assert_eq!(ids(&account), [3]);
    let third = pipe.open("c", true, Some("9")).await.expect("a channel");
    assert_eq!(third.status.committed.as_deref(), Some("9"), "the token that is given takes its place");
}

#[tokio::test]
async fn rows_that_the_table_refuses_are_counted_with_the_reason() {
    let account = account();
    let pipe = pipe(&client(&account));
    let opened = pipe.open("c", true, None).await.expect("a channel");
    let mixed =
        packed("{\"ID\":1,\"BODY\":\"b\"}\n{\"ID\":\"x\"}\n{\"ID\":2,\"BODY\":\"far too long for it\"}\n{\"ID\":3}\n");
    pipe.append("c", &opened.continuation, "1", "4", mixed).await.expect("it is taken all the same");
    let status = committed(&pipe, "c", "4").await;
    assert_eq!((status.rows_inserted, status.rows_parsed, status.rows_error_count), (2, 4, Some(2)));
    assert_eq!(status.last_error_offset_upper_bound.as_deref(), Some("4"));
    assert!(status.last_error_message.is_some_and(|message| !message.is_empty()));
    assert_eq!(ids(&account), [1, 3]);
}

#[tokio::test]
async fn a_body_above_the_limit_is_too_large() {
    let account = account();
    let pipe = pipe(&client(&account));
    let opened = pipe.open("c", true, None).await.expect("a channel");
    let large = vec![0; (4 << 20) + 1].into();
    let error = pipe.append("c", &opened.continuation, "1", "1", large).await.expect_err("it is too large");
    assert!(matches!(error, Error::TooLarge(_)), "{error:?}");
    pipe.append("c", &opened.continuation, "1", "1", rows([1])).await.expect("the connection and the channel are well");
}

#[tokio::test]
async fn a_channel_that_the_service_has_forgotten_is_absent_and_is_made_anew() {
    let account = account();
    let pipe = pipe(&client(&account));
    let opened = pipe.open("c", true, None).await.expect("a channel");
    let next = pipe.append("c", &opened.continuation, "1", "1", rows([1])).await.expect("an append");
    let before = committed(&pipe, "c", "1").await;
    account.ask("POST", "/channels/forget", &json!({ "channel": "c" }));
    assert!(pipe.statuses(&["c"]).await.expect("statuses").is_empty());
    let gone = pipe.append("c", &next, "2", "2", rows([2])).await.expect_err("it is gone");
    assert!(matches!(gone, Error::Reopen(_)), "{gone:?}");
    let opened = pipe.open("c", true, None).await.expect("a channel");
    assert_eq!(opened.status.committed, None);
    assert!(opened.status.created_on_ms >= before.created_on_ms);
}

#[tokio::test]
async fn statuses_of_more_channels_than_are_told_at_once_come_in_parts() {
    let account = account();
    account.set(&json!({ "max_status_channels": 3 }));
    let pipe = pipe(&client(&account));
    let names: Vec<_> = (0..8).map(|number| format!("c{number}")).collect();
    for name in &names {
        pipe.open(name, true, None).await.expect("a channel");
    }
    let asked: Vec<_> = names.iter().map(String::as_str).chain(["unknown"]).collect();
    let statuses = pipe.statuses(&asked).await.expect("statuses");
    let mut found: Vec<_> = statuses.into_keys().collect();
    found.sort();
    assert_eq!(found, names);
}

#[tokio::test]
async fn a_channel_in_trouble_says_so_and_is_well_when_it_is_opened_again() {
    let account = account();
    let pipe = pipe(&client(&account));
    let mut opened = pipe.open("c", true, None).await.expect("a channel");
    for code in ["ERR_CHANNEL_MUST_BE_REOPENED", "ERR_CHANNEL_HAS_INVALID_ROW_SEQUENCER"] {
        account.ask("POST", "/channels/invalidate", &json!({ "channel": "c", "code": code }));
        let status = status(&pipe, "c", |status| status.code != "SUCCESS").await;
        assert!(matches!(status.problem(), Some(Error::Reopen(_))), "{status:?}");
        let error = pipe.append("c", &opened.continuation, "1", "1", rows([1])).await.expect_err("it is in trouble");
        assert!(matches!(error, Error::Reopen(_)), "{error:?}");
        opened = pipe.open("c", true, None).await.expect("a channel");
        assert_eq!(opened.status.problem(), None);
    }
}
