//! Where to resume: every row of the table in the design's section 4, with a real buffer and the real delivery loop,
//! into a database and a token service. Each test quotes its row.

use forebay_buffer::{Checkpoint, Generation, Offset, Start, Tag};
use forebay_tests::sinks::{Database, Gateway, Row, TokenService, bodies};

const LANE: &str = "s/0";

/// A gateway with stream `s` and sink `d`.
fn gateway() -> Gateway {
    let gateway = Gateway::default();
    gateway.stream("s");
    gateway.sink("d", &["s"]);
    gateway
}

/// Delivers until the database has `rows`.
async fn deliver_until(gateway: &Gateway, database: &Database, rows: usize) {
    let running = gateway.deliver("d", &["s"], database.sink(3));
    database.until_rows(rows).await;
    running.stop().await;
}

#[track_caller]
fn holds(rows: &[Row], numbers: impl IntoIterator<Item = u64>) {
    let found = bodies(rows).remove(&("s".to_owned(), "0".to_owned())).unwrap_or_default();
    assert_eq!(found, numbers.into_iter().map(|number| number.to_string()).collect::<Vec<_>>());
}

#[track_caller]
fn says(message: &str, words: &[&str]) {
    for word in words {
        assert!(message.contains(word), "no {word:?} in: {message}");
    }
}

/// "any | same generation, tag known here | resume after its offset";
/// "checkpoint behind the destination's | same generation, tag known | the destination is right"
#[tokio::test]
async fn a_gateway_that_was_killed_goes_on_after_what_the_destination_has() {
    let (mut gateway, database) = (gateway(), Database::default());
    for round in 0..4 {
        gateway.append("s", round * 5 + 1..=round * 5 + 5);
        // Killed at once: the local checkpoint is still where it was before.
        let running = gateway.deliver("d", &["s"], database.sink(3));
        database.until_rows((round as usize + 1) * 5).await;
        let image = gateway.image();
        running.kill().await;
        gateway = Gateway::from_image(&image);
    }
    deliver_until(&gateway, &database, 20).await;
    holds(&database.rows(), 1..=20);
}

/// "checkpoint ahead of the destination's | same generation, tag known | the destination lost commits (failover,
/// point-in-time restore): resume after its offset if all that follows is still here"
#[tokio::test]
async fn commits_that_a_failover_lost_are_delivered_again() {
    let (gateway, database) = (gateway(), Database::default());
    // Another sink, which takes nothing, keeps the events in the buffer.
    gateway.sink("slow", &["s"]);
    gateway.append("s", 1..=4);
    deliver_until(&gateway, &database, 4).await;
    let before = database.snapshot();
    gateway.append("s", 5..=9);
    deliver_until(&gateway, &database, 9).await;
    database.restore(before);
    deliver_until(&gateway, &database, 9).await;
    holds(&database.rows(), 1..=9);
}

/// "... else stop, and name the missing range"
#[tokio::test]
async fn commits_that_a_failover_lost_and_that_are_gone_here_stop_the_lane() {
    let (gateway, database) = (gateway(), Database::default());
    gateway.append("s", 1..=4);
    deliver_until(&gateway, &database, 4).await;
    let before = database.snapshot();
    gateway.append("s", 5..=9);
    deliver_until(&gateway, &database, 9).await;
    // Closing writes the checkpoint, and lets go of what is delivered.
    let gateway = gateway.reopen();
    gateway.append("s", 10..=10);
    database.restore(before);
    let running = gateway.deliver("d", &["s"], database.sink(3));
    says(&running.stopped(LANE).await, &["has gone back to 1.3", "after 1.3 through 1.8", "forebay buffer adopt"]);
    running.stop().await;
    holds(&database.rows(), 1..=4);

    // The operator decides to go on with what is here.
    gateway.buffer.adopt().expect("nothing is delivered just now");
    deliver_until(&gateway, &database, 5).await;
    holds(&database.rows(), [1, 2, 3, 4, 10]);
}

/// "never delivered to it | another generation | nothing of this file was delivered: start at its beginning, and replace
/// the row by compare-and-set"
#[tokio::test]
async fn a_new_buffer_replaces_the_checkpoint_of_the_one_before() {
    let (gateway, database) = (gateway(), Database::default());
    gateway.append("s", 1..=5);
    let other = Checkpoint { generation: Generation(77), tag: Tag(7), offset: Offset::assigned(3, 1000) };
    database.set_checkpoint("s", "0", Some(other));
    deliver_until(&gateway, &database, 5).await;
    holds(&database.rows(), 1..=5);
    let checkpoint = database.checkpoint("s", "0").expect("it was replaced");
    assert_eq!(checkpoint.generation, gateway.buffer.generation());
}

/// "has delivered to it | another generation | another gateway with the same id took over: stop"
#[tokio::test]
async fn the_gateway_that_was_taken_over_stops() {
    let (first, second, database) = (gateway(), gateway(), Database::default());
    first.append("s", 1..=3);
    deliver_until(&first, &database, 3).await;
    second.append("s", 11..=13);
    deliver_until(&second, &database, 6).await;
    first.append("s", 4..=4);
    let running = first.deliver("d", &["s"], database.sink(3));
    says(&running.stopped(LANE).await, &["another gateway with the same id took over"]);
    running.stop().await;
    holds(&database.rows(), [1, 2, 3, 11, 12, 13]);
}

/// "same generation | a tag unknown here | the file was restored from a backup (...): stop with "forked or restored", and
/// what to do: `forebay buffer adopt`"
#[tokio::test]
async fn a_restored_backup_stops_until_it_is_adopted() {
    let (gateway, database) = (gateway(), Database::default());
    gateway.append("s", 1..=3);
    deliver_until(&gateway, &database, 3).await;
    let gateway = gateway.reopen();
    let backup = gateway.image();
    // A later opening delivers more.
    let gateway = gateway.kill();
    gateway.append("s", 4..=6);
    deliver_until(&gateway, &database, 6).await;
    drop(gateway);

    let restored = Gateway::from_image(&backup);
    restored.append("s", 7..=8);
    let running = restored.deliver("d", &["s"], database.sink(3));
    says(&running.stopped(LANE).await, &["forked or restored", "forebay buffer adopt", "discard"]);
    running.stop().await;
    holds(&database.rows(), 1..=6);

    restored.buffer.adopt().expect("nothing is delivered just now");
    deliver_until(&restored, &database, 8).await;
    holds(&database.rows(), 1..=8);
    let checkpoint = database.checkpoint("s", "0").expect("it was replaced");
    assert_eq!(checkpoint.generation, restored.buffer.generation());
    // And it goes on like any other after that.
    let restored = restored.kill();
    restored.append("s", 9..=9);
    deliver_until(&restored, &database, 9).await;
    holds(&database.rows(), 1..=9);
}

/// The same row, for a backup whose every delivered event is known here: there is nothing to stop for.
#[tokio::test]
async fn a_backup_of_which_nothing_was_delivered_since_goes_on() {
    let (gateway, database) = (gateway(), Database::default());
    gateway.append("s", 1..=3);
    deliver_until(&gateway, &database, 3).await;
    let restored = Gateway::from_image(&gateway.image());
    drop(gateway);
    restored.append("s", 4..=6);
    deliver_until(&restored, &database, 6).await;
    holds(&database.rows(), 1..=6);
}

/// "has delivered | has nothing (channel expired after 30 idle days, ...) | Snowpipe: the local checkpoint is right"
#[tokio::test]
async fn a_channel_that_expired_is_filled_on_from_the_local_checkpoint() {
    let (gateway, service) = (gateway(), TokenService::default());
    gateway.append("s", 1..=5);
    let running = gateway.deliver("d", &["s"], service.sink(2, 1 << 16));
    service.until_rows(5).await;
    running.stop().await;
    let gateway = gateway.reopen();
    service.expire("s", "0");
    gateway.append("s", 6..=8);
    let running = gateway.deliver("d", &["s"], service.sink(2, 1 << 16));
    service.until_rows(8).await;
    running.stop().await;
    holds(&service.rows(), 1..=8);
}

/// "has delivered | has nothing (..., row deleted) | Postgres: stop, for someone deleted it"
#[tokio::test]
async fn a_deleted_checkpoint_stops_the_lane() {
    let (gateway, database) = (gateway(), Database::default());
    gateway.append("s", 1..=5);
    deliver_until(&gateway, &database, 5).await;
    database.set_checkpoint("s", "0", None);
    gateway.append("s", 6..=8);
    let running = gateway.deliver("d", &["s"], database.sink(3));
    says(&running.stopped(LANE).await, &["1.4", "someone deleted it"]);
    running.stop().await;
    holds(&database.rows(), 1..=5);
}

/// "shared offsets (Event Hubs) | an offset, whatever its generation | resume there, within the same creation time of the
/// hub"
#[tokio::test]
async fn a_shared_offset_is_taken_from_whoever_wrote_it() {
    let (gateway, database) = (gateway(), Database::default());
    gateway.append_shared("s", 9, 1..=20);
    let other = Checkpoint { generation: Generation(77), tag: Tag(9), offset: Offset(12) };
    database.set_checkpoint("s", "0", Some(other));
    deliver_until(&gateway, &database, 8).await;
    holds(&database.rows(), 13..=20);
    // Another owner goes further than this file has read; what it reads of that later is delivered already.
    database.set_checkpoint("s", "0", Some(Checkpoint { offset: Offset(25), ..other }));
    let gateway = gateway.kill();
    gateway.append_shared("s", 9, 21..=30);
    deliver_until(&gateway, &database, 13).await;
    holds(&database.rows(), (13..=20).chain(26..=30));
}

/// "... a recreated hub, whose numbers start again, is a question for `on_invalid_offset`": the source asks it, before it takes
/// anything of that hub in. What is of a hub that is no more stops.
#[tokio::test]
async fn a_hub_that_was_created_anew_begins_anew_and_one_that_is_no_more_stops() {
    let (gateway, database) = (gateway(), Database::default());
    gateway.append_shared("s", 9, 1..=20);
    let of = |created| Checkpoint { generation: Generation(77), tag: Tag(created), offset: Offset(12) };
    database.set_checkpoint("s", "0", Some(of(10)));
    let running = gateway.deliver("d", &["s"], database.sink(3));
    says(&running.stopped(LANE).await, &["later creation of the hub"]);
    running.stop().await;
    holds(&database.rows(), []);
    database.set_checkpoint("s", "0", Some(of(8)));
    let running = gateway.deliver("d", &["s"], database.sink(3));
    database.until_rows(20).await;
    running.stop().await;
}

/// "no checkpoint at all | nothing | `start = "oldest"` (default) or `"now"` for a sink added later"
#[tokio::test]
async fn a_sink_that_is_added_later_starts_where_it_says() {
    let (gateway, first) = (gateway(), Database::default());
    gateway.append("s", 1..=5);
    let (oldest, now) = (Database::default(), Database::default());
    gateway.sink_from("oldest", &["s"], Start::Oldest);
    gateway.sink_from("now", &["s"], Start::Now);
    // A kill before anything was delivered changes nothing.
    let gateway = gateway.kill();
    gateway.append("s", 6..=7);
    let running =
        [("d", &first), ("oldest", &oldest), ("now", &now)].map(|(name, to)| gateway.deliver(name, &["s"], to.sink(3)));
    first.until_rows(7).await;
    oldest.until_rows(7).await;
    now.until_rows(2).await;
    for running in running {
        running.stop().await;
    }
    holds(&first.rows(), 1..=7);
    holds(&oldest.rows(), 1..=7);
    holds(&now.rows(), 6..=7);
}

/// What no row allows: a checkpoint above everything that this opening has written.
#[tokio::test]
async fn a_checkpoint_ahead_of_everything_here_stops_the_lane_and_no_other() {
    let (gateway, database) = (gateway(), Database::default());
    gateway.append("s", 1..=5);
    deliver_until(&gateway, &database, 5).await;
    let held = database.checkpoint("s", "0").expect("five rows are there");
    let ahead = Checkpoint { offset: Offset(held.offset.0 + 100), ..held };
    database.set_checkpoint("s", "0", Some(ahead));
    gateway.append("s", 6..=8);
    gateway.append_to("s", "other", ["x".to_owned()]);
    let running = gateway.deliver("d", &["s"], database.sink(3));
    says(&running.stopped(LANE).await, &["1.104", "1.7"]);
    database.until_rows(6).await;
    running.stop().await;
    holds(&database.rows(), 1..=5);
}
